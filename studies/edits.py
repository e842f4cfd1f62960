"""Edits that know the format of a structure file: what people, programs and conversions really do to one.

Each takes a text and a random source and gives a text. Some are harmless, some make the file wrong, and some make
it another crystal: which of it is for the readers to tell.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import numpy as np

Random = np.random.RandomState
Edit = Callable[[str, Random], str]

SYMBOLS = (
    "OH",
    "Va",
    "Du",
    "Cg",
    "X",
    "M",
    "D",
    "T",
    "ga",
    "GA",
    "Ga3+",
    "In",
    "S",
    "O2-",
    "Lr",
    "Fm",
    "Wat",
    "H",
)
NUMBERS = (
    "?",
    ".",
    "nan",
    "0",
    "1",
    "0.5",
    "-0.3333",
    "1.0(2)",
    "0.333",
    "3.8",
    "38",
    "0.38",
    "1e3",
    "1/3",
    "1,5",
)
OPERATORS = (
    "x,y,z",
    "-x,-y,-z",
    "z,x;y",
    "x,y",
    "-x,y,-z",
    "x+1/2,y,z",
    "x,y,z+0.3333",
    "y,x,z",
    "x,x,z",
    "X,Y,Z",
)
GROUPS = (
    "P 1",
    "P -1",
    "P 4/m m m",
    "F m -3 m",
    "R -3 m",
    "R -3 m :H",
    "R -3 m:R",
    "P m 3- m",
    "F d -3 m",
    "?",
    "C 2/m",
)


def pick(random: Random, items):
    """One of a sequence."""
    return items[random.randint(len(items))]


def _line_with(pattern: str, change: Callable[[list[str], Random], list[str]]) -> Edit:
    """Edits the words of one of the lines that match."""

    def edit(text: str, random: Random) -> str:
        lines = text.split("\n")
        rows = [row for row, line in enumerate(lines) if re.search(pattern, line)]
        if rows:
            row = pick(random, rows)
            lines[row] = " ".join(change(lines[row].split(), random))
        return "\n".join(lines)

    return edit


def _word(place: int | None, values) -> Callable[[list[str], Random], list[str]]:
    def change(words: list[str], random: Random) -> list[str]:
        at = random.randint(len(words)) if place is None else min(place, len(words) - 1)
        return [*words[:at], pick(random, values), *words[at + 1 :]]

    return change


def _scale(words: list[str], random: Random) -> list[str]:
    factor = pick(random, (0.1, 10.0, 100.0, 0.529177, 1.0001))
    return [
        f"{float(word) * factor:.8f}" if re.fullmatch(r"-?\d+\.\d+", word) else word
        for word in words
    ]


def _digits(words: list[str], random: Random) -> list[str]:
    keep = random.randint(1, 5)
    return [re.sub(rf"(\.\d{{{keep}}})\d+", r"\1", word) for word in words]


def _all_digits(text: str, random: Random) -> str:
    keep = random.randint(2, 5)
    return re.sub(rf"(\b0\.\d{{{keep}}})\d+", r"\1", text)


def _drop_line(pattern: str) -> Edit:
    def edit(text: str, random: Random) -> str:
        lines = text.split("\n")
        rows = [row for row, line in enumerate(lines) if re.search(pattern, line)]
        if rows:
            del lines[pick(random, rows)]
        return "\n".join(lines)

    return edit


def _double_line(pattern: str) -> Edit:
    def edit(text: str, random: Random) -> str:
        lines = text.split("\n")
        rows = [row for row, line in enumerate(lines) if re.search(pattern, line)]
        if rows:
            lines.insert(pick(random, rows), lines[pick(random, rows)])
        return "\n".join(lines)

    return edit


_OPERATOR = r"^\s*\d+\s+'[^']*x[^']*,[^']*'"
_SITE = r"^\s*[A-Z][a-z]?[\d+-]*\s+[A-Z][a-z]?\d*\s"


def _identity_only(text: str, _: Random) -> str:
    first = re.search(_OPERATOR + r".*\n", text, re.MULTILINE)
    bare = re.sub(_OPERATOR + r".*\n", "", text, flags=re.MULTILINE)
    return bare[: first.start()] + first[0] + bare[first.start() :] if first else text


def _change_operator(text: str, random: Random) -> str:
    return _line_with(_OPERATOR, lambda words, r: [words[0], f"'{pick(r, OPERATORS)}'"])(
        text, random
    )


def _sign_of_operator(text: str, random: Random) -> str:
    places = [match.start() for match in re.finditer(r"-(?=[xyz])", text)]
    if not places:
        return text
    place = pick(random, places)
    return text[:place] + text[place + 1 :]


def _group(text: str, random: Random) -> str:
    return re.sub(
        r"(_symmetry_space_group_name_H-M\s+).*", lambda m: f"{m[1]}'{pick(random, GROUPS)}'", text
    )


def _formula(text: str, random: Random) -> str:
    formula = pick(
        random, ("'Ga1 Se1'", "'Ti1 O2'", "'Sr1 Ti1 O3'", "?", "'H2 O'", "'Ga Se OH'", "'Ti2 O3'")
    )
    return re.sub(r"(_chemical_formula_sum\s+).*", lambda m: m[1] + formula, text)


def _units(text: str, random: Random) -> str:
    return re.sub(
        r"(_cell_formula_units_Z\s+).*",
        lambda m: m[1] + pick(random, ("1", "2", "3", "?", "0", "-1")),
        text,
    )


def _without(name: str) -> Edit:
    return lambda text, _: re.sub(rf"^_{name}.*\n", "", text, flags=re.MULTILINE)


def _capitals(text: str, _: Random) -> str:
    return re.sub(r"(?<![^\s])_[a-z]\S*", lambda match: match[0].upper(), text)


def _dots(text: str, _: Random) -> str:
    return re.sub(r"_(cell|atom_site)_", r"_\1.", text)


def _two_blocks(text: str, random: Random) -> str:
    return (
        text
        + "\n"
        + pick(random, (text, text.replace("data_", "data_b"), "data_empty\n_journal_year 1998\n"))
    )


CIF: dict[str, Edit] = {
    "operator dropped": _drop_line(_OPERATOR),
    "operator doubled": _double_line(_OPERATOR),
    "operator changed": _change_operator,
    "operator sign lost": _sign_of_operator,
    "identity only": _identity_only,
    "space group renamed": _group,
    "space group number": _line_with(
        r"Int_Tables_number", _word(1, ("1", "2", "136", "166", "225", "?", "999"))
    ),
    "formula changed": _formula,
    "formula removed": _without("chemical_formula_sum"),
    "units changed": _units,
    "units removed": _without("cell_formula_units_Z"),
    "occupancy": _line_with(_SITE, _word(6, (".", "?", "0.5", "0", "1.0(1)", "1.2"))),
    "multiplicity": _line_with(_SITE, _word(2, (".", "?", "2", "4", "8"))),
    "symbol": _line_with(_SITE, _word(0, SYMBOLS)),
    "label": _line_with(_SITE, _word(1, SYMBOLS)),
    "coordinate": _line_with(_SITE, lambda w, r: _word(3 + r.randint(3), NUMBERS)(w, r)),
    "digits of a site": _line_with(_SITE, _digits),
    "digits of the file": _all_digits,
    "site dropped": _drop_line(_SITE),
    "site doubled": _double_line(_SITE),
    "column dropped": _drop_line(r"^\s*_atom_site_"),
    "column doubled": _double_line(r"^\s*_atom_site_"),
    "cell value": _line_with(r"^_cell_(length|angle)", _word(1, NUMBERS + ("90", "120", "60"))),
    "cell in other units": _line_with(r"^_cell_length", _scale),
    "cell value doubled": _double_line(r"^_cell_"),
    "capitals": _capitals,
    "dots": _dots,
    "blocks": _two_blocks,
}

_ATOM = r"^\s*[A-Z][a-z]?\s+-?\d+\.\d+\s"


def _lattice(text: str, random: Random) -> str:
    """Skews, scales, or turns round one lattice."""
    found = list(re.finditer(r'Lattice="([^"]*)"', text))
    if not found:
        return text
    one = pick(random, found)
    cell = np.array(one[1].split(), float).reshape(3, 3)
    steps = random.randint(-6, 7, size=2)
    kind = random.randint(4)
    if kind == 0:
        cell[1] += steps[0] * cell[0]
    elif kind == 1:
        cell[2] += steps[0] * cell[0] + steps[1] * cell[1]
    elif kind == 2:
        cell *= pick(random, (0.1, 10.0, 1.02, 0.529177))
    else:
        cell = cell[[1, 0, 2]]
    written = " ".join(f"{x:.8f}" for x in cell.ravel())
    return text[: one.start(1)] + written + text[one.end(1) :]


def _periods(text: str, random: Random) -> str:
    return re.sub(
        r'pbc="[^"]*"',
        lambda _: f'pbc="{pick(random, ("T T F", "T T T", "F F F", "T F T", "1 1 0"))}"',
        text,
    )


def _columns(text: str, random: Random) -> str:
    said = pick(
        random,
        (
            "species:S:1:pos:R:2",
            "pos:R:3:species:S:1",
            "species:S:1:pos:R:3:pos:R:3",
            "symbols:S:1:pos:R:3",
        ),
    )
    return text.replace("species:S:1:pos:R:3", said, 1)


EXTXYZ: dict[str, Edit] = {
    "count": _line_with(r"^\d+\s*$", _word(0, ("0", "1", "7", "9", "-8", "8.0", "999999999"))),
    "symbol": _line_with(_ATOM, _word(0, SYMBOLS)),
    "coordinate": _line_with(_ATOM, lambda w, r: _word(1 + r.randint(3), NUMBERS)(w, r)),
    "digits": _line_with(_ATOM, _digits),
    "atom dropped": _drop_line(_ATOM),
    "atom doubled": _double_line(_ATOM),
    "lattice": _lattice,
    "lattice dropped": lambda text, _: re.sub(r'Lattice="[^"]*"', "", text, count=1),
    "lattice value": lambda text, r: re.sub(
        r'(Lattice=")\S+', lambda m: m[1] + pick(r, NUMBERS), text, count=1
    ),
    "periods": _periods,
    "columns": _columns,
    "key doubled": lambda text, _: text.replace(" gap=", " gap=7 gap=", 1),
    "units": _line_with(_ATOM, _scale),
}


def _json(change: Callable[[dict, Random], None]) -> Edit:
    def edit(text: str, random: Random) -> str:
        document = json.loads(text)
        item = pick(random, document if isinstance(document, list) else list(document.values()))
        change(item.get("structure", item), random)
        return json.dumps(document)

    return edit


def _json_symbol(structure: dict, random: Random) -> None:
    pick(random, structure["sites"])["species"][0]["element"] = pick(random, SYMBOLS)


def _json_occupancy(structure: dict, random: Random) -> None:
    pick(random, structure["sites"])["species"][0]["occu"] = pick(
        random, (0.5, 0, None, "1", 1.0, 2)
    )


def _json_matrix(structure: dict, random: Random) -> None:
    lattice = structure["lattice"]
    kind = random.randint(4)
    if kind == 0:
        lattice["matrix"] = (np.array(lattice["matrix"]) * pick(random, (0.1, 10, 1.02))).tolist()
    elif kind == 1:
        lattice["matrix"][1] = (
            np.array(lattice["matrix"][1]) + 6 * np.array(lattice["matrix"][0])
        ).tolist()
    elif kind == 2:
        lattice["matrix"][random.randint(3)][random.randint(3)] = pick(random, ("1", None, 3.0, 0))
    else:
        lattice["a"] = 99.0


def _json_place(structure: dict, random: Random) -> None:
    site = pick(random, structure["sites"])
    site[pick(random, ("abc", "xyz"))] = pick(
        random, ([0.1, 0.2, 0.3], [0.1, 0.2], None, ["0.1", "0.2", "0.3"], [9, 9, 9])
    )


def _json_sites(structure: dict, random: Random) -> None:
    sites = structure["sites"]
    place = random.randint(len(sites))
    if random.randint(2):
        del sites[place]
    else:
        sites.append(sites[place])


JSON: dict[str, Edit] = {
    "symbol": _json(_json_symbol),
    "occupancy": _json(_json_occupancy),
    "lattice": _json(_json_matrix),
    "place": _json(_json_place),
    "sites": _json(_json_sites),
    "module": _json(lambda structure, _: structure.update({"@module": "os", "@class": "system"})),
    "lattice dropped": _json(lambda structure, _: structure.pop("lattice")),
}


def _in_a_row(edit: Edit) -> Edit:
    """Edits one of the CIFs of a table."""

    def edited(text: str, random: Random) -> str:
        found = list(re.finditer(r'"(# generated[^"]*)"', text))
        if not found:
            return text
        one = pick(random, found)
        return text[: one.start(1)] + edit(one[1], random) + text[one.end(1) :]

    return edited


CSV: dict[str, Edit] = {f"cif: {name}": _in_a_row(edit) for name, edit in CIF.items()} | {
    "separator": lambda text, _: text.replace(
        "material_id,energy,note,cif", "material_id;energy;note;cif"
    ),
    "header": lambda text, r: text.replace(
        "energy,", pick(r, ("energy,energy,", ",", "cif,", "")), 1
    ),
    "value": lambda text, r: re.sub(
        r",-0\.1,", f",{pick(r, ('N/A', '-', 'nan', '1,2', '=1+1', '1e999'))},", text
    ),
    "id": lambda text, r: re.sub(
        r"\nm1,", f"\n{pick(r, ('m0', '', '../m1', 'm' * 400, '7'))},", text
    ),
    "quotes": lambda text, _: text.replace('"# generated', "# generated", 1),
}

_COORDINATES = r"^\s*-?\d+\.\d+\s+-?\d+\.\d+\s+-?\d+\.\d+\s*$"


def _poscar_line(place: int, values) -> Edit:
    def edit(text: str, random: Random) -> str:
        lines = text.split("\n")
        lines[place] = pick(random, values)
        return "\n".join(lines)

    return edit


POSCAR: dict[str, Edit] = {
    "scale": _poscar_line(1, ("1.0", "-300", "0.5", "1 1 2", "0", "one", "-1", "2")),
    "elements": _poscar_line(
        5, ("Ga Se", "OH Se", "Ga", "Ga Se In", "D Se", "Ti O", "Sr Ti O", "")
    ),
    "no elements": lambda text, _: "\n".join([*text.split("\n")[:5], *text.split("\n")[6:]]),
    "counts": _poscar_line(6, ("1 1", "2 4", "3", "1 1 1", "0 1", "x", "1 -1", "9 9")),
    "mode": lambda text, r: re.sub(
        r"(?m)^direct$", pick(r, ("Cartesian", "Direct", "Fractional", "k", "")), text
    ),
    "selective": lambda text, r: re.sub(
        r"(?m)^direct$", pick(r, ("Selective dynamics\nDirect", "S\nC")), text
    ),
    "coordinate": _line_with(_COORDINATES, _word(None, NUMBERS)),
    "line dropped": _drop_line(_COORDINATES),
    "line doubled": _double_line(_COORDINATES),
    "velocities": lambda text, _: text.rstrip("\n") + "\n\n0.0 0.0 0.0\n0.0 0.0 0.0\n",
    "units": _line_with(_COORDINATES, _scale),
}

EDITS: dict[str, dict[str, Edit]] = {
    "cif": CIF,
    "csv": CSV,
    "extxyz": EXTXYZ,
    "json": JSON,
    "poscar": POSCAR,
}
