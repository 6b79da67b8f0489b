"""How well a reconstruction found where the sample was: axis, its tilt, and the shift of every view.

Takes -> gives: what the stage truly did and what was found from the data alone -> `StageAccuracy`. What no data can
tell takes no part: a shift of all views is one of the axis, a sine of the angle moves the sample sideways, a constant
along the axis moves it there. So with the true shifts s of the columns fitted by least squares,

    s_v = a + b cos(angle_v) + c sin(angle_v) + told_v,

the axis to be found lies at the true one plus a, and the run-out to be found is told_v.

Holds for any parallel-beam scan; a real one has no truth to compare with.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npsi_twin.errors import IncompatibleError


@dataclass(frozen=True)
class StageAccuracy:
    """Found against true, in detector pixels and degrees.

    Attributes
    ----------
    axis_error_px
        Found rotation axis minus the one to be found, at the detector's middle row.
    run_out_rms_px, run_out_left_rms_px
        Root mean square of the run-out across the axis that data can tell, and of what is left of it.
    row_run_out_rms_px, row_run_out_left_rms_px
        The same along the axis.
    tilt_error_deg
        Found minus true lean of the axis; all of it where none was looked for.
    """

    axis_error_px: float
    run_out_rms_px: float
    run_out_left_rms_px: float
    row_run_out_rms_px: float
    row_run_out_left_rms_px: float
    tilt_error_deg: float


@dataclass(frozen=True)
class StageMotion:
    """Where the sample was, truly or as found.

    Attributes
    ----------
    rotation_axis_px
        Column of the axis at the detector's middle row.
    tilt_rad
        Lean of the axis towards higher columns at higher rows.
    column_shift_px, row_shift_px
        Shift of the image in every view, (view,).
    """

    rotation_axis_px: float
    tilt_rad: float
    column_shift_px: NDArray[np.float64]
    row_shift_px: NDArray[np.float64]


def stage_accuracy(true: StageMotion, found: StageMotion, angles_rad: NDArray[np.float64]) -> StageAccuracy:
    """Compare what was found with what was true.

    Parameters
    ----------
    true, found
        Motion of one scan; zeros where nothing was looked for.
    angles_rad
        Angle of every view, radians, (view,).

    Returns
    -------
    StageAccuracy
        In detector pixels and degrees.

    Raises
    ------
    IncompatibleError
        They do not belong to one scan.

    Examples
    --------
    >>> angles = np.pi * np.arange(8) / 8
    >>> true = StageMotion(30.0, 0.0, 0.5 + 2 * np.cos(angles), np.full(8, 3.0))
    >>> found = StageMotion(30.5, 0.0, np.zeros(8), np.zeros(8))
    >>> accuracy = stage_accuracy(true, found, angles)
    >>> abs(round(accuracy.axis_error_px, 9)), abs(round(accuracy.run_out_rms_px, 9))
    (0.0, 0.0)
    """
    shifts = (true.column_shift_px, true.row_shift_px, found.column_shift_px, found.row_shift_px)
    if any(shift.shape != angles_rad.shape for shift in shifts):
        raise IncompatibleError(
            f"stage_accuracy: got {angles_rad.size} angles and {[shift.size for shift in shifts]} shifts; one of each "
            "a view is needed. Truth and reconstruction belong to different scans."
        )
    untold = np.stack([np.ones_like(angles_rad), np.cos(angles_rad), np.sin(angles_rad)], axis=1)

    def split(shift: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        parts = np.linalg.lstsq(untold, shift, rcond=None)[0]
        return float(parts[0]), shift - untold @ parts

    (true_mean, true_across), (found_mean, found_across) = split(true.column_shift_px), split(found.column_shift_px)
    true_along, found_along = (motion.row_shift_px - motion.row_shift_px.mean() for motion in (true, found))
    return StageAccuracy(
        axis_error_px=found.rotation_axis_px + found_mean - true.rotation_axis_px - true_mean,
        run_out_rms_px=_rms(true_across),
        run_out_left_rms_px=_rms(found_across - true_across),
        row_run_out_rms_px=_rms(true_along),
        row_run_out_left_rms_px=_rms(found_along - true_along),
        tilt_error_deg=float(np.degrees(found.tilt_rad - true.tilt_rad)),
    )


def _rms(values: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(values**2)))
