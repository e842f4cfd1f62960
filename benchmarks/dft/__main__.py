"""Spot check of the relaxed data set by density functional theory: GPAW, PBE, single points, with the same D3.

    python -m benchmarks.dft choose --data=vdw_jax/structures/data/j2dh8.npz   # packages of the extra `relax`
    python -m benchmarks.dft run                                               # GPAW, gpaw-data, dftd3; goes on
    python -m benchmarks.dft report --data=vdw_jax/structures/data/j2dh8.npz   # docs/dft/report.md and report.png

What is asked, and of which geometries, is in `cells`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.dft.calculate import calculate_tasks
from benchmarks.dft.cells import choose_tasks
from benchmarks.dft.report import write_report


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dft", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("docs/dft"), help="of tasks, results and the report")
    parts = parser.add_subparsers(required=True)
    choose = parts.add_parser("choose", help="which cells; needs the potential")
    choose.add_argument("--data", required=True, help="the relaxed J2DH-8, .npz")
    choose.add_argument("--seed", type=int, default=0)
    choose.set_defaults(run=lambda chosen: choose_tasks(chosen.folder, chosen.data, chosen.seed))
    run = parts.add_parser("run", help="the calculations; needs GPAW")
    run.add_argument("--only", nargs="*", help="kinds: check, layer, lattice, stack, gap, held, relaxed")
    run.set_defaults(run=lambda chosen: calculate_tasks(chosen.folder, chosen.only))
    report = parts.add_parser("report", help="the page and the figure")
    report.add_argument("--data", required=True)
    report.set_defaults(run=lambda chosen: write_report(chosen.folder, chosen.data))
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
