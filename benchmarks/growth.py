"""How the sampler's cost grows with batch, atoms and neighbours: the paper's network, one axis at a time.

    python -m benchmarks.growth run    # every size of `SIZES`, one after the other
    python -m benchmarks.growth draw   # benchmarks/growth.png from the records of one device

Each size is a record of `benchmarks.sampler`, labelled `growth`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from benchmarks import measure
from benchmarks.table import GROWTH, read_records
from vdw_jax.structures.files import write_whole

NEIGHBOURS = "model.cdvae.max_neighbours"
BATCHES = (1, 8, 32, 128, 512, 2048, 8192)
ATOMS = (4, 8, 16, 32, 64)
SLOTS = (8, 12, 20, 30, 40)
BATCH, NUM_ATOMS, NUM_NEIGHBOURS = 512, 8, 20

SIZES = list(
    dict.fromkeys(
        [(batch, NUM_ATOMS, NUM_NEIGHBOURS) for batch in BATCHES]
        + [(BATCH, atoms, NUM_NEIGHBOURS) for atoms in ATOMS]
        + [(BATCH, NUM_ATOMS, neighbours) for neighbours in SLOTS]
    )
)
"""(structures, atoms of each, neighbours of each atom)."""


def arguments_of(batch: int, atoms: int, neighbours: int) -> list[str]:
    """Of `benchmarks.sampler`, for one size."""
    return [
        "--config=configs/paper.py", "--dtype=bfloat16", f"--batch={batch}", f"--atoms={atoms}", "--calls=20",
        "--repeats=2", "--checked=0", f"--label={GROWTH[1:-1]}", f"--config.{NEIGHBOURS}={neighbours}",
        "--config.model.denoiser.kernels=True", "--config.model.encoder.kernels=True",
    ]  # fmt: skip


def chosen(records: list[dict], device: str) -> dict[tuple[int, int, int], dict]:
    """The records of this benchmark, by size."""
    mine = [r for r in records if r["what"] == "sampler" and r["settings"].endswith(GROWTH) and r["device"] == device]
    return {(record["batch"], record["atoms"], record["neighbours"]): record for record in mine}


def draw(found: dict[tuple[int, int, int], dict], path: Path) -> None:
    """Time of a network call against each size, with what it would be at the largest rate measured."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained", sharey=True)
    best = max(record["tflop_per_s"] for record in found.values())
    axes = (("structures in a batch", 0), ("atoms in a cell", 1), ("neighbours of an atom", 2))
    start = (BATCH, NUM_ATOMS, NUM_NEIGHBOURS)
    for panel, (title, axis) in zip(panels, axes, strict=True):
        sizes = sorted(size for size in found if all(size[i] == start[i] for i in range(3) if i != axis))
        ms = [1e3 * size[0] / found[size]["structure_calls_per_s"] for size in sizes]
        work = [size[0] * found[size]["gflop_per_structure_call"] / best for size in sizes]
        values = [size[axis] for size in sizes]
        panel.plot(values, ms, "o-", label="measured")
        panel.plot(values, work, "--", color="0.5", label=f"its operations at {best:.0f} TFLOP/s")
        panel.set(xscale="log", yscale="log", xlabel=title)
        panel.set_xticks(values, [f"{value:,}" for value in values], minor=False)
        panel.set_xticks([], minor=True)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("time of a network call (ms)")
    panels[0].legend(frameon=False)
    write_whole(path, lambda file: figure.savefig(file, format="png", dpi=110))
    plt.close(figure)


def main(argv: list[str] | None = None) -> None:
    """Entry point."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("part", choices=("run", "draw"))
    options.add_argument("--device", default="NVIDIA H200", help="of the figure")
    options.add_argument("--out", type=Path, default=Path(__file__).parent / "growth.png", help="the figure")
    given = options.parse_args(argv)
    if given.part == "run":
        for size in SIZES:  # each in a process of its own, whose peak of memory is its own
            subprocess.run([sys.executable, "-m", "benchmarks.sampler", *arguments_of(*size)], check=True)
        return
    found = chosen(read_records(measure.RESULTS), given.device)
    if not found:
        raise SystemExit(f"no records {GROWTH} of {given.device}; `python -m benchmarks.growth run` makes them")
    draw(found, given.out)
    print(f"{given.out}: {len(found)} sizes on {given.device}")


if __name__ == "__main__":
    main()
