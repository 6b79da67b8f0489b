"""Segment a reconstruction into void, silicon and current collector, as the analyst of a real scan would.

Takes -> gives: an attenuation volume and a `SegmentationRecipe` -> a `Segmentation` (labels with the values of
`npsi_twin.volumes.Phase`). Nothing but the attenuation is read: no truth, no geometry of the electrode.

The method "smooth-threshold" follows the paper, which used "2D smoothing and thresholding slice by slice in ImageJ"
without naming filter, kernel or rule:

1. The foil is found by `find_collector`.
2. Every slice is smoothed by a 2-D Gaussian.
3. The threshold comes from a histogram of the layer alone, because air, which fills most of a slice, would drown it.
   The layer is what the data say it is: from the guard band at the foil up to the height at which the mean
   attenuation has fallen to a twentieth of its peak above air.
4. Voxels of the layer's side above the threshold are silicon; small isolated bodies are dropped, and so is what lies
   beyond the height at which the mean attenuation is lowest: there is air, and what is brighter again further out is
   an artefact of the reconstruction.
5. Blur turns the foil's edge into every grey between copper and void, hence into a rim of false silicon one to two
   voxels thick. Inside a guard band at the foil the grey is therefore not trusted: each voxel takes the label of the
   first trusted voxel straight above it.

Otsu's threshold is a fixed point of the isodata iteration, so that the two rules differ only where a histogram has
several.

Holds where silicon stands out of the noise after smoothing (contrast-to-noise ratio above about 3). Carbon-binder, SEI
and electrolyte are called void: their contrast is below 0.3 of the noise (physics of the instrument, not of the
method).

References
----------
C. Zhao et al., Nano Energy 52 (2018) 381-390, section 2.4.
T. W. Ridler and S. Calvard, IEEE Trans. Syst. Man Cybern. 8 (1978) 630, doi:10.1109/TSMC.1978.4310039 (isodata).
N. Otsu, IEEE Trans. Syst. Man Cybern. 9 (1979) 62, doi:10.1109/TSMC.1979.4310076.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import ndimage

from npsi_twin.errors import DataError
from npsi_twin.morphology.collector import BoolArray, Collector, HeightMap, find_collector
from npsi_twin.recipes import MadeBy, Recipe, parameter
from npsi_twin.volumes import Phase, Volume

#: Share of the layer's peak above air at which the layer is said to end.
SIGNAL_ENDS_AT = 0.05


class SegmentationRecipe(Recipe):
    """How to call voxels silicon."""

    method: Literal["smooth-threshold"] = parameter(
        "smooth-threshold", "way to find the silicon", source="stated (Zhao 2018, section 2.4)"
    )
    smoothing_sigma_voxels: float = parameter(
        1.0,
        "standard deviation of the 2-D Gaussian that smooths every slice; 0 leaves it out",
        unit="voxels",
        source="assumed (the paper names neither filter nor kernel)",
        ge=0.0,
        le=20.0,
    )
    threshold_per_um: Literal["isodata", "otsu"] | Annotated[float, Field(gt=0.0, le=10.0)] = parameter(
        "isodata",
        'rule that finds the threshold, "isodata" (the family of ImageJ\'s default) or "otsu", or a fixed threshold',
        unit="1/um",
        source="inferred (ImageJ's default rule)",
    )
    threshold_over: Literal["stack", "slice"] = parameter(
        "stack", "histogram that the rule sees: of the whole stack, or of each slice", source="assumed"
    )
    foil_guard_nm: float = parameter(
        150.0,
        "width of the band at the foil's surface in which the grey is not trusted",
        unit="nm",
        source="assumed (2.5 standard deviations of optics, voxel and smoothing together, 60 nm at 50 nm voxels)",
        ge=0.0,
        le=5000.0,
    )
    minimum_component_voxels: int = parameter(
        27,
        "silicon bodies of fewer face-connected voxels are taken for noise",
        unit="voxels",
        source="assumed (a cube of three voxels)",
        ge=1,
        le=1_000_000,
    )


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
        Threshold used in each slice, 1/um, shape (z,).
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


class SegmentationMethod(Protocol):
    """A way to find the silicon above a foil that is already found."""

    def __call__(
        self, attenuation: Volume, collector: Collector, recipe: SegmentationRecipe
    ) -> tuple[BoolArray, NDArray[np.float64]]:
        """Return the silicon's voxels, bool (z, y, x), and the threshold of every slice, 1/um, (z,)."""
        ...


def segment(attenuation: Volume, recipe: SegmentationRecipe | None = None) -> Segmentation:
    """Label every voxel of a reconstruction as void, silicon or current collector.

    Parameters
    ----------
    attenuation
        Attenuation in 1/um, (z, y, x), with the foil at the bottom (large y).
    recipe
        What to do; the default recipe when None.

    Returns
    -------
    Segmentation
        Labels, foil and the thresholds used.

    Raises
    ------
    DataError
        No foil below the layer (see `find_collector`), or no attenuating layer above the foil.

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
    collector = find_collector(attenuation)
    silicon, threshold = _METHODS[recipe.method](attenuation, collector, recipe)
    labels = np.full(collector.foil.shape, Phase.VOID, np.uint8)
    labels[silicon] = Phase.SILICON
    labels[collector.foil] = Phase.CURRENT_COLLECTOR
    made_by = MadeBy("segment", recipe.digest(), backend=recipe.method)
    return Segmentation(Volume(labels, attenuation.voxel_nm), collector, threshold, made_by)


def smooth_threshold(
    attenuation: Volume, collector: Collector, recipe: SegmentationRecipe
) -> tuple[BoolArray, NDArray[np.float64]]:
    """Smooth slice by slice, threshold, drop specks: the method of the paper; see the head of this module."""
    sigma = recipe.smoothing_sigma_voxels
    values = np.asarray(attenuation.values, np.float32)
    smooth = ndimage.gaussian_filter(values, (0.0, sigma, sigma), mode="nearest") if sigma > 0 else values
    distance = _rows_above(collector)
    guard = recipe.foil_guard_nm / collector.voxel_nm
    threshold, farthest = _thresholds(smooth, collector, distance, guard, recipe)
    row = np.arange(values.shape[1])[:, None]
    silicon = np.empty(values.shape, np.bool_)
    for z in range(values.shape[0]):
        height = distance[z][None, :] - row
        bright = (smooth[z] > threshold[z]) & (height > 0) & (height <= farthest)
        trusted = np.clip(np.ceil(distance[z] - guard).astype(np.intp) - 1, 0, row.size - 1)
        below = np.take_along_axis(bright, trusted[None, :], axis=0)
        silicon[z] = np.where((height > 0) & (height <= guard), below, bright)
    silicon &= ~collector.foil
    return _without_specks(silicon, recipe.minimum_component_voxels), threshold


_METHODS: dict[str, SegmentationMethod] = {"smooth-threshold": smooth_threshold}


def _rows_above(collector: Collector) -> HeightMap:
    """Return the row coordinate of the foil's surface, (z, x); the fitted plane stands in where the foil has none."""
    surface = np.where(np.isfinite(collector.surface_nm), collector.surface_nm, collector.plane_nm)
    return np.asarray((collector.foil.shape[1] - 1) / 2 - surface / collector.voxel_nm)


def _thresholds(
    smooth: NDArray[Any], collector: Collector, distance: HeightMap, guard: float, recipe: SegmentationRecipe
) -> tuple[NDArray[np.float64], float]:
    """Return the threshold of every slice, 1/um, from the histogram of the layer, and where air begins, voxels."""
    nz = smooth.shape[0]
    if isinstance(recipe.threshold_per_um, float):
        return np.full(nz, recipe.threshold_per_um), np.inf
    reach, farthest = layer_reach(smooth, collector, guard)
    row = np.arange(smooth.shape[1])[:, None]
    samples = []
    for z in range(nz):
        height = np.where(np.isfinite(collector.surface_nm[z]), distance[z], -1.0)[None, :] - row
        samples.append(smooth[z][(height > guard) & (height <= reach) & ~collector.foil[z]])
    if recipe.threshold_over == "stack":
        return np.full(nz, _rule(np.concatenate(samples), recipe.threshold_per_um)), farthest
    return np.array([_rule(sample, recipe.threshold_per_um) for sample in samples]), farthest


def layer_reach(smooth: NDArray[Any], collector: Collector, guard_voxels: float) -> tuple[float, float]:
    """Return how far above the foil the layer's signal reaches, and where air is surest, in voxels.

    The mean attenuation against distance to the local surface is lowest in air; the layer ends where it has fallen,
    seen from its peak outwards, to `SIGNAL_ENDS_AT` of the way from air to peak.

    Raises
    ------
    DataError
        Nothing above the foil attenuates more than noise does.
    """
    with_foil = np.isfinite(collector.surface_nm)
    top = np.floor(_rows_above(collector)).astype(np.intp)
    means: list[float] = []
    errors: list[float] = []
    first = int(np.ceil(guard_voxels))
    for k in range(first, smooth.shape[1]):
        inside = with_foil & (top - k >= 0)
        if int(np.count_nonzero(inside)) < max(1, int(np.count_nonzero(with_foil)) // 2):
            break
        sample = np.take_along_axis(smooth, np.maximum(top - k, 0)[:, None, :], axis=1)[:, 0][inside]
        means.append(float(sample.mean(dtype=np.float64)))
        errors.append(float(sample.std(dtype=np.float64)) / sample.size**0.5)
    profile = np.array(means)
    peak = int(np.argmax(profile)) if profile.size else 0
    if profile.size < 2 or profile[peak] - profile.min() <= 10 * errors[int(np.argmin(profile))]:
        raise DataError(
            "segment: nothing above the foil attenuates more than the noise; a layer of silicon is needed to "
            "set a threshold. "
            "Check the volume, or give a fixed threshold_per_um."
        )
    outwards = profile[peak:]
    end = outwards.min() + SIGNAL_ENDS_AT * (profile[peak] - outwards.min())
    below = int(np.flatnonzero(outwards <= end)[0])
    return float(first + peak + below), float(first + peak + int(np.argmin(outwards)))


def _rule(values: NDArray[Any], rule: str) -> float:
    """Apply a threshold rule to a histogram of 1024 bins between the 0.1st and 99.9th percentile."""
    from skimage.filters import threshold_isodata, threshold_otsu

    low = float(np.quantile(values, 0.001)) if values.size else 0.0
    high = float(np.quantile(values, 0.999)) if values.size else 0.0
    if high <= low:
        raise DataError(
            "segment: the layer has one grey only, or none; two phases are needed to set a threshold by a rule. "
            'Give a fixed threshold_per_um, or threshold_over = "stack" if single slices hold no silicon.'
        )
    counts, edges = np.histogram(values, bins=1024, range=(low, high))
    find = threshold_isodata if rule == "isodata" else threshold_otsu
    return float(find(hist=(counts, (edges[:-1] + edges[1:]) / 2)))  # type: ignore[no-untyped-call]  # skimage


def _without_specks(mask: BoolArray, minimum: int) -> BoolArray:
    if minimum <= 1:
        return mask
    labels, _ = ndimage.label(mask)
    keep = np.bincount(labels.ravel()) >= minimum
    keep[0] = False
    return np.asarray(keep[labels])
