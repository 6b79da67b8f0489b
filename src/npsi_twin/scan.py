"""The hinge: what leaves any parallel-beam beamline, real or simulated, and its sign conventions.

The model: column ``c`` of view ``v`` sees the line integral of the attenuation along all points of a slice with

    x cos(angle_v) - y sin(angle_v) = (c - rotation_axis_px - column_shift_px[v]) * pixel

where x = (ix - (nx - 1) / 2) * voxel and y = (iy - (ny - 1) / 2) * voxel in array order. This is ASTRA's ``parallel``
geometry for an array whose row 0 is drawn at the top. Sinograms are (row, view, column), projections
(view, row, column).
"""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from npsi_twin.errors import IncompatibleError, ParameterError
from npsi_twin.volumes import FloatArray


def _frozen(array: NDArray[np.generic]) -> NDArray[np.generic]:
    view = array.view()
    view.flags.writeable = False
    return view


@dataclass(frozen=True)
class ParallelBeam:
    """Geometry of a parallel-beam scan.

    Parameters
    ----------
    angles_rad
        Angle of every view in radians, shape (views,).
    columns
        Number of detector columns.
    pixel_nm
        Detector pixel, demagnified to the sample, in nm.
    rotation_axis_px
        Column coordinate of the rotation axis (0 is the centre of the first column); None while it is unknown.
    column_shift_px
        Known sideways shift of the sample's image in every view, in pixels, shape (views,); zeros when None.
    """

    angles_rad: NDArray[np.float64]
    columns: int
    pixel_nm: float
    rotation_axis_px: float | None = None
    column_shift_px: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        angles = np.asarray(self.angles_rad, np.float64)
        shift = np.zeros_like(angles) if self.column_shift_px is None else np.asarray(self.column_shift_px, np.float64)
        if angles.ndim != 1 or angles.size == 0 or not np.all(np.isfinite(angles)):
            raise ParameterError("parallel beam: angles_rad must be a non-empty 1-D array of finite radians.")
        if shift.shape != angles.shape or not np.all(np.isfinite(shift)):
            raise IncompatibleError(
                f"parallel beam: column_shift_px has shape {shift.shape}, angles_rad {angles.shape}; "
                "one shift a view is needed."
            )
        if self.columns < 1 or not (np.isfinite(self.pixel_nm) and self.pixel_nm > 0):
            raise ParameterError(
                f"parallel beam: got {self.columns} columns of {self.pixel_nm} nm; both must be positive."
            )
        object.__setattr__(self, "angles_rad", _frozen(angles))
        object.__setattr__(self, "column_shift_px", _frozen(shift))

    @property
    def views(self) -> int:
        """Number of views."""
        return int(self.angles_rad.size)

    @property
    def centre_px(self) -> float:
        """Column coordinate of the detector's middle, (columns - 1) / 2."""
        return (self.columns - 1) / 2

    def with_axis(self, rotation_axis_px: float) -> "ParallelBeam":
        """Return the same geometry with a known rotation axis."""
        return replace(self, rotation_axis_px=float(rotation_axis_px))

    def known_axis_px(self) -> float:
        """Return the rotation axis, or say that it is unknown."""
        if self.rotation_axis_px is None:
            raise IncompatibleError(
                "parallel beam: the rotation axis is unknown. Find it with `find_rotation_axis` or give it in pixels."
            )
        return self.rotation_axis_px

    def refined(self, factor: int) -> "ParallelBeam":
        """Return the geometry with every pixel cut into ``factor``; axis and shifts keep their place."""
        axis = None if self.rotation_axis_px is None else (self.rotation_axis_px + 0.5) * factor - 0.5
        shift = np.asarray(self.column_shift_px) * factor
        return ParallelBeam(self.angles_rad, self.columns * factor, self.pixel_nm / factor, axis, shift)


@dataclass(frozen=True)
class Scan:
    """Counts as a beamline writes them, for all or some of its detector rows.

    Parameters
    ----------
    projections
        (view, row, column), counts.
    flats
        (frame, row, column), counts with the beam on and the sample out.
    darks
        (frame, row, column), counts with the beam off; shape (0, row, column) when none were taken.
    beam
        Geometry; its axis is None unless the file states it.
    energy_kev
        Photon energy, None when the file does not state it.
    first_row
        Detector row of ``projections[:, 0]`` in the whole scan.
    normalised
        True when projections are already flat-corrected transmissions and flats and darks are empty.
    notes
        What the reader found worth telling (name of the instrument, sample, conversions made).
    flat_views
        Number of projections recorded before each flat field, (frame,): 0 before the scan, ``beam.views`` after it,
        equal numbers for frames of one group; None while it is unknown.
    view_current_ma, flat_current_ma
        Current of the storage ring, mA, positive, while each projection, (view,), and each flat field, (frame,), was
        taken; None while it is unknown.
    """

    projections: NDArray[np.generic]
    flats: NDArray[np.generic]
    darks: NDArray[np.generic]
    beam: ParallelBeam
    energy_kev: float | None = None
    first_row: int = 0
    normalised: bool = False
    notes: dict[str, str] = field(default_factory=dict)
    flat_views: NDArray[np.intp] | None = None
    view_current_ma: NDArray[np.float64] | None = None
    flat_current_ma: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        for name in ("projections", "flats", "darks"):
            array = getattr(self, name)
            if array.ndim != 3:
                raise IncompatibleError(f"scan: {name} has {array.ndim} dimensions; (view, row, column) is needed.")
            if array.shape[1:] != self.projections.shape[1:]:
                raise IncompatibleError(
                    f"scan: {name} frames are {array.shape[1:]}, projections {self.projections.shape[1:]} "
                    "(row, column); they must agree."
                )
            object.__setattr__(self, name, _frozen(array))
        views, _, columns = self.projections.shape
        if (views, columns) != (self.beam.views, self.beam.columns):
            raise IncompatibleError(
                f"scan: {views} views of {columns} columns, but the geometry has {self.beam.views} angles and "
                f"{self.beam.columns} columns."
            )
        if self.flat_views is not None:
            places = np.asarray(self.flat_views, np.intp)
            if places.shape != (len(self.flats),) or np.any((places < 0) | (places > views)):
                raise IncompatibleError(
                    f"scan: flat_views has shape {places.shape} for {len(self.flats)} flat fields, values "
                    f"{places.min(initial=0)} to {places.max(initial=0)}; one number of 0 to {views} views a frame is "
                    "needed."
                )
            object.__setattr__(self, "flat_views", _frozen(places))
        for name, frames in (("view_current_ma", views), ("flat_current_ma", len(self.flats))):
            given = getattr(self, name)
            if given is None:
                continue
            current = np.asarray(given, np.float64)
            if current.shape != (frames,) or not np.all(np.isfinite(current) & (current > 0)):
                raise IncompatibleError(
                    f"scan: {name} has shape {current.shape} for {frames} frames; one positive number of mA for each "
                    "is needed. Leave it out where the ring's current was not recorded."
                )
            object.__setattr__(self, name, _frozen(current))

    @property
    def rows(self) -> int:
        """Number of detector rows held here."""
        return int(self.projections.shape[1])

    def only(self, rows: range) -> "Scan":
        """Return some of the detector rows held here, numbered as in the whole scan.

        Raises
        ------
        IncompatibleError
            Rows that are not held here.
        """
        held = range(self.first_row, self.first_row + self.rows)
        if rows == held:
            return self
        if rows.step != 1 or not held.start <= rows.start < rows.stop <= held.stop:
            raise IncompatibleError(f"scan: {rows} asked for; rows {held.start} to {held.stop - 1} are held here.")
        part = np.s_[:, rows.start - held.start : rows.stop - held.start]
        return replace(
            self,
            projections=self.projections[part],
            flats=self.flats[part],
            darks=self.darks[part],
            first_row=rows.start,
        )


def sinograms(projections: FloatArray) -> FloatArray:
    """Turn projections (view, row, column) into contiguous sinograms (row, view, column)."""
    return np.ascontiguousarray(projections.transpose(1, 0, 2))
