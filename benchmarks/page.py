"""The page of candidates, opened in a headless Chromium: how long it takes, and what it looks like.

    python -m benchmarks.page time                    # 500 cells of the relaxed data
    python -m benchmarks.page picture --samples=DIR   # docs/report.png; docs/report.md says of which candidates
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.browser import Page, open_browser
from vdw_jax.report.crystal import Crystal
from vdw_jax.report.describe import sample_rows
from vdw_jax.report.page import PAGE_NAME, render_page
from vdw_jax.report.ranking import add_ranks
from vdw_jax.structures.source import load_relaxed

TARGETS = {"formation_energy_ev": -0.1, "gap_angstrom": 3.0}
"""Asked of the cells of the data, whose labels then stand for what was got."""


def page_of_data(count: int, seed: int = 0) -> str:
    """A page of `count` cells drawn from the relaxed J2DH-8, as if they were candidates for `TARGETS`."""
    data, _ = load_relaxed("j2dh8")
    chosen = np.random.default_rng(seed).choice(len(data.cell), count, replace=False)
    crystals, got = [], []
    for place, row in enumerate(chosen):
        real = data.atomic_numbers[row] > 0
        name = f"s{place:04d}"
        crystals.append(Crystal(name, data.atomic_numbers[row][real], data.positions[row][real], data.cell[row]))
        got.append({name: float(data.scalars[name][row]) for name in TARGETS})
    rows = add_ranks(sample_rows(crystals, [TARGETS] * count, got))
    return render_page(crystals, rows, {"command": f"python -m benchmarks.page time --count={count}"}, data.scalars)


def opening_times(page: Page, address: str) -> dict[str, float]:
    """Milliseconds to the table and to the first structure, and seconds that the page's thread worked until then."""
    page.call("Performance.enable", timeDomain="threadTicks")
    page.open(address)
    page.wait_for("performance.getEntriesByName('structure').length", 120.0)
    table, structure = (
        float(page.run(f"performance.getEntriesByName('{mark}')[0].startTime")) for mark in ("table", "structure")
    )
    metrics = {entry["name"]: entry["value"] for entry in page.call("Performance.getMetrics")["metrics"]}
    return {"table_ms": table, "structure_ms": structure, "thread_s": metrics["TaskDuration"]}


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=(__doc__ or "").splitlines()[0])
    parts = parser.add_subparsers(dest="what", required=True)
    timed = parts.add_parser("time", help="how long a page of cells of the relaxed data takes to open")
    timed.add_argument("--count", type=int, default=500)
    timed.add_argument("--repeats", type=int, default=5)
    picture = parts.add_parser("picture", help="the first screen of a page, 1366 x 768")
    picture.add_argument("--samples", type=Path, required=True, help="what sample.py wrote")
    picture.add_argument("--out", type=Path, default=Path("docs/report.png"))
    given = parser.parse_args()
    with open_browser() as page, tempfile.TemporaryDirectory() as folder:
        if given.what == "picture":
            page.open((given.samples / PAGE_NAME).resolve().as_uri())
            page.wait_for("performance.getEntriesByName('structure').length")
            time.sleep(0.5)  # until what is drawn is on the screen
            page.screenshot(given.out)
            print(given.out)
            return
        file = Path(folder) / PAGE_NAME
        file.write_text(page_of_data(given.count), encoding="utf-8")
        browser = page.call("Browser.getVersion")["product"]
        print(f"{given.count} candidates, {file.stat().st_size / 1e6:.2f} MB, {browser}")
        for _ in range(given.repeats):
            print("  ".join(f"{name} {value:.2f}" for name, value in opening_times(page, file.as_uri()).items()))


if __name__ == "__main__":
    main()
