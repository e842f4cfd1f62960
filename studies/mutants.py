"""Which small faults the tests notice: mutants of the code that decides what the model learns and how it is scored.

    pip install -e .[dev,mutation]
    python -m studies.mutants list --seed=0 --number=300      # needs cosmic-ray; writes studies/mutants.json
    python -m studies.mutants run --workers=2 --out=runs/mutants
    python -m studies.mutants report --out=runs/mutants       # writes docs/mutants.md

`run` needs the list only, not cosmic-ray. It writes each result at once, skips on the next call what is done, and stops
after `--minutes` or at SIGTERM. `--again=survived` tries once more what survived, after the tests were mended.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import json
import os
import platform
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from importlib import metadata
from pathlib import Path

from studies.mutant_list import (
    BY_HAND,
    ROOT,
    SAMPLED,
    TESTS,
    Mutant,
    equivalence_key,
    equivalent_reasons,
    make_list,
    read_list,
)
from studies.mutant_tests import Outcome, Stopped, check_baseline, copy_tree, run_tests

REPORT = Path("docs/mutants.md")


def read_results(path: Path) -> dict[str, dict]:
    """The last result of each mutant. A line cut short is as if it were not there."""
    results: dict[str, dict] = {}
    if path.exists():
        for line in path.read_text(encoding="utf-8").split("\n"):
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue
            results[row["key"]] = row
    return results


def run(
    out: Path,
    workers: int,
    minutes: float,
    again: tuple[str, ...],
    first: int | None,
    files: str = "",
) -> int:
    """Tries every mutant of the list that has no result; the exit status."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / "results.jsonl"
    mutants = [mutant for mutant in read_list()[1][:first] if files in mutant.file]
    results = read_results(path)
    todo = [m for m in mutants if m.key not in results or results[m.key]["outcome"] in again]
    print(f"{len(mutants)} mutants, {len(mutants) - len(todo)} done before", flush=True)
    if not todo:
        return 0

    stop, start = threading.Event(), time.monotonic()
    signals: list[int] = []

    def end(number: int, _) -> None:
        signals.append(number)
        stop.set()

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    timer = threading.Timer(60 * minutes, stop.set)
    timer.daemon = True
    timer.start()

    try:
        return _attempt_all(todo, results, path, workers, stop, signals)
    finally:
        timer.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)
        counts = Counter(results[m.key]["outcome"] for m in mutants if m.key in results)
        took = time.monotonic() - start
        print(
            f"{sum(counts.values())} of {len(mutants)} done in {path}: {dict(counts)}; {took:.0f} s",
            flush=True,
        )


def _attempt_all(
    todo: list[Mutant],
    results: dict[str, dict],
    path: Path,
    workers: int,
    stop: threading.Event,
    signals: list[int],
) -> int:
    """Adds to `results` and to the file what each mutant comes to, until `stop` is set; the exit status."""
    done, lock = 0, threading.Lock()
    with (
        tempfile.TemporaryDirectory(prefix="vdw_jax-mutants-") as scratch,
        path.open("a", encoding="utf-8") as file,
    ):
        template = Path(scratch) / "unchanged"
        copy_tree(template)
        try:
            baseline = check_baseline(template, sorted({m.file for m in todo}), workers, stop)
        except Stopped:
            print("stopped before the first mutant")
            return 128 + signals[0] if signals else 0
        if path.stat().st_size:
            file.write("\n")  # ends a line that was cut short; empty ones are skipped
        begun = time.monotonic()

        def attempt(mutant: Mutant) -> None:
            nonlocal done
            if stop.is_set():
                return
            tree = Path(scratch) / mutant.key
            shutil.copytree(template, tree)
            try:
                source = (tree / mutant.file).read_text(encoding="utf-8")
                (tree / mutant.file).write_text(mutant.applied(source), encoding="utf-8")
                found = run_tests(tree, TESTS[mutant.file], 20 + 4 * baseline[mutant.file], stop)
            except Stopped:
                return
            except ValueError as gone:
                found = Outcome("error", 0.0, str(gone))
            finally:
                shutil.rmtree(tree, ignore_errors=True)
            row = {
                "key": mutant.key,
                **dataclasses.asdict(found),
                "where": mutant.where,
                **versions(),
            }
            with lock:
                file.write(json.dumps(row) + "\n")
                file.flush()
                os.fsync(file.fileno())
                results[mutant.key] = row
                done += 1
                left = (time.monotonic() - begun) / done * (len(todo) - done) / 60
                print(
                    f"[{done}/{len(todo)}] {found.outcome:8s} {found.seconds:5.1f} s  {mutant.where}"
                    f"  ({left:.0f} min left)",
                    flush=True,
                )

        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            for task in [pool.submit(attempt, mutant) for mutant in todo]:
                task.result()
    return 128 + signals[0] if signals else 0


def versions() -> dict[str, str]:
    """Of what a result depends on."""
    return {"python": platform.python_version(), "jax": metadata.version("jax")}


# The report.


def diff(mutant: Mutant) -> str:
    """The lines that differ, as `diff` shows them."""
    return "\n".join(
        [*(f"-{line}" for line in mutant.before), *(f"+{line}" for line in mutant.after)]
    )


def report(out: Path, first: int | None) -> None:
    """Writes the page."""
    facts, listed = read_list()
    results, reasons = read_results(out / "results.jsonl"), equivalent_reasons()
    mutants = [mutant for mutant in listed[:first] if mutant.key in results]
    if not mutants:
        raise SystemExit(f"no result of a listed mutant in {out}")
    sampled = sum(mutant.operator != BY_HAND for mutant in listed)
    (ROOT / REPORT).write_text(page(facts, sampled, mutants, results, reasons), encoding="utf-8")
    print(f"wrote {REPORT}")


def page(
    facts: dict,
    num_listed: int,
    mutants: list[Mutant],
    results: dict[str, dict],
    reasons: dict[tuple, str],
) -> str:
    """docs/mutants.md."""
    known = [mutant for mutant in mutants if mutant.operator == BY_HAND]
    mutants = [mutant for mutant in mutants if mutant.operator != BY_HAND]
    outcome = {mutant.key: results[mutant.key]["outcome"] for mutant in mutants}
    alive = [mutant for mutant in mutants if outcome[mutant.key] == "survived"]
    equivalent = [mutant for mutant in alive if equivalence_key(mutant) in reasons]
    survivors = [mutant for mutant in alive if equivalence_key(mutant) not in reasons]
    errors = sum(value == "error" for value in outcome.values())
    counted = len(mutants) - len(equivalent) - errors
    killed = sum(value in ("killed", "timeout") for value in outcome.values())
    late = sum(value == "timeout" for value in outcome.values())
    share = f"{killed / max(counted, 1):.1%}".replace("%", " %")
    rows = []
    for file in SAMPLED:
        own = [mutant for mutant in mutants if mutant.file == file]
        dead = sum(outcome[m.key] in ("killed", "timeout") for m in own)
        same, left = sum(m in equivalent for m in own), sum(m in survivors for m in own)
        rows.append(f"| `{file}` | {len(own)} | {dead} | {left} | {same} |")
    made_with = sorted(
        {f"Python {r['python']}, jax {r['jax']}" for r in (results[m.key] for m in mutants)}
    )
    seconds = sum(results[mutant.key]["seconds"] for mutant in mutants)
    parts = [
        "# Mutants",
        "A mutant is the code with one small fault: a number one larger, a `+` for a `-`, a condition turned round. "
        "It is killed when a test fails (or runs over its time), and survives when all pass. Annotations, which "
        "nothing reads, and changes that do not compile are left out before the sample is drawn.",
        f"**{killed} of {counted} killed ({share})**, {late} of them by the time limit. {len(survivors)} survive; "
        f"{len(equivalent)} more change nothing that a caller can see and are taken out, with the reason"
        + (f"; {errors} could not be tried." if errors else "."),
        "| file | mutants | killed | survive | change nothing |\n|---|---|---|---|---|\n"
        + "\n".join(rows),
        f"Sample: {len(mutants)} of {num_listed} mutants drawn with seed {facts['seed']} from {facts['of']} that "
        f"cosmic-ray {facts['cosmic_ray']} makes of these files. {'; '.join(made_with)}; "
        f"{seconds / 3600:.1f} core hours.",
        "```\n"
        f"python -m studies.mutants list --seed={facts['seed']} --number={num_listed}\n"
        "python -m studies.mutants run --workers=16 --out=runs/mutants\n"
        "python -m studies.mutants report --out=runs/mutants\n```",
        "## Known faults",
        "Each once passed all tests.",
        *(
            f"`{mutant.where}`: {_verdict(results[mutant.key])}\n```diff\n{diff(mutant)}\n```"
            for mutant in known
        ),
        "## Survivors",
        *(f"`{mutant.where}`\n```diff\n{diff(mutant)}\n```" for mutant in survivors),
        *(["None."] if not survivors else []),
        "## Change nothing",
        *(
            f"`{mutant.where}`: {reasons[equivalence_key(mutant)]}\n```diff\n{diff(mutant)}\n```"
            for mutant in equivalent
        ),
        *(["None."] if not equivalent else []),
    ]
    return "\n\n".join(parts) + "\n"


def _verdict(result: dict) -> str:
    """The outcome, and the test that noticed."""
    return (
        f"{result['outcome']} by `{result['test']}`"
        if result["outcome"] == "killed"
        else result["outcome"]
    )


def main(arguments: list[str]) -> int:
    """Runs one command; the exit status."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = options.add_subparsers(dest="command", required=True)
    make = commands.add_parser("list", help="draw the sample")
    make.add_argument("--seed", type=int, default=0)
    make.add_argument("--number", type=int, default=300)
    tried = commands.add_parser("run", help="run the tests on every mutant that has no result")
    tried.add_argument(
        "--workers", type=int, default=1, help="test runs at a time, one thread each"
    )
    tried.add_argument("--minutes", type=float, default=24 * 60, help="stop after so many")
    tried.add_argument(
        "--again", default="", help="outcomes to try once more, such as survived,error"
    )
    tried.add_argument("--files", default="", help="only files whose path contains this")
    shown = commands.add_parser("report", help=f"write {REPORT}")
    for command in (tried, shown):
        command.add_argument("--out", type=Path, required=True, help="folder of results.jsonl")
        command.add_argument("--first", type=int, help="only so many of the list")
    given = options.parse_args(arguments)
    if given.command == "list":
        make_list(given.seed, given.number)
    elif given.command == "run":
        return run(
            given.out,
            given.workers,
            given.minutes,
            tuple(given.again.split(",")),
            given.first,
            given.files,
        )
    else:
        report(given.out, given.first)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
