"""The tutorial, word for word, but for training and sampling, which take minutes: their settings are read only."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags
from ml_collections import config_flags

from vdw_jax.training.loop import create_data

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / "tutorial_custom_data.md").read_text(), re.DOTALL)


def run(block: str, folder: Path) -> subprocess.CompletedProcess:
    """A block in a shell where `python` is this one and the package is found."""
    environment = {
        "PATH": f"{folder / 'bin'}:/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        "HOME": str(folder),
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    return subprocess.run(["sh", "-c", block], cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where the tutorial is followed, after its first step."""
    where = tmp_path_factory.mktemp("tutorial")
    (where / "bin").mkdir()
    (where / "bin" / "python").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    (where / "bin" / "python").chmod(0o755)
    made = run(BLOCKS[0], where)
    assert made.returncode == 0, made.stderr
    return where


def test_the_structures_are_good(folder):
    done = run(BLOCKS[1], folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "200 structures of my.extxyz can be used" in done.stdout
    assert "kind        slabs" in done.stdout and "gap_angstrom: 200 of 200" in done.stdout


def test_training_would_get_them(folder, monkeypatch):
    command = shlex.split(BLOCKS[2])
    assert command[:2] == ["python", "train.py"]
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    values = flags.FlagValues()
    chosen = config_flags.DEFINE_config_file("config", flag_values=values)
    flags.DEFINE_string("workdir", None, "", flag_values=values)
    arguments = [word.replace("=configs/", f"={ROOT}/configs/") for word in command[1:]]
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.setattr(sys, "argv", arguments)  # where config_flags looks for what is overridden
    values(arguments)
    config = chosen.value
    config.data.scalars = tuple(config.data.scalars[0].split(","))
    data, split = create_data(config)
    assert len(data) == 200 and len(split["train"]) == 120
    assert list(data.scalars) == ["formation_energy_ev", "gap_angstrom"]


def test_sampling_knows_its_arguments(monkeypatch):
    command = shlex.split(BLOCKS[3])
    assert command[:2] == ["python", "sample.py"]
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.setattr(sys, "argv", command[1:])
    from vdw_jax.commands import sample

    given = sample.parse_arguments()
    assert given.target == ["gap_angstrom=3.2"] and given.checkpoint == "runs/mine"
