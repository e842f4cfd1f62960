"""Weights as one `.npz` file that ships: plain arrays, no pickle."""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from vdw_jax.training.errors import ConfigError
from vdw_jax.training.facts import FORMAT_KEY, WEIGHTS_KEY, file_sha256, read_facts, write_facts

WeightDtype = Literal["float32", "float16", "bfloat16"]

WEIGHTS_NAME, FACTS_NAME = "weights.npz", "model.json"

_HEADER = "__header__"
_DAMAGE = (OSError, ValueError, EOFError, NotImplementedError, MemoryError, zipfile.BadZipFile, zlib.error)
"""What reading a damaged archive raises."""

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
    except _DAMAGE as error:
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


def write_export(directory: Path, facts: dict[str, Any], weights: Mapping[str, Any]) -> None:
    """Writes `weights.npz` (float16), without pickle, and `model.json`, which is needed to read them."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / WEIGHTS_NAME
    save_weights(path, weights, dtype="float16")
    write_facts(directory / FACTS_NAME, facts, path)


def read_export(directory: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What `write_export` wrote: `model.json`, and the weights as a nested dict.

    Exports from before there were checksums are read too; what they name after properties gets its new name.

    Raises:
      FileNotFoundError: one of the files is not there.
      ValueError: damaged; one line that names the file, and the entry or the weight.
    """
    for name in (WEIGHTS_NAME, FACTS_NAME):
        if not (directory / name).is_file():
            raise FileNotFoundError(f"no trained model at {directory}: it has no {name}")
    facts = read_facts(directory / FACTS_NAME)
    path = directory / WEIGHTS_NAME
    check_weights_sha256(path, facts)
    weights = load_weights(path)
    if weights.keys() != {"model", "generator", "latent"}:
        raise ValueError(f"{path} does not hold model, generator and latent")
    if FORMAT_KEY not in facts:
        model = weights["model"]
        if isinstance(model, dict) and isinstance(model.get("fusion"), dict):
            names = old_fusion_names(scalar["name"] for scalar in facts["model"]["scalars"])
            new_names = {old: new for new, old in names.items()}
            model["fusion"] = {new_names.get(name, name): leaf for name, leaf in model["fusion"].items()}
    _check_sizes(path, weights, facts["model"])
    return facts, weights


def check_weights_sha256(path: Path, facts: Mapping[str, Any]) -> None:
    """That a weight file is the one that `facts` were written with; those that do not say are believed.

    Raises:
      ValueError: it is another, or damaged; names the file.
    """
    expected = facts.get(WEIGHTS_KEY)
    if expected is not None and file_sha256(path) != expected:
        raise ValueError(f"{path}: it is damaged or of another export ({WEIGHTS_KEY} in {FACTS_NAME} differs)")


def old_fusion_names(scalars: Iterable[str]) -> dict[str, str]:
    """Parameters of the fusion by scalar, now -> as they were called when properties named them."""
    parts = ("factor", "unit")
    return {f"scalar_{place}_{part}": f"{name}_{part}" for place, name in enumerate(scalars) for part in parts}


def weights_like(params: dict[str, Any], folder: Path, scalars: Sequence[str]) -> dict[str, Any]:
    """The model's weights from an export, where they are named and shaped as `params`.

    Args:
      folder: the export, or the workdir that has it.
      scalars: names of the conditions, in order.

    Raises:
      ConfigError: there are none, or others; the message names the first weight that differs.
    """
    inner = folder / "export"
    path = inner if inner.is_dir() else folder
    try:
        facts, weights = read_export(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"train.start_from: {error}") from None
    theirs = [scalar["name"] for scalar in facts["model"]["scalars"]]
    if theirs != list(scalars):
        raise ConfigError(
            f"train.start_from: {path} is of another model: data.scalars are {theirs} there, {list(scalars)} here"
        )
    found = {"params": weights["model"]}
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


def _check_sizes(path: Path, weights: Mapping[str, Any], model: Mapping[str, Any]) -> None:
    """That the sizes that `model.json` names are those of the weights, as far as one look at them says."""
    latent = model["latent_dim"]
    wanted: dict[tuple[str, ...], tuple[int, ...]] = {
        ("latent", "mean"): (latent,),
        ("latent", "std"): (latent,),
        ("model", "latent", "bias"): (2 * latent,),
        ("model", "num_atoms_head", "Dense_1", "bias"): (model["max_atoms"] + 1,),
        ("model", "num_atoms_head", "Dense_0", "bias"): (model["hidden_dim"],),
        ("model", "property_head", "Dense_1", "bias"): (max(len(model["scalars"]), 1),),
        ("model", "fusion", "rank_weights"): (model["lmf_rank"],),
        ("model", "fusion", "elements", "kernel"): (100, model["formula_dim"]),
    }
    for place in range(len(model["scalars"])):
        shape = (model["num_basis"], model["lmf_rank"], latent)
        wanted["model", "fusion", f"scalar_{place}_factor"] = shape
    for part in ("encoder", "denoiser"):
        shape = tuple(model[part][size] for size in ("num_layers", "lmax", "channels"))
        wanted["model", part, "layers", "norm_attention", "scale"] = shape
    for keys, shape in wanted.items():
        leaf: Any = weights
        for key in keys:
            leaf = leaf.get(key) if isinstance(leaf, dict) else None
        found = getattr(leaf, "shape", "missing")
        if found != shape:
            raise ValueError(f"{path}: {'/'.join(keys)} is {found} there, {shape} by {FACTS_NAME}")


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
    # NotImplementedError, zlib.error: another compression than none; MemoryError: a shape that is no shape.
    except (*_DAMAGE, SyntaxError, KeyError, TypeError) as error:
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
