"""What the DFT spot check does without DFT: which cells it takes, and what it makes of the energies."""

import json
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.dft import calculate, cells, report
from vdw_jax.structures.dataset import CrystalDataset
from vdw_jax.structures.elements import CHALCOGENS, METALS
from vdw_jax.structures.j2dh8 import STACKINGS, build_j2dh8
from vdw_jax.structures.layers import free_lattice_constant, hexagonal_vectors


@pytest.fixture(scope="module")
def data() -> CrystalDataset:
    """J2DH-8 with a label and a mismatch, as the relaxed data set has them; every 50th row without."""
    rows = build_j2dh8()
    free = [free_lattice_constant(rows.atomic_numbers[:, side]) for side in (slice(0, 4), slice(4, 8))]
    mismatch = np.abs(free[0] - free[1]) / rows.cell[:, 0, 0]
    mismatch[::50] = np.nan
    return replace(rows, scalars={cells.LABEL: 25.0 * mismatch**2 - 0.2, "mismatch": mismatch})


def stackings(data: CrystalDataset, rows: np.ndarray) -> list[tuple[int, int]]:
    return list(zip(data.metadata["registry"][rows], data.metadata["rotation_degrees"][rows], strict=True))


def layers(data: CrystalDataset, rows: np.ndarray) -> list[tuple[int, ...]]:
    return [cells.canonical(data.atomic_numbers[row, side]) for row in rows for side in (slice(0, 4), slice(4, 8))]


def test_the_stacks_are_spread(data):
    rows = cells.choose_rows(data)
    assert len(rows) == len(set(rows.tolist())) == cells.NUM_STACKS
    assert Counter(stackings(data, rows)) == dict.fromkeys(STACKINGS, 4)
    mismatch = data.scalars["mismatch"]
    usable = np.isfinite(mismatch) & (data.metadata["duplicate_of"] == "")
    assert usable[rows].all()
    ends = np.quantile(mismatch[usable], [1 / 3, 2 / 3])
    assert Counter(np.digitize(mismatch[rows], ends).tolist()) == {0: 8, 1: 8, 2: 8}
    used = Counter(layers(data, rows))
    assert {z for layer in used for z in layer} == {*METALS, *CHALCOGENS}
    assert Counter(cells.layer_class(layer) for layer in used) == cells.POOL
    assert max(used.values()) <= 4
    assert len({frozenset(layers(data, [row])) for row in rows}) == cells.NUM_STACKS


def test_the_choice_depends_on_the_seed_alone(data):
    rows = cells.choose_rows(data)
    assert (cells.choose_rows(data) == rows).all()
    assert (cells.choose_rows(data, seed=1) != rows).any()


def test_the_scans_are_spread_too(data):
    rows = cells.choose_rows(data)
    scans = cells.choose_scans(data, rows)
    assert set(scans) <= set(rows)
    assert sorted(stackings(data, scans)) == sorted(STACKINGS)
    place = np.argsort(np.argsort(data.scalars["mismatch"][rows]))[np.isin(rows, scans)]
    assert Counter((place // 8).tolist()) == {0: 2, 1: 2, 2: 2}


@pytest.mark.parametrize(
    ("layer", "name"),
    [((16, 13, 13, 16), "MX"), ((16, 13, 31, 16), "MM'X2"), ((16, 13, 13, 34), "M2XX'"), ((16, 13, 31, 34), "MM'XX'")],
)
def test_classes_of_layers(layer, name):
    assert cells.layer_class(layer) == name


def test_a_task_is_the_cell_it_was_made_from(data):
    for row in (1, 9000, 19_925):
        numbers, positions, cell = data.atomic_numbers[row], data.positions[row], data.cell[row]
        task = cells.make_task("stack/x", numbers, positions, cell)
        found, found_cell = task.slab()
        assert task.numbers == numbers.tolist()
        assert (found_cell[:2, :2] == hexagonal_vectors(task.lattice_constant_angstrom)).all()
        apart = (found - positions)[:, :2] @ np.linalg.inv(found_cell[:2, :2])
        np.testing.assert_allclose(apart, np.rint(apart), atol=1e-4)
        np.testing.assert_allclose(found[:, 2] - found[0, 2], positions[:, 2] - positions[0, 2], atol=2e-4)
        assert found[:, 2].min() == pytest.approx(found_cell[2, 2] - found[:, 2].max())
    with pytest.raises(ValueError, match="off the high-symmetry sites"):
        cells.make_task("stack/x", numbers, positions + np.array([0.1, 0, 0]), cell)


def test_stacks_scans_and_held_layers(data):
    rows = cells.choose_rows(data)
    scans = cells.choose_scans(data, rows)
    tasks = cells.stack_tasks(data, rows, scans)
    assert len({task.name for task in tasks}) == len({task.key for task in tasks}) == len(tasks)
    assert Counter(task.name.split("/")[0] for task in tasks) == {"stack": 24, "gap": 24, "held": 48}
    by_name = {task.name: task for task in tasks}
    first = str(data.ids[scans[0]])
    whole, wider = by_name[f"stack/{first}"], by_name[f"gap/{first}/+0.5"]
    np.testing.assert_allclose(
        np.subtract(wider.heights_angstrom, whole.heights_angstrom), [0.0] * 4 + [0.5] * 4, atol=1e-3
    )
    held = [task.name.split("/")[1] for task in tasks if task.name.startswith("held/")]
    assert set(held[:12]) == {str(name) for name in data.ids[scans]}


def make(name: str, number: int = 1) -> cells.Task:
    return cells.Task(name, [number] * 4, [0] * 4, [0.0, 1.0, 2.0, 3.0], 3.0, potential_ev=-1.0)


def test_results_survive_a_kill(tmp_path):
    path, tasks = tmp_path / "results.jsonl", [make("layer/a"), make("layer/b", 2), make("layer/c", 3)]
    asked = []

    def single_point(task: cells.Task) -> dict:
        asked.append(task.name)
        if task.name == "layer/c":
            raise ArithmeticError("the density does not converge")
        return {"pbe_ev": -1.0}

    done: list[int] = []
    failed = calculate.run_all(tasks, path, single_point, done.append)
    assert failed == ["layer/c: the density does not converge"] and done == [1, 2, 3]
    path.write_text(path.read_text()[:-20])
    known = calculate.read_results(path)
    assert list(known) == [tasks[0].key]
    left = [task for task in tasks[:2] if task.key not in known]
    assert calculate.run_all(left, path, single_point) == []
    assert asked == ["layer/a", "layer/b", "layer/c", "layer/b"]
    assert calculate.read_results(path).keys() == {tasks[0].key, tasks[1].key}


def test_a_result_belongs_to_its_geometry_and_settings():
    task = make("layer/a")
    assert cells.Task(**json.loads(json.dumps(task.__dict__))).key == task.key
    assert replace(task, potential_ev=-2.0).key == task.key
    assert replace(task, cutoff_ev=500.0).key != task.key
    assert replace(task, lattice_constant_angstrom=3.1).key != task.key


def test_a_slab_relaxed_again_keeps_its_result():
    task = make("layer/a")
    near = replace(task, heights_angstrom=[0.0, 1.001, 2.0, 3.0], lattice_constant_angstrom=3.0005, potential_ev=-1.1)
    assert cells.settled(near, task) == task
    assert cells.settled(near, None) == near
    for other in ({"heights_angstrom": [0.0, 1.01, 2.0, 3.0]}, {"sites": [0, 0, 0, 1]}, {"kpoints": 9},
                  {"lattice_constant_angstrom": 3.01}):  # fmt: skip
        changed = replace(task, **other)
        assert cells.settled(changed, task) == changed


def test_relaxed_layers_are_those_pressed_most():
    free = [cells.Task(f"layer/{name}", [1] * 4, [0] * 4, [0.0] * 4, 4.0) for name in cells.RELAXED_LAYERS]
    held = [cells.Task(f"held/{a}/top", [52, 49, 31, 16], [0] * 4, [0.0] * 4, a) for a in (3.9, 3.7, 3.8)]
    held += [cells.Task("held/x/top", [16, 49, 49, 52], [0] * 4, [0.0] * 4, 3.6),
             cells.Task("held/y/top", [52, 13, 49, 52], [0] * 4, [0.0] * 4, 3.5)]  # fmt: skip
    found = [task.name for task in cells.relaxed_tasks(free, held)]
    assert found[:2] == ["relaxed/layer/SGaInTe", "relaxed/held/3.7/top"]
    assert found[3::2] == ["relaxed/held/x/top", "relaxed/held/y/top"]


def test_the_minimum_of_a_polynomial_is_found():
    a = 3.6 + np.array(cells.LATTICE_OFFSETS_ANGSTROM)
    place, value = report.fit_minimum(a, -2.0 + 3.0 * (a - 3.65) ** 2 - 4.0 * (a - 3.65) ** 3, 3)
    assert place == pytest.approx(3.65, abs=1e-9) and value == pytest.approx(-2.0, abs=1e-12)
    assert all(math.isnan(x) for x in report.fit_minimum(a, a, 3))
    assert all(math.isnan(x) for x in report.fit_minimum(a, (a - 4.0) ** 2, 3))


def test_the_minimum_of_a_gap_scan_is_near_that_of_lennard_jones():
    gap = 3.25 + np.array(cells.GAP_OFFSETS_ANGSTROM)
    place, depth = report.fit_minimum(gap, 0.2 * ((3.2 / gap) ** 10 - 2.5 * (3.2 / gap) ** 4) / 1.5, 4)
    assert place == pytest.approx(3.2, abs=3e-3) and depth == pytest.approx(-0.2, abs=1e-3)


def test_figures_of_an_agreement():
    label = np.array([-0.2, -0.1, 0.0, 0.3])
    found = report.agreement(label, label - 0.01 * np.array([1, 1, 1, 5]))
    assert found["mean error"] == pytest.approx(0.02)
    assert found["median error"] == pytest.approx(0.01)
    assert found["mean absolute error"] == pytest.approx(0.02)
    assert found["mean absolute error, mean removed"] == pytest.approx(0.015)
    assert found["largest absolute error"] == pytest.approx(0.05)
    assert found["standard deviation of the error"] == pytest.approx(0.02)
    assert found["Spearman"] == pytest.approx(1.0)
    assert report.agreement(label, 2 * label)["slope of the reference over the label"] == pytest.approx(2.0)
    assert report.agreement(label, -label)["Pearson"] == pytest.approx(-1.0)


def test_shares_of_pairs_in_order():
    label, reference = np.array([0.0, 0.05, 0.10, 0.20]), np.array([0.0, 0.06, 0.04, 0.30])
    assert report.ordered_share(label, reference, 0.05, widest=1.1) == (0.5, 2)
    assert report.ordered_share(label, reference, 0.1, widest=1.1) == (1.0, 2)
    assert report.ordered_share(label, np.zeros(4), 0.05, widest=1.1) == (0.5, 2)
    assert report.ordered_share(label, reference, 5.0)[1] == 0


def energies_of(values: dict[str, tuple[cells.Task, float, float]]) -> report.Energies:
    """From the task and the energies of PBE and D3 of each name."""
    tasks = [task for task, _, _ in values.values()]
    return report.Energies(tasks, {task.key: {"pbe_ev": pbe, "d3_ev": d3} for task, pbe, d3 in values.values()})


def test_lattice_constants_with_and_without_dispersion():
    values = {}
    for place, offset in enumerate(cells.LATTICE_OFFSETS_ANGSTROM):
        a = 3.525 + offset
        name = f"lattice/SAlAlS/{offset:+.2f}" if offset else "layer/SAlAlS"
        d3 = 0.2 * a
        task = cells.Task(name, [16, 13, 13, 16], [2, 1, 1, 2], [0.0, 1.0, 3.0, 4.0], a, 3.5 * (a - 3.54) ** 2 + d3)
        values[place] = task, 3.5 * (a - 3.58) ** 2, d3
    (row,) = report.lattice_rows(energies_of(values))
    shift = 0.2 / 7.0
    assert row["layer"] == "AlS"
    for name, expected in (("PBE", 3.58), ("SevenNet", 3.54)):
        assert row[name] == pytest.approx(expected, abs=1e-6)
        assert row[f"{name} + D3"] == pytest.approx(expected - shift, abs=1e-6)


def test_the_label_taken_apart(data):
    """Strain and binding of a stack of one layer with itself, from made-up energies."""
    row = 1
    task, *held = cells.stack_tasks(data, np.array([row]), np.array([], int))
    free = cells.Task("layer/SAlAlS", [16, 13, 13, 16], [2, 1, 1, 2], [0.0, 1.0, 3.0, 4.0], 3.525, -10.0)
    parts = {task.name: (replace(task, potential_ev=-20.3), -20.0, -0.5), free.name: (free, -10.0, 0.0)}
    parts |= {one.name: (replace(one, potential_ev=-9.9), -9.95, 0.0) for one in held}
    (found,) = report.stack_rows(energies_of(parts), data)
    expected = {"dft": -0.5, "dft strain": 0.1, "dft binding": -0.6, "potential": -0.3, "potential strain": 0.2,
                "potential binding": -0.5}  # fmt: skip
    for name, value in expected.items():
        assert found[name] == pytest.approx(value), name
