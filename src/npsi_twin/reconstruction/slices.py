"""What iterations do to slices between two projections, with the slice axis last: sums, weighted misfits, steps.

Takes and gives arrays (view, column, z) or (y, x, z). Sums over a slice run in one fixed order in double precision and
never across slices, so that neither threads nor the cut of a slab show in them.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from npsi_twin.projectors.contract import for_each_slice
from npsi_twin.volumes import FloatArray


def slices_last(slab: FloatArray) -> FloatArray:
    """Return a contiguous (y, x, z) from (z, y, x).

    Examples
    --------
    >>> slices_last(np.zeros((2, 3, 4), np.float32)).shape
    (3, 4, 2)
    """
    return np.ascontiguousarray(slab.transpose(1, 2, 0))


def slices_first(slab: FloatArray) -> FloatArray:
    """Return a contiguous (z, y, x) from (y, x, z).

    Examples
    --------
    >>> slices_first(np.zeros((3, 4, 2), np.float32)).shape
    (2, 3, 4)
    """
    return np.ascontiguousarray(slab.transpose(2, 0, 1))


def slice_dots(first: FloatArray, second: FloatArray) -> NDArray[np.float64]:
    """Return the scalar product of every slice, (z,), of two arrays (i, j, z).

    Examples
    --------
    >>> a = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    >>> slice_dots(a, a)
    array([220., 286.])
    """
    return np.asarray(_dots(first, second), np.float64)


def weighted_misfit(
    measured: FloatArray, projected: FloatArray, weights: FloatArray, threads: int
) -> NDArray[np.float64]:
    """Turn projected (view, column, z) into weights * (measured - projected), in place; return the misfit's squares.

    Parameters
    ----------
    measured, projected
        (view, column, z).
    weights
        (view, column).
    threads
        Threads that share out the views.

    Returns
    -------
    NDArray[numpy.float64]
        Sum of (measured - projected)**2 over every slice, (z,).
    """
    squares = np.empty((measured.shape[0], measured.shape[2]))

    def work(view: int) -> None:
        _view_misfit(measured[view], projected[view], weights[view], squares[view])

    for_each_slice(work, measured.shape[0], threads)
    return np.asarray(_columns_sum(squares), np.float64)


def step(slab: FloatArray, direction: FloatArray, sizes: FloatArray, allowed: FloatArray, floor: float) -> None:
    """Add sizes * direction to slices in place, where allowed, and raise what lies below the floor.

    Parameters
    ----------
    slab, direction
        (y, x, z).
    sizes
        (y, x); 0 where a voxel is to stay.
    allowed
        (z,); 0 where a slice is finished, else 1.
    floor
        Smallest value; minus infinity for none.
    """
    _step(slab, direction, sizes, allowed, np.float32(floor))


@njit(cache=True, nogil=True)
def _dots(first: FloatArray, second: FloatArray) -> NDArray[np.float64]:
    total = np.zeros(first.shape[2])
    for i in range(first.shape[0]):
        for j in range(first.shape[1]):
            for z in range(first.shape[2]):
                total[z] += np.float64(first[i, j, z]) * np.float64(second[i, j, z])
    return total


@njit(cache=True, nogil=True)
def _view_misfit(
    measured: FloatArray, projected: FloatArray, weights: FloatArray, squares: NDArray[np.float64]
) -> None:
    squares[:] = 0
    for c in range(measured.shape[0]):
        for z in range(measured.shape[1]):
            off = measured[c, z] - projected[c, z]
            squares[z] += np.float64(off) * np.float64(off)
            projected[c, z] = weights[c] * off


@njit(cache=True, nogil=True)
def _columns_sum(values: NDArray[np.float64]) -> NDArray[np.float64]:
    total = np.zeros(values.shape[1])
    for i in range(values.shape[0]):
        for z in range(values.shape[1]):
            total[z] += values[i, z]
    return total


@njit(cache=True, nogil=True)
def _step(slab: FloatArray, direction: FloatArray, sizes: FloatArray, allowed: FloatArray, floor: np.float32) -> None:
    for i in range(slab.shape[0]):
        for j in range(slab.shape[1]):
            for z in range(slab.shape[2]):
                if allowed[z] != 0:
                    slab[i, j, z] = max(slab[i, j, z] + sizes[i, j] * direction[i, j, z], floor)
