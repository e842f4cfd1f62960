import itertools

import numpy as np
import pytest

from vdw_jax.structures import elements, layers
from vdw_jax.structures.j2dh8 import oriented_layers
from vdw_jax.structures.quintuple import quintuple_layers

from .helpers import environments

S, SE, TE, AL, GA, IN = 16, 34, 52, 13, 31, 49


def bond(layer: layers.Layer, i: int, j: int) -> float:
    """Shortest distance of two atoms over in-plane images."""
    vectors = layers.hexagonal_vectors(layer.lattice_constant_angstrom)
    apart = layer.positions[i] - layer.positions[j]
    shifts = [np.append(np.array(n) @ vectors, 0.0) for n in itertools.product((-1, 0, 1), repeat=2)]
    return min(float(np.linalg.norm(apart + shift)) for shift in shifts)


@pytest.mark.parametrize("metal,chalcogen", itertools.product(("Al", "Ga", "In"), ("S", "Se", "Te")))
def test_free_mx_layer_has_the_tabulated_lattice_constant_and_bonds(metal, chalcogen):
    x, m = elements.atomic_number(chalcogen), elements.atomic_number(metal)
    layer = layers.make_layer((x, m, m, x))
    assert layer.lattice_constant_angstrom == pytest.approx(
        elements.LATTICE_CONSTANT_ANGSTROM[metal, chalcogen], abs=1e-9
    )
    expected = elements.METAL_CHALCOGEN_BOND_ANGSTROM[metal, chalcogen]
    assert bond(layer, 0, 1) == pytest.approx(expected, abs=1e-9)
    assert bond(layer, 2, 3) == pytest.approx(expected, abs=1e-9)
    assert bond(layer, 1, 2) == pytest.approx(elements.METAL_METAL_BOND_ANGSTROM[metal], abs=1e-9)


def test_gase_thickness_is_that_of_the_literature():
    assert layers.make_layer((SE, GA, GA, SE)).thickness_angstrom == pytest.approx(4.82, abs=0.05)


def test_in2se3_is_like_the_alpha_phase():
    layer = layers.make_layer((SE, IN, SE, IN, SE))
    assert layer.lattice_constant_angstrom == pytest.approx(4.10, abs=0.03)
    assert layer.thickness_angstrom == pytest.approx(6.75, abs=0.1)
    assert [layer.sites[i] for i in range(5)] == [0, 1, 1, 2, 0]
    assert layer.sites[1] == layer.sites[2]  # the middle X stands straight above the lower M
    tetrahedral = [bond(layer, 1, 0), bond(layer, 1, 2)]
    octahedral = [bond(layer, 3, 2), bond(layer, 3, 4)]
    assert max(tetrahedral) < min(octahedral)


def test_lattice_constant_of_a_janus_layer_is_the_mean_over_its_combinations():
    free = layers.free_lattice_constant(np.array([[S, AL, IN, TE]]))[0]
    assert free == pytest.approx((3.589 + 4.120 + 3.917 + 4.372) / 4)


@pytest.mark.parametrize(
    "species", [(S, GA, IN, SE), (TE, AL, AL, S), (S, GA, SE, IN, S), (TE, AL, SE, GA, S)]
)
def test_flip_is_a_proper_rotation(species):
    layer = layers.make_layer(species)
    flipped = layer.flip()
    assert flipped.species == species[::-1]
    # C2 about y, (x, y, z) -> (-x, y, -z), carries each atom onto its flipped self, up to lattice vectors.
    turned = layer.positions * np.array([-1.0, 1.0, -1.0])
    turned[:, 2] += layer.thickness_angstrom
    apart = (turned[::-1] - flipped.positions)[:, :2] @ np.linalg.inv(
        layers.hexagonal_vectors(layer.lattice_constant_angstrom)
    )
    np.testing.assert_allclose(apart, np.round(apart), atol=1e-9)
    np.testing.assert_allclose(turned[::-1, 2], flipped.positions[:, 2], atol=1e-9)
    a = layer.lattice_constant_angstrom
    assert environments(layer.positions, layer.species, a) == environments(
        flipped.positions, flipped.species, a
    )
    assert flipped.flip().species == layer.species
    assert flipped.flip().sites == layer.sites


@pytest.mark.parametrize("species", [(S, GA, IN, SE), (S, GA, SE, IN, S)])
def test_sixty_degrees_is_a_proper_rotation_and_swaps_b_and_c(species):
    layer = layers.make_layer(species)
    turned = layer.rotate()
    angle = np.deg2rad(60)
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    apart = (layer.positions[:, :2] @ matrix.T - turned.positions[:, :2]) @ np.linalg.inv(
        layers.hexagonal_vectors(layer.lattice_constant_angstrom)
    )
    np.testing.assert_allclose(apart, np.round(apart), atol=1e-9)
    assert turned.sites == tuple({0: 0, 1: 2, 2: 1}[s] for s in layer.sites)


def test_a_down_quintuple_is_the_flip_of_the_up_quintuple():
    up = layers.make_layer((S, GA, SE, IN, TE), polarity=1)
    down = layers.make_layer((TE, IN, SE, GA, S), polarity=-1)
    assert up.flip().species == down.species
    assert up.flip().sites == down.sites
    np.testing.assert_allclose(up.flip().heights_angstrom, down.heights_angstrom, atol=1e-12)
    # ... and is not the up quintuple of the reversed sequence.
    assert layers.make_layer((TE, IN, SE, GA, S), polarity=1).sites != down.sites


def test_every_layer_can_be_held_between_the_smallest_and_the_largest_lattice():
    quintuples, polarity = quintuple_layers()
    for species, turns in ((oriented_layers(), np.zeros(81)), (quintuples, polarity)):
        free = layers.free_lattice_constant(species)
        for other in (3.589, 4.42):
            heights = layers.layer_heights(species, turns, (free + other) / 2)
            assert (np.diff(heights, axis=1) > 0.3).all()


def test_a_bond_that_cannot_span_the_cell_is_named():
    with pytest.raises(ValueError, match=r"S-Al cannot span .* a = 5\.200"):
        layers.make_layer((S, AL, AL, S), lattice_constant_angstrom=5.2)


@pytest.mark.parametrize("species", [(GA, S, S, GA), (S, GA, IN, 8), (S, 6, 6, S), (S, GA, SE)])
def test_what_is_no_layer_is_refused(species):
    with pytest.raises(ValueError, match="layer"):
        layers.make_layer(species)


def test_symbols_agree_with_pymatgen():
    core = pytest.importorskip("pymatgen.core")
    assert [core.Element(s).Z for s in elements.SYMBOLS] == list(range(1, 101))
    with pytest.raises(ValueError, match="unknown element 'Xx'"):
        elements.atomic_number("Xx")
