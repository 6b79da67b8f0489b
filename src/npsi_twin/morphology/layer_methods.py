"""The ways to find silicon in a layer that come with the package.

Takes -> gives: a `LayerView` and a recipe -> the voxels that are bright, and the threshold of every slice. What all
ways share (foil, guard band, air, specks, needle) is done by `segmentation` for each of them alike.

The model. All start from a threshold t that a rule of `thresholds` finds in the smoothed layer, and from the mean greys
of the two sides of it, a (darker) and b (brighter):

* "smooth-threshold": bright is what exceeds t. The paper's "2D smoothing and thresholding slice by slice in ImageJ".
* "multi-otsu": t is the lowest of the thresholds that cut the histogram of the whole stack, air and foil included, into
  several classes of greatest variance between them: how three phases are told apart without looking for the foil.
* "hysteresis": bright is what exceeds t - m (t - a) and is face-connected to what exceeds t + m (b - t).
* "watershed": voxels beyond these two levels are sure; the ridges of the gradient's magnitude share out the rest.
* "random-walker": in each slice, a walker from an unsure voxel that prefers equal greys reaches silicon first with more
  than half a chance (Grady 2006).

m is the recipe's ``sure_margin_fraction``: 0 makes hysteresis the plain threshold.

References
----------
P.-S. Liao, T.-S. Chen and P.-C. Chung, J. Inf. Sci. Eng. 17 (2001) 713 (multi-level Otsu).
J. Canny, IEEE Trans. Pattern Anal. Mach. Intell. 8 (1986) 679, doi:10.1109/TPAMI.1986.4767851 (hysteresis).
P. Soille and L. Vincent, Proc. SPIE 1360 (1990) 240, doi:10.1117/12.24211 (watershed).
L. Grady, IEEE Trans. Pattern Anal. Mach. Intell. 28 (2006) 1768, doi:10.1109/TPAMI.2006.233 (random walker).
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from npsi_twin.errors import DataError
from npsi_twin.morphology.collector import BoolArray
from npsi_twin.morphology.connectivity import face_connected, kept_bodies
from npsi_twin.morphology.layer_view import LayerView
from npsi_twin.morphology.segmentation_recipe import SegmentationRecipe
from npsi_twin.morphology.thresholds import threshold_by_rule

Thresholds = NDArray[np.float64]
Found = tuple[BoolArray, Thresholds]

#: Sure void and sure silicon among the markers of watershed and random walker; 0 is unsure.
_VOID, _SILICON = 1, 2


def smooth_threshold(view: LayerView, recipe: SegmentationRecipe) -> Found:
    """Call bright what exceeds the threshold."""
    threshold = thresholds(view, recipe)
    return np.asarray(view.smooth > threshold[:, None, None]), threshold


def multi_otsu(view: LayerView, recipe: SegmentationRecipe) -> Found:
    """Call bright what exceeds the lowest threshold between the classes of the whole stack's histogram."""
    from skimage.filters import threshold_multiotsu

    values = view.smooth
    low, high = (float(q) for q in np.quantile(values, (0.001, 0.999)))
    # the search over all sets of cuts takes bins to the power of cuts: 256 bins, as in ImageJ
    counts, edges = np.histogram(values, bins=256, range=(low, high))
    classes = recipe.multi_otsu_classes
    if np.count_nonzero(counts) < classes:
        raise DataError(
            f"segment: the stack has {np.count_nonzero(counts)} greys apart; at least {classes} are needed to cut its "
            f"histogram into {classes} classes. Give a volume that shows air, silicon and foil."
        )
    hist = (counts, (edges[:-1] + edges[1:]) / 2)
    found = threshold_multiotsu(hist=hist, classes=classes)  # type: ignore[no-untyped-call]  # skimage
    threshold = np.full(len(values), float(found[0]))
    return np.asarray(values > threshold[:, None, None]), threshold


def hysteresis(view: LayerView, recipe: SegmentationRecipe) -> Found:
    """Call bright what exceeds the lower level and is connected to what exceeds the upper one."""
    threshold, low, high = _levels(view, recipe)
    bodies = face_connected(_above_the_foil(view, view.smooth > low[:, None, None]))
    held = np.zeros(int(bodies.max(initial=0)) + 1, np.bool_)
    held[bodies[view.smooth > high[:, None, None]]] = True
    held[0] = False
    return kept_bodies(bodies, held), threshold


def watershed(view: LayerView, recipe: SegmentationRecipe) -> Found:
    """Share out the unsure voxels along the ridges of the gradient."""
    from skimage.segmentation import watershed as flood

    threshold, low, high = _levels(view, recipe)
    markers = _markers(view, low, high)
    bright = np.zeros(view.smooth.shape, np.bool_)
    steep = ndimage.generic_gradient_magnitude(view.smooth[:, view.rows], ndimage.sobel, mode="nearest")
    bright[:, view.rows] = flood(steep, markers) == _SILICON  # type: ignore[no-untyped-call]  # skimage
    return bright, threshold


def random_walker(view: LayerView, recipe: SegmentationRecipe) -> Found:
    """Give the unsure voxels of each slice to the phase that a random walker reaches first."""
    from skimage.segmentation import random_walker as walk

    threshold, low, high = _levels(view, recipe)
    markers = _markers(view, low, high)
    bright = np.zeros(view.smooth.shape, np.bool_)
    for z, sure in enumerate(markers):
        found = sure
        if np.unique(sure).tolist() == [0, _VOID, _SILICON]:
            # beta is in units of the image's spread, which the foil would rule
            grey = np.clip(view.smooth[z, view.rows], low[z], high[z])
            # solved directly: an iteration would end at a tolerance, and its sums depend on threads
            found = walk(grey, sure, beta=recipe.random_walker_beta, mode="bf")
        bright[z, view.rows] = found == _SILICON
    return bright, threshold


def thresholds(view: LayerView, recipe: SegmentationRecipe) -> Thresholds:
    """Return the threshold of every slice, 1/um, from the histogram of the layer."""
    nz = len(view.smooth)
    rule = recipe.threshold_per_um
    if isinstance(rule, float):
        return np.full(nz, rule)
    if recipe.threshold_over == "stack":
        return np.full(nz, threshold_by_rule(np.concatenate(list(view.samples())), rule, bins=recipe.histogram_bins))
    return np.array([threshold_by_rule(sample, rule, bins=recipe.histogram_bins) for sample in view.samples()])


def _levels(view: LayerView, recipe: SegmentationRecipe) -> tuple[Thresholds, Thresholds, Thresholds]:
    """Return the threshold of every slice, and the levels below and above which a voxel is sure, 1/um."""
    threshold = thresholds(view, recipe)
    sides = [(grey[grey <= cut], grey[grey > cut]) for grey, cut in zip(view.samples(), threshold, strict=True)]
    dark = np.concatenate([darker for darker, _ in sides])
    bright = np.concatenate([brighter for _, brighter in sides])
    if not dark.size or not bright.size:
        raise DataError(
            f"segment: all of the layer is {'above' if bright.size else 'below'} the threshold of "
            f'{threshold.mean():.4g}/um; greys on both sides are needed by "{recipe.method}". Take a rule in place of '
            "a fixed threshold_per_um, or smooth-threshold."
        )
    margin = recipe.sure_margin_fraction
    low = threshold - margin * np.maximum(threshold - dark.mean(dtype=np.float64), 0.0)
    high = threshold + margin * np.maximum(bright.mean(dtype=np.float64) - threshold, 0.0)
    return threshold, low, high


def _markers(view: LayerView, low: Thresholds, high: Thresholds) -> NDArray[np.int32]:
    """Return what is sure between air and foil, (z, rows of the view, x)."""
    smooth = view.smooth[:, view.rows]
    markers = np.zeros(smooth.shape, np.int32)
    markers[smooth <= low[:, None, None]] = _VOID
    markers[_above_the_foil(view, view.smooth > high[:, None, None])[:, view.rows]] = _SILICON
    return markers


def _above_the_foil(view: LayerView, mask: BoolArray) -> BoolArray:
    """Drop what lies in the foil and in the guard band, through which every body would be connected."""
    found = np.empty(mask.shape, np.bool_)
    for z, image in enumerate(mask):
        found[z] = image & ~view.collector.foil[z] & (view.heights(z) > view.guard_voxels)
    return found
