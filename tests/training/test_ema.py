"""The averaged parameters follow the definition, warm-up included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdw_jax.training.ema import ema_update


@pytest.mark.parametrize(("step", "weight"), [(0, 0.1), (8, 0.5), (10_000_000, 0.99)])
def test_weight_of_the_old_value(step, weight):
    ema = ema_update({"w": jnp.ones(2)}, {"w": jnp.zeros(2)}, 0.99, step)
    np.testing.assert_allclose(ema["w"], weight, rtol=1e-5)


def test_recursion_traced_and_plain():
    decay, ema, expected = 0.9, {"w": jnp.zeros(())}, 0.0
    update = jax.jit(ema_update, static_argnums=2)
    for step, value in enumerate(np.random.default_rng(0).normal(size=50)):
        ema = update(ema, {"w": jnp.float32(value)}, decay, step)
        d = min(decay, (1 + step) / (10 + step))
        expected = d * expected + (1 - d) * value
    np.testing.assert_allclose(ema["w"], expected, rtol=1e-5)


def test_constant_parameters_stay_and_integers_are_taken_over():
    params = {"w": jnp.full(3, 0.3), "n": jnp.arange(3)}
    ema = ema_update({"w": jnp.full(3, 0.3), "n": jnp.zeros(3, jnp.int32)}, params, 0.999, 5)
    np.testing.assert_array_equal(ema["w"], params["w"])
    np.testing.assert_array_equal(ema["n"], params["n"])


def test_dtype_of_the_average_stays():
    ema = ema_update({"w": jnp.zeros(2)}, {"w": jnp.ones(2, jnp.bfloat16)}, 0.9, 100)
    assert ema["w"].dtype == jnp.float32
