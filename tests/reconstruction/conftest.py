"""Scans with closed-form line integrals, made by the oracle only."""

from collections.abc import Callable

import numpy as np
import pytest

from npsi_twin.projectors.analytic import DiskBand, Ellipse, line_integrals
from npsi_twin.scan import ParallelBeam, Scan

COPPER_PER_UM = 0.0471


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    """Keep SIRT-FBP filters of tests out of the user's cache, and share them between tests."""
    folder = tmp_path_factory.getbasetemp() / "filters"
    monkeypatch.setenv("NPSI_TWIN_CACHE", str(folder))


def needle_shapes(radius_nm: float, seed: int = 3) -> list[DiskBand | Ellipse]:
    """A copper foil in the lower part of a needle, a thin layer on it and a few particles: no symmetry to lean on."""
    rng = np.random.default_rng(seed)
    top = 0.1 * radius_nm
    shapes: list[DiskBand | Ellipse] = [
        DiskBand((0.0, 0.0), radius_nm, (top, np.inf), COPPER_PER_UM),
        DiskBand((0.0, 0.0), radius_nm, (top - 0.3 * radius_nm, top), 0.13 * COPPER_PER_UM),
    ]
    for _ in range(12):
        x, y = radius_nm * rng.uniform(-0.6, 0.6), radius_nm * rng.uniform(-0.7, 0.0)
        a = radius_nm * rng.uniform(0.03, 0.1)
        shapes.append(Ellipse((x, y), (a, 0.6 * a), 0.02, rng.uniform(0, np.pi)))
    return shapes


def needle_beam(columns=128, views=181, axis=None, endpoint=False, pixel_nm=100.0, shift_px=None) -> ParallelBeam:
    angles = np.linspace(0, np.pi, views, endpoint=endpoint)
    return ParallelBeam(angles, columns, pixel_nm, (columns - 1) / 2 if axis is None else axis, shift_px)


@pytest.fixture
def needle() -> Callable[..., tuple[np.ndarray, ParallelBeam]]:
    """Return sinograms (1, view, column) and their geometry."""

    def made(fill=0.8, **beam_words):
        beam = needle_beam(**beam_words)
        radius = fill * beam.columns * beam.pixel_nm / 2
        return line_integrals(needle_shapes(radius), beam)[None].astype(np.float32), beam

    return made


@pytest.fixture
def counts() -> Callable[..., Scan]:
    """Return a scan whose counts are flat * exp(-line integral) + dark, exactly."""

    def made(integrals, beam, *, gain=None, dark=100.0, flat=10_000.0, first_row=0):
        rows, _, columns = integrals.shape
        light = np.full((rows, columns), flat) if gain is None else flat * gain
        frames = light[None] * np.exp(-integrals.transpose(1, 0, 2).astype(np.float64)) + dark
        darks = np.full((3, rows, columns), float(dark))
        unknown = ParallelBeam(beam.angles_rad, beam.columns, beam.pixel_nm, None, beam.column_shift_px)
        return Scan(frames, np.repeat(light[None] + dark, 3, axis=0), darks, unknown, first_row=first_row)

    return made


@pytest.fixture
def tooth(real_data) -> Scan:
    """The real tooth of TomoPy's documentation: 181 views over 180 degrees without the end point, 2 rows."""
    import h5py

    with h5py.File(real_data("tooth.h5")) as file:
        group = file["exchange"]
        beam = ParallelBeam(np.deg2rad(group["theta"][:]), group["data"].shape[2], 1000.0)
        return Scan(group["data"][:], group["data_white"][:], group["data_dark"][:], beam)
