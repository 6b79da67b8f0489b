"""A rotation axis that is not parallel to the detector's columns: how much, and taken out.

Takes line integrals (row, view, column), gives an `AxisTilt`. The axis is found in groups of rows, and a line

    axis(row) = px + slope (row - reference_row)

is laid through what was found, weighed by the uncertainties. `take_tilt_out` moves every row by its own distance from
the line's middle, which is what a small tilt in the plane of the detector does to first order; to second order it also
mixes rows, by slope times the distance from the axis, in columns: a slope of 1e-3 by one row at 1000 pixels. Holds for
slopes at which that is below a row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from npsi_twin.errors import IncompatibleError
from npsi_twin.reconstruction.alignment import AxisMethod, find_rotation_axis
from npsi_twin.reconstruction.reprojection import take_back
from npsi_twin.reconstruction.rotation import RotationAxis
from npsi_twin.scan import ParallelBeam
from npsi_twin.volumes import FloatArray


@dataclass(frozen=True)
class AxisTilt:
    """A straight axis across the rows.

    Attributes
    ----------
    px
        Column of the axis at the reference row.
    slope
        Columns a row: the tangent of the tilt.
    uncertainty
        One standard deviation of the slope, from the scatter about the line.
    reference_row
        Row of the scan, at the middle of those given.
    """

    px: float
    slope: float
    uncertainty: float
    reference_row: float

    @property
    def angle_rad(self) -> float:
        """Angle by which the axis leans towards higher columns at higher rows."""
        return float(np.arctan(self.slope))


def find_axis_tilt(
    line_integrals: FloatArray,
    beam: ParallelBeam,
    *,
    first_row: int = 0,
    groups: int = 8,
    method: AxisMethod = "auto",
) -> AxisTilt:
    """Find the tilt of the rotation axis in the plane of the detector.

    Parameters
    ----------
    line_integrals
        (row, view, column), dimensionless; the more rows they span, the better.
    beam
        Geometry; its axis is not looked at.
    first_row
        Row of the scan that comes first.
    groups
        Groups of neighbouring rows whose axis is found, at least 3.
    method
        As for `find_rotation_axis`.

    Returns
    -------
    AxisTilt
        The line through the groups' axes.

    Raises
    ------
    IncompatibleError
        Fewer rows than groups, or fewer than 3 groups.
    NotConvergedError, DataError
        See `find_rotation_axis`.

    Examples
    --------
    A blob in nine rows about an axis that moves by a fiftieth of a pixel a row:

    >>> beam = ParallelBeam(np.pi * np.arange(90) / 90, columns=64, pixel_nm=50.0)
    >>> axis = 30.3 + 0.02 * np.arange(9)[:, None, None]
    >>> place = axis + 15 * np.cos(beam.angles_rad[:, None])
    >>> blob = np.exp(-(((np.arange(64) - place) / 4) ** 2)).astype(np.float32)
    >>> tilt = find_axis_tilt(blob, beam, groups=3)
    >>> round(tilt.slope, 3), round(tilt.px, 2)
    (0.02, 30.38)
    """
    rows = line_integrals.shape[0]
    if groups < 3 or rows < groups:
        raise IncompatibleError(
            f"find_axis_tilt: got {rows} rows for {groups} groups; at least 3 groups of one row are needed for a line "
            "and its scatter. Give more rows."
        )
    cuts = np.linspace(0, rows, groups + 1).astype(int)
    parts = [slice(a, b) for a, b in pairwise(cuts)]
    found = [find_rotation_axis(line_integrals[part], beam, method) for part in parts]
    return axis_line(first_row + np.array([(part.start + part.stop - 1) / 2 for part in parts]), found)


def axis_line(rows: NDArray[np.float64], axes: Sequence[RotationAxis]) -> AxisTilt:
    """Lay a line through the axes of at least three groups of rows.

    Parameters
    ----------
    rows
        Middle row of every group, (group,).
    axes
        Their axes.

    Returns
    -------
    AxisTilt
        Of least squares; its reference row is the middle between the outermost groups.

    Examples
    --------
    >>> axes = [RotationAxis(px, 0.1, "given") for px in (30.0, 31.0, 32.0)]
    >>> round(axis_line(np.array([0.0, 10.0, 20.0]), axes).slope, 9)
    0.1
    """
    found = np.array([axis.px for axis in axes])
    reference = float(rows.min() + rows.max()) / 2
    (slope, px), covariance = np.polyfit(rows - reference, found, 1, cov="unscaled")
    scatter = float(np.sum((found - px - slope * (rows - reference)) ** 2)) / (found.size - 2)
    return AxisTilt(float(px), float(slope), float(np.sqrt(scatter * covariance[0, 0])), reference)


def take_tilt_out(line_integrals: FloatArray, tilt: AxisTilt, *, first_row: int = 0) -> FloatArray:
    """Move every row along the columns so that the axis is `AxisTilt.px` in all of them.

    Parameters
    ----------
    line_integrals
        (row, view, column).
    tilt
        From `find_axis_tilt`.
    first_row
        Row of the scan that comes first; any slab gives the same rows as the whole.

    Returns
    -------
    FloatArray
        (row, view, column).

    Examples
    --------
    >>> lines = np.zeros((2, 1, 9), np.float32)
    >>> lines[:, 0, 4] = 1.0
    >>> moved = take_tilt_out(lines, AxisTilt(4.0, 2.0, 0.0, 0.0))
    >>> moved[:, 0].argmax(axis=1)
    array([4, 2])
    """
    place = first_row + np.arange(len(line_integrals)) - tilt.reference_row
    views = line_integrals.shape[1]
    rows = [
        take_back(row[None], np.full(views, tilt.slope * distance), np.zeros(views))
        for row, distance in zip(line_integrals, place, strict=True)
    ]
    return np.concatenate(rows)
