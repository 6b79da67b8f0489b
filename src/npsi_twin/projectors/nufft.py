"""The Fourier road: projections as central slices of the slice's Fourier transform, through finufft or cufinufft.

Takes slices (z, y, x) in 1/um and gives sinograms (z, view, column), and the exact transpose.

The model is the Fourier-slice theorem for a slice of point masses at voxel centres. With w in radians a pixel, M odd,

    P(v, w_k) = sum over voxels f(x, y) exp(-i w_k (x cos a_v - y sin a_v)),     w_k = 2 pi k / M,  |k| <= (M - 1) / 2
    sinogram[v, c] = pixel_um / M * sum over k of P(v, w_k) exp(i w_k (c - axis - shift_v)),

a type-2 non-uniform transform and a short FFT a view; the adjoint runs the same steps backwards. Axis and shifts are
phases, exact at any real value. To second order the voxel's own aperture is that of the detector bin (sinc(w cos/2)
sinc(w sin/2) against sinc(w/2)), so slices of voxel averages give averages over detector bins. The error is at the
floor of single precision for objects smooth over two voxels, and falls with the first power of the voxel, in root mean
square, for sharp edges.

Holds for any angles and objects up to the corners of the slice: M is chosen so that no copy of the object, M columns
away, is met by the detector. Values are band-limited, so a sharp edge rings as the sampling theorem says it must.

A real slice has P(v, -w) = conj P(v, w), so that only k >= 0 is transformed. That costs as much a slice as two slices
riding as real and imaginary part of one transform of all k, and leaks nothing between them. A slice is one
single-threaded transform and threads share out slices, so a slice's result depends neither on the number of threads nor
on the slab it comes in.

On an NVIDIA GPU cufinufft makes the non-uniform transforms, one slice after the other; the views' own transforms stay
on the CPU. It adds up a transpose in no fixed order, so that results there repeat to the accuracy and not to the bit.
"""

import importlib.util
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, Protocol

import finufft
import numpy as np
import scipy.fft
from numpy.typing import NDArray

from npsi_twin.errors import MissingBackendError, ParameterError
from npsi_twin.projectors.contract import (
    ColumnFilter,
    Reach,
    accepted_geometry,
    accepted_sinograms,
    accepted_slab,
    accepted_threads,
    for_each_slice,
)
from npsi_twin.scan import ParallelBeam
from npsi_twin.volumes import FloatArray

#: Columns between a wrapped copy of the object and the detector: a few lobes of the sinc that a point projects to.
_GAP_PX = 8

#: finufft's fine grid over the slice. In single precision 1.25 is a quarter faster, but its kernel amplifies rounding
#: in the corners of an adjoint to 3e-3 of the largest value; 1.5 keeps it below 5e-5, 2.0 costs twice as much.
_FINE_GRID = 1.5


class _Plan(Protocol):
    """A non-uniform transform of one slice at fixed points, and its transpose."""

    def to_points(self, modes: NDArray[np.complex64]) -> NDArray[np.complex64]:
        """Return the transform of a slice (width, width) at all points, (points,)."""

    def to_modes(self, strengths: NDArray[np.complex64]) -> NDArray[np.complex64]:
        """Return the transpose, conjugated, of strengths (points,), (width, width)."""


class _HostPlan:
    """A `_Plan` of finufft."""

    def __init__(self, width: int, accuracy: float, points: tuple[FloatArray, ...]) -> None:
        self._plan = finufft.Plan(
            2, (width, width), eps=accuracy, isign=-1, dtype="complex64", nthreads=1, upsampfac=_FINE_GRID
        )
        self._plan.setpts(*points)

    def to_points(self, modes: NDArray[np.complex64]) -> NDArray[np.complex64]:
        return np.asarray(self._plan.execute(modes), np.complex64)

    def to_modes(self, strengths: NDArray[np.complex64]) -> NDArray[np.complex64]:
        return np.asarray(self._plan.execute_adjoint(strengths), np.complex64)


class _DevicePlan:
    """A `_Plan` of cufinufft, which knows no transpose of a plan: one plan for each way."""

    def __init__(self, width: int, accuracy: float, points: tuple[FloatArray, ...]) -> None:
        from cufinufft import Plan
        from numba import cuda

        self._to_device: Callable[[NDArray[np.generic]], Any] = cuda.to_device
        places = [cuda.to_device(part) for part in points]
        self._forth, self._back = (
            Plan(kind, (width, width), eps=accuracy, isign=sign, dtype="complex64") for kind, sign in ((2, -1), (1, 1))
        )
        self._forth.setpts(*places)
        self._back.setpts(*places)

    def to_points(self, modes: NDArray[np.complex64]) -> NDArray[np.complex64]:
        return np.asarray(self._forth.execute(self._to_device(modes)).copy_to_host(), np.complex64)

    def to_modes(self, strengths: NDArray[np.complex64]) -> NDArray[np.complex64]:
        return np.asarray(self._back.execute(self._to_device(strengths)).copy_to_host(), np.complex64)


def missing_for_gpu() -> str | None:
    """Return what cufinufft lacks here, or None where it can work: it needs itself and an NVIDIA GPU.

    Examples
    --------
    >>> missing_for_gpu() in (None, "no cufinufft", "no NVIDIA GPU")
    True
    """
    if importlib.util.find_spec("cufinufft") is None:
        return "no cufinufft"
    from numba import cuda

    present: Callable[[], bool] = cuda.is_available
    return None if present() else "no NVIDIA GPU"


class NufftProjector:
    """Parallel-beam projector through (cu)finufft, an implementation of `npsi_twin.projectors.contract.Projector`.

    Parameters
    ----------
    beam
        Geometry with a known rotation axis, any angles, any column shifts.
    width
        Voxels along a side of a slice; a voxel is ``beam.pixel_nm``.
    accuracy
        Relative accuracy asked of finufft, 1e-6 to 1e-2. Single-precision coordinates set a floor of about 1e-5 at
        512 voxels, growing with the width.
    threads
        Threads that share out slices; every core this process may use when None. A GPU takes them in turn.
    device
        ``"cpu"`` or ``"cuda"``.

    Attributes
    ----------
    name
        ``"nufft"``, or ``"cufinufft"`` on a GPU.
    beam, width, accuracy, threads
        As given.

    Raises
    ------
    IncompatibleError
        The rotation axis is unknown.
    MissingBackendError
        ``device="cuda"`` where there is no cufinufft or no NVIDIA GPU.
    ParameterError
        An unknown device, or a width, accuracy or number of threads outside its range.

    References
    ----------
    A. H. Barnett, J. Magland and L. af Klinteberg, "A parallel nonuniform fast Fourier transform library based on an
    'exponential of semicircle' kernel", SIAM J. Sci. Comput. 41 (2019) C479, doi:10.1137/18M120885X.
    F. Natterer, "The Mathematics of Computerized Tomography", SIAM (2001), doi:10.1137/1.9780898719284, section V.2.

    Examples
    --------
    >>> angles = np.arange(12) * np.pi / 12
    >>> projector = NufftProjector(ParallelBeam(angles, columns=24, pixel_nm=50.0, rotation_axis_px=11.5), 16)
    >>> slab = np.zeros((1, 16, 16), np.float32)
    >>> slab[0, 6:10, 6:10] = 2.0
    >>> sinograms = projector.forward(slab)
    >>> sinograms.shape, round(float(sinograms[0, 0, 11]), 4)
    ((1, 12, 24), 0.4)
    """

    def __init__(
        self,
        beam: ParallelBeam,
        width: int,
        *,
        accuracy: float = 1e-5,
        threads: int | None = None,
        device: Literal["cpu", "cuda"] = "cpu",
    ) -> None:
        if device not in ("cpu", "cuda"):
            raise ParameterError(f"projector 'nufft': got device {device!r}; 'cpu' and 'cuda' are known.")
        self.name = "nufft" if device == "cpu" else "cufinufft"
        where = f"projector '{self.name}'"
        axis = accepted_geometry(where, beam, width)
        if not 1e-6 <= accuracy <= 1e-2:
            raise ParameterError(
                f"{where}: got accuracy {accuracy!r}; 1e-6 to 1e-2 is possible, since single precision ends "
                "near 1e-6 and a coarser transform is worse than its own discretisation. Leave it out for 1e-5."
            )
        missing = missing_for_gpu() if device == "cuda" else None
        if missing:
            raise MissingBackendError(
                f"Projector 'cufinufft' needs the cufinufft package and an NVIDIA GPU; found {missing}. "
                "Use 'fourier' or 'nufft' (CPU)."
            )
        self._make_plan: type[_HostPlan] | type[_DevicePlan] = _HostPlan if device == "cpu" else _DevicePlan
        self.beam = beam
        self.width = int(width)
        self.accuracy = float(accuracy)
        self.threads = accepted_threads(where, threads) if device == "cpu" else 1
        self._reach = Reach.of(beam, self.width)
        self._length = _transform_length(self._reach, beam.columns)
        self._voxel_um = np.float32(beam.pixel_nm / 1000)

        frequency = 2 * np.pi * np.arange((self._length + 1) // 2) / self._length
        cosine, sine = np.cos(beam.angles_rad)[:, None], np.sin(beam.angles_rad)[:, None]
        self._points = tuple(
            np.ascontiguousarray(part.ravel(), np.float32) for part in (-sine * frequency, cosine * frequency)
        )
        # finufft counts modes from width // 2; for an even width the slice's centre lies half a voxel before that.
        half_voxel = self.width // 2 - (self.width - 1) / 2
        place = axis + np.asarray(beam.column_shift_px)[:, None] + half_voxel * (cosine - sine)
        self._phase = np.exp(-1j * frequency * place).astype(np.complex64)
        self._idle: list[_Plan] = []

    def forward(self, slab: FloatArray) -> FloatArray:
        """Return line integrals (z, views, columns) of a slab (z, width, width) in 1/um; see `Projector.forward`."""
        slab = accepted_slab(f"projector '{self.name}', forward", slab, self.width)
        sinograms = np.empty((slab.shape[0], self.beam.views, self.beam.columns), np.float32)

        def project(index: int) -> None:
            with self._plan() as plan:
                spectrum = plan.to_points(slab[index].astype(np.complex64)).reshape(self._phase.shape)
            spectrum *= self._phase
            periodic = scipy.fft.irfft(spectrum, self._length, axis=1, overwrite_x=True)
            np.multiply(periodic[:, : self.beam.columns], self._voxel_um, out=sinograms[index])

        for_each_slice(project, slab.shape[0], self.threads)
        return sinograms

    def adjoint(self, sinograms: FloatArray) -> FloatArray:
        """Return the transpose of `forward`, (z, width, width), of sinograms (z, views, columns)."""
        return self._backproject("adjoint", sinograms, None)

    def filtered_adjoint(self, sinograms: FloatArray, taps: NDArray[np.floating[Any]]) -> FloatArray:
        """Return the transpose applied to sinograms convolved with ``taps``; see `Projector.filtered_adjoint`."""
        where = f"projector '{self.name}', filtered_adjoint"
        convolve = ColumnFilter(where, taps, self.beam, self._reach.before, self._reach.after)
        return self._backproject("filtered_adjoint", sinograms, convolve)

    def _backproject(
        self, verb: str, sinograms: FloatArray, convolve: Callable[[FloatArray], FloatArray] | None
    ) -> FloatArray:
        sinograms = accepted_sinograms(f"projector '{self.name}', {verb}", sinograms, self.beam)
        slab = np.empty((sinograms.shape[0], self.width, self.width), np.float32)
        before = 0 if convolve is None else self._reach.before
        # Every k > 0 stands for itself and for -k.
        scale = np.full(self._phase.shape[1], 2 * self._voxel_um / self._length, np.float32)
        scale[0] /= 2

        def backproject(index: int) -> None:
            wide = sinograms[index] if convolve is None else convolve(sinograms[index])
            periodic = np.zeros((self.beam.views, self._length), np.float32)
            periodic[:, : wide.shape[1] - before] = wide[:, before:]
            periodic[:, self._length - before :] = wide[:, :before]
            spectrum = scipy.fft.rfft(periodic, axis=1, overwrite_x=True)
            spectrum *= scale
            spectrum *= np.conj(self._phase)
            with self._plan() as plan:
                slab[index] = plan.to_modes(spectrum.ravel()).real

        for_each_slice(backproject, sinograms.shape[0], self.threads)
        return slab

    @contextmanager
    def _plan(self) -> Iterator[_Plan]:
        """Lend a plan to one thread; a plan works on one transform at a time and is made when none is idle."""
        try:
            plan: _Plan = self._idle.pop()
        except IndexError:
            plan = self._make_plan(self.width, self.accuracy, self._points)
        yield plan
        self._idle.append(plan)


def _transform_length(reach: Reach, columns: int) -> int:
    """Return the period M of the detector transform, an odd number with small prime factors.

    The transform sees the object repeated every M columns. The object spans ``radius_px`` either side of the axis, and
    the (extended) detector's farthest column lies ``farthest_px`` from it, so the nearest copy stays ``_GAP_PX`` clear
    of every column when M >= radius + farthest + gap.
    """
    length: int = math.ceil(max(reach.radius_px + reach.farthest_px, reach.before + columns + reach.after)) + _GAP_PX
    while length % 2 == 0 or length != scipy.fft.next_fast_len(length):
        length += 1
    return length
