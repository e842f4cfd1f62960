"""The figures of the paper, drawn from the arrays of `figure_arrays`: Fig. 3, Fig. 4 and generated structures.

Needs no accelerator.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
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
from vdw_jax.evaluate.figure_facts import (
    Energies,
    Shown,
    choose_structures,
    count_formulas,
    energies_of,
    energy_label,
    frequent_formulas,
    signed,
    subscripts,
    tsne_map,
)
from vdw_jax.evaluate.figure_page import page
from vdw_jax.report.balls import draw_balls
from vdw_jax.report.page import element_styles
from vdw_jax.structures.files import write_whole
from vdw_jax.training.progress import Progress

matplotlib.use("Agg")

SAFE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#332288", "#882255")
"""Told apart by the colour-blind: of Okabe and Ito (jfly.uni-koeln.de/color), two of Tol's for yellow and black."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
GREY = "#8c8c8c"
STYLE: Any = {"font.size": 9, "axes.titlesize": 9.5, "axes.spines.top": False, "axes.spines.right": False}
DPI = 200

LISTED_FORMULAS = 10


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
    axis.set(xlabel=energy_label(arrays), ylabel="density (1/eV)", xlim=(bins[0], bins[-1]))
    axis.set_title("(a) samples with nothing asked, and the data", loc="left")
    axis.legend(frameon=False, fontsize=8)


def _energies_asked(axis: Axes, arrays: FigureArrays, energies: Energies) -> None:
    free = energies.candidates[arrays.asked_kind == NOTHING]
    wanted = arrays.energies_asked
    groups = [energies.candidates[arrays.asked_energy_ev == energy] for energy in wanted]
    bins = _bins([free, *groups], wanted)
    axis.stairs(_density(free, bins), bins, fill=True, color=GREY, alpha=0.35, label=f"nothing asked ({len(free):,})")
    for place, (energy, group) in enumerate(zip(wanted, groups, strict=True)):
        colour = SAFE[place % len(SAFE)]
        axis.stairs(_density(group, bins), bins, color=colour, linewidth=1.6,
                    label=f"asked {signed(energy)} eV ({len(group):,})")  # fmt: skip
        axis.axvline(energy, color=colour, linewidth=1.0, linestyle="--")
    axis.set(xlabel=energy_label(arrays), ylabel="density (1/eV)", xlim=(bins[0], bins[-1]))
    axis.set_title("(b) samples asked for an energy (dashed)", loc="left")
    axis.legend(frameon=False, fontsize=8)


def _formulas_of_nothing(axis: Axes, arrays: FigureArrays) -> None:
    came = Counter(arrays.formula[arrays.asked_kind == NOTHING].tolist())
    total = sum(came.values())
    shown = came.most_common(LISTED_FORMULAS)
    asked = [formula for formula in arrays.formulas_asked if formula not in dict(shown)]
    shown = shown[: max(LISTED_FORMULAS - len(asked), 0)] + [(formula, came[formula]) for formula in asked]
    is_asked = [formula in arrays.formulas_asked for formula, _ in shown]
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
    figure.colorbar(points, cax=bar, label=f"{energy_label(arrays)},\n{source}", extend="both")
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
            lines[1] += f", {signed(shown.energy_ev)} eV"
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
