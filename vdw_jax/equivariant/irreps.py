"""Spherical-harmonic coefficients: orders, Clebsch-Gordan algebra, Wigner matrices.

Basis and signs are e3nn's: real spherical harmonics with y as polar axis, so that l = 1 is (x, y, z) and
a rotation about y mixes only (m, -m). Node features are l-major, [..., (lmax+1)^2, C]; in the frame of an
edge they are m-major and cut at |m| <= mmax, because there the SO(2) products are plain matrix products.
"""

from __future__ import annotations

import dataclasses
import functools

import e3nn_jax
import jax
import jax.numpy as jnp
import numpy as np

from vdw_jax.safe_ops import safe_normalize

POLAR_AXIS = (0.0, 1.0, 0.0)


@dataclasses.dataclass(frozen=True)
class EdgeOrder:
    """The m-major order of the coefficients that live on an edge.

    First m = 0 for l = 0..lmax, then for each m = 1..mmax the block of +m for l = m..lmax and the block
    of -m for the same l.
    """

    lmax: int
    mmax: int

    @functools.cached_property
    def degrees_and_orders(self) -> list[tuple[int, int]]:
        """(l, m) of each coefficient."""
        order = [(degree, 0) for degree in range(self.lmax + 1)]
        for m in range(1, self.mmax + 1):
            for sign in (1, -1):
                order += [(degree, sign * m) for degree in range(m, self.lmax + 1)]
        return order

    @property
    def size(self) -> int:
        """Number of coefficients."""
        return len(self.degrees_and_orders)

    def block(self, m: int) -> slice:
        """Where the coefficients of order m >= 0 lie, +m and -m together."""
        start = 0 if m == 0 else self.lmax + 1 + sum(2 * self.num_degrees(k) for k in range(1, m))
        return slice(start, start + self.block_size(m))

    def block_size(self, m: int) -> int:
        """Number of coefficients of order m >= 0, +m and -m together."""
        return self.num_degrees(m) * (1 if m == 0 else 2)

    def split(self, features: jax.Array) -> list[jax.Array]:
        """The block of each |m| of m-major features [..., size, C]; joined again by a concatenation."""
        return jnp.split(features, [self.block(m).start for m in range(1, self.mmax + 1)], axis=-2)

    def num_degrees(self, m: int) -> int:
        """Number of degrees l that have an order m."""
        return self.lmax + 1 - m

    @functools.cached_property
    def l_major_index(self) -> np.ndarray:
        """Place of each coefficient in the l-major order; [size]."""
        return np.array([degree * degree + degree + m for degree, m in self.degrees_and_orders])


@functools.cache
def _coupling(degree: int) -> np.ndarray:
    """Clebsch-Gordan coefficients (1, l-1 -> l); [3, 2l-1, 2l+1]."""
    return np.asarray(e3nn_jax.clebsch_gordan(1, degree - 1, degree), np.float64)


def spherical_harmonics(directions: np.ndarray, lmax: int) -> np.ndarray:
    """Real spherical harmonics at unit vectors [P, 3], "component" normalised; [P, (lmax+1)^2], float64.

    The mean of Y_lm Y_l'm' over the sphere is the identity. Degree l is the coupling of degree 1 with
    degree l - 1, its sign fixed by Y_l0 > 0 at the pole.
    """
    pole = np.array([POLAR_AXIS])
    values, at_pole = np.ones((len(directions), 1)), np.ones((1, 1))
    result = [values]
    for degree in range(1, lmax + 1):
        values = np.einsum("pa,pb,abm->pm", directions, values, _coupling(degree))
        at_pole = np.einsum("pa,pb,abm->pm", pole, at_pole, _coupling(degree))
        scale = np.sqrt(2 * degree + 1) / at_pole[0, degree]
        values, at_pole = values * scale, at_pole * scale
        result.append(values)
    return np.concatenate(result, axis=1)


def rotation_to_pole(vectors: jax.Array) -> jax.Array:
    """Proper rotations R with R v / |v| = y, the same for the same v: no random roll about the edge.

    The third direction is completed from z, or from x for edges near z, so that no edge is singular; an
    edge of length 0 gets the frame of y. The roll about the edge is a gauge that no output depends on.

    Args:
      vectors: [..., 3].
    Returns:
      [..., 3, 3], rows are the frame's axes.
    """
    pole = safe_normalize(vectors, POLAR_AXIS)
    helper = jnp.where(jnp.abs(pole[..., 2:]) < 0.7, jnp.array([0.0, 0.0, 1.0]), jnp.array([1.0, 0.0, 0.0]))
    helper = helper.astype(vectors.dtype)
    first = helper - jnp.sum(helper * pole, -1, keepdims=True) * pole
    first = safe_normalize(first, (1.0, 0.0, 0.0))
    return jnp.stack([first, pole, jnp.cross(first, pole)], axis=-2)


def wigner_blocks(rotation: jax.Array, lmax: int, mmax: int | None = None) -> list[jax.Array]:
    """Wigner matrices D^l of rotations for l = 0..lmax; each [..., 2l+1, 2l+1], or its rows |m| <= mmax.

    D^1 is the rotation itself, and D^l = (2l+1) C^T (D^1 x D^(l-1)) C with the Clebsch-Gordan matrix C of
    (1, l-1 -> l): polynomials of the rotation's entries, with no angle and so no singular point. Improper
    rotations give the matrices of natural parity (-1)^l.
    """
    mmax = lmax if mmax is None else mmax
    blocks = [jnp.ones((*rotation.shape[:-2], 1, 1), rotation.dtype), rotation]
    for degree in range(2, lmax + 1):
        coupling = jnp.asarray(_coupling(degree), rotation.dtype)
        rows = coupling[..., _within(degree, mmax)] if degree == lmax else coupling  # the next needs all of them
        half = jnp.einsum("abm,...aA->...Abm", rows, rotation, precision="highest")
        half = jnp.einsum("...Abm,...bB->...ABm", half, blocks[-1], precision="highest")
        blocks.append((2 * degree + 1) * jnp.einsum("...ABm,ABn->...mn", half, coupling, precision="highest"))
    whole = len(blocks) if lmax < 2 else lmax  # the last has been made without the other rows
    blocks[:whole] = [block[..., _within(degree, mmax), :] for degree, block in enumerate(blocks[:whole])]
    return blocks[: lmax + 1]


def _within(degree: int, mmax: int) -> slice:
    """The rows |m| <= mmax of a matrix of a degree."""
    return slice(max(0, degree - mmax), degree + mmax + 1)


def apply_wigner(blocks: list[jax.Array], features: jax.Array) -> jax.Array:
    """D x of l-major features [..., (lmax+1)^2, C]."""
    parts = [
        jnp.einsum("...mn,...nc->...mc", block, features[..., d * d : (d + 1) ** 2, :], precision="highest")
        for d, block in enumerate(blocks)
    ]
    return jnp.concatenate(parts, axis=-2)


def degree_index(lmax: int) -> np.ndarray:
    """Degree l of each l-major coefficient; [(lmax+1)^2]."""
    return np.repeat(np.arange(lmax + 1), 2 * np.arange(lmax + 1) + 1)
