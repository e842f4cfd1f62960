"""What a training step needs of the device's memory, known before anything is compiled.

Nearly all of it is kept once for each edge: every atom of a padded cell has a slot for each neighbour, 3 N + 3 of them
with `model.cdvae.graph=pairs`, so that a batch of B cells of N atoms has B N (3 N + 3) edges.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax

from vdw_jax.training.errors import ConfigError

GIB = 2**30
_MARGIN = 1.25
"""How far the estimate may lie above what is there: it is no closer than this."""

_KEPT, _PASSING = 8.6, 6.0
"""Arrays of an edge's coefficients: kept of each layer for its gradient, and at once on the way through one layer."""

_KEPT_REMAT, _PASSING_REMAT = 1.0, 10.0
"""The same with `remat`."""

_ON_CPU = 1.55
"""More is kept there, by a compiler that joins less."""

_OTHERS_BYTES = 11_000
"""An edge's frames, distances and search, whatever the network."""

_SEARCHED_BYTES = 24
"""A pair of atoms and image, while neighbours are searched."""


def needed_bytes(
    settings: Mapping[str, Any],
    num_atoms: int,
    num_images: int,
    num_devices: int = 1,
    platform: str | None = None,
) -> float:
    """Estimate of what one device needs for a training step, bytes.

    Within 15 % of what the compiler says for configs/custom.py and smoke.py on a CPU (8 to 60 atoms), and of the peak
    on an H100 and H200 for configs/j2dh8.py and paper.py; tests/training/test_memory.py holds the figures. Other
    networks are extrapolated.

    Args:
      settings: "model" (encoder, denoiser, cdvae) and "train" (batch_size) of a config.
      num_atoms: of the largest cell, which all are padded to.
      num_images: images of a cell that are searched for neighbours (`count_images`).
      num_devices: that a batch is split over.
      platform: "cpu" or "gpu"; that of this process by default.
    """
    cells = settings["train"]["batch_size"] / num_devices
    edges = cells * num_atoms * slots(settings, num_atoms)
    network = _edge_bytes(settings["model"], platform or jax.default_backend())
    searched = cells * num_atoms**2 * num_images * _SEARCHED_BYTES
    return edges * network + searched + _parameter_bytes(settings, num_atoms)


def slots(settings: Mapping[str, Any], num_atoms: int) -> int:
    """Neighbour slots of an atom."""
    cdvae = settings["model"]["cdvae"]
    return 3 * num_atoms + 3 if cdvae["graph"] == "pairs" else cdvae["max_neighbours"]


def count_images(
    settings: Mapping[str, Any], image_range: tuple[int, ...], periodicity: tuple[bool, ...]
) -> int:
    """Images of a cell that the neighbour search goes through."""
    if settings["model"]["cdvae"]["graph"] == "pairs":
        return 7 ** sum(periodicity)
    return math.prod(2 * reach + 1 for reach in image_range)


def available_bytes() -> float | None:
    """What one device has: its limit on an accelerator; free memory, within what the system allows, on a CPU.

    None where nobody says.
    """
    device = jax.local_devices()[0]
    if device.platform != "cpu":
        limit = (device.memory_stats() or {}).get("bytes_limit")
        return float(limit) if limit else None
    known = [value for value in (_free_ram(), _free_in_cgroup()) if value is not None]
    return min(known) / jax.local_device_count() if known else None


def check_memory(
    settings: Mapping[str, Any],
    image_range: tuple[int, ...],
    periodicity: tuple[bool, ...],
    num_atoms: int,
    available: float | None = None,
) -> None:
    """That a training step fits on the device.

    Raises:
      ConfigError: it does not; one line that says how much it needs, how much there is, and what fits.
    """
    available = available_bytes() if available is None else available
    images = count_images(settings, image_range, periodicity)
    needed = needed_bytes(settings, num_atoms, images, jax.device_count())
    if available is None or needed <= _MARGIN * available:
        return
    near = _near_image_count(periodicity)
    found = list(_fitting(settings, num_atoms, images, near, available, jax.device_count()))
    advice = ", or ".join(
        " ".join(f"--config.{name}={value}" for name, value in change.items()) for change in found
    )
    cdvae, train = settings["model"]["cdvae"], settings["train"]
    neighbours = f"{slots(settings, num_atoms)} neighbours each by model.cdvae.graph={cdvae['graph']}"
    raise ConfigError(
        f"a training step needs about {needed / GIB:.0f} GiB of memory and {available / GIB:.0f} GiB are "
        f"there (batches of {train['batch_size']} cells of {num_atoms} atoms, {neighbours}); "
        f"what fits: {advice or 'no batch at all with this network'}"
    )


def fitting_settings(
    settings: Mapping[str, Any],
    num_atoms: int,
    available: float | None = None,
    periodicity: tuple[bool, ...] = (True, True, False),
) -> dict[str, Any] | None:
    """Settings to change so that a training step fits, by their paths; empty if it fits as it is, None if none does.

    Args:
      settings: as for `needed_bytes`, such as `configs.custom.get_config().to_dict()`.
      num_atoms: of the largest cell.
      available: bytes; those of this machine's device by default.
      periodicity: of the structures.
    """
    available = available_bytes() if available is None else available
    near = _near_image_count(periodicity)
    images = 7 ** sum(periodicity) if settings["model"]["cdvae"]["graph"] == "pairs" else near
    if available is None or needed_bytes(settings, num_atoms, images) <= available:
        return {}
    return next(_fitting(settings, num_atoms, images, near, available, 1), None)


def _fitting(settings, num_atoms, images, near, available, num_devices) -> Iterator[dict[str, Any]]:
    """First smaller batches, down to a quarter; then the nearest neighbours; then smaller batches of all pairs."""
    size = settings["train"]["batch_size"]
    halves = [size >> n for n in range(1, size.bit_length()) if (size >> n) % num_devices == 0]
    changes = [{"train.batch_size": half} for half in halves if 4 * half >= size]
    if settings["model"]["cdvae"]["graph"] == "pairs":
        nearest: dict[str, Any] = {"model.cdvae.graph": "nearest"}
        changes += [nearest, *(nearest | {"train.batch_size": half} for half in halves)]
    changes += [{"train.batch_size": half} for half in halves if 4 * half < size]
    kinds = set()
    for change in changes:
        changed = copy.deepcopy({part: dict(settings[part]) for part in ("model", "train")})
        for path, value in change.items():
            *parents, name = path.split(".")
            part = changed
            for parent in parents:
                part = part[parent]
            part[name] = value
        count = near if changed["model"]["cdvae"]["graph"] == "nearest" else images
        kind = "model.cdvae.graph" in change
        if kind not in kinds and needed_bytes(changed, num_atoms, count, num_devices) <= available:
            kinds.add(kind)
            yield change


def _edge_bytes(model: Mapping[str, Any], platform: str) -> float:
    """Both networks, for each edge."""
    kept, passing = 0.0, 0.0
    for network in (model["encoder"], model["denoiser"]):
        lmax, mmax = network["lmax"], min(network["mmax"], network["lmax"])
        coefficients = sum(2 * min(degree, mmax) + 1 for degree in range(lmax + 1))
        size = 2 if network["compute_dtype"] == "bfloat16" and platform != "cpu" else 4
        array = size * coefficients * network["channels"]
        per_layer, once = (_KEPT_REMAT, _PASSING_REMAT) if network["remat"] else (_KEPT, _PASSING)
        kept += per_layer * network["num_layers"] * array
        passing = max(passing, once * array)
    return (kept + passing) * (_ON_CPU if platform == "cpu" else 1.0) + _OTHERS_BYTES


def _parameter_bytes(settings: Mapping[str, Any], num_atoms: int) -> float:
    """Weights with gradient, average and the optimiser's two moments, all float32, before and after a step."""
    cdvae = settings["model"]["cdvae"]
    hidden, latent = cdvae["hidden_dim"], cdvae["latent_dim"]
    heads = hidden * (num_atoms**2 + 100 * num_atoms) + 4 * latent * (
        cdvae["lmf_rank"] * latent + hidden
    )
    return 4 * 8 * heads


def _near_image_count(periodicity: tuple[bool, ...]) -> int:
    """Of a cell that is large enough to be a question of memory."""
    return 3 ** sum(periodicity)


def _free_ram() -> float | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(
            1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")
        )
    except (OSError, ValueError, StopIteration, IndexError):
        return None


def _free_in_cgroup() -> float | None:
    """Of a container or batch job: limit less use, cgroup v2 or v1."""
    places = (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        (
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        ),
    )
    for limit, used in places:
        try:
            return float(int(Path(limit).read_text()) - int(Path(used).read_text()))
        except (OSError, ValueError):  # ValueError: "max", no limit
            continue
    return None
