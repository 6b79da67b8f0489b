import numpy as np
import pytest

from npsi_twin.errors import DataError, IncompatibleError
from npsi_twin.projectors.analytic import Ellipse, line_integrals
from npsi_twin.reconstruction.alignment import find_rotation_axis
from npsi_twin.reconstruction.reprojection import AlignmentRecipe, align_views, take_back
from npsi_twin.reconstruction.tilt import find_axis_tilt, take_tilt_out
from npsi_twin.scan import ParallelBeam

BODIES = [
    Ellipse((0.0, 500.0), (4000.0, 3000.0), 0.03),
    Ellipse((1500.0, -900.0), (600.0, 400.0), 0.05),
    Ellipse((-2000.0, 1200.0), (500.0, 900.0), 0.04, 0.7),
]


def rms(values):
    return float(np.sqrt(np.mean(np.asarray(values, np.float64) ** 2)))


def told(shift, beam):
    """What data can tell of column shifts: without a constant and a sine."""
    untold = np.linalg.qr(np.stack([np.ones(beam.views), np.cos(beam.angles_rad), np.sin(beam.angles_rad)], 1))[0]
    return shift - untold @ (untold.T @ shift)


@pytest.mark.parametrize("fill", [0.5, 0.85])
def test_run_out_is_recovered_to_a_third_of_a_pixel(needle, fill):
    """The issue's requirement, in noise of 1 % of the beam and stripes of 0.3 %."""
    rng = np.random.default_rng(1)
    run_out = 1.5 * rng.standard_normal(181)
    sinogram, moved = needle(fill=fill, columns=128, views=181, axis=64.2, shift_px=run_out)
    beam = ParallelBeam(moved.angles_rad, 128, moved.pixel_nm, 64.2)
    sinograms = np.repeat(sinogram, 4, 0).astype(np.float64)
    sinograms += 0.01 * rng.standard_normal(sinograms.shape) + 0.003 * rng.standard_normal((4, 1, 128))
    found = align_views(sinograms.astype(np.float32), beam, AlignmentRecipe(method="reprojection"))
    assert rms(found.column_shift_px - told(run_out, beam)) < 0.3
    assert rms(told(run_out, beam)) > 1.3
    assert not np.any(found.row_shift_px)
    assert found.misfit[-1] < found.misfit[0]


def test_both_directions_at_once():
    """Blobs at different heights; without noise shifts come back to a few hundredths of a pixel."""
    rng = np.random.default_rng(2)
    views, rows, columns = 91, 32, 64
    beam = ParallelBeam(np.pi * np.arange(views) / views, columns, 100.0, 31.5)
    across, along = rng.standard_normal(views), rng.standard_normal(views)
    along -= along.mean()
    sinograms = np.zeros((rows, views, columns))
    for radius, phase, height, size in ((10, 0.3, 12.0, 3.0), (6, 2.0, 20.0, 2.5), (14, 4.0, 16.0, 3.5)):
        place = 31.5 + radius * np.cos(beam.angles_rad + phase) + across
        profile = np.exp(-(((np.arange(columns) - place[:, None]) / size) ** 2))
        sinograms += np.exp(-(((np.arange(rows)[:, None] - height - along) / size) ** 2))[:, :, None] * profile
    recipe = AlignmentRecipe(method="reprojection", rows=True)
    found = align_views(sinograms.astype(np.float32), beam, recipe)
    assert rms(found.column_shift_px - told(across, beam)) < 0.05
    assert rms(found.row_shift_px - along) < 0.05
    back = take_back(sinograms.astype(np.float32), across, along)
    still = np.abs(np.diff(back.sum(axis=2), axis=1))
    assert still.max() < 0.02 * back.sum(axis=2).max()


def test_threads_and_known_shifts(needle):
    sinograms, beam = needle(columns=64, views=60, fill=0.7)
    recipe = AlignmentRecipe(method="reprojection", iterations=3)
    one, two = (align_views(sinograms, beam, recipe, threads=n) for n in (1, 2))
    np.testing.assert_array_equal(one.column_shift_px, two.column_shift_px)
    jitter = np.random.default_rng(0).standard_normal(60)
    moved, known = needle(columns=64, views=60, fill=0.7, shift_px=jitter)
    # Told where the views are, there is nothing left to find.
    assert rms(align_views(moved, known, recipe).column_shift_px) < 0.05


def test_what_cannot_be_aligned_is_refused(needle):
    sinograms, beam = needle(columns=64, views=60)
    with pytest.raises(IncompatibleError, match="at least 8"):
        align_views(sinograms, beam, AlignmentRecipe(rows=True))
    with pytest.raises(IncompatibleError, match="to match the geometry"):
        align_views(sinograms[:, 1:], beam, AlignmentRecipe())


@pytest.mark.parametrize("views", [120, 121])
@pytest.mark.parametrize("method", ["opposite-views", "entropy", "auto"])
def test_axis_of_a_full_turn(views, method):
    """An odd number has no opposite views; entropy reads single trials of a histogram, to a few tenths of a pixel."""
    beam = ParallelBeam(2 * np.pi * np.arange(views) / views, 128, 100.0, 61.7)
    sinogram = line_integrals(BODIES, beam)[None].astype(np.float32)
    found = find_rotation_axis(sinogram, ParallelBeam(beam.angles_rad, 128, 100.0), method)
    assert abs(found.px - 61.7) < (0.4 if method == "entropy" else 0.05)
    assert found.method == ("fourier-wedge" if (method, views) == ("auto", 120) else found.method)


def test_a_pair_half_a_turn_apart_is_enough():
    beam = ParallelBeam(np.deg2rad([0.0, 70.0, 180.0]), 128, 100.0, 61.7)
    sinogram = line_integrals(BODIES, beam)[None].astype(np.float32)
    found = find_rotation_axis(sinogram, ParallelBeam(beam.angles_rad, 128, 100.0), "opposite-views")
    assert abs(found.px - 61.7) < 0.02
    with pytest.raises(DataError, match="no two of 2 views"):
        narrow = ParallelBeam(np.deg2rad([0.0, 70.0]), 128, 100.0)
        find_rotation_axis(sinogram[:, :2], narrow, "opposite-views")


def test_a_tilted_axis_is_found_and_straightened():
    """Forty rows about an axis that leans by 0.01 columns a row, noise of 1 %: told uncertainty holds to four sigma."""
    rng = np.random.default_rng(5)
    angles = np.pi * np.arange(120) / 120
    leaning = [ParallelBeam(angles, 128, 100.0, 62.0 + 0.01 * row) for row in range(40)]
    lines = np.stack([line_integrals(BODIES, beam) for beam in leaning])
    lines = (lines + 0.01 * rng.standard_normal(lines.shape)).astype(np.float32)
    beam = ParallelBeam(angles, 128, 100.0)
    tilt = find_axis_tilt(lines, beam, first_row=10)
    assert abs(tilt.slope - 0.01) < max(4 * tilt.uncertainty, 1e-3)
    assert tilt.reference_row == 29.5
    assert abs(tilt.px - (62.0 + 0.01 * 19.5)) < 0.05
    straight = take_tilt_out(lines, tilt, first_row=10)
    assert abs(find_axis_tilt(straight, beam).slope) < max(4 * tilt.uncertainty, 1e-3)
    np.testing.assert_array_equal(take_tilt_out(lines[7:9], tilt, first_row=17), straight[7:9])
    with pytest.raises(IncompatibleError, match="more rows"):
        find_axis_tilt(lines[:2], beam)
