"""What the figures of the paper are to show, counted from the arrays of `figure_arrays`; `figure_drawing` draws it.

The maps need scikit-learn: `pip install 'vdw_jax[figures]'`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from vdw_jax.evaluate.figure_arrays import NOTHING, FigureArrays, FigureError
from vdw_jax.report.crystal import Crystal
from vdw_jax.report.describe import describe
from vdw_jax.report.samples import to_crystals

NEIGHBOURS = 10
"""Nearest others, in the latent itself and not on the map, that `neighbourhood` looks at."""

MOST_FORMULAS = 8
"""Of those that `frequent_formulas` names: as many as there are colours to tell apart."""


@dataclass(frozen=True, eq=False)
class Energies:
    """The energies that the figures show, and who says so."""

    source: str
    candidates: NDArray  # [n] eV a cell
    data: NDArray  # [m] eV a cell


@dataclass(frozen=True)
class FormulaCount:
    """How often a formula came among candidates of one kind."""

    formula: str
    kind: str  # as `FigureArrays.asked_kind`; `NOTHING` for those of which nothing was asked
    met: int
    total: int
    others: tuple[tuple[str, int], ...] = ()  # what came instead, most frequent first


def energies_of(arrays: FigureArrays) -> Energies:
    """Those of the independent property model or, where there is none, of the model's own property head."""
    if arrays.independent_ev is not None and arrays.data_independent_ev is not None:
        name = arrays.record.get("energy_model", "")
        return Energies(f"independent {name}".strip(), arrays.independent_ev, arrays.data_independent_ev)
    return Energies("the model's own property head", arrays.head_ev, arrays.data_head_ev)


def count_formulas(arrays: FigureArrays) -> list[FormulaCount]:
    """How often every formula asked for came: with nothing asked, asked with counts free, and with counts held."""
    found = []
    for formula in arrays.formulas_asked:
        for kind in (NOTHING, "formula free", "formula held"):
            chosen = arrays.asked_kind == kind
            if kind != NOTHING:
                chosen &= arrays.asked_formula == formula
            came = Counter(arrays.formula[chosen].tolist())
            met = came.pop(formula, 0)
            others = () if kind == NOTHING else tuple(came.most_common())
            found.append(FormulaCount(formula, kind, met, int(chosen.sum()), others))
    return found


def tsne_map(vectors: NDArray, seed: int) -> NDArray:
    """t-SNE (van der Maaten and Hinton 2008) of [m, d] vectors, started from their first principal components; [m, 2].

    Raises:
        FigureError: scikit-learn is not there, there are fewer than 5 vectors, or one is not finite.
    """
    try:
        from sklearn.manifold import TSNE
        from threadpoolctl import threadpool_limits
    except ImportError:
        raise FigureError("the maps of the latent need scikit-learn: pip install 'vdw_jax[figures]'") from None
    if len(vectors) < 5:
        raise FigureError(f"a map of {len(vectors)} latents shows nothing: generate with --latents of 5 or more")
    if not np.isfinite(vectors).all():
        wrong = (~np.isfinite(vectors)).any(1).sum()
        raise FigureError(f"{wrong} of {len(vectors)} latents are not finite: there is no map of them")
    perplexity = min(30.0, (len(vectors) - 1) / 3)
    with threadpool_limits(1):  # threads that wait for each other take minutes on a busy machine
        method = TSNE(2, perplexity=perplexity, init="pca", random_state=seed)
        return method.fit_transform(np.asarray(vectors, np.float64))


def neighbourhood(vectors: NDArray, energy: NDArray, formula: NDArray) -> tuple[float, float]:
    """What the nearest `NEIGHBOURS` others of each vector have in common with it.

    Args:
        vectors: [m, d].
        energy: [m] eV, NaN where unknown.
        formula: [m].

    Returns:
        The mean absolute difference of energy to them, eV, and the share of them with the same formula.
    """
    count = min(NEIGHBOURS, len(vectors) - 1)
    square = (vectors.astype(np.float64) ** 2).sum(1)
    gaps, same = [], []
    for row, vector in enumerate(vectors.astype(np.float64)):
        distance = square - 2 * vectors @ vector
        distance[row] = np.inf
        near = np.argpartition(distance, count - 1)[:count]
        gaps.append(np.abs(energy[near] - energy[row]))
        same.append(formula[near] == formula[row])
    known = np.concatenate(gaps)
    known = known[np.isfinite(known)]
    return float(known.mean()) if len(known) else float("nan"), float(np.mean(same))


def energy_label(arrays: FigureArrays) -> str:
    """The energy and its unit, as an axis has it."""
    name = arrays.record["energy"]
    return "formation energy (eV a cell)" if name == "formation_energy_ev" else name.replace("_ev", " (eV)")


def frequent_formulas(formulas: NDArray) -> list[str]:
    """The `MOST_FORMULAS` most frequent of [m]; among equals the first in the alphabet."""
    names, counts = np.unique(formulas, return_counts=True)
    return names[np.argsort(-counts, kind="stable")][:MOST_FORMULAS].tolist()


@dataclass(frozen=True, eq=False)
class Shown:
    """One candidate to be drawn."""

    crystal: Crystal
    formula: str
    row: dict[str, Any]  # of `describe`
    asked: str
    energy_ev: float


def choose_structures(arrays: FigureArrays) -> list[Shown]:
    """Of every wish one: valid and two layers if any is, and of those the first, or the nearest to the energy asked."""
    energies = energies_of(arrays)
    periodicity = tuple(arrays.record["periodicity"])
    chosen = []
    groups: list[tuple[str, NDArray]] = [("nothing", arrays.asked_kind == NOTHING)]
    for energy in arrays.energies_asked:
        groups.append((f"{signed(energy)} eV", arrays.asked_energy_ev == energy))
    for formula in arrays.formulas_asked:
        held = (arrays.asked_formula == formula) & (arrays.asked_kind == "formula held")
        groups.append((subscripts(formula), held))
    for asked, members in groups[:6]:
        rows = np.flatnonzero(members)
        wanted = arrays.asked_energy_ev[rows]
        off = np.nan_to_num(np.abs(energies.candidates[rows] - wanted), nan=0.0)
        found: Shown | None = None
        for row in rows[np.argsort(off, kind="stable")]:
            alone = jax.tree.map(lambda x, row=row: x[row][None], arrays.crystals)
            crystal = to_crystals(alone, periodicity)[0]  # type: ignore[arg-type]
            seen = Shown(crystal, str(arrays.formula[row]), describe(crystal), asked, float(energies.candidates[row]))
            is_good = bool(seen.row["valid"]) and (not crystal.is_slab or bool(seen.row["bilayer"]))
            if found is None or is_good:
                found = seen
            if is_good:
                break
        if found is not None and found.crystal.is_finite:
            chosen.append(found)
    if not chosen:
        raise FigureError("no candidate has finite positions: there is no structure to draw")
    return chosen


def subscripts(formula: str) -> str:
    """`Ga2S3` as matplotlib sets it, with its numbers low."""
    text = "".join(f"$_{{{c}}}$" if c.isdigit() else c for c in formula)
    return text.replace("}$$_{", "")


def signed(value: float) -> str:
    """A number as it is printed: with a minus, not a hyphen, and no zero below 0."""
    text = f"{value:.3f}".rstrip("0").rstrip(".") if abs(value) >= 5e-4 else "0"
    return text.replace("-", "\N{MINUS SIGN}")
