"""The data that generated structures are held against, and whether they are those that the model was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vdw_jax.structures.dataset import CrystalDataset
from vdw_jax.structures.errors import DataError
from vdw_jax.structures.source import load_configured
from vdw_jax.structures.splits import split_dataset

FAMILIES = {"j2dh8": "j2dh8-", "iii_vi": "iiivi-"}
"""How the ids of each family begin."""


class ReferenceError(ValueError):
    """The data cannot serve as the reference; the message is one line that a person can act on."""


@dataclass(frozen=True, eq=False)
class Reference:
    """A data set with its parts."""

    data: CrystalDataset
    parts: dict[str, np.ndarray]  # rows of "train", "validation", "test"
    settings: dict[str, Any]  # source, path, properties, max_atoms, split and so on: what loads it again
    data_hash: str
    problem: str = ""  # why it is not what the model was trained on, if so

    def rows(self, part: str, family: str = "all") -> np.ndarray:
        """Rows of a part, of one family only if it is named.

        Raises:
            ReferenceError: the part has no row of the family.
        """
        rows = self.parts[part]
        if family != "all":
            rows = rows[np.char.startswith(self.data.ids[rows], FAMILIES[family])]
        if len(rows) == 0:
            raise ReferenceError(f"the {part} part of {self.settings['source']} has no structure of family {family!r}")
        return rows


def load_reference(settings: Mapping[str, Any], expected_hash: str | None = None) -> Reference:
    """The data set that `Reference.settings` describes.

    Raises:
        ReferenceError: it cannot be loaded, or is not the one with `expected_hash`.
    """
    chosen = dict(settings)
    try:
        data = load_configured(chosen | {"scalars": chosen["properties"]})
        parts = split_dataset(data, chosen["split_seed"], by=chosen["split"])
    except DataError as error:
        raise ReferenceError(str(error)) from error
    found = data.content_hash()
    if expected_hash is not None and found != expected_hash:
        raise ReferenceError(
            f"the data set {chosen['source']} has hash {found[:12]} here, {expected_hash[:12]} where it was sampled"
        )
    return Reference(data, parts, chosen, found)


def reference_of(
    facts: Mapping[str, Any], split: str | None = None, source: str | None = None, *, allow_other: bool = False
) -> Reference:
    """The data that a model was trained on, with the split that it was trained with.

    Args:
        facts: what `model.json` records.
        split: another split, "structure" or "pair".
        source: another data set, by its name in `structures.source`.
        allow_other: take data, or a split, that the model was not trained on, and say so in `problem`.

    Raises:
        ReferenceError: the data differ from what the model was trained on and `allow_other` is off.
    """
    config = facts["config"]["data"]
    settings = {
        "source": source or config["source"], "path": "" if source else config["path"],
        "properties": list(config["scalars"]), "max_atoms": config["max_atoms"],
        "split": split or config["split"], "split_seed": config["split_seed"],
        "periodicity": config.get("periodicity", "auto"), "skip_problems": config.get("skip_problems", False),
    }  # fmt: skip
    problem, reference = "", None
    if settings["split"] != config["split"]:
        problem = f"the model was trained with the split by {config['split']}, not by {settings['split']}"
    try:
        reference = load_reference(settings)
    except ReferenceError as error:
        problem = str(error)
        if allow_other:
            reference = load_reference(settings | {"properties": []})
    if reference is not None and reference.data_hash != facts["data_hash"] and not problem:
        problem = f"hash {reference.data_hash[:12]} here, {facts['data_hash'][:12]} in training"
    if problem and not allow_other:
        raise ReferenceError(
            f"the data differ from what the model was trained on ({problem}): its test part may have been seen; "
            "--allow_other_data evaluates all the same"
        )
    assert reference is not None  # an error that is no problem has been raised
    return Reference(reference.data, reference.parts, reference.settings, reference.data_hash, problem)
