"""`request.json`: what a run of sample.py depends on, written with its output, so that it can be run again."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

import vdw_jax
from vdw_jax.design.request import RequestError
from vdw_jax.design.trained import PRETRAINED, Trained

REQUEST_NAME = "request.json"

_NOT_OF_THE_RESULT = ("out", "overwrite", "quiet", "request")
_PACKAGES = ("jax", "jaxlib", "flax", "numpy")


def default_folder(given: argparse.Namespace) -> str:
    """`samples/<what is asked>-seed<seed>`, of the command line of sample.py."""
    energy = given.target_energy and f"{given.target_energy}eV"
    wishes = (given.target_formula, given.chemical_system, energy, *given.target)
    return f"samples/{'_'.join(filter(None, wishes)) or 'any'}-seed{given.seed}"


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
    try:
        saved = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RequestError(f"{path} cannot be read: {error}") from None
    parts = ("settings", "model", "versions")
    if not isinstance(saved, dict) or not all(isinstance(saved.get(part), dict) for part in parts):
        raise RequestError(f"{path} is no request that sample.py saved: it lacks {', '.join(parts)}")
    return saved


def parse_with_saved(parser: argparse.ArgumentParser, arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; with `--request`, what that file says stands in for what is not given beside it.

    Raises:
      RequestError: the file cannot be used, or has a setting that the parser does not know.
    """
    given = parser.parse_args(arguments)
    if given.request is None:
        return given
    settings = read_saved(given.request)["settings"]
    if unknown := settings.keys() - vars(given).keys():
        raise RequestError(f"{given.request}: this version has no setting {', '.join(sorted(unknown))}")
    parser.set_defaults(**settings)
    return parser.parse_args(arguments)


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
        notes.append(f"the request was run on {saved.get('device')}, this is {now['device']}; last digits may differ")
    for name, version in now["versions"].items():
        if saved["versions"].get(name) != version:
            notes.append(f"{name} {version} instead of {saved['versions'].get(name)}; last digits may differ")
    return notes
