"""Everything that a segmentation's labels can be scored by, in one table.

Takes -> gives: true phases, where known the true fractions and particles, and recovered phases -> `LabelScores`.

The model is that of `segmentation_accuracy`, `boundaries`, `accuracy_curves` and `detectability`; this module decides
where each of them looks. **Layer** is what lies between the truth's foil and the top of its silicon. Overlaps are
counted there, distances are taken between all surfaces of the silicon, feature sizes in the layer's central crop, and
particles are those of the truth. What cannot be scored is NaN with its reason in `note`, never 0.

Holds for labels of any origin. Spread: of overlaps the standard deviation over blocks of slices; else NaN.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from npsi_twin.comparison.accuracy_curves import AccuracyCurve, accuracy_by_distance, accuracy_by_feature_size
from npsi_twin.comparison.boundaries import boundary_distances
from npsi_twin.comparison.detectability import DetectionCurve, detected, wilson_interval
from npsi_twin.comparison.segmentation_accuracy import SegmentationAccuracy, check_labels, score, soft_dice
from npsi_twin.errors import DataError, IncompatibleError
from npsi_twin.morphology.quantities import Blocks, Measured, missing, per_slice
from npsi_twin.morphology.thickness import SILICON, foil_surface, is_one_of, layer_box
from npsi_twin.recipes import MadeBy, Recipe, parameter
from npsi_twin.volumes import FloatArray, Phase, Volume

BoolArray = NDArray[np.bool_]

Part = Literal["overlaps", "surfaces", "sizes"]
#: What can be scored by itself, for example at the same time.
PARTS: tuple[Part, ...] = ("overlaps", "surfaces", "sizes")


class ScoringRecipe(Recipe):
    """How to score labels against the truth."""

    tolerance_voxels: float = parameter(
        1.0,
        "distance up to which surfaces agree, for the surface Dice",
        unit="voxels",
        source="stated (issue text: surface Dice at one voxel)",
        ge=0.0,
        le=100.0,
    )
    overlap_fraction: float = parameter(
        0.5,
        "share of its voxels from which on a particle is found",
        source="assumed (half, as in instance matching)",
        gt=0.0,
        le=1.0,
    )
    distance_reach_voxels: int = parameter(
        6, "reach of the accuracy against distance to the interface", unit="voxels", source="assumed", ge=1, le=1000
    )
    feature_crop_nm: float = parameter(
        4000.0,
        "edge of the central crop of the layer in which feature sizes are mapped; 0 leaves them out",
        unit="nm",
        source="assumed (seconds at 50 nm voxels)",
        ge=0.0,
        le=1e6,
    )
    blocks: int = parameter(8, "blocks of slices that give an overlap its spread", source="assumed", ge=2, le=1000)


@dataclass(frozen=True)
class LabelScores:
    """How good labels are.

    Attributes
    ----------
    quantities
        Name -> `Measured`, in a fixed order and complete for the parts that were scored.
    by_distance
        Share of right voxels of the layer against distance to the true interface, positive in silicon; None where it
        was not asked for.
    by_ligament, by_pore
        Share of the true silicon, and of the layer's true void, that was found, against its local thickness; None
        where it was not asked for or the phase is absent.
    particles
        Share of the true particles that was found, against their size; None where the truth numbers none or it was not
        asked for.
    accuracy
        Confusion of all phases; None where it was not asked for.
    made_by
        Provenance.
    """

    quantities: Mapping[str, Measured]
    by_distance: AccuracyCurve | None
    by_ligament: AccuracyCurve | None
    by_pore: AccuracyCurve | None
    particles: DetectionCurve | None
    accuracy: SegmentationAccuracy | None
    made_by: MadeBy

    def __post_init__(self) -> None:
        object.__setattr__(self, "quantities", MappingProxyType(dict(self.quantities)))

    def __reduce__(self) -> tuple[Any, ...]:
        curves = (self.by_distance, self.by_ligament, self.by_pore, self.particles)
        return LabelScores, (dict(self.quantities), *curves, self.accuracy, self.made_by)

    def __getitem__(self, name: str) -> Measured:
        """Return one quantity by its name."""
        return self.quantities[name]


def score_labels(
    truth: Volume,
    recovered: Volume,
    recipe: ScoringRecipe | None = None,
    *,
    silicon_fraction: Volume | None = None,
    particle_id: Volume | None = None,
    parts: Collection[Part] = PARTS,
) -> LabelScores:
    """Score recovered labels against the truth in every way.

    Parameters
    ----------
    truth, recovered
        Phases (z, y, x) on the same voxels.
    recipe
        How to score; the default recipe when None.
    silicon_fraction
        True volume fraction of silicon on the same voxels, where it is known.
    particle_id
        Number of the true particle on the same voxels, 0 for none, where it is known.
    parts
        What to score: ``overlaps`` (with the fractions), ``surfaces``, ``sizes`` (curves and particles).
        `joined` puts parts that were scored apart together.

    Returns
    -------
    LabelScores
        The same names for every input; what could not be scored is NaN with its reason.

    Raises
    ------
    IncompatibleError
        The volumes do not lie on the same voxels, or hold no phases.

    Examples
    --------
    >>> values = np.zeros((8, 24, 16), np.uint8)
    >>> values[:, 18:] = Phase.CURRENT_COLLECTOR
    >>> values[:, 8:18, 4:12] = Phase.SILICON
    >>> truth, found = Volume(values, 50.0), Volume(np.roll(values, 1, axis=2), 50.0)
    >>> scores = score_labels(truth, found)
    >>> scores["dice_silicon_layer"].value, scores["surface_dice"].value, scores["soft_dice_layer"].note
    (0.9333333333333333, 1.0, 'the truth holds no fractions')
    """
    recipe = ScoringRecipe() if recipe is None else recipe
    check_labels(truth, recovered)
    for name, volume in (("silicon_fraction", silicon_fraction), ("particle_id", particle_id)):
        if volume is not None and volume.grid != truth.grid:
            raise IncompatibleError(
                f"score_labels: {name} is {volume.values.shape} of {volume.voxel_nm:g} nm, the true phases are "
                f"{truth.values.shape} of {truth.voxel_nm:g} nm; all must lie on the same voxels."
            )
    of = {
        "overlaps": lambda: _score_overlaps(truth, recovered, silicon_fraction, recipe),
        "surfaces": lambda: _score_surfaces(truth, recovered, recipe),
        "sizes": lambda: _score_sizes(truth, recovered, particle_id, recipe),
    }
    return joined([of[part]() for part in PARTS if part in parts])


def joined(parts: Sequence[LabelScores]) -> LabelScores:
    """Put together what was scored in parts, in the order of `PARTS`.

    Parameters
    ----------
    parts
        At least one; of what several hold, the first is taken.

    Examples
    --------
    >>> values = np.zeros((4, 8, 8), np.uint8)
    >>> values[:, 2:6, 2:6] = Phase.SILICON
    >>> volume = Volume(values, 50.0)
    >>> apart = [score_labels(volume, volume, parts=[part]) for part in PARTS]
    >>> list(joined(apart).quantities) == list(score_labels(volume, volume).quantities)
    True
    """
    quantities: dict[str, Measured] = {}
    for part in parts:
        quantities |= part.quantities
    return LabelScores(
        quantities,
        next((part.by_distance for part in parts if part.by_distance is not None), None),
        next((part.by_ligament for part in parts if part.by_ligament is not None), None),
        next((part.by_pore for part in parts if part.by_pore is not None), None),
        next((part.particles for part in parts if part.particles is not None), None),
        next((part.accuracy for part in parts if part.accuracy is not None), None),
        parts[0].made_by,
    )


def _scores(
    quantities: dict[str, Measured],
    recipe: ScoringRecipe,
    curves: tuple[AccuracyCurve | None, AccuracyCurve | None, AccuracyCurve | None] = (None, None, None),
    particles: DetectionCurve | None = None,
    accuracy: SegmentationAccuracy | None = None,
) -> LabelScores:
    return LabelScores(quantities, *curves, particles, accuracy, MadeBy("score_labels", recipe.digest()))


def _score_overlaps(
    truth: Volume, recovered: Volume, silicon_fraction: Volume | None, recipe: ScoringRecipe
) -> LabelScores:
    rows, layer = layer_box(truth, foil_surface(truth))
    accuracy = score(truth, recovered, layer=(rows, layer))
    true, found = (_silicon(volume.values[:, rows]) for volume in (truth, recovered))
    quantities = _overlaps(true, found, layer, accuracy, recipe)
    fraction = None if silicon_fraction is None else np.asarray(silicon_fraction.values[:, rows], np.float32)
    return _scores(quantities | _fractions(fraction, found, layer), recipe, accuracy=accuracy)


def _score_surfaces(truth: Volume, recovered: Volume, recipe: ScoringRecipe) -> LabelScores:
    true, found = (_silicon(volume.values) for volume in (truth, recovered))
    return _scores(_distances(true, found, truth.voxel_nm, recipe), recipe)


def _score_sizes(truth: Volume, recovered: Volume, particle_id: Volume | None, recipe: ScoringRecipe) -> LabelScores:
    particles, curve = _particles(particle_id, truth, recovered, recipe)
    rows, layer = layer_box(truth, foil_surface(truth))
    # an interface that lies a little outside of the layer is one for the voxels at its rim
    margin = recipe.distance_reach_voxels + 2
    wide = slice(max(0, rows.start - margin), rows.stop + margin)
    true, found = (_silicon(volume.values[:, wide]) for volume in (truth, recovered))
    region = np.zeros(true.shape, np.bool_)
    own = slice(rows.start - wide.start, rows.stop - wide.start)
    region[:, own] = layer
    by_distance = accuracy_by_distance(true, found, region, truth.voxel_nm, reach_voxels=recipe.distance_reach_voxels)
    features = _features(true[:, own], found[:, own], layer, truth.voxel_nm, recipe)
    return _scores(particles, recipe, (by_distance, *features), curve)


def _silicon(values: NDArray[np.generic]) -> BoolArray:
    return is_one_of(np.asarray(values, np.uint8), SILICON)


def _overlaps(
    true: BoolArray, found: BoolArray, layer: BoolArray, accuracy: SegmentationAccuracy, recipe: ScoringRecipe
) -> dict[str, Measured]:
    blocks = Blocks(true.shape[0], recipe.blocks)
    both, of_true, of_found = (per_slice(mask & layer) for mask in (true & found, true, found))
    silicon = list(SILICON)
    counts = (accuracy.confusion[silicon].sum(), accuracy.confusion[:, silicon].sum())
    empty = [text for text, n in zip(("the truth holds", "the recovered labels hold"), counts, strict=True) if not n]
    reason = " and ".join(f"{text} no silicon" for text in empty)
    where = "; ".join(text for text in ("silicon of the layer", reason) if text)

    def of(name: str, part: NDArray[np.int64], whole: NDArray[np.int64]) -> Measured:
        return blocks.ratio(part, whole, "", f"{name}; {where}") if whole.any() else missing("", reason or "no layer")

    foil = accuracy.confusion[Phase.CURRENT_COLLECTOR, Phase.CURRENT_COLLECTOR]
    foils = accuracy.confusion[Phase.CURRENT_COLLECTOR].sum() + accuracy.confusion[:, Phase.CURRENT_COLLECTOR].sum()
    missed, invented = accuracy.information_missed_bits, accuracy.information_invented_bits
    return {
        "dice_silicon_layer": of("2 TP / (2 TP + FP + FN)", 2 * both, of_true + of_found),
        "iou_silicon_layer": of("TP / (TP + FP + FN)", both, of_true + of_found - both),
        "precision_silicon_layer": of("TP / (TP + FP)", both, of_found),
        "recall_silicon_layer": of("TP / (TP + FN)", both, of_true),
        "dice_silicon": _plain(accuracy.dice_silicon, "", "silicon of the whole volume", reason),
        "dice_current_collector": _plain(
            2 * int(foil) / int(foils) if foils else float("nan"), "", "foil of the whole volume", "no foil in either"
        ),
        "information_missed_bits": _plain(missed, "bit", "H(truth | recovered), a voxel of the layer", "no layer"),
        "information_invented_bits": _plain(invented, "bit", "H(recovered | truth), a voxel of the layer", "no layer"),
        "variation_of_information_bits": _plain(missed + invented, "bit", "their sum", "no layer"),
    }


def _plain(value: float, unit: str, note: str, reason: str) -> Measured:
    if not np.isfinite(value):
        return missing(unit, reason)
    return Measured(float(value), float("nan"), 1, unit, note)


def _fractions(silicon_fraction: FloatArray | None, found: BoolArray, layer: BoolArray) -> dict[str, Measured]:
    names = ("soft_dice_layer", "soft_dice_ceiling_layer")
    if silicon_fraction is None:
        return {name: missing("", "the truth holds no fractions") for name in names}
    soft = soft_dice(silicon_fraction, found, layer)
    notes = ("labels against the truth's volume fractions", "the best that any labels could reach")
    return {
        name: _plain(value, "", f"{note}; layer", "no silicon in the layer of either")
        for name, value, note in zip(names, (soft.value, soft.ceiling), notes, strict=True)
    }


def _distances(true: BoolArray, found: BoolArray, voxel_nm: float, recipe: ScoringRecipe) -> dict[str, Measured]:
    units = {
        "boundary_mean_nm": "nm",
        "boundary_missed_nm": "nm",
        "boundary_invented_nm": "nm",
        "boundary_95_nm": "nm",
        "boundary_largest_nm": "nm",
        "surface_dice": "",
    }
    try:
        between = boundary_distances(true, found, voxel_nm, tolerance_nm=recipe.tolerance_voxels * voxel_nm)
    except DataError as error:
        return {name: missing(unit, str(error)) for name, unit in units.items()}
    values = (
        (between.mean_nm, "mean distance of the silicon's surfaces"),
        (between.from_truth_nm, "mean distance of the true surface from the recovered one"),
        (between.from_recovered_nm, "mean distance of the recovered surface from the true one"),
        (between.hausdorff_95_nm, "95 % of either surface are nearer"),
        (between.hausdorff_nm, "Hausdorff distance"),
        (between.surface_dice, f"share of the surfaces within {between.tolerance_nm:g} nm of the other"),
    )
    return {name: _plain(*value[:1], units[name], value[1], "") for name, value in zip(units, values, strict=True)}


def _particles(
    particle_id: Volume | None, truth: Volume, recovered: Volume, recipe: ScoringRecipe
) -> tuple[dict[str, Measured], DetectionCurve | None]:
    names = {"particles_found": "", "particle_size_found_half_nm": "nm", "particle_size_found_90_nm": "nm"}
    # a particle's number fills its envelope, pores and all; what can be found of it is its silicon
    true = _silicon(truth.values)
    solid = None if particle_id is None else np.asarray(particle_id.values[true], np.int64)
    if solid is None or not solid.any():
        return {name: missing(unit, "the truth numbers no particles") for name, unit in names.items()}, None
    voxel_nm = truth.voxel_nm
    detection = detected(solid, _silicon(recovered.values)[true], voxel_nm, overlap=recipe.overlap_fraction)
    low, high = wilson_interval(np.array([detection.found.sum()]), np.array([detection.number.size]))
    edges = voxel_nm * np.geomspace(1.0, max(2.0, float(detection.size_nm.max()) / voxel_nm * 1.0001), 9)
    text = f"at least {recipe.overlap_fraction:g} of its silicon was recovered"
    half, ninety = detection.size_found_nm(0.5), detection.size_found_nm(0.9)
    sized = "diameter of the ball of its silicon's volume, nm (95 % interval), found with"
    values = (
        (float(detection.found.mean()), f"share of the true particles; {text}; {low[0]:.3f} to {high[0]:.3f} (95 %)"),
        (half.value_nm, f"{sized} 50 %: {half}; {text}"),
        (ninety.value_nm, f"{sized} 90 %: {ninety}; {text}"),
    )
    found_sizes = {
        name: _plain(value, names[name], note, "no size is found so often")
        for name, (value, note) in zip(names, values, strict=True)
    }
    return found_sizes, detection.curve(edges)


def _features(
    true: BoolArray, found: BoolArray, layer: BoolArray, voxel_nm: float, recipe: ScoringRecipe
) -> tuple[AccuracyCurve | None, AccuracyCurve | None]:
    """Return the share found against local thickness, of silicon and of void, in the layer's central crop."""
    edge = round(recipe.feature_crop_nm / voxel_nm)
    if edge == 0 or not layer.any():
        return None, None
    deep, wide = (slice(max(0, (n - edge) // 2), max(0, (n - edge) // 2) + edge) for n in true.shape[::2])
    crop = (deep, slice(None), wide)
    inside = layer[crop]
    curves = []
    for phase, recovered in ((true[crop], found[crop]), (~true[crop] & inside, ~found[crop])):
        known = min(phase.shape) > 1 and phase.any() and not phase.all()
        curves.append(accuracy_by_feature_size(phase, recovered, inside, voxel_nm) if known else None)
    return curves[0], curves[1]
