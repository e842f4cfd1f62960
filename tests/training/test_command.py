"""train.py on the command line: what is wrong there is said in one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        (
            "--config.train.lerning_rate=3",
            "train.py: train.lerning_rate is no setting; did you mean train.learning_rate?",
        ),
        ("--config.sample.grid=log", "train.py: sample.grid is 'geometric' or 'karras', not 'log'"),
    ],
)
def test_settings_that_are_none(tmp_path, argument, said):
    command = [
        sys.executable,
        "train.py",
        "--config=configs/smoke.py",
        f"--workdir={tmp_path / 'run'}",
        argument,
    ]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    found = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert found.returncode == 1
    assert found.stderr.strip().splitlines() == [said]
    assert not (tmp_path / "run").exists()
