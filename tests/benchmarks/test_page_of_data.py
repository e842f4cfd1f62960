"""A page of the relaxed data."""

from benchmarks.page import page_of_data


def test_page_of_data():
    page = page_of_data(3)
    assert all(f'"s000{place}"' in page for place in range(3))
    assert page == page_of_data(3) != page_of_data(3, seed=1)
    assert '"training":[' in page and "Candidates for formation energy −0.1 eV, gap 3 Å" in page
