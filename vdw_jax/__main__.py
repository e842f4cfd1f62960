"""`python -m vdw_jax`, the same as `vdw-jax`."""

from vdw_jax.cli import main

if __name__ == "__main__":
    main()
