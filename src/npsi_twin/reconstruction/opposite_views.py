"""The rotation axis from views half a turn apart: each is the other, mirrored about the axis.

Takes line integrals (row, view, column), gives a `RotationAxis`. Over a full turn, equally spaced, p(angle + pi, s) =
p(angle, -s) holds for all angles at once whether or not a view lies opposite another one: with T the transform of the
sinogram over (angle, column), n cycles a turn and sigma cycles a pixel, the misfit of a trial axis c is

    E(c) = sum |T(n, sigma) exp(2 pi i sigma c) - (-1)^n conj(T(-n, sigma)) exp(-2 pi i sigma c)|**2,

a trigonometric polynomial like that of the double wedge, and found in the same way (`alignment`). Odd numbers of views,
which have no opposite pairs, are no exception: harmonics up to half their number are known. Otherwise the two views
that are nearest to half a turn apart are correlated; they must be within a step, and what turned between them shows as
an error. n = 0, where stripes live, is left out.
"""

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from npsi_twin.errors import DataError
from npsi_twin.reconstruction.rotation import AxisMisfit, RotationAxis, is_truncated, signal_share, taper
from npsi_twin.scan import ParallelBeam
from npsi_twin.volumes import FloatArray


def axis_of_opposite_views(line_integrals: FloatArray, beam: ParallelBeam) -> RotationAxis:
    """Find the rotation axis from views half a turn apart.

    Parameters
    ----------
    line_integrals
        (row, view, column), dimensionless.
    beam
        Geometry; its ``column_shift_px`` is taken out first.

    Returns
    -------
    RotationAxis
        The axis in the middle four fifths of the detector that fits best.

    Raises
    ------
    DataError
        No two views are half a turn apart to within a median step.
    NotConvergedError
        No axis fits clearly better than the others.

    Examples
    --------
    Nine views over a full turn, none opposite another:

    >>> beam = ParallelBeam(2 * np.pi * np.arange(9) / 9, columns=64, pixel_nm=50.0)
    >>> place = 30.3 + 5 * np.cos(beam.angles_rad[:, None])
    >>> blob = np.exp(-(((np.arange(64) - place) / 4) ** 2)).astype(np.float32)
    >>> round(axis_of_opposite_views(blob[None], beam).px, 1)
    30.3
    """
    misfit = _of_full_turn(line_integrals, beam) if is_full_turn(beam.angles_rad) else _of_pair(line_integrals, beam)
    return misfit.found(beam.columns, "opposite-views")


def is_full_turn(angles_rad: NDArray[np.float64]) -> bool:
    """Tell whether views are equally spaced over a full turn, without the end point, to a quarter of a step.

    Examples
    --------
    >>> is_full_turn(np.deg2rad([0.0, 120.0, 240.0])), is_full_turn(np.deg2rad([0.0, 60.0, 120.0]))
    (True, False)
    """
    step = 2 * np.pi / angles_rad.size
    steps = np.diff(np.append(angles_rad, angles_rad[0] + 2 * np.pi))
    return bool(angles_rad.size > 2 and np.abs(steps - step).max() < 0.25 * step)


def is_odd_full_turn(angles_rad: NDArray[np.float64]) -> bool:
    """Tell whether views fill a full turn with an odd number, so that none lies opposite another.

    Examples
    --------
    >>> is_odd_full_turn(2 * np.pi * np.arange(9) / 9), is_odd_full_turn(2 * np.pi * np.arange(8) / 8)
    (True, False)
    """
    return angles_rad.size % 2 == 1 and is_full_turn(angles_rad)


def _of_full_turn(line_integrals: FloatArray, beam: ParallelBeam) -> AxisMisfit:
    padded, frequency, window, shift = _transform_of(line_integrals, beam)
    views = beam.views
    harmonic = np.rint(np.fft.fftfreq(views) * views).astype(np.int64)
    # The highest harmonic of an even number of views stands for both signs and knows nothing of either.
    known = (harmonic != 0) & (2 * np.abs(harmonic) < views)
    sign = np.where(harmonic % 2, -1.0, 1.0) * known
    constant, cross = 0.0, np.zeros(frequency.size, np.complex128)
    for row in line_integrals:
        lines = scipy.fft.rfft(row.astype(np.float64) * window, padded, axis=1) * shift
        weight = signal_share(lines)
        turned = scipy.fft.fft(lines, axis=0)
        constant += float((2 * weight * (np.abs(turned) ** 2 * known[:, None])).sum())
        cross -= (weight * sign[:, None] * turned * turned[-np.arange(views)]).sum(axis=0).conj()
    return AxisMisfit(constant, cross, frequency, padded)


def _of_pair(line_integrals: FloatArray, beam: ParallelBeam) -> AxisMisfit:
    angles = beam.angles_rad
    apart = np.abs(np.mod(angles[:, None] - angles[None], 2 * np.pi) - np.pi)
    first, second = np.unravel_index(int(apart.argmin()), apart.shape)
    step = float(np.median(np.abs(np.diff(np.sort(angles))))) if angles.size > 1 else 0.0
    if apart[first, second] > 1.01 * step:
        raise DataError(
            f"rotation axis: no two of {angles.size} views are half a turn apart; the nearest miss it by "
            f"{np.rad2deg(apart[first, second]):.3f} degrees at a step of {np.rad2deg(step):.3f}. Use "
            "'fourier-wedge' or 'entropy', or give rotation_axis_px."
        )
    padded, frequency, window, shift = _transform_of(line_integrals, beam)
    constant, cross = 0.0, np.zeros(frequency.size, np.complex128)
    for row in line_integrals:
        lines = scipy.fft.rfft(row[[first, second]].astype(np.float64) * window, padded, axis=1)
        lines *= shift[[first, second]]
        lines[:, 0] = 0
        constant += float((np.abs(lines) ** 2).sum())
        cross -= (lines[0] * lines[1]).conj()
    return AxisMisfit(constant, cross, frequency, padded)


def _transform_of(
    line_integrals: FloatArray, beam: ParallelBeam
) -> tuple[int, NDArray[np.float64], NDArray[np.float64], NDArray[np.complex128]]:
    """Return the transform's length, its frequencies, the columns' window and what takes known shifts out."""
    padded = 2 * scipy.fft.next_fast_len(beam.columns, real=True)
    frequency = scipy.fft.rfftfreq(padded)
    window = taper(beam.columns) if is_truncated(line_integrals) else np.ones(beam.columns)
    shift = np.exp(2j * np.pi * frequency * np.asarray(beam.column_shift_px)[:, None])
    return padded, frequency, window, shift
