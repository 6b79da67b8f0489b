"""Topology of a phase: Euler number a volume, and what hangs together with the foil or with the outside.

Takes -> gives: bool volumes (z, y, x) -> counts per slice, shares.

The model. The Euler number of a body counts its parts, minus the handles through them, plus the cavities in them. On a
grid it is a sum over cells of 2 x 2 x 2 voxels (Ohser and Muecklich). With voxels that hang together by their faces a
cell counts

    (solid voxels) / 8 - (solid edges) / 4 + (solid faces) / 2 - (1 if all eight are solid)

and with voxels that hang together by their corners the same of its complement, since a surface bounds both sides. The
mean of the two takes neither side's part where the grid leaves it open, so that a level-cut field at one half has no
bias, and pores and solid share one number. Only cells inside the region count: the volume's border adds nothing.

What hangs together is told by `connectivity`, by faces.

References
----------
J. Ohser and F. Muecklich, Statistical Analysis of Microstructures in Materials Science, Wiley (2000), chapter 3.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from npsi_twin.errors import IncompatibleError
from npsi_twin.morphology.collector import BoolArray
from npsi_twin.morphology.connectivity import body_sizes, face_connected, reached_from
from npsi_twin.morphology.quantities import Measured, missing, per_slice
from npsi_twin.morphology.regions import Regions
from npsi_twin.morphology.slabs import over_slabs
from npsi_twin.volumes import Phase

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class EulerCounts:
    """Sixteen times the Euler number, and the cells that it was counted in, per slice.

    Attributes
    ----------
    sixteenfold, cells
        Counts (z,); a cell belongs to its first slice.
    voxel_nm
        Edge of a voxel, nm.
    """

    sixteenfold: Counts
    cells: Counts
    voxel_nm: float

    def number(self) -> float:
        """Return the Euler number of a body that lies wholly inside the region, a voxel away from its border."""
        return float(self.sixteenfold.sum()) / 16

    def density_per_um3(self, slices: slice = slice(None)) -> float:
        """Return the Euler number a volume, 1/um^3, of a block of slices; NaN without a cell."""
        cells = int(self.cells[slices].sum())
        if not cells:
            return float("nan")
        return float(self.sixteenfold[slices].sum()) / 16 / (cells * (self.voxel_nm / 1000) ** 3)


def count_euler(solid: BoolArray, region: BoolArray | None, voxel_nm: float) -> EulerCounts:
    """Count the Euler number of a solid (and of its complement) inside a region.

    Parameters
    ----------
    solid
        bool (z, y, x).
    region
        Voxels to look at, same shape; all when None.
    voxel_nm
        Edge of a voxel, nm.

    Raises
    ------
    IncompatibleError
        Shapes differ.

    Examples
    --------
    A ball is one part; a torus has a handle:

    >>> z, y, x = np.indices((16, 40, 40)) - np.array([7.5, 19.5, 19.5])[:, None, None, None]
    >>> count_euler(z**2 + y**2 + x**2 < 36, None, 50.0).number()
    1.0
    >>> count_euler((np.hypot(y, x) - 12) ** 2 + z**2 < 16, None, 50.0).number()
    0.0
    """
    if region is not None and region.shape != solid.shape:
        raise IncompatibleError(
            f"count_euler: the mask is {solid.shape}, the region {region.shape}; both must cover the same voxels. "
            "Crop them alike."
        )
    nz = solid.shape[0]
    sixteenfold, cells = np.zeros(nz, np.int64), np.zeros(nz, np.int64)
    if min(solid.shape) > 1:
        inside = np.ones_like(solid) if region is None else region
        table = _sixteenfold_of_cells()
        over_slabs(lambda a, b: _count_cells(solid, inside, table, sixteenfold, cells, a, min(b, nz - 1)), nz)
    return EulerCounts(sixteenfold, cells, voxel_nm)


def _sixteenfold_of_cells() -> Counts:
    """Return 16 times what each of the 256 cells adds to the mean Euler number of the two kinds of connection."""
    corners = np.arange(256)[:, None] >> np.arange(8) & 1  # bit 4 z + 2 y + x
    eightfold = corners.sum(axis=1)
    places = np.array(list(np.ndindex(2, 2, 2)))
    for a in range(8):
        for b in range(a):
            if np.abs(places[a] - places[b]).sum() == 1:
                eightfold = eightfold - 2 * corners[:, a] * corners[:, b]
    for axis in range(3):
        for side in range(2):
            eightfold = eightfold + 4 * corners[:, places[:, axis] == side].prod(axis=1)
    eightfold = eightfold - 8 * corners.prod(axis=1)
    return np.asarray(eightfold + eightfold[::-1], np.int64)  # the complement of cell c is cell 255 - c


@njit(cache=True, nogil=True)
def _count_cells(
    solid: BoolArray, region: BoolArray, table: Counts, sixteenfold: Counts, cells: Counts, first: int, beyond: int
) -> None:
    _, ny, nx = solid.shape
    for z in range(first, beyond):
        total, number = 0, 0
        for y in range(ny - 1):
            code, inside = 0, 0
            for x in range(nx):
                # the four voxels at x enter from the right; those at x - 1 move to the left of the cell
                now = 0
                here = 0
                for k in range(4):
                    dz, dy = k // 2, k % 2
                    now |= int(solid[z + dz, y + dy, x]) << (2 * k + 1)
                    here |= int(region[z + dz, y + dy, x]) << (2 * k + 1)
                code = (code >> 1 & 0b01010101) | now
                inside = (inside >> 1 & 0b01010101) | here
                if x > 0 and inside == 255:
                    total += table[code]
                    number += 1
        sixteenfold[z] = total
        cells[z] = number


_NO_FOIL = "no current collector in the labels"


def topology_quantities(regions: Regions) -> dict[str, Measured]:
    """Measure Euler number and connectivity of the layer; see the head of this module."""
    blocks, layer = regions.blocks, regions.layer
    silicon, pores = regions.silicon & layer, layer & ~regions.solids
    euler = count_euler(regions.silicon, layer, regions.voxel_nm)
    both = silicon.any() and not (silicon == layer).all()
    found = {
        "euler_density_per_um3": blocks.of(
            euler.density_per_um3, "1/um3", f"parts - handles + cavities; {regions.note}", "no cell of 2^3 voxels"
        )
        if both
        else missing("1/um3", "one phase only, hence no surface"),
        "silicon_largest_body_share": _largest_share(silicon, regions, "silicon"),
        "pore_largest_body_share": _largest_share(pores, regions, "pores"),
    }
    names = ("silicon_on_foil_share", "solids_on_foil_share", "pores_open_share", "pores_on_foil_share")
    if not regions.has_foil:
        return found | {name: missing("", _NO_FOIL) for name in names}
    foil_side = regions.first_above_foil
    outside = regions.space & ~layer & (np.arange(layer.shape[1])[None, :, None] == 0)
    free = regions.space & ~regions.solids
    connected = {
        "silicon_on_foil_share": (silicon, regions.silicon & regions.space, foil_side, "silicon tied to the foil"),
        "pores_open_share": (pores, free, outside, "pores tied to the space above the layer"),
        "pores_on_foil_share": (pores, pores, foil_side, "pores tied to the foil within the layer"),
    }
    solids = regions.solids & regions.space
    if np.any(regions.values == Phase.CARBON_BINDER):
        connected["solids_on_foil_share"] = (solids & layer, solids, foil_side, "all solids tied to the foil")
    for name, (phase, path, start, words) in connected.items():
        tied = reached_from(path, start) & phase
        found[name] = blocks.ratio(per_slice(tied), per_slice(phase), "", f"{words} by faces; {regions.note}")
    found.setdefault("solids_on_foil_share", missing("", "labels hold no carbon-binder"))
    if not outside.any():
        found["pores_open_share"] = missing("", "no space above the layer in view")
    return found


def _largest_share(phase: BoolArray, regions: Regions, words: str) -> Measured:
    """Return the share of a phase that its largest face-connected body holds."""
    sizes = body_sizes(face_connected(phase))[1:]
    if sizes.size == 0:
        return missing("", f"no {words} in the {regions.note}")
    share = float(sizes.max() / sizes.sum())
    return Measured(share, float("nan"), 1, "", f"{words} in one face-connected body; {regions.note}")
