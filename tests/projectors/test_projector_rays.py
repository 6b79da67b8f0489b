"""What only the package's own ray projector promises: its defining weights, ASTRA's numbers, its two ways back."""

import numpy as np
import pytest

from npsi_twin.errors import IncompatibleError, ParameterError
from npsi_twin.projectors.astra import AstraProjector
from npsi_twin.projectors.lanes import LANES
from npsi_twin.projectors.rays import RaysProjector
from npsi_twin.scan import ParallelBeam

# Irregular angles over more than a turn, and every direction in which a ray runs along lines or diagonals of pixels.
ANGLES = np.concatenate([np.linspace(-0.3, 6.6, 10), np.arange(-4, 9) * np.pi / 4, [1e-12, np.pi / 2 - 1e-7]])
BEAM = ParallelBeam(
    ANGLES,
    21,
    25.4,
    rotation_axis_px=8.3,
    column_shift_px=np.random.default_rng(7).normal(0, 1.5, ANGLES.size),
)
VIEWS = ANGLES.size


def weights(beam: ParallelBeam, width: int, *, transpose: bool) -> np.ndarray:
    """The module's model by definition, a dense matrix in double precision (views * columns, width^2)."""
    place = np.arange(width) - (width - 1) / 2
    y, x = (grid.ravel() for grid in np.meshgrid(place, place, indexing="ij"))
    blocks = []
    for angle, shift in zip(beam.angles_rad, beam.column_shift_px, strict=True):
        falls_on = x * np.cos(angle) - y * np.sin(angle) + beam.known_axis_px() + shift
        away = np.abs(falls_on - np.arange(beam.columns)[:, None])
        m = max(abs(np.cos(angle)), abs(np.sin(angle))) if transpose else 1.0
        blocks.append(np.maximum(0, 1 - away / m) / m)
    return np.concatenate(blocks) * beam.pixel_nm / 1000


@pytest.mark.parametrize("width", [1, 2, 20, 33, 70])
def test_the_three_verbs_are_their_defining_weights(width):
    rng = np.random.default_rng(8)
    projector = RaysProjector(BEAM, width)
    slab = rng.standard_normal((3, width, width)).astype(np.float32)
    sinograms = rng.standard_normal((3, VIEWS, 21)).astype(np.float32)
    joseph, interpolated = (weights(BEAM, width, transpose=transpose) for transpose in (True, False))
    for found, expected in (
        (projector.forward(slab), slab.reshape(3, -1) @ joseph.T),
        (projector.adjoint(sinograms), sinograms.reshape(3, -1) @ joseph),
        (projector.backproject(sinograms), sinograms.reshape(3, -1) @ interpolated),
    ):
        # A place within a tile of 64 pixels is rounded to 4e-6 of a pixel, and so is its weight of order 1.
        assert np.linalg.norm(found.ravel() - expected.ravel()) < 1e-5 * np.linalg.norm(expected)


@pytest.mark.parametrize("width", [64, 129])
def test_forward_and_adjoint_are_those_of_astra_linear(width):
    # Rays 1 pixel apart leave the detector narrower than the slice in some views and wider in others.
    rng = np.random.default_rng(9)
    beam = ParallelBeam(ANGLES, 101, 25.4, 47.9, rng.normal(0, 2, VIEWS))
    ours, theirs = RaysProjector(beam, width), AstraProjector(beam, width)
    slab, sinograms = rng.random((2, width, width), np.float32), rng.random((2, VIEWS, 101), np.float32)
    for verb, given in (("forward", slab), ("adjoint", sinograms)):
        found, expected = getattr(ours, verb)(given), getattr(theirs, verb)(given)
        # ASTRA adds up a ray's place in single precision, 1e-5 of a pixel after a hundred lines.
        assert np.linalg.norm(found - expected) < 1e-4 * np.linalg.norm(expected)


def test_an_even_sinogram_backprojects_evenly():
    # Weights of linear interpolation sum to one: every view gives every voxel that it sees the same.
    beam = ParallelBeam(ANGLES, 60, 100.0, 29.3)
    even = RaysProjector(beam, 33).backproject(np.ones((1, VIEWS, 60), np.float32))
    # 25 views of 0.1 um, a rounding each
    np.testing.assert_allclose(even, VIEWS * 0.1, rtol=VIEWS * 6e-8)


def test_a_slice_is_not_touched_by_its_neighbours():
    # More slices than lanes, among them nothing and something a million times as large.
    rng = np.random.default_rng(10)
    projector = RaysProjector(BEAM, 40)
    slab = rng.random((LANES + 3, 40, 40), np.float32)
    slab[1] = 0
    slab[2] *= 1e6
    sinograms = projector.forward(slab)
    for verb in (projector.adjoint, projector.backproject):
        back = verb(sinograms)
        assert np.all(sinograms[1] == 0)
        assert np.all(back[1] == 0)
        for index in (0, 3, LANES - 1, LANES, LANES + 2):
            np.testing.assert_array_equal(projector.forward(slab[index : index + 1])[0], sinograms[index])
            np.testing.assert_array_equal(verb(sinograms[index : index + 1])[0], back[index])


@pytest.mark.parametrize("slices", [1, LANES, LANES + 5])
def test_slices_last_gives_the_same_bytes(slices):
    rng = np.random.default_rng(11)
    projector = RaysProjector(BEAM, 40)
    volume, views = rng.random((40, 40, slices), np.float32), rng.random((VIEWS, 21, slices), np.float32)
    for verb, given in (("forward", volume), ("adjoint", views), ("backproject", views)):
        expected = getattr(projector, verb)(given.transpose(2, 0, 1)).transpose(1, 2, 0)
        np.testing.assert_array_equal(getattr(projector, f"{verb}_slices_last")(given), expected)


def test_backproject_keeps_its_bytes_for_any_number_of_threads():
    views = np.random.default_rng(12).random((2, VIEWS, 21), np.float32)
    one, three = (RaysProjector(BEAM, 70, threads=threads).backproject(views) for threads in (1, 3))
    np.testing.assert_array_equal(one, three)


def test_wrong_arrays_are_refused_with_their_place():
    projector = RaysProjector(BEAM, 20)
    views = np.zeros((VIEWS, 21, 2), np.float32)
    views[3, 4, 1] = np.nan
    for verb in (projector.adjoint_slices_last, projector.backproject_slices_last):
        with pytest.raises(ParameterError, match=r"nan at \(view, column, z\) = \(3, 4, 1\)"):
            verb(views)
    with pytest.raises(IncompatibleError, match=r"\(z, view, column\) = \(at least 1, 25, 21\)"):
        projector.backproject(views)
    with pytest.raises(IncompatibleError, match=r"\(y, x, z\) = \(20, 20, at least 1\)"):
        projector.forward_slices_last(np.zeros((2, 20, 20)))
