"""The figures of the paper, drawn from the arrays of `figure_arrays`: Fig. 3, Fig. 4 and generated structures.

Needs no accelerator. The maps need scikit-learn: `pip install 'vdw_jax[figures]'`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import colors, patches
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from vdw_jax.evaluate.figure_arrays import NOTHING, FigureArrays, FigureError
from vdw_jax.report.balls import draw_balls, element_styles
from vdw_jax.report.crystal import Crystal
from vdw_jax.report.describe import describe
from vdw_jax.report.samples import to_crystals
from vdw_jax.structures.files import write_whole
from vdw_jax.training.progress import Progress

matplotlib.use("Agg")

SAFE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#332288", "#882255")
"""Told apart by the colour-blind: of Okabe and Ito (jfly.uni-koeln.de/color), two of Tol's for yellow and black."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
GREY = "#8c8c8c"
STYLE: Any = {"font.size": 9, "axes.titlesize": 9.5, "axes.spines.top": False, "axes.spines.right": False}
DPI = 200

NEIGHBOURS = 10
"""Nearest others, in the latent itself and not on the map, that `neighbourhood` looks at."""

MOST_FORMULAS = len(SAFE)
LISTED_FORMULAS = 10


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
    for formula in dict.fromkeys(arrays.asked_formula[arrays.asked_formula != ""].tolist()):
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


def draw_all(arrays: FigureArrays, directory: Path, command: str, *, quiet: bool = False) -> list[Path]:
    """Writes `fig3.png`, `fig4.png`, `structures.png` and, with the captions and counts, `figures.md`."""
    seed = int(arrays.record["seed"])
    with Progress(6, "drawing", quiet) as progress:
        maps = {}
        for place, name in enumerate(("latent", "fused_energy", "fused_formula"), 1):
            maps[name] = tsne_map(getattr(arrays, name), seed)
            progress.update(place)
        chosen = choose_structures(arrays)
        drawn = {}
        with matplotlib.rc_context(STYLE):
            figures = {
                "fig3.png": lambda: figure_3(arrays), "fig4.png": lambda: figure_4(arrays, maps),
                "structures.png": lambda: figure_structures(arrays, chosen),
            }  # fmt: skip
            for place, (name, make) in enumerate(figures.items(), 4):
                drawn[name] = _save(make(), directory / name)
                progress.update(place)
    text = page(arrays, chosen, command)
    write_whole(directory / "figures.md", lambda file: file.write(text.encode()))
    return [*drawn.values(), directory / "figures.md"]


def _save(figure: Figure, path: Path) -> Path:
    write_whole(path, lambda file: figure.savefig(file, format="png", dpi=DPI))
    return path


def _energy_label(arrays: FigureArrays) -> str:
    name = arrays.record["energy"]
    return "formation energy (eV a cell)" if name == "formation_energy_ev" else name.replace("_ev", " (eV)")


def figure_3(arrays: FigureArrays) -> Figure:
    """Energies and formulas, with nothing asked and as asked (Fig. 3 of the paper)."""
    figure = Figure(figsize=(10, 7.6), layout="constrained")
    axes = figure.subplots(2, 2)
    energies = energies_of(arrays)
    _energies_of_nothing(axes[0, 0], arrays, energies)
    _energies_asked(axes[0, 1], arrays, energies)
    _formulas_of_nothing(axes[1, 0], arrays)
    _formulas_asked(axes[1, 1], arrays)
    figure.suptitle(f"energies of candidates: {energies.source}", fontsize=9, color="#444444", x=0.995, ha="right")
    return figure


def _bins(values: Sequence[NDArray], inside: Sequence[float] = ()) -> NDArray:
    """Edges, eV, of few bins where one of the groups is small; all of `inside` lies between the outer ones."""
    joined = np.concatenate([value[np.isfinite(value)] for value in values])
    if len(joined) == 0:
        raise FigureError("no energy is a finite number: there is nothing to draw")
    low, high = np.percentile(joined, [0.2, 99.8])
    low, high = min(low, *inside, high), max(high, *inside, low)
    margin = 0.05 * max(high - low, 0.1)
    count = 45 if min(len(value) for value in values if len(value)) >= 50 else 15
    return np.linspace(low - margin, high + margin, count + 1)


def _density(values: NDArray, bins: NDArray) -> NDArray:
    """Share of the values a unit of energy; what lies beyond the bins counts in the whole."""
    finite = values[np.isfinite(values)]
    return np.histogram(finite, bins)[0] / (max(len(finite), 1) * np.diff(bins))


def _energies_of_nothing(axis: Axes, arrays: FigureArrays, energies: Energies) -> None:
    samples = energies.candidates[arrays.asked_kind == NOTHING]
    bins = _bins([arrays.train_label_ev, arrays.test_label_ev, energies.data, samples])
    if len(arrays.train_label_ev):
        axis.stairs(_density(arrays.train_label_ev, bins), bins, fill=True, color=GREY, alpha=0.35,
                    label=f"training part, labels ({len(arrays.train_label_ev):,})")  # fmt: skip
    if len(arrays.test_label_ev):
        axis.stairs(_density(arrays.test_label_ev, bins), bins, color="#333333", linewidth=1.0, linestyle=(0, (1, 1)),
                    label=f"test part, labels ({len(arrays.test_label_ev):,})")  # fmt: skip
    axis.stairs(_density(energies.data, bins), bins, color=SAFE[0], linewidth=1.3, linestyle="--",
                label=f"{arrays.record['part']} part, predicted ({len(energies.data):,})")  # fmt: skip
    axis.stairs(_density(samples, bins), bins, color=SAFE[1], linewidth=1.8,
                label=f"samples, nothing asked ({len(samples):,})")  # fmt: skip
    axis.set(xlabel=_energy_label(arrays), ylabel="density (1/eV)", xlim=(bins[0], bins[-1]))
    axis.set_title("(a) samples with nothing asked, and the data", loc="left")
    axis.legend(frameon=False, fontsize=8)


def _energies_asked(axis: Axes, arrays: FigureArrays, energies: Energies) -> None:
    free = energies.candidates[arrays.asked_kind == NOTHING]
    wanted = np.unique(arrays.asked_energy_ev[np.isfinite(arrays.asked_energy_ev)])
    groups = [energies.candidates[arrays.asked_energy_ev == energy] for energy in wanted]
    bins = _bins([free, *groups], wanted.tolist())
    axis.stairs(_density(free, bins), bins, fill=True, color=GREY, alpha=0.35, label=f"nothing asked ({len(free):,})")
    for place, (energy, group) in enumerate(zip(wanted, groups, strict=True)):
        colour = SAFE[place % len(SAFE)]
        axis.stairs(_density(group, bins), bins, color=colour, linewidth=1.6,
                    label=f"asked {_signed(energy)} eV ({len(group):,})")  # fmt: skip
        axis.axvline(energy, color=colour, linewidth=1.0, linestyle="--")
    axis.set(xlabel=_energy_label(arrays), ylabel="density (1/eV)", xlim=(bins[0], bins[-1]))
    axis.set_title("(b) samples asked for an energy (dashed)", loc="left")
    axis.legend(frameon=False, fontsize=8)


def _formulas_of_nothing(axis: Axes, arrays: FigureArrays) -> None:
    came = Counter(arrays.formula[arrays.asked_kind == NOTHING].tolist())
    total = sum(came.values())
    shown = came.most_common(LISTED_FORMULAS)
    asked = [f for f in dict.fromkeys(arrays.asked_formula.tolist()) if f and f not in dict(shown)]
    shown = shown[: max(LISTED_FORMULAS - len(asked), 0)] + [(formula, came[formula]) for formula in asked]
    is_asked = [formula in set(arrays.asked_formula.tolist()) for formula, _ in shown]
    places = np.arange(len(shown))[::-1]
    bars = axis.barh(places, [number for _, number in shown], color=[SAFE[1] if a else GREY for a in is_asked])
    axis.bar_label(bars, [f"{number:,}" for _, number in shown], padding=2, fontsize=8)
    axis.set_yticks(places, [subscripts(formula) for formula, _ in shown])
    axis.set(xlabel=f"candidates of {total:,}", xlim=(0, 1.12 * max(*(number for _, number in shown), 1)))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_title(f"(c) nothing asked: {len(came):,} formulas came", loc="left")
    handles = [patches.Patch(color=GREY, label="most frequent"), patches.Patch(color=SAFE[1], label="asked for in (d)")]
    axis.legend(handles=handles, frameon=True, edgecolor="none", fontsize=8, loc="lower right")


def _formulas_asked(axis: Axes, arrays: FigureArrays) -> None:
    counts = count_formulas(arrays)
    formulas = list(dict.fromkeys(count.formula for count in counts))
    kinds = {NOTHING: (GREY, "nothing asked"), "formula free": (SAFE[0], "asked, counts free"),
             "formula held": (SAFE[1], "asked, counts held")}  # fmt: skip
    for shift, (kind, (colour, label)) in enumerate(kinds.items()):
        own = [count for count in counts if count.kind == kind]
        shares = [100 * count.met / max(count.total, 1) for count in own]
        total = f"{label}\n(of {own[0].total:,})" if own else label
        bars = axis.bar(np.arange(len(own)) + 0.27 * (shift - 1), shares, 0.25, color=colour, label=total)
        axis.bar_label(bars, [f"{count.met:,}" for count in own], padding=2, fontsize=8)
    axis.set_xticks(range(len(formulas)), [subscripts(formula) for formula in formulas])
    axis.set(ylabel="candidates with this formula (%)", ylim=(0, 132), xlim=(-0.6, len(formulas) - 0.4))
    axis.set_yticks(range(0, 101, 20))
    axis.set_title("(d) asked for a formula", loc="left")
    axis.legend(frameon=False, fontsize=8, ncols=3, loc="upper center", columnspacing=1.2, handlelength=1.4)


def figure_4(arrays: FigureArrays, maps: dict[str, NDArray]) -> Figure:
    """Maps of z and z_c, coloured by energy and by formula (Fig. 4 of the paper).

    Args:
        arrays: m structures with their latents.
        maps: [m, 2] of each of `latent`, `fused_energy` and `fused_formula`.
    """
    figure = Figure(figsize=(10, 7.6), layout="constrained")
    axes = figure.subplots(2, 3, width_ratios=(1, 1, 0.36))
    for axis in axes[:, 2]:
        axis.axis("off")
    known = np.isfinite(arrays.label_ev)
    source = "label" if known.any() else energies_of(arrays).source
    energy = arrays.label_ev if known.any() else energies_of(arrays).data
    finite = energy[np.isfinite(energy)]
    low, high = np.percentile(finite, [1, 99]) if len(finite) else (0.0, 1.0)
    norm = colors.Normalize(low, max(high, low + 1e-6))
    size = float(np.clip(6000 / len(energy), 3, 24))
    panels = (("(a) $z$", "latent"), ("(b) $z_c$: $z$ fused with the energy", "fused_energy"))
    for axis, (title, name) in zip(axes[0, :2], panels, strict=True):
        points = axis.scatter(*maps[name].T, c=energy, norm=norm, cmap="viridis", s=size, linewidths=0, rasterized=True)
        axis.set_title(title, loc="left")
    bar = axes[0, 2].inset_axes((0.02, 0.03, 0.12, 0.94))
    figure.colorbar(points, cax=bar, label=f"{_energy_label(arrays)},\n{source}", extend="both")
    top = frequent_formulas(arrays.data_formula)
    panels = (("(c) $z$", "latent"), ("(d) $z_c$: $z$ fused with the formula", "fused_formula"))
    for axis, (title, name) in zip(axes[1, :2], panels, strict=True):
        rest = ~np.isin(arrays.data_formula, top)
        axis.scatter(*maps[name][rest].T, color="#d9d9d9", s=0.6 * size, linewidths=0, rasterized=True, label="others")
        for formula, colour, marker in zip(top, SAFE, MARKERS, strict=False):
            own = arrays.data_formula == formula
            axis.scatter(*maps[name][own].T, color=colour, marker=marker, s=max(3 * size, 22), linewidths=0.4,
                         edgecolors="white", label=f"{subscripts(formula)} ({own.sum():,})")  # fmt: skip
        axis.set_title(title, loc="left")
    handles, labels = axes[1, 1].get_legend_handles_labels()
    axes[1, 2].legend(handles[1:] + handles[:1], labels[1:] + labels[:1], frameon=False, fontsize=8,
                      loc="center left", bbox_to_anchor=(-0.08, 0.5))  # fmt: skip
    for axis in axes[:, :2].flat:
        axis.set(xticks=[], yticks=[], xlabel="t-SNE 1", ylabel="t-SNE 2")
        for spine in axis.spines.values():
            spine.set_visible(True)
            spine.set_color("#bbbbbb")
    return figure


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
    for energy in np.unique(arrays.asked_energy_ev[np.isfinite(arrays.asked_energy_ev)]):
        groups.append((f"{_signed(energy)} eV", arrays.asked_energy_ev == energy))
    for formula in dict.fromkeys(arrays.asked_formula[arrays.asked_formula != ""].tolist()):
        held = (arrays.asked_formula == formula) & (arrays.asked_kind == "formula held")
        groups.append((subscripts(formula), held))
    for asked, members in groups[:6]:
        rows = np.flatnonzero(members)
        wanted = arrays.asked_energy_ev[rows]
        off = np.nan_to_num(np.abs(energies.candidates[rows] - wanted), nan=0.0)
        found: Shown | None = None
        for row in rows[np.argsort(off, kind="stable")]:
            batch = type(arrays.crystals)(
                *(getattr(arrays.crystals, name)[row][None] for name in ("atomic_numbers", "positions", "cell"))
            )
            crystal = to_crystals(batch, periodicity)[0]  # type: ignore[arg-type]
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


def figure_structures(arrays: FigureArrays, chosen: Sequence[Shown]) -> Figure:
    """Side view, along a, above the view from the top; three cells along a and b, one outlined."""
    figure = Figure(figsize=(2.15 * len(chosen) + 0.4, 5.9), layout="constrained")
    axes = figure.subplots(2, len(chosen), squeeze=False, height_ratios=(1.25, 1))
    styles = element_styles([shown.crystal for shown in chosen])
    letters = "abcdefgh"
    for place, shown in enumerate(chosen):
        for axis, view in zip(axes[:, place], ("side", "top"), strict=True):
            draw_balls(axis, shown.crystal, view, styles)
        row = shown.row
        lines = [f"({letters[place]}) asked: {shown.asked}", subscripts(shown.formula)]
        if np.isfinite(shown.energy_ev):
            lines[1] += f", {_signed(shown.energy_ev)} eV"
        if row["lattice_constant_angstrom"] is not None:
            lines.append(f"a = {row['lattice_constant_angstrom']:.2f} Å")
            if row["gap_angstrom"] is not None:
                lines[-1] += f", gap {row['gap_angstrom']:.2f} Å"
        if not row["valid"] or row["bilayer"] is False:
            lines.append("not a valid bilayer")
        axes[0, place].set_title("\n".join(lines), fontsize=8.5, loc="center")
    bottom = min(axis.get_ylim()[0] for axis in axes[0])
    top = max(axis.get_ylim()[1] for axis in axes[0])
    for axis in axes[0]:
        axis.set_ylim(bottom, top)
    for axis, text in zip(axes[:, 0], ("side view, along a", "top view"), strict=True):
        axis.text(-0.04, 0.5, text, rotation=90, transform=axis.transAxes, va="center", ha="right")
    figure.suptitle(f"energies: {energies_of(arrays).source}", fontsize=9, color="#444444", x=0.995, ha="right")
    handles = [
        Line2D([], [], marker="o", linestyle="", markersize=8, markeredgecolor="#333333", markeredgewidth=0.6,
               color=style["colour"], label=style["symbol"])
        for style in styles.values()
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    return figure


def subscripts(formula: str) -> str:
    """`Ga2S3` as matplotlib sets it, with its numbers low."""
    text = "".join(f"$_{{{c}}}$" if c.isdigit() else c for c in formula)
    return text.replace("}$$_{", "")


def _signed(value: float) -> str:
    """A number as it is printed: with a minus, not a hyphen, and no zero below 0."""
    text = f"{value:.3f}".rstrip("0").rstrip(".") if abs(value) >= 5e-4 else "0"
    return text.replace("-", "\N{MINUS SIGN}")


def page(arrays: FigureArrays, chosen: Sequence[Shown], command: str) -> str:
    """Captions, counts, and what made the figures, as Markdown."""
    record, energies = arrays.record, energies_of(arrays)
    name = _energy_label(arrays)
    free = arrays.asked_kind == NOTHING
    lines = [
        "# Figures of the paper, from this model", "",
        f"Energies of candidates are those of **{energies.source}**"
        + (
            ". Nothing that made or chose the candidates has seen that model."
            if arrays.independent_ev is not None
            else ": it also chose the latents of what was asked for, so (b) of Fig. 3 judges itself; an independent "
            "model is named with `--energy_model`."
        ),
        "", "![Energies and formulas](fig3.png)", "",
        f"**Fig. 3.** (a) {name} of {free.sum():,} samples with nothing asked, against the labels of the training "
        f"({len(arrays.train_label_ev):,}) and test part ({len(arrays.test_label_ev):,}) and the prediction for "
        f"{len(arrays.ids):,} structures of the {record['part']} part by what judges the samples. "
        "(b) Samples asked for an energy. (c) Formulas that came with nothing asked. (d) How often a formula came: "
        "with nothing asked, asked for with the model free to choose the counts of atoms, and with the counts held.",
        "", "| asked (eV) | candidates | energy from | mean (eV) | deviation (eV) | mean absolute error (eV) |",
        "|---|---|---|---|---|---|",
        *_energy_rows(arrays), "",
        "| formula | asked | came | of | instead |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for count in count_formulas(arrays):
        instead = ", ".join(f"{formula} {number}" for formula, number in count.others[:3])
        if len(count.others) > 3:
            instead += f" and {len(count.others) - 3} more"
        kind = {NOTHING: "nothing", "formula free": "counts free", "formula held": "counts held"}[count.kind]
        lines.append(f"| {count.formula} | {kind} | {count.met} | {count.total} | {instead} |")
    energy = arrays.label_ev if np.isfinite(arrays.label_ev).any() else energies.data
    lines += [
        "", "![Maps of the latent](fig4.png)", "",
        f"**Fig. 4.** t-SNE maps of {len(arrays.ids):,} structures of the {record['part']} part: z, the mean that the "
        "encoder gives, in (a) and (c), one and the same map; z_c, that is z fused with the structure's own energy in "
        "(b) and with its own composition in (d). Above coloured by energy, below the "
        f"{len(frequent_formulas(arrays.data_formula))} most frequent formulas, others grey. z_c has been told what it "
        "is coloured by; z has not.", "",
        f"Among the nearest {NEIGHBOURS} others in the latent itself, not on the map:", "",
        "| latent | mean difference of energy (eV) | same formula (%) |", "|---|---|---|",
    ]  # fmt: skip
    names = {"latent": "z", "fused_energy": "z_c, energy told", "fused_formula": "z_c, formula told"}
    for key, title in names.items():
        gap, same = neighbourhood(getattr(arrays, key), energy, arrays.data_formula)
        lines.append(f"| {title} | {gap:.4f} | {100 * same:.1f} |")
    lines += [
        "", "![Generated structures](structures.png)", "",
        f"**Generated structures**, as the sampler leaves them, unrelaxed: one of each wish ({len(chosen)}), valid and "
        "a bilayer where one is, the first of them, or the one nearest to the energy asked. Side view along a above, "
        "top view below; three cells along a and b, one outlined (in the side view without its vacuum).", "",
        "## How", "",
        f"Device {record['device']}; JAX {record['jax']}; seed {record['seed']}; {record['network_calls']} network "
        "calls a structure; " + ", ".join(f"{key} {value:g} s" for key, value in record["seconds"].items())
        + f"; date {record['date']}. Model: {record['checkpoint']}, weights {record['weights_sha256'][:12]}. "
        f"Data: {record['data']['source']}, split by {record['data']['split']}, hash {record['data_hash'][:12]}.",
    ]  # fmt: skip
    if record["data_problem"]:
        lines.append(f"\n**Not the data that the model was trained on:** {record['data_problem']}.")
    return "\n".join([*lines, "", "```", *dict.fromkeys((record["command"], command)), "```", ""])


def _energy_rows(arrays: FigureArrays) -> list[str]:
    sources = {"own property head": arrays.head_ev}
    if arrays.independent_ev is not None:
        sources["independent model"] = arrays.independent_ev
    groups = [("nothing", arrays.asked_kind == NOTHING, np.nan)]
    for energy in np.unique(arrays.asked_energy_ev[np.isfinite(arrays.asked_energy_ev)]):
        groups.append((f"{energy:g}", arrays.asked_energy_ev == energy, energy))
    rows = []
    for asked, members, energy in groups:
        for source, values in sources.items():
            got = values[members]
            got = got[np.isfinite(got)]
            if len(got) == 0:
                rows.append(f"| {asked} | 0 | {source} | - | - | - |")
                continue
            off = "" if np.isnan(energy) else f"{np.abs(got - energy).mean():.4f}"
            rows.append(f"| {asked} | {len(got)} | {source} | {got.mean():.4f} | {got.std():.4f} | {off} |")
    return rows
