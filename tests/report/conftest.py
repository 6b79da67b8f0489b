"""Run folders small enough for a page that is looked at voxel by voxel."""

import h5py
import numpy as np
import pytest

from npsi_twin.report.page import Picture
from npsi_twin.report.slice_viewer import slice_viewer
from npsi_twin.volumes import Phase

SHAPE = (6, 20, 24)


def write_run(folder, shape=SHAPE, parts=("reconstruction", "segmentation", "truth")):
    """Write a foil with silicon on it, and a reconstruction of it that errs."""
    rng = np.random.default_rng(3)
    true = np.zeros(shape, np.uint8)
    true[:, shape[1] // 2 :] = Phase.CURRENT_COLLECTOR
    true[:, shape[1] // 4 : shape[1] // 2] = rng.random((shape[0], shape[1] // 2 - shape[1] // 4, shape[2])) < 0.5
    found = true.copy()
    found[:, shape[1] // 4 : shape[1] // 2, ::3] ^= 1
    mu = np.choose(true, [0.0, 0.015, 0.001, 0.05]).astype(np.float32)
    noisy = mu + rng.normal(0, 0.002, shape).astype(np.float32)
    arrays = {
        "truth": {"phase": true, "attenuation_per_um": mu},
        "reconstruction": {"attenuation_per_um": noisy},
        "segmentation": {"phase": found},
    }
    for part in parts:
        with h5py.File(folder / f"{part}.h5", "w") as file:
            for name, values in arrays[part].items():
                file[name] = values
    return arrays


def still(folder):
    path = folder / "still.png"
    path.write_bytes(b"\x89PNG")
    return Picture(path, "Still", "for paper")


def viewer(folder, **changes):
    how = {"name": "attenuation_per_um", "unit": "1/um", "voxel_nm": 50.0} | changes
    return slice_viewer(folder, still=still(folder), **how)


@pytest.fixture(scope="session", name="write_run")
def _write_run():
    return write_run


@pytest.fixture(scope="session", name="still")
def _still():
    return still


@pytest.fixture(scope="session", name="viewer")
def _viewer():
    return viewer
