"""What a voxel classifier sees of a voxel: its attenuation and that of its neighbourhood at several widths.

Takes -> gives: attenuation (z, y, x) and widths -> features (z, y, x, feature), float32.

The model. The attenuation v comes in units of a grey of the volume itself, so that a drifting source changes nothing,
and the widths are lengths, so that another voxel size changes little. For each width s, with G a
Gaussian of that standard deviation in all three directions:

    G v,    s |grad G v|,    s^2 laplace G v,    s^2 d^2 G v / dz^2,    sqrt(G v^2 - (G v)^2),

and v itself. They are those of Arganda-Carreras et al. 2017 that need no training of their own, and the bend across
slices by itself, since a reconstruction blurs slices otherwise than the direction across them. Neither the place nor
the height above the foil is among them: a classifier that knew these would learn the phantoms' thickness.

Holds for widths from a third of a voxel; the Gaussians end at four standard deviations, so that slices farther than
`reach_voxels` from a slab do not enter it.

References
----------
I. Arganda-Carreras et al., Bioinformatics 33 (2017) 2424, doi:10.1093/bioinformatics/btx180.
"""

from functools import partial

import numpy as np
from scipy import ndimage

from npsi_twin.volumes import FloatArray

_ENDS_AT = 4.0
#: Features of a width.
_KINDS = 5


def feature_count(widths_nm: tuple[float, ...]) -> int:
    """Return how many features a voxel has."""
    return 1 + _KINDS * len(widths_nm)


def reach_voxels(widths_nm: tuple[float, ...], voxel_nm: float) -> int:
    """Return how many slices beyond a slab its features see."""
    return max(int(_ENDS_AT * width / voxel_nm + 0.5) for width in widths_nm)


def voxel_features(normalised: FloatArray, widths_nm: tuple[float, ...], voxel_nm: float) -> FloatArray:
    """Compute the features of every voxel.

    Parameters
    ----------
    normalised
        Attenuation in units of a grey of the volume, (z, y, x); beyond its faces the outermost voxels are repeated.
    widths_nm
        Standard deviations of the Gaussians, nm.
    voxel_nm
        Edge of a voxel, nm.

    Returns
    -------
    ndarray
        float32, (z, y, x, feature).

    Examples
    --------
    A flat grey has itself for its means, and all but nothing else (the kernel of the second derivative ends early):

    >>> np.abs(voxel_features(np.full((4, 4, 4), 0.5, np.float32), (50.0,), 50.0)[0, 0, 0]).round(3).tolist()
    [0.5, 0.5, 0.0, 0.0, 0.0, 0.0]
    """
    found = np.empty((*normalised.shape, feature_count(widths_nm)), np.float32)
    found[..., 0] = normalised
    values = np.asarray(normalised, np.float64)
    for number, width in enumerate(widths_nm):
        sigma, first = width / voxel_nm, 1 + _KINDS * number
        smooth = partial(ndimage.gaussian_filter, sigma=sigma, mode="nearest", truncate=_ENDS_AT)
        mean = smooth(values)
        slopes = [smooth(values, order=order) for order in ((1, 0, 0), (0, 1, 0), (0, 0, 1))]
        bends = [smooth(values, order=order) for order in ((2, 0, 0), (0, 2, 0), (0, 0, 2))]
        found[..., first] = mean
        found[..., first + 1] = sigma * np.sqrt(slopes[0] ** 2 + slopes[1] ** 2 + slopes[2] ** 2)
        found[..., first + 2] = sigma**2 * (bends[0] + bends[1] + bends[2])
        found[..., first + 3] = sigma**2 * bends[0]
        found[..., first + 4] = np.sqrt(np.maximum(smooth(values**2) - mean**2, 0.0))
    return found
