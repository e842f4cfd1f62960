"""Quality against calls: what is scored, drawn and said, from arrays whose quality is known."""

import argparse

import numpy as np
import pytest

from benchmarks import calls
from tests.tiny import write_export
from vdw_jax.evaluate.reference import Reference
from vdw_jax.structures.arrays import write_arrays
from vdw_jax.structures.source import load_relaxed

DATA, _ = load_relaxed("j2dh8")
ROWS = np.array([7, 12_345])


def crystals(shift: np.ndarray) -> dict[str, np.ndarray]:
    """Two bilayers, the atoms of the upper layer moved by `shift`."""
    positions = DATA.positions[ROWS].copy()
    positions[positions[..., 2] > 0] += shift
    return {"atomic_numbers": DATA.atomic_numbers[ROWS], "positions": positions, "cell": DATA.cell[ROWS]}


def arrays(rebuilt: np.ndarray, free: np.ndarray) -> dict[str, np.ndarray]:
    parts = {"truth": np.zeros(3), "reconstruction": rebuilt, "free": free}
    return {f"{part}/{name}": values for part, shift in parts.items() for name, values in crystals(shift).items()}


def record(sampler: str, num_calls: int) -> dict:
    return {
        "sampler": sampler, "network_calls": num_calls, "held_out": True, "checkpoint": "runs/x", "grid": "geometric",
        "seed": 3, "reconstructions": 2, "samples": 2, "device": "a device", "jax": "1.2", "date": "2026-01-01",
        "command": "python -m benchmarks.calls generate", "data_hash": "none",
    }  # fmt: skip


@pytest.fixture
def scoring(tmp_path, monkeypatch) -> argparse.Namespace:
    """Of arrays in a folder, for a model whose test part are the two bilayers."""
    data = DATA.select(ROWS)
    reference = Reference(data, {"test": np.arange(2)}, {}, "")
    monkeypatch.setattr(calls, "reference_of", lambda facts, *, allow_other: reference)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return argparse.Namespace(
        arrays=str(tmp_path / "arrays"), out=str(tmp_path / "page"), workers=1, reconstructions=None,
        checkpoint=str(write_export(tmp_path / "export")),
    )  # fmt: skip


def test_table_and_figure(tmp_path, capsys, scoring):
    """The truth itself scores full marks; a layer moved aside loses the registry, one moved away the bilayer; one
    pushed into the other is not covered."""
    stored = tmp_path / "arrays"
    write_arrays(stored / "heun-20.npz", record("heun", 20), arrays(np.zeros(3), np.zeros(3)))
    moved = arrays(np.array([1.0, 0.3, 0.0]), np.array([0.0, 0.0, 6.0]))
    write_arrays(stored / "dpm_solver-50.npz", record("dpm_solver", 50), moved)
    pushed = arrays(np.zeros(3), np.array([0.0, 0.0, -3.0]))
    write_arrays(stored / "dpm_solver-100.npz", record("dpm_solver", 100), pushed)
    calls.run_score(scoring)
    text = (tmp_path / "page" / "calls.md").read_text()
    assert text in capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    assert rows[1] == ["heun", "20", "100.00 %", "0.0000", "100.00 %", "100.00 %", "100.00 %", "100.00 %"]
    assert rows[2][:2] == ["dpm_solver", "50"]
    assert rows[2][-3:-1] == ["0.00 %", "0.00 %"]
    assert rows[3][-1] == "0.00 %"
    for said in ("a device", "jax 1.2", "seed 3", "runs/x", "python -m benchmarks.calls generate"):
        assert said in text
    assert (tmp_path / "page" / "calls.png").read_bytes().startswith(b"\x89PNG")


def test_fewer_reconstructions_are_scored(tmp_path, scoring):
    """Of two, the first: the truth itself, beside one that is far from it."""
    both = arrays(np.zeros(3), np.zeros(3))
    both["reconstruction/positions"][1] *= 2
    write_arrays(tmp_path / "arrays" / "heun-20.npz", record("heun", 20), both)
    scoring.reconstructions = 1
    calls.run_score(scoring)
    text = (tmp_path / "page" / "calls.md").read_text()
    assert "| heun | 20 | 100.00 % | 0.0000 |" in text
    assert "1 structures of the test part reconstructed" in text


def test_nothing_to_score(scoring):
    with pytest.raises(SystemExit, match="holds no arrays"):
        calls.run_score(scoring)


def test_the_test_part_is_that_of_the_model(tmp_path, scoring):
    other = record("heun", 20) | {"data_hash": "another"}
    write_arrays(tmp_path / "arrays" / "heun-20.npz", other, arrays(np.zeros(3), np.zeros(3)))
    with pytest.raises(SystemExit, match="heun-20.npz: its model was trained on other data"):
        calls.run_score(scoring)


def test_what_is_there_is_kept_if_made_with_the_same_settings(tmp_path, monkeypatch, capsys):
    made = []

    def sampled(trained, what, *given, **named):
        made.append(given[-1].num_calls)
        return argparse.Namespace(crystals=argparse.Namespace(**crystals(np.zeros(3))))

    monkeypatch.setattr(calls, "reconstruct", sampled)
    monkeypatch.setattr(calls, "generate", sampled)
    given = argparse.Namespace(
        checkpoint=str(write_export(tmp_path / "export")), out=str(tmp_path / "out"), samplers=["heun", "dpm_solver"],
        calls=[3], grid="karras", seed=0, reconstructions=2, samples=2, quiet=True,
    )  # fmt: skip
    calls.run_generate(given)
    given.calls = [3, 4]
    calls.run_generate(given)
    assert made == [3] * 4 + [4] * 4
    assert capsys.readouterr().err.count("there already") == 2
    names = {f"{sampler}-{n}.npz" for sampler in given.samplers for n in (3, 4)}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    given.seed = 1
    with pytest.raises(SystemExit, match="heun-3.npz was made with other settings"):
        calls.run_generate(given)
