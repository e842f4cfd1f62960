"""`vdw-jax page`: the page of a folder of samples made again, and of a file of structures."""

import pytest
from ase.io import write

from tests.report.conftest import candidates, gas_on_inse
from vdw_jax.commands.page import main, write_page
from vdw_jax.report.writer import write_samples


def test_the_page_of_samples_is_made_again(tmp_path):
    folder = write_samples(tmp_path / "samples", *candidates(3), extra={"report.html": "old"})
    assert write_page(folder) == folder / "report.html"
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page != "old" and all(f"s000{place}" in page for place in range(3))


def test_a_file_of_structures_gets_a_page_of_its_own(tmp_path):
    path = tmp_path / "mine.extxyz"
    atoms = gas_on_inse().to_ase()
    atoms.info = {"id": "first", "gap": 1.25}
    write(path, [atoms], format="extxyz")
    assert write_page(path) == tmp_path / "mine.extxyz.html"
    page = (tmp_path / "mine.extxyz.html").read_text(encoding="utf-8")
    assert '"first"' in page and "1.25" in page and "SGaGaS / SeInInSe" in page
    with pytest.raises(FileExistsError, match="mine.extxyz.html is there"):
        write_page(path)
    write_page(path, overwrite=True)


def test_what_is_no_file_of_structures_is_said_in_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([str(tmp_path / "nothing.csv")])
    said = capsys.readouterr().err
    assert stopped.value.code == 2 and said.startswith("page: ") and said.count("\n") == 1
