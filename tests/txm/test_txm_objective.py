"""The transfer of weak objects against closed forms, and against roads that share nothing with it."""

import numpy as np
import pytest
from pydantic import ValidationError

from npsi_twin.errors import ParameterError
from npsi_twin.materials.compounds import MATERIALS, refraction
from npsi_twin.txm.objective import (
    HC_KEV_NM,
    OpticsRecipe,
    coherence_factor,
    depth_of_field_um,
    focal_length_mm,
    objective_transfer,
    weak_object_transfer,
    zone_plate_otf,
)
from npsi_twin.txm.optics import Placement, form_image

NA_MRAD = 1e3 * HC_KEV_NM / 8.0 / 120.0  # of 60 nm zones at 8 keV
DEPTH_UM = depth_of_field_um(60.0, 8.0)
COHERENT = {"condenser_na_mrad": NA_MRAD / 1000}
V = np.linspace(0.0, 0.99, 67)  # in units of NA / wavelength


def transfer(v, **given):
    return weak_object_transfer(v, OpticsRecipe(**given), 8.0)


def test_a_matched_condenser_gives_the_incoherent_otf():
    # The integral against the closed form, which share no step; and the phase leaves no trace, in focus or out of it.
    v = np.linspace(0, 2, 101)
    found = transfer(v, condenser_na_mrad=NA_MRAD)
    np.testing.assert_allclose(found, zone_plate_otf(v / 120.0, 60.0), atol=1e-6)
    assert np.abs(transfer(v, condenser_na_mrad=NA_MRAD, defocus_um=DEPTH_UM / 2).imag).max() < 1e-6


@pytest.mark.parametrize("sigma", [0.3, 0.6, 0.93])
def test_a_smaller_condenser_gives_the_overlap_of_two_circles(sigma):
    # T = area common to a disk of radius sigma and one of radius 1, v apart, over pi sigma^2 (a lens in closed form).
    v = np.linspace(1 - sigma, 1 + sigma, 41)[1:-1]
    first = np.arccos((v**2 + sigma**2 - 1) / (2 * v * sigma))
    second = np.arccos((v**2 + 1 - sigma**2) / (2 * v))
    kite = np.sqrt((-v + sigma + 1) * (v + sigma - 1) * (v - sigma + 1) * (v + sigma + 1)) / 2
    lens = sigma**2 * first + second - kite
    found = transfer(v, condenser_na_mrad=sigma * NA_MRAD)
    np.testing.assert_allclose(found, lens / (np.pi * sigma**2), atol=2e-6)
    np.testing.assert_allclose(transfer(np.array([0.0, 0.5 * (1 - sigma)]), condenser_na_mrad=sigma * NA_MRAD), 1)


def test_coherent_defocus_is_the_cosine_and_sine_of_fresnel():
    # T = exp(-i pi z wavelength v^2), averaged over depth and spectrum in closed form; a source of 1/1000 of the
    # pupil changes the phase by 2 pi w v / 1000.
    spread = 1000 * focal_length_mm(60.0, 180.0, 8.0) * 1e-3 / (2 * np.sqrt(2 * np.log(2))) / DEPTH_UM
    found = transfer(V, **COHERENT, defocus_um=0.8 * DEPTH_UM, depth_um=0.5 * DEPTH_UM, relative_bandwidth=1e-3)
    q = V**2
    expected = np.exp(-1j * np.pi * 0.8 * q) * np.sinc(0.25 * q) * np.exp(-((np.pi * spread * q) ** 2) / 2)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    optics = OpticsRecipe(**COHERENT, defocus_um=0.8 * DEPTH_UM, delta_over_beta=43.0)
    found = objective_transfer(V / 120.0, optics, 8.0)
    # The table is interpolated: 2 / 512 steps of a wave with curvature 43 (2 pi 0.8)^2, to the fourth order.
    np.testing.assert_allclose(found, np.cos(np.pi * 0.8 * q) + 43 * np.sin(np.pi * 0.8 * q), atol=2e-2)


def test_central_stop_and_ring_against_a_sum_over_the_pupil():
    # An independent road: both apertures on cell centres of pitch 1/500; edges are counted right to pitch^1.5.
    optics = OpticsRecipe(
        central_stop_fraction=0.2,
        condenser_na_mrad=0.6,
        condenser_inner_fraction=0.6,
        zernike_phase_deg=90.0,
        zernike_transmission=0.8,
        defocus_um=60.0,
        depth_um=100.0,
    )
    sigma = coherence_factor(optics, 8.0)
    x = (np.arange(1000) + 0.5) / 500 - 1
    y = x[:, None]

    def pupil(r):
        ring = (r < sigma) & (r > 0.6 * sigma)
        return ((r < 1) & (r > 0.2)) * np.where(ring, np.sqrt(0.8) * 1j, 1)

    r = np.hypot(x, y)
    source = (r < sigma) & (r > 0.6 * sigma)
    for v in (0.1, 0.4, 0.9, 1.2):
        q = (x + v) ** 2 + y**2 - r**2
        wave = np.exp(-1j * np.pi * 60.0 / DEPTH_UM * q) * np.sinc(50.0 / DEPTH_UM * q)
        mixed = np.sum(source * pupil(np.hypot(x + v, y)) * pupil(r).conj() * wave)
        expected = mixed / np.sum(source * np.abs(pupil(r)) ** 2)
        assert transfer(np.array([v]), **optics.model_dump())[0] == pytest.approx(expected, abs=3e-4)


def test_zernike_ring_turns_phase_into_contrast_beyond_its_halo():
    # A thin ring of radius 0.5 and a phase of 90 degrees: beyond frequencies at which ring meets ring, direct light
    # alone is shifted: Re T = 0 (no absorption contrast), Im T = -1 times the pupil's share that diffracted light still
    # meets.
    ring = {"condenser_na_mrad": 0.5 * NA_MRAD, "condenser_inner_fraction": 0.99}
    plain, shifted = transfer(np.array([0.3]), **ring), transfer(np.array([0.3]), **ring, zernike_phase_deg=90.0)
    # The share of a circle that meets a ring of its own radius and a hundredth of its width stays below 4 %.
    assert abs(shifted[0] + 1j * plain[0]) < 0.05
    # Its halo: at frequency 0 all of the light passes the ring, and contrast vanishes.
    assert transfer(np.array([0.0]), **ring, zernike_phase_deg=90.0)[0] == pytest.approx(1.0, abs=1e-6)


def image_of(line_integrals, optics, pixel_nm):
    """Image a pattern along the columns, without scintillator."""
    rows = np.broadcast_to(line_integrals.astype(np.float32), (260, 1, line_integrals.size))
    still = Placement(np.zeros(1))
    return form_image(
        np.ascontiguousarray(rows),
        optics,
        energy_kev=8.0,
        pixel_nm=pixel_nm,
        blur_fwhm_nm=0.0,
        supersampling=1,
        halo_rows=128,
        placement=still,
    )[0, 1]


def test_defocus_fringes_of_a_strong_object_follow_the_transport_of_intensity():
    # t = exp(-1.5 g), g a Gaussian of 400 nm, imaged 2 um out of focus: image = t - R wavelength z / (4 pi) t''. What
    # is left out is of the order (pi wavelength z v^2)^2 / 2 at v = 1 / (2 pi 400 nm): 1e-8, and R / 6 times its third
    # power; the coherent pupil passes all of it. float32: 1e-6.
    x = (np.arange(512) - 255.5) * 20.0
    lines = 1.5 * np.exp(-(x**2) / (2 * 400.0**2))
    optics = OpticsRecipe(condenser_na_mrad=0.05 * NA_MRAD, defocus_um=2.0, delta_over_beta=43.0)
    image = image_of(lines, optics, 20.0)
    t = np.exp(-lines)
    first, second = -lines * x / 400.0**2, lines * (x**2 / 400.0**4 - 1 / 400.0**2)
    curvature = t * (first**2 - second)
    wavelength_nm = HC_KEV_NM / 8.0
    fringe = -43.0 * wavelength_nm * 2000.0 / (4 * np.pi) * curvature
    assert np.abs(fringe).max() > 2e-3  # there is something to see
    np.testing.assert_allclose((image - t)[40:-40], fringe[40:-40], atol=2e-5)


def test_defocus_fringes_of_a_weak_object_follow_fresnel():
    # The wave exp(-l / 2 - i R l / 2) propagated by the angular spectrum, squared: an independent road. Weak: 0.002 x
    # 43 / 2 = 0.04 rad. What is second order is that phase squared times the square of what defocus makes of it, 6e-3 /
    # 0.08: 1e-5; the source's size blurs 60 um x 1.3e-5 rad = 0.8 nm of 150.
    x = (np.arange(2048) - 1023.5) * 20.0
    lines = 0.002 * np.exp(-(x**2) / (2 * 150.0**2))
    optics = OpticsRecipe(condenser_na_mrad=0.01 * NA_MRAD, defocus_um=60.0, delta_over_beta=43.0)
    image = image_of(lines, optics, 20.0)
    v = np.fft.fftfreq(x.size, 20.0)
    wave = np.fft.fft(np.exp(-lines / 2 - 43j * lines / 2))
    passed = np.abs(v) * 120.0 < 1
    spectrum = wave * np.exp(-1j * np.pi * HC_KEV_NM / 8.0 * 60_000.0 * v**2) * passed
    expected = np.abs(np.fft.ifft(spectrum)) ** 2
    assert np.ptp(expected) > 5e-3
    np.testing.assert_allclose(image[400:-400], expected[400:-400], atol=2e-5)


def test_silicon_and_copper_share_one_ratio_at_8_kev():
    # What makes one ratio of delta to beta a fair model here: 43 and 42, xraydb's beta taken from the attenuation used.
    for name, expected in (("silicon", 43), ("copper", 42)):
        material = MATERIALS[name]
        delta, _ = refraction(material.formula, material.density_g_per_cm3, 8.0)
        beta = material.attenuation_per_um(8.0) * 1e-3 * HC_KEV_NM / 8.0 / (4 * np.pi)
        assert delta / beta == pytest.approx(expected, abs=2)


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"zernike_phase_deg": 90.0}, "hollow cone"),
        ({"outer_zone_width_nm": 0.0, "defocus_um": 1.0}, "without diffraction"),
        ({"delta_over_beta": -1.0}, "delta_over_beta"),
    ],
)
def test_lenses_that_cannot_be_are_refused(wrong, word):
    with pytest.raises(ValidationError, match=word):
        OpticsRecipe(**wrong)


def test_dark_field_is_refused():
    with pytest.raises(ParameterError, match="dark field"):
        transfer(V, central_stop_fraction=0.5, condenser_na_mrad=0.4 * NA_MRAD)
