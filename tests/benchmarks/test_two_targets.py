"""Two targets at once: what is asked, and what is said of arrays whose misses are known."""

import argparse
import dataclasses
import functools

import numpy as np
import pytest

from benchmarks import two_targets
from benchmarks.two_targets import BINDING, ENERGY, LATTICE, TARGETS
from tests import tiny
from vdw_jax.model.config import ScalarCondition
from vdw_jax.structures.source import load_relaxed

DATA, _ = load_relaxed("j2dh8")
ROWS = np.array([7, 12_345, 1_000, 70])


@pytest.fixture
def three_scalars(tmp_path, monkeypatch):
    """An untrained export with all three targets."""
    scalars = tuple(ScalarCondition(name, 0.1, 0.2) for name in TARGETS)
    config, facts = dataclasses.replace(tiny.tiny_config(), scalars=scalars), tiny.tiny_facts()
    facts |= {"model": config.to_dict(), "scalar_range": {name: [-0.3, 9.0] for name in TARGETS}}
    monkeypatch.setattr(tiny, "tiny_config", lambda *_: config)
    monkeypatch.setattr(tiny, "tiny_facts", lambda *_: facts)
    monkeypatch.setattr(tiny, "no_conditions", functools.partial(tiny.no_conditions, num_scalars=3))
    monkeypatch.setattr(tiny, "tiny_params", tiny.tiny_params.__wrapped__)
    return tiny.write_export(tmp_path / "three")


def generating(checkpoint, out, **changes) -> argparse.Namespace:
    settings = {"sampler": "heun", "steps": 2, "samples": 2, "seed": 0, "quiet": True}
    return argparse.Namespace(checkpoint=str(checkpoint), out=str(out), **settings | changes)


def test_what_is_asked_follows_the_rule():
    pairs = two_targets.choose_pairs(DATA)
    assert [pair.kind for pair in pairs] == ["attainable", "trade-off", "attainable", "trade-off", "attainable"]
    with_lattice, with_binding = [(ENERGY, LATTICE)], [(ENERGY, BINDING)]
    assert [tuple(pair.targets) for pair in pairs] == 2 * with_lattice + 2 * with_binding + with_lattice
    for pair in pairs:
        labels = np.stack([DATA.scalars[name].astype(float) for name in pair.targets], 1)
        apart = np.abs((labels - list(pair.targets.values())) / list(pair.spreads.values()))
        least = np.sqrt(np.nanmin((apart**2).sum(1)))
        assert least == pytest.approx(pair.nearest, abs=1e-6)
        assert (least < 1e-6) == (pair.kind == "attainable")
    own = [row for row in range(len(DATA)) if DATA.formula(row) == pairs[4].formula]
    assert any(np.isclose(DATA.scalars[ENERGY][own], pairs[4].targets[ENERGY]))


def test_a_checkpoint_without_a_target_is_refused(tmp_path):
    with pytest.raises(SystemExit, match=f"without {ENERGY}, {BINDING}, {LATTICE}: it can be asked for energy_ev"):
        two_targets.run_generate(generating(tiny.write_export(tmp_path / "one"), tmp_path / "out"))


def test_from_a_model_to_the_page(three_scalars, tmp_path, capsys):
    given = generating(three_scalars, tmp_path / "arrays")
    two_targets.run_generate(given)
    assert len(list((tmp_path / "arrays").glob("*.npz"))) == 5
    two_targets.run_generate(given)
    assert capsys.readouterr().err.count("there already") == 5
    given.seed = 1
    with pytest.raises(SystemExit, match="other settings"):
        two_targets.run_generate(given)
    two_targets.run_score(argparse.Namespace(arrays=given.out, out=str(tmp_path / "page"), property_model=[]))
    text = (tmp_path / "page" / "two_targets.md").read_text()
    assert text in capsys.readouterr().out
    assert text.count("formation energy and lattice constant") == 3 * 3 + 3
    assert "heun, 2 network calls" in text and "seeds 1, 2, 3, 4, 5" in text
    for name in ("two_targets.png", "two_targets_front.png"):
        assert (tmp_path / "page" / name).read_bytes().startswith(b"\x89PNG")


def test_errors_front_and_the_cell():
    """The lattice constant is that of the cell too; the front is of those that none beats in both."""
    asked = {ENERGY: -0.1, LATTICE: 4.0}
    predicted = np.array([[-0.1, 4.2], [0.0, 4.0], [0.1, 4.3], [-0.05, 4.1]], np.float32)
    record = {"targets": asked, "spreads": {ENERGY: 0.1, LATTICE: 0.2}, "scalars": [ENERGY, LATTICE], "formula": None,
              "kind": "attainable", "samples": 4, "nearest": 0.0, "device": "a device", "jax": "1.2", "date": "today",
              "seed": 3, "sampler": "heun", "network_calls": 5, "weights_sha256": "a", "command": "b"}  # fmt: skip
    arrays = {field: getattr(DATA, field)[ROWS] for field in two_targets.FIELDS}
    arrays |= {"predicted": predicted, "training": np.zeros((3, 2))}

    class Judge:
        def predict(self, batch):
            return np.full(len(batch.cell), -0.3, np.float32)

    found = two_targets.judge(record, arrays, {ENERGY: Judge()})
    np.testing.assert_allclose(found["got"][LATTICE]["cell"], DATA.scalars[LATTICE][ROWS], atol=1e-3)
    np.testing.assert_allclose(found["misses"][:, 0], [0, 0.1, 0.2, 0.05], atol=1e-6)
    assert found["on_front"].tolist() == [True, True, False, True]
    rows = [line.split(" | ") for line in two_targets.page([record], [found]).splitlines() if line.startswith("| form")]
    assert rows[0][3:] == ["the model's own head", "0.0750 eV", "0.0875 eV", "25 % (±0.0250) |"]
    assert rows[1][3:] == ["independent model", "0.2000 eV", "0.2000 eV", "0 % (±0.0250) |"]
    assert [row[3] for row in rows[2:4]] == ["the model's own head", "the cell"]
    assert rows[-1][-1] == "3 |"
