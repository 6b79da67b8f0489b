"""The rotation stage: where the sample really is in every view.

Takes a `StageRecipe` -> gives the angles and the image's shift in every view, all of which the truth keeps and a scan
file does not tell. With n the order of the bearing's error and t the time from 0, the first view, to 1, the last one,

    shift across = random + A cos(n angle) + w L sin(n angle) + drift(t) + damage(t),    drift(t) = D t or
    D (1 - exp(-t / s)) / (1 - exp(-1 / s)),    damage(t) = M (1 - exp(-t / c)) / (1 - exp(-1 / c)),

and likewise along the axis, without wobble. Run-out is asynchronous (Gürsoy et al. 2017): a fresh normal draw for every
view from the stream ``("run-out", view)``, so that it does not depend on which rows or views are simulated. The first
order of a bearing's error is left out: a rigid sample on such a bearing turns round another, steady axis. Wobble w acts
by the lever L of the sample above the bearing; that images also turn by it, a nanometre over the field, is left out.
Shifts are in detector pixels, positive towards higher column and row numbers, as in `npsi_twin.scan`.

References
----------
D. Gürsoy et al., "Rapid alignment of nanotomography data using joint iterative reconstruction and reprojection",
Sci. Rep. 7 (2017) 11818, doi:10.1038/s41598-017-12141-9.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from npsi_twin.errors import ParameterError
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
        180.0,
        "angular range of the scan; below 180 a wedge is missing",
        unit="degrees",
        source="stated (Zhao et al. 2018)",
        gt=0,
        le=360,
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
    axis_tilt_deg: float = parameter(
        0.0,
        "angle by which the axis leans on the detector, towards higher columns at higher rows",
        unit="degrees",
        source="assumed: aligned",
        ge=-2,
        le=2,
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
    systematic_across_nm: float = parameter(
        0.0,
        "amplitude of the bearing's systematic sideways run-out",
        unit="nm",
        source="assumed: none beside the random one; 32-ID's bearing has 25 nm",
        ge=0,
        le=10_000,
    )
    systematic_along_nm: float = parameter(
        0.0,
        "amplitude of the bearing's systematic run-out along the axis",
        unit="nm",
        source="assumed: none beside the random one; 32-ID's bearing has 25 nm",
        ge=0,
        le=10_000,
    )
    systematic_order: int = parameter(
        2, "periods of the bearing's systematic error and wobble in a turn", source="assumed: oval races", ge=2, le=100
    )
    wobble_urad: float = parameter(
        0.0,
        "amplitude of the axis' wobble",
        unit="urad",
        source="assumed: none; 32-ID's bearing has 0.2",
        ge=0,
        le=1000,
    )
    wobble_lever_mm: float = parameter(
        100.0, "height of the sample above the bearing", unit="mm", source="assumed", ge=0, le=1000
    )
    drift_across_nm: float = parameter(
        0.0, "sideways drift from the first view to the last", unit="nm", source="assumed: none", ge=-1e5, le=1e5
    )
    drift_along_nm: float = parameter(
        0.0, "drift along the axis from the first view to the last", unit="nm", source="assumed: none", ge=-1e5, le=1e5
    )
    drift_settling: float = parameter(
        0.0,
        "time constant of the drift over the duration of the scan; 0 stands for a linear drift",
        source="assumed: linear",
        ge=0,
        le=100,
    )
    damage_across_nm: float = parameter(
        0.0,
        "sideways creep of the epoxy in the beam from the first view to the last",
        unit="nm",
        source="assumed: none",
        ge=-1e5,
        le=1e5,
    )
    damage_along_nm: float = parameter(
        0.0,
        "creep of the epoxy along the axis from the first view to the last",
        unit="nm",
        source="assumed: none",
        ge=-1e5,
        le=1e5,
    )
    damage_dose: float = parameter(
        0.2, "dose at which creep slows down, over that of the scan", source="assumed", gt=0, le=100
    )
    angle_error_deg: float = parameter(
        0.0,
        "error of a view's angle, root mean square",
        unit="degrees",
        source="assumed: none beside the run-out",
        ge=0,
        le=10,
    )
    fly_scan_fraction: float = parameter(
        0.0,
        "share of the step between views during which a view is exposed while turning; 0 stands for step scans",
        source="assumed: step scan",
        ge=0,
        le=1,
    )
    fly_scan_samples: int = parameter(
        3, "projections that a view of a fly scan is averaged from", source="assumed", ge=2, le=64
    )
    blocked_from_deg: float = parameter(
        0.0,
        "angle from which something opaque blocks the beam",
        unit="degrees",
        source="assumed: nothing",
        ge=0,
        le=360,
    )
    blocked_to_deg: float = parameter(
        0.0,
        "angle up to which the beam is blocked; equal to blocked_from_deg where nothing is",
        unit="degrees",
        source="assumed: nothing",
        ge=0,
        le=360,
    )

    @model_validator(mode="after")
    def _wedge_leaves_views(self) -> Self:
        if self.blocked_to_deg < self.blocked_from_deg:
            raise ParameterError(
                f"stage.blocked_to_deg: got {self.blocked_to_deg:g} degrees, before blocked_from_deg = "
                f"{self.blocked_from_deg:g}; the wedge runs from the smaller to the larger angle. Exchange them."
            )
        if self.blocked_to_deg > self.blocked_from_deg == 0 and self.blocked_to_deg >= self.angle_range_deg:
            raise ParameterError(
                f"stage.blocked_to_deg: the wedge up to {self.blocked_to_deg:g} degrees blocks all of the "
                f"{self.angle_range_deg:g} degrees of the scan; nothing would be seen. Block less."
            )
        return self


@dataclass(frozen=True)
class StageTruth:
    """What the stage really did.

    Attributes
    ----------
    angles_rad
        True angle of every view in radians, (views,).
    told_angles_rad
        Angle that the scan file tells, (views,).
    column_shift_px
        Sideways shift of the image in every view in detector pixels, (views,).
    row_shift_px
        Shift of the image along the rotation axis in detector pixels, positive to higher rows, (views,).
    blocked
        Whether the beam was blocked, (views,).
    rotation_axis_px
        Column coordinate of the rotation axis at the detector's middle row.
    axis_tilt_rad
        Angle by which the axis leans towards higher columns at higher rows.
    """

    angles_rad: NDArray[np.float64]
    told_angles_rad: NDArray[np.float64]
    column_shift_px: NDArray[np.float64]
    row_shift_px: NDArray[np.float64]
    blocked: NDArray[np.bool_]
    rotation_axis_px: float
    axis_tilt_rad: float

    def __post_init__(self) -> None:
        for name in ("angles_rad", "told_angles_rad", "column_shift_px", "row_shift_px", "blocked"):
            frozen = getattr(self, name).view()
            frozen.flags.writeable = False
            object.__setattr__(self, name, frozen)


@lru_cache(maxsize=4)  # asked for by every slab; a scan's worth of streams takes longer than their slab's check
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
    told = np.linspace(0.0, np.deg2rad(stage.angle_range_deg), stage.views, endpoint=stage.include_last)
    angles = told
    if stage.angle_error_deg:
        errors = [float(seeds.stream("angle-error", view).standard_normal()) for view in range(stage.views)]
        angles = told + np.deg2rad(stage.angle_error_deg) * np.array(errors)
    draws = np.array([seeds.stream("run-out", view).standard_normal(2) for view in range(stage.views)])
    across_nm, along_nm = _slow_motion_nm(stage, angles)
    degrees = np.rad2deg(told)
    wedge = stage.blocked_to_deg > stage.blocked_from_deg
    return StageTruth(
        angles_rad=angles,
        told_angles_rad=told,
        column_shift_px=draws[:, 0] * (stage.run_out_across_nm / pixel_nm) + across_nm / pixel_nm,
        row_shift_px=draws[:, 1] * (stage.run_out_along_nm / pixel_nm) + along_nm / pixel_nm,
        blocked=(degrees >= stage.blocked_from_deg) & (degrees <= stage.blocked_to_deg) & wedge,
        rotation_axis_px=(columns - 1) / 2 + stage.axis_offset_px,
        axis_tilt_rad=float(np.deg2rad(stage.axis_tilt_deg)),
    )


def _slow_motion_nm(
    stage: StageRecipe, angles_rad: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what is not random: bearing, drift and damage, across and along the axis in nm, (views,)."""
    time = np.linspace(0.0, 1.0, stage.views) if stage.views > 1 else np.zeros(1)
    drift = _settling(time, stage.drift_settling) if stage.drift_settling else time
    creep = _settling(time, stage.damage_dose)
    turn = stage.systematic_order * angles_rad
    across = stage.systematic_across_nm * np.cos(turn)
    across += stage.wobble_urad * stage.wobble_lever_mm * np.sin(turn)  # urad x mm = nm
    across += stage.drift_across_nm * drift + stage.damage_across_nm * creep
    along = stage.systematic_along_nm * np.cos(turn)
    along += stage.drift_along_nm * drift + stage.damage_along_nm * creep
    return across, along


def _settling(time: NDArray[np.float64], constant: float) -> NDArray[np.float64]:
    """Return an exponential approach, 0 at the first view and 1 at the last."""
    return np.asarray(np.expm1(-time / constant) / np.expm1(-1 / constant), np.float64)
