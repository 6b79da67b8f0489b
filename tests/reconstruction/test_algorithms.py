import numpy as np
import pytest

from npsi_twin.errors import OutOfRangeWarning
from npsi_twin.projectors.analytic import DiskBand, Ellipse, line_integrals
from npsi_twin.projectors.choice import choose_projector
from npsi_twin.reconstruction.algorithms import angular_weights_rad, extend, fbp, sirt_fbp
from npsi_twin.reconstruction.filters import sirt_fbp_taps
from npsi_twin.scan import ParallelBeam

COPPER = 0.0471


def distance_nm(width, pixel_nm, x=0.0, y=0.0):
    place = (np.arange(width) - (width - 1) / 2) * pixel_nm
    return np.hypot(*np.meshgrid(place - x, place - y))


@pytest.mark.parametrize("endpoint", [False, True])
@pytest.mark.parametrize("axis_offset", [0.0, 0.37, -6.2])
def test_uniform_disk_comes_back_to_2e_4(endpoint, axis_offset):
    """The requirement, at a width where it is hardest in this suite; the mean over all voxels 3 pixels inside."""
    columns, views, pixel = 128, 201, 100.0
    angles = np.linspace(0, np.pi, views, endpoint=endpoint)
    beam = ParallelBeam(angles, columns, pixel, (columns - 1) / 2 + axis_offset)
    disk = Ellipse((400.0, -300.0), (4200.0, 4200.0), 0.05)
    sinogram = line_integrals([disk], beam)[None].astype(np.float32)
    slices = fbp(sinogram, choose_projector("nufft", beam, columns))
    inside = distance_nm(columns, pixel, 400.0, -300.0) < 4200 - 3 * pixel
    assert abs(slices[0][inside].mean() / 0.05 - 1) < 2e-4


def test_disk_mean_converges_with_the_pixel():
    """The ringing of a sharp edge, at a fixed depth below it, falls in proportion to the pixel: a half, 0.6 at most."""
    errors = []
    for columns in (64, 128, 256):
        pixel = 12_800 / columns
        beam = ParallelBeam(np.pi * np.arange(300) / 300, columns, pixel, (columns - 1) / 2)
        sinogram = line_integrals([Ellipse((300.0, 500.0), (4000.0, 4000.0), 0.05)], beam)[None].astype(np.float32)
        slices = fbp(sinogram, choose_projector("nufft", beam, columns))
        inside = distance_nm(columns, pixel, 300.0, 500.0) < 4000 - 600
        errors.append(np.abs(slices[0][inside] / 0.05 - 1).mean())
    assert errors[1] < 0.6 * errors[0]
    assert errors[2] < 0.6 * errors[1]


@pytest.mark.parametrize("fill", [0.4, 0.95])
def test_thin_layer_on_copper_is_right_within_one_percent(fill):
    columns, pixel = 256, 101.6
    beam = ParallelBeam(np.linspace(0, np.pi, 401), columns, pixel, (columns - 1) / 2)
    radius = fill * columns * pixel / 2
    top = 0.1 * radius
    shapes = [
        DiskBand((0.0, 0.0), radius, (top, np.inf), COPPER),
        DiskBand((0.0, 0.0), radius, (top - 2000, top), 0.13 * COPPER),
    ]
    sinogram = line_integrals(shapes, beam)[None].astype(np.float32)
    slices = fbp(sinogram, choose_projector("nufft", beam, columns))[0]
    height = ((np.arange(columns) - (columns - 1) / 2) * pixel)[:, None]
    away = 3 * pixel  # one resolution element of band-limited data is two pixels
    inside = distance_nm(columns, pixel) < radius - away
    layer = inside & (height > top - 2000 + away) & (height < top - away)
    foil = inside & (height > top + away)
    assert abs(slices[layer].mean() / (0.13 * COPPER) - 1) < 0.01
    assert abs(slices[foil].mean() / COPPER - 1) < 1e-3


def test_end_point_recorded_twice_counts_half(needle):
    without, beam = needle(views=180)
    angles = np.append(beam.angles_rad, np.pi)
    mirrored, _ = needle(views=180)
    twice = np.concatenate([without, mirrored[:, :1, ::-1]], axis=1)
    both = fbp(twice, choose_projector("nufft", ParallelBeam(angles, 128, 100.0, 63.5), 128))
    once = fbp(without, choose_projector("nufft", beam, 128))
    # The two end views are the same view mirrored, so nothing but the transform's own accuracy (1e-4) may differ.
    assert np.abs(both - once).max() < 3e-4 * np.abs(once).max()


def test_weights_of_any_angles_add_up_to_half_a_turn():
    rng = np.random.default_rng(3)
    assert np.isclose(angular_weights_rad(np.sort(rng.uniform(0, np.pi, 400)) * 0 + np.arange(400) * 0.01).sum(), np.pi)
    jittered = np.pi * (np.arange(90) + rng.uniform(-0.3, 0.3, 90)) / 90
    shuffled = rng.permutation(jittered) + np.pi * rng.integers(-2, 3, 90)
    assert np.isclose(angular_weights_rad(shuffled).sum(), np.pi)
    full = np.arange(360) * np.pi / 180
    np.testing.assert_allclose(angular_weights_rad(full), np.pi / 360, rtol=1e-9)


def test_a_missing_wedge_is_told():
    with pytest.warns(OutOfRangeWarning, match=r"gap of 61\.00 degrees"):
        weights = angular_weights_rad(np.deg2rad(np.arange(120.0)))
    # Views at the edge of the wedge count like all others, and not for what nobody saw.
    np.testing.assert_allclose(weights, np.deg2rad(1.0), rtol=1e-9)


def test_a_wedge_s_edges_draw_no_streaks_of_their_own():
    """Sixty degrees missing: what capped edges leave outside a disk is less than what half the wedge each would."""
    beam = ParallelBeam(np.deg2rad(np.arange(120.0)), 96, 100.0, 47.5)
    disk = Ellipse((400.0, -300.0), (2000.0, 2000.0), COPPER)
    sinogram = line_integrals([disk], beam)[None].astype(np.float32)
    projector = choose_projector("fourier", beam, 96)
    with pytest.warns(OutOfRangeWarning):
        capped = fbp(sinogram, projector)[0]
    weights = np.ones((120, 1), np.float32)
    weights[[0, -1]] = (1 + 61) / 2  # half of either neighbouring step
    with pytest.warns(OutOfRangeWarning):
        voronoi = fbp(sinogram * weights, projector)[0]
    outside = (distance_nm(96, 100.0, 400.0, -300.0) > 2300.0) & (distance_nm(96, 100.0) < 4600.0)
    # What the missing directions themselves leave stays; the edges' own streaks are a third of all.
    assert np.std(capped[outside]) < 0.8 * np.std(voronoi[outside])


def test_sirt_fbp_is_close_to_sirt(needle):
    """True Landweber iterations against the filter: within 2 % rms in the inner half of the field."""
    columns, iterations = 65, 60
    sinograms, beam = needle(columns=columns, views=120, fill=0.7)
    projector = choose_projector("nufft", beam, columns)
    step = np.float32(1 / (beam.views * columns * (beam.pixel_nm / 1000) ** 2))
    sirt = np.zeros((1, columns, columns), np.float32)
    for _ in range(iterations):
        sirt += step * projector.adjoint(sinograms - projector.forward(sirt))
    filtered = sirt_fbp(sinograms, projector, sirt_fbp_taps(beam, iterations))
    inner = distance_nm(columns, beam.pixel_nm) < columns * beam.pixel_nm / 4

    def off(slices):
        return np.sqrt(np.mean((slices - sirt)[0][inner] ** 2) / np.mean(sirt[0][inner] ** 2))

    assert off(filtered) < 0.02
    assert off(filtered) < 0.5 * off(fbp(sinograms, projector))


def test_fourier_and_astra_agree(needle):
    sinograms, beam = needle(columns=96, views=151, axis=46.9, fill=0.8)
    fourier = fbp(sinograms, choose_projector("nufft", beam, 96))
    rays = fbp(sinograms, choose_projector("astra-cpu", beam, 96))
    inside = distance_nm(96, beam.pixel_nm) < 0.8 * 48 * beam.pixel_nm
    # Linear interpolation in ASTRA smooths by sinc(nu)**2, at most 60 % off at Nyquist; a sharp-edged sample has about
    # a tenth of its amplitude there.
    difference = np.sqrt(np.mean((fourier - rays)[0][inside] ** 2) / np.mean(fourier[0][inside] ** 2))
    assert difference < 0.08
    field = distance_nm(96, beam.pixel_nm) < 47 * beam.pixel_nm
    assert abs(fourier[0][field].mean() / rays[0][field].mean() - 1) < 1e-3


def test_extension_keeps_the_geometry(needle):
    """A sample inside the field: nothing lies at the edges, so extending changes nothing."""
    sinograms, beam = needle(columns=96, views=120, axis=45.2, fill=0.8)
    wide, wide_beam = extend(sinograms, beam, 48)
    assert wide.shape == (1, 120, 192)
    a = fbp(sinograms, choose_projector("nufft", beam, 96))
    b = fbp(wide, choose_projector("nufft", wide_beam, 96))
    inside = distance_nm(96, beam.pixel_nm) < 45 * beam.pixel_nm
    np.testing.assert_allclose(a[0][inside], b[0][inside], rtol=0, atol=6e-4 * np.abs(a).max())
