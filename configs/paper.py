"""The paper to the letter, where it says: `python train.py --config=configs/paper.py --workdir=runs/paper`.

Differs from it only by docs/decisions and its grids (benchmarks/NOTES.md). 1,000 epochs of 24 steps, then 500 of the
GAN.
"""

from configs.base import get_config

__all__ = ["get_config"]
