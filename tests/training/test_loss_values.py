"""Each part of the first stage's loss, and the noise it draws, against values worked out by hand."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.training.known import CONFIG, STACKED, crystals, look
from vdw_jax.diffusion import noise
from vdw_jax.model.cdvae import CrystalHeads
from vdw_jax.training.losses import (
    Example,
    LossConfig,
    draw_conditions,
    noise_level,
    species_rate,
)
from vdw_jax.types import SLAB

NUMBERS = [[8, 8, 16, 0, 0], [1, 34, 34, 34, 0]]
"""Two formulas of three and four atoms, hydrogen among them."""


def at(sigma: float, **more) -> LossConfig:
    """All examples at one noise."""
    return LossConfig(
        window_share=1.0, window_max=sigma * 1.0001, window_min=sigma / 1.0001, **more
    )


def test_the_published_settings():
    """Of CDVAE (its Table 4) and of the paper."""
    weights = LossConfig()
    assert (weights.num_atoms, weights.lattice, weights.composition) == (1, 10, 1)
    assert (weights.coordinates, weights.species, weights.kl, weights.properties) == (
        10,
        1,
        0.01,
        1,
    )
    assert (weights.sigma_max, weights.sigma_min, weights.num_levels) == (10, 0.01, 50)
    assert (weights.species_sigma_max, weights.species_sigma_min) == (5, 0.01)
    assert weights.condition_dropout == 0.5


def test_levels_run_from_the_largest_noise_to_the_smallest():
    weights = LossConfig(sigma_max=8.0, sigma_min=0.02)
    levels = noise_level(jnp.array([8.0, 0.4, 0.02]), weights)
    np.testing.assert_allclose(levels, [0.0, 0.5, 1.0], atol=1e-6)


def test_species_are_shuffled_at_the_rate_of_their_own_noise():
    """At both ends, and in the middle of the logarithm."""
    weights = LossConfig(
        sigma_max=8.0, sigma_min=0.02, species_sigma_max=4.0, species_sigma_min=0.01
    )
    rate = species_rate(jnp.array([8.0, 0.4, 0.02]), weights)
    np.testing.assert_allclose(rate, [4 / 5, 0.2 / 1.2, 0.01 / 1.01], rtol=1e-5)
    own = dataclasses.replace(weights, coupled_noise=False)
    assert not species_rate(jnp.array([8.0, 0.4]), own).any()


# Conditions.


@pytest.fixture(scope="module")
def drawn():
    """Conditions of 20,000 crystals, each dropped with 0.3, all with 0.2; a quarter of the labels are unknown."""
    size = 20_000
    numbers = jnp.asarray(np.resize(np.array(NUMBERS, np.int32), (size, 5)))
    batch = dataclasses.replace(crystals(NUMBERS, 1), atomic_numbers=numbers)
    scalars = jnp.stack([jnp.full(size, 7.0), jnp.full(size, -2.0)], 1)
    scalars = scalars.at[::2, 0].set(jnp.nan)
    found = jax.jit(draw_conditions)(Example(batch, scalars), jax.random.key(0), 0.3, 0.2)
    return jax.tree.map(np.asarray, found), np.asarray(scalars)


def test_conditions_are_kept_as_often_as_asked(drawn):
    found, scalars = drawn
    kept = 0.7 * 0.8
    assert found.scalar_mask.shape == scalars.shape
    assert found.composition_mask.shape == scalars.shape[:1]
    np.testing.assert_allclose(found.scalar_mask[1::2, 0].mean(), kept, atol=0.02)
    np.testing.assert_allclose(found.scalar_mask[:, 1].mean(), kept, atol=0.015)
    np.testing.assert_allclose(found.composition_mask.mean(), kept, atol=0.015)
    # All are dropped together in the free share, and else on their own.
    none = ~found.scalar_mask[:, 1] & ~found.composition_mask
    np.testing.assert_allclose(none.mean(), 0.2 + 0.8 * 0.3**2, atol=0.015)


def test_an_unknown_label_is_never_asked_for(drawn):
    found, scalars = drawn
    assert not found.scalar_mask[np.isnan(scalars)].any()
    np.testing.assert_array_equal(found.scalars, np.where(found.scalar_mask, scalars, 0.0))


def test_the_composition_is_the_share_of_each_element(drawn):
    found, _ = drawn
    expected = np.zeros((2, 100))
    expected[0, [7, 15]] = 2 / 3, 1 / 3
    expected[1, [0, 33]] = 1 / 4, 3 / 4
    np.testing.assert_allclose(found.composition[:2], expected, atol=1e-6)


def test_the_composition_of_no_atoms_is_zero():
    empty = crystals([[0, 0, 0]], 1)
    found = draw_conditions(Example(empty, jnp.zeros((1, 1))), jax.random.key(0), 0.0)
    assert not found.composition.any()


def test_without_dropout_every_condition_is_there():
    example = Example(crystals(NUMBERS, 256), jnp.ones((256, 2)))
    found = draw_conditions(example, jax.random.key(0), 0.0)
    assert found.scalar_mask.all() and found.composition_mask.all()
    assert not draw_conditions(example, jax.random.key(0), 0.0, 1.0).composition_mask.any()


# Latent and heads.


@pytest.fixture(scope="module")
def answered():
    """512 crystals and answers whose errors are known; every second label is unknown."""
    size, dim = 512, CONFIG.latent_dim
    batch = crystals(NUMBERS, size)
    # Heights from -1 to 2 Angstrom: with |a| = 4.0 and |b| = 4.2 the lattice's targets are (0, 1, -6, 0, 0, 0).
    height = (
        jnp.where(batch.atom_mask, jnp.linspace(0, 1, 5), 0.0).at[:, 0].set(-1.0).at[:, 1].set(2.0)
    )
    batch = dataclasses.replace(batch, positions=batch.positions.at[..., 2].set(height))
    lattice = jnp.tile(jnp.array([0.4, 1.4, -5.6, 0.4, 0.4, 0.4]), (size, 1))
    # Sure of the right composition, and that there are three atoms: right for half of them.
    shares = np.full((2, 100), 1e-9)
    shares[0, [7, 15]] = 2 / 3, 1 / 3
    shares[1, [0, 33]] = 1 / 4, 3 / 4
    composition = jnp.tile(jnp.log(jnp.asarray(shares, jnp.float32)), (size // 2, 1))
    num_atoms = jnp.full((size, CONFIG.max_atoms + 1), -50.0).at[:, 3].set(0.0).at[:, 4].set(-1.0)
    # Padding is told to be element 100 for certain: it must not count. Sulfur is taken for oxygen.
    logits = jnp.zeros((size, 5, 100)).at[:, :, 7].set(jnp.log(2.0))
    logits = jnp.where(batch.atom_mask[..., None], logits, 50.0 * jax.nn.one_hot(99, 100))
    scalars = jnp.full((size, 1), 0.5).at[1::2].set(jnp.nan)
    return look(
        batch,
        LossConfig(num_atoms=2.0, kl=0.5, stack=3.0),
        scalars,
        species=logits,
        encode=(jnp.full((size, dim), 0.7), jnp.full((size, dim), jnp.log(0.3))),
        heads=CrystalHeads(num_atoms, lattice, composition),
        properties=jnp.full((size, 1), 3.5),
    )


def test_the_latent_is_drawn_from_what_the_encoder_says(answered):
    np.testing.assert_allclose(answered.latent.mean(), 0.7, atol=0.03)
    np.testing.assert_allclose(answered.latent.std(), 0.3**0.5, rtol=0.03)


def test_kl_divergence_of_two_gaussians(answered):
    """KL(N(m, v) || N(0, 1)) = (v + m^2 - 1 - log v) / 2 a dimension."""
    expected = CONFIG.latent_dim * (0.3 + 0.7**2 - 1 - np.log(0.3)) / 2
    np.testing.assert_allclose(answered.parts["kl"], expected, rtol=1e-5)


def test_number_of_atoms(answered):
    """Odds e to 1 for three, where half have four."""
    expected = np.log(1 + np.exp(-1)) + 0.5
    np.testing.assert_allclose(answered.parts["num_atoms"], expected, rtol=1e-5)
    np.testing.assert_allclose(answered.parts["num_atoms_accuracy"], 0.5)


def test_lattice(answered):
    """0.4 standard deviations off in everything; those of the lengths are 0.2, 0.2 and 1 Angstrom."""
    np.testing.assert_allclose(answered.parts["lattice"], 0.16, rtol=1e-3)
    np.testing.assert_allclose(answered.parts["lattice_error_angstrom"], 0.4 * 1.4 / 3, rtol=1e-3)


def test_composition(answered):
    """The right shares cost their entropy, and are off by nothing."""
    shares = np.array([2 / 3, 1 / 3]), np.array([1 / 4, 3 / 4])
    entropy = np.mean([-(p * np.log(p)).sum() for p in shares])
    np.testing.assert_allclose(answered.parts["composition"], entropy, rtol=1e-4)
    np.testing.assert_allclose(answered.parts["composition_error"], 0.0, atol=1e-5)


def test_knowing_no_composition_costs_the_logarithm_of_the_elements():
    found = look(crystals(NUMBERS, 2)).parts
    np.testing.assert_allclose(found["composition"], np.log(100), rtol=1e-5)
    np.testing.assert_allclose(found["composition_error"], 2 * 0.98, rtol=1e-5)
    np.testing.assert_allclose(found["num_atoms"], np.log(CONFIG.max_atoms + 1), rtol=1e-5)
    np.testing.assert_allclose(found["kl"], 0.0, atol=1e-6)


def test_species_of_atoms_alone(answered):
    """Two oxygens of seven atoms at 2 / 101, the others at 1 / 101; padding, surely wrong, costs nothing."""
    expected = np.log(101) - 2 / 7 * np.log(2)
    np.testing.assert_allclose(answered.parts["species"], expected, rtol=1e-5)
    np.testing.assert_allclose(answered.parts["species_accuracy"], 2 / 7, rtol=1e-5)


def test_the_right_species_cost_nothing():
    """Hydrogen and the last element as well."""
    batch = crystals([[1, 100, 2, 0, 0]], 2)
    found = look(batch, species=100.0 * jax.nn.one_hot(batch.atomic_numbers - 1, 100)).parts
    np.testing.assert_allclose(found["species"], 0.0, atol=1e-6)
    np.testing.assert_allclose(found["species_accuracy"], 1.0)


def test_properties_of_known_labels_alone(answered):
    """Labels come standardised: 0.5 is 3 less than was said."""
    np.testing.assert_allclose(answered.parts["properties"], 3.0**2, rtol=1e-5)


def test_without_any_label_properties_cost_nothing():
    found = look(crystals(NUMBERS, 2), properties=jnp.full((2, 1), 3.5)).parts
    assert found["properties"] == 0.0


def test_the_total_weighs_the_parts(answered):
    weights = {
        "num_atoms": 2,
        "lattice": 10,
        "composition": 1,
        "coordinates": 10,
        "species": 1,
        "kl": 0.5,
    }
    weights["properties"] = 1
    total = sum(weight * answered.parts[name] for name, weight in weights.items())
    np.testing.assert_allclose(answered.parts["loss"], total, rtol=1e-5)
    assert "stack" not in answered.parts


def test_the_stack_has_its_part_where_there_is_a_head():
    batch = crystals(NUMBERS, 2)
    with_head, without = (
        look(batch, LossConfig(stack=3.0), config=config).parts for config in (STACKED, CONFIG)
    )
    assert with_head["stack"] > 1.0
    np.testing.assert_allclose(
        with_head["loss"] - without["loss"], 3.0 * with_head["stack"], rtol=1e-4
    )


# Noise.


SIZE = 4096


@pytest.fixture(scope="module")
def noised():
    """Slabs of three and four atoms, heights of 4 Angstrom spread, as the model takes them to have."""
    batch = crystals(NUMBERS, SIZE, spread=4.0)
    return batch, look(batch, at(0.2))


def moved(batch, seen) -> np.ndarray:
    """Noisy minus clean, in units of the noise."""
    return (seen.crystals.positions - np.asarray(batch.positions)) / seen.sigma[:, None, None]


def test_noise_has_the_width_it_is_said_to_have(noised):
    """Of n atoms, whose mean stays, a share (n - 1) / n of the variance."""
    batch, seen = noised
    np.testing.assert_allclose(seen.sigma, 0.2, rtol=1e-3)
    step, mask = moved(batch, seen), np.asarray(batch.atom_mask)
    for row, count in ((0, 3), (1, 4)):
        variance = (step[row::2][mask[row::2]] ** 2).mean()
        np.testing.assert_allclose(variance, (count - 1) / count, rtol=0.04)
    np.testing.assert_allclose(step.sum(1), 0.0, atol=2e-4)
    assert not seen.crystals.positions[~mask].any()


def test_noise_is_independent_of_direction_and_atom(noised):
    batch, seen = noised
    step = moved(batch, seen)[::2, :3].reshape(-1, 9)
    expected = np.kron(np.eye(3) - 1 / 3, np.eye(3))
    np.testing.assert_allclose(step.T @ step / len(step), expected, atol=0.07)


def test_the_right_output_gives_the_clean_positions(noised):
    """D(x) = c_skip x + c_out F(x), Eq. 7 of Karras et al.; in the plane c_skip is 1, along the normal EDM's."""
    batch, seen = noised
    sigma, spread = 0.2, np.array([1.0, 1.0, 4.0])
    skip = np.array([1.0, 1.0, 4.0**2 / (4.0**2 + sigma**2)])
    out = sigma * spread / np.sqrt(sigma**2 + spread**2)
    mask = np.asarray(batch.atom_mask)
    clean, noisy = (
        np.asarray(noise.centre(jnp.asarray(x), batch.atom_mask))
        for x in (batch.positions, seen.crystals.positions)
    )
    answer = skip * noisy + out * seen.wanted
    np.testing.assert_allclose(answer[mask], clean[mask], atol=2e-3)


@pytest.mark.parametrize("sigma", [0.3, 4.0, 9.0])
def test_along_the_normal_of_gaussian_heights_nothing_is_left_to_learn(sigma):
    """EDM's coefficients leave an output of unit variance that the input tells nothing of, at every noise."""
    count = 4
    batch = crystals([[8, 8, 8, 8]], SIZE, spread=4.0)
    seen = look(batch, at(sigma))
    noisy = np.asarray(noise.centre(jnp.asarray(seen.crystals.positions), batch.atom_mask))[..., 2]
    wanted = seen.wanted[..., 2]
    np.testing.assert_allclose((wanted**2).mean(), (count - 1) / count, rtol=0.04)
    correlation = np.corrcoef(wanted.ravel(), noisy.ravel())[0, 1]
    assert abs(correlation) < 0.025


def test_saying_nothing_costs_the_variance_of_the_noise():
    """The paper's network answers in units of the noise: 0 costs (n - 1) / n an atom, whatever the noise."""
    config = dataclasses.replace(CONFIG, noise_conditioned=False)
    for sigma in (0.02, 0.2):
        seen = look(crystals(NUMBERS, SIZE), at(sigma), config=config)
        np.testing.assert_allclose(seen.parts["coordinates"], (2 + 3) / 7, rtol=0.03)


def test_a_crystal_that_may_lie_anywhere_has_another_target():
    batch = crystals(NUMBERS, 64)
    for choice, displacement in (
        (False, noise.wrapped_displacement),
        (True, noise.free_displacement),
    ):
        seen = look(batch, at(0.7, free_translation=choice))
        noisy, sigma = jnp.asarray(seen.crystals.positions), jnp.asarray(seen.sigma)
        target = jax.jit(displacement, static_argnums=5)(
            noisy, batch.positions, batch.atom_mask, batch.cell, sigma, SLAB
        )
        target = np.asarray(noise.centre(target, batch.atom_mask))[..., :2]
        out = 0.7 / (1 + 0.7**2) ** 0.5
        np.testing.assert_allclose(out * seen.wanted[..., :2], target, atol=2e-3)


def test_noise_is_uniform_in_the_logarithm():
    sigma = look(crystals(NUMBERS, SIZE)).sigma
    level = np.log(sigma / 10.0) / np.log(0.01 / 10.0)
    counts, _ = np.histogram(level, 8, (0.0, 1.0))
    assert counts.sum() == SIZE
    np.testing.assert_allclose(counts / SIZE, 1 / 8, atol=0.025)


def test_free_rates_are_uniform_with_a_twelfth_at_each_end():
    rate = look(crystals(NUMBERS, SIZE), LossConfig(free_species_share=1.0)).rate
    for end in (0.0, 1.0):
        np.testing.assert_allclose((rate == end).mean(), 1 / 12, atol=0.02)
    between = rate[(rate > 0) & (rate < 1)]
    counts, _ = np.histogram(between, 5, (0.0, 1.0))
    np.testing.assert_allclose(counts / len(between), 0.2, atol=0.03)


@pytest.fixture(scope="module")
def papers():
    """The paper's noise: drawn from levels, for coordinates and species on their own."""
    shares = jnp.log(jnp.full(100, 1e-12).at[jnp.array([4, 9])].set(0.5))
    size = SIZE
    heads = CrystalHeads(
        jnp.zeros((size, CONFIG.max_atoms + 1)), jnp.zeros((size, 6)), jnp.tile(shares, (size, 1))
    )
    return look(crystals(NUMBERS, size), LossConfig(coupled_noise=False, num_levels=5), heads=heads)


def test_the_papers_levels(papers):
    """All five, the outer two half as often; those of the species independent of the coordinates'."""
    expected = np.geomspace(10.0, 0.01, 5)
    nearest = np.abs(np.log(papers.sigma[:, None] / expected)).argmin(1)
    np.testing.assert_allclose(papers.sigma, expected[nearest], rtol=1e-4)
    np.testing.assert_allclose(
        np.bincount(nearest) / SIZE, [1 / 8, 1 / 4, 1 / 4, 1 / 4, 1 / 8], atol=0.025
    )
    spreads = np.geomspace(5.0, 0.01, 5)
    rates = spreads / (1 + spreads)
    own = np.abs(papers.rate[:, None] - rates).argmin(1)
    np.testing.assert_allclose(papers.rate, rates[own], rtol=1e-4)
    np.testing.assert_allclose(
        np.bincount(own) / SIZE, [1 / 8, 1 / 4, 1 / 4, 1 / 4, 1 / 8], atol=0.025
    )
    assert abs(np.corrcoef(own, nearest)[0, 1]) < 0.06


def test_the_papers_species_come_from_the_predicted_composition(papers):
    given = np.asarray(crystals(NUMBERS, SIZE).atomic_numbers)
    seen = papers.crystals.atomic_numbers
    replaced = seen != given
    assert set(np.unique(seen[replaced])) == {5, 10}
    assert not seen[given == 0].any()
    for rate in np.unique(papers.rate):
        chosen = (papers.rate == rate)[:, None] & (given > 0)
        np.testing.assert_allclose(replaced[chosen].mean(), rate, atol=0.05)


def test_dropout_keys_only_in_training_and_all_distinct():
    batch = crystals(NUMBERS, 2)
    assert look(batch).dropout_keys == (None, None)
    encoder, denoiser = look(batch, train=True).dropout_keys
    assert encoder.shape == denoiser.shape == (2,)
    data = np.concatenate([jax.random.key_data(encoder), jax.random.key_data(denoiser)])
    assert len(np.unique(data, axis=0)) == 4
