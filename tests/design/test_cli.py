"""sample.py as a person runs it."""

import csv
import json
import signal
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
from pymatgen.core import Structure

from vdw_jax import designer
from vdw_jax.commands import sample
from vdw_jax.design import generate
from vdw_jax.diffusion.samplers import SAMPLERS
from vdw_jax.report.relaxation import relax_samples
from vdw_jax.training.progress import Progress

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


@pytest.fixture
def said(monkeypatch, capsys, export, tmp_path):
    """Runs `main` here with a tiny model: exit status, stdout and stderr."""

    def call(*arguments):
        place = [f"--checkpoint={export}", f"--out={tmp_path / 'out'}", "--sampler=heun", "--steps=2", "--quiet"]
        capsys.readouterr()
        code = 0
        try:
            sample.main([*place, *map(str, arguments)])
        except SystemExit as stopped:
            code = stopped.code
        return code, *capsys.readouterr()

    return call


def test_the_names_of_samplers_are_those_there_are():
    assert sample.SAMPLERS == SAMPLERS


def test_help_says_what_the_model_covers_and_imports_nothing_slow():
    program = "import sys; from vdw_jax.commands.sample import main\n"
    program += "try: main(['--help'])\nfinally: print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    said, modules = " ".join(done.stdout.split()).split("--allow_untrained is given.")
    assert "covers III-VI bilayers of Al, Ga, In with S, Se, Te; 8, 9 or 10 atoms a cell;" in said
    assert "--strict" not in said and "--allow_untrained" in said
    assert not {"jax", "numpy", "pymatgen", "ase", "pandas"} & set(modules.split())


def test_negative_values_stand_apart_from_their_option():
    joined = sample.joined(["--target_energy", "-0.3..-0.1", "--target", "a=-1", "--seed", "-1", "--target_energy"])
    assert joined == ["--target_energy=-0.3..-0.1", "--target", "a=-1", "--seed", "-1", "--target_energy"]
    assert sample.parse_arguments(["--target_energy", "-.5"]).target_energy == "-.5"


@pytest.mark.parametrize(
    "argument, words",
    [
        ("--num_samples=1e12", "invalid int value: '1e12'"),
        ("--num_samples=1000000000000", "from 1 to 100000, not 1000000000000 (all are kept in memory"),
        ("--num_samples=0", "from 1 to 100000, not 0"),
        ("--num_samples=-1", "from 1 to 100000, not -1"),
        ("--steps=0", "number of steps"),
        ("--steps=1000000000000", "number of steps"),
        ("--seed=4294967296", "seed is a whole number from 0 to 4294967295"),
        ("--target_energy=nan", "'nan' is neither a number nor a range"),
        ("--target=energy_ev=inf", "is not NAME=VALUE"),
        ("--target_formula=UTe2", "U not in the training data. This model covers III-VI bilayers of Al, Ga, In"),
        ("--chemical_system=Mo-S", "nearest covered request is In-S. --allow_untrained"),
        ("--colour=1", "unrecognized arguments: --colour=1"),
    ],
)
def test_what_cannot_be_asked_is_said_in_one_line(said, tmp_path, argument, words):
    code, out, err = said(argument)
    assert (code, out) == (2, "") and err.startswith("sample.py: ") and err.count("\n") == 1
    assert words in err and not (tmp_path / "out").exists()


def test_untrained_candidates_as_json(said, tmp_path):
    code, out, err = said("--target_formula=MoGa3S4", "--num_samples=2", "--allow_untrained", "--json")
    rows = json.loads(out)
    assert code == 0 and [row["rank"] for row in rows] == [1, 2]
    assert all("Mo not in" in row["untrained"] and row["valid"] is None for row in rows)
    assert "note: MoGa3S4: Mo not in the training data" in err and "2 structures in" in err
    table = list(csv.DictReader((tmp_path / "out" / "samples.csv").open()))
    assert {row["id"] for row in table} == {row["id"] for row in rows}


def test_all_candidates_not_finite(said, tmp_path, monkeypatch):
    whole = designer.to_crystals

    def broken(batch, *arguments):
        return whole(batch.replace(positions=np.full_like(batch.positions, np.nan)), *arguments)

    monkeypatch.setattr(designer, "to_crystals", broken)
    code, out, err = said("--num_samples=2")
    assert (code, out) == (1, "") and "none of 2 candidates is finite" in err
    assert err.count("\n") == 1 and not (tmp_path / "out").exists()


@pytest.mark.parametrize("name, code", [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_stop_keeps_what_is_finished(said, tmp_path, monkeypatch, name, code):
    monkeypatch.setattr(generate, "default_chunk", lambda: 2)
    with monkeypatch.context() as patch:
        patch.setattr(Progress, "update", lambda *_: signal.raise_signal(signal.Signals[name]))
        found, out, err = said("--num_samples=6", "--seed=5")
    assert found == code and f"stopped by {name}: 2 of 6 candidates are finished" in err
    assert f"--request={tmp_path / 'out'}/request.json" in err and "2 structures in" in out
    assert len(list((tmp_path / "out" / "cif").iterdir())) == 2
    short = contents(tmp_path / "out" / "cif")
    sample.main([f"--request={tmp_path / 'out' / 'request.json'}", f"--out={tmp_path / 'all'}", "--quiet"])
    whole = contents(tmp_path / "all" / "cif")
    assert len(whole) == 6 and short == {name: whole[name] for name in short}


def test_a_second_signal_stops_at_once_and_writes_nothing(said, tmp_path, monkeypatch):
    monkeypatch.setattr(generate, "default_chunk", lambda: 2)
    monkeypatch.setattr(Progress, "update", lambda *_: [signal.raise_signal(signal.SIGINT) for _ in range(2)])
    code, out, err = said("--num_samples=6")
    assert (code, out) == (130, "") and err.endswith("sample.py: stopped; nothing more was written\n")
    assert list(tmp_path.iterdir()) == []


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
