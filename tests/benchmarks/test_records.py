"""Command lines, records, their files and the tables made of them."""

import argparse
import json

import numpy as np
import pytest

from benchmarks import measure, table, trace

CEILINGS = measure.Ceilings(790.0, "bfloat16 8192^3", 4000.0)
TIMING = measure.Timing(2.0, 1.9, 2.1, 5)


def arguments(**changes) -> argparse.Namespace:
    options, _ = measure.parse(measure.parser("test"), ["--config=configs/smoke.py"])
    return argparse.Namespace(**vars(options) | changes)


def record(what="sampler", **measured) -> dict:
    return measure.make_record(what, arguments(), CEILINGS, TIMING, **measured)


def test_settings_change_the_config_and_are_kept():
    options, config = measure.parse(
        measure.parser("test"),
        ["--config=configs/smoke.py", "--config.model.cdvae.graph=pairs", "--config.train.clip=2.5",
         "--dtype=bfloat16"],
    )  # fmt: skip
    assert (config.model.cdvae.graph, config.train.clip) == ("pairs", 2.5)
    assert config.model.encoder.compute_dtype == config.model.denoiser.compute_dtype == options.dtype == "bfloat16"
    assert options.settings == "model.cdvae.graph=pairs train.clip=2.5"
    assert options.slots == options.atoms == 8


@pytest.mark.parametrize("wrong", ["--confg.seed=1", "--config.sed=1"])
def test_unknown_settings_are_refused(wrong):
    with pytest.raises(SystemExit):
        measure.parse(measure.parser("test"), ["--config=configs/smoke.py", wrong])


def test_a_record_has_every_key():
    assert set(measure.REQUIRED) <= record().keys()
    assert record()["structures_per_s"] is None
    assert record(structures_per_s=3.0)["structures_per_s"] == 3.0


def test_a_record_replaces_that_of_the_same_settings(tmp_path):
    for rate, batch in ((1.0, 4), (2.0, 4), (3.0, 8)):
        path = measure.write_record(record(structures_per_s=rate) | {"batch": batch}, tmp_path)
    assert path.name == "sampler-cpu.json"
    stored = json.loads(path.read_text())
    assert {(row["batch"], row["structures_per_s"]) for row in stored} == {(4, 2.0), (8, 3.0)}
    assert table.read_records(tmp_path) == stored


def test_the_page_shows_every_record():
    part = {"part": "ffn", "direction": "both", "ms": 1.5, "gb_per_s": 2000.0, "tflop_per_s": 3.0, "floor_ms": 0.5,
            "over_floor": 3.0}  # fmt: skip
    rows = [
        record(structure_calls_per_s=12345.6, error_against_float64=2e-3, share_of_peak=0.256),
        record("train_step", gradient_error_against_float64=3e-3),
        record("kernels", parts=[part], neighbours=33),
    ]
    text = table.readme(rows)
    for shown in ("## Sampler", "12,346", "25.6%", "2e-03", "## Training step", "3e-03", "| ffn | both | 1.500 |"):
        assert shown in text
    assert "structure-calls/s" not in text.split("## Training step")[1]


def test_crystals_of_other_sizes():
    for atoms, slots in ((8, 0), (4, 6), (20, 20)):
        crystals = measure.make_crystals(3, atoms, slots)
        assert crystals.atomic_numbers.shape == (3, max(atoms, slots))
        assert (crystals.num_atoms == atoms).all() and np.isfinite(crystals.positions).all()
    areas = [np.abs(np.linalg.det(measure.make_crystals(3, atoms).cell[:, :2, :2])) / atoms for atoms in (8, 20)]
    np.testing.assert_allclose(*areas, rtol=1e-5)


def test_relative_error():
    assert measure.relative_error([np.ones(4), np.ones(2)], [np.ones(4), 2 * np.ones(2)]) == pytest.approx(0.5)
    assert measure.relative_error(np.array([np.nan]), np.ones(1)) == float("inf")


def test_timing_counts_calls():
    calls = []
    timing = measure.time_calls(lambda: calls.append(0), repeats=3, shortest_s=0.0)
    assert len(calls) == 5 and timing.fastest_s <= timing.median_s <= timing.slowest_s


def event(name, duration, pid=1, tid=2, **args):
    return {"ph": "X", "name": name, "dur": duration, "pid": pid, "tid": tid, "args": args}


def test_a_profile_sums_kernels_of_the_devices_streams():
    names = [
        {"ph": "M", "name": "process_name", "pid": 1, "args": {"name": "/device:GPU:0"}},
        {"ph": "M", "name": "thread_name", "pid": 1, "tid": 2, "args": {"name": "Stream #14(Compute)"}},
        {"ph": "M", "name": "thread_name", "pid": 1, "tid": 3, "args": {"name": "XLA Ops"}},
    ]
    kernels_run = [event("gemm", 2000, hlo_op="custom-call.1"), event("gemm", 1000, hlo_op="custom-call.1")]
    kernels_run += [event("loop_fusion", 1000, hlo_op="fusion"), event("jit_step", 9000, tid=3)]
    place = "jit(f)/transpose(jvp(CDVAE.encode))/encoder/dot"
    hlo = f' %custom-call.1 = f32[2] custom-call(), metadata={{op_name="{place}"}}\n'
    text = trace.summarise(names + kernels_run, trace.places_of(hlo), top=5)
    assert text.startswith("4.000 ms in 3 kernels")
    assert "3.000  75.0%     2  gemm" in text and "backward f/encoder/dot" in text


def test_a_profile_of_a_cpu_has_the_instructions():
    text = trace.summarise([event("dot.1", 500, hlo_op="dot.1"), event("python", 900)], {}, top=5)
    assert text.startswith("0.500 ms in 1 kernels")
