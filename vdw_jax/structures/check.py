"""Another name of `vdw_jax.commands.check`, kept for scripts until 2.0."""

from vdw_jax.commands.check import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
