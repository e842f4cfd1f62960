"""Spot check of the relaxed data set by density functional theory: GPAW, PBE, single points, with the same D3."""
