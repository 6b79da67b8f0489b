"""Scans as beamlines hand them over, each with one thing amiss: one command does what is right, or says what to do."""

import json

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from npsi_twin.cli import app
from npsi_twin.errors import DataError, OutOfRangeWarning
from npsi_twin.projectors.analytic import Ellipse, line_integrals
from npsi_twin.scan import ParallelBeam

VIEWS, ROWS, COLUMNS, PIXEL_NM = 90, 3, 96, 100.0
LIGHT, DARK = 20_000.0, 100.0
BODIES = [
    Ellipse((0.0, 300.0), (2600.0, 2000.0), 0.1),
    Ellipse((700.0, -400.0), (350.0, 300.0), 0.15),
    Ellipse((-1000.0, 600.0), (300.0, 500.0), -0.05, 0.7),
]


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("NPSI_TWIN_CACHE", str(tmp_path_factory.getbasetemp() / "filters"))


def counts_of(*, axis=46.3, turn=np.pi, views=VIEWS, gain=1.0, light=LIGHT, run_out=None, lean=0.0):
    """Return counts (view, row, column) and angles in degrees; 1 % of noise in the clear beam."""
    rng = np.random.default_rng(1)
    angles = turn * np.arange(views) / views
    rows = [
        line_integrals(BODIES, ParallelBeam(angles, COLUMNS, PIXEL_NM, axis + lean * (row - (ROWS - 1) / 2), run_out))
        for row in range(ROWS)
    ]
    lines = np.stack(rows, axis=1)
    beam = ParallelBeam(angles, COLUMNS, PIXEL_NM, axis)
    return rng.poisson(light * np.exp(-lines) * gain) + DARK, np.degrees(beam.angles_rad)


def exchange(path, counts, angles_deg, flat=LIGHT + DARK, **changes):
    """Write a Data Exchange file; a change of None leaves a data set out."""
    frame = (4, ROWS, COLUMNS)
    parts = {"data": counts, "data_white": np.full(frame, flat), "data_dark": np.full(frame, DARK), "theta": angles_deg}
    with h5py.File(path, "w") as file:
        for name, values in (parts | changes).items():
            if values is not None:
                values = np.asarray(values)
                whole = values.astype(np.uint16) if name != "theta" and values.dtype.kind != "f" else values
                file[f"exchange/{name}"] = whole
        file["exchange/theta"].attrs["units"] = "deg"
        file["measurement/instrument/detector/actual_pixel_size_x"] = PIXEL_NM
        file["measurement/instrument/detector/actual_pixel_size_x"].attrs["units"] = "nm"
    return path


def reconstructed(path, *options):
    """Run the one command; return the volume and what the run recorded."""
    out = path.parent / f"{path.stem}-{len(list(path.parent.iterdir()))}"
    words = ["reconstruct", str(path), "--out", str(out), "--algorithm", "fbp", "--json", *options]
    CliRunner().invoke(app, words, catch_exceptions=False)
    with h5py.File(out / "reconstruction.h5") as file:
        volume = file["attenuation_per_um"][()]
    facts = json.loads((out / "run.json").read_text())["stages"]["reconstruct"]
    assert (out / "report.html").is_file()
    return volume, facts


def error_of(volume):
    """Rms departure inside the largest body from the slices that the bodies have, relative to its attenuation."""
    place = (np.arange(COLUMNS) - (COLUMNS - 1) / 2) * PIXEL_NM
    x, y = np.meshgrid(place, place)
    truth, inside = np.zeros(x.shape), np.zeros(x.shape, bool)
    for body in BODIES:
        c, s = np.cos(body.rotation_rad), np.sin(body.rotation_rad)
        u, v = x - body.centre_nm[0], y - body.centre_nm[1]
        radius = np.hypot((u * c + v * s) / body.semi_axes_nm[0], (v * c - u * s) / body.semi_axes_nm[1])
        truth += body.attenuation_per_um * (radius < 1)
        inside |= radius < 1.1
    return float(np.sqrt(np.mean((volume - truth)[:, inside] ** 2)) / 0.1)


#: Noise and voxels cut by edges leave about 0.18; what is amiss must not show beside it.
GOOD = 0.25


def test_an_axis_far_from_the_middle(tmp_path):
    volume, facts = reconstructed(exchange(tmp_path / "a.h5", *counts_of(axis=39.4)))
    assert abs(facts["rotation_axis_px"] - 39.4) < 0.1
    assert error_of(volume) < GOOD


def test_run_out_and_a_leaning_axis_are_found_where_asked(tmp_path):
    """Views that jump by pixels either way, an axis that leans by one pixel a row: 45 degrees."""
    run_out = np.where(np.arange(VIEWS) % 3 == 0, 3.0, -1.5)
    path = exchange(tmp_path / "a.h5", *counts_of(run_out=run_out, lean=1.0))
    as_it_is, facts = reconstructed(path)
    assert not {"run_out_rms_px", "axis_tilt_deg"} & set(facts)
    volume, facts = reconstructed(path, "--align", "across", "--tilt", "fit")
    # A third of the views at 3 and two at -1.5: rms sqrt(4.5), all of it told. The line goes through three rows' axes,
    # each to 0.03 px, so its slope is 1 to 0.02, half a degree at 45; six of these.
    assert abs(facts["run_out_rms_px"] - np.sqrt(4.5)) < 0.1
    assert facts["row_run_out_rms_px"] == 0
    assert abs(facts["axis_tilt_deg"] - 45) < 3
    assert error_of(volume) < GOOD < error_of(as_it_is)


def test_dead_pixels_zingers_saturation_and_nan_are_repaired_and_counted(tmp_path):
    counts, angles = counts_of()
    flats = np.full((4, ROWS, COLUMNS), LIGHT + DARK)
    for column in (20, 51):
        counts[:, 1, column] = flats[:, 1, column] = DARK
    counts[30, 0, 40] += 0.6 * LIGHT
    counts[60, 2, 33] = np.nan
    path = exchange(tmp_path / "a.h5", counts.astype(np.float32), angles, data_white=flats)
    with pytest.raises(DataError, match=r"1 values that are NaN.*\(60, 2, 33\).*--repair"):
        reconstructed(path)
    volume, facts = reconstructed(path, "--repair")
    found = facts["counts"]
    assert (found["bad_pixels"], found["not_finite"], found["zingers"]) == (2, 1, 1)
    assert np.all(np.isfinite(volume))
    assert error_of(volume) < GOOD


def test_a_full_turn_with_heavy_stripes(tmp_path):
    """Column errors of 5 %, ten times what a scintillator makes; both halves of the turn are used."""
    gain = np.exp(0.05 * np.random.default_rng(2).standard_normal(COLUMNS))
    path = exchange(tmp_path / "a.h5", *counts_of(turn=2 * np.pi, views=180, gain=gain))
    volume, facts = reconstructed(path)
    assert abs(facts["rotation_axis_px"] - 46.3) < 0.2
    assert facts["stripes_removed_rms"] > 0.03
    assert error_of(volume) < 2 * GOOD


def test_nxtomo_with_external_links_and_a_decaying_ring(tmp_path):
    counts, angles = counts_of()
    current = np.concatenate([np.full(8, 100.0), 100.0 * np.exp(-np.arange(VIEWS) / VIEWS)])
    counts = (counts - DARK) * (current[8:, None, None] / 100) + DARK
    frames = np.concatenate([np.full((4, ROWS, COLUMNS), DARK), np.full((4, ROWS, COLUMNS), LIGHT + DARK), counts])
    with h5py.File(tmp_path / "raw.h5", "w") as raw:
        raw["frames"] = frames.astype(np.uint16)
    with h5py.File(tmp_path / "a.nxs", "w") as file:
        file["entry/definition"] = "NXtomo"
        at = "entry/instrument/detector"
        file[f"{at}/image_key"] = np.array([2] * 4 + [1] * 4 + [0] * VIEWS)
        file[f"{at}/data"] = h5py.ExternalLink("raw.h5", "/frames")
        for name, values, unit in (
            (f"{at}/x_pixel_size", PIXEL_NM * 1e-9, "m"),
            ("entry/sample/rotation_angle", np.concatenate([np.zeros(8), angles]), "degree"),
            ("entry/control/data", current / 1000, "A"),
        ):
            file[name] = values
            file[name].attrs["units"] = unit
    plain, _ = reconstructed(tmp_path / "a.nxs")
    volume, facts = reconstructed(tmp_path / "a.nxs", "--ring-current")
    assert error_of(volume) < GOOD
    assert error_of(plain) > 2 * GOOD
    assert abs(facts["rotation_axis_px"] - 46.3) < 0.1


def test_flats_of_another_flux_are_noticed_and_scaled_by_the_air(tmp_path):
    path = exchange(tmp_path / "a.h5", *counts_of(), flat=LIGHT / 2.5 + DARK)
    with pytest.raises(OutOfRangeWarning, match="2.50 times as bright as the flats.*--flat-from-air"):
        reconstructed(path)
    volume, _ = reconstructed(path, "--flat-from-air", "6")
    assert error_of(volume) < GOOD


def test_missing_flats_are_made_from_the_air_when_asked(tmp_path):
    path = exchange(tmp_path / "a.h5", *counts_of(), data_white=None)
    with pytest.raises(DataError, match="none are invented.*--flat-from-air"):
        reconstructed(path)
    volume, _ = reconstructed(path, "--flat-from-air", "6")
    assert error_of(volume) < GOOD


def test_missing_darks_are_zero_when_asked(tmp_path):
    path = exchange(tmp_path / "a.h5", *counts_of(), data_dark=None)
    with pytest.raises(DataError, match="--no-darks"):
        reconstructed(path)
    with pytest.warns(OutOfRangeWarning, match="dark level is set to zero"):
        volume, facts = reconstructed(path, "--no-darks")
    assert facts["counts"]["darks_assumed_zero"]
    assert error_of(volume) < GOOD


def test_an_overexposed_scan_is_refused_and_a_few_values_are_warned_of(tmp_path):
    counts, angles = counts_of(light=60_000.0)
    full = np.where(np.random.default_rng(0).random(counts.shape) < 0.004, 65_535, counts).astype(np.uint16)
    path = exchange(tmp_path / "a.h5", full, angles, flat=60_100.0)
    with pytest.warns(OutOfRangeWarning, match="are saturated and read too low; --repair"):
        reconstructed(path)
    _, facts = reconstructed(path, "--repair")
    assert facts["counts"]["saturated"] > 0
    over = np.minimum(counts * 1.6, 65_535).astype(np.uint16)
    with pytest.raises(DataError, match="values in the middle rows are saturated"):
        reconstructed(exchange(tmp_path / "b.h5", over, angles, flat=60_100.0))
