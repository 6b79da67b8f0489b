"""The two rough surfaces that bound the electrode layer: the copper foil below, the top of all solids above.

Recipes and `Seeds` -> two `HeightMap`s over (along, across). The model: stationary Gaussian height maps with the
correlation exp(-(r / correlation length)^2), as sums of plane waves: the foil's roughness about a mean plane, and the
layer's height above the local foil. Mean and standard deviation belong to the ensemble; a single field scatters about
them, and no field is rescaled. Overhangs do not exist here.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npsi_twin.electrode.waves import Floats, WaveField, on_rows, smooth_waves
from npsi_twin.recipes import Recipe, parameter
from npsi_twin.seeds import Seeds

#: Waves of a height map: enough for a field of 50 um to be Gaussian within its own sampling error.
_WAVES = 256


class FoilRecipe(Recipe):
    """The copper current collector."""

    thickness_um: float = parameter(10.0, "thickness of the foil", unit="um", source="assumed", gt=0, le=200)
    roughness_nm: float = parameter(
        100.0,
        "root mean square height of the foil's surface",
        unit="nm",
        source="assumed: 'rough' in the paper, 3.3.1",
        ge=0,
        le=1000,
    )
    correlation_length_um: float = parameter(
        2.0,
        "distance over which the foil's heights forget each other (1/e)",
        unit="um",
        source="assumed",
        ge=0.2,
        le=100,
    )


class LayerRecipe(Recipe):
    """The height of all solids above the local foil surface."""

    mean_height_um: float = parameter(
        2.0, "mean height of the layer", unit="um", source="Zhao 2018, section 3.2: stated", ge=0.3, le=50
    )
    height_sd_um: float = parameter(
        0.5, "standard deviation of the local height", unit="um", source="Zhao 2018, section 3.2: stated", ge=0, le=10
    )
    correlation_length_um: float = parameter(
        3.0,
        "distance over which the layer's heights forget each other (1/e)",
        unit="um",
        source="assumed",
        ge=0.5,
        le=100,
    )
    smallest_height_um: float = parameter(
        0.2, "heights below this are raised to it", unit="um", source="assumed", ge=0.0, le=10
    )


@dataclass(frozen=True)
class HeightMap:
    """A rough surface, exact at any point.

    Attributes
    ----------
    mean_nm, sd_nm
        Ensemble mean and standard deviation of the height, nm.
    field
        Its unit-variance random part; the field does not change along the height.
    floor_nm
        Smallest height, nm.
    """

    mean_nm: float
    sd_nm: float
    field: WaveField
    floor_nm: float = -np.inf

    def at(self, along_nm: Floats, across_nm: Floats) -> Floats:
        """Return heights (n,) in nm at points."""
        return np.maximum(self.mean_nm + self.sd_nm * self.field.at(_points(along_nm, across_nm)), self.floor_nm)

    def slope_at(self, along_nm: Floats, across_nm: Floats) -> Floats:
        """Return the slopes (n, 2) along and across at points; zero where the height rests on its floor."""
        points = _points(along_nm, across_nm)
        slope = self.sd_nm * self.field.gradient_at(points)[:, [0, 2]]
        resting = self.mean_nm + self.sd_nm * self.field.at(points) < self.floor_nm
        return np.where(resting[:, None], 0.0, slope)

    def on_rows(self, along_nm: Floats, across_nm: Floats, cell_nm: float) -> NDArray[np.float64]:
        """Return the heights (along, across), each the mean over a square cell (exact above the floor), nm."""
        rows = on_rows(self.field, along_nm, across_nm, cell_nm)
        return np.maximum(self.mean_nm + self.sd_nm * rows, self.floor_nm)


def build_surfaces(
    foil: FoilRecipe, layer: LayerRecipe, foil_surface_height_nm: float, *, seeds: Seeds
) -> tuple[HeightMap, HeightMap]:
    """Draw the foil's surface (above the rotation axis) and the layer's height above it.

    Returns
    -------
    tuple of HeightMap
        The foil's surface and the height of all solids above the local foil surface.
    """
    rough = smooth_waves(seeds.stream("foil-surface"), _WAVES, 1e3 * foil.correlation_length_um, axes=(0, 2))
    tall = smooth_waves(seeds.stream("layer-height"), _WAVES, 1e3 * layer.correlation_length_um, axes=(0, 2))
    return (
        HeightMap(foil_surface_height_nm, foil.roughness_nm, rough),
        HeightMap(1e3 * layer.mean_height_um, 1e3 * layer.height_sd_um, tall, 1e3 * layer.smallest_height_um),
    )


def _points(along_nm: Floats, across_nm: Floats) -> Floats:
    return np.stack([along_nm, np.zeros_like(along_nm), across_nm], axis=1)
