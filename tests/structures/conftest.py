from pathlib import Path

import pytest

from vdw_jax.structures.dataset import CrystalDataset
from vdw_jax.structures.j2dh8 import build_j2dh8
from vdw_jax.structures.quintuple import build_iii_vi

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def j2dh8() -> CrystalDataset:
    return build_j2dh8()


@pytest.fixture(scope="session")
def iii_vi() -> CrystalDataset:
    return build_iii_vi()


@pytest.fixture
def shared_csv():
    def find(name: str) -> Path:
        path = REPOSITORY.parent / "shared" / "data" / name
        if not path.exists():
            pytest.skip(f"no shared data file {name}")
        return path

    return find
