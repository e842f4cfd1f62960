"""Ablations: what each row changes, bulk crystals scored as slabs, and the page."""

import argparse
import json

import numpy as np
import pytest

from benchmarks import ablations
from configs import j2dh8
from tests.tiny import write_export
from vdw_jax.metrics.stacking import same_registry
from vdw_jax.structures.arrays import read_arrays
from vdw_jax.structures.load import load_structures
from vdw_jax.structures.source import load_relaxed

SETTINGS = argparse.Namespace(steps=1000, batch=8, seed=3, reconstructions=2, samples=2, quiet=True)


@pytest.mark.parametrize("name", ablations.ROWS)
def test_rows_change_what_they_say_and_nothing_else(name):
    row = ablations.ROWS[name]
    config, shipped = ablations.create_config(row, SETTINGS), j2dh8.get_config()
    for key, value in row.changes.items():
        assert _at(config, key) == value
        assert _at(shipped, key) != value
    plain = ablations.create_config(ablations.ROWS["default"], SETTINGS)
    plain.update_from_flattened_dict(row.changes)
    assert config == plain
    assert (config.train.num_steps, config.train.batch_size, config.seed) == (1000, 8, 3)


def _at(config, key: str):
    for word in key.split("."):
        config = config[word]
    return config


def test_unlike_rows():
    changes = [json.dumps([row.changes, row.is_bulk], sort_keys=True) for row in ablations.ROWS.values()]
    assert len(set(changes)) == len(changes)


def test_bulk_crystals_are_scored_as_slabs(tmp_path, monkeypatch):
    """Written with vacuum, read back as bulk, moved by half a period along c: the same stacking as before."""
    data = load_relaxed("j2dh8")[0].select([7, 12_345, 19_000])
    monkeypatch.setattr(ablations, "load_source", lambda *_, **__: data)
    path = ablations._write_bulk(j2dh8.get_config(), tmp_path)
    read, _ = load_structures(path, (), max_atoms=10, periodicity="bulk", cache_dir=tmp_path, quiet=True)
    assert read.periodicity == (True, True, True)
    moved = read.batch()
    half = moved.cell[:, None, 2] / 2
    real = (moved.atomic_numbers > 0)[..., None]
    moved = moved.replace(positions=np.where(real, (moved.positions + half) % moved.cell[:, 2, 2, None, None], 0))
    moved.positions[..., :2] = read.positions[..., :2]
    slabs = ablations.as_slabs(moved)
    for row in range(3):
        truth = data.atomic_numbers[row], data.positions[row], data.cell[row]
        found = slabs.atomic_numbers[row], slabs.positions[row], slabs.cell[row]
        assert same_registry(truth, found)
        np.testing.assert_allclose(np.ptp(found[1][:8, 2]), data.slab_height[row], atol=1e-3)


def test_a_row_is_recorded_and_kept(tmp_path, monkeypatch, capsys):
    """With a model that is there already instead of a training."""
    write_export(tmp_path / "row" / "export")
    lines = [
        {"step": 50, "time_s": 100.0, "train/loss": 2.0},
        {"step": 100, "time_s": 190.0, "train/loss": 1.0},
        {"step": 100, "time_s": 191.0, "validation/kl": 33.0},
    ]
    (tmp_path / "row" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    monkeypatch.setattr(ablations, "train_row", lambda name, given: tmp_path / "row")
    given = argparse.Namespace(**vars(SETTINGS), out=str(tmp_path / "out"), rows=["default"])
    ablations.run_generate(given)
    record, arrays = read_arrays(tmp_path / "out" / "default.npz")
    assert record["training_minutes"] == 1.5
    assert record["kl"] == 33.0
    assert arrays["free/cell"].shape == arrays["truth/cell"].shape == (2, 3, 3)
    ablations.run_generate(given)
    assert "there already" in capsys.readouterr().err


def test_page():
    record = {
        "row": "default", "title": "as shipped", "steps": 1500, "batch": 128, "reconstructions": 512, "samples": 64,
        "network_calls": 50, "seed": 0, "device": "a device", "jax": "1.2", "date": "2026-01-01", "command": "python x",
        "match_rate": 0.985, "rmse": 0.01234, "tight_match_rate": 0.5, "registry_accuracy": 0.25, "bilayer_rate": 1.0,
        "kl": 51.26, "training_minutes": 1.04,
    }  # fmt: skip
    text = ablations.page([record, record | {"title": "another", "rmse": float("nan")}])
    assert "| as shipped | 98.5 % | 0.0123 | 50.0 % | 25.0 % | 100.0 % | 51.3 | 1.0 |" in text
    assert "| another | 98.5 % | nan |" in text
    for said in ("1,500 steps of 128", "512 structures", "64 from nothing", "seed 0", "a device", "python x"):
        assert said in text
