"""Single values of a sinogram that the sample did not make: zingers and saturated counts.

Takes transmissions or line integrals of one detector row, (view, column), and gives them with such values replaced from
their neighbours. A zinger is light from elsewhere (a gamma ray in the camera): one value that is brighter than the
median of its nine neighbours in view and column by a share of the flat field. A saturated count says only that the
truth is larger. Holds for values that stand alone or in short runs; `bad_pixels` deals with pixels that are always bad.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from npsi_twin.errors import DataError


def find_zingers(transmission: NDArray[np.float64], excess: float) -> NDArray[np.bool_]:
    """Find values brighter than their neighbours.

    Parameters
    ----------
    transmission
        (view, column), 1 for the flat field.
    excess
        Share of the flat field by which a zinger exceeds the median of the 3 x 3 values around it.

    Returns
    -------
    NDArray[numpy.bool_]
        (view, column), True where a zinger is.

    Examples
    --------
    >>> sinogram = np.full((5, 6), 0.5)
    >>> sinogram[2, 3] = 0.9
    >>> np.argwhere(find_zingers(sinogram, 0.2)).tolist()
    [[2, 3]]
    """
    around = median_filter(transmission, size=3, mode="nearest")
    return np.asarray(transmission - around > excess, np.bool_)


def replace_values(values: NDArray[np.floating], wrong: NDArray[np.bool_]) -> None:
    """Replace single values in place by linear interpolation along the columns of their view.

    Parameters
    ----------
    values
        (view, column).
    wrong
        (view, column), True where a value is to be replaced.

    Raises
    ------
    DataError
        A view has nothing else.

    Examples
    --------
    >>> values = np.array([[1.0, 9.0, 3.0]])
    >>> replace_values(values, np.array([[False, True, False]]))
    >>> values.tolist()
    [[1.0, 2.0, 3.0]]
    """
    for view in np.flatnonzero(wrong.any(axis=1)):
        kept = np.flatnonzero(~wrong[view])
        if kept.size == 0:
            raise DataError(
                f"projections: every value of view {view} in one detector row is saturated or a zinger, so nothing is "
                "left to interpolate from. Leave the view out, or the exposure was too long."
            )
        gaps = np.flatnonzero(wrong[view])
        values[view, gaps] = np.interp(gaps, kept, values[view, kept])
