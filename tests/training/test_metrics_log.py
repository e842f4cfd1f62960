"""Curves survive a kill and a resume without a duplicate or a broken line."""

import json
import math

import jax.numpy as jnp

from vdw_jax.training.metrics_log import FILE_NAME, MetricsLog, read_metrics


def steps(workdir):
    return [record["step"] for record in read_metrics(workdir)]


def test_lines_are_on_disk_at_once_and_plain_json(tmp_path):
    with MetricsLog(tmp_path) as log:
        log.write(1, {"loss": jnp.float32(0.5), "rate": math.nan})
        (record,) = read_metrics(tmp_path)
        assert record["loss"] == 0.5 and record["rate"] is None and record["time_s"] > 0
    assert "NaN" not in (tmp_path / FILE_NAME).read_text()
    assert list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))


def test_resume_drops_later_lines_and_cut_ones(tmp_path):
    with MetricsLog(tmp_path, tensorboard=False) as log:
        for step in (0, 10, 20, 30):
            log.write(step, {"loss": step})
    with (tmp_path / FILE_NAME).open("a") as file:
        file.write('{"step": 15, "lo')
    with MetricsLog(tmp_path, resume_step=20, tensorboard=False) as log:
        assert steps(tmp_path) == [0, 10, 20]
        log.write(30, {"loss": 1.0})
    assert steps(tmp_path) == [0, 10, 20, 30]
    for line in (tmp_path / FILE_NAME).read_text().splitlines():
        json.loads(line)


def test_a_fresh_run_starts_a_fresh_file(tmp_path):
    assert read_metrics(tmp_path) == []
    for _ in range(2):
        with MetricsLog(tmp_path, tensorboard=False) as log:
            log.write(0, {"loss": 1.0})
    assert steps(tmp_path) == [0]


def test_close_twice(tmp_path):
    log = MetricsLog(tmp_path)
    log.close()
    log.close()
