"""Bulk crystals from a CSV with CDVAE's columns.

`python train.py --config=configs/mp20.py --config.data.path=mp20.csv --workdir=runs/mp20`
"""

from configs import j2dh8


def get_config():
    """Three periods, up to 20 atoms, formation energy an atom as the condition."""
    config = j2dh8.get_config()
    config.data.update(
        dict(source="file", scalars=("formation_energy_per_atom",), max_atoms=20, periodicity="bulk")
    )
    # A bulk atom is surrounded by neighbours: the nearest see enough, and all pairs of 20 atoms are 63 slots.
    config.model.cdvae.graph = "nearest"
    for network in (config.model.encoder, config.model.denoiser):
        network.update(dict(num_basis=64, cutoff_angstrom=7.0))
    return config
