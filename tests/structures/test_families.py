import numpy as np
import pytest

from vdw_jax.structures import elements, quintuple, stacking
from vdw_jax.structures import j2dh8 as j2dh8_room
from vdw_jax.structures.layers import hexagonal_vectors, layer_name

from .helpers import environments

SE, GA, IN, S = 34, 31, 49, 16


def on_top(dataset):
    m = dataset.metadata
    return ((m["registry"] == 0) & (m["rotation_degrees"] == 0)) | (
        (m["registry"] == 1) & (m["rotation_degrees"] == 60)
    )


def min_distance(dataset) -> float:
    """Shortest distance over all crystals and in-plane images, Angstrom."""
    shortest = np.inf
    for n in [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]:
        shift = n[0] * dataset.cell[:, 0] + n[1] * dataset.cell[:, 1]
        apart = dataset.positions[:, :, None] - dataset.positions[:, None] + shift[:, None, None]
        distance = np.linalg.norm(apart, axis=-1)
        real = dataset.atomic_numbers > 0
        real = real[:, :, None] & real[:, None]
        if n == (0, 0):
            real &= ~np.eye(real.shape[1], dtype=bool)
        shortest = min(shortest, float(distance[real].min()))
    return shortest


def same_crystal(dataset, i: int, j: int) -> bool:
    prints = []
    for row in (i, j):
        prints.append(
            environments(dataset.positions[row], dataset.atomic_numbers[row], dataset.cell[row, 0, 0])
        )
    species = [[(z, [w for w, _ in near]) for z, near in p] for p in prints]
    if species[0] != species[1]:
        return False
    return np.allclose(*[[d for _, near in p for _, d in near] for p in prints], atol=2e-3)


def test_counts(j2dh8):
    assert len(j2dh8_room.monolayers()) == 45
    assert len(j2dh8_room.oriented_layers()) == 81
    assert len(j2dh8_room.oriented_pairs()) == 3321
    assert len(j2dh8) == 19926 == 6 * 3321
    assert j2dh8.ids[0] == "j2dh8-00000" and j2dh8.ids[-1] == "j2dh8-19925"
    assert (np.bincount(j2dh8.metadata["pair"]) == 6).all()


def test_no_pair_is_the_flip_of_another(j2dh8):
    flipped = j2dh8_room.flip_table(j2dh8_room.oriented_layers())
    pairs = {tuple(pair) for pair in j2dh8_room.oriented_pairs().tolist()}
    for a, b in pairs:
        other = (int(flipped[b]), int(flipped[a]))
        assert other == (a, b) or other not in pairs


def test_duplicates_are_the_same_crystal_and_nothing_else_of_the_pair_is(j2dh8):
    copies = np.flatnonzero(j2dh8.metadata["duplicate_of"] != "")
    assert len(copies) == 81
    row_of = {name: row for row, name in enumerate(j2dh8.ids)}
    for copy in copies[::9]:
        original = row_of[j2dh8.metadata["duplicate_of"][copy]]
        assert same_crystal(j2dh8, copy, original)
        for row in range(copy - copy % 6, copy - copy % 6 + 6):
            assert row in (copy, original) or not same_crystal(j2dh8, copy, row)


@pytest.mark.parametrize("name", ["j2dh8", "iii_vi"])
def test_slab_convention(name, request):
    dataset = request.getfixturevalue(name)
    real = dataset.atomic_numbers > 0
    np.testing.assert_allclose(dataset.positions[..., 2].sum(-1) / real.sum(-1), 0.0, atol=1e-5)
    assert (dataset.positions[~real] == 0).all()
    assert not dataset.cell[:, 2, :2].any()
    np.testing.assert_allclose(dataset.cell[:, 2, 2], dataset.slab_height + 20.0, atol=1e-4)
    fractions = dataset.positions @ np.linalg.inv(dataset.cell)
    assert (fractions[..., :2] > -1e-5).all() and (fractions[..., :2] < 1 - 1e-5).all()
    a = dataset.metadata["lattice_constant_angstrom"]
    np.testing.assert_allclose(dataset.cell[:, :2, :2], a[:, None, None] * hexagonal_vectors(1.0), atol=1e-5)
    assert min_distance(dataset) > 2.0


@pytest.mark.parametrize("name", ["j2dh8", "iii_vi"])
def test_order_along_z_and_gap(name, request):
    dataset = request.getfixturevalue(name)
    gap = dataset.metadata["gap_angstrom"]
    for row in range(0, len(dataset), 7):
        n = dataset.num_atoms[row]
        z = dataset.positions[row, :n, 2]
        assert (np.diff(z) > 0.3).all()
        written = dataset.metadata["bottom_layer"][row] + dataset.metadata["top_layer"][row]
        assert layer_name(dataset.atomic_numbers[row, :n]) == written
        first = sum(c.isupper() for c in dataset.metadata["bottom_layer"][row])
        assert z[first] - z[first - 1] == pytest.approx(gap[row], abs=1e-4)


def test_gaps_follow_the_registry(j2dh8):
    gap, top = j2dh8.metadata["gap_angstrom"], on_top(j2dh8)
    assert gap[~top].min() > 2.7 and gap[~top].max() < 3.6
    assert gap[top].min() > 3.4 and gap[top].max() < 4.2
    assert top.sum() == len(j2dh8) // 3


def test_gase_homobilayer_has_the_gap_of_the_crystal():
    layer = stacking.LayerRows(np.array([[SE, GA, GA, SE]]), np.zeros(1, int))
    cell = stacking.stack(layer, layer, np.array([1]), np.array([False]))
    assert cell.gap[0] == pytest.approx(3.2, abs=0.1)
    assert cell.mismatch[0] == 0


def test_interlayer_energy_and_gap_against_a_direct_sum():
    bottom = stacking.LayerRows(np.array([[SE, GA, IN, S]]), np.zeros(1, int))
    top = stacking.LayerRows(np.array([[S, GA, SE, IN, S]]), np.ones(1, int))
    cell = stacking.stack(bottom, top, np.array([2]), np.array([True]))
    n = np.arange(-25, 26)
    grid = np.stack(np.meshgrid(n, n, indexing="ij"), -1).reshape(-1, 2) @ cell.cell[0, :2, :2]

    def energy(extra: float) -> float:
        total = 0.0
        for i in range(4):
            for j in range(4, 9):
                zi, zj = cell.atomic_numbers[0, [i, j]]
                a, b = elements.symbol(int(zi)), elements.symbol(int(zj))
                x2 = elements.UFF_DISTANCE_ANGSTROM[a] * elements.UFF_DISTANCE_ANGSTROM[b]
                depth = elements.UFF_WELL_DEPTH_KCAL_PER_MOL
                d = np.sqrt(depth[a] * depth[b]) * elements.EV_PER_KCAL_PER_MOL * stacking.WELL_DEPTH_SCALE
                apart = cell.positions[0, j] - cell.positions[0, i]
                r2 = ((grid + apart[:2]) ** 2).sum(-1) + (apart[2] + extra) ** 2
                total += float((d * ((x2 / r2) ** 6 - 2 * (x2 / r2) ** 3)).sum())
        return total

    assert cell.interlayer_energy[0] == pytest.approx(energy(0.0), abs=2e-5)
    assert energy(0.0) <= min(energy(0.003), energy(-0.003))


def test_common_lattice_constant_is_the_mean():
    bottom = stacking.LayerRows(np.array([[S, 13, 13, S]]), np.zeros(1, int))
    top = stacking.LayerRows(np.array([[52, IN, IN, 52]]), np.zeros(1, int))
    cell = stacking.stack(bottom, top, np.array([0]), np.array([False]))
    assert cell.lattice_constant[0] == pytest.approx((3.589 + 4.372) / 2)


def test_iii_vi_draw(iii_vi):
    assert len(iii_vi) == 10000 and len(np.unique(iii_vi.ids)) == 10000
    assert {int(n): int((iii_vi.num_atoms == n).sum()) for n in (9, 10)} == {9: 3000, 10: 7000}
    m = iii_vi.metadata
    columns = ("bottom_layer", "top_layer", "bottom_polarity", "top_polarity", "registry", "rotation_degrees")
    keys = set(zip(*(m[name].tolist() for name in columns), strict=True))
    assert len(keys) == 10000
    assert (m["pair"] >= 3321).all()
    quintuple_rows = iii_vi.num_atoms == 10
    for side in ("bottom_polarity", "top_polarity"):
        assert set(np.unique(m[side][quintuple_rows])) == {-1, 1}
    assert (np.abs(m["bottom_polarity"]) + np.abs(m["top_polarity"]) >= 1).all()
    mixed = ~quintuple_rows
    assert 0.4 < (m["bottom_polarity"][mixed] == 0).mean() < 0.6
    for r in range(3):
        for q in (0, 60):
            assert ((m["registry"] == r) & (m["rotation_degrees"] == q)).mean() > 0.14


def test_every_oriented_layer_is_drawn(iii_vi):
    m = iii_vi.metadata
    drawn = set()
    for side in ("bottom", "top"):
        drawn |= set(zip(m[f"{side}_layer"].tolist(), m[f"{side}_polarity"].tolist(), strict=True))
    assert len({key for key in drawn if key[1]}) == 486 and len({key for key in drawn if not key[1]}) == 81


def test_no_stack_is_drawn_in_both_views():
    _, _, flipped = quintuple.all_layers()
    stacks = quintuple.draw_stacks()
    keys = {min(s, j2dh8_room.flip_stack(s, flipped)) for s in stacks}
    assert len(keys) == len(stacks) == 10000
    assert stacks == quintuple.draw_stacks() != quintuple.draw_stacks(seed=1)


def test_flipped_stacks_have_the_same_energy_gap_and_distances():
    species, polarity, flipped = quintuple.all_layers()
    for drawn in quintuple.draw_stacks()[::301]:
        cells = []
        for bottom, top, registry, rotation in (drawn, j2dh8_room.flip_stack(drawn, flipped)):
            rows = [stacking.LayerRows(np.array([species[i]]), polarity[[i]]) for i in (bottom, top)]
            cells.append(stacking.stack(*rows, np.array([registry]), np.array([rotation == 60])))
        assert cells[0].gap[0] == pytest.approx(cells[1].gap[0], abs=1e-5)
        assert cells[0].interlayer_energy[0] == pytest.approx(cells[1].interlayer_energy[0], abs=1e-9)
        prints = [environments(c.positions[0], c.atomic_numbers[0], c.lattice_constant[0]) for c in cells]
        flat = [[d for _, near in p for _, d in near] for p in prints]
        np.testing.assert_allclose(*flat, atol=1e-3)


def test_gainsse2_and_its_relatives_are_covered(iii_vi):
    wanted: dict[tuple[int, ...], int] = {}
    rows = np.flatnonzero(iii_vi.num_atoms == 10)
    for row in rows:
        below, above = sorted(iii_vi.atomic_numbers[row, :5]), sorted(iii_vi.atomic_numbers[row, 5:10])
        metals = {z for z in below if z in (13, 31, 49)}
        if below == above and len(metals) == 2 and len(set(below)) == 4:
            key = tuple(int(z) for z in below)
            wanted[key] = wanted.get(key, 0) + 1
    assert len(wanted) == 18 and min(wanted.values()) >= 125
    assert sum(wanted.values()) / len(rows) >= 0.25
    example = tuple(sorted((GA, IN, S, SE, SE)))
    assert wanted[example] >= 125


def test_building_again_gives_the_same_content(j2dh8):
    assert j2dh8_room.build_j2dh8().content_hash() == j2dh8.content_hash()
