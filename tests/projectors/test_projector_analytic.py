"""The oracle against definitions it does not use: quadrature over chords, fine sampling, and the laws of areas."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from npsi_twin.errors import IncompatibleError, ParameterError
from npsi_twin.projectors.analytic import (
    DiskBand,
    Ellipse,
    Ellipsoid,
    Gaussian,
    disk_cut_by_two_lines,
    line_integrals,
    rasterise,
)
from npsi_twin.scan import ParallelBeam

ELLIPSE = Ellipse((300.0, -450.0), (900.0, 350.0), 0.3, 0.7)
BAND = DiskBand((150.0, 80.0), 1100.0, (-200.0, 260.0), 0.4)
GAUSSIAN = Gaussian((-250.0, 120.0), 180.0, 0.2)
SHAPES = [ELLIPSE, BAND, GAUSSIAN]


def attenuation_at(shape, x, y):
    """The shapes' definitions, point by point."""
    dx, dy = x - shape.centre_nm[0], y - shape.centre_nm[1]
    if isinstance(shape, Gaussian):
        return shape.attenuation_per_um * np.exp(-(dx**2 + dy**2) / (2 * shape.sigma_nm**2))
    if isinstance(shape, DiskBand):
        inside = (dx**2 + dy**2 <= shape.radius_nm**2) & (y >= shape.band_nm[0]) & (y <= shape.band_nm[1])
    else:
        cosine, sine = np.cos(shape.rotation_rad), np.sin(shape.rotation_rad)
        along, across = dx * cosine + dy * sine, dy * cosine - dx * sine
        inside = (along / shape.semi_axes_nm[0]) ** 2 + (across / shape.semi_axes_nm[1]) ** 2 <= 1
    return shape.attenuation_per_um * inside


def chord_um(shape, angle, offset):
    """Length of the ray at an offset inside a disk band, by clipping the ray's parameter; um."""
    cosine, sine = np.cos(angle), np.sin(angle)
    dx, dy = shape.centre_nm
    foot = dx * sine + dy * cosine
    half = np.sqrt(max(shape.radius_nm**2 - (offset - dx * cosine + dy * sine) ** 2, 0.0))
    low, high = foot - half, foot + half
    crossings = sorted((limit + offset * sine) / cosine for limit in shape.band_nm)
    return max(min(high, crossings[1]) - max(low, crossings[0]), 0.0) / 1000


@pytest.mark.parametrize("angle", [0.0, 0.3, 1.2, 1.7, -2.2, np.pi])
def test_disk_band_bins_are_the_mean_of_clipped_chords(angle):
    beam = ParallelBeam(np.array([angle]), 31, 97.0, 14.6, np.array([0.3]))
    found = line_integrals([BAND], beam)[0]
    for column in (0, 6, 9, 12, 15, 18, 21, 24, 30):
        low = (column - 0.5 - 14.6 - 0.3) * 97.0
        expected = quad(lambda s: chord_um(BAND, angle, s), low, low + 97.0, limit=200)[0] / 97.0
        # quad's own error at the chord's square-root ends and kinks
        assert found[column] == pytest.approx(0.4 * expected, abs=1e-7)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: type(shape).__name__)
def test_rays_and_voxels_hold_the_same_mass_in_every_view(shape):
    angles = np.array([0.0, np.pi / 2, -np.pi / 2, np.pi, 1.5 * np.pi, 0.1, 2.0, -3.0])
    beam = ParallelBeam(angles, 80, 50.0, rotation_axis_px=41.3)
    sums = line_integrals([shape], beam).sum(axis=1) * 0.05
    image = rasterise([shape], 100, 50.0).sum(dtype=float) * 0.05**2
    # Both are closed; the image is rounded to single precision, the Gaussian loses its tails beyond 9 sigma.
    np.testing.assert_allclose(sums, image, rtol=1e-6)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: type(shape).__name__)
def test_voxels_are_averages(shape):
    width, fine = 30, 64
    image = rasterise([shape], width, 100.0)
    x = (np.arange(width * fine) - (width * fine - 1) / 2) * 100.0 / fine
    sampled = attenuation_at(shape, x[None, :], x[:, None]).reshape(width, fine, width, fine).mean(axis=(1, 3))
    # An edge through a voxel misplaces at most about one of the 64 rows of samples it crosses.
    np.testing.assert_allclose(image, sampled, atol=shape.attenuation_per_um * 1.5 / fine)


def test_ellipse_projection_is_the_textbook_chord():
    # One thin bin: Kak and Slaney's 2 mu a b sqrt(h^2 - s^2) / h^2 in the middle of it.
    angle, offset = 0.9, 130.0
    middle = ELLIPSE.centre_nm[0] * np.cos(angle) - ELLIPSE.centre_nm[1] * np.sin(angle)
    beam = ParallelBeam(np.array([angle]), 1, 0.01, rotation_axis_px=-(middle + offset) / 0.01)
    a, b = ELLIPSE.semi_axes_nm
    turned = angle + ELLIPSE.rotation_rad
    h2 = (a * np.cos(turned)) ** 2 + (b * np.sin(turned)) ** 2
    expected = 0.3 * 2 * a * b * np.sqrt(h2 - offset**2) / h2 / 1000
    # Differences of areas near 1e6 nm^2 over a bin of 0.01 nm: 1e-16 * 1e6 / 0.01 / chord of 300 nm.
    assert line_integrals([ELLIPSE], beam)[0, 0] == pytest.approx(expected, rel=1e-8)


def test_band_edge_on_bin_edge_is_counted_once():
    # At 90 and 270 degrees the columns are rows of the slice, and the band's limits fall on their edges.
    band = DiskBand((0.0, 0.0), 1e7, (-200.0, 300.0), 1.0)
    beam = ParallelBeam(np.array([-np.pi / 2, np.pi / 2]), 11, 100.0, rotation_axis_px=5.5)
    found = line_integrals([band], beam) / (2e7 / 1000)
    expected = np.zeros((2, 11))
    expected[0, 4:9] = 1  # s = y from -200 to 300 nm; column c covers (c - 6) * 100 to (c - 5) * 100
    expected[1, 3:8] = 1  # s = -y
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_ellipsoid_sections_add_up_to_its_volume():
    ellipsoid = Ellipsoid((10.0, 20.0, 30.0), (500.0, 300.0, 400.0), 0.1, 0.2)
    edges = np.linspace(-370.0, 430.0, 2001)
    areas = [ellipsoid.section(z).area_nm2 for z in (edges[:-1] + edges[1:]) / 2]
    # Midpoint rule on a parabola: 1 / (2 n^2).
    assert np.sum(areas) * 0.4 == pytest.approx(4 / 3 * np.pi * 500 * 300 * 400, rel=1e-6)
    assert ellipsoid.section(431.0) is None


@given(
    st.floats(-7, 7), st.floats(-1.2, 1.2), st.floats(-7, 7), st.floats(-1.2, 1.2), st.sampled_from([0, 1e-13, 1e-9, 1])
)
def test_a_line_cuts_any_piece_of_the_disk_in_two(angle1, s, angle2, t, apart):
    angle2 = angle1 + apart * angle2  # parallel and nearly parallel lines too
    piece = disk_cut_by_two_lines(angle1, s, angle2, t)
    rest = disk_cut_by_two_lines(angle1, s, angle2 + np.pi, -t)
    half_plane = disk_cut_by_two_lines(angle1, s, 0.0, np.inf)
    depth = np.clip(s, -1, 1)
    assert half_plane == pytest.approx(np.pi - np.arccos(depth) + depth * np.sqrt(1 - depth**2), abs=1e-12)
    assert -1e-12 <= piece <= half_plane + 1e-12
    # Lines 1e-12 apart in direction are told apart by angles of 1e-16 * 7: their crossing is known to 1e-3 of it.
    assert piece + rest == pytest.approx(half_plane, abs=1e-6)
    assert piece == pytest.approx(disk_cut_by_two_lines(angle2, t, angle1, s), abs=1e-6)


@pytest.mark.parametrize(
    "build",
    [
        lambda: Ellipse((0.0, 0.0), (1.0, 0.0), 1.0),
        lambda: Ellipse((0.0, np.nan), (1.0, 1.0), 1.0),
        lambda: Ellipsoid((0.0, 0.0, 0.0), (1.0, 1.0, -1.0), 1.0),
        lambda: DiskBand((0.0, 0.0), -1.0, (0.0, 1.0), 1.0),
        lambda: DiskBand((0.0, 0.0), 1.0, (1.0, 1.0), 1.0),
        lambda: DiskBand((0.0, 0.0), 1.0, (np.nan, 1.0), 1.0),
        lambda: Gaussian((0.0, 0.0), 0.0, 1.0),
        lambda: Gaussian((0.0, 0.0), 1.0, np.inf),
        lambda: rasterise([], 0, 1.0),
        lambda: rasterise([], 4, np.nan),
    ],
)
def test_impossible_shapes_are_refused(build):
    with pytest.raises(ParameterError, match=r"must be|finite"):
        build()


def test_line_integrals_need_a_rotation_axis():
    with pytest.raises(IncompatibleError, match="rotation axis is unknown"):
        line_integrals([ELLIPSE], ParallelBeam(np.zeros(1), 5, 1.0))
