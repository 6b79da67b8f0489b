"""The camera against counting statistics; every tolerance is a multiple of the sampling error of the estimate."""

import numpy as np
import pytest
from pydantic import ValidationError

from npsi_twin.errors import IncompatibleError
from npsi_twin.seeds import Seeds
from npsi_twin.txm.beam import steady_light
from npsi_twin.txm.detector import DetectorRecipe
from npsi_twin.txm.pixels import pixel_pattern
from npsi_twin.txm.recording import count_variance, record_darks
from npsi_twin.txm.recording import record_flats as record_all_flats
from npsi_twin.txm.recording import record_projections as record_lit

#: Nothing fixed in the pattern, so that all pixels of a row are draws of one distribution.
EVEN = {
    "photo_response_spread": 0.0,
    "gain_drift_spread": 0.0,
    "dead_pixel_fraction": 0.0,
    "hot_pixel_fraction": 0.0,
}
CAMERAS = {
    "default, 2 x 2": DetectorRecipe(**EVEN, columns=2000),
    "unbinned": DetectorRecipe(**EVEN, columns=2000, binning=1, flat_electrons=8000.0),
    "16 bits, high gain": DetectorRecipe(
        **EVEN, columns=2000, binning=1, bit_depth=16, camera_units_per_electron=1.2, flat_electrons=8000.0
    ),
}


def lit(rows, detector):
    return np.ones((rows, detector.columns))


def record_projections(transmission, illumination, detector, rows, *, seeds, threads=None):
    """In light that does not change."""
    light = steady_light(illumination, len(transmission))
    return record_lit(transmission, light, detector, rows, seeds=seeds, threads=threads)


def record_flats(illumination, detector, rows, *, seeds):
    """Before the views only, in light that does not change."""
    light = steady_light(illumination, detector.flat_frames)
    return record_all_flats(light, steady_light(illumination, 0), detector, rows, seeds=seeds)


def pixel_row(detector, row, *, seeds):
    return pixel_pattern(detector, range(row, row + 1), seeds=seeds)


@pytest.mark.parametrize("camera", CAMERAS)
def test_variance_and_mean_over_three_decades(camera):
    # The variance of n draws has the relative error sqrt((2 + excess kurtosis) / n), Poisson kurtosis included in 2.2
    # from a few photons up; the mean sqrt(variance / n). 4.5 standard errors a level: 1e-5 of false alarms each.
    detector = CAMERAS[camera]
    top = detector.camera_units_per_electron * detector.flat_electrons
    levels = np.geomspace(max(5.0, top / 2000), top, 14)
    dark = detector.camera_units_per_electron * detector.binning**2 * detector.dark_electrons
    floor = detector.binning**2 * detector.offset_units + dark
    deviations = []
    for row, signal in enumerate(levels):
        transmission = np.full((20, 1, detector.columns), signal / top, np.float32)
        counts = record_projections(transmission, lit(1, detector), detector, range(row, row + 1), seeds=Seeds(7))
        n, mean, variance = counts.size, counts.mean(), counts.var(ddof=1)
        expected = float(count_variance(np.array(signal), detector))
        assert abs(mean - (signal + floor)) < 4.5 * np.sqrt(expected / n)
        deviations.append((variance / expected - 1) / np.sqrt(2.2 / n))
    assert np.abs(deviations).max() < 4.5
    # All levels together: the mean of 14 deviations of unit variance is within 4.5 / sqrt(14).
    assert abs(np.mean(deviations)) < 4.5 / np.sqrt(len(deviations))


def test_variance_law_needs_the_cascade():
    # The check above can fail: plain Poisson electrons (g = 0) would be off by 31 %, 100 standard errors.
    detector = CAMERAS["default, 2 x 2"]
    counts = record_projections(
        np.ones((100, 1, 2000), np.float32), lit(1, detector), detector, range(1), seeds=Seeds(1)
    )
    poisson = 0.1 * 800 + 4 * (0.01 * 2 + 0.23**2 + 1 / 12)
    assert counts.var() / poisson == pytest.approx(1.31, rel=0.02)


def test_counts_do_not_depend_on_the_slab():
    detector = DetectorRecipe(columns=60)
    rng = np.random.default_rng(0)
    transmission = rng.uniform(0, 1, (9, 7, 60)).astype(np.float32)
    light = rng.uniform(0.5, 1, (7, 60))
    seeds = Seeds(11)
    whole = (
        record_projections(transmission, light, detector, range(30, 37), seeds=seeds),
        record_flats(light, detector, range(30, 37), seeds=seeds),
        record_darks(detector, range(30, 37), seeds=seeds),
    )
    for a, b in ((0, 1), (1, 5), (5, 7)):
        rows = range(30 + a, 30 + b)
        assert np.array_equal(
            record_projections(transmission[:, a:b], light[a:b], detector, rows, seeds=seeds), whole[0][:, a:b]
        )
        assert np.array_equal(record_flats(light[a:b], detector, rows, seeds=seeds), whole[1][:, a:b])
        assert np.array_equal(record_darks(detector, rows, seeds=seeds), whole[2][:, a:b])


def flat_corrected(detector):
    """Mean over many views of (projection - dark) / (flat - dark) in the open beam, one value a column."""
    views = 400
    projections = record_projections(
        np.ones((views, 1, detector.columns), np.float32), lit(1, detector), detector, range(1), seeds=Seeds(2)
    )
    dark = record_darks(detector, range(1), seeds=Seeds(2)).mean(axis=0)[0]
    flat = record_flats(lit(1, detector), detector, range(1), seeds=Seeds(2)).mean(axis=0)[0]
    return (projections.mean(axis=0)[0] - dark) / (flat - dark)


def test_fixed_pattern_cancels_and_drift_stays():
    quiet = EVEN | {"columns": 4000, "flat_frames": 400}
    # Noise of the ratio: relative noise of one exposure sqrt(1.31 / 8000) = 1.28 % over 400 frames, twice.
    noise = 0.0128 * np.sqrt(2 / 400)
    spread = 4.5 / np.sqrt(2 * 4000)  # relative error of a standard deviation from 4000 columns
    still = flat_corrected(DetectorRecipe(**quiet | {"photo_response_spread": 0.05}))
    assert still.std() == pytest.approx(noise, rel=spread + 0.02)  # 2 %: read noise and uneven response
    drifted = flat_corrected(DetectorRecipe(**quiet | {"photo_response_spread": 0.05, "gain_drift_spread": 0.004}))
    assert drifted.std() == pytest.approx(np.hypot(noise, 0.004), rel=spread + 0.02)


def test_off_means_off():
    pixels = pixel_row(DetectorRecipe(**EVEN), 3, seeds=Seeds(1))
    assert np.array_equal(pixels.response, np.ones((1, 400)))
    assert np.array_equal(pixels.drifted_response, np.ones((1, 400)))
    assert np.array_equal(pixels.dark_electrons, np.full((1, 400), 8.0))
    steady = pixel_row(DetectorRecipe(gain_drift_spread=0.0), 3, seeds=Seeds(1))
    assert np.array_equal(steady.response, steady.drifted_response)
    # Without hot pixels their charge changes no bit.
    a, b = (
        record_flats(np.ones((1, 400)), DetectorRecipe(**EVEN, hot_pixel_electrons=e), range(1), seeds=Seeds(1))
        for e in (0.0, 9000.0)
    )
    assert np.array_equal(a, b)


def test_dead_and_hot_pixels():
    detector = DetectorRecipe(columns=20_000, dead_pixel_fraction=0.01, hot_pixel_fraction=0.02)
    pixels = pixel_row(detector, 0, seeds=Seeds(4))
    dead, hot = pixels.response[0] == 0, pixels.dark_electrons[0] > 100
    # Binomial: 200 +- 14 and 400 +- 20.
    assert abs(dead.sum() - 200) < 4.5 * 14
    assert abs(hot.sum() - 400) < 4.5 * 20
    flats = record_flats(lit(1, detector), detector, range(1), seeds=Seeds(4))[:, 0]
    darks = record_darks(detector, range(1), seeds=Seeds(4))[:, 0]
    assert flats[:, dead & ~hot].mean() == pytest.approx(darks[:, ~hot].mean(), abs=0.1)
    assert darks[:, hot].mean() - darks[:, ~hot].mean() == pytest.approx(400.0, abs=0.5)  # K x 4000


def test_saturation_is_clipped_at_the_smaller_of_well_and_converter():
    bright = EVEN | {"binning": 1, "flat_electrons": 9000.0, "dark_electrons": 0.0, "read_noise_electrons": 0.0}
    well = DetectorRecipe(**bright, full_well_electrons=9000.0)
    flats = record_flats(np.ones((1, 400)), well, range(1), seeds=Seeds(1))
    assert flats.max() == 900 + 8
    converter = DetectorRecipe(**bright, camera_units_per_electron=0.112, bit_depth=10)
    flats = record_flats(np.ones((1, 400)), converter, range(1), seeds=Seeds(1))
    assert flats.max() == 1023


def test_full_shadow_reads_as_dark():
    detector = DetectorRecipe(**EVEN, columns=1000)
    counts = record_projections(
        np.zeros((50, 1, 1000), np.float32), lit(1, detector), detector, range(1), seeds=Seeds(6)
    )
    assert counts.mean() == pytest.approx(record_darks(detector, range(1), seeds=Seeds(6)).mean(), abs=0.05)


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"flat_electrons": 50_000.0}, "full wells"),
        ({"flat_electrons": 41_000.0}, "camera units"),
        ({"bit_depth": 16}, "16 bits"),
        ({"dead_pixel_fraction": 0.5}, "dead_pixel_fraction"),
        ({"flat_electrons": float("nan")}, "flat_electrons"),
        ({"rows": 2.0}, "rows"),
    ],
)
def test_impossible_cameras_are_refused_by_name(wrong, word):
    with pytest.raises(ValidationError, match=word):
        DetectorRecipe(**wrong)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(IncompatibleError, match="record_projections"):
        record_projections(
            np.ones((3, 2, 400), np.float32), np.ones((1, 400)), DetectorRecipe(), range(2), seeds=Seeds(1)
        )
