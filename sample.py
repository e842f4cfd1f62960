"""Designs crystals from targets: `python sample.py --target_formula=GaInSSe2 --num_samples=8`. See `--help`."""

from vdw_jax.commands.sample import main

if __name__ == "__main__":
    main()
