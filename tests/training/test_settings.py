"""Configs are checked when they are read: each setting by its path, with what is allowed."""

import importlib
import math
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from configs import base, smoke
from vdw_jax.training.errors import ConfigError
from vdw_jax.training.settings import FREE, GROWING, RULES, check_config, differing

NAMES = sorted(path.stem for path in Path(base.__file__).parent.glob("*.py") if path.stem != "__init__")


def flat(values, path: str = "") -> dict:
    leaves: dict = {}
    for name, value in values.items():
        is_section = isinstance(value, dict | ConfigDict)
        leaves |= flat(value, f"{path}{name}.") if is_section else {path + name: value}
    return leaves


@pytest.mark.parametrize("name", NAMES)
def test_our_own_configs_pass(name):
    check_config(importlib.import_module(f"configs.{name}").get_config().to_dict())


def test_every_setting_has_a_rule():
    assert flat(RULES).keys() == flat(base.get_config()).keys()
    assert flat(RULES).keys() >= FREE | GROWING


@pytest.mark.parametrize(
    ("path", "value", "allowed"),
    [
        ("train.schedule", "linear", "'cosine' or 'plateau', not 'linear'"),
        ("train.clip_by", "norms", "'norm' or 'value'"),
        ("sample.grid", "log", "'geometric' or 'karras'"),
        ("sample.schedule", "euler", "'annealed_langevin' or 'few_step_langevin'"),
        ("data.split", "random", "'structure' or 'pair'"),
        ("data.source", "mp", "'j2dh8' or 'iii_vi'"),
        ("data.periodicity", "2d", "'auto' or 'slab' or 'bulk'"),
        ("generator", "flow", "'gan' or 'diffusion', not 'flow'"),
        ("model.cdvae.graph", "pair", "'nearest' or 'pairs'"),
        ("model.denoiser.edge_activation", "relu", "'s2' or 'gate'"),
        ("model.denoiser.compute_dtype", "bf16", "'float32' or 'bfloat16'"),
        ("model.encoder.num_layers", 0, "a whole number from 1 to 1000, not 0"),
        ("model.encoder.node_grid", (4,), "a list of 2 values"),
        ("train.learning_rate", -1e-3, "a number above 0, not -0.001"),
        ("train.learning_rate", math.nan, "a number above 0, not nan"),
        ("gan.learning_rate", 0.0, "a number above 0"),
        ("latent_diffusion.learning_rate", math.inf, "a number above 0"),
        ("train.num_steps", 0, "a whole number from 1"),
        ("train.batch_size", 0, "a whole number from 1"),
        ("train.batch_size", True, "a whole number from 1"),
        ("train.ema_decay", 1.0, "a number from 0 to"),
        ("loss.kl", -0.1, "a number of at least 0, not -0.1"),
        ("loss.condition_dropout", 1.5, "a number from 0 to 1"),
        ("seed", 2**32, "a whole number from 0 to 4294967295, not 4294967296"),
        ("data.split_seed", -1, "a whole number from 0 to 4294967295, not -1"),
    ],
)
def test_what_cannot_be_is_named_with_what_can(path, value, allowed):
    config = smoke.get_config()
    with config.unlocked():
        *sections, name = path.split(".")
        part = config
        for section in sections:
            part = part[section]
        part.__dict__["_fields"][name] = value  # whatever its type
    with pytest.raises(ConfigError) as caught:
        check_config(config.to_dict())
    assert str(caught.value).startswith(f"{path} is {allowed}")


def test_settings_that_do_not_go_together():
    values = smoke.get_config().to_dict()
    values["loss"]["sigma_min"] = 20.0
    values["model"]["denoiser"]["mmax"] = 3
    with pytest.raises(ConfigError) as caught:
        check_config(values)
    lines = str(caught.value).splitlines()
    assert [line.split(" ")[0] for line in lines] == ["model.denoiser.mmax", "loss.sigma_min"]


def test_unknown_and_missing_settings():
    values = smoke.get_config().to_dict()
    values["train"]["lerning_rate"] = values["train"].pop("learning_rate")
    with pytest.raises(ConfigError) as caught:
        check_config(values)
    assert str(caught.value).splitlines() == [
        "train.lerning_rate is no setting; did you mean train.learning_rate?",
        "train.learning_rate is missing",
    ]
    with pytest.raises(ConfigError, match="^train is a section, not 3$"):
        check_config(smoke.get_config().to_dict() | {"train": 3})


def test_what_differs_is_said_and_what_may_differ_is_not():
    there = smoke.get_config().to_dict()
    here = smoke.get_config()
    here.train.update(dict(num_steps=90, steps_per_evaluation=7, max_minutes=1.0))
    here.sample.num_calls = 7
    here.data.path = "elsewhere.csv"
    assert differing(there, here.to_dict()) == []
    here.train.update(dict(num_steps=30, learning_rate=1.0))
    here.model.denoiser.channels = 17
    here.latent_diffusion.width = 3
    lines = differing(there, here.to_dict())
    assert lines == [
        "latent_diffusion.width: 64 -> 3",
        "model.denoiser.channels: 16 -> 17",
        "train.learning_rate: 0.003 -> 1.0",
        "train.num_steps: 60 -> 30",
    ]
    assert differing(there, here.to_dict(), skip_sections=("latent_diffusion",)) == lines[1:]
