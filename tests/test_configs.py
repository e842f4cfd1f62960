"""Configs: all of them build, share their keys, and the paper's keeps its numbers."""

import importlib
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from configs import base, paper
from vdw_jax.diffusion.samplers import GRIDS, SAMPLERS, annealed_langevin
from vdw_jax.model.config import ModelConfig
from vdw_jax.model.generators import create_generator
from vdw_jax.structures.source import SOURCES
from vdw_jax.training.loop import create_equiformer, create_optimizer
from vdw_jax.training.losses import LossConfig
from vdw_jax.training.priors import GanConfig, LatentDiffusionConfig

NAMES = sorted(path.stem for path in Path(base.__file__).parent.glob("*.py") if path.stem != "__init__")


def load(name: str) -> ConfigDict:
    return importlib.import_module(f"configs.{name}").get_config()


def keys(config: ConfigDict, prefix: str = "") -> set[str]:
    """Paths of all leaves."""
    found = set()
    for name, value in config.items():
        found |= keys(value, f"{prefix}{name}.") if isinstance(value, ConfigDict) else {prefix + name}
    return found


def values(config: ConfigDict, names: str) -> list:
    return [config[name] for name in names.split()]


def test_all_are_here():
    assert {"base", "paper", "j2dh8", "j2dh8_laptop", "mp20", "smoke"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_has_the_keys_of_base(name):
    assert keys(load(name)) == keys(base.get_config())


@pytest.mark.parametrize("name", NAMES)
def test_builds(name):
    config = load(name)
    networks = {part: create_equiformer(config.model[part]) for part in ("encoder", "denoiser")}
    model = ModelConfig(**networks, **config.model.cdvae.to_dict(), max_atoms=config.data.max_atoms)
    assert ModelConfig.from_dict(model.to_dict()) == model
    assert hash(model) == hash(ModelConfig.from_dict(model.to_dict()))
    for network in networks.values():
        assert network.mmax <= network.lmax
        assert network.channels % network.num_heads == 0
    LossConfig(**config.loss.to_dict())
    for kind, part in ((GanConfig, config.gan), (LatentDiffusionConfig, config.latent_diffusion)):
        kind.from_part(part)
    create_generator(config, model.latent_dim)
    create_optimizer(config)
    assert config.data.source in SOURCES
    assert config.train.warmup_steps < config.train.num_steps
    assert config.sample.schedule in SAMPLERS
    assert config.sample.grid in GRIDS


@pytest.mark.parametrize("name", NAMES)
def test_every_call_gives_a_config_of_its_own(name):
    config = load(name)
    config.model.encoder.num_layers = 99
    config.train.batch_size = 99
    assert load(name).model.encoder.num_layers != 99
    assert load(name).model.denoiser.num_layers != 99
    assert load(name).train.batch_size != 99


@pytest.mark.parametrize("part", ["encoder", "denoiser"])
def test_network_of_the_paper(part):
    network = paper.get_config().model[part]
    assert values(network, "num_layers channels attention_channels num_heads") == [8, 128, 64, 8]
    assert values(network, "alpha_channels value_channels ffn_channels") == [64, 16, 128]
    assert values(network, "lmax mmax edge_channels num_basis cutoff_angstrom") == [4, 2, 128, 600, 7.0]
    assert values(network, "alpha_dropout drop_path") == [0.1, 0.1]


def test_training_of_the_paper():
    config = paper.get_config()
    assert config.model.cdvae.max_neighbours == 20
    assert values(config.train, "batch_size learning_rate clip clip_by") == [512, 1e-3, 0.5, "value"]
    loss = config.loss
    assert values(loss, "num_atoms lattice composition coordinates species") == [1.0, 10.0, 1.0, 10.0, 1.0]
    assert values(loss, "kl properties") == [0.01, 1.0]
    assert values(loss, "sigma_max sigma_min species_sigma_max species_sigma_min") == [10.0, 0.01, 5.0, 0.01]
    assert values(loss, "num_levels coupled_noise") == [50, False]


def test_gan_and_sampling_of_the_paper():
    config = paper.get_config()
    assert config.generator == "gan"
    assert values(config.gan, "learning_rate critic_steps penalty") == [2e-4, 5, 10.0]
    assert len(config.gan.generator_hidden) == 5
    assert len(config.gan.critic_hidden) == 3
    sample = config.sample
    assert values(sample, "schedule num_levels steps_per_level") == ["annealed_langevin", 50, 100]
    assert annealed_langevin(num_levels=sample.num_levels, steps_per_level=sample.steps_per_level).num_calls == 5000
