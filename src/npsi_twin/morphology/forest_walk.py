"""The walk of many voxels through the trees of a forest, compiled.

Takes -> gives: features (voxel, feature) and the nodes of a `Forest` -> the mean over the trees of the share of silicon
in the leaf that each voxel falls into. Every voxel walks by itself, trees in their order, so that threads change
nothing.
"""

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from npsi_twin.volumes import FloatArray


@njit(cache=True, parallel=True)
def mean_share(
    features: FloatArray,
    roots: NDArray[np.int64],
    left: NDArray[np.int32],
    right: NDArray[np.int32],
    feature: NDArray[np.int32],
    cut: NDArray[np.float64],
    share: NDArray[np.float64],
) -> FloatArray:
    """Return the mean share of silicon of every voxel, float32.

    Parameters
    ----------
    features
        float32, (voxel, feature).
    roots, left, right, feature, cut, share
        Nodes, see `npsi_twin.morphology.forest.Forest`.
    """
    found = np.empty(len(features), np.float32)
    for voxel in prange(len(features)):
        total = 0.0
        for root in roots:
            node = root
            while left[node] >= 0:
                below = features[voxel, feature[node]] <= cut[node]
                node = np.int64(left[node] if below else right[node])
            total += share[node]
        found[voxel] = total / len(roots)
    return found
