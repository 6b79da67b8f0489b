"""Pixels and frames that cannot be used: dead and hot pixels, values that are no counts.

Takes mean flats and darks, (row, column), and says which pixels are bad; takes line integrals (row, view, column) and
fills bad pixels from their neighbours in the row. A pixel is judged against the median of its neighbours, so a beam
that changes slowly across the detector does not matter. Holds where bad pixels are few; `corrections` refuses a
detector that has many.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from npsi_twin.errors import DataError
from npsi_twin.reconstruction.correction_recipe import CorrectionRecipe
from npsi_twin.volumes import FloatArray

#: A median absolute deviation times this is the standard deviation of a normal distribution.
_MAD_TO_SIGMA = 1.4826


def find_bad_pixels(
    gain: NDArray[np.float64], dark: NDArray[np.float64], recipe: CorrectionRecipe
) -> NDArray[np.bool_]:
    """Find dead and hot pixels from the mean flat and dark.

    A pixel is bad when its gain is not positive; when its gain, relative to the median of its neighbours in the row,
    departs from 1 by more than ``gain_tolerance`` and by more than ``outlier_sigmas`` robust sigmas of the row; or when
    its dark count exceeds its neighbours' by more than ``outlier_sigmas`` robust sigmas and by more than a tenth of the
    row's median gain.

    Parameters
    ----------
    gain
        Mean flat minus mean dark, counts, (row, column).
    dark
        Mean dark, counts, (row, column).
    recipe
        Thresholds.

    Returns
    -------
    NDArray[numpy.bool_]
        (row, column), True where bad.

    Examples
    --------
    >>> from npsi_twin.reconstruction.correction_recipe import CorrectionRecipe
    >>> gain = np.full((1, 32), 1000.0)
    >>> gain[0, 7] = 3.0
    >>> np.flatnonzero(find_bad_pixels(gain, np.zeros((1, 32)), CorrectionRecipe()))
    array([7])
    """
    window = (1, recipe.neighbourhood_px)
    alive = gain > 0
    light = np.where(alive, gain, 0.0)
    near = median_filter(light, size=window, mode="nearest")
    relative = np.divide(light, near, out=np.zeros_like(light), where=near > 0)
    departure = np.abs(relative - 1)
    odd_gain = (departure > recipe.gain_tolerance) & (departure > recipe.outlier_sigmas * _row_sigma(relative))
    excess = dark - median_filter(dark, size=window, mode="nearest")
    tenth = 0.1 * np.median(light, axis=1, keepdims=True)
    hot = (excess > recipe.outlier_sigmas * _row_sigma(excess)) & (excess > tenth)
    return np.asarray(~alive | odd_gain | hot, np.bool_)


def _row_sigma(values: NDArray[np.float64]) -> NDArray[np.float64]:
    middle = np.median(values, axis=1, keepdims=True)
    return np.asarray(_MAD_TO_SIGMA * np.median(np.abs(values - middle), axis=1, keepdims=True), np.float64)


def refuse_unusable(frames: NDArray[np.generic], name: str, first_row: int, *, finite: bool = True) -> None:
    """Raise DataError where frames hold values that are no real numbers or, unless told otherwise, not finite.

    Examples
    --------
    >>> refuse_unusable(np.ones((1, 2, 3), np.uint16), "flats", 0)
    """
    if frames.dtype.kind not in "uif":
        raise DataError(
            f"{name}: got values of type {frames.dtype}; real numbers (unsigned, signed or floating) are needed, "
            "because they are photon counts. Convert the file."
        )
    if frames.dtype.kind != "f" or not finite:
        return
    unusable = ~np.isfinite(frames)
    if unusable.any():
        frame, row, column = np.argwhere(unusable)[0]
        raise DataError(
            f"{name}: {int(unusable.sum())} of {frames.size} values are NaN or infinite, the first in frame {frame}, "
            f"row {first_row + row}, column {column}; all must be finite, because one such pixel would spread over its "
            "whole slice. Say --repair (not_finite = 'replace') to interpolate them, or drop these frames."
        )


def replace_pixels(integrals: FloatArray, bad: NDArray[np.bool_]) -> None:
    """Fill bad pixels in place by linear interpolation along the columns, in every view.

    Parameters
    ----------
    integrals
        (row, view, column).
    bad
        (row, column), True where a pixel is bad.

    Raises
    ------
    DataError
        A whole row is bad.

    Examples
    --------
    >>> integrals = np.array([[[1.0, 9.0, 3.0]]], np.float32)
    >>> replace_pixels(integrals, np.array([[False, True, False]]))
    >>> integrals.tolist()
    [[[1.0, 2.0, 3.0]]]
    """
    for row in np.flatnonzero(bad.any(axis=1)):
        good = np.flatnonzero(~bad[row])
        if good.size == 0:
            raise DataError(
                f"flats and darks: every pixel of detector row {row} of these rows is dead or hot, so nothing is left "
                "to interpolate from. Leave the row out."
            )
        gaps = np.flatnonzero(bad[row])
        place = np.interp(gaps, good, np.arange(good.size))
        left = np.floor(place).astype(np.intp)
        right = np.minimum(left + 1, good.size - 1)
        share = (place - left).astype(np.float32)
        sinogram = integrals[row]
        sinogram[:, gaps] = (1 - share) * sinogram[:, good[left]] + share * sinogram[:, good[right]]
