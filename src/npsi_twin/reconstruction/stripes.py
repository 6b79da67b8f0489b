"""Stripes taken for what they are in the sinogram: offsets of columns, and columns unlike their neighbours.

Takes one sinogram (view, column) of line integrals, where a wrong gain is an offset, and gives it without stripes.

* `without_offsets` (Titarenko et al. 2010): one offset a column, the smoothest mean over views that small ones allow,

      minimise |D (mean + q)|**2 + |q|**2 / window**2,     D differences between neighbours,

  a linear filter that removes what is narrower than about the window. Lasting stripes only.
* `sorted_smooth` (Vo et al. 2018, algorithm 3): every column sorted along the views, a median across columns, sorted
  back. What the sample does in a column stays, for it is in the order; also partial stripes. `filtered_smooth`
  (algorithm 2) does so to the slow part along the views only.
* `without_large` (algorithm 5): columns whose sorted values lie off their neighbours' by an offset lose it, and the
  worst are replaced by their neighbours in sorted order.
* `without_dead` (algorithm 6): columns that do not follow the views, or that follow too much, are interpolated.

Holds, as every stripe filter, where the sample does not itself draw a line that lasts for all views.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solveh_banded
from scipy.ndimage import binary_dilation, gaussian_filter1d, median_filter, uniform_filter1d

from npsi_twin.volumes import FloatArray

#: Share of the sorted values at either end that tells nothing of a column's offset: the sample's extremes.
_EXTREMES = 0.1
#: Views over which a column that works is smooth.
_SMOOTH_VIEWS = 10


def default_window(columns: int) -> int:
    """Return the widest stripe looked for: an odd number of columns near a thirty-second of the field.

    Examples
    --------
    >>> default_window(512), default_window(64)
    (17, 3)
    """
    return max(3, (columns // 32) | 1)


def without_offsets(sinogram: FloatArray, window_px: int) -> FloatArray:
    """Return a sinogram without the offsets of its columns.

    Parameters
    ----------
    sinogram
        (view, column).
    window_px
        Stripes narrower than this go.

    References
    ----------
    S. Titarenko, P. J. Withers, A. Yagola, "An analytical formula for ring artefact suppression in X-ray tomography",
    Appl. Math. Lett. 23, 1489 (2010), doi:10.1016/j.aml.2010.08.022.

    Examples
    --------
    >>> striped = np.zeros((10, 65), np.float32)
    >>> striped[:, 30] = 1.0
    >>> bool(without_offsets(striped, 9)[:, 30].max() < 0.2)
    True
    """
    mean = sinogram.mean(axis=0, dtype=np.float64)
    columns = mean.size
    stiffness = np.zeros((2, columns))
    stiffness[1] = 2.0
    stiffness[1, [0, -1]] = 1.0
    stiffness[0, 1:] = -1.0
    rough = stiffness[1] * mean
    rough[:-1] -= mean[1:]
    rough[1:] -= mean[:-1]
    stiffness[1] += 1 / window_px**2
    return (sinogram - solveh_banded(stiffness, rough)).astype(np.float32)


def sorted_smooth(sinogram: FloatArray, window_px: int) -> FloatArray:
    """Return a sinogram whose columns, sorted along the views, are smooth.

    Parameters
    ----------
    sinogram
        (view, column).
    window_px
        Columns of the median, odd.

    References
    ----------
    N. T. Vo, R. C. Atwood, M. Drakopoulos, "Superior techniques for eliminating ring artifacts in X-ray
    micro-tomography", Opt. Express 26, 28396 (2018), doi:10.1364/OE.26.028396, algorithm 3.

    Examples
    --------
    >>> striped = np.zeros((10, 65), np.float32)
    >>> striped[:, 30] = 1.0
    >>> float(sorted_smooth(striped, 9).max())
    0.0
    """
    order = np.argsort(sinogram, axis=0, kind="stable")
    smooth = median_filter(np.take_along_axis(sinogram, order, axis=0), size=(1, window_px), mode="nearest")
    return _back(smooth, order)


def filtered_smooth(sinogram: FloatArray, window_px: int, sigma_cycles: float) -> FloatArray:
    """Return a sinogram whose slow part along the views went through `sorted_smooth`.

    Parameters
    ----------
    sinogram
        (view, column).
    window_px
        Columns of the median, odd.
    sigma_cycles
        Width of the slow part, cycles per scan.

    Examples
    --------
    >>> striped = np.zeros((32, 65), np.float32)
    >>> striped[:, 30] = 1.0
    >>> bool(abs(filtered_smooth(striped, 9, 3.0)).max() < 1e-6)
    True
    """
    views = sinogram.shape[0]
    # A Gaussian of sigma cycles in frequency is one of views / (2 pi sigma) views in time.
    slow = gaussian_filter1d(sinogram, views / (2 * np.pi * sigma_cycles), axis=0, mode="nearest")
    return np.asarray(sinogram - slow + sorted_smooth(slow, window_px), np.float32)


def without_large(sinogram: FloatArray, window_px: int, contrast: float) -> FloatArray:
    """Return a sinogram without wide or strong stripes.

    Parameters
    ----------
    sinogram
        (view, column).
    window_px
        Columns of the median, odd: the stripes are narrower than half of it.
    contrast
        How far a column's offset stands out of the others'; see `stand_out`.

    Examples
    --------
    >>> striped = np.random.default_rng(0).normal(0, 0.01, (50, 65)).astype(np.float32)
    >>> striped[:, 30:33] += 1.0
    >>> bool(without_large(striped, 17, 3.0)[:, 30:33].max() < 0.1)
    True
    """
    order = np.argsort(sinogram, axis=0, kind="stable")
    ordered = np.take_along_axis(sinogram, order, axis=0)
    smooth = median_filter(ordered, size=(1, window_px), mode="nearest")
    drop = int(_EXTREMES * len(sinogram))
    offset = (ordered - smooth)[drop : len(sinogram) - drop].mean(axis=0, dtype=np.float64)
    wrong = binary_dilation(stand_out(offset, contrast))
    cleaned: FloatArray = (sinogram - offset).astype(np.float32)
    cleaned[:, wrong] = _back(smooth, order)[:, wrong]
    return cleaned


def without_dead(sinogram: FloatArray, window_px: int, contrast: float) -> FloatArray:
    """Return a sinogram whose columns that do not respond, or fluctuate, are interpolated from their neighbours.

    Parameters
    ----------
    sinogram
        (view, column).
    window_px
        Columns over which columns are compared, odd.
    contrast
        How far a column's fluctuation stands out of the others'; see `stand_out`.

    Examples
    --------
    >>> sinogram = np.random.default_rng(0).normal(0, 0.01, (50, 65)).astype(np.float32)
    >>> sinogram[:, 30] = 7.0
    >>> bool(without_dead(sinogram, 17, 3.0)[:, 30].max() < 0.1)
    True
    """
    smooth = uniform_filter1d(sinogram, _SMOOTH_VIEWS, axis=0, mode="nearest")
    restless = np.abs(sinogram - smooth).sum(axis=0, dtype=np.float64)
    around = median_filter(restless, size=window_px, mode="nearest")
    # In the logarithm, columns that are too quiet stand out as those that are too restless do.
    least = 1e-6 * float(around.max()) + np.finfo(float).tiny
    wrong = binary_dilation(stand_out(np.log(np.maximum(restless, least) / np.maximum(around, least)), contrast))
    wrong[[0, -1]] = False
    cleaned = np.array(sinogram, np.float32)
    kept, gaps = np.flatnonzero(~wrong), np.flatnonzero(wrong)
    if gaps.size:
        place = np.interp(gaps, kept, np.arange(kept.size))
        left = np.floor(place).astype(np.intp)
        right = np.minimum(left + 1, kept.size - 1)
        share = (place - left).astype(np.float32)
        cleaned[:, gaps] = (1 - share) * sinogram[:, kept[left]] + share * sinogram[:, kept[right]]
    return cleaned


def stand_out(values: NDArray[np.float64], contrast: float) -> NDArray[np.bool_]:
    """Return which values stand out: beyond the line through the middle half of the sorted values, drawn to its ends.

    Parameters
    ----------
    values
        One a column.
    contrast
        Distance beyond the line's end, in halves of the line's height, from which a value counts.

    References
    ----------
    Vo et al. (2018), algorithm 4.

    Examples
    --------
    >>> np.flatnonzero(stand_out(np.array([0.0, 0.1, 9.0, 0.2, 0.05, 0.15, 0.12, 0.3]), 3.0))
    array([2])
    """
    order = np.sort(values)
    quarter = values.size // 4
    place = np.arange(values.size)
    slope, start = np.polyfit(place[quarter : values.size - quarter], order[quarter : values.size - quarter], 1)
    end = start + slope * (values.size - 1)
    reach = contrast / 2 * max(end - start, np.finfo(float).tiny)
    return np.asarray((values > end + reach) | (values < start - reach), np.bool_)


def _back(ordered: FloatArray, order: NDArray[np.intp]) -> FloatArray:
    made: FloatArray = np.empty_like(ordered)
    np.put_along_axis(made, order, ordered, axis=0)
    return made
