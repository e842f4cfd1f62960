"""Answers given by hand in place of networks, so that each part of the loss has a value worked out on paper."""

from __future__ import annotations

import dataclasses
import functools
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

QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
"""What is compiled runs once or twice: compiling it is most of the time."""

TRACED = (
    *("num_atoms", "lattice", "composition", "coordinates", "species", "kl", "properties", "stack"),
    *("window_share", "window_max", "window_min"),
    *("free_species_share", "condition_dropout", "free_share"),
)
"""Settings that are arguments of the compiled loss, so that one program serves all their values."""


def crystals(numbers, size: int, seed: int = 0, spread: float = 1.0) -> CrystalBatch:
    """`size` slabs, rows of `numbers` in turn, on a cell of 4 x 4.2 Angstrom and 120 degrees, normal heights."""
    rng = np.random.default_rng(seed)
    numbers = np.resize(np.asarray(numbers, np.int32), (size, np.shape(numbers)[1]))
    positions = rng.normal(size=(*numbers.shape, 3)).astype(np.float32)
    positions[..., 2] *= spread
    positions[numbers == 0] = 0.0
    cell = np.array([[4.0, 0, 0], [-2.1, 4.2 * 3**0.5 / 2, 0], [0, 0, 30.0]], np.float32)
    return CrystalBatch(jnp.asarray(numbers), jnp.asarray(positions), jnp.asarray(np.tile(cell, (size, 1, 1))))


def nothing(config: ModelConfig, size: int, places: int) -> dict[str, Any]:
    """Answers of 0 by the networks' methods, for `size` crystals of `places` atoms."""
    latent = jnp.zeros((size, config.latent_dim))
    shapes = ((NUM_ELEMENTS,), (), (config.max_atoms,))
    heads = (jnp.zeros((size, width)) for width in (config.max_atoms + 1, 6, NUM_ELEMENTS))
    stack = (jnp.zeros((size, config.max_atoms, *shape)) for shape in shapes)
    raw, species = (jnp.zeros((size, places, width)) for width in (3, NUM_ELEMENTS))
    return {
        "encode": (latent, latent),
        "heads": CrystalHeads(*heads),
        "properties": jnp.zeros((size, len(config.scalars))),
        "stack": Stack(*stack),
        "denoise": DenoiserOutput(raw, raw, species),
    }


class KnownModel:
    """Stands in for a `CDVAE`: gives the answers it is told, and notes what each network was shown.

    Args:
      answers: by the name of a method, what it returns; the conditions change nothing of the latent.
    """

    def __init__(self, config: ModelConfig, answers: dict[str, Any]):
        self.config, self.answers = config, answers
        self.shown: dict[str, tuple] = {}

    def apply(self, params: None, *args, method: str, **_) -> Any:
        """The noise coefficients alone are the model's own: they need no weights."""
        if method == "coefficients":
            return CDVAE(self.config).apply({}, *args, method=method)
        self.shown[method] = args
        return args[0] if method == "fuse" else self.answers[method]


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
    size, places = batch.atomic_numbers.shape
    weights = weights or LossConfig()
    drawn = {name: float(getattr(weights, name)) for name in TRACED}
    scalars = jnp.full((size, len(config.scalars)), jnp.nan) if scalars is None else scalars
    given = {**nothing(config, size, places), **answers}
    if species is not None:
        given["denoise"] = given["denoise"].replace(species=species)
    slope, parts, shown = _look(
        given["denoise"].raw,
        given,
        Example(batch, scalars),
        jax.random.key(seed),
        drawn,
        config=config,
        weights=dataclasses.replace(weights, **dict.fromkeys(TRACED, 0.0)),
        train=train,
    )
    # A squared error has its slope from the error itself: what is missing from an answer of 0.
    wanted = -slope * 3.0 * batch.atom_mask.sum() / 2.0
    _, corrupted, sigma, rate, keys = shown["denoise"]
    found = jax.device_get((parts, shown["fuse"][0], corrupted, sigma, rate, wanted))
    return Seen(*found, (shown["encode"][1], keys))


@functools.partial(jax.jit, static_argnames=("config", "weights", "train"), compiler_options=QUICK)
def _look(raw, answers, example, key, drawn, *, config, weights, train):
    """Slope of the coordinates' part by `raw`, all parts, and what the networks were shown."""

    def coordinates(raw):
        denoised = answers["denoise"].replace(raw=raw, displacement=raw)
        model = KnownModel(config, {**answers, "denoise": denoised})
        own = dataclasses.replace(weights, **drawn)
        _, parts = cdvae_loss(model, own, None, example, key, train)
        return parts["coordinates"], (parts, model.shown)

    slope, (parts, shown) = jax.grad(coordinates, has_aux=True)(raw)
    return slope, parts, shown
