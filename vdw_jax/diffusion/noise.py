"""Noise on coordinates and species: schedules, corruption, targets, and the preconditioning of the network."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from vdw_jax import geometry
from vdw_jax.types import Periodicity

UNIFORM_FROM_SPACINGS = 0.8
"""From this noise on (in plane spacings) a wrapped Gaussian is uniform to 1e-5: 2 exp(-2 pi^2 0.8^2)."""


def geometric_levels(sigma_max: float, sigma_min: float, num_levels: int) -> np.ndarray:
    """Noise levels from `sigma_max` down to `sigma_min`, equally spaced in log; [num_levels]."""
    return np.geomspace(sigma_max, sigma_min, num_levels).astype(np.float32)


def karras_levels(sigma_max: float, sigma_min: float, num_levels: int, rho: float = 7.0) -> np.ndarray:
    """Noise levels equally spaced in sigma^(1/rho) (Karras et al., arXiv:2206.00364, Eq. 5); [num_levels].

    Closer together at small noise than in log; the geometric levels are the limit of large `rho`.
    """
    levels = np.linspace(sigma_max ** (1 / rho), sigma_min ** (1 / rho), num_levels) ** rho
    return levels.astype(np.float32)


def wrapped_displacement(
    noisy: jax.Array, clean: jax.Array, mask: jax.Array, cell: jax.Array, sigma: jax.Array, periodicity: Periodicity
) -> jax.Array:
    """sigma^2 times the score of the wrapped Gaussian around `clean`, at `noisy`; [B, N, 3], Angstrom.

    The posterior mean of (clean image - noisy) over the images of each atom: the minimum image where the noise is
    small against the cell, 0 along periods where it is large. Exact score of the noised data on the torus after
    averaging over the data, for two images each way and noise below 0.8 plane spacings; uniform above, where what is
    left is the wrapped Gaussian of the plane or line across the uniform periods. 0 on padding.
    """
    return _posterior(noisy, clean, cell, sigma, periodicity)[0] * mask[..., None]


def free_displacement(
    noisy: jax.Array, clean: jax.Array, mask: jax.Array, cell: jax.Array, sigma: jax.Array, periodicity: Periodicity
) -> jax.Array:
    """`wrapped_displacement` to a crystal that may lie anywhere along its periods, but for the mean over its atoms.

    The posterior mean over its places too, on a grid of translations. A network that moves with its input cannot know
    the place, so it is what such a network learns from either target; from this one with less noise.
    """
    places = _grid(periodicity)
    shifts = jnp.moveaxis(geometry.to_cartesian(jnp.asarray(places), cell), 1, 0)

    def one(shift: jax.Array) -> tuple[jax.Array, jax.Array]:
        moves, log_density = _posterior(noisy, clean + shift[:, None], cell, sigma, periodicity)
        return centre(moves, mask), jnp.sum(log_density * mask, -1)

    moves, log_density = jax.vmap(one)(shifts)
    return jnp.einsum("tb,tbnx->bnx", jax.nn.softmax(log_density, 0), moves, precision="highest")


def _grid(periodicity: Periodicity) -> np.ndarray:
    """Translations in fractions of the cell: eight a period, four in three dimensions; [T, 3]."""
    each = 4 if all(periodicity) else 8
    axes = [np.arange(each) / each if period else np.zeros(1) for period in periodicity]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3).astype(np.float32)


def _posterior(
    noisy: jax.Array, clean: jax.Array, cell: jax.Array, sigma: jax.Array, periodicity: Periodicity
) -> tuple[jax.Array, jax.Array]:
    """Mean displacement over the images of each atom, [B, N, 3], and the log of their density but for a constant."""
    difference = geometry.wrap(clean - noisy, cell, periodicity, centre=0.0)
    offsets = geometry.image_offsets(periodicity, (2, 2, 2))
    shifts = geometry.to_cartesian(jnp.asarray(offsets, jnp.float32), cell)
    is_uniform = (sigma[:, None] > UNIFORM_FROM_SPACINGS * geometry.plane_spacings(cell)) & jnp.asarray(periodicity)
    images = _project_out(difference[:, :, None, :] + shifts[:, None, :, :], cell, is_uniform)
    logits = -0.5 * jnp.sum(images**2, -1) / sigma[:, None, None] ** 2
    mean = jnp.sum(jax.nn.softmax(logits, axis=-1)[..., None] * images, axis=2)
    return mean, jax.nn.logsumexp(logits, axis=-1)


def _project_out(vectors: jax.Array, cell: jax.Array, is_chosen: jax.Array) -> jax.Array:
    """Takes from [B, N, M, 3] vectors what lies in the span of the chosen lattice vectors, [B, 3] bool."""
    taken: list[jax.Array] = []
    for axis in range(3):
        unit = cell[:, axis]
        for other in taken:
            unit = unit - jnp.sum(unit * other, -1, keepdims=True) * other
        unit = jnp.where(is_chosen[:, axis, None], unit / jnp.linalg.norm(unit, axis=-1, keepdims=True), 0.0)
        taken.append(unit)
        unit = unit[:, None, None]
        vectors = vectors - jnp.sum(vectors * unit, -1, keepdims=True) * unit
    return vectors


def preconditioning(sigma: jax.Array, sigma_data: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(c_skip, c_out, c_in) of Karras et al., arXiv:2206.00364, Table 1, with c_in scaled to 1 at sigma = 0."""
    total = jnp.sqrt(sigma**2 + sigma_data**2)
    return (sigma_data / total) ** 2, sigma * sigma_data / total, sigma_data / total


def centre(vectors: jax.Array, mask: jax.Array) -> jax.Array:
    """Removes the mean over real atoms; [B, N, 3], 0 on padding."""
    weights = mask[..., None].astype(vectors.dtype)
    mean = jnp.sum(vectors * weights, 1, keepdims=True) / jnp.maximum(weights.sum(1, keepdims=True), 1.0)
    return (vectors - mean) * weights


def permute_species(key: jax.Array, numbers: jax.Array, rate: jax.Array) -> jax.Array:
    """Shuffles the species of a random subset of atoms, each in it with probability `rate`: counts never change.

    Args:
      numbers: [B, N] int32, 0 on padding.
      rate: [B].
    """
    choose, shuffle = jax.random.split(key)
    chosen = (jax.random.uniform(choose, numbers.shape) < rate[:, None]) & (numbers > 0)
    place = jnp.broadcast_to(jnp.arange(numbers.shape[1], dtype=jnp.float32), numbers.shape)
    rest = place + 1.0
    targets = jnp.argsort(jnp.where(chosen, place - numbers.shape[1], rest), axis=1)
    sources = jnp.argsort(jnp.where(chosen, jax.random.uniform(shuffle, numbers.shape) - 1.0, rest), axis=1)
    moved = jnp.take_along_axis(numbers, sources, axis=1)
    return jnp.put_along_axis(numbers, targets, moved, axis=1, inplace=False)


def resample_species(key: jax.Array, numbers: jax.Array, sigma: jax.Array, composition: jax.Array) -> jax.Array:
    """Species drawn from (one-hot + sigma p_comp) / (1 + sigma), Eq. 1 of the paper; [B, N] int32.

    Args:
      sigma: [B].
      composition: [B, E], the predicted shares.
    """
    choose, draw = jax.random.split(key)
    replaced = jax.random.uniform(choose, numbers.shape) < (sigma / (1 + sigma))[:, None]
    logits = jnp.log(composition + 1e-20)[:, None, :]
    drawn = jax.random.categorical(draw, jnp.broadcast_to(logits, (*numbers.shape, logits.shape[-1]))) + 1
    return jnp.where(replaced & (numbers > 0), drawn, numbers)


def assign_species(logits: jax.Array, slots: jax.Array) -> jax.Array:
    """Gives each atom one of `slots` by greedy choice of the largest logit left: counts hold exactly.

    Args:
      logits: [B, N, E].
      slots: [B, N] int32, the multiset of atomic numbers to give out, 0 on padding (padding stays padding).
    """
    size = slots.shape[1]
    element = jnp.broadcast_to(jnp.maximum(slots - 1, 0)[:, None, :], (*slots.shape, size))
    score = jnp.maximum(jnp.take_along_axis(jax.nn.log_softmax(logits), element, axis=2), -1e9)
    real = slots > 0
    usable = real[:, :, None] == real[:, None, :]
    score = jnp.where(usable, score, -jnp.inf)
    batch = jnp.arange(slots.shape[0])

    def step(_, carry):
        score, chosen = carry
        best = jnp.argmax(score.reshape(score.shape[0], -1), axis=1)
        atom, slot = best // size, best % size
        chosen = chosen.at[batch, atom].set(slots[batch, slot])
        score = score.at[batch, atom, :].set(-jnp.inf).at[batch, :, slot].set(-jnp.inf)
        return score, chosen

    # Real atoms first, then padding among itself; -inf ties resolve to taken places only after all are given.
    score = jnp.where(real[:, :, None], score, jnp.where(usable, -1e30, -jnp.inf))
    return jax.lax.fori_loop(0, size, step, (score, jnp.zeros_like(slots)))[1]
