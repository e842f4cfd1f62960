"""What an evaluation leaves in its folder: a table of structures for each part, and one summary for all parts.

    directory/
      reconstruction.npz, ...             arrays of the generating half
      reconstruction.csv, .parquet, ...   one row a structure
      summary.json                        every measure under its own key, with `..._low` and `..._high`
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from vdw_jax.evaluate.scoring import Measure, Scored
from vdw_jax.report.results import results_markdown
from vdw_jax.report.writer import write_text_atomically
from vdw_jax.structures.csv_text import harmless
from vdw_jax.structures.files import write_whole

SUMMARY = "summary.json"
_TITLES = {
    "reconstruction": "Reconstruction of held-out structures",
    "generation": "From nothing asked",
    "conditional": "As asked for",
}
_ENDS = ("", "_low", "_high")


class SummaryError(ValueError):
    """A summary cannot be read or joined; the message names the file."""


def write_scores(directory: Path, part: str, scored: Scored, record: Mapping[str, Any]) -> Path:
    """Writes the table of one part and puts its measures into the summary, beside those of the other parts.

    Args:
        directory: of the evaluation; made if it is not there.
        part: "reconstruction", "generation" or "conditional".
        scored: rows and measures.
        record: device, seed, command, hash of the data and so on, kept under `records`.

    Returns:
        the summary's path.

    Raises:
        SummaryError: the summary that is there cannot be read.
    """
    directory.mkdir(parents=True, exist_ok=True)
    refuse_foreign(directory, part)
    table = pd.DataFrame(scored.rows).convert_dtypes()
    write_text_atomically(directory / f"{part}.csv", _csv(scored.rows))
    write_whole(directory / f"{part}.parquet", lambda file: table.to_parquet(file, index=False))
    path = directory / SUMMARY
    known: dict[str, Any] = read_summary(path) if path.exists() else {"records": {}}
    records = known["records"]
    for name in records.get(part, {}).get("measures", []):
        for end in _ENDS:
            del known[name + end]
    known |= flat_measures(scored.measures)
    records[part] = {**record, **scored.notes, "measures": list(scored.measures)}
    joined = {
        name + end: known[name + end]
        for part in _TITLES for name in records.get(part, {}).get("measures", []) for end in _ENDS
    }  # fmt: skip
    write_text_atomically(path, json.dumps(joined | {"records": records}, indent=2, allow_nan=False) + "\n")
    return path


def refuse_foreign(directory: Path, part: str) -> None:
    """The check that no file is replaced that no evaluation wrote, for those who want to know before they score.

    Raises:
        SummaryError: there is a table of this part but no summary that tells of it, or a summary of something else.
    """
    path = directory / SUMMARY
    known = read_summary(path)["records"] if path.exists() else {}
    for table in (directory / f"{part}.csv", directory / f"{part}.parquet"):
        if os.path.lexists(table) and part not in known:
            raise SummaryError(f"{table} is there, and no evaluation wrote it: {SUMMARY} does not tell of {part}; "
                               "move it away, or choose another --out")  # fmt: skip


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table with texts that no spreadsheet runs."""
    safe = [{harmless(key): harmless(value) for key, value in row.items()} for row in rows]
    return pd.DataFrame(safe).convert_dtypes().to_csv(index=False, lineterminator="\n")


def flat_measures(measures: Mapping[str, Measure]) -> dict[str, float | None]:
    """`match_rate`, `match_rate_low`, `match_rate_high` and so on; None for what could not be measured."""
    flat: dict[str, float | None] = {}
    for name, values in measures.items():
        for end, value in zip(_ENDS, values, strict=True):
            flat[name + end] = round(value, 6) if math.isfinite(value) else None
    return flat


def read_summary(path: Path) -> dict[str, Any]:
    """A summary as `write_scores` leaves it.

    Raises:
        SummaryError: it cannot be read, has no records, or lacks a measure that a record names.
    """
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(summary["records"], dict):
            raise TypeError("records is no object")
        for record in summary["records"].values():
            missing = {name + end for name in record["measures"] for end in _ENDS} - summary.keys()
            if missing:
                raise KeyError(min(missing))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SummaryError(f"{path}: no summary of an evaluation: {error!r}") from error
    return summary


def results_page(summaries: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """RESULTS.md from summaries, each with a name such as "split by pair" ("" for none)."""
    sections = []
    for name, summary in summaries:
        for part, title in _TITLES.items():
            record = summary["records"].get(part)
            if record is not None:
                sections.append(_section(f"{title}, {name}" if name else title, record, summary))
    return results_markdown({"title": "Results", "sections": sections})


def _section(title: str, record: Mapping[str, Any], summary: Mapping[str, Any]) -> dict[str, Any]:
    names = record["measures"]
    counts = ("reconstructions", "samples", "reference_structures", "candidates", "wishes")
    sizes = [f"{record[key]} {key.replace('_', ' ')}" for key in counts if key in record]
    return {
        "title": title, "device": record["device"], "seed": record["seed"], "command": record["command"],
        "date": record["date"], "sizes": ", ".join(sizes), "note": _note(record),
        "measures": {name: summary[name] for name in names},
        "intervals": {name: (summary[f"{name}_low"], summary[f"{name}_high"]) for name in names},
    }  # fmt: skip


def _note(record: Mapping[str, Any]) -> str:
    parts = []
    if record.get("trained_on"):
        parts.append(f"Trained on {record['trained_on']} for {record['train_steps']} steps.")
    if record.get("network_calls"):
        seconds = f"{record['generate_seconds']:.0f} s with compilation"
        parts.append(f"{record['network_calls']} network calls a structure, {seconds}.")
    if record.get("structures"):
        parts.append(f"Structures of {record['structures']}.")
    if record["data_hash"]:
        data = record["data"]
        parts.append(f"Data {data['source']}, split by {data['split']}, hash {record['data_hash'][:12]}.")
    if record.get("data_problem"):
        parts.append(f"Not the data that the model was trained on: {record['data_problem']}.")
    if "energy_model" in record:
        parts.append(f"Energies: {record['energy_model']}.")
    return " ".join(parts)
