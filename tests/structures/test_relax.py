"""Relaxation of many slabs: step by step what ASE does one by one."""

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS

from vdw_jax.structures.errors import DataError
from vdw_jax.structures.j2dh8 import build_j2dh8
from vdw_jax.structures.potentials import AsePotential, Evaluation, create_calculator, create_potential
from vdw_jax.structures.relax import relax

SPECIES = [[13, 29, 0], [29, 13, 29]]


def slabs() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two and three layers of Al and Cu, stacked as in fcc, stretched."""
    numbers, positions, cell = np.array(SPECIES), np.zeros((2, 3, 3)), np.zeros((2, 3, 3))
    for row, constant in enumerate((2.6, 2.8)):
        cell[row] = constant * np.array([[1, 0, 0], [-0.5, np.sqrt(3) / 2, 0], [0, 0, 6]])
        for place in range((numbers[row] > 0).sum()):
            positions[row, place] = np.array([place / 3, 2 * place / 3, 0]) @ cell[row] + [0, 0, 2.4 * place]
    return numbers, positions, cell


def by_ase(numbers, positions, cell, calculator, largest_force) -> tuple[Atoms, int]:
    """The same relaxation by ASE."""
    atoms = Atoms(numbers, positions + [0, 0, cell[2, 2] / 2 - positions[:, 2].mean()], cell=cell, pbc=(1, 1, 0))
    atoms.calc = calculator
    optimizer = BFGS(FrechetCellFilter(atoms, mask=[1, 1, 0, 0, 0, 1]), logfile=None)
    assert optimizer.run(fmax=largest_force, steps=200)
    return atoms, optimizer.nsteps


def compare(potential, calculator, numbers, positions, cell, angstrom: float, ev: float) -> None:
    found = relax(potential, numbers, positions, cell)
    assert found.converged.all()
    for row, species in enumerate(numbers):
        real = species > 0
        atoms, steps = by_ase(species[real], positions[row][real], cell[row], calculator, 0.002)
        assert found.steps[row] == steps
        assert abs(found.energy[row] - atoms.get_potential_energy()) < ev
        np.testing.assert_allclose(found.cell[row], atoms.cell, atol=angstrom)
        apart = found.positions[row][real] - atoms.positions
        np.testing.assert_allclose(apart - apart.mean(0), 0.0, atol=angstrom)


def test_the_path_is_that_of_ase():
    compare(AsePotential(EMT()), EMT(), *slabs(), angstrom=1e-5, ev=1e-6)


def test_rows_do_not_see_each_other():
    numbers, positions, cell = slabs()
    together = relax(AsePotential(EMT()), numbers, positions, cell)
    for row in range(2):
        alone = relax(AsePotential(EMT()), *(x[row : row + 1] for x in (numbers, positions, cell)))
        np.testing.assert_allclose(alone.positions[0], together.positions[row], atol=1e-9)
        assert alone.energy[0] == pytest.approx(together.energy[row], abs=1e-9)
    assert not together.positions[numbers == 0].any()


def test_what_does_not_converge_says_so():
    numbers, positions, cell = slabs()
    found = relax(AsePotential(EMT()), numbers, positions, cell, max_steps=2)
    assert not found.converged.any()
    assert (found.steps == 2).all()
    assert (found.largest_force > 0.002).all()


def test_a_potential_gone_wild_stops_only_its_row():
    numbers, positions, cell = slabs()
    inner = AsePotential(EMT())

    def wild(z, x, h) -> Evaluation:
        found = inner(z, x, h)
        two = (z > 0).sum(1) == 2
        return Evaluation(np.where(two, np.nan, found.energy), np.where(two[:, None, None], np.nan, found.forces),
                          np.where(two[:, None, None], np.nan, found.virial))  # fmt: skip

    found = relax(wild, numbers, positions, cell)
    assert found.converged.tolist() == [False, True]


@pytest.mark.parametrize(
    ("name", "message"),
    [("nonsense", "unknown potential"), ("no.such:thing", "cannot be made"), ("math:nothing", "cannot be made")],
)
def test_unknown_potentials(name, message):
    with pytest.raises(DataError, match=message):
        create_potential(name)


def test_any_calculator_by_name():
    potential, provenance = create_potential("ase.calculators.emt:EMT")
    assert provenance["calculator"] == "ase.calculators.emt:EMT"
    assert np.isfinite(potential(*slabs()).energy).all()


def test_sevennet_with_d3_is_the_sum_of_both():
    """All at once against one by one, with the packages' own calculators."""
    pytest.importorskip("sevenn")
    pytest.importorskip("dftd3")
    data = build_j2dh8()
    rows = [0, 8, 12_345]
    numbers, positions, cell = (x[rows].astype(float) for x in (data.atomic_numbers, data.positions, data.cell))
    numbers = numbers.astype(int)
    potential, provenance = create_potential("sevennet")
    calculator = create_calculator("sevennet")
    assert len(provenance["sevennet_sha256"]) == 64
    shaken = positions + np.random.default_rng(0).normal(scale=0.02, size=positions.shape)
    together, apart = potential(numbers, shaken, cell), AsePotential(calculator)(numbers, shaken, cell)
    np.testing.assert_allclose(together.energy, apart.energy, atol=1e-4)
    np.testing.assert_allclose(together.forces, apart.forces, atol=1e-4)
    np.testing.assert_allclose(together.virial, apart.virial, atol=1e-3)
    compare(potential, calculator, numbers, positions, cell, angstrom=1e-3, ev=1e-3)


def changed(size, step, **values):
    """EMT whose answer for the slab of `size` atoms is another from a call on."""
    potential = AsePotential(EMT())
    calls = []

    def answer(numbers, positions, cell):
        found = potential(numbers, positions, cell)
        calls.append(1)
        chosen = (numbers > 0).sum(1) == size
        fields = {name: np.array(getattr(found, name)) for name in ("energy", "forces", "virial")}
        if len(calls) > step:
            for name, value in values.items():
                fields[name][chosen] = value
        return Evaluation(**fields)

    return answer


@pytest.mark.parametrize("energy", [np.nan, -np.inf])
@pytest.mark.parametrize("step", [0, 2])
def test_an_energy_that_is_no_number_is_not_converged_whatever_the_forces(energy, step):
    numbers, positions, cell = slabs()
    found = relax(changed(2, step, energy=energy, forces=0.0, virial=0.0), numbers, positions, cell)
    assert found.converged.tolist() == [False, True]
    assert found.steps[0] == step


def test_a_cell_that_runs_away_is_given_up_and_the_others_go_on():
    numbers, positions, cell = slabs()
    for virial, factor in ((-1e3, 2.0), (1e3, 0.5)):
        found = relax(changed(2, 0, virial=virial), numbers, positions, cell, max_steps=400)
        assert found.converged.tolist() == [False, True]
        ratio = found.cell[0, 0, 0] / cell[0, 0, 0]
        assert ratio == pytest.approx(factor, rel=0.2) and np.isfinite(found.positions).all()


def test_forces_without_curvature_do_not_end_the_others():
    numbers, positions, cell = slabs()
    found = relax(changed(2, 0, forces=0.5, virial=0.0), numbers, positions, cell, max_steps=60)
    assert found.converged.tolist() == [False, True]


def test_what_a_function_of_the_user_raises_is_one_line(monkeypatch):
    for error in (TypeError("takes 1\nargument"), KeyError("x"), RuntimeError("")):

        def fails(error=error):
            raise error

        monkeypatch.setattr("tests.structures.toy.fails", fails, raising=False)
        with pytest.raises(DataError, match="potential 'tests.structures.toy:fails' cannot be made") as refused:
            create_calculator("tests.structures.toy:fails")
        assert "\n" not in str(refused.value)
