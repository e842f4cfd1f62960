"""The Python interface: `Designer.from_pretrained().sample(16, formula="GaInSSe2")`.

What `sample.py` does on the command line, and in the same words.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import pandas as pd
from ase import Atoms
from pymatgen.core import Structure

from vdw_jax.design.coverage import Answer, Coverage
from vdw_jax.design.generate import generate
from vdw_jax.design.request import (
    MOST_SAMPLES,
    MOST_STEPS,
    Request,
    Target,
    checked_count,
    make_request,
)
from vdw_jax.design.saved import describe_run
from vdw_jax.design.trained import PRETRAINED, Trained, load_trained
from vdw_jax.diffusion.samplers import Schedule
from vdw_jax.report.crystal import Crystal
from vdw_jax.report.describe import sample_rows
from vdw_jax.report.ranking import rank
from vdw_jax.report.reference import reference_for
from vdw_jax.report.relaxation import relax_crystals
from vdw_jax.report.samples import compare, save_samples, to_crystals, training_part
from vdw_jax.report.untrained import mark_untrained, untrained_reasons
from vdw_jax.structures.potentials import create_calculator
from vdw_jax.training.seeds import checked_seed

_WHY_FEW_SAMPLES = "all are kept in memory; for more, run again with another seed"
_WHY_FEW_STEPS = "the samplers that ship take 10 to 5,000"


class SamplingError(RuntimeError):
    """A run came to nothing; one line."""


@dataclass(frozen=True, eq=False)
class Design:
    """One candidate: its structure, and its row of the table."""

    crystal: Crystal
    record: dict[str, Any]  # docs/report.md: what was asked and got, layers, gap, validity, rank

    @property
    def id(self) -> str:
        """The name it has in every file."""
        return self.crystal.id

    @property
    def structure(self) -> Structure:
        """For pymatgen, with the record as its properties; slabs are centred in 20 Angstrom of vacuum."""
        structure = self.crystal.to_pymatgen()
        structure.properties = dict(self.record)
        return structure

    @property
    def atoms(self) -> Atoms:
        """For ASE, with the record as its info."""
        atoms = self.crystal.to_ase()
        atoms.info = dict(self.record)
        return atoms


class Designs(Sequence[Design]):
    """Candidates of one request, best first."""

    def __init__(
        self, designs: Sequence[Design], request: Mapping[str, Any], notes: Sequence[str], trained: Trained
    ) -> None:
        self._designs, self._trained = list(designs), trained
        self.request = dict(request)
        """What made them: settings, weights, versions; `save` writes it as request.json."""
        self.notes = tuple(notes)
        """What of the request lies outside the training data."""

    def __len__(self) -> int:
        return len(self._designs)

    def __iter__(self) -> Iterator[Design]:
        return iter(self._designs)

    @overload
    def __getitem__(self, index: int) -> Design: ...

    @overload
    def __getitem__(self, index: slice) -> Designs: ...

    def __getitem__(self, index: int | slice) -> Design | Designs:
        if isinstance(index, slice):
            return Designs(self._designs[index], self.request, self.notes, self._trained)
        return self._designs[index]

    @property
    def structures(self) -> list[Structure]:
        """All as pymatgen structures."""
        return [design.structure for design in self]

    @property
    def table(self) -> pd.DataFrame:
        """The records, a row each."""
        return pd.DataFrame([design.record for design in self])

    @property
    def front(self) -> list[Design]:
        """Those on the Pareto front, where several targets were asked."""
        return [design for design in self if design.record.get("on_front")]

    def relax(self, potential: str, *, quiet: bool = True) -> Designs:
        """Relaxed copies in the same order, each with what it took in its record (`relaxing.relax_crystal`).

        Ranks are those of the relaxed. Ctrl-C keeps what is finished; the others then have `relaxed_problem`.

        Args:
          potential: "sevennet" (with D3), "chgnet", "mace", or "package.module:function" that makes an ASE calculator;
            "+d3" behind it adds dispersion.
          quiet: shows no progress line.

        Raises:
          DataError: no such potential, or it is not installed.
        """
        calculator = create_calculator(potential)
        crystals, rows = relax_crystals(
            [design.crystal for design in self],
            [design.record for design in self],
            calculator,
            potential=potential,
            spreads={scalar.name: scalar.std for scalar in self._trained.model.config.scalars},
            layer_ranges=self._trained.coverage.layers or None,
            quiet=quiet,
        )
        reason = "; ".join(untrained_reasons(rows))
        rows = mark_untrained(crystals, rows, reason, self._trained.elements)
        request = {**self.request, "relaxed": potential}
        return Designs(list(map(Design, crystals, rows)), request, self.notes, self._trained)

    def save(self, directory: str | Path, *, overwrite: bool = False) -> None:
        """Writes report.html, CIF, extended XYZ, the table and request.json, in the order of their ids.

        Raises:
          FileExistsError: the directory has content, and `overwrite` is off or it is no earlier output.
        """
        ordered = sorted(self, key=lambda design: design.id)
        crystals, rows = [design.crystal for design in ordered], [design.record for design in ordered]
        save_samples(directory, crystals, rows, self.request, self._trained, overwrite=overwrite)


class Designer:
    """A trained model, ready to be asked."""

    def __init__(self, trained: Trained) -> None:
        self.trained = trained

    @classmethod
    def from_pretrained(cls, directory: str | Path = PRETRAINED) -> Designer:
        """The model that ships, or what `train.py` left in a directory.

        Raises:
          CheckpointError: nothing there that can be used.
        """
        return cls(load_trained(directory))

    @property
    def conditions(self) -> dict[str, tuple[float, float]]:
        """Properties that may be asked for, in the model's order, with their range in the training data."""
        ranges = self.trained.coverage.scalar_range
        return {scalar.name: ranges[scalar.name] for scalar in self.trained.model.config.scalars}

    @property
    def coverage(self) -> Coverage:
        """Elements, cells, compositions and ranges that the model was trained for."""
        return self.trained.coverage

    def covers(
        self,
        formula: str | None = None,
        *,
        chemical_system: str | None = None,
        targets: Mapping[str, Target] | None = None,
    ) -> Answer:
        """Whether the model was trained for a request: true or false, with `reason` and `nearest`.

        Args: as for `plan`.
        """
        return self.coverage.covers(formula, chemical_system=chemical_system, targets=targets)

    def sample(
        self, num_samples: int = 8, *, on_progress: Callable[[int], None] | None = None, **request: Any
    ) -> Designs:
        """Candidates for a request, best first.

        Args:
          num_samples: how many.
          on_progress: called with the number of finished candidates.
          request: as for `plan`.

        Raises: as `plan`.
        """
        return self.plan(num_samples, **request).run(on_progress)

    def plan(
        self,
        num_samples: int = 8,
        *,
        formula: str | None = None,
        chemical_system: str | None = None,
        targets: Mapping[str, Target] | None = None,
        hold_counts: bool = True,
        allow_untrained: bool = False,
        strict: bool = False,
        seed: int = 0,
        steps: int | None = None,
        sampler: str | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Plan:
        """A request, checked before any work is done.

        Args:
          num_samples: how many candidates.
          formula: such as "GaInSSe2".
          chemical_system: such as "Ga-In-S-Se": these elements and no others.
          targets: a value, or a range (low, high), for any of `conditions`; an infinite end is that of the training
            data.
          hold_counts: whether the atoms of the formula are placed exactly; otherwise it is a condition like the others.
          allow_untrained: go on with what the model was not trained for, and mark every candidate with the reason.
          strict: of former versions, without effect: what the model was not trained for is refused by default.
          seed: from 0 to 2^32 - 1; the same one gives the same candidates.
          steps: network calls a candidate; the checkpoint's by default.
          sampler: a name of `samplers.SAMPLERS`; the checkpoint's by default.
          settings: the command line to put on record, by name; made from the request by default.

        Raises:
          NotCoveredError: the model was not trained for this; a RequestError.
          RequestError: something that cannot be given; one line.
          ValueError: an unknown sampler, too few steps for it, or a seed that cannot be.
        """
        del strict
        num_samples = checked_count(num_samples, "the number of samples", MOST_SAMPLES, _WHY_FEW_SAMPLES)
        if steps is not None:
            steps = checked_count(steps, "the number of steps", MOST_STEPS, _WHY_FEW_STEPS)
        seed = checked_seed(seed)
        request = make_request(
            self.trained,
            formula,
            targets,
            system=chemical_system,
            hold_counts=hold_counts,
            allow_untrained=allow_untrained,
        )
        schedule = self.trained.schedule(steps, sampler)
        if settings is None:
            settings = {
                "target_formula": formula,
                "chemical_system": chemical_system,
                "target": [f"{name}{as_text(target)}" for name, target in (targets or {}).items()],
                "free_counts": not hold_counts,
                "allow_untrained": allow_untrained,
                "num_samples": num_samples,
                "seed": seed,
                "steps": steps,
                "sampler": sampler,
            }
        record = describe_run(settings, self.trained, schedule.num_calls)
        return Plan(self.trained, request, num_samples, seed, schedule, record)


@dataclass(frozen=True, eq=False)
class Plan:
    """A request that can be run."""

    trained: Trained
    request: Request
    num_samples: int
    seed: int
    schedule: Schedule
    record: dict[str, Any]

    @property
    def notes(self) -> tuple[str, ...]:
        """What of it lies outside the training data, and how far."""
        return self.request.notes

    def run(
        self, on_progress: Callable[[int], None] | None = None, should_stop: Callable[[], bool] = lambda: False
    ) -> Designs:
        """The candidates, best first; those that are not finite are left out and counted in `Designs.request`.

        Args:
          on_progress: called with the number of finished candidates.
          should_stop: asked between chunks; once it says yes, those that are finished are returned, and their number
            stands in `Designs.request` as `finished`.

        Raises:
          SamplingError: none is finite.
          KeyboardInterrupt: stopped before any was finished.
        """
        trained = self.trained
        found = generate(
            trained,
            self.request,
            self.num_samples,
            self.seed,
            self.schedule,
            on_progress=on_progress,
            should_stop=should_stop,
        )
        spreads = {scalar.name: scalar.std for scalar in trained.model.config.scalars}
        crystals = to_crystals(found.crystals, trained.model.config.periodicity)
        kept = [place for place, crystal in enumerate(crystals) if crystal.is_finite]
        if not kept:
            raise SamplingError(
                f"none of {len(crystals)} candidates is finite; more steps or another sampler may give some"
            )
        chosen = [crystals[place] for place in kept]
        predicted = [dict(zip(spreads, map(float, found.predicted[place]), strict=True)) for place in kept]
        layer_ranges = trained.coverage.layers
        rows = sample_rows(chosen, [self.request.asked] * len(kept), predicted, layer_ranges=layer_ranges)
        rows = mark_untrained(chosen, rows, self.request.untrained, trained.elements)
        compared = compare(chosen, training_part(trained))
        rows = [row | found for row, found in zip(rows, compared, strict=True)]
        rows = rank(chosen, rows, spreads, reference_for(trained))
        designs = sorted(map(Design, chosen, rows), key=lambda design: design.record["rank"])
        # What ranking again needs, where the model is not at hand: after a relaxation of the written files.
        ranking = {"spreads": spreads, "layer_ranges": dict(layer_ranges)}
        record = self.record | {"not_finite": len(crystals) - len(kept), "ranking": ranking}
        if len(crystals) < self.num_samples:
            record["finished"] = len(crystals)
        return Designs(designs, record, self.notes, trained)


def as_text(target: Target) -> str:
    """A target as the command line has it behind its name: `=1.5`, `=1.0..2.0`, `>=1.0` or `<=2.0`."""
    if not isinstance(target, tuple | list):
        return f"={target}"
    low, high = target
    if math.isinf(high):
        return f">={low}"
    return f"<={high}" if math.isinf(low) else f"={low}..{high}"
