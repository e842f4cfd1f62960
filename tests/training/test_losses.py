"""What the first stage shows the denoiser, and what it reports; values by hand are in `test_loss_values.py`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.tiny import tiny_batch
from tests.training.known import STACKED, KnownModel, look, nothing
from vdw_jax.training.losses import Example, LossConfig, cdvae_loss, species_rate

SIZE = 64
BATCH = tiny_batch(size=SIZE)
EXAMPLE = Example(BATCH, jnp.linspace(-0.3, 0.5, SIZE)[:, None])
GIVEN = np.asarray(BATCH.atomic_numbers)

shown = functools.cache(functools.partial(look, BATCH, config=STACKED))
"""What the denoiser sees of `BATCH`."""


@pytest.fixture(scope="module")
def by_share():
    """The denoiser's input with species noise bound to the coordinates' (0), half free, free (1)."""
    return {share: shown(LossConfig(free_species_share=share)) for share in (0.0, 0.5, 1.0)}


def test_species_noise_follows_the_coordinates(by_share):
    seen = by_share[0.0]
    np.testing.assert_allclose(seen.rate, species_rate(seen.sigma, LossConfig()), rtol=1e-5)
    assert np.corrcoef(np.log(seen.sigma), seen.rate)[0, 1] > 0.9


def test_or_has_a_rate_of_its_own(by_share):
    seen = by_share[1.0]
    assert seen.rate.min() == 0.0
    assert seen.rate.max() == 1.0
    assert abs(np.corrcoef(np.log(seen.sigma), seen.rate)[0, 1]) < 0.4


def test_for_a_share_of_the_examples(by_share):
    seen = by_share[0.5]
    bound = np.isclose(seen.rate, species_rate(seen.sigma, LossConfig()), rtol=1e-5)
    assert 0.25 * SIZE < bound.sum() < 0.75 * SIZE


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_species_only_swap_sites(by_share, share):
    seen = by_share[share].crystals.atomic_numbers
    np.testing.assert_array_equal(np.sort(seen, 1), np.sort(GIVEN, 1))
    np.testing.assert_array_equal(seen == 0, GIVEN == 0)
    assert (seen != GIVEN).any()


def test_without_species_noise_they_stay(by_share):
    seen = by_share[1.0]
    still = seen.rate == 0.0
    assert still.any()
    np.testing.assert_array_equal(seen.crystals.atomic_numbers[still], GIVEN[still])


def test_the_papers_noise_is_drawn_by_level_and_replaces_species():
    seen = shown(LossConfig(coupled_noise=False, num_levels=5))
    levels = np.geomspace(10.0, 0.01, 5)
    assert np.abs(np.log(seen.sigma[:, None] / levels)).min(1).max() < 1e-4
    assert len(np.unique(np.round(np.log(seen.sigma), 3))) == 5
    assert (np.sort(seen.crystals.atomic_numbers, 1) != np.sort(GIVEN, 1)).any()


def test_a_share_of_the_noise_comes_from_the_window():
    inside = {}
    for share in (0.0, 0.5, 1.0):
        sigma = shown(LossConfig(window_share=share, window_min=0.5, window_max=0.6)).sigma
        inside[share] = np.mean((sigma > 0.5 - 1e-5) & (sigma < 0.6 + 1e-5))
    assert inside[0.0] < 0.2 and 0.3 < inside[0.5] < 0.75 and inside[1.0] == 1.0


def test_unknown_labels_pull_nothing():
    """The slope of the mean square over the known labels, times its weight; where there is none it is 0, not NaN."""
    labels = np.asarray(EXAMPLE.scalars).copy()
    labels[1::2] = np.nan

    @jax.jit
    def slope(labels):
        def loss(predicted):
            answers = nothing(STACKED, *BATCH.atomic_numbers.shape)
            model = KnownModel(STACKED, {**answers, "properties": predicted})
            weights, example = LossConfig(properties=2.0), Example(BATCH, labels)
            return cdvae_loss(model, weights, None, example, jax.random.key(0), True)[0]

        return jax.grad(loss)(jnp.ones_like(labels))

    expected = np.where(np.isnan(labels), 0.0, 2.0 * 2.0 * (1.0 - labels) / (SIZE / 2))
    np.testing.assert_allclose(slope(labels), expected, rtol=1e-5)
    assert not np.asarray(slope(np.full_like(labels, np.nan))).any()
