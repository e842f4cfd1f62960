"""Candidates: exact counts, and the same whatever runs beside them."""

import dataclasses
import functools
import itertools
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import j2dh8
from tests.tiny import no_conditions, tiny_batch, tiny_config
from vdw_jax.design import generate as module
from vdw_jax.design.generate import generate, reconstruct, slots_from_shares
from vdw_jax.design.request import make_request
from vdw_jax.diffusion.samplers import SAMPLERS, make_schedule
from vdw_jax.model.cdvae import CDVAE
from vdw_jax.model.config import standardise
from vdw_jax.training.devices import data_mesh
from vdw_jax.training.losses import LossConfig, species_rate


@pytest.fixture(scope="module")
def found(trained):
    """Five candidates, two at a time."""
    return generate(trained, make_request(trained, "GaInSSe2"), 5, 0, chunk=2)


def test_counts_of_a_formula_hold_exactly(found):
    for numbers in found.crystals.atomic_numbers:
        assert Counter(numbers.tolist()) == {31: 2, 49: 2, 16: 2, 34: 4}
    assert np.isfinite(found.crystals.positions).all()


def conditions_of(trained, request):
    """The request as `propose` takes it, standardised."""
    return module._as_conditions(request, standardise(request.scalar_low, trained.model.config.scalars))


def test_free_counts_are_chosen_by_the_model(trained, found):
    request = make_request(trained, "GaInSSe2", hold_counts=False)
    conditions = conditions_of(trained, request)
    assert conditions.composition_mask.all()
    free = generate(trained, request, 4, 0, chunk=2).crystals
    assert set((free.atomic_numbers > 0).sum(1).tolist()) <= set(trained.atom_counts)
    assert np.abs(free.positions - found.crystals.positions[:4]).max() > 0.1


def test_candidates_differ_and_do_not_depend_on_what_runs_beside_them(trained, found):
    again = generate(trained, make_request(trained, "GaInSSe2"), 3, 0, chunk=3)
    np.testing.assert_array_equal(again.crystals.atomic_numbers, found.crystals.atomic_numbers[:3])
    np.testing.assert_allclose(again.crystals.positions, found.crystals.positions[:3], atol=1e-4)
    assert np.abs(found.crystals.positions[0] - found.crystals.positions[1]).max() > 0.1
    other = generate(trained, make_request(trained, "GaInSSe2"), 2, 1, chunk=2)
    assert np.abs(other.crystals.positions - found.crystals.positions[:2]).max() > 0.1


def test_other_requests_and_seeds_do_not_recompile(trained, found):
    del found
    before = module.place._cache_size()
    generate(trained, make_request(trained, "Ga2S2", {"energy_ev": 0.0}), 4, 7, chunk=2)
    assert module.place._cache_size() == before


def test_samplers_differ_in_positions_and_share_what_is_compiled(trained, found):
    """The Langevin ones with each other, and so do those that look back."""
    request, compiled, positions = make_request(trained, "GaInSSe2"), module.place._cache_size(), {}
    for sampler in SAMPLERS:
        schedule = trained.schedule(trained.schedule().num_calls, sampler)
        crystals = generate(trained, request, 2, 0, schedule, chunk=2).crystals
        for numbers in crystals.atomic_numbers:
            assert Counter(numbers.tolist()) == {31: 2, 49: 2, 16: 2, 34: 4}
        assert np.isfinite(crystals.positions).all()
        positions[sampler] = crystals.positions
    assert module.place._cache_size() == compiled + 1
    np.testing.assert_array_equal(positions[trained.sampler], found.crystals.positions[:2])
    for first, second in itertools.combinations(positions.values(), 2):
        assert np.abs(first - second).max() > 1e-3


def test_nothing_asked_gives_sizes_and_elements_of_the_data(trained):
    crystals = generate(trained, make_request(trained), 4, 0, chunk=4).crystals
    assert set((crystals.atomic_numbers > 0).sum(1).tolist()) <= set(trained.atom_counts)
    assert set(crystals.atomic_numbers.ravel().tolist()) <= {0, *trained.elements}
    assert not crystals.positions[crystals.atomic_numbers == 0].any()


def sure_of_species(trained, sharpness: float = 1e3) -> dict:
    """Weights with which no species is in doubt: then the property alone decides."""
    head = jax.tree.map(lambda x: sharpness * x, trained.weights["model"]["stack_species"])
    return trained.weights | {"model": trained.weights["model"] | {"stack_species": head}}


def test_screening_brings_the_property_closer(trained):
    weights = sure_of_species(trained)

    def predicted(target: float, pool: int) -> np.ndarray:
        request = make_request(trained, scalars={"energy_ev": target})
        proposal = module.propose(
            weights, conditions_of(trained, request), jnp.zeros(1), jnp.asarray(request.slots), jnp.arange(8),
            jax.random.key(0), model=trained.model, generator=trained.generator, atom_counts=trained.atom_counts,
            elements=trained.elements, system=(), pool=pool,
        )  # fmt: skip
        head = trained.model.apply({"params": trained.weights["model"]}, proposal.latent, method="properties")
        return np.asarray(head[:, 0]) * 0.2 + 0.1

    target = float(np.median(predicted(0.0, 1)))
    error = {pool: np.abs(predicted(target, pool) - target).mean() for pool in (1, 100)}
    assert error[100] < 0.2 * error[1]


def test_screening_leaves_out_what_is_in_doubt(trained):
    """The stack head's least likely species are likelier in the best of many than in any one."""
    config, params = trained.model.config, {"params": trained.weights["model"]}

    def doubt(pool: int) -> float:
        request = make_request(trained)
        latent = module.propose(
            trained.weights, conditions_of(trained, request), jnp.zeros(1), jnp.asarray(request.slots), jnp.arange(8),
            jax.random.key(0), model=trained.model, generator=trained.generator, atom_counts=trained.atom_counts,
            elements=trained.elements, system=(), pool=pool,
        ).latent  # fmt: skip
        fused = trained.model.apply(params, latent, module._no_conditions(len(config.scalars), 8), method="fuse")
        sizes = trained.model.apply(params, fused, method="heads").num_atoms.argmax(-1)[:, None]
        likely = jax.nn.softmax(trained.model.apply(params, fused, method="stack").species).max(-1)
        return float(jnp.mean(jnp.sum((1 - likely) * (jnp.arange(config.max_atoms) < sizes), -1)))

    assert doubt(100) < doubt(1)


def test_among_latents_in_no_doubt_none_is_preferred(trained):
    """Or what is easy to be sure of would be all that comes."""
    request = make_request(trained)
    latents = jax.random.normal(jax.random.key(0), (8, trained.model.config.latent_dim))

    def mismatch(sharpness: float) -> np.ndarray:
        params = {"params": sure_of_species(trained, sharpness)["model"]}
        asked = conditions_of(trained, request)
        return np.asarray(module._mismatch(trained.model, params, latents, asked, jnp.asarray(request.slots), ()))

    assert (mismatch(1.0) > module.MOST_DOUBT).any()
    np.testing.assert_array_equal(mismatch(1e4), 0.0)


def test_a_range_spreads_the_aims(trained):
    """Each candidate has an aim of its own, drawn by its key; the latents follow it."""
    weights = sure_of_species(trained)

    def predicted(low: float, high: float) -> np.ndarray:
        request = make_request(trained, scalars={"energy_ev": (low, high)})
        found = generate(trained, request, 8, 0, trained.schedule(2), chunk=8)
        head = module.propose(
            weights, conditions_of(trained, request),
            jnp.asarray((request.scalar_high - request.scalar_low) / 0.2, jnp.float32), jnp.asarray(request.slots),
            jnp.arange(8), jax.random.key(0), model=trained.model,
            generator=trained.generator, atom_counts=trained.atom_counts, elements=trained.elements, system=(),
            pool=100,
        ).latent  # fmt: skip
        assert np.isfinite(found.crystals.positions).all()
        head = trained.model.apply({"params": trained.weights["model"]}, head, method="properties")
        return np.asarray(head[:, 0]) * 0.2 + 0.1

    middle = float(np.median(predicted(0.0, 0.0)))
    narrow, wide = predicted(middle, middle), predicted(middle - 0.1, middle + 0.1)
    assert np.ptp(wide) > 2 * np.ptp(narrow)
    assert (np.abs(wide - middle) < 0.12).all()


def test_a_chemical_system_is_all_that_is_in_the_cell(trained):
    found = generate(trained, make_request(trained, system="Ga-Se"), 6, 0, chunk=2).crystals.atomic_numbers
    assert set(found.ravel().tolist()) <= {0, 31, 34}
    assert np.mean([{31, 34} <= set(row.tolist()) for row in found]) > 0.5


def test_reconstruction_and_bulk_run(trained, bulk):
    batch = tiny_batch(size=3)
    assert reconstruct(trained, batch, 0, chunk=2).crystals.positions.shape == (3, 10, 3)
    found = generate(bulk, make_request(bulk, "Ga2S2"), 2, 0, chunk=2)
    fractional = np.linalg.solve(np.swapaxes(found.crystals.cell, 1, 2), np.swapaxes(found.crystals.positions, 1, 2))
    assert -1e-4 < fractional.min() <= fractional.max() < 1 + 1e-4


def test_a_model_that_knows_no_property():
    """Nothing is predicted; on several devices no array of no size is split (JAX 0.11 crashes on GPUs)."""
    model, batch = CDVAE(dataclasses.replace(tiny_config(), scalars=())), tiny_batch(size=2)
    params = jax.jit(lambda key: model.init(key, batch, no_conditions(2, 0), jnp.ones(2)))(jax.random.key(0))
    latent, noise = jnp.zeros((2, model.config.latent_dim)), LossConfig(**j2dh8.get_config().loss)
    schedule = make_schedule("dpm_solver", noise.sigma_max, noise.sigma_min, 3)
    inputs = (
        params["params"], module.Proposal(latent, latent, batch.atomic_numbers, batch.cell), jnp.arange(2),
        jax.random.key(1), schedule,
    )  # fmt: skip
    images, mesh = model.config.image_range, data_mesh()
    found = module.place(*inputs, model=model, weights=noise, images=images, mesh=mesh)
    assert found.predicted.shape == (2, 0)
    assert np.isfinite(found.crystals.positions).all()
    _, predicted = jax.eval_shape(functools.partial(module._place, model, noise), params["params"], *_reordered(inputs))
    assert predicted.shape == (2, 1)


def _reordered(inputs):
    _, proposal, ids, key, schedule = inputs
    return key, schedule, proposal, ids


@pytest.mark.parametrize("size", [1, 7, 8, 10])
def test_whole_atoms_by_largest_remainder(size):
    shares = np.zeros(100, np.float32)
    shares[[30, 48, 15, 33]] = 0.21, 0.19, 0.27, 0.33
    exact = shares * size
    counts = np.floor(exact)
    for index in np.argsort(-(exact - counts))[: int(size - counts.sum())]:
        counts[index] += 1
    expected = np.repeat(np.arange(1, 101), counts.astype(int))
    slots = slots_from_shares(jnp.asarray(shares), jnp.asarray(size), 10)
    np.testing.assert_array_equal(slots, np.pad(expected, (0, 10 - size)))


def test_species_noise_follows_that_of_the_coordinates(trained):
    noise = trained.noise
    rate = species_rate(jnp.array([noise.sigma_max, noise.sigma_min]), noise)
    np.testing.assert_allclose(rate, [5 / 6, 0.01 / 1.01], rtol=1e-4)
