"""Which generator of latents a config has: the WGAN's, or diffusion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vdw_jax.model.cwgan import Generator
from vdw_jax.model.latent_diffusion import LatentDiffusion

GAN, DIFFUSION = "gan", "diffusion"
LatentGenerator = Generator | LatentDiffusion
"""Both map ([B, latent_dim] noise, [B, D] conditions) to [B, latent_dim] standardised latents."""


def create_generator(config: Mapping[str, Any], latent_dim: int) -> LatentGenerator:
    """The generator that a training config describes, without weights.

    Raises:
      ValueError: its `generator` is neither.
    """
    kind = config.get("generator", GAN)  # exports from before there were two have no such field
    if kind == GAN:
        return Generator(latent_dim, tuple(config["gan"]["generator_hidden"]))
    if kind == DIFFUSION:
        part = config["latent_diffusion"]
        return LatentDiffusion(part["width"], part["num_blocks"], part["num_calls"])
    raise ValueError(f"generator is {GAN!r} or {DIFFUSION!r}, not {kind!r}")
