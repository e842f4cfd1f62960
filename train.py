"""Trains both stages: `python train.py --config=configs/j2dh8.py --workdir=runs/j2dh8`. See `--help`."""

from vdw_jax.commands.train import main

if __name__ == "__main__":
    main()
