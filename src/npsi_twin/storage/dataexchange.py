"""Scientific Data Exchange files: the raw format of APS beamlines, 32-ID and tomoScan layouts.

`locate` finds frames, angles and quantities in a file that anybody wrote; `create_scan` makes a file in the 32-ID
layout that `write_rows` fills slab by slab. Angles are taken from ``/exchange/theta``, or from the start, step and
number of angles that ``/process/acquisition/rotation`` states. Where in the scan each flat field was taken is told by
tomoScan's record of frames, by the angles or the mode of the flat fields, or by the name of their group
(``data_white_pre``, ``data_white_post``).

References
----------
F. De Carlo et al., "Scientific data exchange: a schema for HDF5-based storage of raw and analyzed data", J. Synchrotron
Rad. 21 (2014) 1224, doi:10.1107/S160057751401604X.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from npsi_twin.execution.files import written_hdf5
from npsi_twin.scan import ParallelBeam, Scan
from npsi_twin.storage.hdf5 import OpenFile
from npsi_twin.storage.scanfile import Located, Reading, hdf5_frames
from npsi_twin.storage.units import ENERGY, LENGTH, currents, quantity, text

DATA, FLATS, DARKS, THETA = "exchange/data", "exchange/data_white", "exchange/data_dark", "exchange/theta"
_ENERGY = "measurement/instrument/monochromator/energy"
_PIXELS = (
    "measurement/instrument/detector/actual_pixel_size_x",
    "measurement/instrument/detection_system/objective/resolution",
)
_ROTATION, _FLAT_FIELDS = "process/acquisition/rotation", "process/acquisition/flat_fields"
#: The ring's current, one number a frame; a single one, as most files have it, says nothing of a change.
_CURRENT = "measurement/instrument/source/current"
_BEFORE, _AFTER = ("pre", "before", "start"), ("post", "after", "end")


def locate(file: OpenFile, reading: Reading) -> Located:
    """Find a scan in a Data Exchange file.

    Parameters
    ----------
    file
        The file.
    reading
        What the caller states; its ``where`` comes before the layout's own places.

    Raises
    ------
    DataError
        When frames are missing or are none, or a stated quantity has an unknown unit.
    """
    where, roots = reading.where, reading.allow_roots
    projections = hdf5_frames(file, [where.get("data", DATA)], roots)
    white = [where["flats"]] if "flats" in where else _groups(file, "data_white")
    dark = [where["darks"]] if "darks" in where else _groups(file, "data_dark")
    flats = hdf5_frames(file, white, roots) if white else None
    theta, unit, place = _theta(file, where.get("theta", THETA), projections.shape[0])
    views = None if flats is None else _flat_views(file, white, theta, projections.shape[0])
    stated = [quantity(file, name, LENGTH) for name in _PIXELS]
    notes = {
        name: text(file.dataset(path)[()])
        for name, path in (("instrument", "measurement/instrument/name"), ("sample", "measurement/sample/name"))
        if file.has(path) and file.dataset(path).size == 1
    }
    if place != THETA:
        notes["angles"] = f"from /{place}"
    current_at = where.get("current", _CURRENT)
    white_current = None if flats is None else currents(file, f"{current_at}_white", flats.shape[0])
    return Located(
        projections,
        flats,
        hdf5_frames(file, dark, roots) if dark else None,
        theta,
        unit,
        place,
        pixel_nm=next((size for size in stated if size is not None), None),
        energy_kev=quantity(file, _ENERGY, ENERGY),
        flat_views=views,
        notes=notes,
        view_current_ma=currents(file, current_at, projections.shape[0]),
        flat_current_ma=white_current,
    )


def _groups(file: OpenFile, kind: str) -> list[str]:
    """Return the data sets of flat or dark fields: those before the scan first, those after it last."""
    exchange = file.get("exchange")
    found = [name for name in exchange if name.startswith(kind)] if isinstance(exchange, h5py.Group) else []

    def order(name: str) -> tuple[int, str]:
        return (_when(name) or 0, name)

    return [f"exchange/{name}" for name in sorted(found, key=order)]


def _when(name: str) -> int | None:
    """Return -1 for a group recorded before the scan, 1 for one after it, None where its name does not tell."""
    ending = name.rsplit("/", 1)[-1].split("_")[-1].rstrip("0123456789")
    return -1 if ending in _BEFORE else 1 if ending in _AFTER else None


def _theta(file: OpenFile, name: str, views: int) -> tuple[NDArray[np.float64] | None, str, str]:
    """Return angles as they stand in the file, their unit, and where they stand."""
    if file.has(name):
        data = file.dataset(name)
        return np.asarray(data[()], np.float64).ravel(), text(data.attrs.get("units", "")), name
    # What the stage was told to do: tomoScan spells the fields with the prefix, the older 32-ID layout without.
    for prefix in ("", "rotation_"):
        start, step = (f"{_ROTATION}/{prefix}{field}" for field in ("start", "step"))
        number = f"{_ROTATION}/num_angles"
        if all(file.has(field) for field in (start, step, number)):
            values = [float(np.ravel(file.dataset(field)[()])[0]) for field in (start, step, number)]
            if values[2] == views:
                unit = text(file.dataset(step).attrs.get("units", ""))
                theta = np.asarray(values[0] + values[1] * np.arange(views), np.float64)
                return theta, unit, f"{_ROTATION} (start and step as commanded)"
    return None, "", name


def _flat_views(
    file: OpenFile, names: list[str], theta: NDArray[np.float64] | None, views: int
) -> NDArray[np.intp] | None:
    """Return how many projections were recorded before each flat field, None where the file does not tell."""
    counts = [len(file.dataset(name)) for name in names]
    total = sum(counts)
    if names == [FLATS]:
        recorded = _from_record(file, total, views)
        if recorded is not None:
            return recorded
        white = f"{FLATS.rsplit('/', 1)[0]}/theta_white"
        if file.has(white) and theta is not None and file.dataset(white).size == total:
            angles = np.asarray(file.dataset(white)[()], np.float64).ravel()
            steps = np.diff(theta)
            if len(steps) and (np.all(steps > 0) or np.all(steps < 0)):
                sign = np.sign(steps[0])
                return np.asarray(np.searchsorted(sign * theta, sign * angles), np.intp)
    elif all(_when(name) is not None for name in names):
        return np.repeat([0 if _when(name) == -1 else views for name in names], counts)
    mode = _mode(file)
    if mode == "both" and total % 2 == 0:
        return np.repeat([0, views], total // 2)
    return np.full(total, {"start": 0, "end": views}[mode]) if mode in ("start", "end") else None


def _from_record(file: OpenFile, flats: int, views: int) -> NDArray[np.intp] | None:
    """Return the places from tomoScan's list of where every frame went, in the order of acquisition."""
    if not file.has("defaults/HDF5FrameLocation"):
        return None
    kinds = [text(item).strip("/") for item in np.ravel(file.dataset("defaults/HDF5FrameLocation")[()])]
    is_flat = np.array([kind == FLATS for kind in kinds])
    before = np.cumsum([kind == DATA for kind in kinds])
    if is_flat.sum() != flats or (before[-1] if len(before) else 0) != views:
        return None
    return np.asarray(before[is_flat], np.intp)


def _mode(file: OpenFile) -> str:
    for name in ("flat_field_mode", "mode"):
        if file.has(f"{_FLAT_FIELDS}/{name}"):
            return text(file.dataset(f"{_FLAT_FIELDS}/{name}")[()]).strip().lower()
    return ""


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
    flat_views: NDArray[np.intp] | None = None,
    chunk_rows: int | None = None,
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
    flat_views
        Number of projections before each flat field; written as tomoScan's record of frames where it is known.
    chunk_rows
        Rows of a frame that are stored together, with a checksum; None stores whole frames without.
    """
    with written_hdf5(path) as file:
        file.attrs["synthetic"] = True
        file["implements"] = "exchange:measurement:process"
        stored = {} if chunk_rows is None else {"chunks": (1, chunk_rows, beam.columns), "fletcher32": True}
        kinds = ((DATA, beam.views, "theta"), (FLATS, flats, "theta_white"), (DARKS, darks, "theta_dark"))
        for name, frames, axis in kinds:
            data = file.create_dataset(name, (frames, rows, beam.columns), np.uint16, **stored)
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
        if flat_views is not None:
            _write_record(file, beam.views, flat_views, darks)
        yield file


def _write_record(file: h5py.File, views: int, flat_views: NDArray[np.intp], darks: int) -> None:
    """Write where every frame went, in the order of acquisition: darks, then projections with flats between them."""
    kinds = [f"/{DARKS}"] * darks
    for view in range(views + 1):
        kinds += [f"/{FLATS}"] * int(np.count_nonzero(flat_views == view))
        kinds += [f"/{DATA}"] if view < views else []
    file["defaults/HDF5FrameLocation"] = np.array([kind.encode() for kind in kinds])
    file["defaults/NDArrayUniqueId"] = np.arange(1, len(kinds) + 1, dtype=np.int32)


def placed_rows(scan: Scan) -> dict[str, NDArray[np.generic]]:
    """Return the counts of some detector rows, (frame, row, column), by the data set where they belong."""
    return {DATA: scan.projections, FLATS: scan.flats, DARKS: scan.darks}


def write_rows(file: h5py.File, scan: Scan) -> None:
    """Write the counts of some detector rows to where they belong."""
    for name, counts in placed_rows(scan).items():
        file[name][:, scan.first_row : scan.first_row + scan.rows, :] = counts
