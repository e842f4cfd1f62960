"""Entry point: see `python -m vdw_jax.evaluate --help`."""

from vdw_jax.evaluate.cli import main

if __name__ == "__main__":
    main()
