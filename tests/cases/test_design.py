"""Requests: seeds, ranges, saved requests and what the model does not cover."""

import shutil
import sys

import pytest

from vdw_jax.commands import sample
from vdw_jax.designer import Plan, SamplingError


@pytest.fixture
def plans(monkeypatch):
    """What would be sampled; nothing is."""
    made = []

    def run(plan, *_):
        made.append(plan)
        raise SamplingError("enough")

    monkeypatch.setattr(Plan, "run", run)
    return made


@pytest.mark.parametrize("seed", ["4294967296", "-1", "1e3", "18446744073709551616"])
def test_16_seeds_that_are_none(case, run, plans, tmp_path, seed):
    case("16")
    done = run(sample.main, "--num_samples=2", "--steps=3", f"--seed={seed}", f"--out={tmp_path / 'out'}", "--quiet")
    assert done.code == 2 and not plans
    assert done.err.count("\n") == 1 and ("4294967295" in done.err or "invalid int" in done.err)


def test_16_seeds_that_are_some(case, run, plans, tmp_path):
    case("16")
    for seed in ("0", "4294967295"):
        run(sample.main, "--num_samples=2", "--steps=3", f"--seed={seed}", f"--out={tmp_path / 'out'}", "--quiet")
    assert [plan.seed for plan in plans] == [0, 4294967295]


def test_17_ranges(case, run, plans, tmp_path):
    lines = (case("17") / "run.txt").read_text(encoding="utf-8")
    assert "..." in lines
    texts = (
        ("--target_energy=-0.25 .. -0.15",),
        ("--target_energy", "-0.25 .. -0.15"),
        ("--target_energy", "-0.25..-0.15"),
        ("--target", "formation_energy_ev = -0.25 .. -0.15"),
    )
    for arguments in texts:
        run(sample.main, "--num_samples=2", "--steps=3", "--quiet", f"--out={tmp_path / 'out'}", *arguments)
    assert len(plans) == len(texts)
    for plan in plans:
        assert (plan.request.scalar_low[0], plan.request.scalar_high[0]) == pytest.approx((-0.25, -0.15))
    done = run(sample.main, "--num_samples=2", f"--out={tmp_path / 'out'}", "--target_energy=-0.25...-0.15")
    assert done.code == 2 and done.err.count("\n") == 1 and len(plans) == len(texts)


@pytest.mark.parametrize("name", ["request.json", "request_any_module.json"])
def test_19_a_saved_request_runs_no_code(case, run, plans, tmp_path, monkeypatch, name):
    folder = shutil.copytree(case("19"), tmp_path / "case")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.chdir(tmp_path)
    before = {path.name for path in tmp_path.iterdir()}
    done = run(sample.main, f"--request={folder / 'saved' / name}", f"--out={tmp_path / 'out'}", "--quiet")
    assert done.code == 2 and done.err.count("\n") == 1 and "--relax" in done.err
    assert {path.name for path in tmp_path.iterdir()} == before
    assert "marker_potential" not in sys.modules and not plans


def test_19_what_stands_on_the_command_line_is_run(case, run, plans, tmp_path, monkeypatch):
    folder = shutil.copytree(case("19"), tmp_path / "case")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.chdir(tmp_path)
    request = f"--request={folder / 'saved' / 'request.json'}"
    run(sample.main, request, "--relax=marker_potential:make", f"--out={tmp_path / 'out'}", "--quiet")
    sys.modules.pop("marker_potential", None)
    assert (tmp_path / "called_by_request.txt").exists() and len(plans) == 1


@pytest.mark.parametrize("formula", ["MoWS2Se2", "CBN", "UTe2"])
@pytest.mark.parametrize("strict", [(), ("--strict",)])
def test_22_elements_that_were_never_seen(case, run, plans, tmp_path, formula, strict):
    case("22")
    done = run(sample.main, f"--target_formula={formula}", f"--out={tmp_path / 'out'}", "--quiet", *strict)
    assert done.code == 2 and not plans and not (tmp_path / "out").exists()
    assert done.err.count("\n") == 1
    assert "Al, Ga, In with S, Se, Te" in done.err and "nearest covered request" in done.err
    done = run(sample.main, f"--target_formula={formula}", "--allow_untrained", f"--out={tmp_path / 'out'}", "--quiet")
    assert done.code == 1 and plans[0].request.untrained
