"""Generators of latents, each trained on latents that a formula tells apart."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import base
from tests.tiny import tiny_config
from vdw_jax.model.cdvae import CDVAE
from vdw_jax.model.fusion import condition_vector
from vdw_jax.model.generators import create_generator
from vdw_jax.training import second_stage
from vdw_jax.training.losses import Example
from vdw_jax.types import Conditions, CrystalBatch

NUM = 200
OF_FIRST = {"steps": 40, "data_hash": "abc"}


def small(kind: str) -> dict[str, Any]:
    """The paper's, with networks of a test's size."""
    config = base.get_config()
    config.generator = kind
    config.gan.update(dict(generator_hidden=(32, 32), critic_hidden=(32, 32), critic_dropout=0.0, batch_size=64))
    config.gan.update(dict(num_steps=600, steps_per_call=600, learning_rate=1e-3, ema_decay=0.99))
    part = dict(width=32, num_blocks=1, num_calls=12, num_steps=600, steps_per_call=600, batch_size=64, warmup_steps=10)
    config.latent_diffusion.update(part | {"learning_rate": 3e-3, "ema_decay": 0.99})
    return config.to_dict()


@pytest.fixture
def told_apart(monkeypatch) -> tuple[Example, np.ndarray]:
    """Crystals of carbon or silicon, and an encoder that puts them at -3 and 3 in each dimension."""
    config = tiny_config()
    is_second = np.arange(NUM) % 2 == 1
    numbers = np.where(is_second[:, None], 14, 6) * np.ones((1, 10), int)
    crystals = CrystalBatch(jnp.asarray(numbers), jnp.zeros((NUM, 10, 3)), jnp.tile(jnp.eye(3), (NUM, 1, 1)))
    mean = np.where(is_second, 3.0, -3.0)[:, None] * np.ones((1, config.latent_dim))
    answer = jnp.asarray(mean), jnp.full((NUM, config.latent_dim), 0.1)
    monkeypatch.setattr(second_stage, "encode_all", lambda *_, **__: answer)
    return Example(crystals, jnp.full((NUM, 1), 0.1)), is_second


@pytest.mark.parametrize("kind", ["gan", "diffusion"])
def test_it_makes_the_latents_of_what_is_asked_for(kind, told_apart, tmp_path):
    data, is_second = told_apart
    model, config = CDVAE(tiny_config()), small(kind)
    stop: Any = type("Stop", (), {"requested": False})()
    generator = create_generator(config, model.config.latent_dim)

    def trained():
        return second_stage.second_stage(
            config, tmp_path, model, generator, None, data, jax.random.key(0), stop, True, OF_FIRST
        )

    step, total, exported = trained()
    assert step == total == 600
    numbers = data.crystals.atomic_numbers
    wish = Conditions(
        scalars=jnp.zeros((NUM, 1)),
        scalar_mask=jnp.zeros((NUM, 1), bool),
        composition=jax.nn.one_hot(numbers - 1, 100).mean(1),
        composition_mask=jnp.ones(NUM, bool),
    )
    draws = jax.random.normal(jax.random.key(1), (NUM, model.config.latent_dim))
    made: Any = generator.apply(exported["generator"], draws, condition_vector(wish, model.config))
    made = made * exported["latent"]["std"] + exported["latent"]["mean"]
    sign = np.where(is_second, 1.0, -1.0)[:, None]
    assert np.mean(np.sign(made) == sign) > 0.97
    again = trained()
    assert again[0] == total  # from the checkpoint, no step more
    jax.tree.map(np.testing.assert_array_equal, again[2], exported)


def test_no_other_kind():
    config = small("flow")
    with pytest.raises(ValueError, match="generator is 'gan' or 'diffusion', not 'flow'"):
        create_generator(config, 8)
