"""NXtomo files: the NeXus layout of tomography at ESRF, Diamond, DESY, SOLEIL and others.

`locate` finds the frames, whose kinds ``image_key`` tells (0 projection, 1 flat, 2 dark, 3 invalid), the rotation
angles, pixel and energy. An entry counts as a scan where its ``definition`` is NXtomo, or where one of its detectors
has both frames and image keys, as Diamond's raw files do. `create_nxtomo` makes a file that `write_nxtomo_rows` fills
slab by slab.

References
----------
NeXus International Advisory Committee, application definition NXtomo, https://manual.nexusformat.org.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from npsi_twin.errors import DataError
from npsi_twin.execution.files import written_hdf5
from npsi_twin.scan import ParallelBeam, Scan
from npsi_twin.storage.hdf5 import OpenFile
from npsi_twin.storage.scanfile import Hdf5Frames, Located, Reading, chosen_frames, frames_of
from npsi_twin.storage.units import ENERGY, LENGTH, currents, quantity, text

ENTRY = "entry0000"
_FRAMES = f"{ENTRY}/instrument/detector/data"
PROJECTION, FLAT, DARK, INVALID = 0, 1, 2, 3
_DEEPEST = 3
#: Sample to camera, m: a lens of 180 um and 60 nm outer zones at 8 keV has f = 70 mm, and magnifies 46 times at 32-ID-C
#: (inferred). Validators ask for it; nothing depends on it, since the objective images the sample on the camera.
_DISTANCE_M = 3.4


def entries(file: OpenFile) -> list[str]:
    """Return the groups that hold a scan."""
    marked: list[str] = []
    plain: list[str] = []
    seen: set[tuple[int, int]] = set()

    def visit(name: str, depth: int) -> None:
        group = _reachable(file, name)
        if not isinstance(group, h5py.Group):
            return
        facts = h5py.h5o.get_info(group.id)
        if (facts.fileno, facts.addr) in seen:  # under another name, or within itself
            return
        seen.add((facts.fileno, facts.addr))
        if _word(file, f"{name}/definition") == "NXtomo":
            marked.append(name)
            return
        if isinstance(_reachable(file, f"{name}/instrument"), h5py.Group) and _detectors(file, name):
            plain.append(name)
        if depth < _DEEPEST:
            for child in group:
                visit(f"{name}/{child}".lstrip("/"), depth + 1)

    visit("", 0)
    return marked or plain


def _reachable(file: OpenFile, name: str) -> h5py.Group | h5py.Dataset | None:
    """Return what a name stands for; raw files hold links to files that nobody copied and nobody needs."""
    try:
        return file.get(name)
    except DataError:
        return None


def _word(file: OpenFile, name: str) -> str:
    """Return a text of the file, empty where it has none; like every data set it is checked before it is read."""
    try:
        found = file.dataset(name)
        return text(found[()]).strip() if found.size == 1 else ""
    except DataError:
        return ""


def _detectors(file: OpenFile, entry: str) -> list[str]:
    """Return the detectors of an entry that have frames and image keys."""
    instrument = f"{entry}/instrument".lstrip("/")
    group = _reachable(file, instrument)
    names = [f"{instrument}/{name}" for name in group] if isinstance(group, h5py.Group) else []
    return [
        name
        for name in names
        if isinstance(_reachable(file, f"{name}/image_key"), h5py.Dataset)
        and isinstance(data := _reachable(file, f"{name}/data"), h5py.Dataset)
        and data.ndim == 3
    ]


def locate(file: OpenFile, reading: Reading) -> Located:
    """Find a scan in a NeXus file.

    Parameters
    ----------
    file
        The file.
    reading
        What the caller states; its ``where`` comes before the layout's own places.

    Raises
    ------
    DataError
        When there is no scan or several, its frames and keys do not agree, or a unit is unknown.
    """
    where = reading.where
    entry = where["entry"].strip("/") if "entry" in where else _only_entry(file)
    detector = _only_detector(file, entry) if "data" not in where or "image_key" not in where else ""
    data, keys_at = where.get("data", f"{detector}/data"), where.get("image_key", f"{detector}/image_key")
    frames = frames_of(file, data)
    keys = _keys(file, keys_at, len(frames))
    if not np.any(keys == PROJECTION):
        raise DataError(f"{file.path}: /{keys_at} marks no frame as a projection (0). Correct the image keys.")
    theta, unit, place = _theta(file, entry, where, keys)
    before = np.cumsum(keys == PROJECTION)
    flats = _chosen(file, data, keys == FLAT, reading)
    notes = {"entry": entry or "/"}
    dropped = int(np.count_nonzero(~np.isin(keys, (PROJECTION, FLAT, DARK))))
    if dropped:
        notes["frames left out"] = f"{dropped} marked as invalid or for alignment"
    if theta is None and (near := _candidates(file, entry, len(keys))):
        notes["might be angles"] = ", ".join(near)
    for name, at in (("instrument", "instrument/name"), ("sample", "sample/name"), ("title", "title")):
        if word := _word(file, f"{entry}/{at}"):
            notes[name] = word
    if _word(file, f"{detector}/field_of_view").lower() == "half":
        notes["field of view"] = "half: the rotation axis stands near an edge and the turn is 360 degrees"
    current = currents(file, where.get("current", f"{entry}/control/data"), len(keys))
    return Located(
        chosen_frames(file, _parts(data, keys == PROJECTION), reading.allow_roots),
        flats,
        _chosen(file, data, keys == DARK, reading),
        theta,
        unit,
        place,
        pixel_nm=_pixel_nm(file, entry, detector),
        energy_kev=_first(file, [f"{entry}/instrument/beam/incident_energy", f"{entry}/beam/incident_energy"]),
        flat_views=None if flats is None else np.asarray(before[keys == FLAT], np.intp),
        notes=notes,
        view_current_ma=None if current is None else current[keys == PROJECTION],
        flat_current_ma=None if current is None or flats is None else current[keys == FLAT],
    )


def _only_entry(file: OpenFile) -> str:
    found = entries(file)
    if len(found) == 1:
        return found[0]
    if found:
        raise DataError(
            f"{file.path}: holds {len(found)} scans: {', '.join('/' + name for name in found)}. Name one with --where "
            f"entry=/{found[0]}."
        )
    raise DataError(
        f"{file.path}: is HDF5, but no layout that is known: neither /exchange (Data Exchange), nor img_tomo (NSLS-II "
        "FXI), nor an entry with image keys (NXtomo). Say where things are with --where "
        "data=PATH,theta=PATH,flats=PATH,darks=PATH."
    )


def _only_detector(file: OpenFile, entry: str) -> str:
    found = _detectors(file, entry)
    plain = f"{entry}/instrument/detector".lstrip("/")
    if plain in found or not found:
        # Not found: the checks that follow say what is missing there, or why it cannot be reached.
        return plain
    if len(found) == 1:
        return found[0]
    raise DataError(
        f"{file.path}: /{entry} has {len(found)} detectors with image keys: {', '.join('/' + name for name in found)}. "
        f"Name one with --where data=/{found[0]}/data,image_key=/{found[0]}/image_key."
    )


def _keys(file: OpenFile, name: str, frames: int) -> NDArray[np.int64]:
    keys = np.asarray(file.dataset(name)[()], np.int64).ravel()
    control = f"{name}_control"
    if file.has(control) and file.dataset(control).size == keys.size:
        # Frames taken for alignment are projections to the key and -1 to the control.
        keys = np.where(np.ravel(file.dataset(control)[()]) < 0, INVALID, keys)
    if keys.size != frames:
        raise DataError(f"{file.path}: /{name} marks {keys.size} frames of {frames}; they must agree.")
    return keys


def _chosen(file: OpenFile, data: str, mask: NDArray[np.bool_], reading: Reading) -> Hdf5Frames | None:
    """Locate the frames of one kind as runs of neighbours."""
    return chosen_frames(file, _parts(data, mask), reading.allow_roots) if mask.any() else None


def _parts(data: str, mask: NDArray[np.bool_]) -> tuple[tuple[str, int, int], ...]:
    return tuple((data, start, stop) for start, stop in runs(mask))


def runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the first and the next after the last of every run of neighbours that are True.

    Examples
    --------
    >>> runs(np.array([True, True, False, True]))
    [(0, 2), (3, 4)]
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def _theta(
    file: OpenFile, entry: str, where: Any, keys: NDArray[np.int64]
) -> tuple[NDArray[np.float64] | None, str, str]:
    """Return the angles of the projections as they stand in the file, their unit, and where they stand."""
    places = [f"{entry}/sample/rotation_angle", f"{entry}/data/rotation_angle"]
    for name in [where["theta"]] if "theta" in where else places:
        if not file.has(name):
            continue
        data = file.dataset(name)
        values = np.asarray(data[()], np.float64).ravel()
        if values.size == keys.size:
            values = values[keys == PROJECTION]
        return values, text(data.attrs.get("units", "")), name
    return None, "", places[0]


def _candidates(file: OpenFile, entry: str, frames: int) -> list[str]:
    """Return what might be angles: lists of a number a frame in the entry's data groups."""
    group = _reachable(file, entry)
    found = []
    for name in group if isinstance(group, h5py.Group) else ():
        inner = _reachable(file, f"{entry}/{name}")
        for field in inner if isinstance(inner, h5py.Group) else ():
            data = _reachable(file, f"{entry}/{name}/{field}")
            if isinstance(data, h5py.Dataset) and data.shape == (frames,) and data.dtype.kind == "f":
                found.append(f"/{entry}/{name}/{field}")
    return found


def _pixel_nm(file: OpenFile, entry: str, detector: str) -> float | None:
    """Return the pixel at the sample; the newer layout keeps it with the sample, the older one with the detector."""
    for group, axis in ((f"{entry}/sample", ""), (detector, "magnified_"), (detector, "")):
        across, along = (quantity(file, f"{group}/{name}_{axis}pixel_size", LENGTH) for name in "xy")
        if across is None:
            continue
        if along is not None and abs(along / across - 1) > 0.01:
            raise DataError(
                f"{file.path}: /{group} states pixels of {across:g} x {along:g} nm; square ones are needed. Give "
                "--pixel-nm if one of them is wrong."
            )
        return across
    return None


def _first(file: OpenFile, names: list[str]) -> float | None:
    return next((value for name in names if (value := quantity(file, name, ENERGY)) is not None), None)


def image_keys(views: int, flats: int, darks: int, flat_views: NDArray[np.intp] | None) -> NDArray[np.int64]:
    """Return the kind of every frame in the order of acquisition: darks first, flats where they were taken.

    Examples
    --------
    >>> image_keys(3, 2, 1, np.array([0, 3]))
    array([2, 1, 0, 0, 0, 1])
    """
    places = np.zeros(flats, np.intp) if flat_views is None else np.sort(flat_views)
    scan = np.insert(np.full(views, PROJECTION, np.int64), places, FLAT)
    return np.concatenate([np.full(darks, DARK, np.int64), scan])


@contextmanager
def create_nxtomo(
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
    """Create an NXtomo file of 16-bit counts, to be filled by `write_nxtomo_rows`.

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
        More of the instrument: path -> (value, unit or ""); kept below ``instrument/description``.
    flat_views
        Number of projections before each flat field; all before the scan when None.
    chunk_rows
        Rows of a frame that are stored together, with a checksum; None stores whole frames without.
    """
    keys = image_keys(beam.views, flats, darks, flat_views)
    angles = np.zeros(len(keys))
    # A flat or dark field carries the angle at which the stage stood: that of the next projection.
    upcoming = np.minimum(np.cumsum(keys == PROJECTION) - (keys == PROJECTION), beam.views - 1)
    angles[:] = np.degrees(beam.angles_rad)[upcoming]
    pixel_m = beam.pixel_nm * 1e-9
    values: dict[str, tuple[Any, str]] = {
        "definition": ("NXtomo", ""),
        "title": (sample, ""),
        "instrument/name": ("virtual TXM", ""),
        "instrument/source/name": ("simulated by npsi-twin", ""),
        "instrument/source/type": ("Synchrotron X-ray Source", ""),
        "instrument/source/probe": ("x-ray", ""),
        "instrument/beam/incident_energy": (energy_kev, "keV"),
        "instrument/detector/image_key": (keys, ""),
        "instrument/detector/image_key_control": (keys, ""),
        "instrument/detector/x_pixel_size": (pixel_m, "m"),
        "instrument/detector/y_pixel_size": (pixel_m, "m"),
        "instrument/detector/field_of_view": ("Full", ""),
        "instrument/detector/distance": (_DISTANCE_M, "m"),
        "sample/name": (sample, ""),
        "sample/rotation_angle": (angles, "degree"),
        "sample/x_pixel_size": (pixel_m, "m"),
        "sample/y_pixel_size": (pixel_m, "m"),
        **{f"instrument/description/{name}": fact for name, fact in facts.items()},
    }
    with written_hdf5(path) as file:
        file.attrs.update({"synthetic": True, "NX_class": "NXroot", "default": ENTRY})
        entry = file.create_group(ENTRY)
        for group, kind in _CLASSES.items():
            entry.require_group(group).attrs["NX_class"] = kind
        entry.attrs.update({"NX_class": "NXentry", "version": 1.5, "default": "data"})
        stored = {} if chunk_rows is None else {"chunks": (1, chunk_rows, beam.columns), "fletcher32": True}
        data = file.create_dataset(_FRAMES, (len(keys), rows, beam.columns), np.uint16, **stored)
        data.attrs.update({"interpretation": "image", "units": "counts"})
        for name, (value, unit) in values.items():
            entry[name] = value
            if unit:
                entry[name].attrs["units"] = unit
        entry["data"].attrs.update({"signal": "data", "axes": ["rotation_angle", ".", "."]})
        for name, target in (
            ("data", "instrument/detector/data"),
            ("rotation_angle", "sample/rotation_angle"),
            ("image_key", "instrument/detector/image_key"),
        ):
            entry["data"][name] = h5py.SoftLink(f"/{ENTRY}/{target}")
        yield file


_CLASSES = {
    "instrument": "NXinstrument",
    "instrument/source": "NXsource",
    "instrument/beam": "NXbeam",
    "instrument/detector": "NXdetector",
    "instrument/description": "NXcollection",
    "sample": "NXsample",
    "data": "NXdata",
}


def placed_nxtomo_rows(scan: Scan) -> dict[str, NDArray[np.generic]]:
    """Return the counts of some detector rows, (frame, row, column), in the order in which frames are stored."""
    keys = image_keys(len(scan.projections), len(scan.flats), len(scan.darks), scan.flat_views)
    frames = np.empty((len(keys), *scan.projections.shape[1:]), np.uint16)
    # A stable sort brings the flats into the order of their places, as `image_keys` has them.
    flats = scan.flats if scan.flat_views is None else scan.flats[np.argsort(scan.flat_views, kind="stable")]
    for key, counts in ((PROJECTION, scan.projections), (FLAT, flats), (DARK, scan.darks)):
        frames[keys == key] = counts
    return {_FRAMES: frames}


def write_nxtomo_rows(file: h5py.File, scan: Scan) -> None:
    """Write the counts of some detector rows to where they belong."""
    for name, counts in placed_nxtomo_rows(scan).items():
        file[name][:, scan.first_row : scan.first_row + scan.rows, :] = counts
