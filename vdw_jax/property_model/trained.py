"""A trained property model on disk and in use."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vdw_jax.graphs.neighbours import widened_image_range
from vdw_jax.property_model.cgcnn import CGCNN, CGCNNConfig
from vdw_jax.structures.errors import DataError
from vdw_jax.training.export import FACTS_NAME, WEIGHTS_NAME, check_weights_sha256, load_weights, save_weights
from vdw_jax.training.facts import read_own_json, write_facts
from vdw_jax.training.labels import in_units
from vdw_jax.training.rules import ANY_NUMBER, SIZE, TEXT, YES_OR_NO, Rules, above, find_faults, several, whole
from vdw_jax.types import CrystalBatch, Periodicity

SHIPPED = Path(__file__).parents[1] / "pretrained" / "property_model"
"""The one that ships, for `formation_energy_ev`."""


_MODEL: Rules = {
    "label": TEXT,
    "mean": ANY_NUMBER,
    "std": above(0),
    "periodicity": several(YES_OR_NO, 3, 3),
    "image_range": several(whole(0, 100), 3, 3),
    "cutoff_angstrom": above(0, 1000),
    "max_neighbours": SIZE,
    "spacing_angstrom": above(0, 1000),
    "channels": SIZE,
    "num_layers": whole(1, 1000),
    "hidden": SIZE,
}


@dataclasses.dataclass(frozen=True, eq=False)
class PropertyModel:
    """A trained `CGCNN`, its weights, and what is on record of its training (`errors`: mean absolute, of each part)."""

    model: CGCNN
    params: Any
    facts: dict[str, Any]

    @property
    def label(self) -> str:
        """The property that is predicted, such as "formation_energy_ev"."""
        return self.model.config.label

    @property
    def most_atoms(self) -> int:
        """Atoms of the largest cell that it covers; 0 if that is not on record."""
        return max(self.facts.get("atom_counts", ()), default=0)

    def covers(self, atomic_numbers: np.ndarray, periodicity: Periodicity) -> bool:
        """Whether its training data have these elements, in cells of so many atoms, with these periods.

        Args:
          atomic_numbers: [n] int, without padding.
          periodicity: which of a, b, c are periods.
        """
        elements, sizes = self.facts.get("elements", ()), self.facts.get("atom_counts", ())
        same_periods = tuple(periodicity) == tuple(self.model.config.periodicity)
        return same_periods and len(atomic_numbers) in sizes and set(map(int, atomic_numbers)) <= set(elements)

    def predict(self, batch: CrystalBatch, chunk: int = 256) -> np.ndarray:
        """The property of each crystal, in the unit of the label; [B] float64. NaN for what is not finite.

        Args:
          batch: crystals; slabs centred as everywhere, see `CrystalBatch`.
          chunk: crystals at a time.
        """
        config = self.model.config
        numbers, positions, cells = (np.asarray(x) for x in (batch.atomic_numbers, batch.positions, batch.cell))
        usable = np.isfinite(positions).all((1, 2)) & np.isfinite(cells).all((1, 2))
        usable &= np.abs(np.linalg.det(np.where(usable[:, None, None], cells, np.eye(3)))) > 1e-3
        out = np.full(len(numbers), np.nan)
        rows = np.flatnonzero(usable)
        if not len(rows):
            return out
        images = widened_image_range(config.image_range, cells[rows], config.periodicity, config.cutoff_angstrom)
        model = CGCNN(dataclasses.replace(config, image_range=images))
        for start in range(0, len(rows), chunk):
            here = rows[start : start + chunk]
            filled = np.resize(here, min(chunk, len(rows)))  # one shape, one compilation
            part = CrystalBatch(*(jnp.asarray(array[filled]) for array in (numbers, positions, cells)))
            values = _apply(self.params, part, model=model)
            out[here] = in_units(np.asarray(values)[: len(here), None], (config,))[:, 0]
        return out


@functools.partial(jax.jit, static_argnames=("model",))
def _apply(params, batch: CrystalBatch, *, model: CGCNN) -> Any:
    return model.apply(params, batch)


def save_property_model(directory: str | Path, trained: PropertyModel) -> None:
    """Writes `weights.npz` and `model.json`, which has the checksums of both."""
    directory = Path(directory)
    weights = directory / WEIGHTS_NAME
    save_weights(weights, jax.device_get(trained.params), dtype="float32")
    write_facts(directory / FACTS_NAME, trained.facts | {"model": dataclasses.asdict(trained.model.config)}, weights)


def load_property_model(directory: str | Path = SHIPPED) -> PropertyModel:
    """Reads what `save_property_model` wrote.

    Raises:
      DataError: nothing there, or something else.
    """
    directory = Path(directory)
    try:
        facts = read_own_json(directory / FACTS_NAME)
        if faults := find_faults(facts.get("model"), _MODEL, "model"):
            raise ValueError(f"{FACTS_NAME}: {faults[0]}")
        model = CGCNN(CGCNNConfig.from_dict(facts.pop("model")))
        check_weights_sha256(directory / WEIGHTS_NAME, facts)
        params = load_weights(directory / WEIGHTS_NAME)
    except FileNotFoundError:
        raise DataError(f"no property model at {directory} (weights.npz and model.json)") from None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{directory} holds no property model ({error})") from error
    return PropertyModel(model, jax.device_put(params), facts)
