"""The relaxed data sets that come with the package: what docs/dataset.md says of them holds."""

import numpy as np
import pytest

from tests.structures.test_families import on_top
from vdw_jax.structures.build import STACKS
from vdw_jax.structures.errors import DataError
from vdw_jax.structures.label import LABEL, OK, canonical, layer_keys
from vdw_jax.structures.source import load_relaxed

FAMILIES = ("j2dh8", "iii_vi")


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return (request.param, *load_relaxed(request.param))


def test_its_content_is_what_its_origin_says(family):
    _, data, origin = family
    assert data.content_hash() == origin["content_hash"]
    assert sum(origin["status"].values()) == len(data)


def test_rows_are_those_of_the_rule(family):
    name, data, _ = family
    start = STACKS[name]()
    np.testing.assert_array_equal(data.ids, start.ids)
    np.testing.assert_array_equal(data.atomic_numbers, start.atomic_numbers)
    for column in ("bottom_layer", "top_layer", "registry", "rotation_degrees", "pair", "duplicate_of", "part",
                   "part_by_pair"):  # fmt: skip
        np.testing.assert_array_equal(data.metadata[column], start.metadata[column])


def test_nearly_all_are_relaxed_and_in_order(family):
    _, data, origin = family
    is_ok = data.metadata["status"] == OK
    assert is_ok.mean() >= 0.999
    assert (data.metadata["largest_force_ev_per_angstrom"] < origin["settings"]["largest_force"]).all()
    for values in data.scalars.values():
        np.testing.assert_array_equal(np.isfinite(values), is_ok)
    real = data.atomic_numbers[:, 1:] > 0
    assert (np.diff(data.positions[..., 2], axis=1)[real & is_ok[:, None]] > 0).all()


def test_atoms_stay_on_their_sites(family):
    _, data, _ = family
    fractions = data.positions[..., :2] @ np.linalg.inv(data.cell[:, :2, :2].astype(float))
    assert np.abs(3 * fractions - np.round(3 * fractions)).max() < 1e-4
    lengths = np.linalg.norm(data.cell[:, :2], axis=-1)
    np.testing.assert_allclose(lengths[:, 0], lengths[:, 1], rtol=1e-6)


def test_labels_follow_from_the_energies_of_the_layers(family):
    _, data, _ = family
    layers, _ = load_relaxed("layers")
    alone = {}
    for row, (numbers, polarity) in enumerate(zip(layers.atomic_numbers, layers.metadata["polarity"], strict=True)):
        alone[tuple(int(z) for z in numbers if z), int(polarity)] = layers.metadata["energy_ev"][row]
    bottom, top = (np.array([alone[canonical(key)] for key in side]) for side in layer_keys(data))
    is_ok = data.metadata["status"] == OK
    expected = (data.metadata["energy_ev"] - bottom - top)[is_ok]
    np.testing.assert_allclose(data.scalars[LABEL][is_ok], expected, atol=2e-4)


def test_what_is_one_crystal_by_symmetry_has_one_energy():
    data, _ = load_relaxed("j2dh8")
    row_of = {name: row for row, name in enumerate(data.ids)}
    copies = np.flatnonzero(data.metadata["duplicate_of"] != "")
    originals = [row_of[name] for name in data.metadata["duplicate_of"][copies]]
    assert len(copies) == 81
    np.testing.assert_allclose(data.scalars[LABEL][copies], data.scalars[LABEL][originals], atol=2e-4)
    np.testing.assert_allclose(data.cell[copies, 0, 0], data.cell[originals, 0, 0], atol=1e-3)


def test_distribution():
    data, _ = load_relaxed("j2dh8")
    label = data.scalars[LABEL][np.isfinite(data.scalars[LABEL])]
    assert -0.18 < np.median(label) < -0.10
    assert 0.80 < (label < 0).mean() < 0.87
    gap = data.scalars["gap_angstrom"]
    assert np.nanmedian(gap[on_top(data)]) - np.nanmedian(gap[~on_top(data)]) > 0.4


def test_layer_groups_of_the_stackings():
    """Homobilayers of a mirror-symmetric layer: AA' keeps a mirror or an inversion, so their groups are larger."""
    data, _ = load_relaxed("j2dh8")
    m = data.metadata
    symmetric = (m["bottom_layer"] == m["top_layer"]) & (m["bottom_layer"] == "SGaGaS")
    columns = [m[name][symmetric].tolist() for name in ("registry", "rotation_degrees", "layer_group")]
    groups = {(registry, rotation): group for registry, rotation, group in zip(*columns, strict=True)}
    assert groups == {(0, 0): 78, (1, 0): 69, (2, 0): 69, (0, 60): 72, (1, 60): 72, (2, 60): 72}
    assert (m["layer_group"] > 0).all()


def test_unknown_family():
    with pytest.raises(DataError, match="no relaxed data set 'mos2'; there are iii_vi, j2dh8, layers"):
        load_relaxed("mos2")
