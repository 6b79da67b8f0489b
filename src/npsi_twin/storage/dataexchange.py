"""Scientific Data Exchange files: the raw format of APS beamlines, 32-ID layout.

`open_scan` reads the head of a file, checks it and gives a `ScanFile` that hands out any detector rows as a `Scan`;
`create_scan` makes a file that `write_rows` fills slab by slab. Nothing is invented: angles, flat fields and units that
the file does not state must be given by the caller or are an error.

References
----------
F. De Carlo et al., "Scientific data exchange: a schema for HDF5-based storage of raw and analyzed data", J. Synchrotron
Rad. 21 (2014) 1224, doi:10.1107/S160057751401604X.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from npsi_twin.errors import DataError, ParameterError
from npsi_twin.scan import ParallelBeam, Scan

DATA, FLATS, DARKS, THETA = "exchange/data", "exchange/data_white", "exchange/data_dark", "exchange/theta"
_ENERGY = "measurement/instrument/monochromator/energy"
_PIXELS = (
    "measurement/instrument/detector/actual_pixel_size_x",
    "measurement/instrument/detection_system/objective/resolution",
)
_NM = {
    "nm": 1.0,
    "nanometer": 1.0,
    "um": 1e3,
    "micron": 1e3,
    "microns": 1e3,
    "micrometer": 1e3,
    "µm": 1e3,
    "mm": 1e6,
    "m": 1e9,
}
_KEV = {"kev": 1.0, "ev": 1e-3, "j": 1 / 1.602176634e-16}
_RADIANS = {
    "deg": np.pi / 180,
    "degree": np.pi / 180,
    "degrees": np.pi / 180,
    "rad": 1.0,
    "radian": 1.0,
    "radians": 1.0,
}
ThetaUnit = Literal["deg", "rad"]


@dataclass(frozen=True)
class ScanFile:
    """An opened and checked scan file; the counts stay on disk until they are asked for.

    Attributes
    ----------
    path
        The file.
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
        Name of instrument and sample, conversions made.
    """

    path: Path
    beam: ParallelBeam
    rows: int
    pixel_known: bool
    energy_kev: float | None
    normalised: bool
    notes: dict[str, str] = field(default_factory=dict)

    def read(self, rows: range) -> Scan:
        """Read some detector rows, with their flat and dark fields.

        Parameters
        ----------
        rows
            Contiguous rows inside ``range(self.rows)``.
        """
        if rows.step != 1 or not 0 <= rows.start < rows.stop <= self.rows:
            raise DataError(f"{self.path}: rows {rows} asked for, the file has 0 to {self.rows - 1}.")
        part = np.s_[:, rows.start : rows.stop, :]
        with _opened(self.path) as file:
            projections = _dataset(file, DATA)[part]
            empty = np.empty((0, *projections.shape[1:]), projections.dtype)
            flats = empty if self.normalised else _dataset(file, FLATS)[part]
            darks = _dataset(file, DARKS)[part] if DARKS in file and not self.normalised else empty
        return Scan(
            projections=_native(projections),
            flats=_native(flats),
            darks=_native(darks),
            beam=self.beam,
            energy_kev=self.energy_kev,
            first_row=rows.start,
            normalised=self.normalised,
            notes=self.notes,
        )

    def read_projection(self, view: int) -> NDArray[np.float64]:
        """Read one whole projection, (row, column)."""
        with _opened(self.path) as file:
            return np.asarray(_dataset(file, DATA)[view], np.float64)

    def read_mean_flat(self) -> NDArray[np.float64]:
        """Read the mean flat field, (row, column); ones for normalised projections."""
        if self.normalised:
            return np.ones((self.rows, self.beam.columns))
        with _opened(self.path) as file:
            flats = _dataset(file, FLATS)
            return np.asarray(sum(np.asarray(frame, np.float64) for frame in flats) / len(flats))

    def middle_rows(self, most: int = 16) -> range:
        """Return up to ``most`` rows about the middle of the detector, for finding the rotation axis."""
        count = min(most, self.rows)
        start = (self.rows - count) // 2
        return range(start, start + count)


def _native(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(array.dtype.newbyteorder("="), copy=False)


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    if not path.is_file():
        raise DataError(f"{path}: no such file.")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        size = path.stat().st_size
        raise DataError(
            f"{path}: not a readable HDF5 file of {size} bytes ({error}). Copy it anew from the beamline."
        ) from None
    with file:
        yield file


def _dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """Return a data set that lies in this very file; links out of it could read any file of the user's."""
    group: h5py.Group = file
    parts = name.split("/")
    for depth, part in enumerate(parts):
        link = group.get(part, getlink=True) if part in group else None
        if isinstance(link, h5py.ExternalLink):
            raise DataError(
                f"{file.filename}: /{name} is a link to another file, which is not followed. Copy the data in."
            )
        item = None if link is None else group.get(part)
        if depth < len(parts) - 1 and isinstance(item, h5py.Group):
            group = item
        elif depth == len(parts) - 1 and isinstance(item, h5py.Dataset):
            if item.external or item.is_virtual:
                raise DataError(
                    f"{file.filename}: /{name} keeps its data in other files, which are not opened. Copy the data in."
                )
            return item
        else:
            raise DataError(f"{file.filename}: has no data set /{name}.")
    raise DataError(f"{file.filename}: has no data set /{name}.")


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _quantity(file: h5py.File, name: str, units: dict[str, float]) -> float | None:
    """Return a scalar with a stated unit in our unit, or None where the file does not have it."""
    if name not in file:
        return None
    data = _dataset(file, name)
    unit = _text(data.attrs.get("units", "")).strip()
    factor = units.get(unit.lower())
    if factor is None:
        raise DataError(
            f"{file.filename}: /{name} has the unit '{unit}'; known are {', '.join(units)}. "
            "Correct the file's attribute."
        )
    try:
        value = float(np.ravel(data[()])[0]) * factor
    except (ValueError, TypeError, IndexError):
        value = float("nan")
    if not (np.isfinite(value) and value > 0):
        raise DataError(f"{file.filename}: /{name} is not a positive number. Correct the file.")
    return value


def _frames(file: h5py.File, name: str, like: tuple[int, ...] | None = None) -> h5py.Dataset:
    data = _dataset(file, name)
    if data.ndim != 3 or 0 in data.shape:
        raise DataError(
            f"{file.filename}: /{name} has the shape {data.shape}; frames as (frame, row, column) are needed."
        )
    if data.dtype.kind not in "uif":
        raise DataError(f"{file.filename}: /{name} is of type {data.dtype}; real numbers are needed.")
    if like is not None and data.shape[1:] != like[1:]:
        raise DataError(
            f"{file.filename}: /{name} frames are {data.shape[1:]}, /{DATA} frames {like[1:]} (row, column); "
            "they must agree."
        )
    return data


def _angles(file: h5py.File, views: int, theta_unit: ThetaUnit | None) -> NDArray[np.float64]:
    if THETA not in file:
        raise DataError(
            f"{file.filename}: states no angles (/{THETA} is missing), and none are invented. "
            "Add them to the file: one number a projection, with the attribute units='deg'."
        )
    data = _dataset(file, THETA)
    theta = np.asarray(data[()], np.float64).ravel()
    if theta.size != views:
        raise DataError(
            f"{file.filename}: /{THETA} holds {theta.size} angles for {views} projections; they must agree."
        )
    if not np.all(np.isfinite(theta)):
        raise DataError(f"{file.filename}: /{THETA} holds NaN or infinity; every projection needs its angle.")
    unit = theta_unit or _text(data.attrs.get("units", "")).strip().lower()
    if unit not in _RADIANS:
        raise DataError(
            f"{file.filename}: /{THETA} has the unit '{unit}', and radians and degrees cannot be told apart by "
            "guessing. Give --theta-unit deg or --theta-unit rad."
        )
    angles = theta * _RADIANS[unit]
    if views > 1 and np.ptp(angles) < 1e-6:
        raise DataError(f"{file.filename}: all {views} angles are the same; a tomogram needs a rotation.")
    if views > 50 and np.ptp(angles) < 0.13:
        raise DataError(
            f"{file.filename}: /{THETA} spans {np.degrees(np.ptp(angles)):.2f} degrees with {views} projections; "
            "these look like radians called degrees. Give --theta-unit rad."
        )
    return angles


def open_scan(
    path: Path,
    *,
    pixel_nm: float | None = None,
    theta_unit: ThetaUnit | None = None,
    assume_normalised: bool = False,
) -> ScanFile:
    """Open a Data Exchange file and check everything that can be checked before any work begins.

    Parameters
    ----------
    path
        The file.
    pixel_nm
        Pixel at the sample in nm; overrides what the file states.
    theta_unit
        Unit of the angles; overrides what the file states.
    assume_normalised
        The projections are transmissions already (flat and dark fields are neither needed nor used).

    Raises
    ------
    DataError
        For everything that is missing, does not fit, or is not a number; says where, and what to do.
    """
    with _opened(path) as file:
        data = _frames(file, DATA)
        views, rows, columns = data.shape
        if FLATS in file:
            _frames(file, FLATS, data.shape)
        elif not assume_normalised:
            raise DataError(
                f"{path}: holds no flat fields (/{FLATS} is missing), and none are invented. "
                "If the projections are already divided by the flat field, say --assume-normalised."
            )
        if DARKS in file:
            _frames(file, DARKS, data.shape)
        angles = _angles(file, views, theta_unit)
        if pixel_nm is not None and not (np.isfinite(pixel_nm) and pixel_nm > 0):
            raise ParameterError(f"--pixel-nm: got {pixel_nm}; a positive number of nm is needed.")
        stated = [_quantity(file, name, _NM) for name in _PIXELS]
        pixel = pixel_nm if pixel_nm is not None else next((size for size in stated if size is not None), None)
        energy = _quantity(file, _ENERGY, _KEV)
        notes = {
            name: _text(_dataset(file, where)[()])
            for name, where in (("instrument", "measurement/instrument/name"), ("sample", "measurement/sample/name"))
            if where in file and _dataset(file, where).shape == ()
        }
        largest = _check_finite(file)
        if largest is not None and largest <= 1.5 and not assume_normalised:
            raise DataError(
                f"{path}: the projections are not above {largest:g}, so they are transmissions rather than counts. If "
                "they are divided by the flat field already, say --assume-normalised."
            )
    beam = ParallelBeam(angles, columns, 1000.0 if pixel is None else pixel)
    return ScanFile(path, beam, rows, pixel is not None, energy, assume_normalised, notes)


def _check_finite(file: h5py.File) -> float | None:
    """Refuse NaN and infinity, which spoil whole slices; return the largest of projections stored as real numbers."""
    largest = None
    for name in (DATA, FLATS, DARKS):
        if name not in file or _dataset(file, name).dtype.kind != "f":
            continue
        count, first = 0, None
        for frame, image in enumerate(_dataset(file, name)):
            if name == DATA:
                largest = max(float(image.max()), largest if largest is not None else -np.inf)
            bad = np.argwhere(~np.isfinite(image))
            if bad.size:
                count += len(bad)
                first = first or (frame, *map(int, bad[0]))
        if count:
            raise DataError(
                f"{file.filename}: /{name} holds {count} values that are NaN or infinite, the first at (frame, row, "
                f"column) {first}. They would spoil whole slices; replace or mask them in the file."
            )
    return largest


@contextmanager
def create_scan(
    path: Path,
    *,
    beam: ParallelBeam,
    rows: int,
    flats: int,
    darks: int,
    energy_kev: float,
    sample: str,
    facts: dict[str, tuple[Any, str]],
) -> Iterator[h5py.File]:
    """Create a Data Exchange file of 16-bit counts in the 32-ID layout, to be filled by `write_rows`.

    Parameters
    ----------
    path
        The file; an existing one is replaced, so give a temporary name (`execution.written_whole`).
    beam
        Geometry; angles are written in degrees.
    rows, flats, darks
        Number of detector rows, flat fields and dark fields.
    energy_kev
        Photon energy.
    sample
        Name of the sample.
    facts
        More of the 32-ID layout: path below /measurement or /process -> (value, unit or "").
    """
    with h5py.File(path, "w") as file:
        file.attrs["synthetic"] = True
        file["implements"] = "exchange:measurement:process"
        kinds = ((DATA, beam.views, "theta"), (FLATS, flats, "theta_white"), (DARKS, darks, "theta_dark"))
        for name, frames, axis in kinds:
            data = file.create_dataset(name, (frames, rows, beam.columns), np.uint16)
            data.attrs.update({"units": "counts", "axes": f"{axis}:y:x", "description": "ImageData"})
        every: dict[str, tuple[Any, str]] = {
            THETA: (np.degrees(beam.angles_rad), "deg"),
            "measurement/instrument/name": ("virtual TXM", ""),
            _ENERGY: (energy_kev, "keV"),
            _PIXELS[0]: (beam.pixel_nm, "nm"),
            _PIXELS[1]: (beam.pixel_nm / 1000, "um"),
            "measurement/sample/name": (sample, ""),
            **facts,
        }
        for name, (value, unit) in every.items():
            file[name] = value
            if unit:
                file[name].attrs["units"] = unit
        yield file


def write_rows(file: h5py.File, scan: Scan) -> None:
    """Write the counts of some detector rows to where they belong."""
    rows = np.s_[:, scan.first_row : scan.first_row + scan.rows, :]
    for name, counts in ((DATA, scan.projections), (FLATS, scan.flats), (DARKS, scan.darks)):
        file[name][rows] = counts
