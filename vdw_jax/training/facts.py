"""`model.json` of an export: written with checksums, and checked when it is read, before anything is built from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vdw_jax.model.generators import GAN
from vdw_jax.training.checkpoint import write_json_atomic
from vdw_jax.training.rules import (
    ANY_NUMBER,
    CDVAE_SIZES,
    GRID,
    NETWORK,
    TEXT,
    YES_OR_NO,
    Rule,
    Rules,
    above,
    choice,
    find_faults,
    several,
    whole,
)
from vdw_jax.training.settings import RULES as SETTINGS
from vdw_jax.training.settings import SECTIONS as GENERATOR_SECTIONS

FORMAT = 2
"""Of exports. In format 1, weights of the fusion were named after the properties, and there were no checksums."""

FORMAT_KEY, WEIGHTS_KEY, OWN_KEY = "format", "weights_sha256", "facts_sha256"
_LARGEST_BYTES = 64 * 2**20

_SCALAR: Rules = {"name": TEXT, "mean": ANY_NUMBER, "std": above(0)}
_POLAR_GRID: Rules = {"num_polar": whole(1, 10_000), "num_around": whole(1, 10_000)}
_NETWORK: Rules = {name: _POLAR_GRID if rule is GRID else rule for name, rule in NETWORK.items()}
_MODEL: Rules = {
    "encoder": _NETWORK,
    "denoiser": _NETWORK,
    "scalars": Rule(
        "a list of scalars, each of a name, a mean and a std above 0",
        lambda x: isinstance(x, list) and not any(find_faults(scalar, _SCALAR) for scalar in x),
    ),
    "lattice_mean": several(ANY_NUMBER, 6, 6),
    "lattice_std": several(above(0), 6, 6),
    "periodicity": several(YES_OR_NO, 3, 3),
    "max_atoms": whole(1, 10_000),
    "image_range": several(whole(0, 100), 3, 3),
    **CDVAE_SIZES,
    "sigma_data_in_plane": above(0),
    "sigma_data_normal": above(0),
}
_OPTIONAL = (
    "kernels", "remat", "unroll", "reflections", "adaptive_envelope", "condition_every_layer", "compute_dtype",
    "edge_activation", "ffn_activation", "graph", "noise_conditioned", "species_noise_conditioned", "stack_head",
    "sigma_data_in_plane", "sigma_data_normal", "generator",
)  # fmt: skip
"""Entries that early exports lack; the defaults are what they were."""

_SECTIONS: dict[str, tuple[str, ...]] = {
    "loss": ("sigma_max", "sigma_min"),
    "sample": ("schedule", "num_levels"),
    "gan": ("generator_hidden",),
    "latent_diffusion": ("width", "num_blocks", "num_calls"),
}
"""What sampling reads of a config, of the generator that was trained."""

_FACTS: Rules = {
    "model": _MODEL,
    "config": {"generator": SETTINGS["generator"]},
    "data_hash": TEXT,
    "atom_counts": several(whole(1, 10_000), 1),
    "elements": several(whole(1, 118), 1),
    "formulas": several(TEXT, 0, 10_000_000),
    "scalar_range": Rule(
        "a range of two numbers for each scalar",
        lambda x: (
            isinstance(x, dict)
            and all(several(ANY_NUMBER, 2, 2).holds(ends) for ends in x.values())
        ),
    ),
}
_FORMAT = choice(FORMAT)


def write_facts(path: Path, facts: Mapping[str, Any], weights: Path) -> None:
    """Writes `model.json`, with the sha256 of the weights beside it and of its own content."""
    content = json.loads(
        json.dumps(facts | {FORMAT_KEY: FORMAT, WEIGHTS_KEY: file_sha256(weights)})
    )
    write_json_atomic(path, content | {OWN_KEY: own_sha256(content)})


def read_facts(path: Path) -> dict[str, Any]:
    """Reads `model.json` and checks every entry that a model is built from. It is data: nothing of it is ever run.

    Raises:
      ValueError: damaged; one line that names file and entry.
    """
    facts = read_json_object(path)
    if OWN_KEY in facts and facts[OWN_KEY] != own_sha256(
        {k: v for k, v in facts.items() if k != OWN_KEY}
    ):
        raise ValueError(
            f"{path}: it is not as it was written ({OWN_KEY} differs); export the model again"
        )
    faults = []
    if FORMAT_KEY in facts and not _FORMAT.holds(facts[FORMAT_KEY]):
        faults = [
            f"{FORMAT_KEY} is {facts[FORMAT_KEY]!r}, and this version reads {FORMAT} and what has none"
        ]
    faults = faults or _found(facts)
    if faults:
        raise ValueError(
            f"{path}: {faults[0]}" + (f" (and {len(faults) - 1} more)" if len(faults) > 1 else "")
        )
    return facts


def read_json_object(path: Path) -> dict[str, Any]:
    """A JSON object from a file of bounded size.

    Raises:
      ValueError: something else; one line that names the file.
    """
    if path.stat().st_size > _LARGEST_BYTES:
        raise ValueError(f"{path}: {path.stat().st_size / 2**20:.0f} MiB are too large for it")
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: no JSON ({str(error)[:200]})") from None
    if not isinstance(facts, dict):
        raise ValueError(f"{path}: the whole is an object, not {type(facts).__name__}")
    return facts


def file_sha256(path: Path) -> str:
    """sha256 of a file; hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def own_sha256(content: Mapping[str, Any]) -> str:
    """sha256 of the content of `model.json` without `OWN_KEY`; hex."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _found(facts: Mapping[str, Any]) -> list[str]:
    faults = find_faults(facts, _FACTS, optional=_OPTIONAL, exact=False)
    if faults:
        return faults
    config = facts["config"]
    kind = config.get("generator", GAN)  # exports from before there were two have no such entry
    for section in ("loss", "sample", GENERATOR_SECTIONS[kind]):
        if section not in config:
            faults.append(f"config.{section} is missing")
            continue
        known: Any = SETTINGS[section]
        optional = known.keys() - set(_SECTIONS[section])
        faults += find_faults(
            config[section], known, f"config.{section}", optional=optional, exact=section == "loss"
        )
    names = [scalar["name"] for scalar in facts["model"]["scalars"]]
    faults += [
        f"scalar_range has no {name!r}" for name in names if name not in facts["scalar_range"]
    ]
    faults += [
        f"model.scalars has {name!r} twice" for name in sorted(set(names)) if names.count(name) > 1
    ]
    return faults
