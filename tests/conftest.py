"""What every test shares: numpy raises on every floating-point fault, and where real data may be found."""

import os
from pathlib import Path

import numpy as np
import pytest

PROJECT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _numpy_raises():
    with np.errstate(divide="raise", over="raise", invalid="raise"):
        yield


@pytest.fixture(scope="session")
def real_data():
    """Give a function that returns the path of a real data file, or skips with the reason."""

    def find(name: str) -> Path:
        folder = Path(os.environ.get("NPSI_TWIN_REAL_DATA", PROJECT.parent / "shared" / "data"))
        path = folder / name
        if not path.is_file():
            pytest.skip(f"real data {name} is neither in ../shared/data nor in NPSI_TWIN_REAL_DATA")
        return path

    return find
