"""One suite for every projector that is present: what `npsi_twin.projectors.contract` promises."""

import os
from collections.abc import Callable
from typing import Any

import astra
import numpy as np
import pytest

from npsi_twin.errors import IncompatibleError, ParameterError
from npsi_twin.projectors.analytic import DiskBand, Ellipse, Gaussian, Shape, line_integrals, rasterise
from npsi_twin.projectors.astra import AstraProjector
from npsi_twin.projectors.contract import Projector
from npsi_twin.projectors.fourier import FourierProjector
from npsi_twin.projectors.nufft import NufftProjector, missing_for_gpu
from npsi_twin.projectors.rays import RaysProjector
from npsi_twin.scan import ParallelBeam

Make = Callable[..., Projector]
FIELD_NM = 6400.0
FOURIER = ("fourier", "nufft", "cufinufft")
GPU_OPTIONAL = os.environ.get("NPSI_TWIN_REQUIRE_GPU") != "1"

BACKENDS = {
    "fourier": FourierProjector,
    "rays": RaysProjector,
    "nufft": NufftProjector,
    "astra-linear": AstraProjector,
    "astra-strip": lambda beam, width, **options: AstraProjector(beam, width, kernel="strip", **options),
    "astra-line": lambda beam, width, **options: AstraProjector(beam, width, kernel="line", **options),
}


def _astra_cuda(beam: ParallelBeam, width: int, threads: int | None = None) -> Projector:
    return AstraProjector(beam, width, device="cuda", threads=threads)


def _cufinufft(beam: ParallelBeam, width: int, threads: int | None = None) -> Projector:
    return NufftProjector(beam, width, device="cuda", threads=threads)


def on_gpu(make: Callable[..., Projector], name: str, missing: str | None) -> Any:
    """Return a parameter of the suite that is skipped by name, or fails where a GPU is required."""
    skip = pytest.mark.skipif(GPU_OPTIONAL and missing is not None, reason=f"{name}: {missing} here")
    return pytest.param(make, id=name, marks=[pytest.mark.gpu, skip])


@pytest.fixture(
    params=[
        *(pytest.param(make, id=name) for name, make in BACKENDS.items()),
        on_gpu(_astra_cuda, "astra-cuda", None if astra.use_cuda() else "no NVIDIA GPU"),
        on_gpu(_cufinufft, "cufinufft", missing_for_gpu()),
    ]
)
def make(request: pytest.FixtureRequest) -> Make:
    return request.param


def skew_beam(width: int = 64, views: int = 23, *, axis: float = 0.03, shift: float = 0.03) -> ParallelBeam:
    """A geometry without any symmetry: axis off the middle by part of a pixel, a shift a view, irregular angles."""
    rng = np.random.default_rng(5)
    angles = np.sort(rng.uniform(-0.2, np.pi + 0.3, views))
    columns = int(1.15 * width)
    centre = (columns - 1) / 2 + axis * width + 0.317
    return ParallelBeam(angles, columns, FIELD_NM / width, centre, rng.uniform(-shift, shift, views) * width)


#: Two ellipses that no flip and no transposition maps onto each other.
ELLIPSES: list[Shape] = [
    Ellipse((0.13 * FIELD_NM, -0.21 * FIELD_NM), (0.2 * FIELD_NM, 0.08 * FIELD_NM), 0.3, 0.4),
    Ellipse((-0.2 * FIELD_NM, 0.1 * FIELD_NM), (0.1 * FIELD_NM, 0.15 * FIELD_NM), 0.2, -1.0),
]


def relative_error(measured: np.ndarray, exact: np.ndarray) -> float:
    return float(np.linalg.norm(measured - exact) / np.linalg.norm(exact))


def kernel_of(make: Make) -> str:
    projector = make(skew_beam(), 64)
    return "linear" if projector.name == "rays" else getattr(projector, "kernel", projector.name)


def error_on(make: Make, shapes: list[Shape], width: int) -> float:
    beam = skew_beam(width)
    measured = make(beam, width).forward(rasterise(shapes, width, beam.pixel_nm)[None])[0]
    return relative_error(measured, line_integrals(shapes, beam))


def test_forward_and_adjoint_are_linear(make):
    rng = np.random.default_rng(1)
    projector = make(skew_beam(), 64)
    for verb, shape in ((projector.forward, (2, 64, 64)), (projector.adjoint, (2, 23, 73))):
        first, second = rng.standard_normal((2, *shape), np.float32)
        joint = verb(2 * first - 3 * second)
        # float32 rounding of sums over some 64 to 10^4 terms: 1e-7 * sqrt(10^4) at most.
        np.testing.assert_allclose(joint, 2 * verb(first) - 3 * verb(second), atol=1e-5 * np.abs(joint).max())


@pytest.mark.parametrize(("width", "columns"), [(64, 73), (63, 40), (32, 101)])
def test_adjoint_is_the_transpose(make, width, columns):
    rng = np.random.default_rng(2)
    beam = ParallelBeam(
        np.sort(rng.uniform(0, 4, 19)), columns, 25.4, 0.47 * columns, column_shift_px=rng.normal(0, 2, 19)
    )
    projector = make(beam, width)
    x = rng.random((3, width, width), np.float32)
    y = rng.random((3, 19, columns), np.float32)
    left = np.vdot(projector.forward(x).astype(float), y.astype(float))
    right = np.vdot(x.astype(float), projector.adjoint(y).astype(float))
    # ASTRA's CUDA backprojection is a different interpolation from its projection and not its transpose.
    assert left == pytest.approx(right, rel=1e-5 if projector.name != "astra-cuda" else 1e-2)


def test_off_centre_rotated_ellipses_agree_with_closed_form(make):
    # A sharp edge has a spectrum ~ w^-1.5, so that what a grid of step h cannot hold is ~ h in root mean square: of the
    # order of (voxel / size) / (2 pi), 1 % for a smallest semi-axis of 10 voxels. "line" samples and is twice as far.
    assert error_on(make, ELLIPSES, 128) < (0.02 if kernel_of(make) == "line" else 0.012)
    # The same check must notice every flip.
    beam = skew_beam(128)
    exact = line_integrals(ELLIPSES, beam)
    image = rasterise(ELLIPSES, 128, beam.pixel_nm)
    for wrong in (image[::-1], image[:, ::-1], image.T, image[::-1, ::-1]):
        assert relative_error(make(beam, 128).forward(wrong[None])[0], exact) > 0.3


def test_error_falls_with_the_voxel_as_sharp_edges_allow(make):
    coarse, fine = error_on(make, ELLIPSES, 64), error_on(make, ELLIPSES, 256)
    # Order 1 in root mean square for every kernel; the angles' luck with edges moves it by 0.15 over two halvings.
    assert np.log2(coarse / fine) / 2 > 0.85


def test_error_on_a_smooth_object_shows_the_kernel_order(make):
    shapes: list[Shape] = [
        Gaussian((0.11 * FIELD_NM, -0.07 * FIELD_NM), FIELD_NM / 16, 0.3),
        Gaussian((-0.1 * FIELD_NM, 0.03 * FIELD_NM), FIELD_NM / 20, 0.2),
    ]
    errors = [error_on(make, shapes, width) for width in (40, 160)]
    if kernel_of(make) in FOURIER:
        # Sigma of 2 voxels: aliases exp(-pi^2 2^2 / 2) = 3e-9; what is left is the gridding and single precision.
        assert max(errors) < 2e-5
    elif kernel_of(make) == "line":
        # A step-shaped weight samples the bin at one place: first order, with luck better.
        assert errors[1] < errors[0] / 4
    else:
        # Linear interpolation and area weights blur by a variance proportional to h^2: order 2.
        assert np.log2(errors[0] / errors[1]) / 2 == pytest.approx(2, abs=0.2)


def test_mass_is_kept_in_every_view(make):
    beam = skew_beam(128)
    sums = make(beam, 128).forward(rasterise(ELLIPSES, 128, beam.pixel_nm)[None])[0].sum(axis=1, dtype=float)
    mass_nm = sum(shape.attenuation_per_um * shape.area_nm2 for shape in ELLIPSES if isinstance(shape, Ellipse)) / 1000
    # Area weights sum to one voxel exactly. Fourier: sinc tails beyond the detector. Rays: quadrature across the edge.
    tolerance = {**dict.fromkeys(FOURIER, 2e-4), "linear": 1e-3, "strip": 1e-5, "line": 3e-3}
    np.testing.assert_allclose(sums * beam.pixel_nm, mass_nm, rtol=tolerance[kernel_of(make)])


def test_axis_and_shifts_move_a_point_as_the_scan_conventions_say(make):
    beam = skew_beam(64, axis=-0.11, shift=0.06)
    x, y = 0.19 * FIELD_NM, -0.08 * FIELD_NM
    shapes: list[Shape] = [Gaussian((x, y), FIELD_NM / 24, 1.0)]
    sinogram = make(beam, 64).forward(rasterise(shapes, 64, beam.pixel_nm)[None])[0].astype(float)
    centroid = (sinogram * np.arange(beam.columns)).sum(axis=1) / sinogram.sum(axis=1)
    place = (x * np.cos(beam.angles_rad) - y * np.sin(beam.angles_rad)) / beam.pixel_nm
    expected = place + beam.known_axis_px() + np.asarray(beam.column_shift_px)
    # Exact to rounding for a shape smooth over 2.7 voxels. "line" lets a ray along a column of voxels see that column
    # only, wherever in it the ray runs: half a pixel.
    np.testing.assert_allclose(centroid, expected, atol=0.5 if kernel_of(make) == "line" else 1e-3)


def test_a_finer_detector_averages_to_the_same_bins(make):
    # Supersampling: voxels and columns half as large, axis and shifts in their places, two fine columns a column.
    beam = skew_beam(64)
    exact = line_integrals(ELLIPSES, beam)
    coarse, fine = (
        make(b, width).forward(rasterise(ELLIPSES, width, b.pixel_nm)[None])[0]
        for b, width in ((beam, 64), (beam.refined(2), 128))
    )
    averaged = fine.reshape(beam.views, beam.columns, 2).mean(axis=2)
    # An edge misplaced by half as much and averaged over two columns: 2 to 4 times less; "line" the least.
    assert relative_error(averaged, exact) < relative_error(coarse, exact) / 1.7


def test_object_in_the_corners_does_not_wrap(make):
    # A disk in one corner leaves a detector that is half as wide as the slice in most views, and must not come back in
    # at the other side.
    beam = ParallelBeam(np.linspace(0, np.pi, 40), 32, FIELD_NM / 64, rotation_axis_px=11.2)
    shapes: list[Shape] = [Ellipse((0.4 * FIELD_NM, 0.4 * FIELD_NM), (0.08 * FIELD_NM, 0.08 * FIELD_NM), 1.0)]
    sinogram = make(beam, 64).forward(rasterise(shapes, 64, beam.pixel_nm)[None])[0]
    exact = line_integrals(shapes, beam)
    unseen = exact.max(axis=1) == 0
    assert unseen.sum() > 15
    # Fourier: the band limit rings, at some percent of the disk (1.024 um deep) right next to it.
    assert np.abs(sinogram[unseen]).max() < 0.05
    assert relative_error(sinogram[~unseen], exact[~unseen]) < 0.05


def test_backends_agree_with_one_another(make):
    beam = skew_beam(128)
    image = rasterise(ELLIPSES, 128, beam.pixel_nm)[None]
    reference = NufftProjector(beam, 128).forward(image)
    # Both lie within 1.25 % of the closed form, on the two sides of it at worst.
    assert relative_error(make(beam, 128).forward(image), reference) < 0.02


def test_unit_tap_gives_the_adjoint(make):
    projector = make(skew_beam(), 64)
    sinograms = np.random.default_rng(3).random((2, 23, 73), np.float32)
    plain = projector.adjoint(sinograms)
    filtered = projector.filtered_adjoint(sinograms, np.array([1.0]))
    # Single precision of the transforms, and of a ray's place counted from another end of the detector (64 eps).
    np.testing.assert_allclose(filtered, plain, atol=5e-5 * np.abs(plain).max())


def test_convolution_is_linear_centred_and_kept_beyond_the_detector(make):
    rng = np.random.default_rng(4)
    beam = skew_beam(48)
    views, columns, extra = beam.views, beam.columns, 30
    taps = rng.standard_normal((views, 61))
    smooth = np.hanning(columns)[None, None] * (1 + rng.random((1, views, 1)))
    # The same convolution by definition, on a detector wide enough to hold all of it.
    wide = np.array([[np.convolve(row, tap) for row, tap in zip(smooth[0], taps, strict=True)]])
    axis = beam.known_axis_px() + extra
    wider = ParallelBeam(beam.angles_rad, columns + 2 * extra, beam.pixel_nm, axis, beam.column_shift_px)
    expected = make(wider, 48).adjoint(wide)
    result = make(beam, 48).filtered_adjoint(smooth, taps)
    # The Fourier road interpolates between columns with a period that depends on the detector: 1 % on rough taps.
    tolerance = 2e-2 if kernel_of(make) in FOURIER else 5e-5
    assert relative_error(result, expected) < tolerance
    one = make(beam, 48).filtered_adjoint(smooth, taps[0])
    same = make(beam, 48).filtered_adjoint(smooth, np.repeat(taps[:1], views, axis=0))
    np.testing.assert_array_equal(one, same)


def ramp_taps(columns: int) -> np.ndarray:
    """Ramachandran and Lakshminarayanan's taps for unit columns, from the definition."""
    lag = np.arange(1 - columns, columns)
    taps = np.zeros(2 * columns - 1)
    taps[lag == 0] = 0.25
    odd = lag % 2 == 1
    taps[odd] = -1 / (np.pi * lag[odd]) ** 2
    return taps


def test_filtered_backprojection_returns_a_disk(make):
    width, views, attenuation, radius = 128, 201, 0.2, 0.3 * FIELD_NM
    beam = ParallelBeam(np.arange(views) * np.pi / views, width, FIELD_NM / width, rotation_axis_px=66.8)
    disk = Ellipse((0.03 * FIELD_NM, -0.05 * FIELD_NM), (radius, radius), attenuation)
    sinograms = line_integrals([disk], beam)[None]
    voxel_um = beam.pixel_nm / 1000
    scale = np.pi / views / voxel_um**2
    image = scale * make(beam, width).filtered_adjoint(sinograms, ramp_taps(width))[0]
    x = (np.arange(width) - (width - 1) / 2) * beam.pixel_nm
    from_centre = np.hypot(x[None, :] - disk.centre_nm[0], x[:, None] - disk.centre_nm[1])
    # Gibbs ringing of a Ram-Lak filter averages out over the inside to 1/(2 * 38) of its few percent at the edge.
    assert image[from_centre < 0.9 * radius].mean() == pytest.approx(attenuation, rel=5e-4)
    assert abs(image[from_centre > 1.2 * radius].mean()) < 5e-4 * attenuation


def test_threads_slab_split_layout_and_type_do_not_change_a_bit(make):
    rng = np.random.default_rng(6)
    beam = skew_beam()
    one, three = make(beam, 64, threads=1), make(beam, 64, threads=3)
    # cufinufft adds up with atomics, in any order.
    atol = 1e-5 if one.name == "cufinufft" else 0.0

    def same(found: Any, expected: Any) -> None:
        np.testing.assert_allclose(found, expected, rtol=0, atol=atol * np.abs(expected).max())

    taps = ramp_taps(beam.columns)
    for verb, shape in (("forward", (5, 64, 64)), ("adjoint", (5, 23, 73)), ("filtered_adjoint", (5, 23, 73))):
        given = rng.random(shape, np.float32)
        kept = given.copy()
        given.flags.writeable = False
        options = (taps,) if verb == "filtered_adjoint" else ()
        result = getattr(one, verb)(given, *options)
        np.testing.assert_array_equal(given, kept)
        assert result.dtype == np.float32
        assert result.flags.c_contiguous
        for _ in range(2):
            same(getattr(three, verb)(given, *options), result)
        parts = [getattr(three, verb)(given[part], *options) for part in (slice(0, 1), slice(1, 5))]
        same(np.concatenate(parts), result)
        strided = np.asfortranarray(given.astype(np.float64))
        same(getattr(three, verb)(strided, *options), result)


def test_wrong_arrays_are_refused_with_their_place(make):
    projector = make(skew_beam(), 64)
    slab, sinograms = np.zeros((2, 64, 64), np.float32), np.zeros((2, 23, 73), np.float32)
    slab[1, 3, 5] = np.nan
    sinograms[0, 22, 7] = np.inf
    with pytest.raises(ParameterError, match=r"slab hold nan at \(z, y, x\) = \(1, 3, 5\)"):
        projector.forward(slab)
    with pytest.raises(ParameterError, match=r"inf at \(z, view, column\) = \(0, 22, 7\)"):
        projector.adjoint(sinograms)
    with pytest.raises(ParameterError, match="inf at"):
        projector.filtered_adjoint(sinograms, np.ones(1))
    with pytest.raises(ParameterError, match="inf at"):
        projector.forward(np.full((1, 64, 64), 1e39))  # finite in double precision, infinite in single
    with pytest.raises(ParameterError, match="complex64; real numbers"):
        projector.forward(np.zeros((1, 64, 64), np.complex64))
    for wrong in (np.zeros((64, 64)), np.zeros((0, 64, 64)), np.zeros((1, 64, 63))):
        with pytest.raises(IncompatibleError, match=r"\(z, y, x\) = \(at least 1, 64, 64\)"):
            projector.forward(wrong)
    with pytest.raises(IncompatibleError, match=r"\(at least 1, 23, 73\)"):
        projector.adjoint(np.zeros((1, 73, 23)))


@pytest.mark.parametrize("taps", [np.ones(4), np.ones(147), np.ones((22, 3)), np.ones((1, 1, 3)), np.ones(0)])
def test_wrong_taps_are_refused(make, taps):
    with pytest.raises(IncompatibleError, match="odd number of taps up to 145"):
        make(skew_beam(), 64).filtered_adjoint(np.zeros((1, 23, 73)), taps)


def test_wrong_geometry_is_refused(make):
    beam = skew_beam()
    unknown = ParallelBeam(beam.angles_rad, beam.columns, beam.pixel_nm)
    with pytest.raises(IncompatibleError, match="rotation axis is unknown"):
        make(unknown, 64)
    for width in (0, 2.5, True):
        with pytest.raises(ParameterError, match="whole, positive number of voxels"):
            make(beam, width)
    with pytest.raises(ParameterError, match="taps must be finite"):
        make(beam, 64).filtered_adjoint(np.zeros((1, 23, 73)), np.array([np.nan]))


def test_a_foil_and_a_layer_in_a_needle_agree_with_closed_form(make):
    needle = {"centre_nm": (0.01 * FIELD_NM, 0.02 * FIELD_NM), "radius_nm": 0.45 * FIELD_NM}
    foil = DiskBand(**needle, band_nm=(0.0, np.inf), attenuation_per_um=0.4)
    layer = DiskBand(**needle, band_nm=(-0.05 * FIELD_NM, 0.0), attenuation_per_um=0.05)
    # The foil's surface, seen edge-on, is a step of its whole depth: it sets the error.
    assert error_on(make, [foil, layer], 128) < 0.012
