"""What the benchmarks share: command line, inputs of any size, timing, ceilings of the device, and the record.

A benchmark times compiled calls that were warmed up, blocks until results are ready, and writes one record a run into
`results/<what>-<device>.json`, in place of an earlier one of the same settings.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import datetime
import functools
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from vdw_jax.graphs.neighbours import image_range_for
from vdw_jax.model.cdvae import CDVAE
from vdw_jax.structures.dataset import CrystalDataset
from vdw_jax.structures.j2dh8 import build_j2dh8
from vdw_jax.training.loop import create_model
from vdw_jax.types import Conditions, CrystalBatch

RESULTS = Path(__file__).parent / "results"

REQUIRED = (
    "what", "config", "device", "jax", "dtype", "batch", "structures_per_s", "structure_calls_per_s",
    "peak_memory_gb", "compile_s", "share_of_peak", "date", "commit",
)  # fmt: skip
"""Keys of every record; None where one does not apply."""

IDENTITY = ("what", "config", "settings", "num_devices", "xla_flags", "dtype", "batch", "atoms", "slots")
"""A record replaces an earlier one that agrees in these."""

TOLERANCE = {"float64": 1e-8, "float32": 1e-4, "bfloat16": 5e-2}
"""Largest ||out - reference|| / ||reference|| of a whole network against float64."""


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds a call over the repeats."""

    median_s: float
    fastest_s: float
    slowest_s: float
    repeats: int


@dataclasses.dataclass(frozen=True)
class Ceilings:
    """What the device does at best, measured in the same run."""

    matmul_tflops: float
    matmul: str
    copy_gb_per_s: float


def parser(description: str) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    options = argparse.ArgumentParser(description=description, epilog="--config.NAME=VALUE changes a single setting.")
    options.add_argument("--config", default="configs/j2dh8.py")
    options.add_argument("--batch", type=int, default=256, help="structures")
    options.add_argument("--atoms", type=int, default=8, help="atoms of a cell; 8 is J2DH-8 itself")
    options.add_argument("--slots", type=int, default=0, help="padded atoms of a cell; as many as atoms by default")
    options.add_argument("--dtype", help="compute dtype of encoder and denoiser, in place of the config's")
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--out", type=Path, default=RESULTS, help="directory for the JSON file")
    options.add_argument("--label", default="", help="kept in the record, to tell versions apart")
    return options


def parse(options: argparse.ArgumentParser, argv: list[str] | None = None) -> tuple[argparse.Namespace, ConfigDict]:
    """Arguments, and the config with `--config.NAME=VALUE` and `--dtype` applied."""
    arguments, rest = options.parse_known_args(argv)
    arguments.settings = ""
    config = runpy.run_path(arguments.config)["get_config"]()
    for item in rest:
        match = re.fullmatch(r"--config\.([\w.]+)=(.*)", item)
        if not match:
            options.error(f"unknown argument {item}")
        try:
            value = ast.literal_eval(match[2])
        except (ValueError, SyntaxError):
            value = match[2]
        *groups, name = match[1].split(".")
        if name not in functools.reduce(lambda part, group: part.get(group) or {}, groups, config):
            options.error(f"the config has no {match[1]}")
        config.update_from_flattened_dict({match[1]: value})
        arguments.settings = " ".join([arguments.settings, item.removeprefix("--config.")]).strip()
    if arguments.label:
        arguments.settings = f"{arguments.settings} [{arguments.label}]".strip()
    if arguments.dtype:
        config.model.encoder.compute_dtype = config.model.denoiser.compute_dtype = arguments.dtype
    arguments.dtype = config.model.denoiser.compute_dtype
    arguments.slots = arguments.slots or arguments.atoms
    return arguments, config


@functools.cache
def j2dh8() -> CrystalDataset:
    """All its cells, by rule."""
    return build_j2dh8()


def make_model(config: ConfigDict, crystals: CrystalBatch | None = None) -> CDVAE:
    """The configured model as training would make it, with images enough for `crystals`."""
    data = j2dh8()
    config = ConfigDict(config)
    config.data.scalars = tuple(data.scalars)
    model = create_model(config, data)
    return model if crystals is None else with_images(model, np.asarray(crystals.cell))


def with_images(model: CDVAE, cells: np.ndarray) -> CDVAE:
    """The model that searches as many images as these cells need."""
    config = model.config
    cutoff = max(config.encoder.cutoff_angstrom, config.denoiser.cutoff_angstrom)
    return model.clone(config=config.with_images(image_range_for(cells, config.periodicity, cutoff)))


def with_dtype(model: CDVAE, dtype: str) -> CDVAE:
    """The same network at another compute dtype; in float64 without kernels, which do not have it."""
    encoder, denoiser = (
        dataclasses.replace(part, compute_dtype=dtype, kernels=part.kernels and dtype != "float64")
        for part in (model.config.encoder, model.config.denoiser)
    )
    return model.clone(config=dataclasses.replace(model.config, encoder=encoder, denoiser=denoiser))


def make_crystals(batch: int, atoms: int = 8, slots: int = 0, seed: int = 0) -> CrystalBatch:
    """Random J2DH-8 cells, every atom moved by 0.3 A; for other numbers of atoms their species repeated.

    Cells keep the area an atom has. Arrays of the host; padded to `slots` atoms.
    """
    data = j2dh8()
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, len(data), batch)
    order = np.arange(atoms) % data.atomic_numbers.shape[1]
    numbers, positions = data.atomic_numbers[rows][:, order], data.positions[rows][:, order]
    cell = data.cell[rows].copy()
    scale = np.sqrt(atoms / data.atomic_numbers.shape[1])
    cell[:, :2] *= scale
    positions = positions * np.array([scale, scale, 1.0]) + rng.normal(0.0, 0.3, positions.shape)
    if atoms != data.atomic_numbers.shape[1]:
        inside = rng.uniform(size=(batch, atoms, 2)) @ cell[:, :2, :2]
        positions = np.concatenate([inside, positions[..., 2:]], -1)
    extra = max(slots - atoms, 0)
    return CrystalBatch(
        np.pad(numbers, ((0, 0), (0, extra))).astype(np.int32),
        np.pad(positions, ((0, 0), (0, extra), (0, 0))).astype(np.float32),
        cell.astype(np.float32),
    )


def no_conditions(size: int, num_scalars: int) -> Conditions:
    """Nothing asked."""
    scalars = jnp.zeros((size, num_scalars))
    return Conditions(scalars, scalars > 0, jnp.zeros((size, 100)), jnp.zeros(size, bool))


def random_params(model: CDVAE, crystals: CrystalBatch, seed: int = 0) -> Any:
    """Weights of the spread that initialisation gives, without compiling it; biases and scales are random too."""
    few = jax.tree.map(lambda x: jnp.asarray(x[:2]), crystals)
    size = len(few.cell)
    shapes = jax.eval_shape(
        model.init, jax.random.key(0), few, no_conditions(size, len(model.config.scalars)), jnp.ones(size)
    )
    return random_like(shapes, seed)


def random_like(shapes: Any, seed: int = 0) -> Any:
    """Parameters of these shapes, drawn by their names."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        name, values = path[-1].key, rng.standard_normal(leaf.shape, np.float32)
        if name == "scale":
            return 1.0 + 0.1 * values
        if name in ("bias", "embedding") or len(leaf.shape) < 2:
            return (1.0 if name == "embedding" else 0.1) * values
        return values / np.sqrt(3.0 * leaf.shape[-2])

    return jax.device_put(jax.tree_util.tree_map_with_path(draw, shapes))


def run_among_nans(call: Callable, *inputs) -> Any:
    """`call(*inputs)` with NaN in the memory of a GPU that is free: what reads behind an array then shows."""
    jax.block_until_ready(call(*inputs))  # compiling writes to that memory too
    if jax.default_backend() == "gpu":
        # Gone as soon as they are there; 2 GB.
        jax.block_until_ready([jnp.full(1 << 26, jnp.nan) for _ in range(8)])
    return call(*inputs)


def in_float64(function: Callable, model: CDVAE, params, *inputs) -> Any:
    """`function(model, params, *inputs)` with the network, its weights and its inputs in float64."""

    arrays = to_float64((params, *inputs))
    with jax.enable_x64(True):
        reference = with_dtype(model, "float64")
        return jax.device_get(jax.jit(lambda params, *rest: function(reference, params, *rest))(*arrays))


def to_float64(tree: Any) -> Any:
    """Arrays of the host, floating ones in float64."""

    def wide(x):
        x = np.asarray(x)
        return x.astype(np.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x

    return jax.tree.map(wide, tree)


def relative_error(out, reference) -> float:
    """Largest ||out - reference|| / ||reference|| of any array; infinite if anything is not finite."""
    errors = []
    for left, right in zip(jax.tree.leaves(out), jax.tree.leaves(reference), strict=True):
        left, right = np.asarray(left, np.float64), np.asarray(right, np.float64)
        errors.append(np.linalg.norm(left - right) / max(np.linalg.norm(right), 1e-30))
    return float(max(errors)) if np.isfinite(errors).all() else float("inf")


def compile_timed(function: Callable, *args, **kwargs) -> tuple[Any, float]:
    """A jitted function compiled for its arguments, and the seconds that tracing and compiling took."""
    started = time.perf_counter()
    compiled = function.lower(*args, **kwargs).compile()
    return compiled, time.perf_counter() - started


def time_calls(call: Callable[[], Any], repeats: int, *, warm_up: int = 1, shortest_s: float = 0.05) -> Timing:
    """Seconds a call: `repeats` measurements, each of as many calls in a row as last `shortest_s`."""
    for _ in range(warm_up):
        jax.block_until_ready(call())
    started = time.perf_counter()
    jax.block_until_ready(call())
    count = max(1, round(shortest_s / max(time.perf_counter() - started, 1e-6)))
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        for _ in range(count - 1):
            call()
        jax.block_until_ready(call())
        seconds.append((time.perf_counter() - started) / count)
    return Timing(float(np.median(seconds)), min(seconds), max(seconds), repeats)


def measure_ceilings() -> Ceilings:
    """Rates of a large matrix product and of a copy on random data (bytes read plus bytes written)."""
    on_cpu = jax.default_backend() == "cpu"
    size, dtype, length = (1024, jnp.float32, 2**24) if on_cpu else (8192, jnp.bfloat16, 2**29)
    left, right = (jax.random.normal(jax.random.key(seed), (size, size), dtype) for seed in (0, 1))
    product = jax.jit(lambda a, b: a @ b)
    matmul = time_calls(lambda: product(left, right), 5, warm_up=3)
    values = jax.random.normal(jax.random.key(2), (length,), jnp.bfloat16)
    negate = jax.jit(lambda x: -x)
    copied = time_calls(lambda: negate(values), 5, warm_up=2)
    rate, bandwidth = 2 * size**3 / matmul.median_s, 2 * values.nbytes / copied.median_s
    return Ceilings(rate / 1e12, f"{jnp.dtype(dtype).name} {size}^3", bandwidth / 1e9)


def peak_memory_gb(compiled: Any = None) -> float | None:
    """Most memory in use so far on the device; where it does not count, what the compiled program asks for."""
    stats = jax.devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return stats["peak_bytes_in_use"] / 1e9
    if compiled is None:
        return None
    need = compiled.memory_analysis()
    return (need.argument_size_in_bytes + need.output_size_in_bytes + need.temp_size_in_bytes) / 1e9


def make_record(what: str, arguments: argparse.Namespace, ceilings: Ceilings, timing: Timing, **measured) -> dict:
    """A record with every required key, from what was measured."""
    record = dict.fromkeys(REQUIRED)
    record |= {
        "what": what,
        "config": arguments.config,
        "settings": arguments.settings,
        "device": jax.devices()[0].device_kind,
        "num_devices": jax.device_count(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "jax": jax.__version__,
        "dtype": arguments.dtype,
        "batch": arguments.batch,
        "atoms": arguments.atoms,
        "slots": arguments.slots,
        **dataclasses.asdict(timing),
        **dataclasses.asdict(ceilings),
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        "command": shlex.join(["python", "-m", f"benchmarks.{what}", *(x for x in sys.argv[1:] if "--out=" not in x)]),
    }
    return record | measured


def commit() -> str:
    """Of the working tree, "+" behind it if files differ; from the variable COMMIT where there is no repository."""
    if "COMMIT" in os.environ:
        return os.environ["COMMIT"]
    try:
        called = ["git", "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
        return subprocess.run(called, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def write_record(record: dict, directory: Path) -> Path:
    """Adds a record to its file, in place of one with the same settings."""
    slug = re.sub(r"[^a-z0-9]+", "-", record["device"].lower()).strip("-")
    path = directory / f"{record['what']}-{slug}.json"
    records = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    records = [old for old in records if any(old.get(key) != record.get(key) for key in IDENTITY)] + [record]
    records.sort(key=lambda each: json.dumps([each.get(key) for key in IDENTITY]))
    directory.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    return path


def report(record: dict, directory: Path) -> None:
    """Prints a record and writes it."""
    shown = {key: value for key, value in record.items() if not isinstance(value, list)}
    for key, value in shown.items():
        print(f"{key:28s} {value:.6g}" if isinstance(value, float) else f"{key:28s} {value}")
    print(f"written to {write_record(record, directory)}")
