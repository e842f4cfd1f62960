"""Eight devices do what one does, and nothing compiles twice."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import FLAGS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """What `devices_script.py` wrote, by number of devices."""
    found = {}
    for count in (1, 8):
        path = tmp_path_factory.mktemp("devices") / f"{count}.npz"
        flags = f"{FLAGS} --xla_force_host_platform_device_count={count}"
        environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
        command = [sys.executable, str(ROOT / "tests/training/devices_script.py"), str(path)]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found[count] = dict(np.load(path))
        assert found[count]["devices"] == count
    return found


def test_a_training_step(runs):
    names = [name for name in runs[1] if name.startswith("params/")]
    moved = max(np.abs(runs[1][name] - runs[1][name.replace("params", "start")]).max() for name in names)
    assert moved > 1e-3
    for name in names:
        np.testing.assert_allclose(runs[8][name], runs[1][name], atol=1e-5, err_msg=name)
    np.testing.assert_allclose(runs[8]["losses"][0], runs[1]["losses"][0], rtol=1e-5)


def test_samples(runs):
    assert runs[1]["species"].shape == (8, 10)
    assert all(Counter(row.tolist()) == {31: 2, 49: 2, 16: 2, 34: 4} for row in runs[1]["species"])
    np.testing.assert_array_equal(runs[8]["species"], runs[1]["species"])
    for name in ("positions", "cell", "predicted"):
        np.testing.assert_allclose(runs[8][name], runs[1][name], atol=1e-5, err_msg=name)


@pytest.mark.parametrize("count", [1, 8])
def test_each_program_compiles_once(runs, count):
    """Three calls of one step each, on what the last one returned; two generations of other requests and seeds."""
    assert runs[count]["step"] == 3
    assert runs[count]["step_programs"] == 1
    assert runs[count]["place_programs"] == 1
