"""How well a segmentation finds the silicon, voxel by voxel.

Takes -> gives: true and recovered labels on the same voxels -> `SegmentationAccuracy`.

The model. With TP, FP, FN the voxels that are silicon in both, in the recovered only, in the truth only,

    Dice = 2 TP / (2 TP + FP + FN)        IoU = TP / (TP + FP + FN)
    precision = TP / (TP + FP)            recall = TP / (TP + FN)

and with the entropies H of the two ways to split the voxels into silicon and all else, the variation of information
H(truth | recovered) + H(recovered | truth) in bits: what one of them does not tell of the other. Each is counted once
over the whole volume and once inside the layer (between the truth's foil and the truth's silicon top), where the
easy voxels of air and foil do not flatter. A structure that blur leaves unresolved costs up to half a voxel on every
interface: Dice falls with the specific surface even when the volume fraction is right. `soft_dice` takes the truth as
fractions f in place of labels, 2 sum(f r) / (sum(f) + sum(r)), and tells beside it the best that any labels r of 0 and
1 could reach: what is lost up to there is lost by labels as such, not by the segmentation.

Holds for silicon against all else; the confusion matrix tells the other phases apart. How far apart surfaces lie, which
sizes are recovered and which bodies found is in `boundaries`, `accuracy_curves` and `detectability`; `label_scores`
puts all of it into one table.

References
----------
M. Meila, J. Multivar. Anal. 98 (2007) 873, doi:10.1016/j.jmva.2006.11.013 (variation of information).
L. R. Dice, Ecology 26 (1945) 297, doi:10.2307/1932409; P. Jaccard, New Phytologist 11 (1912) 37.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npsi_twin.errors import IncompatibleError
from npsi_twin.morphology.thickness import SILICON, foil_surface, layer_box
from npsi_twin.recipes import MadeBy
from npsi_twin.volumes import Phase, Volume

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class SegmentationAccuracy:
    """Agreement of two label volumes.

    Attributes
    ----------
    confusion
        Voxel counts (true phase, recovered phase), int64, indexed by `Phase`.
    confusion_layer
        The same inside the layer; the whole volume where the truth has no foil, zeros where it has no layer.
    made_by
        Provenance.
    """

    confusion: NDArray[np.int64]
    confusion_layer: NDArray[np.int64]
    made_by: MadeBy

    def __post_init__(self) -> None:
        for name in ("confusion", "confusion_layer"):
            view = getattr(self, name).view()
            view.flags.writeable = False
            object.__setattr__(self, name, view)

    @property
    def dice_silicon(self) -> float:
        """Dice coefficient of silicon in the whole volume; NaN where neither volume holds silicon."""
        return _dice(self.confusion)

    @property
    def iou_silicon(self) -> float:
        """Intersection over union of silicon in the whole volume; NaN where neither volume holds silicon."""
        return _iou(self.confusion)

    @property
    def dice_silicon_layer(self) -> float:
        """Dice coefficient of silicon inside the layer."""
        return _dice(self.confusion_layer)

    @property
    def iou_silicon_layer(self) -> float:
        """Intersection over union of silicon inside the layer."""
        return _iou(self.confusion_layer)

    @property
    def precision_silicon_layer(self) -> float:
        """Share of the layer's recovered silicon that is true; NaN where nothing was recovered."""
        both, false, _ = _silicon(self.confusion_layer)
        return both / (both + false) if both + false else float("nan")

    @property
    def recall_silicon_layer(self) -> float:
        """Share of the layer's true silicon that was recovered; NaN where there is none."""
        both, _, missed = _silicon(self.confusion_layer)
        return both / (both + missed) if both + missed else float("nan")

    @property
    def information_missed_bits(self) -> float:
        """H(truth | recovered): what the recovered silicon of the layer leaves open of the true one, bits a voxel."""
        return _conditional_entropy(self.confusion_layer)

    @property
    def information_invented_bits(self) -> float:
        """H(recovered | truth): what it holds beside the truth; the two sum to the variation of information."""
        return _conditional_entropy(self.confusion_layer.T)


def score(truth: Volume, recovered: Volume, *, layer: tuple[slice, BoolArray] | None = None) -> SegmentationAccuracy:
    """Compare recovered labels with the truth, voxel by voxel.

    Parameters
    ----------
    truth, recovered
        Phases (z, y, x) on the same voxels.
    layer
        `layer_box` of the truth, where it is known already.

    Raises
    ------
    IncompatibleError
        Shapes or voxel sizes differ.

    Examples
    --------
    >>> truth = Volume(np.array([[[1, 1, 0, 0]]], np.uint8), 50.0)
    >>> found = Volume(np.array([[[1, 0, 1, 0]]], np.uint8), 50.0)
    >>> score(truth, found).dice_silicon
    0.5
    """
    check_labels(truth, recovered)
    rows, inside = layer_box(truth, foil_surface(truth)) if layer is None else layer
    whole, within = np.zeros((2, len(Phase), len(Phase)), np.int64)
    for true, found, part in zip(truth.values, recovered.values, inside, strict=True):
        pairs = np.uint8(len(Phase)) * true.astype(np.uint8) + found.astype(np.uint8)
        whole += _matrix(pairs.ravel())
        within += _matrix(pairs[rows][part])
    return SegmentationAccuracy(whole, within, MadeBy("score", ""))


def check_labels(truth: Volume, recovered: Volume) -> None:
    """Refuse volumes that do not lie on the same voxels or hold no phases."""
    if truth.grid != recovered.grid:
        raise IncompatibleError(
            f"score: the truth is {truth.values.shape} of {truth.voxel_nm:g} nm, the recovered volume "
            f"{recovered.values.shape} of "
            f"{recovered.voxel_nm:g} nm; both must lie on the same voxels. Voxelise the truth on the "
            f"reconstruction's grid."
        )
    ends = [end for values in (truth.values, recovered.values) if values.size for end in (values.min(), values.max())]
    if ends and (min(ends) < 0 or max(ends) > max(Phase)):
        raise IncompatibleError(
            f"score: labels beyond {int(max(Phase))} occur; both volumes must hold npsi_twin.volumes.Phase. Use "
            f"`relabel` first."
        )


@dataclass(frozen=True)
class SoftDice:
    """Agreement of labels with true fractions.

    Attributes
    ----------
    value
        2 sum(f r) / (sum(f) + sum(r)); NaN where neither holds anything.
    ceiling
        The best that any labels could reach against these fractions.
    """

    value: float
    ceiling: float


def soft_dice(
    fraction: NDArray[np.floating], recovered: NDArray[np.bool_], region: NDArray[np.bool_] | None = None
) -> SoftDice:
    """Score labels against true volume fractions.

    Parameters
    ----------
    fraction
        True volume fraction of silicon of every voxel, 0 to 1.
    recovered
        Recovered silicon, same shape.
    region
        Voxels to look at, same shape; all when None.

    Returns
    -------
    SoftDice
        Score and its ceiling.

    Raises
    ------
    IncompatibleError
        Shapes differ, or the fractions are none.

    Notes
    -----
    The ceiling: of all labels with k voxels of silicon those with the k largest fractions score best, which leaves k to
    be tried.

    Examples
    --------
    >>> soft_dice(np.array([1.0, 0.5, 0.0]), np.array([True, True, False]))
    SoftDice(value=0.8571428571428571, ceiling=0.8571428571428571)
    """
    shapes = {fraction.shape, recovered.shape, fraction.shape if region is None else region.shape}
    if len(shapes) > 1:
        raise IncompatibleError(
            f"soft_dice: fractions, labels and region are {', '.join(map(str, sorted(shapes)))}; they must lie on the "
            "same voxels."
        )
    inside = (fraction if region is None else fraction[region]).ravel()
    labels = (recovered if region is None else recovered[region]).ravel()
    # single precision leaves fractions a few millionths beyond their bounds
    if inside.size and not (inside.min() >= -1e-5 and inside.max() <= 1 + 1e-5):
        raise IncompatibleError(
            f"soft_dice: fractions lie between {inside.min():g} and {inside.max():g}; 0 to 1 is allowed. Give volume "
            "fractions, not attenuation or percent."
        )
    total = float(inside.sum(dtype=np.float64))
    if total + int(labels.sum()) == 0:
        return SoftDice(float("nan"), float("nan"))
    largest = np.cumsum(np.sort(inside)[::-1], dtype=np.float64)  # in single precision, sorting takes half the time
    ceiling = float((2 * largest / (total + np.arange(1, inside.size + 1))).max())
    both = float(inside[labels].sum(dtype=np.float64))
    return SoftDice(2 * both / (total + int(labels.sum())), ceiling)


def _matrix(pairs: NDArray[np.uint8]) -> NDArray[np.int64]:
    counts = np.bincount(pairs, minlength=len(Phase) ** 2)
    return counts.reshape(len(Phase), len(Phase)).astype(np.int64)


def _silicon(confusion: NDArray[np.int64]) -> tuple[int, int, int]:
    is_silicon = np.isin(np.arange(len(Phase)), SILICON)
    both = int(confusion[np.ix_(is_silicon, is_silicon)].sum())
    return both, int(confusion[:, is_silicon].sum()) - both, int(confusion[is_silicon].sum()) - both


def _dice(confusion: NDArray[np.int64]) -> float:
    both, false, missed = _silicon(confusion)
    total = 2 * both + false + missed
    return 2 * both / total if total else float("nan")


def _iou(confusion: NDArray[np.int64]) -> float:
    both, false, missed = _silicon(confusion)
    total = both + false + missed
    return both / total if total else float("nan")


def _conditional_entropy(confusion: NDArray[np.int64]) -> float:
    """Return the entropy of a row's index where the column's is known, silicon against all else, bits."""
    silicon = np.isin(np.arange(len(Phase)), SILICON)
    sides = np.array([[confusion[np.ix_(a, b)].sum() for b in (silicon, ~silicon)] for a in (silicon, ~silicon)])
    total = int(sides.sum())
    if not total:
        return float("nan")
    given = np.broadcast_to(sides.sum(axis=0), sides.shape)[sides > 0]
    joint = sides[sides > 0]
    return float(np.sum(joint * np.log2(given / joint)) / total)
