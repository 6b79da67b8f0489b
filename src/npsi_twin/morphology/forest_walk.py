"""The walk of many voxels through the trees of a forest, compiled.

Takes -> gives: features (voxel, feature) and the nodes of a `Forest` -> the mean over the trees of the share of silicon
in the leaf that each voxel falls into. Every voxel walks by itself, features and trees in their order, so that threads
change nothing.
"""

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from npsi_twin.volumes import FloatArray


@njit(cache=True)
def _linear(features: FloatArray, weights: NDArray[np.float64]) -> np.float32:
    total = weights[0]
    for number in range(features.size):
        total += weights[number + 1] * features[number]
    return np.float32(total)


@njit(cache=True, parallel=True)
def linear_share(features: FloatArray, weights: NDArray[np.float64]) -> FloatArray:
    """Return ``weights[0]`` plus the features, each times its weight, float32.

    Parameters
    ----------
    features
        float32, (voxel, feature).
    weights
        See `npsi_twin.morphology.forest.Forest`, (1 + feature,).
    """
    found = np.empty(len(features), np.float32)
    for voxel in prange(len(features)):
        found[voxel] = _linear(features[voxel], weights)
    return found


@njit(cache=True, parallel=True)
def mean_share(
    features: FloatArray,
    weights: NDArray[np.float64],
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
    weights, roots, left, right, feature, cut, share
        Weights and nodes, see `npsi_twin.morphology.forest.Forest`.
    """
    found = np.empty(len(features), np.float32)
    for voxel in prange(len(features)):
        total, linear = 0.0, _linear(features[voxel], weights)
        for root in roots:
            node = root
            while left[node] >= 0:
                asked = feature[node]
                below = (features[voxel, asked] if asked < features.shape[1] else linear) <= cut[node]
                node = np.int64(left[node] if below else right[node])
            total += share[node]
        found[voxel] = total / len(roots)
    return found
