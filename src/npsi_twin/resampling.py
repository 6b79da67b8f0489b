"""From one lattice of voxels to another that shares its centre, without losing or making matter.

A coarse voxel is what its file says: one value throughout. The value of a fine voxel is the mean over its own volume,

    fine_i = sum_j w_ij coarse_j,    w_ij = (length shared by fine voxel i and coarse voxel j) / (fine voxel),

along each of the three axes in turn, void outside the coarse block. The integral over the block is conserved to
rounding whatever the two sizes are, coarser to finer or finer to coarser. It adds no smoothness: where voxels are
coarser than what looks at them, their facets are looked at.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array


def shares(count: int, size_nm: float, of_count: int, of_size_nm: float) -> Any:
    """Return how much of every new voxel along an axis lies in every old one.

    Parameters
    ----------
    count, size_nm
        Number and edge of the new voxels.
    of_count, of_size_nm
        Number and edge of the old voxels; both rows of voxels have the same middle.

    Returns
    -------
    scipy.sparse.csr_array
        float32 (count, of_count), each row adding up to 1 inside the old block.

    Examples
    --------
    >>> shares(2, 3.0, 3, 2.0).toarray().round(3)
    array([[0.667, 0.333, 0.   ],
           [0.   , 0.333, 0.667]], dtype=float32)
    """
    new, old = ((np.arange(n + 1) - n / 2) * size for n, size in ((count, size_nm), (of_count, of_size_nm)))
    low, high = max(new[0], old[0]), min(new[-1], old[-1])
    cuts = np.unique(np.clip(np.concatenate([new, old]), low, high))
    middle = (cuts[:-1] + cuts[1:]) / 2
    rows = np.clip(np.searchsorted(new, middle, side="right") - 1, 0, count - 1)
    columns = np.clip(np.searchsorted(old, middle, side="right") - 1, 0, of_count - 1)
    found = csr_array((np.diff(cuts) / size_nm, (rows, columns)), shape=(count, of_count))
    return found.astype(np.float32)


def resampled_slice(values: NDArray[np.float32], along_y: Any, along_x: Any) -> NDArray[np.float32]:
    """Return the means over new voxels of one slice.

    Parameters
    ----------
    values
        (y, x) on the old lattice.
    along_y, along_x
        From `shares`.
    """
    return np.asarray((along_x @ (along_y @ values).T).T, np.float32)
