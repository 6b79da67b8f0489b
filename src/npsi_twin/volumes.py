"""The words every wing shares: voxel grids, phases, volumes.

Arrays are (z, y, x). Two frames meet here, once and for all:

* scan frame: z is the detector row along the rotation axis, x and y span the slice; the rotation axis pierces every
  slice at its centre, pixel coordinate ((ny - 1) / 2, (nx - 1) / 2);
* electrode frame: *along* = z, *across* = x, *height* above the rotation axis = minus y, so that the foil lies at the
  bottom of a slice in every viewer that draws row 0 at the top.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from npsi_twin.errors import IncompatibleError, ParameterError

FloatArray = NDArray[np.float32]


class Phase(IntEnum):
    """Labels of a truth volume (`/phase` in a run folder)."""

    VOID = 0
    SILICON = 1
    CARBON_BINDER = 2
    CURRENT_COLLECTOR = 3
    SEI = 4
    #: Silicon mixed with void below two voxels, so that unresolved np-Si is never called void.
    UNRESOLVED_SILICON = 5


@dataclass(frozen=True)
class VoxelGrid:
    """A block of cubic voxels centred on the rotation axis.

    Parameters
    ----------
    shape
        (nz, ny, nx), each at least 1.
    voxel_nm
        Edge of a voxel in nm.

    Examples
    --------
    >>> grid = VoxelGrid((4, 3, 3), 50.0)
    >>> grid.across_nm
    array([-50.,   0.,  50.])
    >>> grid.height_nm
    array([ 50.,   0., -50.])
    >>> grid.refined(2)
    VoxelGrid(shape=(8, 6, 6), voxel_nm=25.0)
    """

    shape: tuple[int, int, int]
    voxel_nm: float

    def __post_init__(self) -> None:
        if min(self.shape) < 1 or not (np.isfinite(self.voxel_nm) and self.voxel_nm > 0):
            raise ParameterError(
                f"voxel grid: got shape {self.shape} and voxel {self.voxel_nm} nm; "
                "every dimension must be at least 1 and the voxel positive."
            )

    @property
    def along_nm(self) -> NDArray[np.float64]:
        """Voxel centres along the rotation axis, nm, increasing with the row."""
        return self._centres(0)

    @property
    def height_nm(self) -> NDArray[np.float64]:
        """Voxel centres above the rotation axis, nm, decreasing with the row index y."""
        return self._centres(1)[::-1]

    @property
    def across_nm(self) -> NDArray[np.float64]:
        """Voxel centres across the electrode, nm, increasing with x."""
        return self._centres(2)

    def _centres(self, axis: int) -> NDArray[np.float64]:
        n = self.shape[axis]
        return np.asarray((np.arange(n) - (n - 1) / 2) * self.voxel_nm, np.float64)

    def refined(self, factor: int) -> "VoxelGrid":
        """Return the grid over the same block with every voxel cut into ``factor`` cubed."""
        nz, ny, nx = self.shape
        return VoxelGrid((nz * factor, ny * factor, nx * factor), self.voxel_nm / factor)


@dataclass(frozen=True)
class Volume:
    """A scalar field on a block of voxels, for example ``attenuation_per_um``.

    Parameters
    ----------
    values
        Array (z, y, x); made read-only.
    voxel_nm
        Edge of a voxel in nm.
    """

    values: NDArray[np.generic]
    voxel_nm: float

    def __post_init__(self) -> None:
        if self.values.ndim != 3:
            raise IncompatibleError(f"volume: got an array of {self.values.ndim} dimensions; (z, y, x) is needed.")
        frozen = self.values.view()
        frozen.flags.writeable = False
        object.__setattr__(self, "values", frozen)

    @property
    def grid(self) -> VoxelGrid:
        """The grid the values live on."""
        nz, ny, nx = self.values.shape
        return VoxelGrid((nz, ny, nx), self.voxel_nm)
