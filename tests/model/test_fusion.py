"""Low-rank fusion against the full tensor it stands for, and absent conditions."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdw_jax.model.config import ModelConfig, ScalarCondition
from vdw_jax.model.fusion import LowRankFusion, condition_vector, scalar_features
from vdw_jax.types import Conditions

ENERGY = ScalarCondition("energy_ev", 0.1, 0.2)
CONFIG = ModelConfig(scalars=(ENERGY,), latent_dim=3, lmf_rank=2, num_basis=4, formula_dim=3)
LATENT = jax.random.normal(jax.random.key(0), (4, 3))


def make_conditions(num_scalars: int = 1) -> Conditions:
    """Four rows: all there, no scalar, no formula, nothing."""
    rng = np.random.default_rng(0)
    composition = np.zeros((4, 100), np.float32)
    composition[:, [30, 33, 48]] = rng.dirichlet(np.ones(3), 4)
    scalars = rng.normal(0.0, 1.0, (4, num_scalars)).astype(np.float32)
    scalar_mask = np.tile(np.array([[True], [False], [True], [False]]), (1, num_scalars))
    mask = np.array([True, True, False, False])
    return Conditions(*map(jnp.asarray, (scalars, scalar_mask, composition, mask)))


def with_absent(conditions: Conditions, value: float) -> Conditions:
    """The same with `value` wherever nothing is asked."""
    return dataclasses.replace(
        conditions,
        scalars=jnp.where(conditions.scalar_mask, conditions.scalars, value),
        composition=jnp.where(conditions.composition_mask[:, None], conditions.composition, value),
    )


def random_params(config: ModelConfig, conditions: Conditions) -> dict:
    """Every parameter random, those that start at 0 or 1 as well."""
    shapes = jax.eval_shape(LowRankFusion(config).init, jax.random.key(0), LATENT, conditions)
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)


@pytest.fixture(scope="module")
def params():
    """Of a fusion with one scalar."""
    return random_params(CONFIG, make_conditions())


def fuse(params, conditions: Conditions, config: ModelConfig = CONFIG) -> np.ndarray:
    return np.asarray(LowRankFusion(config).apply(params, LATENT, conditions))


def test_is_the_full_tensor_of_its_factors(params):
    """sum_r w_r prod_m [x_m, 1] W_m^r, the outer product of the inputs written out; absent ones are [0, 1]."""
    conditions = make_conditions()
    own = params["params"]

    def padded(x):
        return np.concatenate([x, np.ones((4, 1))], -1)

    energy = np.exp(-0.5 * ((np.asarray(conditions.scalars) - np.linspace(-3, 3, 4)) / 2.0) ** 2) * np.asarray(conditions.scalar_mask)
    shares = np.asarray(conditions.composition) * np.asarray(conditions.composition_mask)[:, None]
    inputs = padded(np.asarray(LATENT)), padded(energy), padded(shares @ own["elements"]["kernel"])
    names = ("latent", "scalar_0", "formula")
    factors = [np.concatenate([own[f"{name}_factor"], own[f"{name}_unit"][None]]) for name in names]
    tensor = np.einsum("r,ird,jrd,krd->ijkd", own["rank_weights"], *factors)
    assert tensor.shape == (4, 5, 4, 3)
    expected = np.einsum("bi,bj,bk,ijkd->bd", *inputs, tensor) + own["bias"]
    np.testing.assert_allclose(fuse(params, conditions), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("value", [0.0, 5.0, np.nan, np.inf])
def test_what_is_absent_has_no_value(params, value):
    conditions = make_conditions()
    changed = with_absent(conditions, value)
    np.testing.assert_array_equal(fuse(params, changed), fuse(params, conditions))
    np.testing.assert_array_equal(condition_vector(changed, CONFIG), condition_vector(conditions, CONFIG))


def test_what_is_present_has(params):
    conditions = make_conditions()
    base = fuse(params, conditions)
    moved = fuse(params, dataclasses.replace(conditions, scalars=conditions.scalars + 0.1))
    other = fuse(params, dataclasses.replace(conditions, composition=jnp.roll(conditions.composition, 1, -1)))
    assert np.abs(moved - base).max(1).round(6).astype(bool).tolist() == [True, False, True, False]
    assert np.abs(other - base).max(1).round(6).astype(bool).tolist() == [True, True, False, False]


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_gradients_are_finite(params, value):
    conditions = with_absent(make_conditions(), value)

    def loss(params, latent):
        return jnp.sum(LowRankFusion(CONFIG).apply(params, latent, conditions) ** 2)

    gradients = jax.grad(loss, (0, 1))(params, LATENT)
    for leaf in jax.tree.leaves(gradients):
        assert np.isfinite(leaf).all()
        assert np.abs(leaf).max() > 0


def test_another_scalar_is_a_config_entry():
    config = dataclasses.replace(
        CONFIG, scalars=(ENERGY, ScalarCondition("gap_ev", 1.0, 0.5), ScalarCondition("mismatch", 0.0, 0.1))
    )
    conditions = make_conditions(3)
    params = random_params(config, conditions)
    assert {"scalar_0_factor", "scalar_1_factor", "scalar_2_factor"} <= params["params"].keys()
    base = fuse(params, conditions, config)
    for place in range(3):
        moved = dataclasses.replace(conditions, scalars=conditions.scalars.at[:, place].add(0.5))
        assert np.abs(fuse(params, moved, config) - base)[0].max() > 1e-4
        gone = dataclasses.replace(conditions, scalar_mask=conditions.scalar_mask.at[:, place].set(False))
        assert np.abs(fuse(params, gone, config) - base)[0].max() > 1e-4
        absent = dataclasses.replace(gone, scalars=conditions.scalars.at[:, place].set(np.nan))
        np.testing.assert_array_equal(fuse(params, absent, config), fuse(params, gone, config))
    assert condition_vector(conditions, config).shape == (4, 3 * (config.num_basis + 1) + 101)


def test_no_scalars_at_all():
    config = dataclasses.replace(CONFIG, scalars=())
    conditions = make_conditions(0)
    assert np.isfinite(fuse(random_params(config, conditions), conditions, config)).all()
    assert condition_vector(conditions, config).shape == (4, 101)


def test_far_values_stay_told_from_near_ones():
    """Features peak at their centre; values beyond 3.5 spreads count as 3.5."""
    config = dataclasses.replace(CONFIG, num_basis=50)
    values = jnp.array([[-3.0], [0.0], [3.0], [3.5], [250.0]])
    there = jnp.ones((5, 1), bool)
    features = scalar_features(Conditions(values, there, jnp.zeros((5, 100)), there[:, 0]), config)[:, 0]
    assert int(features[0].argmax()) == 0 and float(features[0].max()) == pytest.approx(1.0, abs=1e-4)
    assert int(features[1].argmax()) in (24, 25)
    assert int(features[2].argmax()) == 49
    np.testing.assert_allclose(features[4], features[3], atol=1e-6)
