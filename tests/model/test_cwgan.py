"""The second stage's networks, and the penalty against critics differentiated by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdw_jax.model.cwgan import Critic, Generator, gradient_penalty

NOISE, CONDITION = jax.random.normal(jax.random.key(0), (6, 4)), jax.random.normal(jax.random.key(1), (6, 3))


@pytest.fixture(scope="module")
def generator():
    """A small one with statistics that are not those it starts with, and its variables."""
    generator = Generator(4, (8, 8))
    variables = generator.init(jax.random.key(2), NOISE, CONDITION)
    _, mutated = generator.apply(variables, NOISE, CONDITION, True, mutable=["batch_stats"])
    return generator, {**variables, **mutated}


def test_penalty_of_a_linear_critic():
    """Its gradient is its weights everywhere: (|w| - 1)^2."""
    weights = jnp.array([3.0, 0.0, 4.0])
    real, fake = jax.random.normal(jax.random.key(3), (2, 5, 3))
    penalty = gradient_penalty(lambda x: x @ weights + 7.0, real, fake, jax.random.key(4))
    assert float(penalty) == pytest.approx(16.0, rel=1e-5)
    assert float(gradient_penalty(lambda x: x @ weights / 5, real, fake, jax.random.key(4))) == pytest.approx(0.0)


def test_penalty_is_taken_between_real_and_fake_at_a_point_of_each_rows_own():
    """|x|^2 / 2 has gradient x; on the way from 0 to a unit vector mean (t - 1)^2 = 1/3 and mean (2t - 1)^2 = 1/3."""
    real = jnp.zeros((20_000, 3)).at[:, 1].set(1.0)
    for scale in (1.0, 2.0):
        penalty = gradient_penalty(
            lambda x: (x**2).sum(-1) / 2, scale * real, jnp.zeros_like(real), jax.random.key(5)
        )
        assert float(penalty) == pytest.approx(1 / 3, abs=0.01)
    same = gradient_penalty(lambda x: (x**2).sum(-1) / 2, 3 * real, 3 * real, jax.random.key(5))
    assert float(same) == pytest.approx(4.0, rel=1e-5)


def test_penalty_of_a_flat_critic_has_finite_gradients():
    real, fake = jax.random.normal(jax.random.key(3), (2, 5, 3))
    gradient = jax.grad(lambda w: gradient_penalty(lambda x: x @ w, real, fake, jax.random.key(4)))(jnp.zeros(3))
    assert np.isfinite(gradient).all()


def test_shapes_of_the_papers_networks():
    made = jax.eval_shape(Generator(256).init, jax.random.key(0), jnp.zeros((2, 256)), jnp.zeros((2, 152)))
    widths = [made["params"][f"Dense_{layer}"]["kernel"].shape[1] for layer in range(6)]
    assert widths == [512, 512, 1024, 1024, 512, 256]
    assert len(made["batch_stats"]) == 4  # the first layer has no batch norm
    assert made["params"]["Dense_0"]["kernel"].shape[0] == 256 + 152
    judged = jax.eval_shape(Critic().init, jax.random.key(0), jnp.zeros((2, 256)), jnp.zeros((2, 152)))
    assert [judged["params"][f"Dense_{layer}"]["kernel"].shape[1] for layer in range(4)] == [512, 512, 512, 1]


def test_shapes(generator):
    generator, variables = generator
    assert generator.apply(variables, NOISE, CONDITION).shape == (6, 4)
    critic = Critic((8,))
    assert critic.apply(critic.init(jax.random.key(0), NOISE, CONDITION), NOISE, CONDITION).shape == (6,)


def test_generator_sees_the_batch_in_training_alone(generator):
    generator, variables = generator
    whole = generator.apply(variables, NOISE, CONDITION)
    alone = jnp.concatenate([generator.apply(variables, NOISE[i : i + 1], CONDITION[i : i + 1]) for i in range(6)])
    np.testing.assert_allclose(alone, whole, atol=1e-6)
    trained = generator.apply(variables, NOISE, CONDITION, True, mutable=["batch_stats"])[0]
    part = generator.apply(variables, NOISE[:3], CONDITION[:3], True, mutable=["batch_stats"])[0]
    assert np.abs(part - trained[:3]).max() > 1e-2


def test_both_read_the_condition(generator):
    generator, variables = generator
    made = [generator.apply(variables, NOISE, condition) for condition in (CONDITION, CONDITION + 1)]
    assert np.abs(made[1] - made[0]).max() > 1e-2
    critic = Critic((8,))
    params = critic.init(jax.random.key(0), NOISE, CONDITION)
    assert np.abs(critic.apply(params, NOISE, CONDITION + 1) - critic.apply(params, NOISE, CONDITION)).max() > 1e-2


def test_critic_drops_in_training_alone():
    critic = Critic((64,), 0.5)
    params = critic.init(jax.random.key(0), NOISE, CONDITION)
    scores = critic.apply(params, NOISE, CONDITION)
    alone = jnp.concatenate([critic.apply(params, NOISE[i : i + 1], CONDITION[i : i + 1]) for i in range(6)])
    np.testing.assert_allclose(alone, scores, atol=1e-6)
    first, second = (critic.apply(params, NOISE, CONDITION, True, rngs={"dropout": jax.random.key(k)}) for k in (1, 2))
    assert np.abs(first - second).max() > 1e-2
