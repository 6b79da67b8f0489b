"""What only one backend promises, and the choice between them."""

import sys
from types import SimpleNamespace

import astra
import finufft
import numpy as np
import pytest

from npsi_twin.errors import MissingBackendError, ParameterError
from npsi_twin.projectors.astra import AstraProjector
from npsi_twin.projectors.choice import choose_projector
from npsi_twin.projectors.nufft import NufftProjector, missing_for_gpu
from npsi_twin.scan import ParallelBeam

BEAM = ParallelBeam(
    np.linspace(-0.3, 3.9, 9),
    21,
    25.4,
    rotation_axis_px=8.3,
    column_shift_px=np.random.default_rng(7).normal(0, 1.5, 9),
)


def fourier_matrix(beam: ParallelBeam, width: int, length: int) -> np.ndarray:
    """The Fourier road by definition, as a dense matrix in double precision (views * columns, width^2)."""
    place = np.arange(width) - (width - 1) / 2
    y, x = (grid.ravel() for grid in np.meshgrid(place, place, indexing="ij"))
    k = np.arange(length) - length // 2
    w = 2 * np.pi * k / length
    blocks = []
    for angle, shift in zip(beam.angles_rad, beam.column_shift_px, strict=True):
        spectrum = np.exp(-1j * w[:, None] * (x * np.cos(angle) - y * np.sin(angle)))
        columns = np.arange(beam.columns) - beam.known_axis_px() - shift
        blocks.append((np.exp(1j * columns[:, None] * w) @ spectrum).real / length)
    return np.concatenate(blocks) * beam.pixel_nm / 1000


@pytest.mark.parametrize("width", [20, 21])
@pytest.mark.parametrize(("accuracy", "tolerance"), [(1e-2, 1e-2), (1e-5, 1e-5), (1e-6, 1e-5)])
def test_nufft_is_its_defining_sum(width, accuracy, tolerance):
    rng = np.random.default_rng(8)
    projector = NufftProjector(BEAM, width, accuracy=accuracy)
    matrix = fourier_matrix(BEAM, width, projector._length)
    slab = rng.random((3, width, width), np.float32)
    expected = (matrix @ slab.reshape(3, -1).T).T.reshape(3, 9, 21)
    np.testing.assert_allclose(projector.forward(slab), expected, atol=tolerance * expected.max())
    sinograms = rng.random((3, 9, 21), np.float32)
    # finufft bounds the error of a mode by the sum of the strengths: sqrt(9) over the largest value here.
    expected = (matrix.T @ sinograms.reshape(3, -1).T).T.reshape(3, width, width)
    np.testing.assert_allclose(projector.adjoint(sinograms), expected, atol=5 * tolerance * expected.max())


def test_a_slice_is_not_touched_by_its_neighbours():
    rng = np.random.default_rng(9)
    projector = NufftProjector(BEAM, 20)
    slab = np.concatenate([rng.random((1, 20, 20)), np.zeros((1, 20, 20)), 1e6 * rng.random((1, 20, 20))])
    sinograms = projector.forward(slab)
    assert np.all(sinograms[1] == 0)
    np.testing.assert_array_equal(sinograms[:1], projector.forward(slab[:1]))


@pytest.mark.parametrize("accuracy", [0.0, 1e-7, 0.1, np.nan])
def test_impossible_accuracy_is_refused(accuracy):
    with pytest.raises(ParameterError, match="1e-6 to 1e-2"):
        NufftProjector(BEAM, 20, accuracy=accuracy)


@pytest.mark.parametrize("threads", [0, -1, 1.5, True])
def test_impossible_threads_are_refused(threads):
    with pytest.raises(ParameterError, match="at least 1 is needed"):
        NufftProjector(BEAM, 20, threads=threads)


def test_astra_parallel_and_vector_geometries_are_one():
    # The same beam without shifts, through ASTRA's own angle geometry, whose detector is centred on the axis.
    centred = ParallelBeam(BEAM.angles_rad, 21, 1000.0, rotation_axis_px=10.0)
    image = np.random.default_rng(10).random((16, 16), np.float32)
    volume = astra.create_vol_geom(16, 16)
    rays = astra.create_proj_geom("parallel", 1.0, 21, centred.angles_rad)
    projector = astra.create_projector("linear", rays, volume)
    try:
        number, expected = astra.create_sino(image, projector)
        astra.data2d.delete(number)
    finally:
        astra.projector.delete(projector)
    found = AstraProjector(centred, 16).forward(image[None])[0]
    # Single precision; the two geometries compute a ray's place along different ways.
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_astra_leaves_nothing_behind():
    projector = AstraProjector(BEAM, 16, kernel="strip")
    before = _astra_objects()
    projector.adjoint(projector.forward(np.ones((3, 16, 16), np.float32)))
    assert _astra_objects() == before


def _astra_objects() -> int:
    """Identities count up; what is deleted makes its object unknown."""
    probe = astra.data2d.create("-vol", astra.create_vol_geom(1, 1))
    alive = 0
    for identity in range(1, probe):
        try:
            astra.data2d.get_shared(identity)
        except Exception:
            continue
        alive += 1
    astra.data2d.delete(probe)
    return alive


@pytest.mark.skipif(astra.use_cuda(), reason="there is a GPU here")
def test_a_missing_gpu_is_said_with_the_remedy():
    with pytest.raises(MissingBackendError, match=r"needs an NVIDIA GPU; found astra .* Use 'fourier' \(CPU\)"):
        choose_projector("astra-cuda", BEAM, 16)


@pytest.mark.skipif(missing_for_gpu() is None, reason="there are cufinufft and a GPU here")
def test_missing_cufinufft_is_said_with_the_remedy():
    with pytest.raises(
        MissingBackendError, match=r"needs the cufinufft package and an NVIDIA GPU; found no .* \(CPU\)"
    ):
        choose_projector("cufinufft", BEAM, 16)
    with pytest.raises(ParameterError, match="device 'gpu'"):
        NufftProjector(BEAM, 16, device="gpu")


@pytest.mark.parametrize("options", [{"kernel": "cubic"}, {"kernel": "strip", "device": "cuda"}, {"device": "gpu"}])
def test_impossible_astra_options_are_refused(options):
    with pytest.raises(ParameterError, match="projector 'astra"):
        AstraProjector(BEAM, 16, **options)


def test_choice_names_what_it_took():
    names = ("auto", "fourier", "rays", "nufft", "astra-cpu")
    assert [choose_projector(name, BEAM, 16).name for name in names] == [
        "fourier",
        "fourier",
        "rays",
        "nufft",
        "astra-cpu",
    ]
    assert choose_projector("auto", BEAM, 16, threads=3).threads == 3
    with pytest.raises(ParameterError, match="'gridrec'"):
        choose_projector("gridrec", BEAM, 16)


class _Lent:
    """An array on a pretended device."""

    def __init__(self, values):
        self.values = values

    def copy_to_host(self):
        return self.values


class _PretendedPlan:
    """finufft under cufinufft's interface, which must be handed device arrays of its own kind."""

    def __init__(self, kind, modes, *, eps, isign, dtype):
        self._plan = finufft.Plan(kind, modes, eps=eps, isign=isign, dtype=dtype)

    def setpts(self, *points):
        self._plan.setpts(*(point.values for point in points))

    def execute(self, given):
        assert given.values.dtype == np.complex64
        return _Lent(self._plan.execute(given.values))


def test_cufinufft_is_asked_for_the_same_transforms(monkeypatch):
    # Where no GPU is, what is handed to cufinufft is at least the right question: finufft answers it in its place.
    monkeypatch.setitem(sys.modules, "cufinufft", SimpleNamespace(Plan=_PretendedPlan))
    monkeypatch.setattr("npsi_twin.projectors.nufft.missing_for_gpu", lambda: None)
    monkeypatch.setattr("numba.cuda.to_device", _Lent)
    rng = np.random.default_rng(11)
    device, host = NufftProjector(BEAM, 20, device="cuda"), NufftProjector(BEAM, 20)
    assert (device.name, device.threads) == ("cufinufft", 1)
    slab, sinograms = rng.random((2, 20, 20), np.float32), rng.random((2, 9, 21), np.float32)
    for verb, given in (("forward", slab), ("adjoint", sinograms)):
        expected = getattr(host, verb)(given)
        # both to 1e-5, on fine grids of another size
        np.testing.assert_allclose(getattr(device, verb)(given), expected, atol=5e-5 * np.abs(expected).max())
