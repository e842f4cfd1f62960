"""Makes the page of candidates: `vdw-jax page samples/GaInSSe2-seed0`, or of any file of structures.

Of a folder that `sample.py` wrote, `report.html` is made again from the table and the structures that are there now.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; that of the process by default."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("path", type=Path, help="a folder of samples, or a file or folder of structures")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: report.html in the folder, or NAME.html")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that --out names")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; takes the arguments of the process by default."""
    given = parse_arguments(arguments)
    # The crystal libraries take seconds; --help does without them.
    from vdw_jax.report.candidates import HandoverError
    from vdw_jax.structures.errors import DataError

    try:
        written = write_page(given.path, given.out, overwrite=given.overwrite)
    except (DataError, HandoverError, OSError) as error:
        print(f"page: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    print(written)


def write_page(path: Path, out: Path | None = None, *, overwrite: bool = False) -> Path:
    """Writes the page and returns where it is.

    Args:
      path: what `candidates.read_candidates` takes.
      out: the page of a folder of samples is replaced; any other file only with `overwrite`.

    Raises:
      FileExistsError: there is such a file, and `overwrite` is off.
      DataError, HandoverError: `path` holds nothing that can be shown.
    """
    from vdw_jax.report.candidates import read_candidates, saved_request
    from vdw_jax.report.describe import sample_rows
    from vdw_jax.report.layout import PAGE_NAME, is_samples
    from vdw_jax.report.page import render_page
    from vdw_jax.report.writer import write_text_atomically

    crystals, rows = read_candidates(path, lambda note: print(f"note: {note}", file=sys.stderr))
    own = is_samples(path)
    if not own:
        rows = [row | described for row, described in zip(rows, sample_rows(crystals), strict=True)]
    default = path / PAGE_NAME if path.is_dir() else path.with_name(f"{path.name}.html")
    target = out or default
    if target.exists() and not overwrite and not (own and target == default):
        raise FileExistsError(f"{target} is there; choose another --out, or --overwrite")
    write_text_atomically(target, render_page(crystals, rows, saved_request(path)))
    return target
