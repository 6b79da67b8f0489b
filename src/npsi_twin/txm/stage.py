"""The rotation stage: where the sample really is in every view.

Takes a `StageRecipe` -> gives the angles and the image's shift in every view, all of which the truth keeps and a scan
file does not tell. Run-out is asynchronous (Gürsoy et al. 2017): a fresh normal draw for every view, sideways and along
the axis, from the stream ``("run-out", view)``, so that it does not depend on which rows or views are simulated. Shifts
are in detector pixels, positive towards higher column and row numbers, as in `npsi_twin.scan`.

References
----------
D. Gürsoy et al., "Rapid alignment of nanotomography data using joint iterative reconstruction and reprojection",
Sci. Rep. 7 (2017) 11818, doi:10.1038/s41598-017-12141-9.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npsi_twin.recipes import Recipe, parameter
from npsi_twin.seeds import Seeds


class StageRecipe(Recipe):
    """How the sample is turned."""

    views: int = parameter(
        1201,
        "number of projections",
        source="stated (Zhao et al. 2018, section 2.4)",
        ge=1,
        le=100_000,
    )
    angle_range_deg: float = parameter(
        180.0, "angular range of the scan", unit="degrees", source="stated (Zhao et al. 2018)", gt=0, le=360
    )
    include_last: bool = parameter(
        True,
        "whether the last view lies at the end of the range (0 and 180 degrees both recorded)",
        source="inferred: 1201 views in 0.15 degree steps",
    )
    axis_offset_px: float = parameter(
        3.3,
        "distance of the rotation axis from the middle of the detector, towards higher columns",
        unit="detector pixels",
        source="assumed: 32-ID sets of TomoBank have their axis within 48 of 2448 columns",
        ge=-1000,
        le=1000,
    )
    run_out_across_nm: float = parameter(
        15.0,
        "random sideways motion of a view, root mean square",
        unit="nm",
        source="stated for the best stages (Gürsoy et al. 2017)",
        ge=0,
        le=1000,
    )
    run_out_along_nm: float = parameter(
        15.0,
        "random motion of a view along the rotation axis, root mean square",
        unit="nm",
        source="assumed equal to the sideways run-out",
        ge=0,
        le=1000,
    )


@dataclass(frozen=True)
class StageTruth:
    """What the stage really did.

    Attributes
    ----------
    angles_rad
        Angle of every view in radians, (views,).
    column_shift_px
        Sideways shift of the image in every view in detector pixels, (views,).
    row_shift_px
        Shift of the image along the rotation axis in detector pixels, positive to higher rows, (views,).
    rotation_axis_px
        Column coordinate of the rotation axis.
    """

    angles_rad: NDArray[np.float64]
    column_shift_px: NDArray[np.float64]
    row_shift_px: NDArray[np.float64]
    rotation_axis_px: float

    def __post_init__(self) -> None:
        for name in ("angles_rad", "column_shift_px", "row_shift_px"):
            frozen = getattr(self, name).view()
            frozen.flags.writeable = False
            object.__setattr__(self, name, frozen)


def move(stage: StageRecipe, columns: int, pixel_nm: float, *, seeds: Seeds) -> StageTruth:
    """Turn the stage through a scan.

    Parameters
    ----------
    stage
        The recipe.
    columns
        Detector columns.
    pixel_nm
        Detector pixel at the sample in nm.
    seeds
        Root of the random numbers; one stream a view.

    Returns
    -------
    StageTruth
        Angles, shifts and rotation axis.

    Examples
    --------
    >>> truth = move(StageRecipe(views=3, run_out_across_nm=0.0), 400, 50.8, seeds=Seeds(1))
    >>> [float(a) for a in truth.angles_rad.round(3)], truth.rotation_axis_px
    ([0.0, 1.571, 3.142], 202.8)
    """
    angles = np.linspace(0.0, np.deg2rad(stage.angle_range_deg), stage.views, endpoint=stage.include_last)
    draws = np.array([seeds.stream("run-out", view).standard_normal(2) for view in range(stage.views)])
    return StageTruth(
        angles_rad=angles,
        column_shift_px=draws[:, 0] * (stage.run_out_across_nm / pixel_nm),
        row_shift_px=draws[:, 1] * (stage.run_out_along_nm / pixel_nm),
        rotation_axis_px=(columns - 1) / 2 + stage.axis_offset_px,
    )
