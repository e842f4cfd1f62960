"""sample.py as a person runs it."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import ase.io
import pytest
from pymatgen.core import Structure

from vdw_jax.commands import sample
from vdw_jax.diffusion.samplers import SAMPLERS
from vdw_jax.report.relaxation import relax_samples

ROOT = Path(__file__).parents[2]


def run(*arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, "sample.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "formula, said", [("GaXx", "unknown element 'Xx'"), ("Ga-2S", "negative count"), ("??", "cannot read")]
)
def test_formulas_that_cannot_be_made(export, tmp_path, formula, said):
    done = run(f"--target_formula={formula}", f"--checkpoint={export}", f"--out={tmp_path / 'out'}")
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_missing_checkpoint(tmp_path):
    done = run("--checkpoint", tmp_path / "none", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [line for line in done.stderr.splitlines() if "no trained model at" in line]


def test_samplers_that_cannot_be(export, tmp_path, monkeypatch, capsys):
    def said(*arguments) -> str:
        monkeypatch.setattr(sys, "argv", ["sample.py", *arguments])
        with pytest.raises(SystemExit) as stopped:
            sample.main()
        assert stopped.value.code == (0 if "--help" in arguments else 2)
        return "".join(capsys.readouterr())

    place = [f"--checkpoint={export}", f"--out={tmp_path / 'out'}"]
    assert all(name in said("--help") for name in SAMPLERS)
    unknown = said("--sampler=newton", *place)
    assert "newton" in unknown and all(name in unknown for name in SAMPLERS)
    assert said("--sampler=heun", "--steps=1", *place) == "sample.py: heun needs at least 2 steps, not 1\n"
    assert not (tmp_path / "out").exists()


def test_relaxed_as_the_command_for_it_does(export, tmp_path, monkeypatch, capsys):
    """The same files as `vdw_jax.report.relaxation` writes; a potential that lacks stops it before any sampling."""
    potential, out = "tests.report.test_relaxation:still", tmp_path / "out"
    wish = ["--target_formula=GaInSSe2", "--num_samples=1", f"--checkpoint={export}", f"--out={out}", "--quiet"]
    wish += ["--sampler=heun", "--steps=2"]
    monkeypatch.setitem(sys.modules, "sevenn.calculator", None)
    monkeypatch.setattr(sys, "argv", ["sample.py", *wish, "--relax=sevennet"])
    with pytest.raises(SystemExit) as stopped:
        sample.main()
    said = capsys.readouterr().err
    assert stopped.value.code == 2 and said.startswith("sample.py: potential 'sevennet' needs a package")
    assert "pip install -e '.[relax]'" in said and not out.exists()
    monkeypatch.setattr(sys, "argv", ["sample.py", *wish, f"--relax={potential}"])
    sample.main()
    assert "1 of 1 converged" in capsys.readouterr().out
    made = contents(out / f"relaxed-{potential.replace(':', '.')}")
    relax_samples(out, potential, overwrite=True)
    assert made == contents(out / f"relaxed-{potential.replace(':', '.')}")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file by its path inside, byte for byte."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_files(export, tmp_path):
    out = tmp_path / "out"
    wish = ["--target_formula=GaInSSe2", "--target_energy=-0.1", "--num_samples=3", f"--checkpoint={export}", "--quiet"]
    wish += ["--sampler=heun", "--steps=4"]
    done = run(*wish, "--out", out)
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((out / "samples.csv").open()))
    assert [atoms.info["id"] for atoms in ase.io.read(out / "samples.extxyz", ":")] == [row["id"] for row in rows]
    for row in rows:
        structure = Structure.from_file(out / "cif" / f"{row['id']}.cif")
        assert structure.composition.reduced_formula == "InGaSe2S"
        assert row["asked_formula"] == "GaInSSe2"
        assert float(row["asked_energy_ev"]) == -0.1
        assert row["id"] in done.stdout
    settings = json.loads((out / "request.json").read_text())
    assert (settings["sampler"], settings["network_calls"]) == ("heun", 4)
    assert run(*wish, "--out", out).returncode == 2  # would overwrite

    again = tmp_path / "again"
    done = run(f"--request={out / 'request.json'}", "--quiet", "--out", again)
    assert done.returncode == 0 and "note:" not in done.stderr, done.stderr
    assert contents(again) == contents(out)
    assert contents(out).keys() >= {"samples.parquet", "report.html", "request.json", f"cif/{rows[0]['id']}.cif"}
