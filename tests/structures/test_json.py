"""JSON of other programs: the same crystal in each layout, and nothing that a file names is run."""

from __future__ import annotations

import contextlib
import json
import sys

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.entries.computed_entries import ComputedStructureEntry

from vdw_jax.structures.errors import DataError
from vdw_jax.structures.json_reader import read_json
from vdw_jax.structures.load import load_structures


def salt() -> Structure:
    corners = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
    middles = [[0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5], [0.5, 0.5, 0.5]]
    return Structure(Lattice.cubic(5.64), ["Na"] * 4 + ["Cl"] * 4, corners + middles)


def jarvis() -> dict:
    crystal = salt()
    elements = [site.specie.symbol for site in crystal]
    return {
        "lattice_mat": crystal.lattice.matrix.tolist(),
        "coords": crystal.frac_coords.tolist(),
        "elements": elements,
        "cartesian": False,
    }


def optimade(**changes) -> dict:
    crystal = salt()
    species = [
        {"name": name, "chemical_symbols": [name], "concentration": [1.0]} for name in ("Na", "Cl")
    ]
    return {
        "lattice_vectors": crystal.lattice.matrix.tolist(),
        "species": species,
        "cartesian_site_positions": crystal.cart_coords.tolist(),
        "dimension_types": [1, 1, 1],
        "species_at_sites": [site.specie.symbol for site in crystal],
        "_x_gap": 5.0,
    } | changes


def read(tmp_path, document) -> list:
    (tmp_path / "a.json").write_text(
        document if isinstance(document, str) else json.dumps(document)
    )
    return list(read_json(tmp_path / "a.json").entries)


LAYOUTS = {
    "one structure": lambda: salt().as_dict(),
    "list": lambda: [salt().as_dict()],
    "by name": lambda: {"m1": salt().as_dict()},
    "entry": lambda: {"entry_id": "m1", "structure": salt().as_dict(), "data": {"gap": 5.0}},
    "computed entry": lambda: [
        ComputedStructureEntry(salt(), -3.0, data={"gap": 5.0}, entry_id="m1").as_dict()
    ],
    "jarvis": lambda: [{"jid": "m1", "gap": 5.0, "mbj": "na", "atoms": jarvis()}],
    "jarvis, cartesian": lambda: [
        {
            "jid": "m1",
            "atoms": jarvis() | {"cartesian": True, "coords": salt().cart_coords.tolist()},
        }
    ],
    "optimade": lambda: {
        "meta": {},
        "data": [{"id": "m1", "type": "structures", "attributes": optimade()}],
    },
    "optimade, one": lambda: {"meta": {}, "data": {"id": "m1", "attributes": optimade()}},
    "split": lambda: {
        "index": ["m1"],
        "columns": ["structure", "gap"],
        "data": [[salt().as_dict(), 5.0]],
    },
    "columns": lambda: {"structure": {"m1": salt().as_dict()}, "gap": {"m1": 5.0}},
    "columns as lists": lambda: {"structure": [salt().as_dict()], "gap": [5.0], "id": ["m1"]},
    "table": lambda: {
        "schema": {},
        "data": [{"id": "m1", "structure": salt().as_dict(), "gap": 5.0}],
    },
    "ase": lambda: [
        {
            "numbers": salt().atomic_numbers,
            "positions": salt().cart_coords.tolist(),
            "cell": salt().lattice.matrix.tolist(),
            "pbc": [True] * 3,
        }
    ],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_holds_the_same_crystal(tmp_path, layout):
    (entry,) = read(tmp_path, LAYOUTS[layout]())
    crystal = salt()
    np.testing.assert_array_equal(entry.atomic_numbers, crystal.atomic_numbers)
    np.testing.assert_allclose(entry.positions, crystal.cart_coords, atol=1e-12)
    np.testing.assert_allclose(entry.cell, crystal.lattice.matrix)
    assert entry.periodicity == (True, True, True)
    assert entry.id == ("m1" if layout not in ("one structure", "list", "ase") else "a-1")
    gaps = {name: value for name, value in entry.values.items() if "gap" in name}
    assert set(gaps.values()) <= {5.0} and bool(gaps) == (
        layout not in ("one structure", "list", "by name", "jarvis, cartesian", "ase")
    )
    assert not any(key.startswith("@") or key == "id" for key in entry.values)


def test_whole_numbers_are_ids_and_counting_is_the_last_resort(tmp_path):
    entries = read(
        tmp_path,
        {"structure": {"0": salt().as_dict(), "1": salt().as_dict()}, "id": {"0": 17, "1": 4}},
    )
    assert [entry.id for entry in entries] == ["17", "4"]
    entries = read(
        tmp_path, {"index": [0, 1], "columns": ["structure"], "data": [[salt().as_dict()]] * 2}
    )
    assert [entry.id for entry in entries] == ["0", "1"]


def test_oxidation_states_are_not_read(tmp_path):
    decorated = salt().add_oxidation_state_by_element({"Na": 1, "Cl": -1})
    (entry,) = read(tmp_path, decorated.as_dict())
    np.testing.assert_array_equal(entry.atomic_numbers, salt().atomic_numbers)
    text = (
        json.dumps(salt().as_dict())
        .replace('"element": "Na"', '"element": "Na+"')
        .replace('"Cl"', '"Cl1-"')
    )
    (entry,) = read(tmp_path, text)
    np.testing.assert_array_equal(entry.atomic_numbers, salt().atomic_numbers)


def changed(**site) -> dict:
    document = salt().as_dict()
    document["sites"][1] |= site
    return document


@pytest.mark.parametrize(
    "document,reason",
    [
        (changed(species=[{"element": "Na", "occu": 0.5}]), "atom 2 is partly occupied"),
        (
            changed(species=[{"element": "Na", "occu": 0.5}, {"element": "K", "occu": 0.5}]),
            "partly occupied",
        ),
        (changed(species=[{"element": "X", "occu": 1}]), "atom 2: 'X' is no element"),
        (changed(species=[{"element": "Va", "occu": 1}]), "atom 2: 'Va' is no element"),
        (changed(species=[]), "atom 2 has no list of species"),
        (changed(abc=["0", "0", "0"]), "not 8 x 3 numbers"),
        (changed(abc=[0, 0]), "rows of different lengths"),
        (changed(abc=None), "rows of different lengths"),
        (salt().as_dict() | {"lattice": {"matrix": [[1, 0, 0]]}}, "lattice: not 3 x 3 numbers"),
        (salt().as_dict() | {"lattice": 3}, "the lattice is no dictionary"),
        (jarvis() | {"elements": ["Na"]}, "not 1 x 3 numbers"),
        (jarvis() | {"cartesian": "no"}, "neither true nor false"),
        (
            optimade(
                species=[
                    {"name": "Na", "chemical_symbols": ["Na", "K"], "concentration": [0.5, 0.5]}
                ]
            ),
            "partly",
        ),
        (
            optimade(species=[{"name": "Na", "chemical_symbols": ["Na"], "concentration": [0.9]}]),
            "partly occupied",
        ),
        (optimade(structure_features=["implicit_atoms"]), "implicit_atoms"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, document, reason):
    good, problem = read(tmp_path, {"good": salt().as_dict(), "bad": document})
    assert good.id == "good" and (problem.row, problem.id) == (2, "bad")
    assert reason in problem.reason


def test_a_slab_of_optimade_has_no_period_along_c(tmp_path):
    vectors = salt().lattice.matrix.tolist()
    vectors[2] = [None, None, None]
    (entry,) = read(tmp_path, [optimade(dimension_types=[1, 1, 0], lattice_vectors=vectors)])
    assert entry.periodicity == (True, True, False)
    np.testing.assert_array_equal(entry.cell[2], 0)


def test_species_by_names_of_their_own(tmp_path):
    sites = ["metal"] * 4 + ["halide"] * 4
    species = [
        {"name": "metal", "chemical_symbols": ["Na"], "concentration": [1.0]},
        {"name": "halide", "chemical_symbols": ["Cl"], "concentration": [1.0]},
    ]
    (entry,) = read(tmp_path, [optimade(species=species, species_at_sites=sites)])
    np.testing.assert_array_equal(entry.atomic_numbers, salt().atomic_numbers)


def test_a_key_that_occurs_twice_costs_its_item(tmp_path):
    good = json.dumps({"structure": salt().as_dict(), "gap": 1})
    twice = good.replace('"gap": 1', '"gap": 1, "gap": 2')
    first, problem = read(tmp_path, f"[{good}, {twice}]")
    assert first.values["gap"] == 1 and "the key 'gap' occurs twice" in problem.reason
    with pytest.raises(DataError, match="the key 'm1' occurs twice"):
        read(tmp_path, f'{{"m1": {good}, "m1": {good}}}')
    with pytest.raises(DataError, match="'gap' occurs more than once"):
        read(tmp_path, {"columns": ["structure", "gap", "gap"], "data": [[salt().as_dict(), 1, 2]]})


def test_two_values_of_one_name_are_both_there(tmp_path):
    document = {"structure": salt().as_dict(), "gap": 1.0, "data": {"gap": 2.0, "bulk": 3.0}}
    (entry,) = read(tmp_path, [document])
    assert (entry.values["gap"], entry.values["data.gap"], entry.values["bulk"]) == (1.0, 2.0, 3.0)


@pytest.mark.parametrize(
    "document,message",
    [
        ([1, 2], "no item is a structure of pymatgen, JARVIS, OPTIMADE or ASE"),
        ({"meta": 1, "links": 2}, "its keys are meta, links"),
        ([], "no list or dictionary of structures"),
        ("7", "no list or dictionary of structures"),
        ({"structure": [{"lattice": 1, "sites": 2}], "gap": [1, 2]}, "do not have the same rows"),
    ],
)
def test_documents_without_structures_are_refused_in_one_line(tmp_path, document, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, document)


@pytest.mark.parametrize("place", ["site", "structure", "lattice", "species", "entry", "top"])
def test_nothing_that_a_file_names_is_imported_or_called(tmp_path, monkeypatch, place):
    """A module that would leave a file behind, where pymatgen and ASE look for classes."""
    (tmp_path / "marker.py").write_text(
        "import pathlib\npathlib.Path('ran').write_text('')\n"
        "class Thing:\n    @classmethod\n    def from_dict(cls, d):\n        return cls()\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    named = {
        "@module": "marker",
        "@class": "Thing",
        "__ase_objtype__": "marker",
        "__name__": "marker.Thing",
    }
    structure = salt().as_dict()
    entry = {"structure": structure, "gap": 1.0, "extra": dict(named)}
    {
        "site": structure["sites"][0]["properties"],
        "structure": structure,
        "lattice": structure["lattice"],
        "species": structure["sites"][0]["species"][0],
        "entry": entry,
        "top": entry,
    }[place].update(named)
    document = {"data": entry, **named} if place == "top" else [entry]
    (tmp_path / "a.json").write_text(json.dumps(document))
    with contextlib.suppress(DataError):
        load_structures(tmp_path / "a.json", on_error="skip", use_cache=False)
    assert not (tmp_path / "ran").exists() and "marker" not in sys.modules


def test_text_that_hides_large_arrays_takes_no_memory(tmp_path):
    """ASE would make an array of the shape that is written."""
    row = {
        "numbers": {"__ndarray__": [[10**9], "int64", [1]]},
        "positions": [[0, 0, 0]],
        "cell": {"array": {"__ndarray__": [[3, 3], "float64", [9, 0, 0, 0, 9, 0, 0, 0, 9]]}},
    }
    (entry,) = read(tmp_path, {"1": row, "ids": [1], "nextid": 2})
    assert entry.atomic_numbers.tolist() == [1]
    np.testing.assert_array_equal(entry.cell, 9 * np.eye(3))
