"""Damaged files: `python -m tests.structures.fuzz --count=5000`. Each is used, or named with file, row and field.

A seed gives the same damage everywhere. What is neither used nor named, raises something else, or takes more than
ten seconds of a processor is a failure; the file that does it is kept.
"""

from __future__ import annotations

import argparse
import json
import signal
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import write
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter

from vdw_jax.structures.errors import DataError
from vdw_jax.structures.load import load_structures

LONGEST_S = 10
KINDS = ("cif", "csv", "extxyz", "json")

ODD = (
    "", "nan", "NaN", "inf", "-inf", "1e999", "1e30", "-1e-30", "0", "-1", "99999999999999999999", "1.2.3", "?", ".",
    "Qq", "X", "D", "Uuo", "0x10", "1_0", "(", "'", '"', "\t", "_cell_length_a", "loop_", "data_x", ";", "#", "é",
    "\x00", "x,y,z", "Ga3+", "3.9(2)", "1/0", "{}", "[]", "null", "true", "\U0001f600",
)  # fmt: skip
"""What takes the place of a field."""


def valid_structures() -> list[Structure]:
    """A slab, two crystals of higher symmetry, and an oblique cell."""
    hexagonal = Lattice.hexagonal(3.8, 28.0)
    heights = [0.30, 0.36, 0.45, 0.51, 0.63, 0.69, 0.78, 0.84]
    sites = [[1 / 3, 2 / 3], [2 / 3, 1 / 3], [2 / 3, 1 / 3], [1 / 3, 2 / 3]] * 2
    species = ["Se", "Ga", "In", "S", "S", "Ga", "Al", "Te"]
    slab = Structure(hexagonal, species, [[*site, z] for site, z in zip(sites, heights, strict=True)])
    sites = [[0, 0, 0], [0.305, 0.305, 0]]
    rutile = Structure.from_spacegroup("P4_2/mnm", Lattice.tetragonal(4.59, 2.96), ["Ti", "O"], sites)
    corners = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    perovskite = Structure(Lattice.cubic(3.9), ["Sr", "Ti", "O", "O", "O"], corners)
    lattice = Lattice.from_parameters(4.1, 5.2, 6.3, 80, 95, 110)
    oblique = Structure(lattice, ["Ga", "Se"], [[0.1, 0.2, 0.3], [0.6, 0.5, 0.7]])
    return [slab, rutile, perovskite, oblique]


class Damage:
    """Random damage to a text, of one kind at a time."""

    def __init__(self, seed: int):
        self._random = np.random.RandomState(seed)

    def pick(self, items):
        """One of a sequence."""
        return items[self._random.randint(len(items))]

    def __call__(self, text: str) -> bytes:
        """One to three damages, the last one perhaps of the bytes."""
        for _ in range(self._random.randint(1, 4)):
            text = self.pick((self._field, self._field, self._line, self._cut, self._letters))(text)
        content = text.encode("utf-8", "surrogatepass")
        return self._bytes(content) if self._random.rand() < 0.15 else content

    def _field(self, text: str) -> str:
        """A word is deleted, doubled, replaced, or made huge."""
        lines = text.split("\n")
        row = self._random.randint(len(lines))
        separator = "," if "," in lines[row] else " "
        words = lines[row].split(separator)
        place = self._random.randint(len(words))
        word, odd = words[place], self.pick(ODD)
        words[place : place + 1] = self.pick(([], [word, word], [odd], [odd], [word + "9" * 30], ["-" + word]))
        lines[row] = separator.join(words)
        return "\n".join(lines)

    def _line(self, text: str) -> str:
        """A line is deleted, doubled, or swapped with another."""
        lines = text.split("\n")
        first, second = self._random.randint(len(lines), size=2)
        kind = self._random.randint(3)
        if kind == 0:
            del lines[first]
        elif kind == 1:
            lines.insert(second, lines[first])
        else:
            lines[first], lines[second] = lines[second], lines[first]
        return "\n".join(lines)

    def _cut(self, text: str) -> str:
        """The file ends early, or begins late, or has a hole."""
        first, last = sorted(self._random.randint(len(text) + 1, size=2))
        return self.pick((text[:first], text[last:], text[:first] + text[last:], text[: len(text) - len(text) // 10]))

    def _letters(self, text: str) -> str:
        """Some characters are others."""
        letters = list(text)
        for place in self._random.randint(max(len(letters), 1), size=self._random.randint(1, 8)):
            if letters:
                letters[place] = self.pick("0123456789.-+eE '\",;_#\n\tabcXYZ")
        return "".join(letters)

    def _bytes(self, content: bytes) -> bytes:
        """No UTF-8 any more, or UTF-16, or nothing."""
        place = self._random.randint(len(content) + 1)
        noise = self._random.bytes(self._random.randint(1, 9))
        broken = content[:place] + noise + content[place + len(noise) :]
        wide = content.decode("utf-8", "replace").encode("utf-16")
        return self.pick((broken, broken, wide, b"", b"\x1f\x8b" + content))

    def leaf(self, text: str) -> bytes:
        """A value somewhere in a JSON document is deleted, doubled or replaced; what comes out is still JSON."""
        document = json.loads(text)
        here = document
        while True:
            key = self.pick(sorted(here) if isinstance(here, dict) else range(len(here)))
            if not isinstance(here[key], dict | list) or not here[key] or self._random.rand() < 0.15:
                break
            here = here[key]
        kind = self._random.randint(4)
        if kind == 0:
            del here[key]
        elif kind == 1 and isinstance(here, list):
            here.insert(key, here[key])
        else:
            here[key] = self.pick((self.pick(ODD), None, float("nan"), -1e300, 10**400, [], {}, True, [[1.0]]))
        return json.dumps(document).encode("utf-8", "surrogatepass")


def valid_texts(folder: Path) -> dict[str, list[str]]:
    """Good files of each kind."""
    structures = valid_structures()
    cifs = [str(CifWriter(structure)) for structure in structures]
    cifs += [str(CifWriter(structure, symprec=0.01)) for structure in structures[1:3]]  # to be read by pymatgen
    table = "material_id,energy,note,cif\n" + "".join(
        f'm{place},{-0.1 * place},"good, as it is","{cif}"\n' for place, cif in enumerate(cifs[:4])
    )
    frames = folder / "good.extxyz"
    atoms = [
        Atoms(s.atomic_numbers, s.cart_coords, cell=s.lattice.matrix, pbc=True, info={"id": f"m{i}", "gap": 0.1 * i})
        for i, s in enumerate(structures)
    ]
    write(frames, atoms)
    entries = [{"structure": s.as_dict(), "data": {"gap": 0.1}, "entry_id": f"m{i}"} for i, s in enumerate(structures)]
    return {
        "cif": cifs,
        "csv": [table],
        "extxyz": [frames.read_text()],
        "json": [json.dumps(entries[:2], indent=1), json.dumps({"a": entries[2]["structure"]})],
    }


def outcome(path: Path) -> str:
    """ "used", "named" or "unusable"; raises on everything that should not be."""
    try:
        dataset, problems = load_structures(path, on_error="skip", use_cache=False)
    except DataError as error:
        assert str(path) in str(error) and len(str(error)) > len(str(path)) + 5, f"the message names nothing: {error}"
        return "unusable"
    for problem in problems:
        assert problem.file == str(path) and problem.field and problem.reason and problem.advice, problem
    assert len(dataset) + len(problems) > 0, "neither used nor named"
    real = dataset.atomic_numbers > 0
    assert real.any(1).all() and np.isfinite(dataset.positions).all() and np.isfinite(dataset.cell).all()
    return "named" if problems else "used"


class TooSlow(BaseException):
    """No Exception, so that nobody on the way catches it."""


def _too_slow(*_) -> None:
    raise TooSlow(f"longer than {LONGEST_S} s")


def run(count: int, seed: int, folder: Path, kinds=KINDS, on_step: Callable[[int], None] = lambda _: None) -> Counter:
    """Damages `count` files and reads each; what came out, by kind.

    Raises:
        AssertionError: what is wrong with the first file that fails; it is left in `folder`.
    """
    warnings.simplefilter("ignore")
    texts, damage, found = valid_texts(folder), Damage(seed), Counter()
    previous = signal.signal(signal.SIGPROF, _too_slow)
    try:
        for number in range(count):
            kind = kinds[number % len(kinds)]
            path = folder / f"damaged-{number}.{kind}"
            hurt = damage.leaf if kind == "json" and number % 3 else damage
            path.write_bytes(hurt(damage.pick(texts[kind])))
            signal.setitimer(signal.ITIMER_PROF, LONGEST_S)
            try:
                found[f"{kind} {outcome(path)}"] += 1
            except (Exception, TooSlow) as error:
                raise AssertionError(f"seed {seed}, {path}: {type(error).__name__}: {error}") from error
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
            path.unlink()
            on_step(number)
    finally:
        signal.signal(signal.SIGPROF, previous)
    return found


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    given = parser.parse_args()
    started = time.monotonic()

    def show(number: int) -> None:
        if (number + 1) % 500 == 0:
            left = (time.monotonic() - started) / (number + 1) * (given.count - number - 1)
            print(f"{number + 1}/{given.count}  {left:.0f} s left", flush=True)

    found = run(given.count, given.seed, Path(tempfile.mkdtemp(prefix="fuzz-")), given.kinds, show)
    for name, times in sorted(found.items()):
        print(f"{name:18s} {times}")
    print(f"{sum(found.values())} damaged files, none unaccounted for, {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
