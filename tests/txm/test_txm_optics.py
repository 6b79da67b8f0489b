"""Image formation against closed forms: transfer, shift, energy, and independence of the slab."""

import numpy as np
import pytest

from npsi_twin.errors import ParameterError
from npsi_twin.txm.microscope import MicroscopeRecipe
from npsi_twin.txm.objective import OpticsRecipe, depth_of_field_um, zone_plate_otf
from npsi_twin.txm.optics import LARGEST_LOSS, Placement, form_image, gaussian_mtf, transfer_function

DEFAULT = MicroscopeRecipe()
PIXEL_NM = DEFAULT.detector.pixel_nm
BLUR_NM = DEFAULT.detector.blur_fwhm_px * DEFAULT.detector.camera_pixel_nm
OFF = OpticsRecipe(outer_zone_width_nm=0.0)


def image_of(
    transmission, *, optics=DEFAULT.optics, blur_fwhm_nm=BLUR_NM, halo_rows=DEFAULT.halo_rows, shift=0.0, threads=1
):
    """Image what exp(-line integral) gives back to float32 rounding, 2e-7 of it."""
    views = transmission.shape[1]
    line_integrals = -np.log(np.maximum(transmission, 1e-30)).astype(np.float32)
    return form_image(
        line_integrals,
        optics,
        energy_kev=8.0,
        pixel_nm=PIXEL_NM,
        blur_fwhm_nm=blur_fwhm_nm,
        supersampling=2,
        halo_rows=halo_rows,
        placement=Placement(np.broadcast_to(np.asarray(shift, float), (views,))),
        threads=threads,
    )


def test_otf_is_the_overlap_of_two_pupils():
    # Independent road: area common to two unit discs 2 s apart, counted on cell centres of pitch 1/400. The
    # boundary is counted right to about pitch^1.5 = 1.2e-4 of the area.
    x, y = ((np.arange(n) + 0.5) / 400 - n / 800 for n in (1600, 800))
    y = y[:, None]
    for s in (0.1, 0.35, 0.6, 0.9):
        common = (np.hypot(x - s, y) < 1) & (np.hypot(x + s, y) < 1)
        overlap = common.mean() * 8 / np.pi
        assert zone_plate_otf(np.array(s / 60.0), 60.0) == pytest.approx(overlap, abs=3e-4)


def test_otf_at_the_periods_of_the_design():
    # The project's physics page, section 3.2, to its two digits (100 nm is 0.285).
    periods = np.array([80, 100, 120, 150, 200, 300.0])
    np.testing.assert_allclose(zone_plate_otf(1 / periods, 60.0), [0.14, 0.285, 0.39, 0.51, 0.62, 0.75], atol=0.006)


def test_gaussian_mtf_is_the_transform_of_a_gaussian():
    x = np.linspace(-400, 400, 8001)
    spread = 0.5 ** ((2 * x / 60.0) ** 2)
    for frequency in (0.0, 0.003, 0.01):
        transform = np.sum(spread * np.cos(2 * np.pi * frequency * x)) / spread.sum()
        assert gaussian_mtf(np.array(frequency), 60.0) == pytest.approx(transform, abs=1e-9)


@pytest.mark.parametrize("along_rows", [True, False])
@pytest.mark.parametrize("period_nm", [110.0, 150.0, 200.0, 300.0, 500.0, 1000.0])
def test_sine_patterns_come_out_with_the_modulation_of_the_formula(period_nm, along_rows):
    # Expected: OTF x Gaussian x the mean over two fine samples of a pixel. Tolerance 2 %: along the rows the cut point
    # spread adds at most what the window loses (2 % at the default halo); along the columns the padding replaces the
    # pattern 2.5 um away, beyond which 2 x 0.0645 x 60 / 2500 = 0.3 % of the spread lies.
    fine_rows, fine_columns, pitch = 120, 400, PIXEL_NM / 2
    axis = np.arange(fine_rows if along_rows else fine_columns) * pitch
    wave = 0.5 + 0.4 * np.cos(2 * np.pi * axis / period_nm)
    shape = (fine_rows, 1, 1) if along_rows else (1, 1, fine_columns)
    image = image_of(np.broadcast_to(wave.reshape(shape), (fine_rows, 1, fine_columns)))[0]
    line = image[:, 100] if along_rows else image[20, 50:150]
    first = pitch / 2 if along_rows else 50 * PIXEL_NM + pitch / 2
    first += DEFAULT.halo_rows * PIXEL_NM if along_rows else 0.0
    place = 2 * np.pi * (first + np.arange(line.size) * PIXEL_NM) / period_nm
    design = np.stack([np.ones_like(place), np.cos(place), np.sin(place)], axis=1)
    _, cosine, sine = np.linalg.lstsq(design, line.astype(float), rcond=None)[0]
    frequency = np.array(1 / period_nm)
    expected = zone_plate_otf(frequency, 60.0) * gaussian_mtf(frequency, BLUR_NM) * np.cos(np.pi * pitch / period_nm)
    assert cosine / 0.4 == pytest.approx(float(expected), rel=0.02)
    assert abs(sine) / 0.4 < 1e-3  # no shift


def test_cut_point_spread_loses_what_the_tail_formula_says_and_stays_positive():
    exact_at_zero_row = gaussian_mtf(np.fft.rfftfreq(240, 25.4), BLUR_NM) * zone_plate_otf(
        np.fft.rfftfreq(240, 25.4), 60.0
    )
    for reach in (20, 40):
        transfer = transfer_function(256, 240, 25.4, reach, DEFAULT.optics, 8.0, BLUR_NM)
        np.testing.assert_allclose(transfer[0], exact_at_zero_row, atol=1e-6)  # float32
        frequency = np.fft.fftfreq(256, 25.4)
        exact = zone_plate_otf(frequency, 60.0) * gaussian_mtf(frequency, BLUR_NM)
        # Line spread 2 d / (pi^3 z^2): both sides beyond 3/4 of the reach hold 16 d / (3 pi^3 reach).
        loss = 16 * 60.0 / (3 * np.pi**3 * reach * 25.4)
        assert np.abs(transfer[:, 0] - exact).max() < 1.1 * loss
        spread = np.fft.irfft2(transfer, (256, 240), axes=(0, 1))
        assert spread.min() > -1e-6 * spread.max()
        assert np.abs(spread[reach + 1 : 256 - reach]).max() < 1e-6 * spread.max()


def test_image_does_not_depend_on_the_slab():
    # The point spread ends within the halo, so that only float32 rounding is left: 6e-8 x the few passes of a transform
    # (measured 2e-7). A fractional shift keeps the point spread short because the zone plate band-limits it.
    rng = np.random.default_rng(5)
    rows, halo = 24, DEFAULT.halo_rows
    transmission = rng.uniform(0.2, 1.0, (2 * (rows + 2 * halo), 3, 120))
    shift = np.array([0.0, 0.37, -0.81])
    whole = image_of(transmission, shift=shift)
    for start, stop in ((0, 24), (0, 7), (7, 9), (9, 24)):
        part = image_of(transmission[2 * start : 2 * (stop + 2 * halo)], shift=shift)
        np.testing.assert_allclose(part, whole[:, start:stop], atol=1e-6)


def test_open_field_stays_open_and_a_shadow_keeps_its_sum():
    # Transfer 1 at frequency 0. Rounding: float32, 4e4 samples of 1 summed pairwise.
    assert np.abs(image_of(np.ones((80, 2, 100))) - 1).max() < 1e-6
    shadow = np.zeros((160, 1, 200))
    shadow[78:84, 0, 95:105] = 0.7
    image = image_of(1 - shadow, shift=0.3)
    # The line spread beyond the 56 rows x 25.4 nm to the nearest recorded edge is cut off: nothing is lost along rows;
    # along the columns 2 x 0.0645 x 60 / 2500 nm = 0.3 % leave the frame.
    assert (1 - image.astype(float)).sum() * 4 == pytest.approx(shadow.sum(), rel=4e-3)


def test_whole_pixel_shift_moves_the_image_towards_higher_rows():
    rng = np.random.default_rng(1)
    transmission = rng.uniform(0, 1, (40, 2, 16))
    still = image_of(transmission, optics=OFF, blur_fwhm_nm=0.0, halo_rows=4)
    moved = image_of(transmission, optics=OFF, blur_fwhm_nm=0.0, halo_rows=4, shift=3.0)
    np.testing.assert_allclose(moved[:, 3:], still[:, :-3], atol=1e-6)  # float32 transform


def test_everything_off_is_the_bare_mean_over_pixels_to_the_bit():
    line_integrals = np.random.default_rng(2).uniform(0, 3, (12, 3, 8)).astype(np.float32)
    image = image_of(np.exp(-line_integrals.astype(float)), optics=OFF, blur_fwhm_nm=0.0, halo_rows=2)
    fine = np.exp(-line_integrals)[4:8].transpose(1, 0, 2)
    assert np.array_equal(image, fine.reshape(3, 2, 2, 4, 2).mean(axis=(2, 4), dtype=np.float32))


def test_input_is_left_alone():
    transmission = np.random.default_rng(3).uniform(0, 1, (60, 2, 20)).astype(np.float32)
    before = transmission.copy()
    image_of(transmission, shift=0.4)
    assert np.array_equal(transmission, before)


def test_threads_change_no_bit():
    transmission = np.random.default_rng(4).uniform(0, 1, (60, 5, 90))
    one = image_of(transmission, shift=0.4)
    assert np.array_equal(image_of(transmission, shift=0.4, threads=2), one)


def test_small_halo_is_refused_with_the_remedy():
    with pytest.raises(ParameterError, match=r"microscope\.halo_rows.*Raise halo_rows"):
        image_of(np.ones((20, 1, 20)), halo_rows=2)
    with pytest.raises(ParameterError, match=r"halo_rows: got 1, but run-out"):
        image_of(np.ones((20, 1, 20)), halo_rows=1, shift=2.5)


def test_default_halo_loses_two_percent():
    # The claim of the recipe's source line: 24 fine rows of 25.4 nm.
    transfer = transfer_function(96, 240, 25.4, 24, DEFAULT.optics, 8.0, BLUR_NM)
    frequency = np.fft.fftfreq(96, 25.4)
    exact = zone_plate_otf(frequency, 60.0) * gaussian_mtf(frequency, BLUR_NM)
    assert (transfer[:, 0] - exact).max() < 0.02 < LARGEST_LOSS


def test_depth_of_field():
    assert depth_of_field_um(60.0, 8.0) == pytest.approx(4 * 60**2 / 0.15498 / 1000, rel=1e-4)
