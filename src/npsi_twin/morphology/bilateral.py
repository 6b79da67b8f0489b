"""The bilateral filter in three dimensions, compiled: scikit-image has it for images only.

Takes -> gives: attenuation (z, y, x) -> the weighted mean of every voxel's neighbours within two standard deviations of
the window, with the weights that `smoothing` states. Holds for windows of a few voxels: time grows with their volume.
"""

import numpy as np
from numba import njit, prange

from npsi_twin.volumes import FloatArray

#: Where the Gaussian window ends, standard deviations.
_ENDS_AT = 2.0


def bilateral(values: FloatArray, sigma_voxels: float, sigma_per_um: float) -> FloatArray:
    """Smooth a volume where its greys are alike.

    Parameters
    ----------
    values
        Attenuation, 1/um, (z, y, x).
    sigma_voxels
        Standard deviation of the window, voxels, above 0.
    sigma_per_um
        Standard deviation of the weight of a difference of grey, 1/um, above 0.

    Returns
    -------
    ndarray
        float32, same shape.

    Examples
    --------
    An edge much higher than the greys that are evened out stays as it is:

    >>> step = np.repeat(np.array([0, 1], np.float32), 4).reshape(1, 1, 8)
    >>> bool(np.allclose(bilateral(step, 1.0, 0.01), step, atol=1e-6))
    True
    """
    window = int(np.ceil(_ENDS_AT * sigma_voxels))
    out = np.empty(values.shape, np.float32)
    with np.errstate(under="ignore"):  # weights of far greys are zero
        _filter(np.ascontiguousarray(values), window, 0.5 / sigma_voxels**2, 0.5 / sigma_per_um**2, out)
    return out


@njit(cache=True, parallel=True)
def _filter(values: FloatArray, window: int, by_distance: float, by_grey: float, out: FloatArray) -> None:
    """Fill ``out``; every voxel is summed by itself, in one order, so that threads change nothing."""
    nz, ny, nx = values.shape
    for line in prange(nz * ny):
        z, y = line // ny, line % ny
        for x in range(nx):
            middle = values[z, y, x]
            weights, total = 0.0, 0.0
            for dz in range(-window, window + 1):
                k = min(max(z + dz, 0), nz - 1)
                for dy in range(-window, window + 1):
                    j = min(max(y + dy, 0), ny - 1)
                    for dx in range(-window, window + 1):
                        i = min(max(x + dx, 0), nx - 1)
                        grey = values[k, j, i] - middle
                        weight = np.exp(-by_distance * (dz * dz + dy * dy + dx * dx) - by_grey * grey * grey)
                        weights += weight
                        total += weight * values[k, j, i]
            out[z, y, x] = total / weights
