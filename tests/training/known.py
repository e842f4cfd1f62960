"""Answers given by hand in place of networks, so that each part of the loss has a value worked out on paper."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tests.tiny import tiny_config
from vdw_jax.model.cdvae import CDVAE, CrystalHeads, DenoiserOutput
from vdw_jax.model.config import ModelConfig
from vdw_jax.model.stack import Stack
from vdw_jax.training.losses import Example, LossConfig, cdvae_loss
from vdw_jax.types import NUM_ELEMENTS, CrystalBatch

CONFIG = dataclasses.replace(tiny_config(), stack_head=False)
STACKED = dataclasses.replace(CONFIG, stack_head=True)


def crystals(numbers, size: int, seed: int = 0, spread: float = 1.0) -> CrystalBatch:
    """`size` slabs, rows of `numbers` in turn, on a cell of 4 x 4.2 Angstrom and 120 degrees, normal heights."""
    rng = np.random.default_rng(seed)
    numbers = np.resize(np.asarray(numbers, np.int32), (size, np.shape(numbers)[1]))
    positions = rng.normal(size=(*numbers.shape, 3)).astype(np.float32)
    positions[..., 2] *= spread
    positions[numbers == 0] = 0.0
    cell = np.array([[4.0, 0, 0], [-2.1, 4.2 * 3**0.5 / 2, 0], [0, 0, 30.0]], np.float32)
    return CrystalBatch(
        jnp.asarray(numbers), jnp.asarray(positions), jnp.asarray(np.tile(cell, (size, 1, 1)))
    )


class KnownModel:
    """Stands in for a `CDVAE`: all answers are 0 but those given; notes what each network was shown.

    Args:
      answers: by the name of a method, what it returns.
    """

    def __init__(self, config: ModelConfig, answers: dict[str, Any]):
        self.config, self.answers = config, answers
        self.shown: dict[str, tuple] = {}

    def apply(self, params: None, *args, method: str, **_) -> Any:
        """The noise coefficients alone are the model's own: they need no weights."""
        if method == "coefficients":
            return CDVAE(self.config).apply({}, *args, method=method)
        self.shown[method] = args
        if method in self.answers:
            return self.answers[method]
        return getattr(self, f"_{method}")(*args)

    def _encode(self, batch: CrystalBatch, _) -> tuple[jax.Array, jax.Array]:
        zero = jnp.zeros((len(batch.cell), self.config.latent_dim))
        return zero, zero

    def _fuse(self, latent: jax.Array, _) -> jax.Array:
        return latent

    def _heads(self, fused: jax.Array) -> CrystalHeads:
        sizes = (self.config.max_atoms + 1, 6, NUM_ELEMENTS)
        return CrystalHeads(*(jnp.zeros((len(fused), size)) for size in sizes))

    def _properties(self, latent: jax.Array) -> jax.Array:
        return jnp.zeros((len(latent), len(self.config.scalars)))

    def _stack(self, fused: jax.Array) -> Stack:
        size, places = len(fused), self.config.max_atoms
        shapes = ((places, NUM_ELEMENTS), (places,), (places, places))
        return Stack(*(jnp.zeros((size, *shape)) for shape in shapes))

    def _denoise(self, fused: jax.Array, batch: CrystalBatch, *_) -> DenoiserOutput:
        zero = jnp.zeros_like(batch.positions)
        return DenoiserOutput(zero, zero, jnp.zeros((*batch.atomic_numbers.shape, NUM_ELEMENTS)))


@dataclasses.dataclass(frozen=True)
class Seen:
    """The loss, and what the networks were shown for it."""

    parts: dict[str, np.ndarray]
    latent: np.ndarray
    crystals: CrystalBatch
    sigma: np.ndarray
    rate: np.ndarray
    wanted: np.ndarray
    """The network's output that makes the error of the coordinates 0; [B, N, 3]."""
    dropout_keys: tuple
    """Of the encoder and of the denoiser."""


def look(
    batch: CrystalBatch,
    weights: LossConfig | None = None,
    scalars: jax.Array | None = None,
    *,
    config: ModelConfig = CONFIG,
    seed: int = 0,
    train: bool = False,
    species: jax.Array | None = None,
    **answers,
) -> Seen:
    """The loss of the first stage for given answers; `species` are the denoiser's logits."""
    model = KnownModel(config, answers)
    size = len(batch.cell)
    scalars = jnp.full((size, len(config.scalars)), jnp.nan) if scalars is None else scalars
    logits = jnp.zeros((*batch.atomic_numbers.shape, NUM_ELEMENTS)) if species is None else species

    # Not compiled as a whole: single operations are compiled once for all configurations.
    def run(raw, logits, batch, scalars):
        def coordinates(raw):
            model.answers["denoise"] = DenoiserOutput(raw, raw, logits)
            example = Example(batch, scalars)
            key = jax.random.key(seed)
            _, parts = cdvae_loss(model, weights or LossConfig(), None, example, key, train)
            return parts["coordinates"], (parts, model.shown)

        return jax.grad(coordinates, has_aux=True)(raw)

    slope, (parts, shown) = run(jnp.zeros_like(batch.positions), logits, batch, scalars)
    # A squared error has its slope from the error itself: what is missing from an answer of 0.
    wanted = -slope * 3.0 * batch.atom_mask.sum() / 2.0
    _, corrupted, sigma, rate, keys = shown["denoise"]
    found = jax.device_get((parts, shown["fuse"][0], corrupted, sigma, rate, wanted))
    return Seen(*found, (shown["encode"][1], keys))
