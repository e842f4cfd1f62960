"""A trained model read back from what `train.py` exports: no pickle, no config file needed."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax

from vdw_jax.design.coverage import Coverage
from vdw_jax.diffusion.samplers import Schedule, make_schedule
from vdw_jax.model.cdvae import CDVAE
from vdw_jax.model.config import ModelConfig
from vdw_jax.model.generators import LatentGenerator, create_generator
from vdw_jax.pretrained import SHIPPED
from vdw_jax.training.export import read_export
from vdw_jax.training.facts import file_sha256
from vdw_jax.training.losses import LossConfig

PRETRAINED = SHIPPED
"""The weights that ship."""


class CheckpointError(ValueError):
    """A directory holds no trained model that can be used; the message names it."""


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """Model, generator and their weights, with what was recorded of the data."""

    model: CDVAE
    generator: LatentGenerator
    weights: dict[str, Any]  # "model", "generator", "latent", as exported
    noise: LossConfig  # the noise that the denoiser was trained on
    facts: dict[str, Any]  # model.json
    weights_sha256: str = ""  # of weights.npz

    @property
    def atom_counts(self) -> tuple[int, ...]:
        """Numbers of atoms that the training part has."""
        return tuple(self.facts["atom_counts"])

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers that the training part has."""
        return tuple(self.facts["elements"])

    @functools.cached_property
    def coverage(self) -> Coverage:
        """Elements, cells, compositions and ranges that it was trained for."""
        return Coverage.from_facts(self.facts)

    @property
    def sampler(self) -> str:
        """The config's; one of `samplers.SAMPLERS`."""
        return self.facts["config"]["sample"]["schedule"]

    def schedule(self, num_calls: int | None = None, sampler: str | None = None, grid: str | None = None) -> Schedule:
        """The sampling schedule of the config, or another.

        Args:
          num_calls: network calls a structure, as in `samplers.make_schedule`; the config's for the sampler by default.
          sampler: one of `samplers.SAMPLERS`; the config's by default.
          grid: one of `samplers.GRIDS`; the config's by default.

        Raises:
          ValueError: an unknown name, or fewer calls than a schedule can do with.
        """
        chosen, noise = self.facts["config"]["sample"], self.noise
        sampler = self.sampler if sampler is None else sampler
        grid = chosen.get("grid", "geometric") if grid is None else grid
        levels = chosen["num_levels"]
        if num_calls is None:
            is_annealed = sampler == "annealed_langevin"
            num_calls = levels * chosen["steps_per_level"] if is_annealed else chosen["num_calls"]
        return make_schedule(sampler, noise.sigma_max, noise.sigma_min, num_calls, num_levels=levels, grid=grid)


def load_trained(directory: str | Path) -> Trained:
    """Reads an export: the directory itself, or the workdir of a finished training.

    Names in the files choose among what this package has; nothing is imported or run because a file names it.

    Raises:
      CheckpointError: nothing there, or not what `train.py` exports.
    """
    asked = Path(directory)
    inner = asked / "export"
    folder = inner if inner.is_dir() else asked
    weights_path, facts_path = folder / "weights.npz", folder / "model.json"
    if not (weights_path.is_file() and facts_path.is_file()):
        raise CheckpointError(f"no trained model at {asked} (weights.npz and model.json, as train.py exports them)")
    try:
        facts, weights = read_export(folder)
    except ValueError as error:
        raise CheckpointError(str(error)) from None
    try:
        on_cpu = jax.default_backend() == "cpu"
        model = CDVAE(ModelConfig.from_dict(facts["model"]).for_sampling(on_cpu))
        config = facts["config"]
        generator = create_generator(config, model.config.latent_dim)
        noise = LossConfig(**config["loss"])
        trained = Trained(model, generator, jax.device_put(weights), noise, facts, file_sha256(weights_path))
        _ = trained.coverage
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        said = " ".join(str(error).split())[:300]
        raise CheckpointError(f"{facts_path} is not what train.py exports ({said})") from error
    return trained
