"""Profiles: the kernels of a compiled call and the places in the program that they come from.

On a GPU run with `XLA_FLAGS=--xla_gpu_enable_command_buffer=`: else many kernels show up as one.
"""

from __future__ import annotations

import argparse
import collections
import gzip
import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

WRAPPERS = {
    "jit", "jvp", "transpose", "vmap", "while", "body", "closed_call", "checkpoint", "rematted_computation", "remat2",
    "train_steps",
}  # fmt: skip
"""Words of a place in a program that say nothing of the network."""


def add_options(options: argparse.ArgumentParser) -> None:
    """`--profile` and `--top`."""
    options.add_argument("--profile", action="store_true", help="print the longest kernels of a call instead")
    options.add_argument("--top", type=int, default=40, help="lines of a profile")


def write(call: Callable[[], Any], compiled: Any, arguments: argparse.Namespace) -> None:
    """Prints the profile of a call and writes it to `profile.txt` in `--out`."""
    text = profile(call, compiled, arguments.top)
    print(text)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "profile.txt").write_text(text + "\n", encoding="utf-8")


def profile(call: Callable[[], Any], compiled: Any, top: int) -> str:
    """Device time of one call, by kernel and by place in the program."""
    jax.block_until_ready(call())
    with tempfile.TemporaryDirectory() as directory:
        with jax.profiler.trace(directory):
            jax.block_until_ready(call())
        traces = sorted(Path(directory).rglob("*.trace.json.gz"))
        events = json.loads(gzip.decompress(traces[-1].read_bytes()))["traceEvents"]
    return summarise(events, places_of(compiled.as_text()), top)


def places_of(hlo: str) -> dict[str, str]:
    """Where each instruction of an optimised program comes from: its name and its op_name."""
    found = re.finditer(r'^\s*(?:ROOT )?%?([\w.\-]+) = .*op_name="([^"]*)"', hlo, re.MULTILINE)
    return {match[1]: match[2] for match in found}


def summarise(events: list[dict], places: dict[str, str], top: int) -> str:
    """Table of the longest kernels of a trace and of the places that take longest.

    Kernels are the events of the devices' streams; on a CPU, those that name an instruction.
    """
    named = [event for event in events if event.get("ph") == "M"]
    devices = {
        event["pid"] for event in named
        if event.get("name") == "process_name" and event["args"]["name"].startswith("/device:")
    }  # fmt: skip
    streams = {
        (event["pid"], event["tid"]) for event in named
        if event.get("name") == "thread_name" and event["pid"] in devices and "Stream" in event["args"]["name"]
    }  # fmt: skip
    timed = [event for event in events if event.get("ph") == "X"]
    kernels = [event for event in timed if (event["pid"], event.get("tid")) in streams]
    kernels = kernels or [event for event in timed if "hlo_op" in event.get("args", {})]
    by_kernel, by_place = collections.Counter(), collections.Counter()
    count, places_of_kernel = collections.Counter(), {}
    for event in kernels:
        instruction = event.get("args", {}).get("hlo_op", event["name"])
        place = places.get(instruction) or places.get(event["name"]) or event.get("args", {}).get("name", "")
        by_kernel[event["name"], instruction] += event["dur"]
        count[event["name"], instruction] += 1
        places_of_kernel[event["name"], instruction] = place
        by_place[shortened(place)] += event["dur"]
    total = sum(by_kernel.values())
    lines = [f"{total / 1e3:.3f} ms in {len(kernels)} kernels"]
    lines += ["", "by kernel: ms, share, times, kernel, instruction, place"]
    for key, microseconds in by_kernel.most_common(top):
        lines.append(
            f"{microseconds / 1e3:9.3f} {microseconds / total:6.1%} {count[key]:5d}  {key[0][:60]:60s} "
            f"{key[1][:40]:40s} {places_of_kernel[key][-110:]}"
        )
    lines += ["", "by place: ms, share, place"]
    for place, microseconds in by_place.most_common(top):
        lines.append(f"{microseconds / 1e3:9.3f} {microseconds / total:6.1%}  {place}")
    return "\n".join(lines)


def shortened(place: str) -> str:
    """A place without loops and calls: forward or backward, and the names of the modules."""
    words = [word for word in re.split(r"[/()]", place) if word]
    kept = [word for word in words if word not in WRAPPERS and not word.startswith("CDVAE.")]
    return ("backward " if "transpose(" in place else "forward  ") + "/".join(list(dict.fromkeys(kept))[:4])
