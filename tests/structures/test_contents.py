"""Files that hold too much, or are none: refused in one line, before memory or time is spent on
them.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from vdw_jax.structures import contents, extxyz_reader, json_reader, scan, table
from vdw_jax.structures.contents import as_text, read_content
from vdw_jax.structures.dataset import CrystalDataset
from vdw_jax.structures.errors import DataError
from vdw_jax.structures.load import load_structures, read_crystals


def read(path):
    return load_structures(path, on_error="skip", use_cache=False)


@pytest.mark.parametrize(
    "name", ["a.cif", "a.csv", "a.extxyz", "a.json", "a.db", "a.npz", "a.vasp"]
)
def test_a_pipe_is_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(DataError, match="a pipe or a device"):
        read(tmp_path / name)
    with pytest.raises(DataError, match="a pipe or a device"):
        load_structures(tmp_path / name, cache_dir=tmp_path / "cache")


def test_a_device_is_no_file(tmp_path):
    (tmp_path / "zero.csv").symlink_to("/dev/zero")
    with pytest.raises(DataError, match="a pipe or a device"):
        read(tmp_path / "zero.csv")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="tells the peak of a process")
def test_a_packed_bomb_is_not_unpacked(tmp_path):
    """300 MiB of one letter pack into 300 KiB; the process may take 1 GiB more than it has."""
    with gzip.open(tmp_path / "bomb.extxyz.gz", "wb", compresslevel=1) as file:
        for _ in range(300):
            file.write(b"a" * 2**20)
    script = (
        "import sys\n"
        "from vdw_jax.structures.contents import read_content\n"
        "from pathlib import Path\n"
        "try:\n    read_content(Path(sys.argv[1]))\n"
        "except ValueError as error:\n    print(error)\n"
        # Not ru_maxrss: a new process begins with that of the one that started it.
        "lines = Path('/proc/self/status').read_text().splitlines()\n"
        "peak = next(int(line.split()[1]) for line in lines if line.startswith('VmHWM'))\n"
        "print(peak < 1_300_000)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "bomb.extxyz.gz"], capture_output=True, text=True
    )
    assert "more than 256 MiB unpacked. Split it" in done.stdout and done.stdout.endswith(
        "True\n"
    ), done


def test_a_file_may_have_as_much_as_is_allowed_and_no_more(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 100)
    assert len(read_content(tmp_path / "a", most_bytes=100)) == 100
    with pytest.raises(DataError, match="more than"):
        read_content(tmp_path / "a", most_bytes=99)


def test_100_000_columns(tmp_path):
    for count, message in (
        (100_001, "line 1 has 100002 commas"),
        (2001, "2003 columns; at most 2000"),
    ):
        names = ",".join(f"x{place}" for place in range(count))
        (tmp_path / "a.csv").write_text(f"material_id,cif,{names}\n")
        with pytest.raises(DataError, match=message):
            read(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text("material_id,cif\n" + "," * 1_000_000)
    with pytest.raises(DataError, match="line 2 has 1000000 commas"):
        read(tmp_path / "b.csv")


def test_an_endless_line(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "LONGEST_CELL", 1000)
    (tmp_path / "a.csv").write_text("material_id,cif\nm1," + "x" * 2000)
    with pytest.raises(DataError, match="line 2 has more than 1000 characters"):
        read(tmp_path / "a.csv")
    monkeypatch.setattr(extxyz_reader, "LONGEST_LINE", 1000)
    (tmp_path / "a.extxyz").write_text(
        '1\nLattice="9 0 0 0 9 0 0 0 9" note=' + "x" * 2000 + "\nH 0 0 0\n"
    )
    assert "at most 1000 are read" in read(tmp_path / "a.extxyz")[1][0].reason
    (tmp_path / "b.extxyz").write_text(
        '1\nLattice="9 0 0 0 9 0 0 0 9"\nH 0 0 0' + " 1" * 1000 + "\n"
    )
    assert "a line of more than 1000 characters" in read(tmp_path / "b.extxyz")[1][0].reason


def test_json_that_is_deep_or_wide(tmp_path, monkeypatch):
    (tmp_path / "deep.json").write_text("[" * 100_000 + "]" * 100_000)
    with pytest.raises(DataError, match="not JSON"):
        read(tmp_path / "deep.json")
    monkeypatch.setattr(json_reader, "MOST_MEMORY", 100_000)
    (tmp_path / "wide.json").write_text(json.dumps([[]] * 1000))
    with pytest.raises(DataError, match="as JSON it needs about"):
        read(tmp_path / "wide.json")


def test_json_of_too_many_items(tmp_path, monkeypatch):
    monkeypatch.setattr(json_reader, "MOST_STRUCTURES", 8)
    (tmp_path / "a.json").write_text("[" + ",".join(["0.5"] * 9) + "]")
    with pytest.raises(DataError, match="more than 8 structures"):
        read(tmp_path / "a.json")


def test_too_many_structures_or_values(tmp_path, monkeypatch):
    frame = '1\nLattice="9 0 0 0 9 0 0 0 9" id=m{} one=1 two=2\nH 0 0 0\n'
    (tmp_path / "a.extxyz").write_text("".join(frame.format(place) for place in range(9)))
    assert len(read(tmp_path / "a.extxyz")[0]) == 9
    monkeypatch.setattr(scan, "MOST_STRUCTURES", 8)
    with pytest.raises(DataError, match="more than 8 structures"):
        read(tmp_path / "a.extxyz")
    monkeypatch.setattr(scan, "MOST_VALUES", 10)
    with pytest.raises(DataError, match="more than 10 values"):
        read_crystals(tmp_path / "a.extxyz")


def save_npz(path, **arrays):
    flat = {
        "ids": np.array(["a"]),
        "atomic_numbers": np.array([[1]], np.int16),
        "positions": np.zeros((1, 1, 3), "f4"),
        "cell": np.eye(3, dtype="f4")[None] * 9,
        "periodicity": np.array([True] * 3),
    }
    np.savez(path, **(flat | arrays))
    return path


def test_saved_data_sets_that_are_bombs_or_pickles(tmp_path, monkeypatch):
    assert len(CrystalDataset.load(save_npz(tmp_path / "good.npz"))) == 1
    pickled = save_npz(tmp_path / "pickled.npz", **{"metadata/x": np.array([{}], object)})
    with pytest.raises(DataError, match="not a saved data set"):
        CrystalDataset.load(pickled)

    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        head, {"descr": "<f4", "fortran_order": False, "shape": (10**12,)}
    )
    with zipfile.ZipFile(save_npz(tmp_path / "lies.npz"), "a") as archive:
        archive.writestr("scalars/x.npy", head.getvalue())
    with pytest.raises(DataError, match="its size is not that of its shape"):
        CrystalDataset.load(tmp_path / "lies.npz")

    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("scalars/x.npy", b"\0" * (2 << 20))
    monkeypatch.setattr("vdw_jax.structures.arrays.MOST_BYTES", 1 << 20)
    with pytest.raises(DataError, match="2 MiB, more than 1 MiB"):
        CrystalDataset.load(tmp_path / "bomb.npz")


@pytest.mark.parametrize(
    "arrays",
    [
        {"scalars/x": np.array(["text"])},
        {"atomic_numbers": np.array([[101]], np.int16)},
        {"atomic_numbers": np.array([[-1]], np.int16)},
        {"positions": np.full((1, 1, 3), np.nan, "f4")},
        {"periodicity": np.array([1.0, 1.0, 1.0])},
        {"ids": np.array([7])},
    ],
    ids=["text as scalar", "element 101", "element -1", "no position", "periods", "ids"],
)
def test_saved_data_sets_of_other_kinds(tmp_path, arrays):
    with pytest.raises(DataError, match="not a saved data set"):
        CrystalDataset.load(save_npz(tmp_path / "a.npz", **arrays))


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1"]
)
def test_encodings(tmp_path, encoding):
    text = "Lattice of GaSe, found by Müller; a = 3.75\n" * 3
    assert as_text(tmp_path, text.encode(encoding)) == text


def test_text_that_is_not_what_its_first_bytes_say(tmp_path):
    with pytest.raises(DataError, match="its text is not UTF-16"):
        as_text(tmp_path, b"\xff\xfea")
    assert contents.as_text(tmp_path, b"") == ""
