"""Segment a reconstruction into void, silicon and current collector, as the analyst of a real scan would.

Takes -> gives: an attenuation volume and a `SegmentationRecipe` -> a `Segmentation` (labels with the values of
`npsi_twin.volumes.Phase`). Nothing but the attenuation is read: no truth, no geometry of the electrode.

The steps, of which the fourth has a name and may be anybody's (`register_segmentation`); the others are the same for
all, so that methods differ in what they call bright and in nothing else:

1. The foil is found by `find_collector`; where it was cut to a needle, `find_needle` finds its outline.
2. The volume is smoothed (`smoothing`): every slice by a 2-D Gaussian in the paper's way, which used "2D smoothing and
   thresholding slice by slice in ImageJ" without naming filter, kernel or rule.
3. The layer is what the data say it is (`layer_view`): from the guard band at the foil, or from beyond the foil's
   blurred flank where the layer has lifted, up to the height at which the mean attenuation has fallen to a twentieth
   of its peak above air. Histograms are those of the layer alone, because
   air, which fills most of a slice, would drown it.
4. The method says what is bright (`layer_methods`, `forest`).
5. Bright voxels on the layer's side are silicon; small isolated bodies are dropped, and so is what lies beyond the
   height at which air begins, where the mean attenuation cannot be told from its lowest: what is brighter again further
   out is noise, or an artefact of the reconstruction.
6. Blur turns the foil's edge into every grey between copper and void, hence into a rim of false silicon one to two
   voxels thick. Inside a guard band at the foil the grey is therefore not trusted: each voxel takes the label of the
   first trusted voxel straight above it. Where the band is thinner than a voxel, the grey is to be trusted up to the
   foil: in a sharp image the voxels that its surface cuts are told from silicon by their share of copper
   (`cut_voxels`), before anything else is done.

Holds where silicon stands out of the noise after smoothing (contrast-to-noise ratio above about 3). Carbon-binder, SEI
and electrolyte are called void: their contrast is below 0.3 of the noise (physics of the instrument, not of the
method).

References
----------
C. Zhao et al., Nano Energy 52 (2018) 381-390, section 2.4.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from npsi_twin.errors import DataError
from npsi_twin.morphology import layer_methods
from npsi_twin.morphology.collector import BoolArray, Collector, find_collector, occupied_rows
from npsi_twin.morphology.connectivity import body_sizes, face_connected, kept_bodies
from npsi_twin.morphology.cut_voxels import resolve_foil
from npsi_twin.morphology.forest import load_forest
from npsi_twin.morphology.layer_view import LayerView
from npsi_twin.morphology.needle import find_needle
from npsi_twin.morphology.segmentation_recipe import (
    SegmentationMethod,
    SegmentationRecipe,
    register_segmentation,
    registered_method,
    segmentation_methods,
)
from npsi_twin.morphology.smoothing import smoothed
from npsi_twin.recipes import MadeBy
from npsi_twin.volumes import Phase, Volume

__all__ = [
    "Segmentation",
    "SegmentationMethod",
    "SegmentationRecipe",
    "chosen_method",
    "register_segmentation",
    "segment",
    "segmentation_methods",
]


@dataclass(frozen=True)
class Segmentation:
    """What segmentation found.

    Attributes
    ----------
    labels
        uint8 volume with `Phase.VOID`, `Phase.SILICON` and `Phase.CURRENT_COLLECTOR`.
    collector
        The foil.
    threshold_per_um
        Threshold used in each slice, 1/um, shape (z,); NaN where the method has none.
    made_by
        Provenance.
    """

    labels: Volume
    collector: Collector
    threshold_per_um: NDArray[np.float64]
    made_by: MadeBy

    def __post_init__(self) -> None:
        view = self.threshold_per_um.view()
        view.flags.writeable = False
        object.__setattr__(self, "threshold_per_um", view)


_BUILT_IN: dict[str, SegmentationMethod] = {
    "smooth-threshold": layer_methods.smooth_threshold,
    "multi-otsu": layer_methods.multi_otsu,
    "hysteresis": layer_methods.hysteresis,
    "watershed": layer_methods.watershed,
    "random-walker": layer_methods.random_walker,
}


def segment(
    attenuation: Volume, recipe: SegmentationRecipe | None = None, *, method: SegmentationMethod | None = None
) -> Segmentation:
    """Label every voxel of a reconstruction as void, silicon or current collector.

    Parameters
    ----------
    attenuation
        Attenuation in 1/um, (z, y, x), with the foil at the bottom (large y).
    recipe
        What to do; the default recipe when None.
    method
        A method that is used in place of the recipe's, for example a trained `Forest`.

    Returns
    -------
    Segmentation
        Labels, foil and the thresholds used.

    Raises
    ------
    DataError
        Values that are not finite, too few voxels, no foil below the layer (see `find_collector`), no attenuating
        layer above the foil, or a recipe's forest that is not what its digest says.

    Examples
    --------
    >>> import numpy as np
    >>> values = np.zeros((8, 40, 24), np.float32)
    >>> values[:, 12:24, 4:12] = 0.015
    >>> values[:, 24:] = 0.047
    >>> found = segment(Volume(values, 50.0))
    >>> np.bincount(found.labels.values.ravel(), minlength=4).tolist() == [3840, 768, 0, 3072]
    True
    """
    recipe = SegmentationRecipe() if recipe is None else recipe
    _refuse_what_shows_no_layer(attenuation)
    collector = find_collector(attenuation)
    if recipe.foil_guard_nm < attenuation.voxel_nm:
        attenuation, collector = resolve_foil(attenuation, collector)
    smooth = smoothed(
        np.asarray(attenuation.values, np.float32),
        recipe.smoothing,
        sigma_voxels=recipe.smoothing_sigma_voxels,
        radius_voxels=recipe.smoothing_radius_voxels,
        strength=recipe.smoothing_strength,
    )
    view = LayerView(attenuation, smooth, collector, recipe.foil_guard_nm / collector.voxel_nm)
    taken = chosen_method(recipe) if method is None else method
    bright, threshold = taken(view, recipe)
    labels = np.full(collector.foil.shape, Phase.VOID, np.uint8)
    labels[_silicon(bright, view, recipe)] = Phase.SILICON
    labels[collector.foil] = Phase.CURRENT_COLLECTOR
    named = method is None and recipe.method != "forest"
    name = recipe.method if named else getattr(taken, "name", type(taken).__name__)
    made_by = MadeBy("segment", recipe.digest(), backend=name)
    return Segmentation(Volume(labels, attenuation.voxel_nm), collector, threshold, made_by)


def chosen_method(recipe: SegmentationRecipe) -> SegmentationMethod:
    """Return the method that a recipe names.

    Raises
    ------
    DataError
        The recipe's forest is missing, or not what its digest says.
    """
    if recipe.method == "forest":
        return load_forest(Path(recipe.forest_file), digest=recipe.forest_digest)
    return _BUILT_IN[recipe.method] if recipe.method in _BUILT_IN else registered_method(recipe.method)


def _refuse_what_shows_no_layer(attenuation: Volume) -> None:
    nz, ny, nx = attenuation.values.shape
    if nz < 1 or ny < 4 or nx < 3:
        raise DataError(
            f"segment: got {nz} x {ny} x {nx} voxels (z, y, x); at least 1 x 4 x 3 are needed to show a foil with a "
            "layer and air above it. Give whole slices."
        )


def _silicon(bright: BoolArray, view: LayerView, recipe: SegmentationRecipe) -> BoolArray:
    """Keep of what is bright that which can be silicon: steps 5 and 6 of the head of this module."""
    collector, guard = view.collector, view.guard_voxels
    # whoever fixes the threshold knows the volume, which may then hold no layer at all
    farthest = np.inf if isinstance(recipe.threshold_per_um, float) else view.reach[1]
    rows = bright.shape[1]
    silicon = np.empty(bright.shape, np.bool_)
    for z in range(len(bright)):
        height = view.heights(z)
        near = bright[z] & (height > 0) & (height <= farthest)
        trusted = np.clip(np.ceil(view.surface_row[z] - guard).astype(np.intp) - 1, 0, rows - 1)
        above = np.take_along_axis(near, trusted[None, :], axis=0)
        silicon[z] = np.where((height > 0) & (height <= guard), above, near) & ~collector.foil[z]
    if recipe.outside_needle == "void":
        needle = find_needle(collector)
        if needle is not None:
            silicon &= needle.inside((rows, bright.shape[2]))
    return _without_specks(silicon, recipe.minimum_component_voxels)


def _without_specks(mask: BoolArray, minimum: int) -> BoolArray:
    """Drop, in place, the bodies of fewer voxels."""
    if minimum <= 1:
        return mask
    rows = occupied_rows(mask)
    bodies = face_connected(mask[:, rows])
    large = body_sizes(bodies) >= minimum
    large[0] = False
    mask[:, rows] = kept_bodies(bodies, large)
    return mask
