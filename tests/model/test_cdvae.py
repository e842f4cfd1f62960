"""The whole model on a slab: what its latent ignores, what its displacements follow, and its lattice."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tests.tiny import no_conditions, tiny_batch, tiny_config, tiny_params
from vdw_jax import geometry
from vdw_jax.model.cdvae import CDVAE, cell_from_targets, lattice_targets
from vdw_jax.types import BULK, SLAB, CrystalBatch

MODEL = CDVAE(tiny_config(SLAB))
TURN = Rotation.from_euler("z", 0.7).as_matrix().astype(np.float32)
PERMUTATION = np.array([3, 0, 7, 5, 1, 6, 2, 4, 8, 9])
FUSED = jax.random.normal(jax.random.key(5), (8,))
ORIGIN = np.array([1.3, -0.6, 2.1], np.float32)


def turned(crystal: CrystalBatch, matrix: np.ndarray) -> CrystalBatch:
    """Turned or mirrored; a slab's c stays (0, 0, c), nothing reads it."""
    return dataclasses.replace(crystal, positions=crystal.positions @ matrix.T, cell=crystal.cell @ matrix.T)


def moved(crystal: CrystalBatch, shift: np.ndarray) -> CrystalBatch:
    """Real atoms shifted."""
    positions = crystal.positions + jnp.where(crystal.atom_mask[..., None], jnp.asarray(shift, jnp.float32), 0.0)
    return dataclasses.replace(crystal, positions=positions)


def permuted(crystal: CrystalBatch) -> CrystalBatch:
    """Real atoms in another order."""
    return dataclasses.replace(
        crystal, atomic_numbers=crystal.atomic_numbers[:, PERMUTATION], positions=crystal.positions[:, PERMUTATION]
    )


def padded(crystal: CrystalBatch, extra: int) -> CrystalBatch:
    """More empty places."""
    return CrystalBatch(
        jnp.pad(crystal.atomic_numbers, ((0, 0), (0, extra))),
        jnp.pad(crystal.positions, ((0, 0), (0, extra), (0, 0))),
        crystal.cell,
    )


SLAB_OF_8 = jax.tree.map(lambda x: x[:1], tiny_batch(seed=3))
PERIODS = np.random.default_rng(0).integers(-2, 3, (1, 10, 2)) @ np.asarray(SLAB_OF_8.cell[0, :2])
MATRICES = {
    "rotation": TURN,
    "mirror": np.diag([-1.0, 1.0, 1.0]).astype(np.float32),
    "upside down": np.diag([1.0, 1.0, -1.0]).astype(np.float32),
    "mirror, turned": (TURN @ np.diag([1.0, -1.0, 1.0])).astype(np.float32),
}
VARIANTS = {
    "as it is": SLAB_OF_8,
    "permutation": permuted(SLAB_OF_8),
    "lattice translation": moved(SLAB_OF_8, PERIODS),
    "origin shift": moved(SLAB_OF_8, ORIGIN),
    "vacuum": dataclasses.replace(SLAB_OF_8, cell=SLAB_OF_8.cell.at[:, 2, 2].set(40.0)),
} | {name: turned(SLAB_OF_8, matrix) for name, matrix in MATRICES.items()}
OTHERS = {
    "an atom elsewhere": dataclasses.replace(SLAB_OF_8, positions=SLAB_OF_8.positions.at[:, 0, 0].add(0.3)),
    "another element": dataclasses.replace(SLAB_OF_8, atomic_numbers=SLAB_OF_8.atomic_numbers.at[:, 0].set(52)),
    "another cell": dataclasses.replace(SLAB_OF_8, cell=SLAB_OF_8.cell.at[:, 0, 0].add(0.2)),
}
NAMES = [*VARIANTS, *OTHERS]


@functools.partial(jax.jit, static_argnames="graph")
def run(params, batch: CrystalBatch, sigma: jax.Array, graph: str):
    """Latents, and the denoiser's answer for one fused latent."""
    model = CDVAE(dataclasses.replace(MODEL.config, graph=graph))
    fused = jnp.broadcast_to(FUSED, (len(sigma), 8))
    answer = model.apply(params, fused, batch, sigma, sigma / (1 + sigma), method="denoise")
    return model.apply(params, batch, method="encode"), answer


@pytest.fixture(scope="module", params=["nearest", "pairs"])
def graph(request):
    """Both kinds of neighbours."""
    return request.param


@pytest.fixture(scope="module")
def results(graph):
    """(latent, denoiser's answer) of every variant at noise 0.5: all in one batch, one compilation."""
    batch = jax.tree.map(lambda *rows: jnp.concatenate(rows), *VARIANTS.values(), *OTHERS.values())
    latent, output = jax.device_get(run(tiny_params(SLAB), batch, jnp.full(len(NAMES), 0.5), graph))
    return {name: (np.concatenate([part[i] for part in latent]), jax.tree.map(lambda x, i=i: x[i], output))
            for i, name in enumerate(NAMES)}  # fmt: skip


@pytest.fixture(scope="module")
def plain(results):
    """Of the slab as it is."""
    return results["as it is"]


@pytest.mark.parametrize("name", [name for name in VARIANTS if name != "as it is"])
def test_latent_does_not_change(results, plain, name):
    np.testing.assert_allclose(results[name][0], plain[0], atol=1e-4)


@pytest.mark.parametrize("name", OTHERS)
def test_latent_of_another_crystal_does(results, plain, name):
    assert np.abs(results[name][0] - plain[0]).max() > 1e-3


def test_extra_padding_changes_nothing(results, plain, graph):
    latent, output = jax.device_get(run(tiny_params(SLAB), padded(SLAB_OF_8, 3), jnp.array([0.5]), graph))
    np.testing.assert_allclose(np.concatenate([part[0] for part in latent]), plain[0], atol=1e-4)
    np.testing.assert_allclose(output.displacement[0, :8], plain[1].displacement[:8], atol=1e-4)
    np.testing.assert_allclose(output.species[0, :8], plain[1].species[:8], atol=1e-4)
    assert not output.displacement[0, 8:].any()


@pytest.mark.parametrize("name", MATRICES)
def test_displacements_turn_with_the_slab(results, plain, name):
    expected = plain[1].displacement @ MATRICES[name].T
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(results[name][1].displacement, expected, atol=1e-4)
    np.testing.assert_allclose(results[name][1].species[:8], plain[1].species[:8], atol=1e-4)


def test_displacements_follow_the_atoms(results, plain):
    for name in ("lattice translation", "origin shift", "vacuum"):
        np.testing.assert_allclose(results[name][1].displacement, plain[1].displacement, atol=1e-4)
    permuted = results["permutation"][1]
    np.testing.assert_allclose(permuted.displacement, plain[1].displacement[PERMUTATION], atol=1e-4)
    np.testing.assert_allclose(permuted.species[:8], plain[1].species[PERMUTATION[:8]], atol=1e-4)


def test_the_slab_stays_and_padding_is_zero(results):
    for _, output in results.values():
        for vectors in (output.displacement, output.raw):
            np.testing.assert_allclose(vectors[:8].sum(0), 0.0, atol=1e-5)
            assert not vectors[8:].any()


@pytest.mark.parametrize("sigma", [0.01, 10.0])
def test_finite_from_the_smallest_to_the_largest_noise(results, sigma, graph):
    """All variants, with their atoms spread by that noise; shares the compilation."""
    batch = jax.tree.map(lambda *rows: jnp.concatenate(rows), *VARIANTS.values(), *OTHERS.values())
    spread = sigma * jax.random.normal(jax.random.key(0), batch.positions.shape) * batch.atom_mask[..., None]
    batch = dataclasses.replace(batch, positions=batch.positions + spread)
    latent, output = jax.device_get(run(tiny_params(SLAB), batch, jnp.full(len(NAMES), sigma), graph))
    for leaf in jax.tree.leaves((latent, output)):
        assert np.isfinite(leaf).all()
    if sigma < 0.1:  # the answer goes to nothing with the noise
        assert np.abs(output.displacement).max() < sigma * (np.abs(output.raw).max() + 0.1)


def test_a_paper_network_answers_with_sigma_times_its_output():
    model = CDVAE(dataclasses.replace(tiny_config(), noise_conditioned=False))
    skip, out, scale = model.apply({}, jnp.array([0.01, 10.0]), method="coefficients")
    np.testing.assert_allclose(skip, np.ones((2, 1, 3)))
    np.testing.assert_allclose(scale, np.ones((2, 1, 3)))
    np.testing.assert_allclose(out[:, 0], [[0.01] * 3, [10.0] * 3], rtol=1e-6)


def test_heights_alone_are_preconditioned():
    sigma = jnp.array([0.5])
    skip, out, scale = (x[0, 0] for x in MODEL.apply({}, sigma, method="coefficients"))
    np.testing.assert_allclose(skip, [1, 1, 16 / 16.25], rtol=1e-6)
    np.testing.assert_allclose(scale, [1, 1, 4 / np.sqrt(16.25)], rtol=1e-6)
    np.testing.assert_allclose(out, [0.5 / np.sqrt(1.25)] * 2 + [2 / np.sqrt(16.25)], rtol=1e-6)
    bulk = CDVAE(tiny_config(BULK)).apply({}, sigma, method="coefficients")
    np.testing.assert_allclose(bulk[0][0, 0], [1, 1, 1])
    np.testing.assert_allclose(bulk[1][0, 0], [0.5 / np.sqrt(1.25)] * 3, rtol=1e-6)


def test_properties_are_read_before_the_conditions():
    """Heads follow what is asked for, properties only z."""
    batch, nothing = tiny_batch(), no_conditions(2)
    asked = dataclasses.replace(
        nothing, scalars=jnp.full((2, 1), 0.3), scalar_mask=jnp.ones((2, 1), bool),
        composition=nothing.composition.at[:, 30].set(1.0), composition_mask=jnp.ones(2, bool),
    )  # fmt: skip

    @jax.jit
    def read(params, conditions):
        return MODEL.apply(params, batch, conditions, jnp.ones(2))[:2]

    free, bound = (read(tiny_params(SLAB), conditions) for conditions in (nothing, asked))
    np.testing.assert_array_equal(free[1], bound[1])
    assert free[1].shape == (2, 1)
    assert np.abs(free[1][0] - free[1][1]).max() > 1e-3
    for left, right in zip(jax.tree.leaves(free[0]), jax.tree.leaves(bound[0]), strict=True):
        assert np.abs(left - right).max() > 1e-3


def test_lattice_of_a_slab_there_and_back():
    config = dataclasses.replace(tiny_config(SLAB), lattice_mean=(4, 5, 9, 90, 90, 110), lattice_std=(1, 2, 3, 1, 1, 9))
    lengths, angles = np.array([[3.9, 4.3, 30.0], [3.5, 3.5, 25.0]]), np.array([[90, 90, 97.0], [90, 90, 120.0]])
    batch = dataclasses.replace(tiny_batch(), cell=geometry.cell_from_parameters(jnp.array(lengths), jnp.array(angles)))
    targets = lattice_targets(batch.cell, batch, config)
    height = [np.ptp(z[real]) for z, real in zip(batch.positions[..., 2], batch.atom_mask, strict=True)]
    raw = np.stack([*lengths[:, :2].T, height, *angles.T], -1)
    np.testing.assert_allclose(targets, (raw - config.lattice_mean) / config.lattice_std, atol=1e-3)
    cell = cell_from_targets(targets, batch.num_atoms, config)
    np.testing.assert_allclose(cell[:, :2], batch.cell[:, :2], atol=1e-3)
    np.testing.assert_allclose(cell[:, 2], [[0, 0, h] for h in height], atol=1e-3)
    more = batch.cell.at[:, 2, 2].add(10.0)
    np.testing.assert_array_equal(lattice_targets(more, batch, config), targets)


def test_lattice_of_a_bulk_crystal_there_and_back():
    config = dataclasses.replace(tiny_config(BULK), lattice_mean=(2, 2, 3, 90, 90, 90), lattice_std=(1, 2, 3, 9, 9, 9))
    lengths, angles = jnp.array([[3.9, 4.3, 7.0], [5.0, 3.5, 6.0]]), jnp.array([[80, 95, 97.0], [70, 100, 120.0]])
    batch = dataclasses.replace(tiny_batch(), cell=geometry.cell_from_parameters(lengths, angles))
    targets = lattice_targets(batch.cell, batch, config)
    per_atom = np.asarray(lengths) / np.cbrt([[8], [5]])
    np.testing.assert_allclose(targets[:, :3] * np.array([1, 2, 3]) + np.array([2, 2, 3]), per_atom, rtol=1e-4)
    np.testing.assert_allclose(cell_from_targets(targets, batch.num_atoms, config), batch.cell, atol=1e-3)
    twice = cell_from_targets(targets, 8 * batch.num_atoms, config)
    np.testing.assert_allclose(twice, 2 * batch.cell, atol=2e-3)


def test_wild_lattices_are_still_cells():
    config = tiny_config(SLAB)
    targets = jnp.array([[-100.0] * 6, [100.0] * 6])
    cell = cell_from_targets(targets, jnp.array([8, 8]), config)
    assert np.isfinite(cell).all()
    assert (np.linalg.det(np.asarray(cell, np.float64)) > 0).all()
