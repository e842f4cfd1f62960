"""The study of the recognition of layers: what it reads, and what it says of it."""

from __future__ import annotations

import gzip
import sys

import numpy as np
import pytest

from studies import layer_recognition as study


def test_without_the_data_nothing_is_written(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(study, "DATA", tmp_path / "none")
    monkeypatch.setattr(sys, "argv", ["study", f"--out={tmp_path / 'page.md'}"])
    study.main()
    assert "nothing was done" in capsys.readouterr().out
    assert not any(tmp_path.iterdir())


def frame(identifier: str, heights: list[float], sites: list[int]) -> str:
    """Planes of Bi over the three sites of a hexagonal cell."""
    places = [(0.0, 0.0), (0.0, 2.4826), (2.15, 1.2413)]
    atoms = [f"Bi {places[s][0]} {places[s][1]} {z}" for s, z in zip(sites, heights, strict=True)]
    lattice = "4.3 0 0 -2.15 3.7239 0 0 0 40"
    header = f'Lattice="{lattice}" Properties=species:S:1:pos:R:3 pbc="T T F" id="{identifier}"'
    return "\n".join([str(len(atoms)), header, *atoms]) + "\n"


def test_rows_say_what_was_found(tmp_path):
    apart = frame("apart", [0, 1.73, 4.33, 6.06], [0, 1, 0, 1])
    bonded = frame("bonded", [0, 1.73, 3.46, 5.19], [0, 1, 0, 1])
    far = frame("far", [0, 1.73, 14.33, 16.06], [0, 1, 0, 1])
    path = tmp_path / "slabs.extxyz.gz"
    path.write_bytes(gzip.compress((apart + bonded + far).encode()))
    rows = [study.row_of("homobilayers", *slab) for slab in study.read_slabs(path)]
    assert [row.id for row in rows] == ["apart", "bonded", "far"]
    assert [row.is_bilayer for row in rows] == [True, False, False]
    assert [row.kind for row in rows] == ["", "layers in contact like a bond", "too far apart"]
    assert rows[0].shortest == pytest.approx(np.hypot(2.6, 2.4826) / 2.96, abs=1e-4)  # Bi: 1.48 Angstrom
    assert rows[1].shortest == pytest.approx(np.hypot(1.73, 2.4826) / 2.96, abs=1e-4)
    summary = study.summary_of(rows, seed=0)
    assert summary["bilayer_rate"] == pytest.approx(1 / 3)
    assert [row["id"] for row in summary["bonded"]] == ["bonded"]
    assert summary["bilayer_rate_of_not_bonded"] == 0.5


@pytest.mark.slow
def test_rates_on_the_public_data(monkeypatch):
    if not study.DATA.is_dir():
        pytest.skip("no public data beside the repository")
    found = {name: study.rate(study.look(name, 10)) for name in study.FILES}
    assert found["homobilayers"] > 0.96  # 0.97 of all 5,501; every tenth is looked at
    assert found["heterobilayers"] > 0.95
    assert found["monolayers"] < 0.01
