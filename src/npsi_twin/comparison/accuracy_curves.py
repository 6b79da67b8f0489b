"""Where a segmentation errs: near interfaces, and in what is small.

Takes -> gives: a true and a recovered mask, and a region to look at -> `AccuracyCurve`: the share of voxels that are
labelled right, against their distance to the true interface or the size of the true feature they belong to.

The model. The distance of a voxel is that of its centre to the nearest voxel of the other phase in the truth, less half
a voxel, positive in the solid and negative outside of it: the two layers of voxels at an interface are at +-1/2 voxel.
The size of a feature is its local thickness, the diameter of the largest ball that fits into it and covers the voxel
(`npsi_twin.morphology.pore_space`).

Holds voxel by voxel: neighbours share their noise, so that counts of voxels give no confidence bands; those come from
bodies (`detectability`) or from replicate scans.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npsi_twin.errors import IncompatibleError
from npsi_twin.morphology.distance import squared_distance
from npsi_twin.morphology.local_thickness import local_thickness_nm

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]

#: Ends of the classes of feature size, voxels.
_SIZES_VOXELS = (0.0, 2.5, 3.5, 4.5, 6.5, 8.5, 12.5, 16.5, 24.5, 32.5, np.inf)


@dataclass(frozen=True)
class AccuracyCurve:
    """Share of voxels that are labelled right, by class.

    Attributes
    ----------
    edges_nm
        Ends of the classes, nm, one more than there are classes; the outermost may be infinite.
    share
        Share of a class's voxels that is right; NaN where it has none.
    n
        Voxels of a class.
    """

    edges_nm: FloatArray
    share: FloatArray
    n: NDArray[np.int64]

    def __post_init__(self) -> None:
        for name in ("edges_nm", "share", "n"):
            view = getattr(self, name).view()
            view.flags.writeable = False
            object.__setattr__(self, name, view)


def accuracy_by_distance(
    truth: BoolArray, recovered: BoolArray, region: BoolArray | None, voxel_nm: float, *, reach_voxels: int = 6
) -> AccuracyCurve:
    """Return the share of right voxels against their signed distance to the true interface.

    Parameters
    ----------
    truth, recovered
        The solid, bool (z, y, x).
    region
        Voxels to look at, same shape; all when None.
    voxel_nm
        Edge of a voxel, nm.
    reach_voxels
        Classes of one voxel's width up to this distance, and one beyond it, on either side.

    Examples
    --------
    A plane moved by one voxel: the layer of voxels at the interface, inside of the solid, is lost.

    >>> truth, found = np.zeros((2, 1, 1, 8), bool)
    >>> truth[..., 4:], found[..., 5:] = True, True
    >>> accuracy_by_distance(truth, found, None, 50.0, reach_voxels=2).share.tolist()
    [1.0, 1.0, 1.0, 0.0, 1.0, 1.0]
    """
    region = _checked(truth, recovered, region)
    edges = np.concatenate([[-np.inf], np.arange(-reach_voxels, reach_voxels + 1), [np.inf]])
    if not region.any() or not truth.any() or truth.all():  # without an interface there is no distance to it
        return AccuracyCurve(edges * voxel_nm, np.full(len(edges) - 1, np.nan), np.zeros(len(edges) - 1, np.int64))
    # beyond the last class no distance matters, so that only what is that near to the region is looked at
    box = tuple(
        slice(max(0, int(there[0]) - reach_voxels - 2), int(there[-1]) + reach_voxels + 3)
        for there in (np.flatnonzero(region.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1)))
    )
    true, inside = truth[box], region[box]
    right = true == recovered[box]
    # Squared distances are whole numbers: voxels are counted by them, and those far away as at the reach.
    most = (reach_voxels + 2) ** 2
    depth = np.sqrt(np.arange(most + 1)) - 0.5
    found = np.zeros((2, len(edges) - 1), np.int64)
    for phase, signed in ((true, depth), (~true, -depth)):
        here = inside & phase
        squared = np.minimum(squared_distance(phase)[here], np.float32(most)).astype(np.intp)
        which = np.searchsorted(edges, signed, side="right") - 1
        for total, part in zip(found, (squared, squared[right[here]]), strict=True):
            np.add.at(total, which, np.bincount(part, minlength=most + 1))
    return _curve(found, edges, voxel_nm)


def accuracy_by_feature_size(
    truth: BoolArray, recovered: BoolArray, region: BoolArray | None, voxel_nm: float
) -> AccuracyCurve:
    """Return the share of a phase's voxels that are found, against the local thickness of the truth.

    Parameters
    ----------
    truth, recovered
        The phase, bool (z, y, x): silicon for ligaments, void for pores.
    region
        Voxels to look at, same shape; all when None. Local thickness is mapped in the whole volume given, whose faces
        are open: crop it before.
    voxel_nm
        Edge of a voxel, nm.
    """
    region = _checked(truth, recovered, region)
    edges = np.array(_SIZES_VOXELS)
    size = local_thickness_nm(truth, voxel_nm) / voxel_nm
    inside = truth & region
    return _by_class(size[inside].astype(np.float64), recovered[inside], edges, voxel_nm)


def _checked(truth: BoolArray, recovered: BoolArray, region: BoolArray | None) -> BoolArray:
    shapes = {truth.shape, recovered.shape, truth.shape if region is None else region.shape}
    if len(shapes) > 1:
        raise IncompatibleError(
            f"accuracy curve: truth, recovered and region are {', '.join(map(str, sorted(shapes)))}; they must lie on "
            "the same voxels."
        )
    return np.ones(truth.shape, np.bool_) if region is None else region


def _by_class(values: FloatArray, right: BoolArray, edges: FloatArray, voxel_nm: float) -> AccuracyCurve:
    number = np.searchsorted(edges, values, side="right") - 1
    counts = [np.bincount(part, minlength=len(edges) - 1)[: len(edges) - 1] for part in (number, number[right])]
    return _curve(np.asarray(counts, np.int64), edges, voxel_nm)


def _curve(counts: NDArray[np.int64], edges: FloatArray, voxel_nm: float) -> AccuracyCurve:
    n, correct = counts
    return AccuracyCurve(edges * voxel_nm, np.where(n > 0, correct / np.maximum(n, 1), np.nan), n)
