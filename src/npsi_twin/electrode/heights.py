"""How high the solids of a slab of truth stand above the local foil surface.

`Composition`, its `Electrode` and `VoxelGrid` -> `SolidHeights`, one value a column of voxels. Two heights are told
apart, since a measurement may see either: the top of all solids (silicon or carbon-binder), and the top of the
silicon alone. A top lies at the upper edge of the highest voxel that carries the label, half a voxel above or below
the true one at most and unbiased over many columns; the foil below it is the scene's own, exact.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npsi_twin.electrode.scene import Electrode
from npsi_twin.electrode.voxelise import Composition
from npsi_twin.errors import IncompatibleError
from npsi_twin.volumes import Phase, VoxelGrid


@dataclass(frozen=True)
class SolidHeights:
    """Heights above the local foil surface, (rows, across), nm; NaN where a column shows no such top.

    Attributes
    ----------
    all_solids_nm
        Top of everything solid; NaN where the specimen's outline cuts the column below the layer's top.
    silicon_nm
        Top of the silicon; NaN also where the column holds none.
    """

    all_solids_nm: NDArray[np.float64]
    silicon_nm: NDArray[np.float64]

    def __post_init__(self) -> None:
        self.all_solids_nm.flags.writeable = False
        self.silicon_nm.flags.writeable = False


def solid_heights(composition: Composition, electrode: Electrode, grid: VoxelGrid) -> SolidHeights:
    """Find the tops of all solids and of the silicon in every column of a slab.

    Parameters
    ----------
    composition
        Truth of some rows.
    electrode, grid
        The scene and the grid it was voxelised from.

    Returns
    -------
    SolidHeights
        Two maps (rows, across) in nm.

    Raises
    ------
    IncompatibleError
        If the composition does not come from this grid.
    """
    rows, height_voxels, across_voxels = composition.phase.shape
    if (height_voxels, across_voxels, composition.voxel_nm) != (*grid.shape[1:], grid.voxel_nm):
        raise IncompatibleError(
            f"solid heights: the slab has slices {(height_voxels, across_voxels)} of {composition.voxel_nm:g} nm "
            "voxels, "
            f"the grid {grid.shape[1:]} of {grid.voxel_nm:g} nm; heights are counted on the grid. Pass the grid "
            "that was voxelised."
        )
    along_nm = grid.along_nm[composition.first_row : composition.first_row + rows]
    ground = electrode.foil.on_rows(along_nm, grid.across_nm, grid.voxel_nm)
    layer_top = ground + electrode.layer.on_rows(along_nm, grid.across_nm, grid.voxel_nm)
    silicon = np.isin(composition.phase, (Phase.SILICON, Phase.UNRESOLVED_SILICON))
    solid = silicon | (composition.phase == Phase.CARBON_BINDER)
    inside = electrode.specimen.share(grid.height_nm, grid.across_nm, grid.voxel_nm) >= 0.5
    ceiling = np.where(inside.any(axis=0), grid.height_nm[inside.argmax(axis=0)], -np.inf)
    cut = layer_top > ceiling + grid.voxel_nm / 2
    return SolidHeights(*(np.where(cut, np.nan, _top(found, grid) - ground) for found in (solid, silicon)))


def _top(found: NDArray[np.bool_], grid: VoxelGrid) -> NDArray[np.float64]:
    """Return the upper edge of the highest voxel found in each column, NaN where there is none."""
    edge = grid.height_nm[found.argmax(axis=1)] + grid.voxel_nm / 2
    return np.where(found.any(axis=1), edge, np.nan)
