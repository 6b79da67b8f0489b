"""The rotation axis, found from the sinograms alone, to a small part of a pixel.

Takes line integrals (row, view, column) over 180 degrees, gives a `RotationAxis`. A view half a turn later is the same
view mirrored about the axis, so a 180 degree sinogram p(view, column) and its mirror image about a trial axis c make a
360 degree sinogram. Its Fourier transform over (angle, column) is nearly empty where

    |n| > 2 pi R sigma

(n cycles a turn, sigma cycles a pixel, R the sample's radius in pixels), unless the seam does not fit (Vo et al. 2014).
Moving c only turns the phase of the mirrored half, so the energy E there is, for all c at once,

    E(c) = A + 2 Re sum_sigma C(sigma) exp(-4 pi i sigma c),   C = sum_n conj(T(n, sigma)) M(n, sigma),

T and M being the transforms of the two halves: one transform a row replaces the search over trial axes, and the minimum
is found by Newton's method to rounding error. No opposing pair of views is needed. Holds for equally spaced views over
180 degrees, or for the first half of a full turn, with the sample mostly inside the field.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from npsi_twin.errors import DataError, IncompatibleError
from npsi_twin.reconstruction.entropy import axis_of_least_entropy
from npsi_twin.reconstruction.opposite_views import axis_of_opposite_views, is_odd_full_turn
from npsi_twin.reconstruction.rotation import AxisMisfit, RotationAxis, is_truncated, signal_share, taper
from npsi_twin.scan import ParallelBeam
from npsi_twin.threads import threads
from npsi_twin.volumes import FloatArray

#: Frequencies whose transforms stay in a processor's cache together.
_FREQUENCIES_AT_ONCE = 32

AxisMethod = Literal["auto", "fourier-wedge", "opposite-views", "entropy"]


def find_rotation_axis(line_integrals: FloatArray, beam: ParallelBeam, method: AxisMethod = "auto") -> RotationAxis:
    """Find the rotation axis without help.

    Parameters
    ----------
    line_integrals
        (row, view, column), dimensionless; a few rows are enough. Their misfits are added.
    beam
        Geometry; its ``rotation_axis_px`` is not looked at, its ``column_shift_px`` is taken out first.
    method
        ``"fourier-wedge"``, which this module tells of; ``"opposite-views"`` and ``"entropy"`` are those of
        `npsi_twin.reconstruction.opposite_views` and `npsi_twin.reconstruction.entropy`. ``"auto"`` takes the wedge,
        and opposite views where a full turn has no view that mirrors the first half (an odd number of them).

    Returns
    -------
    RotationAxis
        The axis in the middle four fifths of the detector that fits best, with its uncertainty.

    Raises
    ------
    IncompatibleError
        The array does not belong to the geometry.
    DataError
        The views are not equally spaced over 180 degrees, or are fewer than 8 (by the wedge).
    NotConvergedError
        No axis fits clearly better than the others: an empty field, or a sample that looks the same everywhere.

    Notes
    -----
    Where the outermost columns are not free of sample, columns are tapered over a sixteenth of the field at either side
    and the lowest frequencies, which see the mass outside the field, are left out.

    References
    ----------
    N. T. Vo, M. Drakopoulos, R. C. Atwood, C. Reinhard, "Reliable method for calculating the center of rotation in
    parallel-beam tomography", Opt. Express 22, 19078 (2014), doi:10.1364/OE.22.019078.

    Examples
    --------
    A Gaussian blob 15 pixels from an axis at column 30.3:

    >>> import numpy as np
    >>> from npsi_twin.scan import ParallelBeam
    >>> beam = ParallelBeam(np.pi * np.arange(90) / 90, columns=64, pixel_nm=50.0)
    >>> place = 30.3 + 15 * np.cos(beam.angles_rad[:, None])
    >>> blob = np.exp(-(((np.arange(64) - place) / 4) ** 2)).astype(np.float32)
    >>> round(find_rotation_axis(blob[None], beam).px, 2)
    30.3
    """
    if line_integrals.ndim != 3 or line_integrals.shape[1:] != (beam.views, beam.columns):
        raise IncompatibleError(
            f"find_rotation_axis: got shape {line_integrals.shape}; (row, {beam.views} views, {beam.columns} columns) "
            "is needed to match the geometry."
        )
    if method == "entropy":
        return axis_of_least_entropy(line_integrals, beam)
    if method == "opposite-views" or (method == "auto" and is_odd_full_turn(beam.angles_rad)):
        return axis_of_opposite_views(line_integrals, beam)
    return _axis_by_wedge(line_integrals, beam)


def _axis_by_wedge(line_integrals: FloatArray, beam: ParallelBeam) -> RotationAxis:
    order = half_turn(beam.angles_rad)
    half = np.asarray(line_integrals)[:, order]
    shift = np.asarray(beam.column_shift_px)[order]
    truncated = is_truncated(line_integrals)
    radius = beam.columns / 2
    for _ in range(2):
        misfit = _misfit(half, shift, radius, truncated)
        px = misfit.minimum(0.1 * beam.columns, 0.9 * beam.columns)
        radius = max(px, beam.columns - 1 - px)
    return misfit.found(beam.columns, "fourier-wedge")


def half_turn(angles_rad: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the indices of the views that fill half a turn, in order of angle, the end point left out.

    Raises
    ------
    DataError
        Fewer than 8 views, or views that are not equally spaced to a quarter of a step, the seam's step included.

    Examples
    --------
    >>> import numpy as np
    >>> half_turn(np.linspace(0, np.pi, 10)).size
    9
    """
    order = np.argsort(angles_rad, kind="stable")
    angles = angles_rad[order]
    steps = np.diff(angles)
    step = float(np.median(steps)) if steps.size else 0.0
    order = order[angles < angles[0] + np.pi - step / 2]
    angles = angles_rad[order]
    around = np.diff(np.append(angles, angles[0] + np.pi))
    if order.size < 8 or np.abs(around - step).max() > 0.25 * step:
        raise DataError(
            f"rotation axis: got {angles_rad.size} views from {np.rad2deg(angles_rad.min()):.3f} to "
            f"{np.rad2deg(angles_rad.max()):.3f} degrees; at least 8 equally spaced views over 180 degrees are needed "
            "to mirror a scan onto itself. Give rotation_axis_px instead."
        )
    return np.asarray(order, np.intp)


def _misfit(half: FloatArray, shift_px: NDArray[np.float64], radius_px: float, truncated: bool) -> AxisMisfit:
    _, views, columns = half.shape
    padded = 2 * scipy.fft.next_fast_len(columns, real=True)
    frequency = scipy.fft.rfftfreq(padded)
    turns = np.arange(2 * views)
    harmonic = np.minimum(turns, 2 * views - turns)
    # Beyond the wedge's edge a finite sample's transform dies away as a Bessel function J_n(2 pi R sigma) does once n
    # exceeds its argument; three harmonics to spare keep the bias from what is left below a hundredth of a pixel.
    outside = harmonic[:, None] > 2 * np.pi * radius_px * frequency + 3
    if truncated:
        outside &= frequency > 4 / columns
    window = taper(columns) if truncated else np.ones(columns)
    undo_shift = np.exp(2j * np.pi * frequency * shift_px[:, None])
    seam = np.where(turns % 2, -1.0, 1.0)[:, None]
    # The slowest frequencies keep their stripes: there a stripe and a shift of the axis look the same.
    stripe = _stripe_direction(views, outside & (frequency > 2 / columns))

    def of_row(row: FloatArray) -> tuple[float, NDArray[np.complex128]]:
        lines = scipy.fft.rfft(row.astype(np.float64) * window, padded, axis=1) * undo_shift
        share, energy, products = signal_share(lines), 0.0, np.empty(frequency.size, np.complex128)
        for start in range(0, frequency.size, _FREQUENCIES_AT_ONCE):
            part = slice(start, start + _FREQUENCIES_AT_ONCE)
            weight = share[..., part] * outside[:, part]
            top = scipy.fft.fft(lines[:, part], 2 * views, axis=0)
            mirrored = scipy.fft.fft(lines[:, part].conj(), 2 * views, axis=0) * seam
            for transform in (top, mirrored):
                transform -= stripe[:, part] * (stripe[:, part].conj() * transform).sum(axis=0)
            energy += float((weight * (_squared(top) + _squared(mirrored))).sum())
            products[part] = (weight * top.conj() * mirrored).sum(axis=0)
        return energy, products

    cross = np.zeros(frequency.size, np.complex128)
    constant = 0.0
    with ThreadPoolExecutor(threads()) as pool:  # FFTs and arithmetic of arrays free the interpreter
        for energy, products in pool.map(of_row, half):  # in the order of the rows, whoever was faster
            constant += energy
            cross += products
    return AxisMisfit(constant, cross, frequency, padded)


def _squared(values: NDArray[np.complex128]) -> NDArray[np.float64]:
    return np.asarray(values.real**2 + values.imag**2)


def _stripe_direction(views: int, where: NDArray[np.bool_]) -> NDArray[np.complex128]:
    """Return, for every frequency, the unit vector over harmonics that a stripe of the half turn draws there.

    A stripe is constant over one half and, mirrored, over the other; away from harmonic 0 the transforms of the two
    halves are each other's negative, so one direction holds both and taking it out removes every stripe, known or not.
    """
    box = scipy.fft.fft(np.ones(views), 2 * views)[:, None] * where
    norm = np.sqrt((np.abs(box) ** 2).sum(axis=0))
    return np.asarray(np.divide(box, norm, out=np.zeros_like(box), where=norm > 0), np.complex128)
