"""Smoothing before segmentation: the 2-D filters of ImageJ, and the 3-D filters that keep edges.

Takes -> gives: attenuation (z, y, x) -> the same, smoothed.

The model. "gaussian", "median" and "mean" act slice by slice, as ImageJ does: its round kernels of radius r hold the
pixels with dx^2 + dy^2 <= floor(r^2) + 1, so that r = 0.5 is a cross of 5 and r = 1 a square of 3 x 3 (1.5 counts as
1.75 and 2.5 as 2.85, as in its first versions). With "-3d" a
filter acts on the volume: "median-3d" over the ball of the same rule, "bilateral-3d" with weights

    exp(-d^2 / (2 sigma^2)) exp(-(v - v0)^2 / (2 (strength noise)^2)),

"non-local-means-3d" with the means of all voxels nearby whose cube of 3 voxels looks alike, weighted by
exp(-max(D^2 - 2 noise^2, 0) / (strength noise)^2). The noise is found in the volume: 1.4826 MAD of the difference of
neighbouring slices, divided by sqrt(2), which interfaces do not enter.

Holds for white noise. Reconstructed noise is correlated over the blur of the filter, so that a strength of 1 removes
less than it would from white noise, and what neighbouring slices share by the blur of the detector reads low.

References
----------
C. Tomasi and R. Manduchi, Proc. ICCV (1998) 839, doi:10.1109/ICCV.1998.710815 (bilateral).
A. Buades, B. Coll and J.-M. Morel, Proc. CVPR (2005) 60, doi:10.1109/CVPR.2005.38 (non-local means).
W. S. Rasband, ImageJ, Process > Filters; kernels of its rank filters as listed in its manual.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from npsi_twin.errors import DataError
from npsi_twin.volumes import FloatArray

Smoothing = Literal["gaussian", "median", "mean", "gaussian-3d", "median-3d", "bilateral-3d", "non-local-means-3d"]

#: Half the edge of the neighbourhood that non-local means searches, voxels.
_SEARCH_VOXELS = 4


def smoothed(
    values: FloatArray, method: Smoothing, *, sigma_voxels: float, radius_voxels: float, strength: float
) -> FloatArray:
    """Smooth a volume.

    Parameters
    ----------
    values
        Attenuation, 1/um, (z, y, x).
    method
        Name of the filter.
    sigma_voxels
        Standard deviation of the Gaussian filters and of the bilateral filter's window, voxels; 0 leaves those out.
    radius_voxels
        Radius of median and mean, voxels.
    strength
        Difference of grey that bilateral and non-local means filters even out, standard deviations of the noise.

    Returns
    -------
    ndarray
        float32, same shape.

    Raises
    ------
    DataError
        A filter that needs the noise is given a single slice, or slices without noise.

    Examples
    --------
    >>> spike = np.zeros((1, 5, 5), np.float32)
    >>> spike[0, 2, 2] = 9.0
    >>> options = {"sigma_voxels": 1.0, "radius_voxels": 1.0, "strength": 1.0}
    >>> float(smoothed(spike, "mean", **options)[0, 2, 2]), float(smoothed(spike, "median", **options).max())
    (1.0, 0.0)
    """
    if method == "gaussian":
        sigma = (0.0, sigma_voxels, sigma_voxels)
        return ndimage.gaussian_filter(values, sigma, mode="nearest") if sigma_voxels > 0 else values
    if method == "gaussian-3d":
        return ndimage.gaussian_filter(values, sigma_voxels, mode="nearest") if sigma_voxels > 0 else values
    if method == "median":
        return np.asarray(ndimage.median_filter(values, footprint=_disk(radius_voxels)[None], mode="nearest"))
    if method == "median-3d":
        return np.asarray(ndimage.median_filter(values, footprint=_ball(radius_voxels), mode="nearest"))
    if method == "mean":
        kernel = _disk(radius_voxels).astype(np.float64)
        return np.asarray(ndimage.convolve(values, kernel[None] / kernel.sum(), mode="nearest"))
    if method == "bilateral-3d" and sigma_voxels == 0:
        return values
    noise = noise_per_um(values)
    if method == "bilateral-3d":
        from npsi_twin.morphology.bilateral import bilateral

        return bilateral(values, sigma_voxels, strength * noise)
    from skimage.restoration import denoise_nl_means

    options: dict[str, Any] = {"patch_size": 3, "patch_distance": _SEARCH_VOXELS, "fast_mode": True}
    return np.asarray(
        denoise_nl_means(values, h=strength * noise, sigma=noise, preserve_range=True, **options),
        np.float32,
    )


def noise_per_um(values: FloatArray) -> float:
    """Estimate the noise of a volume from the differences of neighbouring slices.

    Parameters
    ----------
    values
        Attenuation, 1/um, (z, y, x).

    Returns
    -------
    float
        Standard deviation, 1/um.

    Raises
    ------
    DataError
        A single slice, or no noise.

    Examples
    --------
    >>> noise = np.random.default_rng(1).normal(0, 0.003, (8, 64, 64)).astype(np.float32)
    >>> abs(noise_per_um(noise) / 0.003 - 1) < 0.02
    True
    """
    if values.shape[0] < 2:
        raise DataError(
            "noise_per_um: got a single slice; at least two are needed, since the noise is told from structure by what "
            'neighbouring slices do not share. Use smoothing = "gaussian", "median" or "mean", or give more slices.'
        )
    differences = np.diff(values, axis=0)
    noise = 1.4826 * float(np.median(np.abs(differences - np.median(differences)))) / np.sqrt(2)
    if noise <= 0:
        raise DataError(
            "noise_per_um: more than half of all voxels equal their neighbours in the next slice; noise above 0 is "
            'needed to tell it from edges. Use smoothing = "gaussian" or "median" on a volume without noise.'
        )
    return float(noise)


def _disk(radius_voxels: float) -> NDArray[np.bool_]:
    """Return ImageJ's round kernel."""
    limit, step = _reach(radius_voxels)
    return np.asarray(step[:, None] + step <= limit)


def _ball(radius_voxels: float) -> NDArray[np.bool_]:
    """Return the ball of the same rule."""
    limit, step = _reach(radius_voxels)
    return np.asarray(step[:, None, None] + step[:, None] + step <= limit)


def _reach(radius_voxels: float) -> tuple[int, NDArray[np.int64]]:
    """Return the largest squared distance in a kernel, and the squares of the steps along an axis up to it."""
    for first, taken in ((1.5, 1.75), (2.5, 2.85)):
        if first <= radius_voxels < taken:
            radius_voxels = taken
    limit = int(radius_voxels**2) + 1 if radius_voxels > 0 else 0
    reach = int(np.sqrt(limit))
    return limit, np.arange(-reach, reach + 1) ** 2
