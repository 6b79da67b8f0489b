"""What the stage did, on disk: as found, beside a reconstruction's volume; as it truly was, in a scan's truth.

`write_found` puts what a reconstruction found below ``/stage`` of its file, and nothing where nothing was looked for.
`compare_motion` reads both sides and holds them together.
"""

from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from npsi_twin.comparison.stage_accuracy import StageAccuracy, StageMotion, stage_accuracy
from npsi_twin.storage.hdf5 import OpenFile, open_hdf5
from npsi_twin.storage.scan_truth import read_scan_truth

_AXIS = "rotation_axis_px"


def write_found(
    file: h5py.File,
    *,
    column_shift_px: NDArray[np.float64] | None = None,
    row_shift_px: NDArray[np.float64] | None = None,
    axis_tilt_rad: float | None = None,
) -> None:
    """Write what was looked for, (view,) and a number; the axis is an attribute of the file."""
    found = {"column_shift_px": column_shift_px, "row_shift_px": row_shift_px, "axis_tilt_rad": axis_tilt_rad}
    for name, values in found.items():
        if values is not None:
            file[f"stage/{name}"] = values


def compare_motion(reconstruction: Path, truth: Path) -> StageAccuracy | None:
    """Compare the motion that a reconstruction found with the scan's truth.

    Parameters
    ----------
    reconstruction
        A reconstruction's file.
    truth
        ``scan_truth.h5`` of its scan.

    Returns
    -------
    StageAccuracy or None
        None where the volume is a user's own and tells no axis.

    Raises
    ------
    DataError
        A file is missing or of another kind.
    IncompatibleError
        They belong to different scans.
    """
    arrays = read_scan_truth(truth, range(1)).arrays
    views = arrays["told_angles_rad"].size
    with open_hdf5(reconstruction) as file:
        if _AXIS not in file.root.attrs:
            return None
        tilt = _found(file, "axis_tilt_rad", 1)
        across, along = (_found(file, name, views) for name in ("column_shift_px", "row_shift_px"))
        found = StageMotion(float(file.root.attrs[_AXIS]), float(tilt[0]), across, along)
    true = StageMotion(
        float(arrays[_AXIS]), float(arrays["axis_tilt_rad"]), arrays["column_shift_px"], arrays["row_shift_px"]
    )
    return stage_accuracy(true, found, arrays["told_angles_rad"])


def _found(file: OpenFile, name: str, size: int) -> NDArray[np.float64]:
    """Return what was found; zeros where it was not looked for."""
    at = f"stage/{name}"
    return np.asarray(file.dataset(at)[()], np.float64).ravel() if file.has(at) else np.zeros(size)
