"""Which layout a scan has, and the checks that all layouts share.

`open_scan` takes a file or folder that anybody wrote, finds its layout (Data Exchange, NXtomo, NSLS-II FXI, a folder
of TIFF images, or places that the caller names), checks everything that can be checked before any work begins, and
gives a `ScanFile`. Nothing is invented: angles, flat fields and units that the file does not state must be given by the
caller or are an error, and no value that is not a finite number gets past it.
"""

from pathlib import Path
from typing import Any
from warnings import warn

import h5py
import numpy as np
from numpy.typing import NDArray

from npsi_twin.errors import DataError, OutOfRangeWarning, ParameterError
from npsi_twin.scan import ParallelBeam
from npsi_twin.storage import dataexchange, fxi, nexus, tiffstack
from npsi_twin.storage.hdf5 import open_hdf5
from npsi_twin.storage.scanfile import (
    Frames,
    Located,
    Reading,
    ScanFile,
    ThetaUnit,
    hdf5_frames,
    spread_angles,
)
from npsi_twin.storage.units import ANGLE, text

#: Transmissions seldom exceed this; counts do.
_LARGEST_TRANSMISSION = 1.5
#: A step between neighbouring views this many times the usual one is a gap.
_GAP = 5.0


def locate(path: Path, reading: Reading) -> tuple[str, Located]:
    """Find the layout of a scan and where its frames lie.

    Returns
    -------
    tuple
        Name of the layout, and what its reader found.
    """
    if path.is_dir():
        return "TIFF folder", tiffstack.locate(path, reading)
    with open_hdf5(path, reading.allow_roots) as file:
        if isinstance(file.get("exchange"), h5py.Group):
            return "Data Exchange", dataexchange.locate(file, reading)
        if file.has(fxi.DATA):
            return "NSLS-II FXI", fxi.locate(file, reading)
        where = reading.where
        if "data" not in where or "image_key" in where:
            return "NXtomo", nexus.locate(file, reading)
        flats, darks = (
            hdf5_frames(file, [where[kind]], reading.allow_roots) if kind in where else None
            for kind in ("flats", "darks")
        )
        data = file.dataset(where["theta"]) if "theta" in where else None
        theta = None if data is None else np.asarray(data[()], np.float64).ravel()
        unit = "" if data is None else text(data.attrs.get("units", ""))
        projections = hdf5_frames(file, [where["data"]], reading.allow_roots)
        return "HDF5", Located(projections, flats, darks, theta, unit, where.get("theta", "theta"))


def open_scan(
    path: Path,
    *,
    pixel_nm: float | None = None,
    theta_unit: ThetaUnit | None = None,
    assume_normalised: bool = False,
    reading: Reading | None = None,
) -> ScanFile:
    """Open a scan and check everything that can be checked before any work begins.

    Parameters
    ----------
    path
        HDF5 file, or folder of TIFF images.
    pixel_nm
        Pixel at the sample in nm; overrides what the file states.
    theta_unit
        Unit of the angles; overrides what the file states.
    assume_normalised
        The projections are transmissions already (flat and dark fields are neither needed nor used).
    reading
        What else the caller states; nothing when None.

    Raises
    ------
    DataError
        For everything that is missing, does not fit, or is not a number; says where, and what to do.

    Warns
    -----
    OutOfRangeWarning
        For angles that repeat or leave gaps, and quantities that X-ray microscopes do not use.
    """
    reading = reading or Reading()
    if pixel_nm is not None and not (np.isfinite(pixel_nm) and pixel_nm > 0):
        raise ParameterError(f"--pixel-nm: got {pixel_nm}; a positive number of nm is needed.")
    layout, found = locate(path, reading)
    views, rows, columns = found.projections.shape
    normalised = assume_normalised or reading.line_integrals
    if found.flats is None and not (normalised or reading.flats_from_air):
        raise DataError(
            f"{path}: holds no flat fields (/{dataexchange.FLATS} in Data Exchange, image key 1 in NXtomo, img_bkg in "
            "FXI, a folder 'flats' of TIFF images), and none are invented. If the projections are already divided by "
            "the flat field, say --assume-normalised; if the outermost columns show air in every view, --flat-from-air "
            "with their number."
        )
    for frames in (found.flats, found.darks):
        if frames is not None and frames.shape[1:] != (rows, columns):
            raise DataError(
                f"{path}: {frames.name} frames are {frames.shape[1:]}, {found.projections.name} frames "
                f"{(rows, columns)} (row, column); they must agree."
            )
    angles = _angles(path, found, views, theta_unit, reading)
    largest = _check_values(path, found, reading.repair)
    if largest is not None and largest <= _LARGEST_TRANSMISSION and not normalised:
        raise DataError(
            f"{path}: the projections are not above {largest:g}, so they are transmissions rather than counts. If "
            "they are divided by the flat field already, say --assume-normalised; if their logarithm is taken too, "
            "--line-integrals."
        )
    pixel = pixel_nm if pixel_nm is not None else found.pixel_nm
    return ScanFile(
        path,
        ParallelBeam(angles, columns, 1000.0 if pixel is None else pixel),
        rows,
        pixel is not None,
        found.energy_kev,
        normalised,
        {"layout": layout, **found.notes},
        found.projections,
        None if normalised else found.flats,
        None if normalised else found.darks,
        None if normalised else found.flat_views,
        reading.line_integrals,
        found.view_current_ma,
        None if normalised else found.flat_current_ma,
    )


def _angles(
    path: Path, found: Located, views: int, theta_unit: ThetaUnit | None, reading: Reading
) -> NDArray[np.float64]:
    """Return the angles in radians, as stated by the file or the caller."""
    place = found.theta_place
    if reading.theta:
        return spread_angles(reading.theta, views)
    if found.theta is None:
        raise DataError(
            f"{path}: states no angles ({place} is missing), and none are invented. Add them to the file, one number a "
            "projection with their unit, or say what they were: --theta 0:180:exclusive, or --where theta=PATH"
            f"{f' (of the right length: {near})' if (near := found.notes.get('might be angles')) else ''}."
        )
    if found.theta.size != views:
        raise DataError(f"{path}: {place} holds {found.theta.size} angles for {views} projections; they must agree.")
    if not np.all(np.isfinite(found.theta)):
        raise DataError(f"{path}: {place} holds NaN or infinity; every projection needs its angle.")
    unit = theta_unit or found.theta_unit.strip()
    factor = ANGLE.factor(unit)
    if factor is None:
        raise DataError(
            f"{path}: {place} has the unit '{unit}', and radians and degrees cannot be told apart by guessing. Give "
            "--theta-unit deg or --theta-unit rad."
        )
    angles = np.asarray(found.theta * factor, np.float64)
    if views > 1 and np.ptp(angles) < 1e-6:
        raise DataError(f"{path}: all {views} angles are the same; a tomogram needs a rotation.")
    if views > 50 and np.ptp(angles) < 0.13:
        raise DataError(
            f"{path}: {place} spans {np.degrees(np.ptp(angles)):.2f} degrees with {views} projections; "
            "these look like radians called degrees. Give --theta-unit rad."
        )
    if views > 1 and np.ptp(angles) > 50 * np.pi:
        raise DataError(
            f"{path}: {place} spans {np.ptp(angles) / (2 * np.pi):.0f} turns with {views} projections; these look like "
            "degrees called radians. Give --theta-unit deg."
        )
    for word in unusual_angles(angles):
        warn(f"{path}: {place}: {word}", OutOfRangeWarning, stacklevel=3)
    return angles


def unusual_angles(angles_rad: NDArray[np.float64]) -> list[str]:
    """Say what a reconstruction with even weights would not expect of the angles: repeats, gaps, and another order.

    Examples
    --------
    >>> unusual_angles(np.radians([0, 1, 1, 2, 3, 4, 60, 61, 62]))
    ['1 of 9 angles is repeated.', 'a gap of 56 degrees after 4 degrees, the usual step being 1.']
    >>> unusual_angles(np.radians([0, 120, 60, 180]))
    ['not in order, 1 of 3 steps goes the other way: taken as they stand, each for the frame in its place.']
    """
    if angles_rad.size < 3:
        return []
    ordered = np.sort(np.degrees(angles_rad))
    steps = np.diff(ordered)
    repeated = int(np.count_nonzero(steps < 1e-6))
    words = [f"{repeated} of {ordered.size} angles {'is' if repeated == 1 else 'are'} repeated."] if repeated else []
    taken = np.diff(np.degrees(angles_rad))
    forth, back = sorted((np.count_nonzero(taken > 1e-6), np.count_nonzero(taken < -1e-6)), reverse=True)
    if back:
        words.append(
            f"not in order, {back} of {forth + back} steps {'goes' if back == 1 else 'go'} the other way: taken as "
            "they stand, each for the frame in its place."
        )
    usual = float(np.median(steps))
    widest = int(np.argmax(steps))
    if usual > 0 and steps[widest] > _GAP * usual:
        words.append(
            f"a gap of {steps[widest]:.4g} degrees after {ordered[widest]:.4g} degrees, the usual step being "
            f"{usual:.3g}."
        )
    return words


def _check_values(path: Path, found: Located, repair: bool) -> float | None:
    """Refuse what is no count; return the largest of projections that are stored as real numbers."""
    largest: float | None = None
    for frames in (found.projections, found.flats, found.darks):
        if frames is None or frames.dtype.kind == "u":
            continue
        if frames.dtype.kind == "i":
            _refuse_negative(path, frames)
        else:
            top = _refuse_not_finite(path, frames, repair)
            largest = top if frames is found.projections else largest
    return largest


def _refuse_negative(path: Path, frames: Frames) -> None:
    count, first = 0, None
    for number, image in enumerate(frames.each()):
        bad = np.argwhere(image < 0)
        if bad.size:
            count += len(bad)
            first = first or (number, *map(int, bad[0]))
    if count:
        raise DataError(
            f"{path}: {frames.name} holds {count} negative values as {frames.dtype}, the first at (frame, row, column) "
            f"{first}. They are unsigned counts that were written as signed, or the dark field is subtracted already; "
            "correct the type, or write real numbers."
        )


def _refuse_not_finite(path: Path, frames: Frames, repair: bool) -> float:
    """Refuse NaN and infinity, which spoil whole slices, unless they will be repaired; return the largest value."""
    largest, count, first = -np.inf, 0, None
    for number, image in enumerate(frames.each()):
        finite = np.isfinite(image)
        largest = max(largest, float(image.max(where=finite, initial=-np.inf)))
        bad = np.argwhere(~finite)
        if bad.size:
            count += len(bad)
            first = first or (number, *map(int, bad[0]))
    if count and not repair:
        raise DataError(
            f"{path}: {frames.name} holds {count} values that are NaN or infinite, the first at (frame, row, "
            f"column) {first}. They would spoil whole slices; say --repair to interpolate and count them, or replace "
            "them in the file."
        )
    return largest


def parse_places(words: str) -> dict[str, Any]:
    """Read the places of ``--where``.

    Examples
    --------
    >>> parse_places("data=/entry/imaging/data, theta=/entry/angles")
    {'data': '/entry/imaging/data', 'theta': '/entry/angles'}
    """
    found = {}
    for item in words.split(","):
        place, _, name = (part.strip() for part in item.partition("="))
        if not place or not name:
            raise ParameterError(f"--where: got {item.strip()!r}; write place=path, for example theta=/entry/angles.")
        found[place] = name
    return found
