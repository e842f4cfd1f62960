"""Labels to what networks see, and back, for packages that know no networks."""

from vdw_jax.model.config import in_units, standardise

__all__ = ["in_units", "standardise"]
