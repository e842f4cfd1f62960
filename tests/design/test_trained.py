"""Reading exports."""

import copy
import dataclasses
import json
import shutil
import sys

import jax
import numpy as np
import pytest

from tests.tiny import tiny_params
from vdw_jax.design.trained import CheckpointError, load_trained
from vdw_jax.diffusion import samplers


def test_round_trip(trained):
    jax.tree.map(np.testing.assert_array_equal, trained.weights["model"], tiny_params()["params"])
    assert trained.schedule().num_calls == 3
    assert trained.schedule(7).num_calls == 7
    assert float(trained.schedule().sigma[0]) == trained.noise.sigma_max


def test_a_workdir_is_as_good_as_its_export(export, trained):
    assert load_trained(export.parent).facts == trained.facts


def same(found, expected) -> bool:
    return all(np.array_equal(*pair) for pair in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True))


def test_schedules_by_name(trained):
    first, last = trained.noise.sigma_max, trained.noise.sigma_min
    assert trained.sampler == "few_step_langevin"
    assert same(trained.schedule(), samplers.few_step_langevin(first, last, 3))
    assert same(trained.schedule(sampler="heun"), samplers.heun(first, last, 3))
    assert same(trained.schedule(9, "dpm_solver"), samplers.dpm_solver(first, last, 9))
    karras = samplers.dpm_solver(first, last, 9, levels=samplers.karras_levels)
    assert same(trained.schedule(9, "dpm_solver", "karras"), karras)
    assert same(trained.schedule(sampler="annealed_langevin"), samplers.annealed_langevin(first, last, 50, 100))


def test_the_config_names_the_default(trained):
    facts = copy.deepcopy(trained.facts)
    facts["config"]["sample"] |= {"schedule": "heun", "grid": "karras", "num_calls": 7}
    other = dataclasses.replace(trained, facts=facts)
    first, last = trained.noise.sigma_max, trained.noise.sigma_min
    assert same(other.schedule(), samplers.heun(first, last, 7, levels=samplers.karras_levels))
    del facts["config"]["sample"]["grid"]  # exports from before there was one
    assert same(other.schedule(), samplers.heun(first, last, 7))


def test_schedules_that_cannot_be(trained):
    with pytest.raises(ValueError, match="at least 2 steps, not 1"):
        trained.schedule(1)
    with pytest.raises(ValueError, match="no sampler 'Heun'; there are"):
        trained.schedule(5, "Heun")


def test_what_is_no_export_is_named(export, tmp_path):
    with pytest.raises(CheckpointError, match=f"no trained model at {tmp_path}"):
        load_trained(tmp_path)
    broken = shutil.copytree(export, tmp_path / "broken")
    (broken / "weights.npz").write_bytes(b"PK not a zip")
    with pytest.raises(CheckpointError, match="weights.npz"):
        load_trained(broken)
    shutil.copy(export / "weights.npz", broken / "weights.npz")
    (broken / "model.json").write_text("{}")
    with pytest.raises(CheckpointError, match="model.json"):
        load_trained(broken)


@pytest.mark.parametrize(
    "path, value",
    [
        ((), []),
        ((), 3),
        (("config",), None),
        (("config", "generator"), "marker_of_model:make"),
        (("config", "generator"), ["gan"]),
        (("config", "sample", "schedule"), "marker_of_model:make"),
        (("config", "sample", "num_levels"), "many"),
        (("config", "loss", "sigma_min"), "low"),
        (("config", "loss", "@module"), "marker_of_model"),
        (("model", "denoiser"), 3),
        (("model", "denoiser", "compute_dtype"), "marker_of_model"),
        (("model", "scalars"), [3]),
        (("model", "graph"), "marker_of_model:make"),
        (("coverage",), {"families": []}),
        (("model", "periodicity"), "marker_of_model"),
        (("atom_counts",), None),
        (("elements",), ["Ga"]),
        (("formulas",), [3]),
        (("scalar_range",), [1]),
        (("coverage",), {"families": [{"name": "marker_of_model"}]}),
    ],
)
def test_a_damaged_model_json_is_named_in_one_line_and_nothing_is_imported(export, tmp_path, monkeypatch, path, value):
    (tmp_path / "marker_of_model.py").write_text("from pathlib import Path\nPath('imported').touch()\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    broken = shutil.copytree(export, tmp_path / "broken")
    facts = json.loads((broken / "model.json").read_text())
    place = facts
    for key in path[:-1]:
        place = place[key]
    if path:
        place[path[-1]] = value
    (broken / "model.json").write_text(json.dumps(facts if path else value))
    with pytest.raises(CheckpointError, match="model.json") as caught:
        load_trained(broken)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "imported").exists() and "marker_of_model" not in sys.modules


def test_coverage_is_read_or_follows_from_the_rest(trained):
    assert trained.coverage.covers("GaInSSe2") and not trained.coverage.covers("MoS2")
    assert trained.coverage.families
