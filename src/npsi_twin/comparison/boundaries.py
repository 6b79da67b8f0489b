"""How far apart the surfaces of two masks lie.

Takes -> gives: two masks on the same voxels -> `BoundaryDistances`.

The model. The surface of a mask lies on the lattice of the voxels' corners: a corner carries a piece of it where the
eight voxels that meet there are not all alike, and its area A is that of the piece of the marching-cubes surface
through them. The distance d of a piece is that to the nearest corner that carries a piece of the other mask (exact
Euclidean distance transform). Then, with sums over both masks' pieces,

    mean = sum(A d) / sum(A),    surface Dice = sum(A [d <= tolerance]) / sum(A),

and the 95 % distance is the larger of the two areas' 95th percentiles (the symmetric Hausdorff distance at 95 %; at
100 % it is Hausdorff's own). Equal masks are 0 apart, planes shifted by k voxels k voxels: distances between centres of
boundary voxels would read the same there, but count every piece alike whatever its area.

Holds for surfaces inside the volume; its faces, where a mask is merely cut, are no surface. The nearest of the many
corners of a curved or oblique surface is a little nearer than the surface, so that distances between such surfaces read
up to half a voxel low (a ball moved by one voxel: 0.28 in place of 0.50 voxels); the published definition shares this,
and it is the same for any labels that are compared.

References
----------
S. Nikolov et al., J. Med. Internet Res. 23 (2021) e26151, doi:10.2196/26151 (surface Dice, weighted by area).
D. P. Huttenlocher et al., IEEE Trans. Pattern Anal. Mach. Intell. 15 (1993) 850, doi:10.1109/34.232073 (Hausdorff).
W. E. Lorensen and H. E. Cline, Comput. Graph. 21 (1987) 163, doi:10.1145/37402.37422 (marching cubes).
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from npsi_twin.errors import DataError, IncompatibleError, ParameterError
from npsi_twin.morphology.distance import squared_distance

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class BoundaryDistances:
    """How far apart two surfaces lie.

    Attributes
    ----------
    mean_nm
        Mean over both surfaces, nm.
    from_truth_nm, from_recovered_nm
        Means over the true and over the recovered surface alone: what was missed, and what was invented, nm.
    hausdorff_95_nm
        Distance within which 95 % of either surface lie, nm.
    hausdorff_nm
        The largest distance, nm.
    surface_dice
        Share of both surfaces that lies within the tolerance of the other.
    tolerance_nm
        That tolerance, nm.
    area_truth_um2, area_recovered_um2
        Areas of the surfaces, by marching cubes on the raw mask: about 8 % more than a smooth surface's, um^2.
    """

    mean_nm: float
    from_truth_nm: float
    from_recovered_nm: float
    hausdorff_95_nm: float
    hausdorff_nm: float
    surface_dice: float
    tolerance_nm: float
    area_truth_um2: float
    area_recovered_um2: float


def boundary_distances(
    truth: BoolArray, recovered: BoolArray, voxel_nm: float, *, tolerance_nm: float | None = None
) -> BoundaryDistances:
    """Compare the surfaces of two masks.

    Parameters
    ----------
    truth, recovered
        bool, (z, y, x), at least two voxels each way.
    voxel_nm
        Edge of a voxel, nm.
    tolerance_nm
        Distance up to which pieces of surface agree, nm; one voxel when None.

    Returns
    -------
    BoundaryDistances
        See there.

    Raises
    ------
    IncompatibleError
        Shapes differ.
    DataError
        A mask without a surface inside the volume, so that there is no distance to it.

    Examples
    --------
    A plane that is moved by one voxel:

    >>> truth, found = np.zeros((2, 6, 8, 8), bool)
    >>> truth[:, 4:], found[:, 5:] = True, True
    >>> moved = boundary_distances(truth, found, 50.0)
    >>> moved.mean_nm, moved.hausdorff_95_nm, moved.surface_dice
    (50.0, 50.0, 1.0)
    """
    tolerance = voxel_nm if tolerance_nm is None else tolerance_nm
    if truth.shape != recovered.shape:
        raise IncompatibleError(
            f"boundary_distances: the true mask is {truth.shape}, the recovered one {recovered.shape}; both must lie "
            "on the same voxels."
        )
    if not (voxel_nm > 0 and tolerance >= 0):
        raise ParameterError(f"boundary_distances: got voxels of {voxel_nm} nm and a tolerance of {tolerance} nm.")
    for mask, which in ((truth, "true"), (recovered, "recovered")):
        _refuse_without_surface(mask, which)
    box = _around(truth, recovered)
    true_codes, found_codes = _corner_codes(truth[box]), _corner_codes(recovered[box])
    from_truth = _areas_by_distance(true_codes, found_codes)
    from_recovered = _areas_by_distance(found_codes, true_codes)
    both = np.zeros(max(from_truth.size, from_recovered.size))
    both[: from_truth.size] += from_truth
    both[: from_recovered.size] += from_recovered
    # half a millionth of a voxel absorbs the rounding of sqrt
    within = _distance(both, voxel_nm) <= tolerance + 5e-7 * voxel_nm
    return BoundaryDistances(
        mean_nm=_mean(both, voxel_nm),
        from_truth_nm=_mean(from_truth, voxel_nm),
        from_recovered_nm=_mean(from_recovered, voxel_nm),
        hausdorff_95_nm=max(_percentile(from_truth, voxel_nm), _percentile(from_recovered, voxel_nm)),
        hausdorff_nm=float(_distance(both, voxel_nm)[-1]),
        surface_dice=float(both[within].sum() / both.sum()),
        tolerance_nm=float(tolerance),
        area_truth_um2=float(from_truth.sum()) * voxel_nm**2 / 1e6,
        area_recovered_um2=float(from_recovered.sum()) * voxel_nm**2 / 1e6,
    )


def _refuse_without_surface(mask: BoolArray, which: str) -> None:
    if min(mask.shape) < 2:
        raise DataError(
            f"boundary_distances: got a volume of {mask.shape} voxels; at least two each way are needed, since a "
            "surface lies between voxels."
        )
    if mask.all() or not mask.any():
        what = "everything" if mask.any() else "nothing"
        raise DataError(f"boundary_distances: the {which} mask holds {what}, so that it has no surface.")


def _around(*masks: BoolArray) -> tuple[slice, ...]:
    """Return the box of all corners that may carry a surface: one voxel more than the masks on every side."""
    box = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        there = np.flatnonzero(np.logical_or.reduce([mask.any(axis=others) for mask in masks]))
        box.append(slice(max(0, int(there[0]) - 1), int(there[-1]) + 2))
    return tuple(box)


def _corner_codes(mask: BoolArray) -> NDArray[np.uint8]:
    """Return, for every corner inside the volume, the eight voxels that meet there as bits."""
    codes = mask.astype(np.uint8)
    for axis, bits in ((2, 1), (1, 2), (0, 4)):
        near, far = (codes[(slice(None),) * axis + (part,)] for part in (slice(None, -1), slice(1, None)))
        codes = far << np.uint8(bits)
        codes |= near
    return codes


def _areas_by_distance(codes: NDArray[np.uint8], others: NDArray[np.uint8]) -> FloatArray:
    """Return the area of one surface by its squared distance to another one: voxels^2 at 0, 1, 2, ... voxels^2.

    Squared distances between corners are whole numbers, so that classes lose nothing and nothing need be sorted.
    """
    here = _carries_surface(codes)
    squared = squared_distance(~_carries_surface(others))[here]
    return np.asarray(np.bincount(squared.astype(np.intp), weights=_corner_areas()[codes[here]]), np.float64)


def _carries_surface(codes: NDArray[np.uint8]) -> BoolArray:
    return np.asarray((codes != 0) & (codes != 255))


@cache
def _corner_areas() -> NDArray[np.float32]:
    """Return the area of the marching-cubes surface between eight voxels, by the byte of their values.

    A cube and its complement have the same surface; where the tables of 1987 cut them in two ways, the smaller counts.
    """
    from skimage.measure import marching_cubes, mesh_surface_area

    areas = np.zeros(256, np.float32)
    for code in range(1, 255):
        cube = np.array([code >> number & 1 for number in range(8)], np.float32).reshape(2, 2, 2)
        vertices, faces, _, _ = marching_cubes(cube, 0.5, method="lorensen")  # type: ignore[no-untyped-call]  # skimage
        areas[code] = mesh_surface_area(vertices, faces)  # type: ignore[no-untyped-call]  # skimage
    return np.minimum(areas, areas[::-1])


def _distance(areas: FloatArray, voxel_nm: float) -> FloatArray:
    """Return the distances that the places of an array stand for, nm."""
    return np.sqrt(np.arange(areas.size)) * voxel_nm


def _mean(areas: FloatArray, voxel_nm: float) -> float:
    return float(np.sum(_distance(areas, voxel_nm) * areas) / np.sum(areas))


def _percentile(areas: FloatArray, voxel_nm: float) -> float:
    """Return the distance within which 95 % of the area lie."""
    reached = np.cumsum(areas) / np.sum(areas)
    return float(_distance(areas, voxel_nm)[min(int(np.searchsorted(reached, 0.95)), areas.size - 1)])
