"""Bodies of a mask: voxels that hang together by their faces.

A bool volume (z, y, x) -> the number of every voxel's body, the bodies' sizes, and the mask of those that are wanted.
Numbers take four bytes a voxel; sizes are counted and bodies looked up without the eight-byte indices of a whole volume
that numpy would make for either.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

BoolArray = NDArray[np.bool_]
Numbers = NDArray[np.uint32]


def face_connected(mask: BoolArray) -> Numbers:
    """Return the number of every voxel's body, from 1 in the order of their first voxels; 0 outside the mask."""
    import cc3d

    if mask.size == 0:
        return np.zeros(mask.shape, np.uint32)
    writeable = np.require(mask, requirements=["C", "W"])  # cc3d takes no read-only array
    return np.asarray(cc3d.connected_components(writeable, connectivity=6, out_dtype=np.uint32))


def body_sizes(bodies: Numbers) -> NDArray[np.int64]:
    """Count the voxels of every body; the first entry is for what belongs to none.

    Examples
    --------
    >>> body_sizes(face_connected(np.array([[[True, True, False, True]]]))).tolist()
    [1, 2, 1]
    """
    sizes = np.zeros(int(bodies.max(initial=0)) + 1, np.int64)
    _count(bodies, sizes)
    return sizes


@njit(cache=True, nogil=True)
def _count(bodies: Numbers, sizes: NDArray[np.int64]) -> None:
    for z in range(bodies.shape[0]):
        for y in range(bodies.shape[1]):
            for x in range(bodies.shape[2]):
                sizes[bodies[z, y, x]] += 1


def kept_bodies(bodies: Numbers, kept: BoolArray) -> BoolArray:
    """Return the voxels of the bodies whose entry in ``kept`` is True, bool (z, y, x).

    Examples
    --------
    >>> bodies = face_connected(np.array([[[True, True, False, True]]]))
    >>> kept_bodies(bodies, np.array([False, True, False])).tolist()
    [[[True, True, False, False]]]
    """
    found = np.empty(bodies.shape, np.bool_)
    for z, numbers in enumerate(bodies):
        found[z] = kept[numbers]
    return found


def reached_from(mask: BoolArray, start: BoolArray) -> BoolArray:
    """Return the bodies of a mask that hold at least one voxel of ``start``.

    Examples
    --------
    >>> mask = np.array([[[True, True, False, True]]])
    >>> reached_from(mask, np.array([[[True, False, False, False]]])).tolist()
    [[[True, True, False, False]]]
    """
    bodies = face_connected(mask)
    reached = np.zeros(int(bodies.max(initial=0)) + 1, np.bool_)
    reached[np.unique(bodies[start & mask])] = True
    reached[0] = False
    return kept_bodies(bodies, reached)
