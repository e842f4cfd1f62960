"""Which small faults the tests notice: mutants of the code that decides what the model learns and how it is scored.

    pip install -e .[dev,mutation]
    python studies/mutants.py list --seed=0 --number=300      # needs cosmic-ray; writes studies/mutants.json
    python studies/mutants.py run --workers=2 --out=runs/mutants
    python studies/mutants.py report --out=runs/mutants       # writes docs/mutants.md

`run` needs the list only, not cosmic-ray. It writes each result at once, skips on the next call what is done, and stops
after `--minutes` or at SIGTERM. `--again=survived` tries once more what survived, after the tests were mended.
"""

from __future__ import annotations

import argparse
import ast
import concurrent.futures
import dataclasses
import hashlib
import json
import os
import platform
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIST = Path("studies/mutants.json")
EQUIVALENT = Path("studies/equivalent_mutants.json")
REPORT = Path("docs/mutants.md")

TESTS = {
    "vdw_jax/training/losses.py": ("tests/training/test_loss_values.py", "tests/training/test_losses.py"),
    "vdw_jax/diffusion/noise.py": ("tests/diffusion/test_noise_values.py", "tests/diffusion/test_noise.py"),
    "vdw_jax/diffusion/samplers.py": ("tests/diffusion/test_samplers.py", "tests/diffusion/test_flow.py"),
    "vdw_jax/metrics/matching.py": ("tests/metrics/test_matching.py",),
    "vdw_jax/graphs/neighbours.py": (
        "tests/graphs/test_neighbour_borders.py",
        "tests/graphs/test_neighbours.py",
        "tests/graphs/test_pairs.py",
    ),
}
"""Files whose mutants are tried, each with the tests that answer for it, the fastest first."""

NEEDED = ("vdw_jax", "tests", "configs", "setup.cfg", "pyproject.toml")
"""What a copy of the tree holds. Weights that ship stay out of it."""

MEMORY_LIMIT = 16 * 2**30
"""Bytes of addresses a test run may use: a mutant may ask for an array of any size."""

ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One small change of one file: some lines replaced by others."""

    file: str
    operator: str
    occurrence: int
    """Of the operator in the file, as cosmic-ray counts them."""
    line: int
    before: tuple[str, ...]
    after: tuple[str, ...]
    place: int
    """The lines `before` occur more than once: the how-manieth place is meant, from 0."""

    @property
    def key(self) -> str:
        """The same as long as the lines are, wherever they have moved to."""
        parts = (self.file, self.operator, self.before, self.after, self.place)
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]

    @property
    def where(self) -> str:
        """File, line and operator, to print."""
        return f"{self.file}:{self.line} {self.operator.removeprefix('core/')}"

    def applied(self, source: str) -> str:
        """The source with this change.

        Raises:
          ValueError: the lines are no longer there.
        """
        lines = source.split("\n")
        places = _places(lines, self.before)
        if self.place >= len(places):
            raise ValueError(f"{self.where}: the file has changed; make the list anew with `list`")
        start = places[self.place]
        return "\n".join([*lines[:start], *self.after, *lines[start + len(self.before) :]])


def _places(lines: list[str], block: tuple[str, ...]) -> list[int]:
    size = len(block)
    return [start for start in range(len(lines) - size + 1) if tuple(lines[start : start + size]) == block]


# The list.


def program_of(source: str) -> str | None:
    """What runs: the syntax tree without annotations, which nothing reads. None for what does not parse."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
        elif isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
    return ast.dump(tree)


def mutant_of(file: str, operator: str, occurrence: int, source: str, mutated: str) -> Mutant:
    """The lines that differ."""
    old, new = source.split("\n"), mutated.split("\n")
    start = next(i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b)
    end = 0
    while end < min(len(old), len(new)) - start - 1 and old[-1 - end] == new[-1 - end]:
        end += 1
    before, after = tuple(old[start : len(old) - end]), tuple(new[start : len(new) - end])
    return Mutant(file, operator, occurrence, start + 1, before, after, _places(old, before).index(start))


def positions(source: str) -> Iterator[tuple[str, int]]:
    """(operator, occurrence) of all that cosmic-ray would change, by the operators that need no argument."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.plugins import get_operator, operator_names

    nodes = list(ast_nodes(get_ast(source)))
    for name in sorted(operator_names()):
        kind = get_operator(name)
        if not kind.arguments():
            number = sum(1 for node in nodes for _ in kind().mutation_positions(node))
            yield from ((name, occurrence) for occurrence in range(number))


def make_list(seed: int, number: int) -> None:
    """Draws the sample, in an order of its own, so that the first part of it is a sample too."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    sources = {file: (ROOT / file).read_text(encoding="utf-8") for file in TESTS}
    found = [(file, *position) for file, source in sources.items() for position in positions(source)]
    random.Random(seed).shuffle(found)
    seen = {program_of(source) for source in sources.values()} | {None}
    chosen: list[Mutant] = []
    for file, operator, occurrence in found:
        if len(chosen) == number:
            break
        mutated = mutate_code(sources[file], get_operator(operator)(), occurrence)
        program = program_of(mutated)
        if program not in seen:
            seen.add(program)
            chosen.append(mutant_of(file, operator, occurrence, sources[file], mutated))
    facts = {"cosmic_ray": metadata.version("cosmic-ray"), "seed": seed, "of": len(found)}
    lines = ",\n".join(json.dumps(dataclasses.asdict(mutant)) for mutant in chosen)
    (ROOT / LIST).write_text(f'{{"facts": {json.dumps(facts)},\n"mutants": [\n{lines}\n]}}\n', encoding="utf-8")
    print(f"{len(chosen)} of {len(found)} possible changes in {LIST}")


def read_list() -> tuple[dict, list[Mutant]]:
    """Facts about the list, and the mutants."""
    content = json.loads((ROOT / LIST).read_text(encoding="utf-8"))
    mutants = [
        Mutant(**{**row, "before": tuple(row["before"]), "after": tuple(row["after"])}) for row in content["mutants"]
    ]
    return content["facts"], mutants


# Running the tests.


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a test run came to."""

    outcome: str
    """'survived', 'killed', 'timeout' or 'error' (no test ran)."""
    seconds: float
    test: str
    """The first that failed."""


class Stopped(Exception):
    """The tests were ended before they were done."""


def copy_tree(target: Path) -> None:
    """What the tests need, with compiled files that hold for the unchanged sources only."""
    target.mkdir()
    weights = ROOT / "vdw_jax" / "pretrained"

    def left_out(folder: str, names: list[str]) -> set[str]:
        return {
            name
            for name in names
            if name == "__pycache__" or (Path(folder) == weights and (weights / name).is_dir())
        }

    for name in NEEDED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target / name, ignore=left_out)
        else:
            shutil.copy(ROOT / name, target / name)
    # By content, not by date: a mutant as long as the original, made in the same second, is compiled anew.
    command = [sys.executable, "-m", "compileall", "-q", "--invalidation-mode=checked-hash", "vdw_jax", "configs"]
    subprocess.run(command, cwd=target, check=True)


def run_tests(tree: Path, tests: Iterable[str], limit_s: float, stop: threading.Event) -> Outcome:
    """The tests of one copy of the tree, up to the first that fails.

    Raises:
      Stopped: `stop` was set.
    """
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tree), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(compilation_cache()),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.05",
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {ONE_THREAD}".strip(),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    # No `-p no:...` for plugins: none is loaded. `strict` markers and paths come from pyproject.toml.
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--no-header", *tests]
    start = time.monotonic()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command, cwd=tree, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        resource.prlimit(process.pid, resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
        try:
            while process.poll() is None:
                if stop.wait(0.1):
                    raise Stopped
                if time.monotonic() - start > limit_s:
                    return Outcome("timeout", round(limit_s, 1), "")
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        output.seek(0)
        text = output.read()
    return outcome_of(process.returncode, text, round(time.monotonic() - start, 1))


def outcome_of(status: int, text: str, seconds: float) -> Outcome:
    """Of pytest's exit status and output. A crash is noticed, so it kills; that nothing ran does not."""
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", text, re.MULTILINE)
    if status == 0:
        return Outcome("survived", seconds, "")
    if status in (1, 2) and failed:
        return Outcome("killed", seconds, failed[1])
    if status < 0:
        return Outcome("killed", seconds, f"signal {-status}")
    return Outcome("error", seconds, text[-2000:])


def compilation_cache() -> Path:
    """Shared by all runs: entries are found by the whole program, so that a mutant never gets another's."""
    default = Path(tempfile.gettempdir()) / "vdw_jax-mutants-cache"
    return Path(os.environ.get("JAX_COMPILATION_CACHE_DIR", default))


def check_baseline(tree: Path, files: Iterable[str], workers: int, stop: threading.Event) -> dict[str, float]:
    """Seconds that the unchanged tests of each file take, the second time, when nothing is compiled anew.

    Raises:
      SystemExit: tests fail without any mutant, or they test another copy of the package.
    """
    command = [sys.executable, "-c", "import vdw_jax; print(vdw_jax.__file__)"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tree), os.environ.get("PYTHONPATH", "")])}
    used = subprocess.run(command, cwd=tree, env=environment, check=True, capture_output=True, text=True).stdout
    if not Path(used.strip()).is_relative_to(tree):
        raise SystemExit(f"the tests would use {used.strip()}, not the copy that is mutated")
    seconds = {}
    for _ in ("compiling", "compiled"):
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            waiting = {file: pool.submit(run_tests, tree, TESTS[file], 900, stop) for file in files}
            for file, run in waiting.items():
                found = run.result()
                if found.outcome != "survived":
                    raise SystemExit(f"the unchanged tests of {file}: {found.outcome} {found.test}")
                seconds[file] = found.seconds
    for file, value in seconds.items():
        print(f"unchanged: {value:5.1f} s  {file}", flush=True)
    return seconds


# All of them.


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


def run(out: Path, workers: int, minutes: float, again: tuple[str, ...], first: int | None) -> int:
    """Tries every mutant of the list that has no result; the exit status."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / "results.jsonl"
    mutants = read_list()[1][:first]
    results = read_results(path)
    todo = [m for m in mutants if m.key not in results or results[m.key]["outcome"] in again]
    print(f"{len(mutants)} mutants, {len(mutants) - len(todo)} done before", flush=True)
    if not todo:
        return 0

    stop, start, lock = threading.Event(), time.monotonic(), threading.Lock()
    signals: list[int] = []

    def end(number: int, _) -> None:
        signals.append(number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    timer = threading.Timer(60 * minutes, stop.set)
    timer.daemon = True
    timer.start()

    done = 0
    with tempfile.TemporaryDirectory(prefix="vdw_jax-mutants-") as scratch, path.open("a", encoding="utf-8") as file:
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
            finally:
                shutil.rmtree(tree, ignore_errors=True)
            row = {"key": mutant.key, **dataclasses.asdict(found), "where": mutant.where, **versions()}
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
    timer.cancel()
    counts = Counter(results[m.key]["outcome"] for m in mutants if m.key in results)
    print(f"{sum(counts.values())} of {len(mutants)} done in {path}: {dict(counts)}; {time.monotonic() - start:.0f} s")
    return 128 + signals[0] if signals else 0


def versions() -> dict[str, str]:
    """Of what a result depends on."""
    return {"python": platform.python_version(), "jax": metadata.version("jax")}


# The report.


def equivalent_reasons() -> dict[tuple, str]:
    """Why a mutant changes nothing, by (file, operator, lines before, lines after), each line without its indent."""
    rows = json.loads((ROOT / EQUIVALENT).read_text(encoding="utf-8"))
    return {(row["file"], row["operator"], row["before"], row["after"]): row["reason"] for row in rows}


def equivalence_key(mutant: Mutant) -> tuple:
    """As `equivalent_reasons` has it: it does not depend on the line's number."""
    before, after = ("\n".join(line.strip() for line in lines) for lines in (mutant.before, mutant.after))
    return mutant.file, mutant.operator, before, after


def diff(mutant: Mutant) -> str:
    """The lines that differ, as `diff` shows them."""
    return "\n".join([*(f"-{line}" for line in mutant.before), *(f"+{line}" for line in mutant.after)])


def report(out: Path, first: int | None) -> None:
    """Writes the page."""
    facts, listed = read_list()
    results, reasons = read_results(out / "results.jsonl"), equivalent_reasons()
    mutants = [mutant for mutant in listed[:first] if mutant.key in results]
    if not mutants:
        raise SystemExit(f"no result of a listed mutant in {out}")
    (ROOT / REPORT).write_text(page(facts, len(listed), mutants, results, reasons), encoding="utf-8")
    print(f"wrote {REPORT}")


def page(
    facts: dict, num_listed: int, mutants: list[Mutant], results: dict[str, dict], reasons: dict[tuple, str]
) -> str:
    """docs/mutants.md."""
    outcome = {mutant.key: results[mutant.key]["outcome"] for mutant in mutants}
    alive = [mutant for mutant in mutants if outcome[mutant.key] == "survived"]
    equivalent = [mutant for mutant in alive if equivalence_key(mutant) in reasons]
    survivors = [mutant for mutant in alive if equivalence_key(mutant) not in reasons]
    errors = sum(value == "error" for value in outcome.values())
    counted = len(mutants) - len(equivalent) - errors
    killed = sum(value in ("killed", "timeout") for value in outcome.values())
    share = f"{killed / counted:.1%}".replace("%", " %")
    rows = []
    for file in TESTS:
        own = [mutant for mutant in mutants if mutant.file == file]
        dead = sum(outcome[m.key] in ("killed", "timeout") for m in own)
        same, left = sum(m in equivalent for m in own), sum(m in survivors for m in own)
        rows.append(f"| `{file}` | {len(own)} | {dead} | {left} | {same} |")
    made_with = sorted({f"Python {r['python']}, jax {r['jax']}" for r in (results[m.key] for m in mutants)})
    seconds = sum(results[mutant.key]["seconds"] for mutant in mutants)
    parts = [
        "# Mutants",
        "A mutant is the code with one small fault: a number one larger, a `+` for a `-`, a condition turned round. "
        "It is killed when a test fails (or runs over its time), and survives when all pass. Annotations, which nothing "
        "reads, and changes that do not compile are left out before the sample is drawn.",
        f"**{killed} of {counted} killed ({share}).** {len(survivors)} survive; {len(equivalent)} more change nothing "
        f"that a caller can see and are taken out, with the reason"
        + (f"; {errors} could not be tried." if errors else "."),
        "| file | mutants | killed | survive | change nothing |\n|---|---|---|---|---|\n" + "\n".join(rows),
        f"Sample: {len(mutants)} of {num_listed} mutants drawn with seed {facts['seed']} from {facts['of']} that "
        f"cosmic-ray {facts['cosmic_ray']} makes of these files. {'; '.join(made_with)}; "
        f"{seconds / 3600:.1f} core hours.",
        "```\n"
        f"python studies/mutants.py list --seed={facts['seed']} --number={num_listed}\n"
        "python studies/mutants.py run --workers=16 --out=runs/mutants\n"
        "python studies/mutants.py report --out=runs/mutants\n```",
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


def main(arguments: list[str]) -> int:
    """Runs one command; the exit status."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = options.add_subparsers(dest="command", required=True)
    make = commands.add_parser("list", help="draw the sample")
    make.add_argument("--seed", type=int, default=0)
    make.add_argument("--number", type=int, default=300)
    tried = commands.add_parser("run", help="run the tests on every mutant that has no result")
    tried.add_argument("--workers", type=int, default=1, help="test runs at a time, one thread each")
    tried.add_argument("--minutes", type=float, default=24 * 60, help="stop after so many")
    tried.add_argument("--again", default="", help="outcomes to try once more, such as survived,error")
    shown = commands.add_parser("report", help=f"write {REPORT}")
    for command in (tried, shown):
        command.add_argument("--out", type=Path, required=True, help="folder of results.jsonl")
        command.add_argument("--first", type=int, help="only so many of the list")
    given = options.parse_args(arguments)
    if given.command == "list":
        make_list(given.seed, given.number)
    elif given.command == "run":
        return run(given.out, given.workers, given.minutes, tuple(given.again.split(",")), given.first)
    else:
        report(given.out, given.first)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
