"""vdw_jax: inverse design of van der Waals heterostructures in JAX."""

__version__ = "0.1.0"
