"""`request.json`: what a run of sample.py depends on, written with its output, so that it can be run again.

Such files are passed on, so a file is data and not code: it sets only what changes a result, never where the output
goes, and names potentials by their built-in names. The checkpoint may be any folder; of that, arrays and JSON are read.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any

import jax

import vdw_jax
from vdw_jax.design.request import RequestError
from vdw_jax.design.trained import PRETRAINED, Trained
from vdw_jax.structures.potentials import NAMES

REQUEST_NAME = "request.json"

MOST_BYTES = 1_000_000
"""Of a saved request, which takes 2 kB."""

_NOT_OF_THE_RESULT = ("out", "overwrite", "quiet", "request", "json", "strict")
_SETTINGS: dict[str, tuple[type, ...]] = {
    "target_formula": (str, NoneType),
    "chemical_system": (str, NoneType),
    "target_energy": (str, int, float, NoneType),
    "target": (list,),
    "free_counts": (bool,),
    "strict": (bool,),  # of former versions; refusing is the default now
    "allow_untrained": (bool,),
    "num_samples": (int,),
    "seed": (int,),
    "steps": (int, NoneType),
    "sampler": (str, NoneType),
    "relax": (str, NoneType),
    "checkpoint": (str,),
}
"""What a file may set, and of what types."""

_KINDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", list: "a list of texts"}
_LONGEST_NAME = 120
_PACKAGES = ("jax", "jaxlib", "flax", "numpy")


def default_folder(given: argparse.Namespace) -> str:
    """`samples/<what is asked>-seed<seed>`, of the command line of sample.py."""
    energy = given.target_energy and f"{given.target_energy}eV"
    targets = (given.target_formula, given.chemical_system, energy, *given.target)
    named = (re.sub(r"\s*(\.\.|[<>]?=)\s*", r"\1", text).strip() for text in filter(None, targets))
    name = re.sub(r"[^\w.=+-]+", "_", "_".join(named))[:_LONGEST_NAME]
    return f"samples/{name or 'any'}-seed{given.seed}"


def describe_run(settings: Mapping[str, Any], trained: Trained, network_calls: int) -> dict[str, Any]:
    """What makes the result: settings, and a command with them; model, versions and device.

    The same settings, weights, versions and kind of device give the same files, bit for bit.

    Args:
      settings: the command line of sample.py, by name. Those that only say where the output goes are left out, and
        the checkpoint where it is the one that ships.
      trained: the model.
      network_calls: a candidate.
    """
    kept = {name: value for name, value in settings.items() if name not in _NOT_OF_THE_RESULT}
    checkpoint = Path(kept.pop("checkpoint", PRETRAINED)).resolve()
    if checkpoint != PRETRAINED.resolve():
        kept["checkpoint"] = str(checkpoint)
    flags = []
    for name, value in kept.items():
        if value is True:
            flags.append(f"--{name}")
        elif isinstance(value, list):
            flags += [f"--{name}={item}" for item in value]
        elif value is not None and value is not False:
            flags.append(f"--{name}={value}")
    return {
        "command": shlex.join(["python", "sample.py", *flags]),
        "settings": kept,
        "sampler": settings.get("sampler") or trained.sampler,
        "network_calls": network_calls,
        "model": {"weights_sha256": trained.weights_sha256, "data_hash": trained.facts["data_hash"]},
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "versions": {
            "vdw_jax": vdw_jax.__version__,
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in _PACKAGES},
        },
    }


def read_saved(path: str | Path) -> dict[str, Any]:
    """What `describe_run` said.

    Raises:
      RequestError: no such file, or something else in it.
    """
    file = Path(path)
    try:
        if file.exists() and not file.is_file():
            raise OSError("it is no file")
        with file.open("rb") as opened:
            content = opened.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise OSError(f"it is larger than {MOST_BYTES} bytes")
        saved = json.loads(content.decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RequestError(f"{path} cannot be read: {error}") from None
    parts = ("settings", "model", "versions")
    if not isinstance(saved, dict) or not all(isinstance(saved.get(part), dict) for part in parts):
        raise RequestError(f"{path} is no request that sample.py saved: it lacks {', '.join(parts)}")
    return saved


def parse_with_saved(parser: argparse.ArgumentParser, arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; with `--request`, what that file says stands in for what is not given beside it.

    Raises:
      RequestError: the file cannot be used, has a setting that is unknown or of another type, or names code.
    """
    given = parser.parse_args(arguments)
    if given.request is None:
        return given
    settings = read_saved(given.request)["settings"]
    if unknown := settings.keys() - (vars(given).keys() & _SETTINGS.keys()):
        names = ", ".join(sorted(map(_printable, unknown)))
        raise RequestError(f"{given.request}: a request has no setting {names}")
    for name, value in settings.items():
        _check_type(given.request, name, value)
    relax = settings.get("relax")
    if relax is not None and given.relax is None and relax not in _potentials():
        raise RequestError(
            f"{given.request} asks to relax with {_printable(relax)!r}: a request may name {', '.join(NAMES)} and not "
            "code of others; if you trust it, give --relax yourself"
        )
    if isinstance(settings.get("target_energy"), int | float):
        settings = settings | {"target_energy": str(settings["target_energy"])}
    parser.set_defaults(**settings)
    return parser.parse_args(arguments)


def _check_type(path: str, name: str, value: Any) -> None:
    allowed = _SETTINGS[name]
    fits = isinstance(value, allowed) and (bool in allowed or not isinstance(value, bool))
    if isinstance(value, list):
        fits = fits and all(isinstance(item, str) for item in value)
    if not fits:
        kinds = " or ".join(_KINDS[kind] for kind in allowed if kind in _KINDS)
        raise RequestError(f"{path}: {name} is {kinds}, not {_printable(json.dumps(value))}")


def _potentials() -> set[str]:
    """Built-in potentials, alone and with dispersion."""
    return {*NAMES, *(f"{name}+d3" for name in NAMES)}


def _printable(value: Any) -> str:
    """What a file says, for a message: one line, no control characters."""
    text = "".join(letter if letter.isprintable() else " " for letter in str(value))
    return text if len(text) <= 80 else f"{text[:80]}..."


def differences(path: str | Path | None, settings: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What may keep a saved request from giving the same again, a line each; none without a file.

    Args:
      path: the file.
      settings: the command line of sample.py, by name.
      now: `describe_run` of this run.

    Raises:
      RequestError: the weights are others, and no other checkpoint was asked for.
    """
    if path is None:
        return []
    saved = read_saved(path)
    notes = []
    if saved["model"] != now["model"]:
        same = now["settings"].get("checkpoint") == saved["settings"].get("checkpoint")
        if same:
            raise RequestError(f"{settings['checkpoint']} does not hold the weights that {path} was made with")
        notes.append("other weights than those of the request")
    if saved.get("device") != now["device"]:
        former = _printable(saved.get("device"))
        notes.append(f"the request was run on {former}, this is {now['device']}; last digits may differ")
    for name, version in now["versions"].items():
        if saved["versions"].get(name) != version:
            former = _printable(saved["versions"].get(name))
            notes.append(f"{name} {version} instead of {former}; last digits may differ")
    return notes
