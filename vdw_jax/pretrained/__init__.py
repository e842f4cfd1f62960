"""Weights that ship, each a folder with `weights.npz`, `model.json` and a README."""

from pathlib import Path

SHIPPED = Path(__file__).parent / "j2dh8"
"""The model that is used where no other is named."""
