"""The tables of `benchmarks/README.md`, made from the records in `benchmarks/results/`.

    python -m benchmarks.table                    # rewrites the README
    python -m benchmarks.table --merge=DIRECTORY  # takes in the records of another directory first
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks.measure import RESULTS, write_record

README = Path(__file__).parent / "README.md"

HEAD = """# Benchmarks

Made by `python -m benchmarks.table` from the records in `results/`; what was tried and what came of it is in
[NOTES.md](NOTES.md). Random weights, random J2DH-8 cells; medians over repeats after warming up. A share of peak is
operations counted from the sizes (`flops.py`) over the rate of a large matrix product measured in the same run.
Errors are ||out - reference|| / ||reference|| against the same network in float64. In brackets: how the config was
then, where it has changed since.

    python -m benchmarks.sampler --config=configs/paper.py --batch=500 --dtype=bfloat16
    python -m benchmarks.train_step --config=configs/paper.py --batch=256 --dtype=bfloat16
    python -m benchmarks.loader --config=configs/j2dh8.py --batch=256
    python -m benchmarks.kernels --config=configs/j2dh8.py --batch=256 --profile
"""

GROWTH = "[growth]"
"""Ends the settings of what `benchmarks.growth` measured: a figure of its own."""

TITLES = {
    "sampler": "Sampler",
    "train_step": "Training step",
    "loader": "Batches and graphs",
    "kernels": "Parts of the network",
}

COLUMNS = {
    "device": ("device", "s"),
    "config": ("config", "s"),
    "num_devices": ("devices", "d"),
    "settings": ("settings", "s"),
    "xla_flags": ("XLA_FLAGS", "s"),
    "dtype": ("dtype", "s"),
    "batch": ("batch", "d"),
    "atoms": ("atoms", "d"),
    "neighbours": ("neighbours", "d"),
    "structure_calls_per_s": ("structure-calls/s", ",.0f"),
    "structures_per_s": ("structures/s", ",.0f"),
    "spread": ("spread", ".1%"),
    "tflop_per_s": ("TFLOP/s", ".1f"),
    "share_of_peak": ("of peak", ".1%"),
    "peak_memory_gb": ("memory, GB", ".1f"),
    "compile_s": ("compile, s", ".0f"),
    "error": ("error", ".0e"),
    "commit": ("commit", "s"),
    "date": ("date", "s"),
}

PARTS = {
    "part": ("part", "s"),
    "direction": ("direction", "s"),
    "ms": ("ms", ".3f"),
    "gb_per_s": ("GB/s", ",.0f"),
    "tflop_per_s": ("TFLOP/s", ".1f"),
    "floor_ms": ("floor, ms", ".3f"),
    "over_floor": ("over floor", ".1f"),
}
"""Columns, with their titles and formats."""


def read_records(directory: Path) -> list[dict]:
    """All records of a directory."""
    return [
        record for path in sorted(directory.glob("*.json")) for record in json.loads(path.read_text(encoding="utf-8"))
    ]


def table(rows: list[dict], columns: dict[str, tuple[str, str]]) -> str:
    """Markdown; columns that no row has are left out."""
    used = {key: column for key, column in columns.items() if any(row.get(key) not in (None, "") for row in rows)}

    def cell(row: dict, key: str, form: str) -> str:
        value = row.get(key)
        return "" if value is None else format(value, form)

    lines = ["| " + " | ".join(title for title, _ in used.values()) + " |", "|" + " --- |" * len(used)]
    lines += ["| " + " | ".join(cell(row, key, form) for key, (_, form) in used.items()) + " |" for row in rows]
    return "\n".join(lines)


def shown(record: dict) -> dict:
    """A record with what is derived from it for the table."""
    errors = [value for key, value in record.items() if key.endswith("error_against_float64") and value is not None]
    spread = (record["slowest_s"] - record["fastest_s"]) / record["median_s"] if "median_s" in record else None
    return record | {"error": max(errors, default=None), "spread": spread, "config": Path(record["config"]).stem}


def readme(records: list[dict]) -> str:
    """The whole page."""
    sections = [HEAD]
    for what, title in TITLES.items():
        chosen = [shown(r) for r in records if r["what"] == what and not r["settings"].endswith(GROWTH)]
        if not chosen:
            continue
        sections.append(f"## {title}\n")
        if what != "kernels":
            sections.append(table(chosen, COLUMNS) + "\n")
            continue
        for record in chosen:
            sections.append(
                f"{record['device']}, {record['config']}, {record['settings'] or 'as configured'}, {record['dtype']},"
                f" batch {record['batch']} of {record['slots']} atoms with {record['neighbours']} neighbours; ceilings"
                f" {record['copy_gb_per_s']:,.0f} GB/s and {record['matmul_tflops']:.0f} TFLOP/s;"
                f" {record['date']}, {record['commit']}.\n"
            )
            sections.append(table(record["parts"], PARTS) + "\n")
    return "\n".join(sections)


def main(argv: list[str] | None = None) -> None:
    """Entry point."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--merge", type=Path, help="directory with more records")
    arguments = options.parse_args(argv)
    for record in read_records(arguments.merge) if arguments.merge else ():
        write_record(record, RESULTS)
    README.write_text(readme(read_records(RESULTS)), encoding="utf-8")
    print(f"wrote {README}")


if __name__ == "__main__":
    main()
