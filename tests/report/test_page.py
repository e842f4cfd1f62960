"""The page as text: whole, self-contained, and nothing of the data gets out of its place."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from tests.report.conftest import HOSTILE, candidates
from vdw_jax.report.page import json_for_script, label_and_unit, render_page
from vdw_jax.report.ranking import add_ranks

VOID = {"meta", "link", "input", "img", "br"}


class Reader(HTMLParser):
    """Elements must close in order; texts of scripts by id, attributes that load something, and the title."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.scripts: dict[str, str] = {}
        self.loads: list[str] = []
        self.handlers: list[str] = []
        self.title = ""
        self._script = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.loads += [found[name] for name in ("src", "href", "action", "data") if found.get(name)]
        self.handlers += [name for name in found if name.startswith("on")]
        self._script = found.get("id", "main") if tag == "script" else ""
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[self._script] = self.scripts.get(self._script, "") + data
        elif self.open and self.open[-1] == "title":
            self.title += data


@pytest.fixture(scope="module")
def made():
    crystals, rows = candidates(12)
    record = {"command": f"python sample.py --x='{HOSTILE}'", "versions": {"jax": "0.10"}}
    training = {"energy_ev": np.array([-0.2, 0.0, 0.4, np.nan])}
    return crystals, rows, Reader(render_page(crystals, rows, record, training))


def test_self_contained(made):
    page = made[2]
    assert page.loads == ["data:,", "#candidates"] and page.handlers == []
    style_and_code = page.scripts["main"]
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", style_and_code)
    assert "createViewer" in page.scripts["viewer-code"] and "GLViewer" in page.scripts["viewer-code"]
    assert "University of Pittsburgh" in page.scripts["viewer-licence"]
    assert set(page.scripts) == {"data", "viewer-licence", "viewer-code", "main"}


def test_data_come_back(made):
    crystals, rows, page = made
    data = json.loads(page.scripts["data"])
    keys = [column["key"] for column in data["columns"]]
    assert keys[:3] == ["rank", "id", "formula"]
    told = [dict(zip(keys, row, strict=True)) for row in data["rows"]]
    assert [row["rank"] for row in told] == list(range(1, 13))
    assert {row["id"] for row in told} == {crystal.id for crystal in crystals}
    original = {row["id"]: row for row in rows}
    structures = {crystal.id: crystal for crystal in crystals}
    for row, structure in zip(told, data["structures"], strict=True):
        assert row["predicted_energy_ev"] == pytest.approx(original[row["id"]]["predicted_energy_ev"], rel=1e-5)
        assert row["spacegroup"] == original[row["id"]]["spacegroup"]
        crystal = structures[row["id"]]
        assert structure["numbers"] == crystal.atomic_numbers.tolist() and structure["slab"]
        np.testing.assert_allclose(np.reshape(structure["positions"], (-1, 3)), crystal.centred_positions(), atol=1e-4)
        np.testing.assert_allclose(np.reshape(structure["cell"], (3, 3)), crystal.cell, atol=1e-4)
    assert HOSTILE in {row["spacegroup"] for row in told}
    assert data["elements"]["31"]["symbol"] == "Ga"
    assert page.title == "Candidates for GaInSSe, energy −0.1 eV, gap 3 Å"


def test_targets(made):
    energy, gap = json.loads(made[2].scripts["data"])["targets"]
    assert energy["asked"] == "asked_energy_ev" and sum(energy["training"]) == 3
    assert energy["range"][0] < -0.3 and energy["range"][1] > 0.4
    assert gap["training"] is None  # nothing known of it


def test_one_target_needs_no_name(slab):
    row = {"id": slab.id, "asked_formula": "GaS", "asked_gap": 3.0, "predicted_gap": 3.1, "miss_gap": 0.1, "gap": 3.2}
    columns = json.loads(Reader(render_page([slab], [row])).scripts["data"])["columns"]
    labels = {column["key"]: column["label"] for column in columns}
    assert [labels[f"{what}_gap"] for what in ("asked", "predicted", "miss")] == ["asked", "got", "miss"]
    assert labels["gap"] == "gap" and labels["asked_formula"] == "formula, asked"


@pytest.mark.parametrize("name", [HOSTILE, "'", '"', "</script>", "<!--", "-->", "]]>", "{{data}}", "\u2029", "a\nb"])
@pytest.mark.parametrize("prefix", ["", "asked_", "predicted_", "unrelaxed_", "relaxed_"])
def test_names_of_properties_stay_where_they_are(slab, name, prefix):
    rows = add_ranks([{"id": slab.id, "formula": "GaInSSe", f"{prefix}{name}": 1.5, f"predicted_{name}": 1.0}])
    training = {name: np.array([0.5, 2.0])}
    page = Reader(render_page([slab], rows, {"relaxed": name, name: [name]}, training))
    assert page.handlers == [] and page.loads == ["data:,", "#candidates"]
    assert set(page.scripts) == {"data", "viewer-licence", "viewer-code", "main"}
    told = json.loads(page.scripts["data"])
    assert f"{prefix}{name}" in [column["key"] for column in told["columns"]]
    assert told["record"] == {"relaxed": name, name: [name]}


def test_hostile_texts_stay_where_they_are(slab):
    rows = [{"rank": 1, "id": slab.id, "formula": HOSTILE, "asked_formula": HOSTILE, HOSTILE: HOSTILE}]
    page = Reader(render_page([slab], rows, {"command": HOSTILE, HOSTILE: HOSTILE}))
    assert page.title == f"Candidates for {HOSTILE}" and page.handlers == []
    assert json.loads(page.scripts["data"])["rows"][0][2] == HOSTILE
    text = json_for_script([HOSTILE, "{{viewer}}"])
    assert not set("<>&\u2028") & set(text) and json.loads(text) == [HOSTILE, "{{viewer}}"]
    assert "{{viewer}}" in render_page([slab], [{"rank": 1, "id": slab.id, "formula": "{{viewer}}"}])


def test_only_the_best_of_very_many(made, monkeypatch):
    monkeypatch.setattr("vdw_jax.report.page.MOST_CANDIDATES", 5)
    data = json.loads(Reader(render_page(*made[:2])).scripts["data"])
    assert [row[0] for row in data["rows"]] == [1, 2, 3, 4, 5] and data["left_out"] == 7


def test_odd_values(slab, bulk):
    odd = {"a": float("inf"), "b": np.float32(0.1), "c": None, "d": np.bool_(True)}
    page = Reader(render_page([slab, bulk], [{"id": "x", **odd}, {"id": "nacl"}]))
    data = json.loads(page.scripts["data"])
    kinds = {column["key"]: column["kind"] for column in data["columns"]}
    assert data["rows"][0][3:] == [None, 0.1, None, True]
    assert [kinds[key] for key in "abcd"] == ["number", "number", "text", "verdict"]
    assert [structure["slab"] for structure in data["structures"]] == [True, False]
    assert json.loads(Reader(render_page([], [])).scripts["data"])["rows"] == []
    with pytest.raises(ValueError, match="1 crystals but 0 rows"):
        render_page([slab], [])


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("formation_energy_ev", ("formation energy", "eV")),
        ("predicted_formation_energy_per_atom_ev", ("formation energy per atom, got", "eV")),
        ("binding_energy_ev_per_a2", ("binding energy", "eV/Å²")),
        ("min_distance_angstrom", ("shortest distance", "Å")),
        ("spacegroup", ("space group", "")),
        ("unrelaxed_gap_angstrom", ("gap, unrelaxed", "Å")),
        ("relaxed_formation_energy_ev", ("formation energy, relaxed", "eV")),
        ("relaxed_by", ("relaxed by", "")),
    ],
)
def test_labels(key, told):
    assert label_and_unit(key) == told
