"""The reference model: an independent property model that evaluates candidates, instead of the model that made them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from vdw_jax.report.crystal import Crystal
from vdw_jax.types import CrystalBatch

if TYPE_CHECKING:
    from vdw_jax.design.trained import Trained
    from vdw_jax.property_model.trained import PropertyModel


@dataclasses.dataclass(frozen=True, eq=False)
class Reference:
    """A property model under the name that tables and pages show."""

    name: str
    model: PropertyModel

    @property
    def label(self) -> str:
        """The property, such as "formation_energy_ev"."""
        return self.model.label

    def evaluate(self, crystals: Sequence[Crystal]) -> list[float | None]:
        """The property of each crystal, in the unit of the label; None where the model does not cover it."""
        covered = [
            place
            for place, crystal in enumerate(crystals)
            if crystal.is_finite and self.model.covers(crystal.atomic_numbers, crystal.periodicity)
        ]
        values: list[float | None] = [None] * len(crystals)
        if not covered:
            return values
        width = self.model.most_atoms
        numbers = np.zeros((len(covered), width), np.int32)
        positions = np.zeros((len(covered), width, 3), np.float32)
        cells = np.zeros((len(covered), 3, 3), np.float32)
        for row, place in enumerate(covered):
            crystal = crystals[place]
            size = len(crystal.atomic_numbers)
            numbers[row, :size] = crystal.atomic_numbers
            positions[row, :size] = crystal.centred_positions()
            cells[row] = crystal.cell
        found = self.model.predict(CrystalBatch(numbers, positions, cells))  # type: ignore[arg-type]
        for place, value in zip(covered, found, strict=True):
            values[place] = float(value) if np.isfinite(value) else None
        return values


def reference_for(trained: Trained) -> Reference | None:
    """The property model that ships, for a model of the data that ship; None for one of data of one's own.

    A label of the same name may be defined otherwise there.
    """
    if trained.facts["config"]["data"].get("path"):
        return None
    from vdw_jax.property_model.trained import load_property_model

    return Reference("CGCNN that ships", load_property_model())
