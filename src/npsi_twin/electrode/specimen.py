"""What is cut out of the electrode and put on the rotation stage.

`SpecimenRecipe` -> the share of a voxel that belongs to the specimen, and the region in which a scene is built. The
model: a vertical cylinder near the rotation axis (the tip of a needle), or a block with two flat sides. Everything
outside is void; the scene is built wider than the specimen, so that its sides are true cuts through particles.

A needle never stands on the rotation axis itself. It matters: the outline of a cylinder on the axis is a straight
stripe in the sinogram, which every ring removal takes for a detector's fault.
"""

import math
from typing import Literal

import numpy as np

from npsi_twin.electrode.powder import Region
from npsi_twin.electrode.waves import Floats
from npsi_twin.recipes import Recipe, parameter


class SpecimenRecipe(Recipe):
    """Shape and place of the specimen about the rotation axis."""

    shape: Literal["needle", "block"] = parameter(
        "needle",
        "needle: a cylinder along the rotation axis; block: two flat sides",
        source="Zhao 2018, section 2.3: stated",
    )
    width_um: float = parameter(
        16.0, "diameter of the needle, or distance between the block's sides", unit="um",
        source="assumed: a thin needle for a quick run (the paper: < 50 um)", ge=2, le=200,
    )  # fmt: skip
    length_um: float = parameter(
        10.0, "length along the rotation axis that is built", unit="um", source="assumed", ge=1, le=400
    )
    foil_surface_height_um: float = parameter(
        0.0, "mean height of the foil's surface above the rotation axis", unit="um", source="assumed", ge=-100, le=100
    )
    needle_offset_across_um: float = parameter(
        0.9,
        "distance of the needle's axis from the rotation axis across the electrode",
        unit="um",
        source="assumed: no tip is glued on the axis any better",
        ge=-50,
        le=50,
    )
    needle_offset_height_um: float = parameter(
        -0.6,
        "distance of the needle's axis from the rotation axis along the foil's normal",
        unit="um",
        source="assumed: no tip is glued on the axis any better",
        ge=-50,
        le=50,
    )

    @property
    def reach_um(self) -> float:
        """Largest distance of the specimen from the rotation axis; across the electrode for a block, um."""
        if self.shape == "block":
            return self.width_um / 2
        return self.width_um / 2 + math.hypot(self.needle_offset_across_um, self.needle_offset_height_um)

    def share(self, height_nm: Floats, across_nm: Floats, voxel_nm: float) -> Floats:
        """Return the share of voxels that lies in the specimen, shape (height, across)."""
        half = 500 * self.width_um
        if self.shape == "needle":
            height, across = (
                height_nm - 1e3 * self.needle_offset_height_um,
                across_nm - 1e3 * self.needle_offset_across_um,
            )
            outside = np.sqrt(height[:, None] ** 2 + across[None, :] ** 2) - half
        else:
            outside = np.broadcast_to(np.abs(across_nm) - half, (height_nm.size, across_nm.size))
        return np.clip(0.5 - outside / voxel_nm, 0, 1)

    def region(self, margin_nm: float) -> Region:
        """Return the region to build: the specimen and a margin on all sides."""
        return Region(500 * self.length_um + margin_nm, 1e3 * self.reach_um + margin_nm)
