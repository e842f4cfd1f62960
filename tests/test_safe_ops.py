"""Values and gradients of the safe operations, at 0 above all."""

import jax
import jax.numpy as jnp
import numpy as np

from vdw_jax.safe_ops import safe_divide, safe_norm, safe_normalize


def test_norm():
    vectors = jnp.array([[3.0, 0.0, 4.0], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(safe_norm(vectors), [5.0, 0.0])
    assert safe_norm(vectors, keepdims=True).shape == (2, 1)
    np.testing.assert_allclose(safe_norm(vectors, axis=0), [3.0, 0.0, 4.0])


def test_gradient_of_the_norm():
    gradient = jax.grad(lambda v: safe_norm(v).sum())(jnp.array([[3.0, 0.0, 4.0], [0.0, 0.0, 0.0]]))
    np.testing.assert_allclose(gradient, [[0.6, 0.0, 0.8], [0.0, 0.0, 0.0]], atol=1e-6)


def test_the_plain_norm_would_fail():
    assert jnp.isnan(jax.grad(jnp.linalg.norm)(jnp.zeros(3))).all()


def test_second_derivative_of_the_norm_is_finite():
    assert jnp.isfinite(jax.hessian(safe_norm)(jnp.zeros(3))).all()


def test_normalize():
    vectors = jnp.array([[3.0, 0.0, 4.0], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(safe_normalize(vectors, (0.0, 1.0, 0.0)), [[0.6, 0.0, 0.8], [0.0, 1.0, 0.0]])


def test_jacobian_of_normalize():
    def unit(vector):
        return safe_normalize(vector, (0.0, 1.0, 0.0))

    np.testing.assert_array_equal(jax.jacrev(unit)(jnp.zeros(3)), np.zeros((3, 3)))
    expected = (np.eye(3) - np.diag([1.0, 0.0, 0.0])) / 2.0
    np.testing.assert_allclose(jax.jacrev(unit)(jnp.array([2.0, 0.0, 0.0])), expected, atol=1e-6)


def test_divide():
    quotient = safe_divide(jnp.array([6.0, 1.0, 0.0]), jnp.array([3.0, 0.0, 0.0]))
    np.testing.assert_array_equal(quotient, [2.0, 0.0, 0.0])


def test_gradient_of_divide():
    numerator, denominator = jnp.array([6.0, 1.0]), jnp.array([3.0, 0.0])
    by_top, by_bottom = jax.grad(lambda a, b: safe_divide(a, b).sum(), argnums=(0, 1))(numerator, denominator)
    np.testing.assert_allclose(by_top, [1 / 3, 0.0], rtol=1e-6)
    np.testing.assert_allclose(by_bottom, [-2 / 3, 0.0], rtol=1e-6)
