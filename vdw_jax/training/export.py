"""Weights as one `.npz` file that ships: plain arrays, no pickle."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from vdw_jax.training.errors import ConfigError

WeightDtype = Literal["float32", "float16", "bfloat16"]

_HEADER = "__header__"
_VERSION = 1
_DTYPES: dict[str, Any] = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


def save_weights(
    path: str | os.PathLike[str], params: Mapping[str, Any], *, dtype: WeightDtype = "float32"
) -> None:
    """Writes a nested dict of arrays to one `.npz`, keys joined by `/`; the file appears whole.

    The same weights give the same bytes. Empty dicts are not kept.

    Args:
      path: file to write; its directory is made if missing.
      params: nested dict of floating-point or integer arrays. Integers are stored as they are.
      dtype: of the floating-point arrays on disk. bfloat16 is stored as its 16 bits in uint16.

    Raises:
      ValueError: an unknown dtype, an unusable key, or a value that is not finite in that dtype.
      TypeError: a leaf that is no array of numbers.
    """
    path = Path(path)
    if dtype not in _DTYPES:
        raise ValueError(f"{path}: dtype must be one of {', '.join(_DTYPES)}, got {dtype!r}")
    arrays: dict[str, np.ndarray] = {}
    bfloat16_keys = []
    for key, leaf in sorted(_flatten(path, params)):
        array = np.asarray(leaf)
        if np.issubdtype(array.dtype, np.integer):
            arrays[key] = array
            continue
        if not (np.issubdtype(array.dtype, np.floating) or array.dtype == ml_dtypes.bfloat16):
            raise TypeError(f"{path}: {key} has dtype {array.dtype}, not a number")
        with np.errstate(over="ignore"):
            array = array.astype(_DTYPES[dtype])
        if not np.isfinite(array.astype(np.float32)).all():
            raise ValueError(f"{path}: {key} is not finite as {dtype}")
        if dtype == "bfloat16":
            bfloat16_keys.append(key)
            array = array.view(np.uint16)
        arrays[key] = array
    header = {"version": _VERSION, "dtype": dtype, "bfloat16_keys": bfloat16_keys}
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with scratch.open("wb") as file:
            np.savez(file, allow_pickle=False, **{_HEADER: np.array(json.dumps(header))}, **arrays)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def load_weights(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads what `save_weights` wrote: a nested dict of numpy arrays, floating point as float32.

    Raises:
      FileNotFoundError: no such file.
      ValueError: not such a file, or damaged; the message names the file, and the key if it is one.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}")
    try:
        stored = np.load(path, allow_pickle=False)
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"{path}: not a weight file ({error})") from error
    if not isinstance(stored, np.lib.npyio.NpzFile):
        raise ValueError(f"{path}: not a weight file (one array, no .npz)")
    params: dict[str, Any] = {}
    with stored:
        bfloat16_keys = _read_header(path, stored)
        for key in stored.files:
            if key == _HEADER:
                continue
            array = _read(path, stored, key)
            if key in bfloat16_keys:
                if array.dtype != np.uint16:
                    raise ValueError(f"{path}: {key} is marked bfloat16 and stored as {array.dtype}")
                array = array.view(ml_dtypes.bfloat16).astype(np.float32)
            elif np.issubdtype(array.dtype, np.floating):
                array = array.astype(np.float32)
            _insert(path, params, key, array)
    return params


def weights_like(params: dict[str, Any], path: Path) -> dict[str, Any]:
    """The model's weights from an export, where they are named and shaped as `params`.

    Raises:
      ConfigError: they are not; the message names the first weight that differs.
    """
    found = {"params": load_weights(path)["model"]}
    wanted, given = (
        {jax.tree_util.keystr(where): leaf.shape for where, leaf in jax.tree_util.tree_leaves_with_path(tree)}
        for tree in (params, found)
    )
    for name in sorted(wanted.keys() | given.keys()):
        if wanted.get(name) != given.get(name):
            raise ConfigError(
                f"train.start_from: {path} is of another model: {name} is {given.get(name, 'missing')} there, "
                f"{wanted.get(name, 'not in this model')} here"
            )
    return jax.tree.map(jnp.asarray, found)


def _flatten(path: Path, tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    if not isinstance(tree, Mapping):
        raise TypeError(f"{path}: weights must be a nested dict, got {type(tree).__name__}")
    leaves: list[tuple[str, Any]] = []
    for name, value in tree.items():
        if not isinstance(name, str) or not name or "/" in name or name == _HEADER:
            raise ValueError(f"{path}: {name!r} under {prefix or '/'!r} cannot be a key")
        if isinstance(value, Mapping):
            leaves += _flatten(path, value, f"{prefix}{name}/")
        else:
            leaves.append((prefix + name, value))
    return leaves


def _read_header(path: Path, stored: Any) -> set[str]:
    if _HEADER not in stored.files:
        raise ValueError(f"{path}: not a weight file ({_HEADER} is missing)")
    try:
        header = json.loads(str(_read(path, stored, _HEADER)))
        version, bfloat16_keys = header["version"], set(header["bfloat16_keys"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: {_HEADER} is damaged ({error})") from error
    if version != _VERSION:
        raise ValueError(f"{path}: format version {version}, this code reads {_VERSION}")
    return bfloat16_keys


def _read(path: Path, stored: Any, key: str) -> np.ndarray:
    try:
        return stored[key]
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"{path}: {key} is damaged ({error})") from error


def _insert(path: Path, tree: dict[str, Any], key: str, array: np.ndarray) -> None:
    *parents, name = key.split("/")
    for parent in parents:
        tree = tree.setdefault(parent, {})
        if not isinstance(tree, dict):
            raise ValueError(f"{path}: {key} runs through an array")
    if name in tree:
        raise ValueError(f"{path}: {key} appears twice")
    tree[name] = array
