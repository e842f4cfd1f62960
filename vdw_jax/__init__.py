"""vdw_jax: inverse design of van der Waals heterostructures in JAX."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vdw_jax.designer import Design, Designer, Designs

__version__ = "0.1.0"
__all__ = ["Design", "Designer", "Designs", "__version__"]


def __getattr__(name: str) -> Any:
    """The Python interface, imported when it is first used: what only trains needs no crystal library."""
    if name in __all__:
        from vdw_jax import designer

        return getattr(designer, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
