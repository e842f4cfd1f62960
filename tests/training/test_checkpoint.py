"""Checkpoints: bit-equal, the last and the best kept, whole or absent whatever kills the writer."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import struct

from vdw_jax.training.checkpoint import CheckpointError, Checkpoints, write_json_atomic

ROOT = Path(__file__).parents[2]


@struct.dataclass
class State:
    step: jax.Array
    params: dict
    opt_state: optax.OptState
    key: jax.Array


def make_state(seed: int, width: int = 3) -> State:
    key = jax.random.key(seed)
    params = {
        "dense": {"kernel": jax.random.normal(key, (4, width)), "bias": jnp.arange(width, dtype=jnp.bfloat16)}
    }
    optimiser = optax.chain(optax.clip(0.5), optax.adam(1e-3))
    return State(
        step=jnp.int32(seed), params=params, opt_state=optimiser.init(params), key=jax.random.PRNGKey(seed)
    )


def assert_bit_equal(a, b) -> None:
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert np.asarray(x).dtype == np.asarray(y).dtype
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def test_round_trip_is_bit_equal(tmp_path):
    state = make_state(3)
    with Checkpoints(tmp_path / "run") as checkpoints:
        assert checkpoints.restore_latest(state) is None
        assert checkpoints.restore_best(state) is None
        assert checkpoints.save(5, state, 0.5)
    with Checkpoints(tmp_path / "run") as checkpoints:
        restored, step = checkpoints.restore_latest(make_state(0))
    assert step == 5
    assert_bit_equal(restored, state)
    assert isinstance(restored.params["dense"]["kernel"], jax.Array)


def test_typed_keys_numpy_numbers_and_abstract_templates(tmp_path):
    state = {"key": jax.random.key(7), "table": np.arange(6.0), "epoch": 4, "rate": 0.25}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state)
        zeros = {"key": jax.random.key(0), "table": np.zeros(6), "epoch": 0, "rate": 0.0}
        restored, _ = checkpoints.restore_latest(zeros)
        abstract = {**zeros, "key": jax.eval_shape(lambda: jax.random.key(0))}
        from_abstract, _ = checkpoints.restore_latest(abstract)
    for got in (restored, from_abstract):
        assert jax.random.bits(got["key"]) == jax.random.bits(state["key"])
    np.testing.assert_array_equal(restored["table"], state["table"])
    assert (restored["epoch"], restored["rate"]) == (4, 0.25)


def test_keeps_the_last_and_the_best(tmp_path):
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for step, metric in [(1, 0.9), (2, 0.1), (3, 0.5), (4, None), (5, float("nan")), (6, 0.3)]:
            checkpoints.save(step, {"w": jnp.full(2, step)}, metric)
        assert checkpoints.steps == [2, 5, 6]
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        assert checkpoints.best_step == 2
        state, step = checkpoints.restore_best({"w": jnp.zeros(2, jnp.int32)})
        assert step == 2 and state["w"].tolist() == [2, 2]
        assert checkpoints.restore_latest({"w": jnp.zeros(2, jnp.int32)})[1] == 6


def test_saving_a_step_again_keeps_it_and_an_earlier_one_is_refused(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.save(4, {"w": jnp.ones(2)})
        assert not checkpoints.save(4, {"w": jnp.zeros(2)})
        with pytest.raises(ValueError, match="already holds step 4"):
            checkpoints.save(3, {"w": jnp.zeros(2)})
        assert checkpoints.restore_latest({"w": jnp.zeros(2)})[0]["w"].tolist() == [1, 1]


def damage_arrays(step_directory: Path) -> None:
    for path in step_directory.rglob("*"):
        if path.is_file() and ("ocdbt" in path.name or path.parent.name == "d"):
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def damage_metadata(step_directory: Path) -> None:
    (step_directory / "_CHECKPOINT_METADATA").write_text("{")


def damage_metrics(step_directory: Path) -> None:
    (step_directory / "metrics" / "metrics").write_text("")


def damage_all(step_directory: Path) -> None:
    shutil.rmtree(step_directory)
    step_directory.mkdir()


@pytest.mark.parametrize("damage", [damage_arrays, damage_metadata, damage_metrics, damage_all])
def test_damaged_latest_is_skipped_and_can_be_saved_again(tmp_path, damage):
    template = {"w": jnp.zeros(3)}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"w": jnp.full(3, 1.0)}, 0.5)
        checkpoints.save(2, {"w": jnp.full(3, 2.0)}, 0.4)
    damage(tmp_path / "2")
    with Checkpoints(tmp_path) as checkpoints:
        state, step = checkpoints.restore_latest(template)
        assert step == 1 and state["w"].tolist() == [1, 1, 1]
        assert (tmp_path / "2.corrupt").is_dir()
        assert checkpoints.save(2, {"w": jnp.full(3, 9.0)}, 0.4)
        assert checkpoints.restore_best(template)[0]["w"].tolist() == [9, 9, 9]


def test_state_that_does_not_fit_is_an_error_not_a_fresh_start(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, make_state(0))
    with Checkpoints(tmp_path) as checkpoints:  # as another process finds it
        with pytest.raises(CheckpointError, match=r"of another shape: .*dense\.kernel \(4, 3\)"):
            checkpoints.restore_latest(make_state(0, width=5))
        with pytest.raises(CheckpointError, match="not in the checkpoint: w; not in the template"):
            checkpoints.restore_latest({"w": jnp.zeros(2)})
        assert checkpoints.steps == [1]


def test_read_only_leaves_the_directory_alone(tmp_path):
    with pytest.raises(FileNotFoundError):
        Checkpoints(tmp_path / "none", read_only=True)
    with Checkpoints(tmp_path, config={"seed": 3}) as checkpoints:
        checkpoints.save(1, {"w": jnp.ones(2)})
    (tmp_path / "2.orbax-checkpoint-tmp").mkdir()
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert checkpoints.restore_latest({"w": jnp.zeros(2)})[1] == 1
        with pytest.raises(ValueError, match="read-only"):
            checkpoints.save(2, {"w": jnp.ones(2)})
    assert (tmp_path / "2.orbax-checkpoint-tmp").is_dir()
    assert json.loads((tmp_path / "config.json").read_text()) == {"seed": 3}


def test_write_json_atomic_leaves_no_scratch_file(tmp_path):
    write_json_atomic(tmp_path / "deep" / "a.json", {"x": 1})
    write_json_atomic(tmp_path / "deep" / "a.json", {"x": 2})
    assert json.loads((tmp_path / "deep" / "a.json").read_text()) == {"x": 2}
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.json"]


WRITER = """
import sys, jax, jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from vdw_jax.training.checkpoint import Checkpoints
mesh = Mesh(jax.devices(), ("data",))
split, whole = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())
template = jax.device_put(
    {"split": jnp.zeros((4, 20000)), "whole": jnp.zeros(3)}, {"split": split, "whole": whole}
)
checkpoints = Checkpoints(sys.argv[1], keep=2)
found = checkpoints.restore_latest(template)
start = 0
if found is not None:
    state, start = found
    assert state["split"].sharding == split and state["whole"].sharding == whole
    assert (state["split"] == start).all() and (state["whole"] == start).all()
    assert len(state["split"].devices()) == 2
for step in range(start + 1, 100000):
    checkpoints.save(step, jax.tree.map(lambda leaf: leaf + step, template), 1.0 / step)
    print(step, flush=True)
"""


def test_killed_while_saving_restores_the_last_whole_step(tmp_path):
    """Twice over: two forced devices write, SIGKILL at a moment that differs, another process goes on."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
    }
    printed = 0
    for delay_s in (0.013, 0.031):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], env=environment, stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        try:
            for _ in range(4):
                line = writer.stdout.readline()
                assert line, "the writer ended by itself"
            time.sleep(delay_s)
        finally:
            writer.send_signal(signal.SIGKILL)
            rest = writer.stdout.read().split()
            writer.wait()
        last = int(rest[-1] if rest else line)
        assert last > printed
        printed = last
        with Checkpoints(tmp_path, read_only=True) as checkpoints:
            state, step = checkpoints.restore_latest({"split": jnp.zeros((4, 20000)), "whole": jnp.zeros(3)})
        assert step in (printed, printed + 1)
        assert (state["split"] == step).all() and (state["whole"] == step).all()


def test_a_number_that_was_changed_on_disk_is_not_restored(tmp_path):
    rng = np.random.default_rng(0)
    first, second = (rng.normal(size=4000).astype(np.float32) for _ in range(2))
    second[:4] = 7.25
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"w": first}, 0.5)
        checkpoints.save(2, {"w": second}, 0.4)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore_latest({"w": np.zeros(4000, np.float32)})[1] == 2
        assert checkpoints.notes == []
    for path in (tmp_path / "2").rglob("*"):  # any byte of the file that holds them
        if path.is_file() and path.stat().st_size > 8000:
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 1
            path.write_bytes(content)
    with Checkpoints(tmp_path) as checkpoints:
        state, step = checkpoints.restore_latest({"w": np.zeros(4000, np.float32)})
        assert step == 1
        np.testing.assert_array_equal(state["w"], first)
        (note,) = checkpoints.notes
        assert "damaged and passed over" in note and "\n" not in note
    assert (tmp_path / "2.corrupt").is_dir()


def test_a_step_under_the_number_of_another_is_not_restored(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, {"w": jnp.full(3, float(step))}, 0.5)
    (tmp_path / "1").rename(tmp_path / "aside")
    (tmp_path / "2").rename(tmp_path / "1")
    (tmp_path / "aside").rename(tmp_path / "2")
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(CheckpointError, match="checksums differ"):
        checkpoints.restore_latest({"w": jnp.zeros(3)})


def test_a_validation_figure_that_was_changed_is_noticed(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"w": jnp.ones(3)}, 0.5)
    path = tmp_path / "1" / "metrics" / "metrics"
    path.write_text(path.read_text().replace("0.5", "0.1"))
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(CheckpointError, match="validation figure"):
        checkpoints.restore_best({"w": jnp.zeros(3)})


def save_without_checksums(folder: Path, step: int, leaves: dict) -> None:
    """As versions before there were checksums did."""
    with Checkpoints(folder) as checkpoints:
        checkpoints._manager.save(step, args=ocp.args.StandardSave(leaves), force=True)


def test_steps_from_before_there_were_checksums_are_restored_by_their_old_names(tmp_path):
    """The two names are each other's new ones: no one after the other."""
    old = {"scalar_1_factor": "scalar_0_factor", "scalar_0_factor": "E [eV/atom], PBE_factor"}
    save_without_checksums(
        tmp_path, 3, {"p.E [eV/atom], PBE_factor": jnp.full(2, 1.0), "p.scalar_0_factor": jnp.full(2, 2.0)}
    )
    template = {"p": {name: jnp.zeros(2) for name in old}}
    with Checkpoints(tmp_path, old_name=lambda path: "p." + old[path[2:]]) as checkpoints:
        checkpoints.check_fits(template)
        state, step = checkpoints.restore_latest(template)
        assert step == 3
        assert state["p"]["scalar_0_factor"].tolist() == [1, 1]
        assert state["p"]["scalar_1_factor"].tolist() == [2, 2]
        checkpoints.save(4, state)
    with Checkpoints(tmp_path, old_name=lambda path: "none") as checkpoints:
        assert checkpoints.restore_latest(template)[1] == 4


def test_what_does_not_fit_is_said_without_reading_it(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.check_fits({"w": jnp.zeros(3)})  # nothing there
        checkpoints.save(1, {"w": jnp.ones(3)})
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        checkpoints.check_fits({"w": jax.ShapeDtypeStruct((3,), jnp.float32)})
        with pytest.raises(CheckpointError, match="of another shape: w"):
            checkpoints.check_fits({"w": jnp.zeros(4)})
