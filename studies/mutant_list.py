"""The sample of mutants: drawn once with cosmic-ray and kept as the lines that change, wherever they move to."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import json
import random
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIST = Path("studies/mutants.json")
KNOWN = Path("studies/known_mutants.json")
EQUIVALENT = Path("studies/equivalent_mutants.json")

TESTS = {
    "vdw_jax/training/losses.py": (
        "tests/training/test_loss_values.py",
        "tests/training/test_losses.py",
    ),
    "vdw_jax/diffusion/noise.py": (
        "tests/diffusion/test_noise_values.py",
        "tests/diffusion/test_noise.py",
    ),
    "vdw_jax/diffusion/samplers.py": (
        "tests/diffusion/test_samplers.py",
        "tests/diffusion/test_flow.py",
    ),
    "vdw_jax/metrics/matching.py": ("tests/metrics/test_matching.py",),
    "vdw_jax/graphs/neighbours.py": (
        "tests/graphs/test_neighbour_borders.py",
        "tests/graphs/test_neighbours.py",
    ),
    "vdw_jax/model/cdvae.py": ("tests/training/test_loss_values.py",),
}
"""Files that are mutated, each with the tests that answer for it, the fastest first."""

SAMPLED = tuple(TESTS)[:-1]
"""Files that the sample is drawn from; of the last one there are known mutants only."""

BY_HAND = "by hand"
"""Operator of the known mutants."""


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
    return [
        start
        for start in range(len(lines) - size + 1)
        if tuple(lines[start : start + size]) == block
    ]


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
    return Mutant(
        file, operator, occurrence, start + 1, before, after, _places(old, before).index(start)
    )


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

    sources = {file: (ROOT / file).read_text(encoding="utf-8") for file in SAMPLED}
    found = [
        (file, *position) for file, source in sources.items() for position in positions(source)
    ]
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
    (ROOT / LIST).write_text(
        f'{{"facts": {json.dumps(facts)},\n"mutants": [\n{lines}\n]}}\n', encoding="utf-8"
    )
    print(f"{len(chosen)} of {len(found)} possible changes in {LIST}")


def read_list() -> tuple[dict, list[Mutant]]:
    """Facts about the list, and the mutants: those known by hand, then the sample."""
    content = json.loads((ROOT / LIST).read_text(encoding="utf-8"))
    known = json.loads((ROOT / KNOWN).read_text(encoding="utf-8"))
    rows = [{"operator": BY_HAND, "occurrence": 0, "place": 0, **row} for row in known] + content[
        "mutants"
    ]
    return content["facts"], [
        Mutant(**{**row, "before": tuple(row["before"]), "after": tuple(row["after"])})
        for row in rows
    ]


def equivalent_reasons() -> dict[tuple, str]:
    """Why a mutant changes nothing, by (file, operator, lines before, lines after), each line without its indent."""
    rows = json.loads((ROOT / EQUIVALENT).read_text(encoding="utf-8"))
    return {
        (row["file"], row["operator"], row["before"], row["after"]): row["reason"] for row in rows
    }


def equivalence_key(mutant: Mutant) -> tuple:
    """As `equivalent_reasons` has it: it does not depend on the line's number."""
    before, after = (
        "\n".join(line.strip() for line in lines) for lines in (mutant.before, mutant.after)
    )
    return mutant.file, mutant.operator, before, after
