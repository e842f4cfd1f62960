"""python -m vdw_jax.evaluate as a person runs it: both halves apart, one summary, and other generators' files."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pandas as pd
import pytest

from tests.evaluate.conftest import moved
from tests.tiny import tiny_config, tiny_facts
from vdw_jax.design.generate import Candidates
from vdw_jax.design.trained import Trained
from vdw_jax.evaluate import cli, generating
from vdw_jax.evaluate.generating import wishes
from vdw_jax.evaluate.reference import ReferenceError, reference_of
from vdw_jax.model.cdvae import CDVAE
from vdw_jax.model.cwgan import Generator
from vdw_jax.structures.arrays import read_arrays
from vdw_jax.training.losses import LossConfig
from vdw_jax.types import CrystalBatch

ROOT = Path(__file__).parents[2]
WITHOUT_CRYSTALS = """
import sys
for name in ("pymatgen", "ase", "smact", "spglib", "matminer", "pandas"):
    sys.modules[name] = None
from vdw_jax.evaluate import cli, generating
from vdw_jax.evaluate.reference import load_reference
load_reference({"source": "j2dh8", "path": "", "properties": [], "max_atoms": 8, "split": "pair", "split_seed": 0})
"""


def run(monkeypatch, *arguments) -> None:
    monkeypatch.setattr(sys, "argv", ["evaluate", *map(str, arguments)])
    cli.main()


def refused(monkeypatch, capsys, *arguments) -> str:
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, *arguments)
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


@pytest.fixture
def trained(monkeypatch, reference) -> Trained:
    """A model whose answers are structures of the test part, atoms moved a little; its weights are never read."""
    config = tiny_config()
    noise = LossConfig(**tiny_facts()["config"]["loss"])
    made = Trained(CDVAE(config), Generator(config.latent_dim, (4,)), {}, noise, tiny_facts())
    test = reference.data.select(reference.parts["test"])

    def answers(count: int, seed: int, numbers: np.ndarray) -> Candidates:
        random = np.random.default_rng(seed)
        rows = np.arange(count) % len(test)
        positions = test.positions[rows] + random.normal(scale=0.03, size=(count, 8, 3)).astype(np.float32)
        crystals = CrystalBatch(numbers[rows % len(numbers)], positions, test.cell[rows])  # type: ignore[arg-type]
        return Candidates(crystals, np.full((count, 1), 0.1, np.float32))  # type: ignore[arg-type]

    def generate(_, request, count, seed, schedule=None, on_progress=None):
        held = np.array([request.slots[:8]]) if request.slots.any() else test.atomic_numbers
        return answers(count, seed, held)

    def reconstruct(_, crystals, seed, schedule=None, on_progress=None):
        random = np.random.default_rng(seed)
        noisy = np.asarray(crystals.positions) + random.normal(scale=0.03, size=crystals.positions.shape)
        found = CrystalBatch(np.asarray(crystals.atomic_numbers), noisy, np.asarray(crystals.cell))
        return Candidates(found, np.zeros((len(noisy), 1), np.float32))  # type: ignore[arg-type]

    monkeypatch.setattr("vdw_jax.design.trained.load_trained", lambda _: made)
    monkeypatch.setattr(generating, "generate", generate)
    monkeypatch.setattr(generating, "reconstruct", reconstruct)
    return made


@pytest.fixture
def generated(trained, tmp_path, monkeypatch) -> Path:
    """What the half for the device leaves."""
    out = tmp_path / "out"
    counts = ["--reconstructions=3", "--samples=3", "--each=1", "--formulas=2", "--energies=2"]
    run(monkeypatch, "all", f"--out={out}", *counts, "--data=j2dh8", "--allow_other_data", "--only=generate",
        "--quiet")  # fmt: skip
    return out


def test_the_half_for_the_device_needs_no_crystal_library():
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_CRYSTALS], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_both_halves_make_one_summary(generated, tmp_path, monkeypatch):
    scoring = ["--only=score", "--workers=1", "--references=3", f"--cache={tmp_path}", "--quiet", f"--out={generated}"]
    run(monkeypatch, "all", *scoring)
    summary = json.loads((generated / "summary.json").read_text())
    for name in ("match_rate", "registry_accuracy", "struct_valid", "comp_valid", "cov_recall", "cov_precision",
                 "bilayer_rate", "formula_exact", "tight_match_rate", "novelty", "uniqueness"):  # fmt: skip
        assert 0 <= summary[f"{name}_low"] <= summary[name] <= summary[f"{name}_high"] <= 1
    assert {"rmse", "wdist_density", "wdist_num_elems", "energy_mae"} <= summary.keys()
    assert summary["formula_exact"] == 1.0 and summary["registry_accuracy"] == 1.0
    record = summary["records"]["conditional"]
    for name in ("device", "seed", "command", "data_hash", "network_calls", "generate_seconds", "score_seconds"):
        assert record[name] not in (None, ""), name
    assert record["energy_model"] == "property head of the generator"
    table = pd.read_parquet(generated / "conditional.parquet")
    assert len(table) == 6 and table["asked"].value_counts().to_dict() == {
        "energy": 2, "formula held": 2, "formula free": 2,
    }  # fmt: skip
    assert pd.read_csv(generated / "reconstruction.csv")["id"].str.startswith("j2dh8-").all()

    before = summary["match_rate"], summary["records"]["reconstruction"]
    run(monkeypatch, "generation", *scoring, "--seed=1")
    summary = json.loads((generated / "summary.json").read_text())
    assert (summary["match_rate"], summary["records"]["reconstruction"]) == before
    page = tmp_path / "RESULTS.md"
    run(monkeypatch, "page", generated / "summary.json", f"--out={page}")
    text = page.read_text()
    assert "## Reconstruction of held-out structures" in text and "| COV-R |" in text and record["command"] in text


def test_candidates_that_are_not_finite_are_said(trained, tmp_path, monkeypatch, capsys):
    whole = generating.generate

    def one_broken(*args, **kwargs):
        found = whole(*args, **kwargs)
        found.crystals.positions[1, 0, 0] = np.nan
        return found

    monkeypatch.setattr(generating, "generate", one_broken)
    run(monkeypatch, "generation", f"--out={tmp_path}", "--samples=3", "--data=j2dh8", "--allow_other_data",
        "--only=generate", "--quiet")  # fmt: skip
    assert "generation: 1 of 3 are not finite" in capsys.readouterr().err
    record, _ = read_arrays(tmp_path / "generation.npz")
    assert record["not_finite"] == 1


def test_arrays_are_not_made_twice_nor_scored_against_other_data(generated, tmp_path, monkeypatch, capsys):
    capsys.readouterr()
    said = refused(monkeypatch, capsys, "generation", f"--out={generated}")
    assert "generation.npz is there" in said
    said = refused(monkeypatch, capsys, "generation", f"--out={tmp_path}")
    assert "its test part may have been seen; --allow_other_data" in said
    with np.load(generated / "generation.npz") as stored:
        arrays = {name: stored[name] for name in stored.files}
    record = json.loads(str(arrays["record"])) | {"data_hash": "0" * 64}
    np.savez(tmp_path / "generation.npz", **arrays | {"record": np.array(json.dumps(record))})
    assert "000000000000 where it was sampled" in refused(
        monkeypatch, capsys, "generation", f"--out={tmp_path}", "--only=score", "--quiet"
    )


def test_files_of_another_generator(crystals, tmp_path, monkeypatch):
    truths = crystals[:3]
    found = [moved(truths[0], 0.03), truths[2], replace(truths[1], id=truths[2].id)]
    for name, some in (("true", truths), ("made", [found[0], replace(found[1], id=truths[1].id), truths[2]])):
        frames = []
        for crystal in some:
            atoms = crystal.to_ase()
            atoms.info = {"id": crystal.id, "asked_energy_ev": 0.5}
            frames.append(atoms)
        ase.io.write(tmp_path / f"{name}.extxyz", frames, format="extxyz")
    common = ["--structures", tmp_path / "made.extxyz", "--workers=1", "--quiet", "--out", tmp_path / "out"]
    run(monkeypatch, "reconstruction", *common, "--truth", tmp_path / "true.extxyz")
    run(monkeypatch, "conditional", *common, "--energy_model=tests.evaluate.test_scoring:ten_atoms_of_energy")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["registry_accuracy"] == pytest.approx(2 / 3, abs=1e-6)
    assert summary["match_rate"] == 1.0 and summary["energy_mae"] == 7.5
    assert summary["records"]["reconstruction"]["paired_by"] == "id"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["generation", "--samples=0"], "--samples is at least 1"),
        (["reconstruction", "--structures=x"], "needs --truth"),
        (["conditional", "--asked=x.csv"], "go with --structures"),
        (["all", "--structures=x"], "scores one part"),
        (["generation", "--structures=x", "--only=generate"], "nothing is generated"),
        (["generation", "--only=score", "--out=nowhere"], "generate it first"),
        (["page", "nowhere.json"], "nowhere.json: no summary"),
        (["conditional", "--structures=x", "--data=unknown"], "no such file, nor a data set"),
    ],
)
def test_what_cannot_be_done_is_one_line(monkeypatch, capsys, arguments, said):
    assert said in refused(monkeypatch, capsys, *arguments)


def test_energy_models_by_name():
    assert cli.energy_model("math:sqrt").predict(4.0) == 2.0
    for name in ("math", "math:nothing", "no_such_module:f", "math:pi", ":f"):
        with pytest.raises(cli.UsageError, match="energy_model"):
            cli.energy_model(name)


def test_the_data_of_a_model_are_told_from_others(reference):
    config = {"data": {"source": "j2dh8", "path": "", "scalars": ["formation_energy_ev"], "max_atoms": 10,
                       "split": "structure", "split_seed": 0}}  # fmt: skip
    with pytest.raises(ReferenceError, match="in training"):
        reference_of({"config": config, "data_hash": "f" * 64})
    other = reference_of({"config": config, "data_hash": "f" * 64}, allow_other=True)
    same = reference_of({"config": config, "data_hash": other.data_hash})
    assert other.problem and not same.problem
    assert len(same.rows("test", "j2dh8")) == len(same.rows("test"))
    with pytest.raises(ReferenceError, match="no structure of family"):
        same.rows("test", "iii_vi")
    with pytest.raises(ReferenceError, match="by structure, not by pair"):
        reference_of({"config": config, "data_hash": other.data_hash}, split="pair")


def test_wishes_lie_within_the_label(reference, trained):
    label = reference.data.scalars["formation_energy_ev"]
    named = replace(reference, data=replace(reference.data, scalars={"energy_ev": label}))
    asked, notes = wishes(trained, named, 3, 1, 0)
    kinds = ["energy"] * 3 + ["energy and formula"] * 3 + ["formula held", "formula free"]
    assert [wish.kind for wish in asked] == kinds
    assert notes["energy_label"] == "energy_ev"
    energies = [wish.energy_ev for wish in asked[:3]]
    np.testing.assert_allclose(energies[::2], np.percentile(label, [5, 95]), atol=1e-4)
    assert energies == [wish.energy_ev for wish in asked[3:6]]
    formulas = {reference.data.formula(row) for row in reference.rows("test")}
    assert {wish.formula for wish in asked[3:]} <= formulas
