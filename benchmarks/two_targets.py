"""Two targets asked at once: how well both are met, and what is traded for what.

    python -m benchmarks.two_targets generate --checkpoint=runs/j2dh8 --out=runs/two_targets   # on the accelerator
    python -m benchmarks.two_targets score runs/two_targets --out=docs      # on CPU cores: docs/two_targets.md, .png

The first part needs no crystal library; the second needs no accelerator. What is asked comes from the training part by
rule (`choose_pairs`).
"""

from __future__ import annotations

import argparse
import datetime
import shlex
import sys
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.stored import is_there, stored_in
from vdw_jax.design.generate import generate
from vdw_jax.design.request import make_request
from vdw_jax.design.trained import Trained, load_trained
from vdw_jax.diffusion.samplers import SAMPLERS
from vdw_jax.evaluate.reference import load_reference, reference_of
from vdw_jax.structures.arrays import FIELDS, read_arrays, write_arrays
from vdw_jax.structures.dataset import CrystalDataset
from vdw_jax.structures.files import write_whole
from vdw_jax.training.progress import Progress
from vdw_jax.types import SLAB, CrystalBatch

ENERGY, BINDING, LATTICE = "formation_energy_ev", "binding_energy_ev_per_a2", "lattice_constant_angstrom"
TARGETS = {ENERGY: ("formation energy", "eV"), BINDING: ("binding energy", "eV/Å²"), LATTICE: ("lattice constant", "Å")}

ATTAINABLE = (25.0, 75.0)
"""Percentiles of the two targets; what is asked is the training structure nearest to that point."""
CORNERS = (5.0, 95.0)
"""Percentiles of the corners, of which the one furthest from every training structure is the trade-off."""
TOLERANCE = 0.25
"""Of a target, in standard deviations of the training part."""
SHOWN_TRAINING = 1000


@dataclass(frozen=True)
class Pair:
    """One request for two targets."""

    name: str
    kind: str  # "attainable" or "trade-off"
    targets: dict[str, float]
    spreads: dict[str, float]  # standard deviations over the training part
    nearest: float  # from the nearest training structure, in standard deviations
    formula: str | None = None


def choose_pairs(training: CrystalDataset) -> list[Pair]:
    """What is asked: an attainable pair and a trade-off of energy with each other target, and one with a formula.

    The formula is the most frequent one of the training part, the first of the alphabet where several are.
    """
    counts = Counter(training.formula(row) for row in range(len(training)))
    formula = min(counts, key=lambda name: (-counts[name], name))
    own = np.array([training.formula(row) == formula for row in range(len(training))])
    pairs = []
    for names, short in (((ENERGY, LATTICE), "energy-lattice"), ((ENERGY, BINDING), "energy-binding")):
        pairs.append(_attainable(f"{short}-attainable", training, names))
        pairs.append(_trade_off(f"{short}-trade-off", training, names))
    within = _attainable("energy-lattice-formula", training.select(np.flatnonzero(own)), (ENERGY, LATTICE))
    return [*pairs, replace(within, formula=formula, spreads=pairs[0].spreads)]


def _labels(training: CrystalDataset, names: tuple[str, str]) -> np.ndarray:
    labels = np.stack([np.asarray(training.scalars[name], float) for name in names], 1)
    return labels[np.isfinite(labels).all(1)]


def _attainable(name: str, training: CrystalDataset, names: tuple[str, str]) -> Pair:
    labels = _labels(training, names)
    spread = np.maximum(labels.std(0), 1e-9)
    point = [np.percentile(column, share) for column, share in zip(labels.T, ATTAINABLE, strict=True)]
    chosen = labels[(((labels - point) / spread) ** 2).sum(1).argmin()]
    return _pair(name, "attainable", names, chosen, spread, 0.0)


def _trade_off(name: str, training: CrystalDataset, names: tuple[str, str]) -> Pair:
    labels = _labels(training, names)
    spread = np.maximum(labels.std(0), 1e-9)
    first, second = (np.percentile(column, CORNERS) for column in labels.T)
    corners = np.array([[x, y] for x in first for y in second])
    apart = np.array([np.sqrt((((labels - corner) / spread) ** 2).sum(1)).min() for corner in corners])
    return _pair(name, "trade-off", names, corners[apart.argmax()], spread, float(apart.max()))


def _pair(name, kind, names, values, spread, nearest) -> Pair:
    targets, spreads = (dict(zip(names, map(float, given), strict=True)) for given in (values, spread))
    return Pair(name, kind, targets, spreads, nearest)


def training_of(trained: Trained) -> tuple[CrystalDataset, bool]:
    """The training part with its labels, and whether the model is known to be trained on it.

    Raises:
      SystemExit: the model makes bulk crystals, or was trained without one of the targets.
    """
    known = [scalar.name for scalar in trained.model.config.scalars]
    lacking = [name for name in TARGETS if name not in known]
    if lacking:
        raise SystemExit(
            f"this checkpoint was trained without {', '.join(lacking)}: "
            f"it can be asked for {', '.join(known) or 'nothing'}; "
            "train one whose config.data.scalars has all three"
        )
    if trained.model.config.periodicity != SLAB:
        raise SystemExit("this checkpoint makes bulk crystals; the targets are those of slabs")
    reference = reference_of(trained.facts, allow_other=True)
    labelled = load_reference({**reference.settings, "properties": list(TARGETS)})
    return labelled.data.select(labelled.rows("train")), not reference.problem


def run_generate(given: argparse.Namespace) -> None:
    """The part for the accelerator: one file of arrays for each pair; those that are there are kept."""
    trained, folder = load_trained(given.checkpoint), Path(given.out)
    training, is_known = training_of(trained)
    if not is_known:
        print("note: the model was trained on other data than those the targets are chosen from", file=sys.stderr)
    schedule = trained.schedule(given.steps, given.sampler)
    names = [scalar.name for scalar in trained.model.config.scalars]
    pairs = choose_pairs(training)
    for number, pair in enumerate(pairs, 1):
        path, title = folder / f"{number}-{pair.name}.npz", f"{pair.name} ({number} of {len(pairs)})"
        setting = asdict(pair) | {
            "weights_sha256": trained.weights_sha256, "seed": given.seed + number, "samples": given.samples,
            "sampler": given.sampler or trained.sampler, "network_calls": schedule.num_calls, "scalars": names,
        }  # fmt: skip
        if is_there(path, setting, title):
            continue
        request = make_request(trained, pair.formula, pair.targets)
        with Progress(given.samples, title, given.quiet) as progress:
            made = generate(
                trained, request, given.samples, given.seed + number, schedule, on_progress=progress.update
            )
        labels = _labels(training, tuple(pair.targets))  # type: ignore[arg-type]
        shown = np.random.default_rng(0).permutation(len(labels))[:SHOWN_TRAINING]
        arrays = {field: np.asarray(getattr(made.crystals, field)) for field in FIELDS}
        arrays |= {"predicted": np.asarray(made.predicted), "training": labels[shown]}
        record = setting | {
            "checkpoint": str(given.checkpoint),
            "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
            "jax": jax.__version__,
            "date": datetime.date.today().isoformat(),
            "command": shlex.join(["python", "-m", "benchmarks.two_targets", *sys.argv[1:]]),
        }
        write_arrays(path, record, arrays)


def judge(record: dict[str, Any], arrays: dict[str, np.ndarray], models: dict[str, Any]) -> dict[str, Any]:
    """What was got of one pair.

    Args:
      record, arrays: of one file.
      models: independent property models by target.

    Returns:
      `got`: {target: {"head", "cell" for the lattice constant, "independent" where a model is given: [K]}} of the K
      finite candidates; `misses` [K, 2], `on_front` [K] and `valid` [K] as `ranking.add_ranks` says.
    """
    from vdw_jax.report.describe import sample_rows
    from vdw_jax.report.ranking import add_ranks
    from vdw_jax.report.samples import to_crystals

    batch = CrystalBatch(*(arrays[field] for field in FIELDS))
    crystals = to_crystals(batch, SLAB)
    kept = [place for place, crystal in enumerate(crystals) if crystal.is_finite]
    predicted = [dict(zip(record["scalars"], map(float, arrays["predicted"][place]), strict=True)) for place in kept]
    asked = [dict(record["targets"])] * len(kept)
    rows = add_ranks(sample_rows([crystals[place] for place in kept], asked, predicted), record["spreads"])
    got: dict[str, dict[str, np.ndarray]] = {}
    for name in record["targets"]:
        got[name] = {"head": np.array([row[f"predicted_{name}"] for row in rows], float)}
        if name == LATTICE:
            got[name]["cell"] = np.array([row[name] for row in rows], float)
        if name in models:
            got[name]["independent"] = models[name].predict(batch)[kept].astype(float)
    return {
        "got": got,
        "misses": np.array([[row[f"miss_{name}"] for name in record["targets"]] for row in rows], float),
        "on_front": np.array([row["on_front"] for row in rows], bool),
        "valid": np.array([row["valid"] for row in rows], bool),
    }


READ_BY = {"head": "the model's own head", "cell": "the cell", "independent": "independent model"}


def page(records: list[dict[str, Any]], judged: list[dict[str, Any]]) -> str:
    """Markdown: table, figures, and how they came about."""
    lines = ["# Two targets at once", "", "![asked and got](two_targets.png)", ""]
    lines += [
        "| pair | target | asked | read by | median error | mean error | within tolerance |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for record, found in zip(records, judged, strict=True):
        for name, readings in found["got"].items():
            shown, unit = TARGETS[name]
            asked, tolerance = record["targets"][name], TOLERANCE * record["spreads"][name]
            for by, values in readings.items():
                errors = np.abs(values - asked)
                errors = errors[np.isfinite(errors)]
                told = [f"{stat(errors):.4f} {unit}" if len(errors) else "-" for stat in (np.median, np.mean)]
                share = f"{100 * np.sum(errors <= tolerance) / max(len(values), 1):.0f} %"
                share += f" (±{tolerance:.4f})"
                cells = [_title(record), shown, f"{asked:.4f} {unit}", READ_BY[by], *told, share]
                lines.append("| " + " | ".join(cells) + " |")
    independent = {
        TARGETS[name][0] for each in judged for name, readings in each["got"].items() if "independent" in readings
    }
    lines += [
        "",
        f"Errors are absolute, over all finite candidates; the tolerance is {TOLERANCE:g} standard deviations "
        "of the training part. The own head reads the finished structure, and is what candidates are chosen by. "
        f"Independent models judge: {', '.join(sorted(independent)) or 'nothing'}.",
        "",
        f"Attainable: the labels of the training structure nearest to percentile {ATTAINABLE[0]:g} of the first target "
        f"and {ATTAINABLE[1]:g} of the second. Trade-off: of the four corners at percentiles {CORNERS[0]:g} and "
        f"{CORNERS[1]:g}, the one furthest from every training structure. The formula is the most frequent of the "
        "training part.",
        "",
        "![misses in both targets](two_targets_front.png)",
        "",
        "| pair | from nearest training structure | finite | valid | on the front |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for record, found in zip(records, judged, strict=True):
        finite = f"{len(found['valid'])} of {record['samples']}"
        cells = [_title(record), f"{record['nearest']:.2f} standard deviations", finite]
        cells += [str(int(found[key].sum())) for key in ("valid", "on_front")]
        lines.append("| " + " | ".join(cells) + " |")

    def every(key: str) -> str:
        return ", ".join(sorted({str(record[key]) for record in records}))

    lines += [
        "",
        f"Device: {every('device')}; jax {every('jax')}; date {every('date')}; seeds {every('seed')}; sampler "
        f"{every('sampler')}, {every('network_calls')} network calls; weights "
        + ", ".join(sorted({record["weights_sha256"][:12] for record in records})) + ".",
        "", "```", *sorted({record["command"] for record in records}), "```", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _title(record: dict[str, Any]) -> str:
    first, second = (TARGETS[name][0] for name in record["targets"])
    return f"{first} and {second}, " + (record["formula"] or record["kind"])


def draw(records: list[dict[str, Any]], files: list[dict], judged: list[dict[str, Any]], folder: Path) -> None:
    """`two_targets.png`, what was got beside what was asked, and `two_targets_front.png`, the misses in both."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    def panels():
        figure, axes = plt.subplots(2, 3, figsize=(11.5, 7), layout="constrained")
        for axis in axes.flat[len(records) :]:
            axis.axis("off")
        return figure, axes.flat

    def finish(figure, axes, name: str) -> None:
        handles, labels = axes[0].get_legend_handles_labels()
        axes[len(axes) - 1].legend(handles, labels, loc="center left", frameon=False, fontsize=10)
        write_whole(folder / name, lambda file: figure.savefig(file, format="png", dpi=110))
        plt.close(figure)

    figure, axes = panels()
    for axis, record, arrays, found in zip(axes, records, files, judged, strict=False):
        (first, x), (second, y) = found["got"].items()
        axis.plot(*arrays["training"].T, ".", color="0.8", markersize=3, label="training part")
        front = found["on_front"]
        if "cell" in y:
            label = "got, lattice constant of the cell"
            axis.plot(x["head"], y["cell"], "x", color="C1", markersize=4, alpha=0.7, label=label)
        axis.plot(x["head"], y["head"], "o", color="C0", markersize=4, alpha=0.6, label="got, by the model's own head")
        axis.plot(x["head"][front], y["head"][front], "o", color="C3", markersize=5, label="of these, on the front")
        if "independent" in x:
            others = y.get("independent", y.get("cell", y["head"]))
            axis.plot(x["independent"], others, "+", color="C2", markersize=5, label="got, by the independent model")
        axis.plot(*record["targets"].values(), "*", color="black", markersize=14, label="asked", zorder=5)
        axis.set(xlabel=_axis(first), ylabel=_axis(second))
        axis.set_title(_title(record), fontsize=8.5)
    finish(figure, axes, "two_targets.png")

    figure, axes = panels()
    for axis, record, found in zip(axes, records, judged, strict=False):
        misses, front = found["misses"], found["on_front"]
        axis.plot(*misses[~front].T, "o", color="C0", markersize=4, alpha=0.5, label="candidates")
        corner = misses[front][np.lexsort(misses[front].T[::-1])]
        axis.plot(*corner.T, "o-", color="C3", markersize=5, drawstyle="steps-post", label="Pareto front of the valid")
        spread = TOLERANCE * np.array(list(record["spreads"].values()))
        corners = np.array([[0, 1], [1, 1], [1, 0]]) * spread
        axis.plot(*corners.T, "--", color="0.4", linewidth=1, label=f"tolerance, {TOLERANCE:g} standard deviations")
        names = [f"miss in {_axis(name)}" for name in record["targets"]]
        axis.set(xlabel=names[0], ylabel=names[1], xlim=(0, None), ylim=(0, None))
        axis.set_title(_title(record), fontsize=8.5)
    finish(figure, axes, "two_targets_front.png")


def _axis(name: str) -> str:
    return "{} ({})".format(*TARGETS[name])


def run_score(given: argparse.Namespace) -> None:
    """The part for CPU cores: table and figures."""
    from vdw_jax.property_model.trained import load_property_model

    paths = stored_in(given.arrays)
    models = {}
    for directory in given.property_model:
        model = load_property_model(directory)
        if model.facts["label"] not in TARGETS:
            raise SystemExit(f"{directory} is of {model.facts['label']}; the targets are {', '.join(TARGETS)}")
        models[model.facts["label"]] = model
    records, files = zip(*map(read_arrays, paths), strict=True)
    judged = [judge(record, arrays, models) for record, arrays in zip(records, files, strict=True)]
    folder = Path(given.out)
    draw(list(records), list(files), judged, folder)
    text = page(list(records), judged)
    write_whole(folder / "two_targets.md", lambda file: file.write(text.encode()))
    print(text)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = parser.add_subparsers(required=True)
    first = parts.add_parser("generate", help="on the accelerator: arrays")
    first.add_argument("--checkpoint", required=True, help="workdir or export, with all three targets")
    first.add_argument("--out", default="runs/two_targets", help="folder of the arrays")
    first.add_argument("--samples", type=int, default=100, metavar="N", help="of each pair")
    first.add_argument("--seed", type=int, default=0, help="of the first pair less one; each has its own")
    first.add_argument("--sampler", choices=SAMPLERS, help="the checkpoint's by default")
    first.add_argument("--steps", type=int, metavar="N", help="network calls; the checkpoint's by default")
    first.add_argument("--quiet", action="store_true", help="no progress line")
    first.set_defaults(run=run_generate)
    second = parts.add_parser("score", help="on CPU cores: table and figures")
    second.add_argument("arrays", help="folder that `generate` wrote")
    second.add_argument("--out", default="docs", help="folder of two_targets.md and the pictures")
    judges = "an independent property model, as vdw_jax.property_model.train writes it; may be repeated"
    second.add_argument("--property_model", metavar="DIR", action="append", default=[], help=judges)
    second.set_defaults(run=run_score)
    given = parser.parse_args()
    given.run(given)


if __name__ == "__main__":
    main()
