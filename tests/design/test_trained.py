"""Reading exports."""

import shutil

import jax
import numpy as np
import pytest

from tests.tiny import tiny_params
from vdw_jax.design.trained import CheckpointError, load_trained


def test_round_trip(trained):
    jax.tree.map(np.testing.assert_array_equal, trained.weights["model"], tiny_params()["params"])
    assert trained.schedule().num_calls == 3
    assert trained.schedule(7).num_calls == 7
    assert float(trained.schedule().sigma[0]) == trained.noise.sigma_max


def test_a_workdir_is_as_good_as_its_export(export, trained):
    assert load_trained(export.parent).facts == trained.facts


def test_too_few_steps(trained):
    with pytest.raises(ValueError, match="at least 2 steps, not 1"):
        trained.schedule(1)


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
