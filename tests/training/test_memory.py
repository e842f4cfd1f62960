"""The estimate of a training step's memory, against what XLA said of compiled ones, and what it proposes."""

import importlib

import pytest

from configs import custom
from vdw_jax.training import memory
from vdw_jax.training.errors import ConfigError
from vdw_jax.training.memory import GIB, check_memory, count_images, fitting_settings, needed_bytes
from vdw_jax.types import BULK, SLAB

MEASURED = [
    # config, changes of both networks, atoms, batch, graph, image range, platform, GB
    ("custom", {}, 20, 16, "pairs", (4, 4, 0), "cpu", 1.379),
    ("custom", {}, 60, 4, "pairs", (1, 1, 0), "cpu", 2.941),
    ("custom", {}, 60, 16, "pairs", (1, 1, 0), "cpu", 11.864),
    ("custom", {}, 60, 16, "nearest", (1, 1, 0), "cpu", 0.982),
    ("smoke", {}, 20, 16, "pairs", (1, 1, 0), "cpu", 0.609),
    ("j2dh8", {}, 10, 256, "pairs", (3, 3, 0), "gpu", 6.940),
    ("paper", {"compute_dtype": "bfloat16"}, 8, 256, "nearest", (3, 3, 0), "gpu", 28.855),
    ("paper", {"compute_dtype": "bfloat16"}, 8, 512, "nearest", (3, 3, 0), "gpu", 55.317),
    ("paper", {"compute_dtype": "bfloat16", "remat": True}, 8, 256, "nearest", (3, 3, 0), "gpu", 5.548),
]
"""CPU: `train_steps.lower(...).compile().memory_analysis()`, JAX 0.10.2; GPU: peaks in benchmarks/results."""


def settings(batch: int = 16, graph: str = "pairs") -> dict:
    config = custom.get_config()
    config.train.batch_size = batch
    config.model.cdvae.graph = graph
    return config.to_dict()


@pytest.mark.parametrize(
    ("name", "changes", "atoms", "batch", "graph", "images", "platform", "measured_gb"), MEASURED
)
def test_the_estimate_is_what_was_measured(name, changes, atoms, batch, graph, images, platform, measured_gb):
    config = importlib.import_module(f"configs.{name}").get_config()
    for part in (config.model.encoder, config.model.denoiser):
        part.update(changes)
    config.train.batch_size = batch
    config.model.cdvae.graph = graph
    values = config.to_dict()
    estimate = needed_bytes(values, atoms, count_images(values, images, SLAB), platform=platform)
    assert estimate / 1e9 == pytest.approx(measured_gb, rel=0.15)


def test_it_grows_with_the_square_of_the_atoms_and_with_the_batch():
    def needed(atoms: int, batch: int, graph: str = "pairs") -> float:
        values = settings(batch, graph)
        return needed_bytes(values, atoms, count_images(values, (1, 1, 0), SLAB))

    assert needed(200, 16) / needed(100, 16) == pytest.approx(4.0, rel=0.1)
    assert needed(100, 32) / needed(100, 16) == pytest.approx(2.0, rel=0.1)
    assert needed(200, 16, "nearest") < 0.1 * needed(200, 16)


def test_what_fits_is_left_alone():
    assert fitting_settings(settings(), 8, 8 * GIB) == {}
    check_memory(settings(), (4, 4, 0), SLAB, 8, 8 * GIB)


@pytest.mark.parametrize(
    ("atoms", "available", "expected"),
    [
        (100, 20 * GIB, {"train.batch_size": 8}),  # smaller batches first
        (200, 20 * GIB, {"model.cdvae.graph": "nearest"}),  # then fewer neighbours
        (200, 1 * GIB, {"model.cdvae.graph": "nearest", "train.batch_size": 4}),
        (200, 0.01 * GIB, None),
    ],
)
def test_what_is_proposed_fits(atoms, available, expected):
    found = fitting_settings(settings(), atoms, available)
    assert found == expected
    if found:
        values = settings(
            found.get("train.batch_size", 16), found.get("model.cdvae.graph", "pairs")
        )
        assert needed_bytes(values, atoms, 9) <= available


def test_the_refusal_says_what_is_needed_what_is_there_and_what_fits():
    with pytest.raises(ConfigError) as caught:
        check_memory(settings(), (1, 1, 0), SLAB, 200, 20 * GIB)
    said = str(caught.value)
    assert (
        "GiB of memory and 20 GiB are there (batches of 16 cells of 200 atoms, 603 neighbours"
        in said
    )
    assert said.endswith(
        "what fits: --config.model.cdvae.graph=nearest, or --config.train.batch_size=2"
    )


def test_near_the_limit_it_is_left_to_the_device():
    values = settings()
    needed = needed_bytes(values, 100, count_images(values, (1, 1, 0), SLAB))
    check_memory(values, (1, 1, 0), SLAB, 100, needed / 1.2)
    with pytest.raises(ConfigError):
        check_memory(values, (1, 1, 0), SLAB, 100, needed / 1.3)


def test_images_of_bulk_and_slab():
    assert count_images(settings(graph="nearest"), (2, 1, 0), SLAB) == 15
    assert count_images(settings(), (2, 1, 0), SLAB) == 49
    assert count_images(settings(), (2, 1, 1), BULK) == 343


def test_this_machine_says_what_it_has():
    available = memory.available_bytes()
    assert available is not None and 0.1 * GIB < available < 1e15


def test_the_limit_of_a_container_counts(tmp_path, monkeypatch):
    real = memory.Path

    def elsewhere(path: str):
        return tmp_path / real(path).name if path.startswith("/sys") else real(path)

    monkeypatch.setattr(memory, "Path", elsewhere)
    (tmp_path / "memory.max").write_text(f"{GIB}\n")
    (tmp_path / "memory.current").write_text(f"{GIB // 4}\n")
    assert memory.available_bytes() == 0.75 * GIB / memory.jax.local_device_count()
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available_bytes() > GIB
