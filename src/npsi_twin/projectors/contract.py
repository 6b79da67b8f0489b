"""What every projector promises, and the guards and the convolution that all of them share.

Takes a slab of slices (z, y, x), ``attenuation_per_um``, and gives sinograms (z, view, column), dimensionless line
integrals; `Projector.adjoint` is the exact transpose, `Projector.filtered_adjoint` the transpose of sinograms convolved
along their columns, which is filtered backprojection up to a constant.

The model is the parallel beam of `npsi_twin.scan`, with voxels as large as detector pixels:

    sinogram[v, c] = pixel_um * sum over the line  x cos(angle_v) - y sin(angle_v) = (c - axis - shift_v) * pixel

How the line meets the voxels is the backend's own choice (band-limited for Fourier, linear or area weights for rays);
all choices converge to the same integrals. Detector rows are independent, so any slab of rows is a valid unit of work.

A view's shift along the columns is part of the geometry and costs nothing. A shift along the rotation axis would mix
slices and make rows depend on their slab; it belongs to whoever images a slab with its halo, and is exact there,
because moving a picture commutes with whatever happens to each of its rays alone. Supersampling is
`ParallelBeam.refined` with slices of as many finer voxels; the mean over fine columns and rows is the detector's.

Guards refuse what would spoil a whole slice silently: one NaN, a wrong shape, an unknown rotation axis.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import scipy.fft
from numpy.typing import ArrayLike, NDArray

from npsi_twin.errors import IncompatibleError, ParameterError
from npsi_twin.scan import ParallelBeam
from npsi_twin.threads import available_cpus
from npsi_twin.volumes import FloatArray


class Projector(Protocol):
    """A linear map from slices to sinograms for one geometry, with its transpose.

    The same input gives the same bytes, for any number of threads; on a GPU to the accuracy of single precision. A
    projector holds no state that a call changes.
    """

    @property
    def name(self) -> str:
        """The backend that works here, never ``"auto"``."""

    @property
    def beam(self) -> ParallelBeam:
        """The geometry; its rotation axis is known."""

    @property
    def width(self) -> int:
        """Slices are ``width`` x ``width`` voxels of ``beam.pixel_nm``, centred on the rotation axis."""

    def forward(self, slab: FloatArray) -> FloatArray:
        """Return the line integrals of every slice.

        Parameters
        ----------
        slab
            ``attenuation_per_um``, shape (z, width, width), finite; converted to float32 where it is not.

        Returns
        -------
        FloatArray
            Line integrals, dimensionless, shape (z, views, columns).

        Raises
        ------
        IncompatibleError
            The shape is not (z, width, width).
        ParameterError
            The slab holds NaN, infinity or something that is not a real number.
        """

    def adjoint(self, sinograms: FloatArray) -> FloatArray:
        """Return the transpose of `forward` applied to sinograms.

        Parameters
        ----------
        sinograms
            Dimensionless, shape (z, views, columns), finite; converted to float32 where they are not.

        Returns
        -------
        FloatArray
            Shape (z, width, width), um: the sum over views of what each voxel contributes to, times the voxel in um.
        """

    def filtered_adjoint(self, sinograms: FloatArray, taps: NDArray[np.floating[Any]]) -> FloatArray:
        """Return the transpose applied to sinograms convolved along their columns.

        The convolution is linear, with zeros outside the detector, and its result is kept beyond the detector's edges
        as far as the slice's corners reach, so that `taps` = [1] gives `adjoint`.

        Parameters
        ----------
        sinograms
            Shape (z, views, columns), finite.
        taps
            Odd number of filter taps, at most 2 * columns - 1, the centre at ``taps // 2``; shape (taps,) for all
            views or (views, taps).

        Returns
        -------
        FloatArray
            Shape (z, width, width).
        """


def accepted_geometry(where: str, beam: ParallelBeam, width: int) -> float:
    """Return the rotation axis in pixels after checking that beam and width can make a projector."""
    if isinstance(width, bool) or not isinstance(width, int | np.integer) or width < 1:
        raise ParameterError(
            f"{where}: got width {width!r}; a slice needs a whole, positive number of voxels. "
            "Give, for example, beam.columns."
        )
    return beam.known_axis_px()


def accepted_threads(where: str, threads: int | None) -> int:
    """Return the number of threads asked for, or the number of cores this process may use."""
    if threads is None:
        return available_cpus()
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise ParameterError(f"{where}: got {threads!r} threads; at least 1 is needed. Leave it out to use every core.")
    return threads


def accepted_slab(where: str, slab: ArrayLike, width: int) -> FloatArray:
    """Return the slab as finite, C-contiguous float32 (z, width, width); a copy only where it is not that already."""
    return _accepted(where, "slab", slab, ("z", "y", "x"), (None, width, width))


def accepted_sinograms(where: str, sinograms: ArrayLike, beam: ParallelBeam) -> FloatArray:
    """Return sinograms as finite, C-contiguous float32 (z, views, columns)."""
    return _accepted(where, "sinograms", sinograms, ("z", "view", "column"), (None, beam.views, beam.columns))


def accepted_slab_slices_last(where: str, slab: ArrayLike, width: int) -> FloatArray:
    """Return the slab as finite, C-contiguous float32 (width, width, z)."""
    return _accepted(where, "slab", slab, ("y", "x", "z"), (width, width, None))


def accepted_sinograms_slices_last(where: str, sinograms: ArrayLike, beam: ParallelBeam) -> FloatArray:
    """Return sinograms as finite, C-contiguous float32 (views, columns, z)."""
    return _accepted(where, "sinograms", sinograms, ("view", "column", "z"), (beam.views, beam.columns, None))


def _accepted(
    where: str, what: str, values: ArrayLike, axes: tuple[str, str, str], shape: tuple[int | None, ...]
) -> FloatArray:
    """Return values of the given shape, in which None stands for any number of slices."""
    given = np.asarray(values)
    fits = given.ndim == 3 and all(n >= 1 if m is None else n == m for n, m in zip(given.shape, shape, strict=True))
    if not fits:
        needed = ", ".join("at least 1" if m is None else str(m) for m in shape)
        raise IncompatibleError(
            f"{where}: got {what} of shape {given.shape}; ({', '.join(axes)}) = ({needed}) "
            "is what this geometry has. Make the projector for the array, or cut the array to the projector."
        )
    if given.dtype.kind not in "fiu":
        raise ParameterError(f"{where}: got {what} of type {given.dtype}; real numbers are needed.")
    with np.errstate(over="ignore", under="ignore"):
        result = np.ascontiguousarray(given, dtype=np.float32)
    for index, part in enumerate(result):
        if not np.all(np.isfinite(part)):
            row, column = np.argwhere(~np.isfinite(part))[0]
            raise ParameterError(
                f"{where}: {what} hold {part[row, column]} at ({', '.join(axes)}) = ({index}, {row}, {column}); "
                "every value must be finite, because one that is not spoils the whole slice. Repair it first."
            )
    return result


def accepted_taps(where: str, taps: ArrayLike, beam: ParallelBeam) -> NDArray[np.float64]:
    """Return filter taps as finite float64 (1 or views, taps), odd and no longer than 2 * columns - 1."""
    filters = np.asarray(taps)
    if filters.dtype.kind not in "fiu" or not np.all(np.isfinite(filters)):
        raise ParameterError(
            f"{where}: taps must be finite real numbers; got type {filters.dtype}, or NaN or infinity among them."
        )
    filters = np.atleast_2d(filters.astype(np.float64))
    count = filters.shape[-1]
    if filters.ndim != 2 or filters.shape[0] not in (1, beam.views) or count % 2 == 0 or count > 2 * beam.columns - 1:
        raise IncompatibleError(
            f"{where}: got taps of shape {np.shape(taps)}; (taps,) or ({beam.views}, taps) with an odd number of "
            f"taps up to {2 * beam.columns - 1} is needed, so that the filter has a centre and reaches across the "
            "detector once. Cut or pad the filter symmetrically."
        )
    return filters


def for_each_slice(work: Callable[[int], None], count: int, threads: int) -> None:
    """Call ``work(0)`` to ``work(count - 1)``, each writing its own part of a result, and pass on what they raise."""
    workers = min(threads, count)
    if workers == 1:
        for index in range(count):
            work(index)
        return
    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(work, range(count)):
            pass


def for_each_part(work: Callable[[int, int], None], count: int, threads: int) -> None:
    """Call ``work(start, stop)`` for parts that make up ``range(count)``, several a thread."""
    parts = min(count, 8 * threads)
    if parts:
        for_each_slice(lambda part: work(part * count // parts, (part + 1) * count // parts), parts, threads)


@dataclass(frozen=True)
class Reach:
    """How far a slice's corners reach, seen from the detector.

    Attributes
    ----------
    radius_px
        Distance of the outermost voxel centre from the rotation axis.
    before, after
        Columns to add at the detector's two ends so that it sees every corner in every view.
    farthest_px
        Largest distance of a column of the detector so extended from the rotation axis.

    Examples
    --------
    >>> beam = ParallelBeam(np.array([0.0, 0.5]), columns=5, pixel_nm=10.0, rotation_axis_px=2.0)
    >>> reach = Reach.of(beam, width=5)
    >>> round(reach.radius_px, 3), reach.before, reach.after, reach.farthest_px
    (2.828, 1, 1, 3.0)
    """

    radius_px: float
    before: int
    after: int
    farthest_px: float

    @classmethod
    def of(cls, beam: ParallelBeam, width: int) -> "Reach":
        """Return the reach of slices ``width`` voxels wide in the given geometry."""
        radius = (width - 1) / np.sqrt(2)
        axis = beam.known_axis_px() + np.asarray(beam.column_shift_px)
        before = max(0, int(np.ceil(radius - axis.min())))
        after = max(0, int(np.ceil(axis.max() + radius)) - (beam.columns - 1))
        farthest = max(float(axis.max()) + before, beam.columns - 1 + after - float(axis.min()))
        return cls(float(radius), before, after, farthest)


class ColumnFilter:
    """Linear convolution of a sinogram along its columns, kept beyond the detector's edges.

    With columns c of the detector and taps t centred at T = taps // 2, column e of the result is

        sum over c of sinogram[v, c] * t[v, e - c + T],   e = -before ... columns - 1 + after.

    The transform is as long as it must be for no wrapped product to touch these columns: T + columns + max(before,
    after). Wrapped products elsewhere are thrown away.

    Parameters
    ----------
    where
        Who asks, for the messages.
    taps
        Shape (taps,) or (views, taps), odd, at most 2 * columns - 1.
    beam
        Geometry of the sinograms.
    before, after
        Columns to keep at the two ends beyond the detector.
    """

    def __init__(self, where: str, taps: ArrayLike, beam: ParallelBeam, before: int, after: int) -> None:
        filters = accepted_taps(where, taps, beam)
        count = filters.shape[-1]
        half = count // 2
        length = scipy.fft.next_fast_len(max(count, half + beam.columns + max(before, after)), real=True)
        padded = np.zeros((filters.shape[0], length))
        padded[:, : half + 1] = filters[:, half:]
        padded[:, length - half :] = filters[:, :half]
        self._length = length
        self._spectrum = scipy.fft.rfft(padded, axis=1).astype(np.complex64)
        self._kept = np.arange(-before, beam.columns + after) % length

    def __call__(self, sinogram: FloatArray) -> FloatArray:
        """Return one convolved sinogram, shape (views, before + columns + after), from one of (views, columns)."""
        spectrum = scipy.fft.rfft(sinogram, self._length, axis=1)
        spectrum *= self._spectrum
        wrapped = scipy.fft.irfft(spectrum, self._length, axis=1, overwrite_x=True)
        kept: FloatArray = np.take(wrapped, self._kept, axis=1)
        return kept
