"""A scan on disk, whatever its layout: where its frames lie, what it states, and what the caller states for it.

A layout's reader (`dataexchange`, `nexus`, `fxi`, `tiffstack`) gives `Located`: frames, angles as they stand in the
file, and the quantities that the file states. `npsi_twin.storage.formats.open_scan` checks it and makes a `ScanFile`,
which hands out any detector rows as a `Scan`. Frames stay on disk until they are asked for; a `ScanFile` holds no open
file, so it can be sent to worker processes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from npsi_twin.errors import DataError, ParameterError
from npsi_twin.execution import file_sha256
from npsi_twin.scan import ParallelBeam, Scan
from npsi_twin.storage.hdf5 import OpenFile, open_hdf5

ThetaUnit = Literal["deg", "rad"]
#: What `Reading.where` may name.
PLACES = ("data", "flats", "darks", "theta", "image_key", "entry", "current")


@dataclass(frozen=True)
class Reading:
    """What a caller states about a scan whose file says too little.

    Attributes
    ----------
    theta
        Angles as ``"start:stop:exclusive"`` or ``"start:stop:inclusive"`` in degrees, evenly spread over the
        projections; empty takes the file's.
    where
        Place -> path inside the HDF5 file, for layouts that are not known; places are `PLACES`.
    line_integrals
        The projections are negative logarithms of the transmission already.
    allow_roots
        Folders in which files that the scan links to may lie, besides the scan's own.
    repair
        Values that are not finite are let through, for the corrections to replace and count.
    flats_from_air
        A scan without flat fields is let through, for the corrections to take the air beside the sample.
    """

    theta: str = ""
    where: Mapping[str, str] = field(default_factory=dict)
    line_integrals: bool = False
    allow_roots: tuple[Path, ...] = ()
    repair: bool = False
    flats_from_air: bool = False

    def __post_init__(self) -> None:
        unknown = sorted(set(self.where) - set(PLACES))
        if unknown:
            raise ParameterError(f"--where: got {', '.join(unknown)}; known are {', '.join(PLACES)}.")
        if self.theta:
            spread_angles(self.theta, 2)
        object.__setattr__(self, "where", MappingProxyType(dict(self.where)))

    def as_request(self) -> dict[str, Any]:
        """Return what decides how a scan is read, for the record of a run."""
        return {
            "theta": self.theta,
            "where": dict(self.where),
            "line_integrals": self.line_integrals,
            "repair": self.repair,
            "flats_from_air": self.flats_from_air,
        }


def spread_angles(text: str, views: int) -> NDArray[np.float64]:
    """Return angles in radians that a caller states in words.

    Examples
    --------
    >>> np.degrees(spread_angles("0:180:exclusive", 4))
    array([  0.,  45.,  90., 135.])
    """
    parts = text.split(":")
    try:
        start, stop = float(parts[0]), float(parts[1])
        end = {"exclusive": False, "inclusive": True}[parts[2]]
    except (ValueError, IndexError, KeyError):
        start = stop = np.nan
        end = False
    if len(parts) != 3 or not np.isfinite(start) or not np.isfinite(stop) or start == stop:
        raise ParameterError(
            f"--theta: got {text!r}; write start:stop:exclusive or start:stop:inclusive in degrees, for example "
            "0:180:exclusive. Whether the last view stands at the end is part of the statement."
        )
    return np.deg2rad(np.linspace(start, stop, views, endpoint=end))


class Frames(Protocol):
    """Frames of one kind, on disk until they are asked for."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(frames, rows, columns)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values as stored."""

    @property
    def name(self) -> str:
        """Where they lie, for messages."""

    def read(self, rows: range) -> NDArray[Any]:
        """Return some rows of every frame, (frame, row, column)."""

    def frame(self, number: int) -> NDArray[Any]:
        """Return one whole frame, (row, column)."""

    def each(self) -> Iterator[NDArray[Any]]:
        """Read whole frames one at a time."""

    def files(self) -> list[Path]:
        """Return every file that is read."""


@dataclass(frozen=True)
class Hdf5Frames:
    """Frames in data sets of an HDF5 file.

    Attributes
    ----------
    path, roots
        The file, and where files that it links to may lie.
    parts
        (data set, first frame, frame after the last), in the order of the frames.
    shape, dtype
        Of all parts together.
    """

    path: Path
    roots: tuple[Path, ...]
    parts: tuple[tuple[str, int, int], ...]
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]

    @property
    def name(self) -> str:
        """Name of the first data set."""
        return "/" + self.parts[0][0].strip("/")

    def read(self, rows: range) -> NDArray[Any]:
        """Return some rows of every frame, (frame, row, column)."""
        found = np.empty((self.shape[0], len(rows), self.shape[2]), self.dtype)
        done = 0
        with open_hdf5(self.path, self.roots) as file:
            for name, start, stop in self.parts:
                file.dataset(name).read_direct(
                    found, np.s_[start:stop, rows.start : rows.stop], np.s_[done : done + stop - start]
                )
                done += stop - start
        return native(found)

    def frame(self, number: int) -> NDArray[Any]:
        """Return one whole frame, (row, column)."""
        with open_hdf5(self.path, self.roots) as file:
            for name, start, stop in self.parts:
                if number < stop - start:
                    return native(file.dataset(name)[start + number])
                number -= stop - start
        raise IndexError(number)

    def each(self) -> Iterator[NDArray[Any]]:
        """Read whole frames one at a time."""
        with open_hdf5(self.path, self.roots) as file:
            for name, start, stop in self.parts:
                data = file.dataset(name)
                for number in range(start, stop):
                    yield native(data[number])

    def files(self) -> list[Path]:
        """Return the file and those that its links lead to."""
        with open_hdf5(self.path, self.roots) as file:
            for name, _, _ in self.parts:
                file.dataset(name)
            return file.files


def hdf5_frames(file: OpenFile, names: list[str], roots: tuple[Path, ...]) -> Hdf5Frames:
    """Locate whole data sets of frames, one after the other.

    Raises
    ------
    DataError
        When they are not (frame, row, column) of real numbers, or differ in shape.
    """
    parts = tuple((name, 0, len(frames_of(file, name))) for name in names)
    return chosen_frames(file, parts, roots)


def chosen_frames(file: OpenFile, parts: tuple[tuple[str, int, int], ...], roots: tuple[Path, ...]) -> Hdf5Frames:
    """Locate runs of frames in data sets; see `hdf5_frames`."""
    first = frames_of(file, parts[0][0])
    total = 0
    for name, start, stop in parts:
        data = frames_of(file, name)
        if data.shape[1:] != first.shape[1:] or data.dtype != first.dtype:
            raise DataError(
                f"{file.path}: /{name} frames are {data.shape[1:]} {data.dtype}, /{parts[0][0]} frames "
                f"{first.shape[1:]} {first.dtype}; they must agree."
            )
        total += stop - start
    return Hdf5Frames(file.path, roots, parts, (total, *first.shape[1:]), first.dtype)


def frames_of(file: OpenFile, name: str) -> Any:
    """Return a checked data set of frames; a single one of (row, column) is not taken for a stack."""
    data = file.dataset(name)
    if data.ndim != 3 or 0 in data.shape:
        raise DataError(f"{file.path}: /{name} has the shape {data.shape}; frames as (frame, row, column) are needed.")
    if data.dtype.kind not in "uif":
        raise DataError(f"{file.path}: /{name} is of type {data.dtype}; real numbers are needed.")
    return data


def native(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array in the machine's byte order, half precision widened; nothing is lost."""
    # Half precision is widened: numpy's sums over it overflow at 65504.
    kind = np.dtype(np.float32) if array.dtype == np.float16 else array.dtype.newbyteorder("=")
    return array.astype(kind, copy=False)


@dataclass(frozen=True)
class Located:
    """What a layout's reader found; nothing in it is checked but the shape and type of the frames.

    Attributes
    ----------
    projections, flats, darks
        Frames; None where the file has none.
    theta
        Angles as they stand in the file, None where it states none.
    theta_unit
        Their unit as stated by the file or fixed by its layout; empty where neither does.
    theta_place
        Where they stand, for messages.
    pixel_nm, energy_kev
        What the file states.
    flat_views, view_current_ma, flat_current_ma
        See `npsi_twin.scan.Scan`.
    notes
        Names, conversions, what was left out.
    """

    projections: Frames
    flats: Frames | None
    darks: Frames | None
    theta: NDArray[np.float64] | None
    theta_unit: str
    theta_place: str
    pixel_nm: float | None = None
    energy_kev: float | None = None
    flat_views: NDArray[np.intp] | None = None
    notes: dict[str, str] = field(default_factory=dict)
    view_current_ma: NDArray[np.float64] | None = None
    flat_current_ma: NDArray[np.float64] | None = None


def middle_rows(rows: int, most: int) -> range:
    """Return up to ``most`` of a detector's rows about its middle."""
    count = min(most, rows)
    start = (rows - count) // 2
    return range(start, start + count)


def spread_rows(rows: int, groups: int = 8, most: int = 4) -> list[range]:
    """Return groups of up to ``most`` neighbouring rows, spread evenly over a detector."""
    groups = min(groups, rows)
    cuts = [rows * group // groups for group in range(groups + 1)]
    middles = [(cuts[group] + cuts[group + 1]) // 2 for group in range(groups)]
    heights = [min(most, cuts[group + 1] - cuts[group]) for group in range(groups)]
    starts = [middle - height // 2 for middle, height in zip(middles, heights, strict=True)]
    return [range(start, start + height) for start, height in zip(starts, heights, strict=True)]


@dataclass(frozen=True)
class ScanFile:
    """An opened and checked scan file; the counts stay on disk until they are asked for.

    Attributes
    ----------
    path
        The file, or the folder of a TIFF stack.
    beam
        Geometry. ``pixel_nm`` is 1000 (so that results are per pixel) where ``pixel_known`` is False.
    rows
        Number of detector rows.
    pixel_known
        Whether the file or the caller stated the pixel size.
    energy_kev
        Photon energy, None where the file does not state it.
    normalised
        Whether the projections are transmissions that need no flat fields.
    notes
        Layout, names of instrument and sample, conversions made.
    projections, flats, darks
        Where the frames lie; None where there are none.
    flat_views
        Number of projections before each flat field; see `npsi_twin.scan.Scan`.
    line_integrals
        Whether the projections on disk are negative logarithms, which `read` turns into transmissions.
    view_current_ma, flat_current_ma
        Current of the storage ring; see `npsi_twin.scan.Scan`.
    """

    path: Path
    beam: ParallelBeam
    rows: int
    pixel_known: bool
    energy_kev: float | None
    normalised: bool
    notes: dict[str, str]
    projections: Frames
    flats: Frames | None
    darks: Frames | None
    flat_views: NDArray[np.intp] | None
    line_integrals: bool
    view_current_ma: NDArray[np.float64] | None = None
    flat_current_ma: NDArray[np.float64] | None = None

    def read(self, rows: range) -> Scan:
        """Read some detector rows, with their flat and dark fields.

        Parameters
        ----------
        rows
            Contiguous rows inside ``range(self.rows)``.
        """
        if rows.step != 1 or not 0 <= rows.start < rows.stop <= self.rows:
            raise DataError(f"{self.path}: rows {rows} asked for, the file has 0 to {self.rows - 1}.")
        projections = self._transmission(self.projections.read(rows))
        empty = np.empty((0, *projections.shape[1:]), projections.dtype)
        return Scan(
            projections=projections,
            flats=empty if self.normalised or self.flats is None else self.flats.read(rows),
            darks=empty if self.normalised or self.darks is None else self.darks.read(rows),
            beam=self.beam,
            energy_kev=self.energy_kev,
            first_row=rows.start,
            normalised=self.normalised,
            notes=self.notes,
            flat_views=None if self.normalised else self.flat_views,
            view_current_ma=self.view_current_ma,
            flat_current_ma=None if self.normalised else self.flat_current_ma,
        )

    def _transmission(self, values: NDArray[Any]) -> NDArray[Any]:
        if not self.line_integrals:
            return values
        # 80: exp(-80) is still a normal number, and nothing that passes so little is measured.
        return np.asarray(np.exp(-np.minimum(values, 80), dtype=np.float32))

    def read_projection(self, view: int) -> NDArray[np.float64]:
        """Read one whole projection, (row, column)."""
        return np.asarray(self._transmission(self.projections.frame(view)), np.float64)

    def read_mean_flat(self) -> NDArray[np.float64]:
        """Read the mean flat field, (row, column); ones for normalised projections."""
        if self.normalised or self.flats is None:
            return np.ones((self.rows, self.beam.columns))
        total = np.zeros((self.rows, self.beam.columns))
        for image in self.flats.each():
            total += image
        return total / self.flats.shape[0]

    def middle_rows(self, most: int = 16) -> range:
        """Return up to ``most`` rows about the middle of the detector, for finding the rotation axis."""
        return middle_rows(self.rows, most)

    def spread_rows(self, groups: int = 8, most: int = 4) -> list[range]:
        """Return groups of neighbouring rows, spread evenly over the detector, for the tilt of the rotation axis."""
        return spread_rows(self.rows, groups, most)

    def sha256(self) -> str:
        """Return the hash of the scan: the file's own, or that of the hashes of all files that it is made of."""
        files: dict[Path, None] = {}
        for frames in (self.projections, self.flats, self.darks):
            files |= dict.fromkeys(frames.files() if frames is not None else [])
        digests = [file_sha256(path) for path in files]
        return digests[0] if len(digests) == 1 else sha256("\n".join(digests).encode()).hexdigest()
