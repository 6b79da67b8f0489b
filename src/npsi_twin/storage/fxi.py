"""Scan files of NSLS-II's full-field X-ray microscope (FXI, 18-ID): everything at the root of an HDF5 file.

``img_tomo`` holds the projections, ``img_bkg`` the flat fields, ``img_dark`` the dark fields, ``angle`` one angle a
projection, ``X_eng`` the energy, ``Pixel Size`` a number with its unit in one text. The layout fixes degrees and keV;
a pixel size without a unit is not used. Flat fields are recorded after the projections or before them, which the file
does not tell.
"""

import numpy as np

from npsi_twin.storage.hdf5 import OpenFile
from npsi_twin.storage.scanfile import Located, Reading, hdf5_frames
from npsi_twin.storage.units import ENERGY, LENGTH, converted, length_of, text

DATA = "img_tomo"


def locate(file: OpenFile, reading: Reading) -> Located:
    """Find a scan in an FXI file.

    Parameters
    ----------
    file
        The file.
    reading
        What the caller states; its ``where`` comes before the layout's own places.

    Raises
    ------
    DataError
        When frames are missing or are none.
    """
    where, roots = reading.where, reading.allow_roots

    def stack(place: str, *names: str) -> list[str]:
        return next(([name] for name in (where.get(place, names[0]), *names[1:]) if file.has(name)), [])

    white, dark = stack("flats", "img_bkg", "img_bkg_avg"), stack("darks", "img_dark", "img_dark_avg")
    at = where.get("theta", "angle")
    theta = np.asarray(file.dataset(at)[()], np.float64).ravel() if file.has(at) else None
    notes = {"angles": "degrees, as the layout has them"} if theta is not None else {}
    pixel, size = None, text(file.dataset("Pixel Size")[()]) if file.has("Pixel Size") else ""
    if (stated := length_of(size)) is not None:
        pixel = converted(stated[0], stated[1], LENGTH, f"{file.path}: /Pixel Size")
    elif size:
        notes["pixel size"] = f"{size} without a unit: not used; give --pixel-nm"
    energy = None
    if file.has("X_eng"):
        energy = converted(file.dataset("X_eng")[()], "keV", ENERGY, f"{file.path}: /X_eng")
    return Located(
        hdf5_frames(file, [where.get("data", DATA)], roots),
        hdf5_frames(file, white, roots) if white else None,
        hdf5_frames(file, dark, roots) if dark else None,
        theta,
        "deg",
        at,
        pixel_nm=pixel,
        energy_kev=energy,
        notes=notes,
    )
