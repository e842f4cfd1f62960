"""train.py, interrupted and not."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from vdw_jax.structures.source import load_relaxed
from vdw_jax.training.export import load_weights
from vdw_jax.training.metrics_log import read_metrics

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Starts a training in a workdir, on every twentieth structure; programs are compiled once for all of them."""
    cache = tmp_path_factory.mktemp("cache")
    data, _ = load_relaxed("iii_vi")
    data.select(np.arange(0, len(data), 20)).save(cache / "few.npz")

    def begin(workdir: Path, *arguments: str) -> subprocess.Popen:
        environment = os.environ | {
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        command = [sys.executable, "train.py", "--config=tests/training/tiny_config.py", f"--workdir={workdir}"]
        command += [f"--config.data.path={cache / 'few.npz'}", *arguments]
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    return begin


@pytest.fixture(scope="module")
def whole(start, tmp_path_factory):
    """The workdir of an uninterrupted run."""
    workdir = tmp_path_factory.mktemp("whole")
    process = start(workdir)
    _, errors = process.communicate(timeout=900)
    assert process.returncode == 0, errors
    return workdir


def wait_for(path: Path, process: subprocess.Popen) -> None:
    """Until a checkpoint is there."""
    while not path.exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)


def test_the_loss_falls(whole):
    loss = [row["train/loss"] for row in read_metrics(whole) if "train/loss" in row]
    assert len(loss) == 12
    assert loss[-1] < 0.8 * loss[0]


def test_a_workdir_of_another_network_is_refused_and_left_as_it_is(start, whole):
    before = (whole / "config.json").read_text()
    process = start(whole, "--config.model.denoiser.channels=16")
    _, errors = process.communicate(timeout=900)
    assert process.returncode == 1
    assert "of another shape" in errors and "choose another --workdir" in errors and "Traceback" not in errors
    assert (whole / "config.json").read_text() == before


def test_killed_and_stopped_and_begun_again_it_ends_the_same(start, whole, tmp_path):
    """SIGKILL, then SIGTERM, then to the end: bit by bit the weights of the run that was left alone."""
    process = start(tmp_path)
    wait_for(tmp_path / "stage1" / "10", process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "export").exists()

    process = start(tmp_path)
    wait_for(tmp_path / "stage1" / "40", process)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=900)
    assert process.returncode == 0
    assert "the same command goes on from there" in said
    assert not (tmp_path / "export").exists()

    process = start(tmp_path)
    _, errors = process.communicate(timeout=900)
    assert process.returncode == 0, errors
    expected, found = (flat(load_weights(path / "export" / "weights.npz")) for path in (whole, tmp_path))
    assert expected.keys() == found.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
    steps = [row["step"] for row in read_metrics(tmp_path) if "train/loss" in row]
    assert steps == list(range(5, 65, 5))


@pytest.mark.slow
def test_two_processes_of_which_one_is_killed_and_all_begun_again_have_the_curve_of_one(start, whole, tmp_path):
    """On loopback, as a cluster does it: when one dies all are ended, and the same command goes on."""

    def begin() -> list[subprocess.Popen]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"--coordinator=127.0.0.1:{free.getsockname()[1]}"
        return [start(tmp_path, address, "--num_processes=2", f"--process_id={number}") for number in range(2)]

    processes = begin()
    wait_for(tmp_path / "stage1" / "20", processes[0])
    for process in processes[::-1]:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert not (tmp_path / "export").exists()
    for process in begin():
        _, errors = process.communicate(timeout=900)
        assert process.returncode == 0, errors
    alone, together = (
        {row["step"]: row["train/loss"] for row in read_metrics(path) if "train/loss" in row}
        for path in (whole, tmp_path)
    )
    assert list(together) == list(alone)
    np.testing.assert_allclose(list(together.values()), list(alone.values()), rtol=1e-3)
    assert load_weights(tmp_path / "export" / "weights.npz").keys() == {"model", "generator", "latent"}
    coverage = json.loads((tmp_path / "export" / "model.json").read_text(encoding="utf-8"))["coverage"]
    assert coverage["families"] and coverage["layers"]["num_layers"] == [2, 2]


def flat(tree: dict, prefix: str = "") -> dict[str, np.ndarray]:
    """Leaves by path."""
    if not isinstance(tree, dict):
        return {prefix: tree}
    return {name: leaf for key, value in tree.items() for name, leaf in flat(value, f"{prefix}/{key}").items()}
