"""What `check` says: every problem, what was found and not read, one line on cells that are too large, or JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace

import ase.io
import pytest
from ase import Atoms
from ase.build import bulk, make_supercell

from vdw_jax.commands import check, check_report
from vdw_jax.structures import check as alias
from vdw_jax.structures.load import load_file
from vdw_jax.structures.source import load_relaxed


def slabs(count: int) -> list[Atoms]:
    data, _ = load_relaxed("j2dh8")
    made = []
    for row in range(count):
        atoms = Atoms(data.atomic_numbers[row], data.positions[row], cell=data.cell[row], pbc=True)
        atoms.info = {"id": f"m{row}", "gap": 0.5 + 0.3 * row}
        made.append(atoms)
    return made


def run(capsys, *arguments) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        check.main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return int(stopped.value.code or 0), said.out, said.err


def test_json(tmp_path, capsys):
    broken = bulk("NaCl", "rocksalt", a=0.1)
    ase.io.write(tmp_path / "a.extxyz", [*slabs(3), broken])
    code, out, err = run(capsys, tmp_path / "a.extxyz", "--json")
    said = json.loads(out)
    assert (code, err, set(said)) == (1, "", {"structures", "problems"})
    assert [set(one) for one in said["structures"]] == [
        {"id", "formula", "num_atoms", "periodicity", "layers"}
    ] * 3
    first = said["structures"][0]
    assert (first["id"], first["num_atoms"], first["periodicity"], first["layers"]) == (
        "m0",
        8,
        "slab",
        2,
    )
    (problem,) = said["problems"]
    assert set(problem) == {"file", "row", "field", "message"}
    assert (problem["file"], problem["row"]) == (str(tmp_path / "a.extxyz"), 4)


def test_json_of_crystals_and_of_what_is_no_file(tmp_path, capsys):
    ase.io.write(tmp_path / "a.extxyz", bulk("NaCl", "rocksalt", a=5.64))
    _, out, _ = run(capsys, tmp_path / "a.extxyz", "--json")
    (one,) = json.loads(out)["structures"]
    assert (one["formula"], one["periodicity"], one["layers"]) == ("NaCl", "bulk", None)
    code, out, err = run(capsys, tmp_path / "b.extxyz", "--json")
    assert (code, json.loads(out)["problems"][0]["field"]) == (
        2,
        "file",
    ) and "cannot be read" in err


def test_cells_that_are_too_large_are_one_line(tmp_path, capsys):
    few = slabs(8)
    large = [
        make_supercell(atoms, [[place, 0, 0], [0, 1, 0], [0, 0, 1]])
        for place, atoms in enumerate(few[2:], 3)
    ]
    for place, atoms in enumerate(large):
        atoms.info = {"id": f"large{place}", "gap": 1.0 + 0.1 * place}
    ase.io.write(tmp_path / "a.extxyz", [*few[:2], *large])
    code, out, _ = run(capsys, tmp_path / "a.extxyz", "--quiet")
    assert code == 1 and out.count("at most 20 are asked for") == 0
    line = next(line for line in out.splitlines() if "more than 20 atoms" in line)
    assert line.startswith("6 structures have more than 20 atoms, 64 at most; --max_atoms=")
    assert "24 takes 1 of them" in line and "64 takes all" in line
    assert (
        "2 structures of" in out
        and "6 can not" in out
        and "this leaves out 6 of 8 structures" in out
    )
    _, out, _ = run(capsys, tmp_path / "a.extxyz", "--quiet", "--each")
    assert out.count("at most 20 are asked for") == 6
    assert run(capsys, tmp_path / "a.extxyz", "--quiet", "--max_atoms=64")[0] == 0


def test_columns_that_say_nothing_are_not_proposed(tmp_path, capsys):
    few = slabs(4)
    for place, atoms in enumerate(few):
        atoms.info = {
            "id": f"m{place}",
            "index": 10 * place,
            "constant": 2.0,
            "energy, PBE": 0.3 * place**2,
        }
    ase.io.write(tmp_path / "a.extxyz", few)
    _, out, _ = run(capsys, tmp_path / "a.extxyz", "--quiet")
    assert "note        index is not proposed to train on: it names the structures" in out
    assert "note        constant is not proposed to train on: it never varies" in out
    assert 'data.scalars=["energy, PBE"]' in out
    for atoms in few:
        del atoms.info["energy, PBE"]
    ase.io.write(tmp_path / "b.extxyz", few)
    _, out, _ = run(capsys, tmp_path / "b.extxyz", "--quiet")
    assert "there is nothing but formulas to ask for" in out and "--config.data.scalars= " in out


def test_what_is_found_and_not_read_is_listed(tmp_path, capsys):
    few = slabs(2)
    few[0].info["spectrum"] = [1.0, 2.0]
    ase.io.write(tmp_path / "a.extxyz", few)
    _, out, _ = run(capsys, tmp_path / "a.extxyz", "--quiet")
    assert "note        not single numbers or texts, and not read: spectrum" in out


def test_where_slabs_and_crystals_are_mixed_the_flag_is_named(tmp_path, capsys):
    ase.io.write(tmp_path / "a.extxyz", [*slabs(2), bulk("NaCl", "rocksalt", a=5.64), bulk("Si")])
    _, out, _ = run(capsys, tmp_path / "a.extxyz", "--quiet")
    assert (
        "2 of 4 structures are slabs by their vacuum or pbc, the others are not. Say --periodicity=slab"
        in out
    )


def test_the_command_that_is_proposed_fits(tmp_path, monkeypatch):
    ase.io.write(tmp_path / "a.extxyz", slabs(2))
    monkeypatch.setattr(check_report, "settings_that_fit", lambda _: {"train.batch_size": 2})
    given = SimpleNamespace(path="a.extxyz", max_atoms=20, periodicity="auto", each=False)
    lines = check_report.report(load_file(tmp_path / "a.extxyz"), given)
    assert "--config.train.batch_size=2 --workdir" in lines[-1]


def test_the_old_name_is_an_alias():
    assert alias.main is check.main


def test_help_needs_no_library():
    script = "import sys; from vdw_jax.commands import check\ntry:\n    check.main(['--help'])\nexcept SystemExit:\n    pass\n"
    script += "print([name for name in ('jax', 'pymatgen', 'ase', 'numpy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.endswith("[]\n"), done


@pytest.mark.parametrize("flag", ["--max_atoms=0", "--periodicity=wire"])
def test_bad_flags(capsys, flag):
    code, _, err = run(capsys, "a.csv", flag)
    assert code == 2 and flag.split("=")[1] in err
