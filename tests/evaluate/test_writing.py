"""What an evaluation writes: tables that do nothing in a spreadsheet, and no file of somebody else's replaced."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest

from vdw_jax.evaluate import cli
from vdw_jax.evaluate.scoring import Scored
from vdw_jax.evaluate.summary import SummaryError, refuse_foreign, write_scores
from vdw_jax.structures.arrays import has_record, write_arrays
from vdw_jax.structures.table import read_table

RECORD = {"device": "none", "seed": 0, "command": "x", "date": "", "data": {}, "data_hash": ""}


def scored() -> Scored:
    rows = [{"id": "=cmd()", "formula": "GaS", "@note": "+1+1", "energy_ev": -0.25, "valid": True}]
    return Scored(rows, {"match_rate": (1.0, 1.0, 1.0)}, {})


def test_texts_like_formulas(tmp_path):
    write_scores(tmp_path, "generation", scored(), RECORD)
    text = (tmp_path / "generation.csv").read_text()
    assert text == "id,formula,'@note,energy_ev,valid\n'=cmd(),GaS,'+1+1,-0.25,True\n"
    _, (row,) = read_table(tmp_path / "generation.csv", text)
    assert row.cells["id"] == "=cmd()" and row.cells["@note"] == "+1+1"
    assert pd.read_parquet(tmp_path / "generation.parquet")["id"].tolist() == ["=cmd()"]


def test_tables_of_somebody_else_are_kept(tmp_path):
    (tmp_path / "generation.csv").write_text("mine")
    with pytest.raises(SummaryError, match="generation.csv is there, and no evaluation wrote it"):
        write_scores(tmp_path, "generation", scored(), RECORD)
    assert (tmp_path / "generation.csv").read_text() == "mine"
    write_scores(tmp_path, "conditional", scored(), RECORD)
    write_scores(tmp_path, "conditional", scored(), RECORD)  # its own may be replaced
    refuse_foreign(tmp_path, "conditional")
    with pytest.raises(SummaryError):
        refuse_foreign(tmp_path, "generation")


def test_arrays_of_somebody_else_are_kept(tmp_path, monkeypatch, capsys):
    np.savez(tmp_path / "generation.npz", x=np.arange(3))
    before = (tmp_path / "generation.npz").read_bytes()
    arguments = ["generation", f"--out={tmp_path}", "--only=generate", "--overwrite"]
    monkeypatch.setattr(sys, "argv", ["evaluate", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    assert "was not written by an evaluation" in capsys.readouterr().err
    assert (tmp_path / "generation.npz").read_bytes() == before
    write_arrays(tmp_path / "own.npz", {"part": "generation"}, {"x": np.arange(3)})
    assert has_record(tmp_path / "own.npz") and not has_record(tmp_path / "generation.npz")


def test_a_disk_that_is_full_is_one_line(tmp_path, monkeypatch, capsys):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cli, "_run", full)
    monkeypatch.setattr(sys, "argv", ["evaluate", "generation", f"--out={tmp_path}"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "vdw_jax.evaluate: [Errno 28] No space left on device\n"
