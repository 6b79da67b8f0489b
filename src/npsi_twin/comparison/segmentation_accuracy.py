"""How well a segmentation finds the silicon, voxel by voxel.

Takes -> gives: true and recovered labels on the same voxels -> `SegmentationAccuracy`.

The model. With TP, FP, FN the voxels that are silicon in both, in the recovered only, in the truth only,

    Dice = 2 TP / (2 TP + FP + FN)        IoU = TP / (TP + FP + FN)

once over the whole volume and once inside the layer (between the truth's foil and the truth's silicon top), where the
easy voxels of air and foil do not flatter. A structure that blur leaves unresolved costs up to half a voxel on every
interface: Dice falls with the specific surface even when the volume fraction is right.

Holds for silicon against all else; the confusion matrix tells the other phases apart.

References
----------
L. R. Dice, Ecology 26 (1945) 297, doi:10.2307/1932409; P. Jaccard, New Phytologist 11 (1912) 37.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npsi_twin.errors import IncompatibleError
from npsi_twin.morphology.thickness import SILICON, foil_surface, layer_voxels
from npsi_twin.recipes import MadeBy
from npsi_twin.volumes import Phase, Volume


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


def score(truth: Volume, recovered: Volume) -> SegmentationAccuracy:
    """Compare recovered labels with the truth, voxel by voxel.

    Parameters
    ----------
    truth, recovered
        Phases (z, y, x) on the same voxels.

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
    if truth.grid != recovered.grid:
        raise IncompatibleError(
            f"score: the truth is {truth.values.shape} of {truth.voxel_nm:g} nm, the recovered volume "
            f"{recovered.values.shape} of "
            f"{recovered.voxel_nm:g} nm; both must lie on the same voxels. Voxelise the truth on the "
            f"reconstruction's grid."
        )
    pairs = len(Phase) * truth.values.astype(np.intp) + recovered.values.astype(np.intp)
    if pairs.size and (pairs.min() < 0 or max(truth.values.max(), recovered.values.max()) > max(Phase)):
        raise IncompatibleError(
            f"score: labels beyond {int(max(Phase))} occur; both volumes must hold npsi_twin.volumes.Phase. Use "
            f"`relabel` first."
        )
    inside = layer_voxels(truth, foil_surface(truth))
    made_by = MadeBy("score", "")
    return SegmentationAccuracy(_matrix(pairs.ravel()), _matrix(pairs[inside]), made_by)


def _matrix(pairs: NDArray[np.intp]) -> NDArray[np.int64]:
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
