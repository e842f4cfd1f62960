"""The whole network on the neighbour lists of slabs: what turns with them, and what changes nothing."""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdw_jax import geometry
from vdw_jax.equivariant.config import EquiformerConfig
from vdw_jax.equivariant.equiformer import EquiformerV2, ScalarHead, VectorHead
from vdw_jax.equivariant.grid import SphereGrid
from vdw_jax.graphs.neighbours import find_neighbours
from vdw_jax.types import SLAB, CrystalBatch, Neighbours

from .helpers import TOLERANCE, improper, mirror, normal, rotation

CUTOFF, SLOTS, COUNTS, MAX_ATOMS, NUM_SPECIES = 4.5, 12, (1, 4, 3), 5, 6
ABOUT_Z = np.array([[0.6, -0.8, 0.0], [0.8, 0.6, 0.0], [0.0, 0.0, 1.0]], np.float32)
DEGREE_2 = {"lmax": 2, "node_grid": SphereGrid(4, 7)}  # compiles sooner
UP = jnp.array([0.0, 0.0, 1.0])
# The time goes to compilation, not to what is compiled.
jit = functools.partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
)


class Network(nn.Module):
    """The network and both heads; every node is given its context and one direction."""

    config: EquiformerConfig

    @nn.compact
    def __call__(self, species, found: Neighbours, context, direction):
        backbone = EquiformerV2(self.config, NUM_SPECIES)
        nodes, edges = backbone(species, found.index, found.vector, found.mask, found.ratio, context, direction)
        return ScalarHead(self.config, 4)(nodes), VectorHead(self.config, 2)(nodes, edges)


def make_network(as_initialised: bool = False, **changes):
    """A jitted (species, neighbours, context, direction) -> (scalars [B, N, 4], vectors [B, N, 2, 3]).

    Args:
      as_initialised: weights of the spread that initialisation gives; else, of one spread.
    """
    config = EquiformerConfig(
        **{
            "num_layers": 2, "channels": 8, "attention_channels": 8, "num_heads": 2, "alpha_channels": 4,
            "value_channels": 4, "ffn_channels": 8, "lmax": 3, "mmax": 2, "edge_channels": 8, "num_basis": 8,
            "cutoff_angstrom": CUTOFF, "edge_activation": "gate", "ffn_activation": "product",
            "node_grid": SphereGrid(5, 10), "reflections": True, "adaptive_envelope": True, "average_degree": 1.0,
        } | changes
    )  # fmt: skip
    network = Network(config)
    shapes = jax.eval_shape(network.init, jax.random.key(0), *slab_inputs(make_slabs()))
    rng = np.random.default_rng(9)

    def draw(path, leaf):  # sooner than compiling `init`
        spread = 1 / np.sqrt(3 * leaf.shape[-2]) if as_initialised and leaf.ndim > 1 else 0.3
        return (path[-1].key == "scale") + spread * rng.standard_normal(leaf.shape, np.float32)

    params = jax.tree_util.tree_map_with_path(draw, shapes)

    def apply(*inputs):
        return network.apply(params, *inputs)

    return jit(apply)


def make_slabs() -> CrystalBatch:
    """Random slabs of 1, 4 and 3 atoms."""
    rng = np.random.default_rng(3)
    lengths, angles = rng.uniform(3.0, 4.0, (3, 3)), np.full((3, 3), 90.0)
    lengths[:, 2], angles[:, 2] = 15.0, (90.0, 120.0, 75.0)
    cell = geometry.cell_from_parameters(jnp.asarray(lengths, jnp.float32), jnp.asarray(angles, jnp.float32))
    real = np.arange(MAX_ATOMS) < np.array(COUNTS)[:, None]
    fractional = rng.uniform(0.0, 1.0, (3, MAX_ATOMS, 3)) * (1.0, 1.0, 0.2) * real[..., None]
    numbers = rng.integers(1, NUM_SPECIES, (3, MAX_ATOMS)) * real
    positions = geometry.to_cartesian(jnp.asarray(fractional, jnp.float32), cell)
    return CrystalBatch(jnp.asarray(numbers, jnp.int32), positions, cell)


@functools.partial(jax.jit, static_argnames="slots")
def neighbours(slabs: CrystalBatch, slots: int = SLOTS) -> Neighbours:
    return find_neighbours(
        slabs, periodicity=SLAB, cutoff_angstrom=CUTOFF, max_neighbours=slots, image_range=(3, 3, 0)
    )


def slab_inputs(slabs: CrystalBatch, context=None, found: Neighbours | None = None):
    """What the network reads of slabs, with the slab's normal as the direction."""
    shape = slabs.atomic_numbers.shape
    context = normal(1, *shape, 3) if context is None else context
    return slabs.atomic_numbers, found or neighbours(slabs), context, jnp.broadcast_to(UP, (*shape, 1, 3))


def vector_inputs(matrix=None):
    """Slabs' inputs with edges straight up, straight down and general directions, all turned by `matrix`."""
    matrix = np.eye(3, dtype=np.float32) if matrix is None else matrix
    species, found, context, _ = slab_inputs(make_slabs())
    vector = found.vector.at[:, 0, 0].set(2.0 * UP).at[:, 0, 1].set(-2.5 * UP)
    return species, found.replace(vector=vector @ matrix.T), context, normal(2, *species.shape, 1, 3) @ matrix.T


def relative(out, expected, mask=None) -> float:
    """Largest difference of any output, in units of the largest value of its kind."""
    mask = make_slabs().atom_mask if mask is None else mask
    pairs = [(np.asarray(left)[mask], np.asarray(right)[mask]) for left, right in zip(out, expected, strict=True)]
    return max(float(np.abs(left - right).max() / np.abs(right).max()) for left, right in pairs)


def turned(out, matrix):
    return out[0], out[1] @ matrix.T


@pytest.fixture(scope="module")
def network():
    return make_network()


@pytest.fixture(scope="module")
def gradient():
    """d(sum of squared outputs)/d(vectors of the edges)."""
    network = make_network(**DEGREE_2)

    def total(vector, species, found, *rest):
        return sum(jnp.sum(out**2) for out in network.__wrapped__(species, found.replace(vector=vector), *rest))

    return jit(lambda *inputs: jax.grad(total)(inputs[1].vector, *inputs))


def test_outputs_depend_on_the_structure(network):
    """What the other tests compare is neither constant nor zero, and most slots are in use."""
    slabs = make_slabs()
    inputs = slab_inputs(slabs)
    assert inputs[1].complete.all() and inputs[1].mask[1:][slabs.atom_mask[1:]].all()
    out = network(*inputs)
    moved = network(*slab_inputs(slabs.replace(positions=slabs.positions.at[:, 0, 0].add(0.3))))
    for crystal in (1, 2):
        for left, right in zip(out, moved, strict=True):
            assert jnp.abs(left[crystal] - right[crystal]).max() > 0.01 * jnp.abs(left).max()


@pytest.mark.parametrize("matrix", [ABOUT_Z, mirror((0.6, 0.8, 0))], ids=["rotation", "mirror"])
def test_slabs_turned_about_their_normal(network, matrix):
    slabs = make_slabs()
    moved = slabs.replace(positions=slabs.positions @ matrix.T, cell=slabs.cell @ matrix.T)
    out = network(*slab_inputs(slabs))
    assert relative(network(*slab_inputs(moved)), turned(out, matrix)) < TOLERANCE
    assert relative(out, turned(out, matrix)) > 0.1


@pytest.mark.parametrize(
    "matrix", [rotation(1), rotation(4), improper(2), mirror((1, 0, 0)), -np.eye(3, dtype=np.float32)],
    ids=["rotation", "another rotation", "improper", "mirror", "inversion"],
)  # fmt: skip
def test_any_rotation_or_reflection_of_the_edges(network, matrix):
    expected = turned(network(*vector_inputs()), matrix)
    assert relative(network(*vector_inputs(matrix)), expected) < TOLERANCE


def test_without_reflections_only_rotations_are_kept():
    network = make_network(reflections=False)
    out = network(*vector_inputs())
    assert relative(network(*vector_inputs(rotation(1))), turned(out, rotation(1))) < TOLERANCE
    assert relative(network(*vector_inputs(improper(2))), turned(out, improper(2))) > 1e-3


GRIDS = {
    "too few": (SphereGrid(5, 5), SphereGrid(5, 9), 1e-2, 1.0),
    "as configured": (EquiformerConfig().edge_grid, EquiformerConfig().node_grid, 0.0, 5e-3),
    "finer": (SphereGrid(10, 32), SphereGrid(24, 48), 0.0, TOLERANCE),
}


@pytest.mark.parametrize(("edge_grid", "node_grid", "smallest", "largest"), GRIDS.values(), ids=GRIDS)
def test_activations_on_the_sphere_alias_as_little_as_their_grids_let_them(edge_grid, node_grid, smallest, largest):
    """The paper's activations and degree; the smallest grids that are exact there and back, and finer ones."""
    network = make_network(
        as_initialised=True, num_layers=1, lmax=4, edge_activation="s2", ffn_activation="mlp", reflections=False,
        edge_grid=edge_grid, node_grid=node_grid,
    )  # fmt: skip
    expected = turned(network(*vector_inputs()), rotation(1))
    error = relative(network(*vector_inputs(rotation(1))), expected)
    assert smallest < error < largest


def test_order_of_atoms(network):
    slabs, context = make_slabs(), normal(1, 3, MAX_ATOMS, 3)
    order = jnp.array([[0, 1, 2, 3, 4], [2, 0, 3, 1, 4], [2, 0, 1, 3, 4]])

    def permute(values):
        return jnp.take_along_axis(values, order.reshape(order.shape + (1,) * (values.ndim - 2)), axis=1)

    other = slabs.replace(atomic_numbers=permute(slabs.atomic_numbers), positions=permute(slabs.positions))
    out = network(*slab_inputs(slabs, context))
    expected = tuple(permute(values) for values in out)
    assert relative(network(*slab_inputs(other, permute(context))), expected) < TOLERANCE
    assert relative(out, expected) > 0.01


def test_atoms_moved_by_periods(network):
    slabs = make_slabs()
    periods = np.random.default_rng(0).integers(-2, 3, (3, MAX_ATOMS, 3)) * (1, 1, 0)
    moved = slabs.positions + geometry.to_cartesian(jnp.asarray(periods, jnp.float32), slabs.cell)
    out = network(*slab_inputs(slabs.replace(positions=moved)))
    assert relative(out, network(*slab_inputs(slabs))) < TOLERANCE


def test_origin(network):
    slabs = make_slabs()
    moved = slabs.replace(positions=slabs.positions + jnp.array([1.3, -0.7, 2.1]))
    assert relative(network(*slab_inputs(moved)), network(*slab_inputs(slabs))) < TOLERANCE


def test_padding(network):
    """More padding, and padding with other contents."""
    slabs, extra = make_slabs(), ((0, 0), (0, 3))
    context = normal(1, 3, MAX_ATOMS, 3)
    expected = network(*slab_inputs(slabs, context))
    assert all(jnp.isfinite(values).all() for values in expected)

    wide = CrystalBatch(
        jnp.pad(slabs.atomic_numbers, extra), jnp.pad(slabs.positions, (*extra, (0, 0))), slabs.cell
    )
    out = network(*slab_inputs(wide, jnp.pad(context, (*extra, (0, 0)))))
    assert relative([values[:, :MAX_ATOMS] for values in out], expected) < TOLERANCE

    empty = ~slabs.atom_mask[..., None]
    junk = slabs.replace(positions=jnp.where(empty, normal(6, 3, MAX_ATOMS, 3), slabs.positions))
    _, found, context, direction = slab_inputs(junk, jnp.where(empty, 5.0, context))
    species = jnp.where(slabs.atom_mask, slabs.atomic_numbers, 3)
    assert relative(network(species, found, context, direction), expected) < TOLERANCE


def tied(shift: float):
    """One atom whose neighbours 1 and 2, of other species, are 2 A away: the nearer has the last of 2 slots."""
    positions = jnp.array([[0, 0, 0], [2.0 + shift, 0, 0], [0, 1.2, 1.6], [0, -1.5, 0.3]], jnp.float32)
    slabs = CrystalBatch(jnp.array([[1, 2, 3, 4]]), positions[None], 20.0 * jnp.eye(3)[None])
    return slab_inputs(slabs, found=neighbours(slabs, 2))


@pytest.mark.parametrize("adaptive", [True, False])
def test_tied_for_the_last_slot(adaptive):
    network = make_network(adaptive_envelope=adaptive, **DEGREE_2)
    near, far = tied(-1e-6), tied(1e-6)
    assert (int(near[1].index[0, 0, 1]), int(far[1].index[0, 0, 1])) == (1, 2)
    assert (near[1].index[0, 1:] == far[1].index[0, 1:]).all()
    jump = relative(network(*near), network(*far), near[0] > 0)
    assert jump < TOLERANCE if adaptive else jump > 0.01


def test_gradients_turn_with_the_edges(gradient):
    """Also at edges straight up and down: the frame's roll leaves no trace."""
    out = gradient(*vector_inputs())
    assert relative([gradient(*vector_inputs(rotation(1)))], [out @ rotation(1).T]) < 5 * TOLERANCE


def test_gradients_are_finite_at_coincident_atoms(gradient):
    species, found, *rest = vector_inputs()
    vector = found.vector.at[:, :, 2].set(0.0).at[2, 1].set(0.0)
    out = gradient(species, found.replace(vector=vector), *rest)
    assert jnp.isfinite(out).all()
    assert jnp.abs(out[1, 0, :2]).min() > 0  # straight up and down
