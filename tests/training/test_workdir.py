"""One run at a time in a folder, and none that is another than what lies there."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from configs import smoke
from vdw_jax.training import workdir as workdir_module
from vdw_jax.training.errors import ConfigError
from vdw_jax.training.workdir import CONFIG_NAME, LOCK_NAME, check_same_run, locked

HOLDER = """
import fcntl, json, sys, time
file = open(sys.argv[1], "a+")
fcntl.flock(file, fcntl.LOCK_EX)
file.write(json.dumps({"pid": 12, "host": "node7", "since": "2026-11-27 10:00:00"}))
file.flush()
print("locked", flush=True)
time.sleep(60)
"""


def test_a_second_run_is_refused_until_the_first_ends(tmp_path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path / LOCK_NAME)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "locked\n"
        with pytest.raises(ConfigError) as caught, locked(tmp_path):
            pass
        assert "another run works in" in str(caught.value) and "(node7, process 12" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert json.loads((tmp_path / LOCK_NAME).read_text())["pid"] == 12  # its own, untouched
        other.kill()
    with locked(tmp_path):  # of a dead process
        assert json.loads((tmp_path / LOCK_NAME).read_text())["pid"] == os.getpid()
    with locked(tmp_path):
        pass


def test_a_lock_is_given_back_when_the_run_fails(tmp_path):
    with pytest.raises(ZeroDivisionError), locked(tmp_path):
        raise ZeroDivisionError
    with locked(tmp_path):
        pass


@pytest.mark.parametrize(("pid", "is_refused"), [(os.getpid(), True), (2**22 + 1, False)], ids=["alive", "gone"])
def test_file_systems_without_locks(tmp_path, monkeypatch, pid, is_refused):
    def no_locks(*_):
        raise OSError(workdir_module.errno.ENOLCK, "No locks available")

    monkeypatch.setattr(workdir_module.fcntl, "flock", no_locks)
    who = {"pid": pid, "host": workdir_module.socket.gethostname(), "since": "now"}
    (tmp_path / LOCK_NAME).write_text(json.dumps(who))
    if is_refused:
        with pytest.raises(ConfigError, match="if it does not live any more, delete"), locked(tmp_path):
            pass
    else:
        with locked(tmp_path):
            pass


def facts(**changes) -> dict:
    return {"config": smoke.get_config().to_dict(), "data_hash": "a" * 64, "num_structures": 500} | changes


def record(folder: Path, **changes) -> None:
    (folder / CONFIG_NAME).write_text(json.dumps(facts(**changes)))


def test_the_same_run_goes_on(tmp_path):
    record(tmp_path)
    check_same_run(tmp_path, facts(), has_second_stage=True)


def test_other_data_are_named(tmp_path):
    record(tmp_path)
    with pytest.raises(ConfigError) as caught:
        check_same_run(tmp_path, facts(data_hash="b" * 64, num_structures=498), has_second_stage=False)
    assert "data: 500 structures, hash aaaaaaaaaaaa -> 498 structures, hash bbbbbbbbbbbb" in str(caught.value)
    assert "--allow_changes" in str(caught.value)


def test_settings_of_a_second_stage_that_is_not_there_may_differ(tmp_path):
    record(tmp_path)
    config = smoke.get_config()
    config.latent_diffusion.width = 3
    config.gan.penalty = 3.0
    other = facts(config=config.to_dict())
    check_same_run(tmp_path, other, has_second_stage=False)
    with pytest.raises(ConfigError) as caught:
        check_same_run(tmp_path, other, has_second_stage=True)
    assert "latent_diffusion.width: 64 -> 3" in str(caught.value)
    assert "gan" not in str(caught.value)  # it is not the generator that is trained


@pytest.mark.parametrize("content", [None, "{", "[]", '{"config": 3}'])
def test_a_record_that_cannot_be_read(tmp_path, content):
    if content is not None:
        (tmp_path / CONFIG_NAME).write_text(content)
    with pytest.raises(ConfigError, match="config.json is missing or damaged"):
        check_same_run(tmp_path, facts(), has_second_stage=False)
