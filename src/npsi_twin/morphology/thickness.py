"""Local thickness of the layer: the height of its top above the local surface of the foil.

Takes -> gives: labels -> `FoilSurface` (where the foil's top is, column by column) and height maps above it.

The model, column by column (z, x):

    thickness = (row of the foil's first voxel - row of the layer's first voxel) * voxel

the paper's "height from the electrode surface to the top of the current collector"; pores and all phases below the top
count. The top is that of the highest run of at least `minimum_run_nm` of the given phases, so that an isolated speck of
noise is no surface. A column without the phase has no thickness (NaN), not zero; how many columns are covered is a
measurement of its own.

Holds for labels in which the foil lies at the bottom of the slices. `measure` averages what this module maps.

References
----------
C. Zhao et al., Nano Energy 52 (2018) 381-390, section 3.2.1.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from npsi_twin.errors import ParameterError
from npsi_twin.morphology.collector import BoolArray, HeightMap, IntArray, level_surface, longest_runs
from npsi_twin.volumes import Phase, Volume

#: Labels that count as silicon, and as any solid of the layer.
SILICON = (Phase.SILICON, Phase.UNRESOLVED_SILICON)
SOLIDS = (*SILICON, Phase.CARBON_BINDER, Phase.SEI)


@dataclass(frozen=True)
class FoilSurface:
    """The foil's upper surface in a label volume.

    Attributes
    ----------
    row
        Index y of the foil's first voxel, (z, x); the number of rows where `valid` is False.
    valid
        Columns whose foil has a free surface, bool (z, x).
    height_nm
        Height of that voxel's upper face above the rotation axis, nm, (z, x), NaN where not valid.
    roughness_nm
        Standard deviation of the heights about the fitted plane, nm; NaN without three valid columns.
    voxel_nm
        Edge of a voxel, nm.
    """

    row: IntArray
    valid: BoolArray
    height_nm: HeightMap
    roughness_nm: float
    voxel_nm: float

    def __post_init__(self) -> None:
        for name in ("row", "valid", "height_nm"):
            view: NDArray[np.generic] = getattr(self, name).view()
            view.flags.writeable = False
            object.__setattr__(self, name, view)


def foil_surface(labels: Volume, *, edge_margin_nm: float = 0.0) -> FoilSurface:
    """Find the foil's upper surface in every column of a label volume.

    Parameters
    ----------
    labels
        Phases (z, y, x), values of `Phase`.
    edge_margin_nm
        Columns closer than this, across the slice, to where the foil ends are left out: there the needle's flank cuts
        foil and layer. A foil that runs out of the volume has no end there.

    Returns
    -------
    FoilSurface
        With no valid column when the labels hold no foil.

    Examples
    --------
    >>> values = np.zeros((2, 6, 5), np.uint8)
    >>> values[:, 4:] = Phase.CURRENT_COLLECTOR
    >>> surface = foil_surface(Volume(values, 50.0))
    >>> surface.row[0].tolist(), float(surface.height_nm[0, 0])
    ([4, 4, 4, 4, 4], -50.0)
    """
    voxel = labels.voxel_nm
    ny = labels.values.shape[1]
    top, length = longest_runs(np.asarray(labels.values == Phase.CURRENT_COLLECTOR))
    heights = np.where((length > 0) & (top > 0), (ny / 2 - top) * voxel, np.nan)
    heights, plane, _ = level_surface(heights, voxel)
    valid = np.isfinite(heights)
    margin = round(edge_margin_nm / voxel)
    if margin > 0 and valid.any():
        valid = ndimage.binary_erosion(valid, np.ones((1, 2 * margin + 1), np.bool_), border_value=1)
    heights = np.where(valid, heights, np.nan)
    roughness = float(np.std(heights[valid] - plane[valid])) if np.count_nonzero(valid) >= 3 else float("nan")
    return FoilSurface(np.where(valid, top, ny), valid, heights, roughness, voxel)


def top_rows(labels: Volume, phases: Collection[int], foil: FoilSurface, *, minimum_run_nm: float = 100.0) -> IntArray:
    """Return the row of the layer's first voxel in every column, (z, x); the foil's own row where there is no layer.

    Parameters
    ----------
    labels
        Phases (z, y, x).
    phases
        Labels that count as the layer.
    foil
        The surface above which to look.
    minimum_run_nm
        A vertical run shorter than this is no surface; at least one voxel.
    """
    if minimum_run_nm < 0:
        raise ParameterError(f"minimum_run_nm: got {minimum_run_nm} nm; 0 or more is allowed. Give, for example, 100.")
    shortest = max(1, round(minimum_run_nm / labels.voxel_nm))
    member = np.zeros(256, np.bool_)
    member[list(phases)] = True
    found = foil.row.copy()
    run = np.zeros_like(found)
    lowest = int(foil.row[foil.valid].max()) if foil.valid.any() else 0
    for y in range(lowest - 1, -1, -1):
        layer = member[labels.values[:, y]] & (y < foil.row) & foil.valid
        run = np.where(layer, run + 1, 0)
        found = np.where(run >= shortest, y, found)
    return found


def thickness_map(
    labels: Volume, phases: Collection[int], foil: FoilSurface, *, minimum_run_nm: float = 100.0
) -> HeightMap:
    """Map the height of the layer's top above the local surface of the foil.

    Parameters
    ----------
    labels, phases, foil, minimum_run_nm
        As for `top_rows`.

    Returns
    -------
    ndarray
        Height in nm, (z, x); NaN where there is no foil or no layer on it.

    Examples
    --------
    A layer of 2 voxels with a pore under it, on a foil:

    >>> values = np.zeros((1, 8, 3), np.uint8)
    >>> values[:, 6:] = Phase.CURRENT_COLLECTOR
    >>> values[:, 2:4] = Phase.SILICON
    >>> volume = Volume(values, 50.0)
    >>> thickness_map(volume, {Phase.SILICON}, foil_surface(volume))
    array([[200., 200., 200.]])
    """
    thickness = (foil.row - top_rows(labels, phases, foil, minimum_run_nm=minimum_run_nm)) * labels.voxel_nm
    return np.where(foil.valid & (thickness > 0), thickness.astype(np.float64), np.nan)


def above_foil(foil: FoilSurface, rows: slice, top: IntArray | None = None) -> BoolArray:
    """Return the voxels of some rows (y) that lie above the foil and not above a top, bool (z, rows, x).

    Parameters
    ----------
    foil
        The surface.
    rows
        From the first to the one before ``stop``.
    top
        Row of the uppermost voxel of every column, (z, x); none is too high when None.
    """
    y = np.arange(rows.start, rows.stop)[:, None]
    found = np.empty((foil.row.shape[0], y.size, foil.row.shape[1]), np.bool_)
    for z, inside in enumerate(found):
        inside[:] = (y < foil.row[z]) & foil.valid[z]
        if top is not None:
            inside &= y >= top[z]
    return found


def layer_voxels(labels: Volume, foil: FoilSurface, *, minimum_run_nm: float = 100.0) -> BoolArray:
    """Return the voxels between the foil's surface and the top of the silicon, bool (z, y, x); all without a foil.

    Parameters
    ----------
    labels, foil, minimum_run_nm
        As for `top_rows`.
    """
    if not foil.valid.any():
        return np.ones(labels.values.shape, np.bool_)
    top = top_rows(labels, SILICON, foil, minimum_run_nm=minimum_run_nm)
    return above_foil(foil, slice(0, labels.values.shape[1]), top)


def layer_box(labels: Volume, foil: FoilSurface, *, minimum_run_nm: float = 100.0) -> tuple[slice, BoolArray]:
    """Return the rows (y) in which the layer lies and which of their voxels are its own; all without a foil.

    Parameters
    ----------
    labels, foil, minimum_run_nm
        As for `top_rows`.

    Returns
    -------
    tuple
        Rows from the first to the one before ``stop``, and a mask (z, rows, x): `layer_voxels` without what is empty.

    Examples
    --------
    >>> values = np.zeros((1, 8, 3), np.uint8)
    >>> values[:, 6:] = Phase.CURRENT_COLLECTOR
    >>> values[:, 2:4] = Phase.SILICON
    >>> volume = Volume(values, 50.0)
    >>> rows, layer = layer_box(volume, foil_surface(volume))
    >>> rows, int(layer.sum())
    (slice(2, 6, None), 12)
    """
    if not foil.valid.any():
        return slice(0, labels.values.shape[1]), np.ones(labels.values.shape, np.bool_)
    top = top_rows(labels, SILICON, foil, minimum_run_nm=minimum_run_nm)
    there = foil.valid & (top < foil.row)
    rows = slice(int(top[there].min()), int(foil.row[there].max())) if there.any() else slice(0, 0)
    return rows, above_foil(foil, rows, top)


def is_one_of(values: NDArray[np.uint8], phases: Collection[int]) -> BoolArray:
    """Return which voxels carry one of some labels, bool, same shape."""
    member = np.zeros(256, np.bool_)
    member[list(phases)] = True
    found = np.empty(values.shape, np.bool_)
    for z, image in enumerate(values):  # numpy makes eight-byte indices of what it looks up
        found[z] = member[image]
    return found
