"""Noise on coordinates and species, against densities and loops written out."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdw_jax import geometry
from vdw_jax.diffusion import noise
from vdw_jax.types import BULK, SLAB

CELL = geometry.cell_from_parameters(jnp.array([[3.0, 4.0, 5.0]]), jnp.array([[80.0, 95.0, 110.0]]))
FLAT_CELL = geometry.cell_from_parameters(jnp.array([[3.0, 4.0, 20.0]]), jnp.array([[90.0, 90.0, 110.0]]))
KINDS = pytest.mark.parametrize("cell, periodicity", [(FLAT_CELL, SLAB), (CELL, BULK)], ids=["slab", "bulk"])
PERMUTE, RESAMPLE = jax.jit(noise.permute_species), jax.jit(noise.resample_species)
ASSIGN = jax.jit(noise.assign_species)
ALL = jnp.ones((1, 6), bool)


def pair(seed: int = 0, size: int = 6):
    """Clean positions and noisy ones some cells away; each [1, size, 3]."""
    rng = np.random.default_rng(seed)
    clean, noisy = rng.uniform(-5.0, 5.0, (2, 1, size, 3)).astype(np.float32)
    return jnp.asarray(clean), jnp.asarray(noisy)


def score(noisy, clean, cell, sigma, periodicity, reach: int):
    """Gradient of the log of a wrapped Gaussian, by autodiff over (2 reach + 1) images a period."""
    shifts = geometry.to_cartesian(jnp.asarray(geometry.image_offsets(periodicity, (reach,) * 3), jnp.float32), cell)

    def log_density(positions):
        images = positions - clean[0, :, None] - shifts[0]
        return jax.nn.logsumexp(-0.5 * jnp.sum(images**2, -1) / sigma**2, axis=-1).sum()

    return jax.grad(log_density)(noisy[0].reshape(-1, 1, 3))[:, 0]


@KINDS
@pytest.mark.parametrize("sigma", [0.05, 0.3, 0.8, 1.5])
def test_displacement_is_the_score_of_a_wrapped_gaussian(cell, periodicity, sigma):
    clean, noisy = pair()
    out = noise.wrapped_displacement(noisy, clean, ALL, cell, jnp.array([sigma]), periodicity)[0]
    expected = sigma**2 * score(noisy, clean, cell, sigma, periodicity, 8)
    np.testing.assert_allclose(out, expected, atol=2e-4)
    assert np.abs(expected).max() > 0.1


@pytest.mark.parametrize(
    "b, gamma, sigma", [(9.0, 120.0, 2.5), (9.0, 110.0, 2.7), (5.5, 120.0, 3.4), (9.0, 90.0, 4.0)]
)
def test_uniform_along_one_period_only(b, gamma, sigma):
    """Noise above one spacing and below the other, in oblique cells too."""
    cell = geometry.cell_from_parameters(jnp.array([[3.0, b, 20.0]]), jnp.array([[90.0, 90.0, gamma]]))
    clean, noisy = pair()
    out = noise.wrapped_displacement(noisy, clean, ALL, cell, jnp.array([sigma]), SLAB)[0]
    expected = sigma**2 * score(noisy, clean, cell, sigma, SLAB, 12)
    np.testing.assert_allclose(out, expected, atol=0.01)


@KINDS
def test_no_displacement_along_periods_for_large_noise(cell, periodicity):
    clean, noisy = pair()
    for sigma in (4.1, 10.0, 1000.0):
        out = noise.wrapped_displacement(noisy, clean, ALL, cell, jnp.array([sigma]), periodicity)
        assert jnp.abs(out[..., :2]).max() < 1e-5
        assert periodicity == SLAB or jnp.abs(out[..., 2]).max() < 1e-5


@pytest.mark.parametrize("sigma", [0.01, 0.5, 2.0, 30.0])
def test_displacement_along_the_normal_of_a_slab_is_clean_minus_noisy(sigma):
    clean, noisy = pair()
    out = noise.wrapped_displacement(noisy, clean, ALL, FLAT_CELL, jnp.array([sigma]), SLAB)
    np.testing.assert_allclose(out[..., 2], (clean - noisy)[..., 2], atol=2e-5)


def test_small_noise_goes_to_the_nearest_image():
    clean, shift = pair()[0], jnp.array([0.02, -0.01, 0.03])
    noisy = clean + shift + geometry.to_cartesian(jnp.array([[[2.0, -1.0, 3.0]]]), CELL)
    out = noise.wrapped_displacement(noisy, clean, ALL, CELL, jnp.array([0.02]), BULK)
    np.testing.assert_allclose(out, jnp.broadcast_to(-shift, out.shape), atol=1e-5)


def test_free_displacement_is_the_score_of_a_crystal_that_may_lie_anywhere():
    """Against the density summed over a fine grid of places, by autodiff; but for the mean, in the plane."""
    clean, noisy = pair(3, 4)
    mask, sigma = jnp.ones((1, 4), bool), 0.7
    fine = np.stack(np.meshgrid(np.arange(24), np.arange(24), [0], indexing="ij"), -1).reshape(-1, 3) / 24.0
    places = geometry.to_cartesian(jnp.asarray(fine, jnp.float32), FLAT_CELL)[0]
    images = geometry.to_cartesian(jnp.asarray(geometry.image_offsets(SLAB, (5, 5, 5)), jnp.float32), FLAT_CELL)[0]

    def log_density(positions):
        away = positions[None, :, None] - clean[0][None, :, None] - places[:, None, None] - images
        each = jax.nn.logsumexp(-0.5 * jnp.sum(away**2, -1) / sigma**2, axis=-1)
        return jax.nn.logsumexp(each.sum(-1))

    expected = sigma**2 * jax.grad(log_density)(noisy[0])
    expected = expected - expected.mean(0)
    out = noise.free_displacement(noisy, clean, mask, FLAT_CELL, jnp.array([sigma]), SLAB)[0]
    np.testing.assert_allclose(out, expected, atol=0.02)
    bound = noise.wrapped_displacement(noisy, clean, mask, FLAT_CELL, jnp.array([sigma]), SLAB)[0]
    assert jnp.abs(bound - bound.mean(0) - expected)[:, :2].max() > 0.2


@KINDS
def test_free_displacement_ignores_where_the_crystal_lies_and_padding(cell, periodicity):
    clean, noisy = pair()
    mask, sigma = ALL.at[0, 5].set(False), jnp.array([0.5])
    out = noise.free_displacement(noisy, clean, mask, cell, sigma, periodicity)
    places = geometry.to_cartesian(jnp.array([[[0.25, 0.5, 0.0 if periodicity == SLAB else 0.75]]]), cell)
    np.testing.assert_allclose(noise.free_displacement(noisy, clean + places, mask, cell, sigma, periodicity), out,
                               atol=1e-4)  # fmt: skip
    moved = noisy.at[0, 5].add(1.0)
    np.testing.assert_allclose(noise.free_displacement(moved, clean, mask, cell, sigma, periodicity), out, atol=1e-5)
    assert not out[0, 5].any()


def test_free_displacement_is_the_usual_one_for_small_noise():
    clean = pair()[0]
    noisy = clean + 0.05 * jax.random.normal(jax.random.key(0), clean.shape)
    free, bound = (
        noise.centre(move(noisy, clean, ALL, FLAT_CELL, jnp.array([0.05]), SLAB), ALL)
        for move in (noise.free_displacement, noise.wrapped_displacement)
    )
    np.testing.assert_allclose(free, bound, atol=1e-5)


NUMBERS = jnp.array([[1, 2, 3, 4, 0, 0], [5, 5, 6, 7, 7, 8]], jnp.int32)


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_permuting_keeps_counts_and_padding(rate):
    moved = 0
    for seed in range(20):
        out = PERMUTE(jax.random.key(seed), NUMBERS, jnp.array([rate, rate]))
        np.testing.assert_array_equal(jnp.sort(out), jnp.sort(NUMBERS))
        np.testing.assert_array_equal(out == 0, NUMBERS == 0)
        moved += int((out != NUMBERS).sum())
    assert (moved == 0) == (rate == 0.0)


def test_each_crystal_has_its_own_rate():
    numbers = jnp.broadcast_to(jnp.arange(1, 13), (2, 12))
    out = PERMUTE(jax.random.key(0), numbers, jnp.array([0.0, 1.0]))
    np.testing.assert_array_equal(out[0], numbers[0])
    assert (out[1] != numbers[1]).sum() > 6


def test_rate_one_shuffles_uniformly():
    """Every one of 4! orders is as likely."""
    size = 24_000
    numbers = jnp.broadcast_to(NUMBERS[0], (size, 6))
    out = PERMUTE(jax.random.key(0), numbers, jnp.ones(size))
    _, counts = np.unique(np.asarray(out), axis=0, return_counts=True)
    assert len(counts) == 24
    np.testing.assert_allclose(counts, size / 24, rtol=0.15)  # 5 standard deviations


def test_rate_is_the_share_of_shuffled_atoms():
    """With 2 atoms a shuffle needs both and swaps half the time."""
    size = 20_000
    numbers = jnp.broadcast_to(jnp.array([1, 2, 0]), (size, 3))
    out = PERMUTE(jax.random.key(0), numbers, jnp.full(size, 0.6))
    np.testing.assert_allclose((out[:, 0] == 2).mean(), 0.6**2 / 2, atol=0.015)


@pytest.mark.parametrize("sigma", [0.0, 0.5, 4.0])
def test_resampled_shares(sigma):
    size, shares = 40_000, jnp.zeros((1, 100)).at[0, jnp.array([0, 5, 41])].set(jnp.array([0.2, 0.3, 0.5]))
    numbers = jnp.full((1, size), 6, jnp.int32).at[:, -10:].set(0)
    out = RESAMPLE(jax.random.key(0), numbers, jnp.array([sigma]), shares)
    found = jnp.bincount(out[0, :-10], length=101)[1:] / (size - 10)
    expected = (jax.nn.one_hot(5, 100) + sigma * shares[0]) / (1 + sigma)
    np.testing.assert_allclose(found, expected, atol=0.012)
    assert not out[0, -10:].any()


def greedy(logits: np.ndarray, slots: np.ndarray) -> np.ndarray:
    """The largest log-probability of any free atom and any element left, again and again."""
    score = np.asarray(jax.nn.log_softmax(logits))
    left, free = [int(s) for s in slots if s], [atom for atom, s in enumerate(slots) if s]
    chosen = np.zeros_like(slots)
    while free:
        atom, number = max(((a, n) for a in free for n in left), key=lambda pair: score[pair[0], pair[1] - 1])
        chosen[atom] = number
        free.remove(atom)
        left.remove(number)
    return chosen


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_assignment_is_greedy_and_keeps_the_slots(scale):
    slots = np.array([[3, 3, 7, 1, 0, 0], [8, 8, 8, 8, 2, 90], [4, 0, 0, 0, 0, 0]], np.int32)
    for seed in range(5):
        logits = scale * jax.random.normal(jax.random.key(seed), (3, 6, 100))
        out = np.asarray(ASSIGN(logits, jnp.asarray(slots)))
        np.testing.assert_array_equal(np.sort(out), np.sort(slots))
        np.testing.assert_array_equal(out == 0, slots == 0)
        np.testing.assert_array_equal(out, [greedy(*crystal) for crystal in zip(logits, slots, strict=True)])


def test_assignment_takes_the_obvious():
    wanted = jnp.array([[7, 3, 1, 3, 0]])
    logits = 20.0 * jax.nn.one_hot(wanted - 1, 100) + jax.random.normal(jax.random.key(0), (1, 5, 100))
    np.testing.assert_array_equal(ASSIGN(logits, jnp.array([[1, 3, 3, 7, 0]])), wanted)


def test_preconditioning():
    """No noise: the input itself; only noise: the network alone; unit variance in and out in between."""
    skip, out, scale = noise.preconditioning(jnp.array([0.0, 1.5, 1e4]), jnp.full(3, 2.0))
    np.testing.assert_allclose(skip, [1.0, 0.64, 0.0], atol=1e-6)
    np.testing.assert_allclose(out, [0.0, 1.2, 2.0], atol=1e-6)
    np.testing.assert_allclose(scale, [1.0, 0.8, 2e-4], atol=1e-6)


def test_centre():
    mask = NUMBERS > 0
    vectors = jax.random.normal(jax.random.key(0), (2, 6, 3)) + 5.0
    out = noise.centre(vectors, mask)
    np.testing.assert_allclose(out.sum(1), 0.0, atol=1e-5)
    assert not np.asarray(out)[~np.asarray(mask)].any()
    np.testing.assert_allclose(out[:, 1] - out[:, 0], vectors[:, 1] - vectors[:, 0], atol=1e-5)
    assert not noise.centre(vectors, jnp.zeros_like(mask)).any()


def test_geometric_levels():
    levels = noise.geometric_levels(10.0, 0.01, 7)
    assert levels.dtype == np.float32 and len(levels) == 7
    np.testing.assert_allclose(levels[[0, -1]], [10.0, 0.01], rtol=1e-6)
    np.testing.assert_allclose(levels[1:] / levels[:-1], 10 ** (-0.5), rtol=1e-5)
