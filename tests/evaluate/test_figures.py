"""The figures of the paper: what is asked and counted, which latents are mapped, and pictures that hold something."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import jax
import matplotlib.image
import numpy as np
import pytest

from tests.tiny import no_conditions, tiny_config, write_export
from vdw_jax.design.generate import Candidates
from vdw_jax.design.trained import load_trained
from vdw_jax.evaluate import figure_arrays, figure_drawing, figure_facts, figures
from vdw_jax.evaluate.figure_arrays import NOTHING, Asked, FigureError, load_arrays, make_arrays
from vdw_jax.evaluate.generating import Job
from vdw_jax.types import CrystalBatch

ROOT = Path(__file__).parents[2]
WITHOUT_CRYSTALS = """
import sys
for name in ("pymatgen", "ase", "smact", "spglib", "matplotlib", "sklearn", "pandas"):
    sys.modules[name] = None
from vdw_jax.evaluate import figure_arrays, figures
from vdw_jax.property_model import trained
"""
NAME = "energy_ev"


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    return load_trained(write_export(tmp_path_factory.mktemp("export")))


@pytest.fixture(scope="session")
def labelled(reference):
    """The reference with the label that the tiny model knows, unknown for one of the test part."""
    label = np.linspace(-0.3, 0.3, len(reference.data)).astype(np.float32)
    label[reference.parts["test"][0]] = np.nan
    return replace(reference, data=replace(reference.data, scalars={NAME: label}))


@pytest.fixture(scope="session")
def asked(labelled) -> Asked:
    return Asked(7, 4, (-0.2, 0.0), figure_arrays.choose_formulas(labelled, (), 2, 0), 100)


class Independent:
    """Stands for a property model: the number of atoms."""

    def predict(self, batch):
        return (np.asarray(batch.atomic_numbers) > 0).sum(1).astype(np.float32)


@pytest.fixture(scope="session")
def made(trained, labelled, asked, tmp_path_factory) -> Path:
    """Arrays whose candidates are structures of the data: those of the formula where counts are held."""
    data = labelled.data
    numbers = np.pad(data.atomic_numbers, ((0, 0), (0, 2))).astype(np.int32)
    positions = np.pad(data.positions, ((0, 0), (0, 2), (0, 0)))

    def generate(_, request, count, seed, schedule=None, on_progress=None):
        rows = np.arange(count) % len(data)
        content = np.tile(request.slots, (count, 1)) if request.slots.any() else numbers[rows]
        on_progress(count)
        aim = request.scalar_low[0] if request.scalar_mask[0] else 0.5
        energies = np.full((count, 1), aim) + 0.01 * np.arange(count)[:, None]
        return Candidates(CrystalBatch(content, positions[rows], data.cell[rows]), energies)  # type: ignore[arg-type]

    folder = tmp_path_factory.mktemp("figures")
    record = {"checkpoint": "tiny", "command": "python -m vdw_jax.evaluate.figures generate"}
    job = Job(trained, labelled, trained.schedule(), 0, folder, record, quiet=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figure_arrays, "generate", generate)
        make_arrays(job, asked, Independent())  # type: ignore[arg-type]
    return folder


@pytest.fixture(scope="session")
def arrays(made):
    return load_arrays(made)


def test_every_wish_has_its_candidates(arrays, asked):
    kinds = arrays.asked_kind
    assert len(kinds) == 7 + 2 * 4 + 2 * 2 * 4 == len(arrays.crystals.cell) == len(arrays.head_ev)
    assert (kinds == NOTHING).sum() == 7 and (kinds == "energy").sum() == 8
    assert set(arrays.asked_formula[kinds == "formula held"]) == set(asked.formulas)
    assert np.isnan(arrays.asked_energy_ev[kinds != "energy"]).all()
    assert arrays.head_ev[arrays.asked_energy_ev == -0.2] == pytest.approx(-0.2 + 0.01 * np.arange(4))


def test_latents_are_those_of_the_rows(arrays, trained, labelled):
    rows = np.flatnonzero(np.isin(labelled.data.ids, arrays.ids))
    assert sorted(rows) == sorted(labelled.parts["test"]) and len(arrays.latent) == len(rows) == 6
    data = labelled.data.select([int(np.flatnonzero(labelled.data.ids == name)[0]) for name in arrays.ids])
    apply = trained.model.apply
    params = {"params": trained.weights["model"]}
    mean, _ = apply(params, jax.tree.map(np.asarray, data.batch()), method="encode")
    np.testing.assert_allclose(arrays.latent, mean, rtol=1e-4, atol=1e-5)
    scalar = tiny_config().scalars[0]
    head = apply(params, mean, method="properties")[:, 0] * scalar.std + scalar.mean
    np.testing.assert_allclose(arrays.data_head_ev, head, rtol=1e-4, atol=1e-5)
    label = data.scalars[NAME]
    known = np.isfinite(label)
    shown = (np.nan_to_num(label)[:, None] - scalar.mean) / scalar.std
    wish = no_conditions(6).replace(scalars=shown, scalar_mask=known[:, None])
    np.testing.assert_allclose(arrays.fused_energy, apply(params, mean, wish, method="fuse"), rtol=1e-3, atol=1e-4)
    wish = no_conditions(6).replace(composition=data.composition(), composition_mask=np.ones(6, bool))
    np.testing.assert_allclose(arrays.fused_formula, apply(params, mean, wish, method="fuse"), rtol=1e-3, atol=1e-4)
    assert known.sum() == 5 and list(arrays.data_formula) == [data.formula(row) for row in range(6)]


def test_labels_are_finite_and_of_their_part(arrays, labelled):
    np.testing.assert_array_equal(arrays.train_label_ev, labelled.data.scalars[NAME][labelled.parts["train"]])
    assert len(arrays.test_label_ev) == 5


def test_formulas_are_counted(arrays, asked):
    first, second = asked.formulas
    came = arrays.formula.copy()
    free = (arrays.asked_kind == "formula free") & (arrays.asked_formula == first)
    came[free] = [first, second, second, "InSe"]
    came[arrays.asked_kind == NOTHING] = [second] * 2 + ["InSe"] * 5
    counts = figure_facts.count_formulas(replace(arrays, formula=came))
    found = {(count.formula, count.kind): (count.met, count.total) for count in counts}
    assert found[first, "formula free"] == (1, 4)
    assert found[first, "formula held"] == found[second, "formula held"] == (4, 4)
    assert found[first, NOTHING] == (0, 7) and found[second, NOTHING] == (2, 7)
    others = next(count.others for count in counts if (count.formula, count.kind) == (first, "formula free"))
    assert others == ((second, 2), ("InSe", 1))


def test_given_formulas_are_reduced(labelled):
    assert figure_arrays.choose_formulas(labelled, ["Se2GaInS", "InGaSSe2"], 3, 0) == ("InGaSe2S",)


def test_the_independent_model_is_shown_where_there_is_one(arrays):
    assert "independent" in figure_facts.energies_of(arrays).source
    own = figure_facts.energies_of(replace(arrays, independent_ev=None, data_independent_ev=None))
    assert "own property head" in own.source
    np.testing.assert_array_equal(own.candidates, arrays.head_ev)


def test_neighbourhood():
    vectors = np.concatenate([np.zeros((11, 2)), np.ones((11, 2))]) + 1e-3 * np.arange(22)[:, None]
    group = np.repeat(["A", "B"], 11)
    energy = np.repeat([0.0, 1.0], 11)
    energy[3] = np.nan
    assert figure_facts.neighbourhood(vectors, energy, group) == (0.0, 1.0)
    gap, same = figure_facts.neighbourhood(vectors, energy, np.arange(22).astype(str))
    assert (gap, same) == (0.0, 0.0)


def test_pictures_hold_something(made, tmp_path, monkeypatch):
    mapped = []

    def tsne_map(vectors, seed):
        mapped.append(vectors)
        return vectors[:, :2]

    monkeypatch.setattr(figure_drawing, "tsne_map", tsne_map)
    monkeypatch.setattr(sys, "argv", ["figures", "draw", str(made), f"--out={tmp_path / 'new'}", "--quiet"])
    figures.main()
    stored = load_arrays(made)
    for given, name in zip(mapped, ("latent", "fused_energy", "fused_formula"), strict=True):
        np.testing.assert_array_equal(given, getattr(stored, name))
    for name in ("fig3.png", "fig4.png", "structures.png"):
        image = matplotlib.image.imread(tmp_path / "new" / name)
        assert min(image.shape[:2]) > 500 and 0.02 < (image[..., :3].min(-1) < 0.98).mean() < 0.9
    page = (tmp_path / "new" / "figures.md").read_text(encoding="utf-8")
    assert "independent" in page and "seed 0" in page and stored.record["device"] in page
    assert "evaluate.figures draw" in page and "evaluate.figures generate" in page
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "fig3.png", "fig4.png", "figures.md", "structures.png"
    ]  # fmt: skip


def test_tsne_keeps_apart_what_is_apart():
    pytest.importorskip("sklearn")
    vectors = np.random.default_rng(0).normal(size=(20, 4)) + 50 * np.repeat([0, 1], 10)[:, None]
    first, second = np.split(figure_facts.tsne_map(vectors, 0), 2)
    assert np.linalg.norm(first.mean(0) - second.mean(0)) > 2 * max(first.std(), second.std())


@pytest.mark.parametrize("vectors", [np.zeros((4, 2)), np.full((9, 2), np.nan)])
def test_tsne_refuses(vectors):
    pytest.importorskip("sklearn")
    with pytest.raises(FigureError, match="latents"):
        figure_facts.tsne_map(vectors, 0)


def test_a_missing_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    with pytest.raises(FigureError, match=r"vdw_jax\[figures\]"):
        figure_facts.tsne_map(np.zeros((9, 2)), 0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["draw", "{here}"], "no figures.npz"),
        (["draw", "{here}/broken.npz"], "not what `generate` writes"),
        (["generate", "--energies=low", "--out={here}"], "--energies=low"),
        (["generate", "--latents=2", "--out={here}"], "--latents"),
        (["generate", "--checkpoint={here}", "--out={here}/new"], "no trained model"),
        (["generate", "--energy_model={here}", "--out={here}/new"], "no property model"),
        (["generate", "--out={made}"], "--overwrite"),
    ],
)
def test_refusals_are_one_line(arguments, words, made, tmp_path, monkeypatch, capsys):
    (tmp_path / "broken.npz").write_bytes(b"no arrays")
    monkeypatch.setattr(sys, "argv", ["figures", *(text.format(here=tmp_path, made=made) for text in arguments)])
    with pytest.raises(SystemExit) as stopped:
        figures.main()
    said = capsys.readouterr().err
    assert stopped.value.code == 2 and words in said and said.count("\n") == 1


def test_a_model_without_an_energy_is_refused(labelled, asked, tmp_path):
    config = SimpleNamespace(config=SimpleNamespace(scalars=()))
    job = Job(SimpleNamespace(model=config), labelled, None, 0, tmp_path, {})  # type: ignore[arg-type]
    with pytest.raises(FigureError, match="without an energy"):
        make_arrays(job, asked)


def test_the_half_for_the_device_needs_no_crystal_library():
    subprocess.run([sys.executable, "-c", WITHOUT_CRYSTALS], cwd=ROOT, check=True)
