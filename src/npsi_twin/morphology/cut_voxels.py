"""Voxels that the foil's surface cuts: how much of each is copper, and what lies in the rest of it.

Takes -> gives: a sharp attenuation volume and the foil that was found in it -> the foil's surface to a few hundredths
of a voxel, and the attenuation of the layer alone where copper shares its voxels.

The model. A voxel of which copper fills the share s is as bright as s P + (1 - s) a, with the foil's plateau P and the
attenuation a of the layer beside it: anything from air to copper, silicon among it, so that no threshold tells what it
is. With s known, a follows. Where nothing blurs the image, one voxel of a column is cut; what lies above it tells a,
hence s and the height of the surface, but where the layer itself changes within the voxel. Those columns are few, and
the foil hardly bends over a few of them: the median of the heights around leaves them out.

A label says what is at the middle of a voxel, and a is the mean over what is left above the copper, whose middle lies
s / 2 higher. A face of silicon that lies flat in the voxel is on the right side of its middle where

    a + k (a - a_above),   k = s / (1 - 2 s),

is on the right side of half of silicon's attenuation, with a_above that of the next voxel up. Since k multiplies errors
of s, it is kept below 1.5.

Holds for a foil that bends over more than five voxels, in images without blur and noise, as those of phantoms whose
microscope is switched off. In any other the uppermost voxel that is copper throughout lies deeper than the half level
that `find_collector` seeks, which shows; such an image is left as it is, and needs a guard band (see `segmentation`).
So is one whose foil ends at the faces of voxels, in which nothing is cut.
"""

from dataclasses import replace
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from npsi_twin.morphology.collector import Collector, HeightMap
from npsi_twin.volumes import Volume

#: Share of the plateau from which a voxel is copper throughout.
_ALL_COPPER = 0.95
#: Voxels below the surface, as it was found in the smoothed image, from which whole copper is followed upwards; as far
#: above it are voxels looked at.
_DEPTH = 3
#: Edge of the square of columns whose median is the surface, and the Gaussian that evens out its steps, voxels.
_COLUMNS, _SIGMA = 5, 1.0
#: Median distance of the two surfaces in a sharp image, at most, voxels. It is 0.03 there; a blur with a standard
#: deviation of half a voxel moves them 0.17 apart, one of 0.7 voxels 0.5.
_SHARP_VOXELS = 0.1
#: Share of copper in the median column's cut voxel below which the foil ends at the voxels' faces: nothing is cut.
_CUT = 0.05
#: Most that the change from the next voxel up is multiplied by.
_STEEPEST = 1.5
#: Where within a voxel the surface is asked for.
_WITHIN = (-1 / 3, 0.0, 1 / 3)


def resolve_foil(attenuation: Volume, collector: Collector) -> tuple[Volume, Collector]:
    """Find the surface of the foil in a sharp image, and take the foil out of the voxels that the surface cuts.

    Parameters
    ----------
    attenuation
        As it was reconstructed, 1/um.
    collector
        The foil in it.

    Returns
    -------
    tuple
        The attenuation of the layer alone where the foil cuts its voxels, and the foil below its surface; both as they
        were given where the image is not sharp.

    Examples
    --------
    Two fifths of a row are copper, and the rest of it is air:

    >>> import numpy as np
    >>> from npsi_twin.morphology.collector import find_collector
    >>> values = np.zeros((8, 24, 16), np.float32)
    >>> values[:, 11], values[:, 12:] = 0.0188, 0.047
    >>> image = Volume(values, 50.0)
    >>> layer, foil = resolve_foil(image, find_collector(image))
    >>> bool(np.allclose(layer.values[:, 11], 0.0, atol=1e-6)), float(foil.surface_nm.max().round(3))
    (True, 20.0)
    """
    values, voxel_nm = np.asarray(attenuation.values), attenuation.voxel_nm
    middle = (values.shape[1] - 1) / 2
    found = middle - collector.surface_nm / voxel_nm
    known = np.isfinite(found)
    if not known.any():
        return attenuation, collector
    whole, share = _highest_copper(values, found, collector.attenuation_per_um)
    surface = _evened(np.where(known, whole - 0.5 - share, np.median((whole - 0.5 - share)[known])))
    if np.median(np.abs(surface - found)[known]) > _SHARP_VOXELS or np.median(share[known]) < _CUT:
        return attenuation, collector
    slopes = [np.gradient(surface, axis=axis) if surface.shape[axis] > 1 else np.zeros_like(surface) for axis in (0, 1)]
    layer, foil = np.array(values, np.float32), np.array(collector.foil)
    z, x = np.nonzero(known)
    for above in range(_DEPTH, -_DEPTH, -1):  # downwards: a voxel asks for the one above it
        rows = np.ceil(surface[z, x]).astype(np.intp) - above
        inside = (rows > 0) & (rows < values.shape[1])
        at = (z[inside], rows[inside], x[inside])
        share = _share_below(surface, slopes, at)
        foil[at] = share > 0.5
        (z_at, row, x_at), share = (index[share <= 0.5] for index in at), share[share <= 0.5]
        rest = (values[z_at, row, x_at] - share * collector.attenuation_per_um) / (1 - share)
        slope = share / np.maximum(1 - 2 * share, share / _STEEPEST)
        middle_of_voxel = rest + slope * (rest - layer[z_at, row - 1, x_at])
        layer[z_at, row, x_at] = np.clip(middle_of_voxel, 0.0, collector.attenuation_per_um)
    resolved = replace(collector, foil=foil, surface_nm=np.where(known, (middle - surface) * voxel_nm, np.nan))
    return Volume(layer, voxel_nm), resolved


def _share_below(surface: HeightMap, slopes: list[HeightMap], at: tuple[NDArray[np.intp], ...]) -> HeightMap:
    """Return the share of voxels (z, row, x) that lies below the surface, which is flat within a voxel."""
    z, row, x = at
    share = np.zeros(row.size)
    for along, across in product(_WITHIN, _WITHIN):
        edge = surface[z, x] + along * slopes[0][z, x] + across * slopes[1][z, x]
        share += np.clip(row + 0.5 - edge, 0.0, 1.0)
    return share / len(_WITHIN) ** 2


def _highest_copper(
    values: NDArray[np.floating], found: HeightMap, plateau: float
) -> tuple[NDArray[np.intp], HeightMap]:
    """Return the uppermost row of each column that is copper throughout, and copper's share of the voxel above it."""
    last = values.shape[1] - 1

    def at(rows: NDArray[np.intp]) -> HeightMap:
        kept = np.take_along_axis(values, np.clip(rows, 0, last)[:, None, :], axis=1)[:, 0]
        return np.asarray(kept, np.float64)

    known = np.isfinite(found)
    whole = np.where(known, np.round(found), 0).astype(np.intp) + _DEPTH
    rising = known
    for _ in range(2 * _DEPTH):
        rising = rising & (at(whole - 1) >= _ALL_COPPER * plateau)
        whole = np.where(rising, whole - 1, whole)
    above = np.clip(1.5 * at(whole - 2) - 0.5 * at(whole - 3), 0.0, plateau / 2)
    return whole, np.clip((at(whole - 1) - above) / (plateau - above), 0.0, 1.0)


def _evened(surface: HeightMap) -> HeightMap:
    """Leave out of a surface what few columns have, and even it out; it goes on in its slope beyond the rim."""
    wide = np.pad(surface, _COLUMNS, mode="reflect", reflect_type="odd")
    even = ndimage.gaussian_filter(ndimage.median_filter(wide, _COLUMNS), _SIGMA)
    return np.asarray(even[_COLUMNS:-_COLUMNS, _COLUMNS:-_COLUMNS])
