"""The image of sixteen views at once against a plain double-precision one, and what lanes must not do."""

import numpy as np
import pytest

from npsi_twin.txm.image_kernels import exponential
from npsi_twin.txm.objective import OpticsRecipe
from npsi_twin.txm.optics import Placement, form_image, reach_of, transfer_function

PITCH_NM, BLUR_NM = 25.0, 60.0
OPTICS = OpticsRecipe()


def lines_of(rows, views, columns):
    return np.random.default_rng(rows + views).uniform(0, 2, (rows, views, columns)).astype(np.float32)


def image_of(lines, n, halo_rows, placement, threads=1, optics=OPTICS):
    return form_image(
        lines,
        optics,
        energy_kev=8.0,
        pixel_nm=n * PITCH_NM,
        blur_fwhm_nm=BLUR_NM,
        supersampling=n,
        halo_rows=halo_rows,
        placement=placement,
        threads=threads,
    )


def plain_image(lines, n, halo_rows, placement, optics=OPTICS):
    """The model by its definition, pixels averaged after the blur, on any padding that is wide enough."""
    rows, views, columns = lines.shape
    reach = reach_of(halo_rows, n, placement.largest_row_shift_px(columns // n))
    side = 4 * reach + 40  # even, wider than what the kernels pad
    padded = np.pad(np.exp(-lines.astype(float)), ((0, 0), (0, 0), (side, side)), mode="edge")
    tall, wide = padded.shape[0], padded.shape[2]
    transfer = transfer_function(tall, wide, PITCH_NM, reach, optics, 8.0, BLUR_NM)
    along, across = np.fft.fftfreq(tall), np.fft.rfftfreq(wide)
    slope = np.tan(placement.axis_tilt_rad)
    row = np.arange(tall) + 0.5 + (placement.row_from_middle_px - halo_rows) * n
    column = np.arange(wide) - side + 0.5 - (placement.axis_column_px + 0.5) * n
    column = np.clip(column, column[side], column[-1 - side])
    image = np.empty((views, rows // n - 2 * halo_rows, columns // n))
    for view in range(views):
        spectrum = np.fft.fft(padded[:, view], axis=0) * np.exp(2j * np.pi * slope * along[:, None] * column)
        spectrum = np.fft.rfft(np.fft.ifft(spectrum, axis=0).real, axis=1)
        spectrum *= np.exp(-2j * np.pi * slope * row[:, None] * across)
        shift = np.exp(-2j * np.pi * placement.row_shift_px[view] * n * along[:, None])
        blurred = np.fft.irfft(np.fft.ifft(np.fft.fft(spectrum, axis=0) * transfer * shift, axis=0), n=wide, axis=1)
        inner = blurred[halo_rows * n : rows - halo_rows * n, side : side + columns]
        image[view] = inner.reshape(-1, n, columns // n, n).mean(axis=(1, 3))
    return np.maximum(image, 0)


@pytest.mark.parametrize(
    ("n", "rows", "columns", "halo_rows", "tilt"),
    [(1, 62, 60, 26, 0.0), (2, 90, 120, 18, 0.0), (2, 90, 120, 18, 0.01), (3, 87, 66, 12, 0.02), (7, 133, 77, 8, 0.0)],
)
def test_the_image_is_that_of_double_precision(n, rows, columns, halo_rows, tilt):
    # 17 views leave fifteen empty lanes in a second batch. Columns are padded with their edge and repeat further out,
    # elsewhere here than there: beyond a reach of 600 nm lies 4 d / (pi^3 600) = 1 % of the spread, of a pattern whose
    # deviation of 0.25 the root of some hundred pixels leaves a tenth of: 3e-4.
    views = 17
    shift = np.random.default_rng(3).uniform(-0.6, 0.6, views)
    placement = Placement(shift, tilt, 3.0, columns / n / 2 + 0.7)
    lines = lines_of(rows, views, columns)
    expected = plain_image(lines, n, halo_rows, placement)
    np.testing.assert_allclose(image_of(lines, n, halo_rows, placement), expected, atol=5e-4)


def test_the_image_is_double_precision_s_to_rounding_where_the_point_spread_is_short():
    # Without a zone plate only the Gaussian is left, of which nothing reaches from one end to the other: what differs
    # in the middle is the rounding of float32, 6e-8 times the few tens of sums of a transform.
    free = OpticsRecipe(outer_zone_width_nm=0.0)
    placement = Placement(np.array([0.0, 0.3, -0.4]), 0.005, 2.0, 24.0)
    lines = lines_of(70, 3, 96)
    found = image_of(lines, 2, 10, placement, optics=free)
    expected = plain_image(lines, 2, 10, placement, optics=free)
    np.testing.assert_allclose(found[:, :, 10:-10], expected[:, :, 10:-10], atol=2e-6)


def test_a_view_is_not_touched_by_its_neighbours():
    lines, shift = lines_of(80, 21, 60), np.linspace(-0.5, 0.5, 21)
    whole = image_of(lines, 2, 12, Placement(shift, 0.01), threads=2)
    for some in ([3], [20, 0, 7]):
        # The reach follows from the largest shift: the first one keeps it the same.
        kept = [0, *some]
        part = image_of(lines[:, kept], 2, 12, Placement(shift[kept], 0.01))
        assert np.array_equal(part, whole[kept])


def test_exponential_is_right_to_rounding_and_ends_where_floats_do():
    # Taylor's remainder is below 6e-9; rounding of the reduced argument and of eight fused sums, 2^-24 each at most
    # where they count, stays below two of them.
    x = np.linspace(-86.9, 6, 200_000).astype(np.float32)
    found = x.copy()
    exponential(found, found.size)
    np.testing.assert_allclose(found, np.exp(x.astype(float)), rtol=1.2e-7)
    far = np.array([-1e30, -200.0, 0.0, np.float32(-0.0)], np.float32)
    exponential(far, 4)
    assert far[2:].tolist() == [1.0, 1.0]
    assert 0 <= far[:2].max() < 2e-38
