"""What the beam passes besides the sample: a capillary round it, larger than the field or not.

Takes a `SurroundingsRecipe` and the geometry -> gives the line integrals that it adds to every view. The model is a
tube of uniform attenuation mu along the rotation axis, in closed form and averaged over each fine column,

    line integral(s) = 2 mu [sqrt(R^2 - s^2) - sqrt((R - wall)^2 - s^2)],

s from the tube's centre, which turns with the sample. It is the same in all rows.
"""

from typing import Self

import numpy as np
from pydantic import model_validator

from npsi_twin.errors import ParameterError
from npsi_twin.projectors.analytic import Ellipse, line_integrals
from npsi_twin.recipes import Recipe, parameter
from npsi_twin.scan import ParallelBeam
from npsi_twin.volumes import FloatArray


class SurroundingsRecipe(Recipe):
    """What stands round the sample."""

    capillary_radius_um: float = parameter(
        0.0,
        "outer radius of a capillary that turns with the sample; 0 stands for none",
        unit="um",
        source="assumed: a bare needle",
        ge=0,
        le=10_000,
    )
    capillary_wall_um: float = parameter(
        10.0, "wall of the capillary", unit="um", source="assumed: glass for powders", gt=0, le=10_000
    )
    capillary_attenuation_per_um: float = parameter(
        0.0078,
        "linear attenuation of the capillary",
        unit="1/um",
        source="inferred: vitreous silica at 8 keV (xraydb)",
        ge=0,
        le=10,
    )
    capillary_across_um: float = parameter(
        0.0, "place of the capillary's centre across, at angle 0", unit="um", source="assumed: centred", ge=-1e4, le=1e4
    )
    capillary_height_um: float = parameter(
        0.0, "height of the capillary's centre, at angle 0", unit="um", source="assumed: centred", ge=-1e4, le=1e4
    )

    @model_validator(mode="after")
    def _wall_fits(self) -> Self:
        if 0 < self.capillary_radius_um <= self.capillary_wall_um:
            raise ParameterError(
                f"surroundings.capillary_wall_um: got {self.capillary_wall_um:g} um for an outer radius of "
                f"{self.capillary_radius_um:g} um; the wall must be thinner than the radius, else no room is left "
                "for a sample. Give a thinner wall."
            )
        return self


def pedestal(surroundings: SurroundingsRecipe, beam: ParallelBeam) -> FloatArray | None:
    """Return the line integrals of what stands round the sample, or None where nothing does.

    Parameters
    ----------
    surroundings
        The recipe.
    beam
        Geometry with a known axis; its columns are what is averaged over.

    Returns
    -------
    FloatArray or None
        Float32 (view, column), dimensionless.

    Examples
    --------
    >>> tube = SurroundingsRecipe(capillary_radius_um=60.0, capillary_wall_um=10.0, capillary_attenuation_per_um=0.01)
    >>> beam = ParallelBeam(np.array([0.0]), columns=3, pixel_nm=50.0, rotation_axis_px=1.0)
    >>> pedestal(tube, beam).round(4)
    array([[0.2, 0.2, 0.2]], dtype=float32)
    """
    if surroundings.capillary_radius_um == 0:
        return None
    centre_nm = (1000 * surroundings.capillary_across_um, -1000 * surroundings.capillary_height_um)
    outer_nm = 1000 * surroundings.capillary_radius_um
    inner_nm = outer_nm - 1000 * surroundings.capillary_wall_um
    glass = surroundings.capillary_attenuation_per_um
    tube = [Ellipse(centre_nm, (outer_nm, outer_nm), glass), Ellipse(centre_nm, (inner_nm, inner_nm), -glass)]
    return np.maximum(line_integrals(tube, beam), 0).astype(np.float32)
