"""What only the package's own Fourier projector promises: its defining sum, its window, its transform, its lanes."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from npsi_twin.errors import IncompatibleError, ParameterError
from npsi_twin.projectors.fourier import FourierProjector
from npsi_twin.projectors.gridding_window import WINDOWS, window_error
from npsi_twin.projectors.lane_fft import PAIR, plan_for, smooth_length, transform
from npsi_twin.projectors.lanes import LANES, aligned
from npsi_twin.scan import ParallelBeam

BEAM = ParallelBeam(
    np.linspace(-0.3, 6.6, 9),
    21,
    25.4,
    rotation_axis_px=8.3,
    column_shift_px=np.random.default_rng(7).normal(0, 1.5, 9),
)


def fourier_matrix(beam: ParallelBeam, width: int, length: int) -> np.ndarray:
    """The module's model by definition, a dense matrix in double precision (views * columns, width^2)."""
    place = np.arange(width) - (width - 1) / 2
    y, x = (grid.ravel() for grid in np.meshgrid(place, place, indexing="ij"))
    k = np.arange(-(length // 2), length // 2 + 1)
    w = 2 * np.pi * k / length
    share = np.where(2 * np.abs(k) == length, 0.5, 1.0)
    blocks = []
    for angle, shift in zip(beam.angles_rad, beam.column_shift_px, strict=True):
        spectrum = np.exp(-1j * w[:, None] * (x * np.cos(angle) - y * np.sin(angle)))
        columns = np.arange(beam.columns) - beam.known_axis_px() - shift
        blocks.append((share * np.exp(1j * columns[:, None] * w) @ spectrum).real / length)
    return np.concatenate(blocks) * beam.pixel_nm / 1000


def relative(found, exact):
    return np.linalg.norm(found - exact) / np.linalg.norm(exact)


@pytest.mark.parametrize("width", [1, 20, 21])
@pytest.mark.parametrize("accuracy", [window[2] for window in WINDOWS])
def test_forward_and_adjoint_are_their_defining_sum_to_the_asked_accuracy(width, accuracy):
    rng = np.random.default_rng(8)
    projector = FourierProjector(BEAM, width, accuracy=accuracy)
    matrix = fourier_matrix(BEAM, width, projector._along.length)
    slab = rng.standard_normal((3, width, width)).astype(np.float32)
    expected = (matrix @ slab.reshape(3, -1).T).T.reshape(3, 9, 21)
    # The asked accuracy is a mean over geometries: 9 views of 400 random voxels scatter about it.
    assert relative(projector.forward(slab), expected) < 1.5 * accuracy
    sinograms = rng.standard_normal((3, 9, 21)).astype(np.float32)
    expected = (matrix.T @ sinograms.reshape(3, -1).T).T.reshape(3, width, width)
    assert relative(projector.adjoint(sinograms), expected) < 1.5 * accuracy


def test_windows_have_the_errors_they_are_chosen_by():
    for span, oversampling, error in WINDOWS:
        assert 0.9 * error < window_error(span, oversampling) <= error
    errors = [error for _, _, error in WINDOWS]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 7, 8, 60, 81, 98, 125, 128, 250, 768])
def test_transform_is_the_discrete_fourier_transform(length):
    lines = np.random.default_rng(9).standard_normal((length, 2, LANES)).astype(np.float32)
    values = lines[:, 0] + 1j * lines[:, 1].astype(float)
    for places, expected in (
        ((0, LANES), np.fft.fft(values, axis=0)),
        ((LANES, 0), length * np.fft.ifft(values, axis=0)),
    ):
        first, second = aligned(length * PAIR), aligned(length * PAIR)
        first[:] = lines.ravel()
        found, _ = transform(first, second, plan_for(length), *places)
        found = found.reshape(length, 2, LANES)
        # Single precision, one rounding a step.
        assert relative(found[:, 0] + 1j * found[:, 1], expected) < 5e-7


def test_smooth_lengths_are_the_next_ones():
    smooth = sorted(2**a * 3**b * 5**c for a in range(12) for b in range(8) for c in range(6))
    for least in (1, 7, 11, 97, 731, 1001):
        assert smooth_length(least) == min(n for n in smooth if n >= least)
        assert smooth_length(least, multiple_of=2) == min(n for n in smooth if n >= least and n % 2 == 0)


def test_a_slice_is_not_touched_by_its_neighbours():
    # More slices than lanes, among them nothing and something a million times as large.
    rng = np.random.default_rng(10)
    projector = FourierProjector(BEAM, 20)
    slab = rng.random((LANES + 3, 20, 20), np.float32)
    slab[1] = 0
    slab[2] *= 1e6
    sinograms = projector.forward(slab)
    back = projector.adjoint(sinograms)
    assert np.all(sinograms[1] == 0)
    assert np.all(back[1] == 0)
    for index in (0, 3, LANES - 1, LANES, LANES + 2):
        np.testing.assert_array_equal(projector.forward(slab[index : index + 1])[0], sinograms[index])
        np.testing.assert_array_equal(projector.adjoint(sinograms[index : index + 1])[0], back[index])


@pytest.mark.parametrize("slices", [1, LANES, LANES + 5])
def test_slices_last_gives_the_same_bytes(slices):
    rng = np.random.default_rng(11)
    projector = FourierProjector(BEAM, 20)
    volume, views = rng.random((20, 20, slices), np.float32), rng.random((9, 21, slices), np.float32)
    expected = projector.forward(volume.transpose(2, 0, 1)).transpose(1, 2, 0)
    np.testing.assert_array_equal(projector.forward_slices_last(volume), expected)
    expected = projector.adjoint(views.transpose(2, 0, 1)).transpose(1, 2, 0)
    np.testing.assert_array_equal(projector.adjoint_slices_last(views), expected)


@pytest.mark.parametrize("width", [20, 64, 127])
def test_a_grid_in_bands_is_the_whole_grid(monkeypatch, width):
    # A large grid exists a band at a time. Bands here may be narrower than a window; the sums are the same ones.
    rng = np.random.default_rng(13)
    angles = np.append(np.linspace(-0.3, 6.6, 9), np.arange(5) * np.pi / 4)  # and along both axes of the grid
    beam = ParallelBeam(angles, 50, 25.4, 20.3)
    whole = FourierProjector(beam, width)
    monkeypatch.setattr("npsi_twin.projectors.fourier.GRID_BYTES", whole._grid_numbers * 4 // 12)
    bands = FourierProjector(beam, width)
    assert len(bands._bands) > 6 * len(whole._bands)
    assert bands._grid_numbers < whole._grid_numbers
    slab, sinograms = rng.random((3, width, width), np.float32), rng.random((3, 14, 50), np.float32)
    np.testing.assert_array_equal(bands.forward(slab), whole.forward(slab))
    # Backwards each band adds to the slab: some ten transforms round at 5e-7 or less each, in squares.
    assert relative(bands.adjoint(sinograms), whole.adjoint(sinograms)) < 1.5e-6
    one, three = (FourierProjector(beam, width, threads=threads) for threads in (1, 3))
    np.testing.assert_array_equal(one.adjoint(sinograms), three.adjoint(sinograms))
    np.testing.assert_array_equal(one.adjoint(sinograms[1:2]), three.adjoint(sinograms)[1:2])


def test_slices_last_refuses_wrong_arrays_with_their_place():
    projector = FourierProjector(BEAM, 20)
    volume = np.zeros((20, 20, 2), np.float32)
    volume[3, 4, 1] = np.nan
    with pytest.raises(ParameterError, match=r"nan at \(y, x, z\) = \(3, 4, 1\)"):
        projector.forward_slices_last(volume)
    with pytest.raises(IncompatibleError, match=r"\(y, x, z\) = \(20, 20, at least 1\)"):
        projector.forward_slices_last(np.zeros((2, 20, 20)))
    with pytest.raises(IncompatibleError, match=r"\(view, column, z\) = \(9, 21, at least 1\)"):
        projector.adjoint_slices_last(np.zeros((9, 21, 0)))


def test_one_projector_serves_several_callers_at_once():
    rng = np.random.default_rng(12)
    projector = FourierProjector(BEAM, 64, threads=2)
    slabs = rng.random((6, 2, 64, 64), np.float32)
    expected = [projector.adjoint(projector.forward(slab)) for slab in slabs]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda slab: projector.adjoint(projector.forward(slab)), slabs))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("accuracy", [0.0, 1e-6, 0.1, np.nan])
def test_impossible_accuracy_is_refused(accuracy):
    with pytest.raises(ParameterError, match="to 1e-2 is possible"):
        FourierProjector(BEAM, 20, accuracy=accuracy)
