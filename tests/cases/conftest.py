"""Small inputs that were once read or answered wrongly, each with what is right; skipped where they are not beside
the repository. The other folders hold tests of each kind that need no such files."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

CASES = Path(__file__).parents[3] / "shared" / "cases"


@dataclass(frozen=True)
class Answer:
    """What a command said."""

    code: int
    out: str
    err: str


@pytest.fixture
def case() -> Callable[[str], Path]:
    """Folder of a case by the number it begins with, as in `case("01")`."""

    def find(number: str) -> Path:
        found = sorted(CASES.glob(f"{number}-*")) if CASES.is_dir() else []
        if not found:
            pytest.skip(f"no case {number} beside the repository")
        return found[0]

    return find


@pytest.fixture
def run(capsys, monkeypatch) -> Callable[..., Answer]:
    """Runs `main()` of a command in this process: `run(check.main, path, "--max_atoms=200")`."""

    def call(main: Callable[[], None], *arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as stopped:
            if isinstance(stopped.code, str):
                print(stopped.code, file=sys.stderr)
            code = stopped.code if isinstance(stopped.code, int) else int(stopped.code is not None)
        said = capsys.readouterr()
        return Answer(code, said.out, said.err)

    return call
