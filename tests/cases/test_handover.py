"""Cases 02 (the half of handover), 03, 14 and 21."""

from __future__ import annotations

import csv
import shutil

import pytest
from ase.db import connect

from tests.report.conftest import gas_on_inse
from vdw_jax.commands import handover, relax
from vdw_jax.report.writer import write_samples

ALL = ["gpaw", "poscar", "samples.db", "samples.parquet", "vasp"]


@pytest.fixture
def samples(case, tmp_path):
    """A copy of a folder of samples of a case, which may be written to."""

    def copied(number: str, name: str = "samples"):
        folder = tmp_path / "samples"
        shutil.copytree(case(number) / name, folder, copy_function=shutil.copyfile)
        folder.chmod(0o755)
        return folder

    return copied


@pytest.mark.parametrize("column", ["E_form [eV/atom]", "gap, PBE", "latent", "gap (eV)"])
def test_02_every_name_is_handed_over(run, tmp_path, column):
    row = {"rank": 1, f"asked_{column}": 1.2, f"predicted_{column}": 1.1, column: 1.0}
    folder = write_samples(tmp_path / "samples", [gas_on_inse("s0000")], [row])
    answer = run(handover.main, folder)
    assert answer.code == 0, answer.err
    assert sorted(path.name for path in (folder / "handover").iterdir()) == ALL


@pytest.mark.parametrize(
    ("name", "column", "key", "value"),
    [("samples", "asked_gap (eV)", "asked_gap_eV", 1.2), ("samples_reserved", "natoms", "column_natoms", 8)],
)
def test_03_names_that_are_no_keys_of_ase(case, run, tmp_path, name, column, key, value):
    answer = run(handover.main, case("03") / name, "--best=2", f"--out={tmp_path / 'to'}")
    assert answer.code == 0, answer.err
    assert sorted(path.name for path in (tmp_path / "to").iterdir()) == ALL
    assert answer.err.count("\n") == 1 and f"{column!r} is {key}" in answer.err
    with connect(tmp_path / "to" / "samples.db") as database:
        assert [row.name for row in database.select(f"{key}={value}")] == ["s0000", "s0001"]


@pytest.mark.parametrize(
    ("potential", "problem"),
    [
        ("nan_energy", "the energy is nan at step 0"),
        ("infinite_energy", "the energy is -inf at step 0"),
        ("nan_forces", "a force is not finite at step 0"),
    ],
)
def test_14_what_is_not_finite_is_not_converged(case, samples, run, monkeypatch, potential, problem):
    folder = samples("14")
    monkeypatch.syspath_prepend(str(case("14")))
    answer = run(relax.main, folder, f"--potential=broken_potentials:{potential}", "--quiet")
    assert answer.code == 0, answer.err
    means = next(line for line in answer.out.splitlines() if "converged; on average" in line)
    assert means.startswith("0 of 2 converged") and "nan" not in means and "inf" not in means
    with open(folder / f"relaxed-broken_potentials.{potential}" / "samples.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["relaxed_problem"] for row in rows] == [problem] * 2
    assert [row["relaxed_converged"] for row in rows] == ["False"] * 2


@pytest.mark.parametrize("form", ["poscar", "gpaw", "vasp"])
def test_21_ids_never_leave_the_folder(samples, run, tmp_path, form):
    folder = samples("21")
    before = sorted(tmp_path.rglob("*"))
    answer = run(handover.main, folder, f"--formats={form}")
    assert answer.code == 2 and answer.out == ""
    assert answer.err.count("\n") == 1 and "'../../../escaped0'" in answer.err
    assert sorted(tmp_path.rglob("*")) == before
    answer = run(relax.main, folder, "--potential=tests.report.test_relaxation:still")
    assert answer.code == 2 and "'../../../escaped0'" in answer.err
    assert sorted(tmp_path.rglob("*")) == before
