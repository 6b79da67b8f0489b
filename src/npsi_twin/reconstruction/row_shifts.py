"""Views moved along the rotation axis: every view of a slab taken back to where the stage should have held it.

Takes line integrals (row, view, column) of some rows and of their neighbours, gives those rows with the shift s_v of
every view undone. A row of the sample is read between detector rows, by a windowed sinc of a fixed reach h,

    out(r, v, c) = sum over rows k, |k - r - s_v| < h, of w(r + s_v - k) lines(k, v, c),
    w(x) = sinc(x) Kaiser(x / h),

so that a row depends on its neighbours within h and the largest shift alone, and comes out the same from any slab that
holds them (`halo_rows`). Beyond the detector its outermost row goes on. Holds for shifts that are constant across the
columns; `reprojection` finds them.
"""

import numpy as np
from numpy.typing import NDArray

from npsi_twin.errors import IncompatibleError
from npsi_twin.projectors.contract import accepted_threads, for_each_slice
from npsi_twin.volumes import FloatArray

#: Rows on either side that a value is read from, and the window's shape: errors of 0.5 % up to 0.3 cycles a row.
_REACH = 4
_BETA = 5.0


def halo_rows(row_shift_px: NDArray[np.float64]) -> int:
    """Return how many neighbours on either side a slab needs, 0 where no view moved.

    Parameters
    ----------
    row_shift_px
        (view,), pixels.

    Examples
    --------
    >>> halo_rows(np.zeros(3)), halo_rows(np.array([0.2, -1.5]))
    (0, 6)
    """
    return int(np.ceil(np.abs(row_shift_px).max(initial=0.0))) + _REACH if np.any(row_shift_px) else 0


def take_rows_back(
    line_integrals: FloatArray, row_shift_px: NDArray[np.float64], kept: slice, *, threads: int | None = None
) -> FloatArray:
    """Undo the shift of every view along the rows.

    Parameters
    ----------
    line_integrals
        (row, view, column), the rows that are kept and the `halo_rows` that the detector has on either side of them.
    row_shift_px
        (view,), positive where the image moved towards larger rows.
    kept
        Rows to return, places in ``line_integrals``.
    threads
        Threads that share out the views; all when None. The result does not depend on them.

    Returns
    -------
    FloatArray
        (kept row, view, column).

    Raises
    ------
    IncompatibleError
        There is not one shift a view.

    Examples
    --------
    >>> lines = np.zeros((12, 2, 1), np.float32)
    >>> lines[5, 0], lines[7, 1] = 1.0, 1.0
    >>> back = take_rows_back(lines, np.array([0.0, 2.0]), slice(4, 7))
    >>> back[:, :, 0].round(6).tolist()
    [[0.0, 0.0], [1.0, 1.0], [0.0, 0.0]]
    """
    rows, views, columns = line_integrals.shape
    if row_shift_px.shape != (views,):
        raise IncompatibleError(
            f"take_rows_back: got {row_shift_px.shape} shifts for {views} views; one shift a view is needed."
        )
    places = np.arange(rows)[kept]
    whole = np.floor(row_shift_px).astype(np.intp)
    steps = np.arange(1 - _REACH, _REACH + 1)
    distance = (row_shift_px - whole)[:, None] - steps
    window = np.i0(_BETA * np.sqrt(np.clip(1 - (distance / _REACH) ** 2, 0, None)))
    weights = np.sinc(distance) * window
    weights = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    back = np.zeros((places.size, views, columns), np.float32)

    def work(view: int) -> None:
        # Term by term, so that a row's sum has one order whatever rows stand beside it.
        for weight, step in zip(weights[view], steps, strict=True):
            back[:, view] += weight * line_integrals[np.clip(places + whole[view] + step, 0, rows - 1), view]

    for_each_slice(work, views, accepted_threads("take_rows_back", threads))
    return back
