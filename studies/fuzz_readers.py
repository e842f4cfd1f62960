"""Damaged and altered structure files: what is accepted is compared with what other programs read.

    python -m studies.fuzz_readers --count=10000 --workers=4 --out=studies/results/fuzz_readers

Half of the files are damaged at random (tests/structures/fuzz.py), half by edits that know the format (edits.py). A
worker that dies, takes longer than ten seconds of a processor or 2 GiB is counted, and the file kept in `--keep`.
Every accepted structure is compared with an independent reader (other_readers.py); a difference is put down to a
reason that is checked, or listed as unexplained. `--only=NUMBER` shows one file again. About 25 a second and worker.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import platform
import re
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from ase.io import write
from pymatgen.io.vasp import Poscar

from studies import other_readers
from studies.edits import EDITS, pick
from tests.structures.fuzz import Damage, valid_structures, valid_texts
from vdw_jax import __version__
from vdw_jax.structures.source import load_relaxed

KINDS = ("cif", "extxyz", "json", "csv", "poscar")
LONGEST_S, LONGEST_WALL_S = 10, 60
MOST_MEMORY = 2 * 1024**3
MAX_ATOMS = 200
PACKAGES = ("ase", "gemmi", "numpy", "pymatgen", "spglib")


def seeds(folder: Path) -> dict[str, list[str]]:
    """Good files of each kind: those of the tests, POSCAR files of the same crystals, and shipped slabs."""
    texts = valid_texts(folder)
    structures = valid_structures()
    texts["poscar"] = [
        Poscar(structure.get_sorted_structure()).get_str() for structure in structures
    ]
    shipped = load_relaxed("iii_vi")[0]
    for row in (0, len(shipped) // 2):
        structure = shipped.to_pymatgen(row)
        texts["cif"].append(structure.to(fmt="cif"))
        texts["poscar"].append(structure.to(fmt="poscar"))
        path = folder / f"shipped-{row}.extxyz"
        write(path, structure.to_ase_atoms())
        texts["extxyz"].append(path.read_text())
    return texts


def altered(seed: int, number: int, texts: dict[str, list[str]]) -> tuple[str, str, bytes]:
    """Kind, name of the alteration, and content of file `number`; the same for the same seed everywhere."""
    random = np.random.RandomState([seed, number])
    kind = KINDS[number % len(KINDS)]
    text = pick(random, texts[kind])
    if number // len(KINDS) % 2:
        names = [pick(random, sorted(EDITS[kind])) for _ in range(random.randint(1, 3))]
        for name in names:
            # An edit may have been made impossible by the one before it.
            with contextlib.suppress(ValueError, KeyError, IndexError, TypeError, AttributeError):
                text = EDITS[kind][name](text, random)
        return kind, " + ".join(names), text.encode("utf-8", "surrogatepass")
    damage = Damage(random.randint(2**31))
    is_leaf = kind == "json" and random.randint(3) > 0
    return kind, "random", damage.leaf(text) if is_leaf else damage(text)


def read(path: Path, kind: str, content: bytes) -> dict[str, Any]:
    """What became of a file, and where others differ."""
    from vdw_jax.structures.entries import Entry
    from vdw_jax.structures.errors import DataError
    from vdw_jax.structures.load import load_structures
    from vdw_jax.structures.reading import open_reading

    try:
        data, problems = load_structures(
            path, on_error="skip", use_cache=False, max_atoms=MAX_ATOMS
        )
    except DataError as error:
        return {"outcome": "refused", "reason": str(error).replace(str(path), "FILE")[:200]}
    reasons = [str(problem).replace(str(path), "FILE")[:200] for problem in problems]
    if not len(data):
        return {
            "outcome": "refused",
            "reason": (reasons or ["nothing said"])[0],
            "silent": not reasons,
        }
    entries: dict[str, Entry] = {}
    for entry in open_reading(path).entries:
        if isinstance(entry, Entry):
            entries.setdefault(
                entry.id, entry
            )  # a second one of a name is a problem, and not in the data set
    try:
        others = other_readers.read(kind, content)
    except Exception as error:  # a file as a whole that the other readers cannot take apart
        others = {entry.row: [f"{type(error).__name__}: {error}"] for entry in entries.values()}
    compared = []
    for row, name in enumerate(data.ids.tolist()):
        entry = entries[name]
        kept = data.atomic_numbers[row][data.atomic_numbers[row] > 0]
        if sorted(kept.tolist()) != sorted(entry.atomic_numbers.tolist()):
            compared.append(
                {"row": entry.row, "verdict": "unexplained", "why": "the data set has other atoms"}
            )
        else:
            compared.append(
                {"row": entry.row} | _verdict(entry, kind, content, others.get(entry.row, []))
            )
    return {"outcome": "accepted", "problems": reasons[:3], "compared": compared}


def _verdict(entry: Any, kind: str, content: bytes, others: list) -> dict[str, str]:
    said = []
    for other in others:
        difference = other if isinstance(other, str) else _difference(entry, other)
        if not difference:
            return {"verdict": "equal", "why": other.reader}
        said.append(difference)
    for reason, again in other_readers.told_plainly(kind, content):
        if any(
            isinstance(other, other_readers.Other) and not _difference(entry, other)
            for other in again.get(entry.row, [])
        ):
            return {"verdict": "explained", "why": f"{reason}: {'; '.join(said)}"}
    if said and all(isinstance(other, str) for other in others):
        errors = sorted({" ".join(re.sub(r"[\d'].*", "", text).split()[:9]) for text in said})
        return {"verdict": "refused by others", "why": "; ".join(errors)}
    return {"verdict": "unexplained", "why": "; ".join(said) or "no other reader"}


def _difference(entry: Any, other: other_readers.Other) -> str:
    difference = other_readers.same(entry.atomic_numbers, entry.positions, entry.cell, other)
    return f"{difference} by {other.reader}" if difference else ""


def _serve(pipe, seed: int, folder: str) -> None:
    """Runs in a process of its own: reads files by their numbers until there is None."""
    import vdw_jax.structures.load  # noqa: F401  before the limit is set: libraries take addresses, not memory

    texts = seeds(Path(folder))
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MOST_MEMORY, used + MOST_MEMORY))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    pipe.send("ready")
    while (number := pipe.recv()) is not None:
        kind, name, content = altered(seed, number, texts)
        path = Path(folder) / ("POSCAR" if kind == "poscar" else f"damaged.{kind}")
        path.write_bytes(content)
        started = time.process_time()
        try:
            found = read(path, kind, content)
        except BaseException as error:  # what should never come out of a reader
            found = {"outcome": "crashed", "reason": f"{type(error).__name__}: {error}"[:300]}
        pipe.send(
            {"number": number, "kind": kind, "edit": name, "cpu_s": time.process_time() - started}
            | found
        )


class Worker:
    """A process that can be replaced when it hangs or dies."""

    def __init__(self, seed: int):
        self._seed = seed
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._folder = tempfile.TemporaryDirectory(prefix="fuzz-")
        self._process = context.Process(
            target=_serve, args=(theirs, self._seed, self._folder.name), daemon=True
        )
        self._process.start()
        theirs.close()
        self._pipe.recv()

    def __call__(self, number: int) -> dict[str, Any]:
        kind = KINDS[number % len(KINDS)]
        started, cpu = time.monotonic(), self._cpu_seconds()
        self._pipe.send(number)
        while not self._pipe.poll(1.0):
            is_late = time.monotonic() - started > LONGEST_WALL_S
            if is_late or self._cpu_seconds() - cpu > LONGEST_S:
                self.stop()
                self._start()
                return {"number": number, "kind": kind, "edit": "", "outcome": "hung"}
        try:
            return self._pipe.recv()
        except EOFError:
            self._process.join()
            ended = self._process.exitcode
            self._start()
            return {
                "number": number,
                "kind": kind,
                "edit": "",
                "outcome": "crashed",
                "reason": f"exit code {ended}",
            }

    def _cpu_seconds(self) -> float:
        words = Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        """Ends the process."""
        os.kill(self._process.pid or 0, signal.SIGKILL)
        self._process.join()
        self._folder.cleanup()


def run(
    count: int, seed: int, workers: int, kinds: tuple[str, ...] = KINDS
) -> list[dict[str, Any]]:
    """What became of each file, in order."""
    numbers = [number for number in range(count) if KINDS[number % len(KINDS)] in kinds]
    started = time.monotonic()
    done: list[dict[str, Any]] = []

    def work(part: list[int]) -> None:
        worker = Worker(seed)
        for number in part:
            done.append(worker(number))
            if len(done) % 200 == 0:
                left = (time.monotonic() - started) / len(done) * (len(numbers) - len(done))
                print(f"{len(done)}/{len(numbers)}  {left:.0f} s left", file=sys.stderr, flush=True)
        worker.stop()

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, [numbers[start::workers] for start in range(workers)]))
    return sorted(done, key=lambda one: one["number"])


def summary(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts, and every difference that has no reason."""
    outcomes = Counter(f"{one['kind']} {one['outcome']}" for one in results)
    verdicts, reasons, refusals, open_ones = Counter(), Counter(), Counter(), []
    for one in results:
        for row in one.get("compared", ()):
            verdicts[f"{one['kind']} {row['verdict']}"] += 1
            if row["verdict"] == "explained":
                reasons[row["why"].split(":")[0]] += 1
            elif row["verdict"] == "refused by others":
                refusals[row["why"]] += 1
            elif row["verdict"] == "unexplained":
                open_ones.append(
                    {"number": one["number"], "kind": one["kind"], "edit": one["edit"], **row}
                )
    bad = [one for one in results if one["outcome"] in ("crashed", "hung") or one.get("silent")]
    return {
        "files": len(results),
        "outcomes": dict(sorted(outcomes.items())),
        "structures compared": dict(sorted(verdicts.items())),
        "explained by": dict(reasons.most_common()),
        "refused by others": dict(refusals.most_common()),
        "unexplained": open_ones,
        "crashed, hung or silent": bad,
        "longest_cpu_s": max((one.get("cpu_s", 0.0) for one in results), default=0.0),
    }


def page(found: dict[str, Any]) -> str:
    """The summary as Markdown."""
    lines = [
        f"# Damaged structure files\n\n{found['files']} files, seed {found['seed']}: `{found['command']}`\n"
    ]
    lines += [
        "| kind | accepted | refused | crashed | hung | equal | explained | refused by others | unexplained |"
    ]
    lines += ["|---" * 9 + "|"]
    for kind in KINDS:
        cells = [
            found["outcomes"].get(f"{kind} {name}", 0)
            for name in ("accepted", "refused", "crashed", "hung")
        ]
        names = ("equal", "explained", "refused by others", "unexplained")
        cells += [found["structures compared"].get(f"{kind} {name}", 0) for name in names]
        lines.append(f"| {kind} | " + " | ".join(map(str, cells)) + " |")
    lines.append(
        "\nThe first four count files, the others accepted structures, beside what other programs read.\n"
    )
    lines += [f"- {reason}: {count}" for reason, count in found["explained by"].items()]
    lines += [
        f"- refused by others ({count}): {why}" for why, count in found["refused by others"].items()
    ]
    lines += [f"- **unexplained** {one}" for one in found["unexplained"]]
    lines += [f"- **{one['outcome']}** {one}" for one in found["crashed, hung or silent"]]
    lines.append(
        f"\nVersions: {', '.join(f'{name} {number}' for name, number in found['versions'].items())}.\n"
    )
    return "\n".join(lines)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--out", default="", help="NAME: writes NAME.json and NAME.md")
    parser.add_argument("--only", type=int, help="shows this file and what is made of it")
    given = parser.parse_args()
    if given.only is not None:
        with tempfile.TemporaryDirectory() as folder:
            kind, name, content = altered(given.seed, given.only, seeds(Path(folder)))
            path = Path(folder) / ("POSCAR" if kind == "poscar" else f"damaged.{kind}")
            path.write_bytes(content)
            print(content.decode("utf-8", errors="replace"))
            print(name, json.dumps(read(path, kind, content), indent=1))
        return
    found = summary(run(given.count, given.seed, given.workers, tuple(given.kinds)))
    found |= {
        "seed": given.seed,
        "command": " ".join(["python -m studies.fuzz_readers", *sys.argv[1:]]),
        "versions": {name: version(name) for name in PACKAGES}
        | {"vdw_jax": __version__}
        | {"python": platform.python_version()},
    }
    if given.out:
        out = Path(given.out)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        out.with_suffix(".md").write_text(page(found), encoding="utf-8")
    print(page(found))


if __name__ == "__main__":
    main()
