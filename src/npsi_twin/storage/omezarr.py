"""Images in OME-Zarr folders that other programs wrote, versions 0.4 and 0.5.

`open_image` finds the full-size array of an image or of a label image, and the voxel size that its scale and its axes'
units state. What this package writes itself is in `exports`. Needs the package zarr (the extra ``zarr``).

References
----------
J. Moore et al., Nature Methods 18 (2021) 1496, doi:10.1038/s41592-021-01326-w; specifications 0.4 and 0.5.
"""

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from warnings import warn

from npsi_twin.errors import DataError, MissingBackendError, OutOfRangeWarning
from npsi_twin.storage.units import LENGTH

_LARGEST_CHUNK_BYTES = 2**31
#: 64^3 voxels each, they are a volume of 6400^3; every one is looked for.
_MOST_CHUNKS = 1_000_000


@dataclass(frozen=True)
class ZarrImage:
    """The full-size array of an image.

    Attributes
    ----------
    name
        Group of the image in the folder; empty for the folder's own.
    array
        The zarr array; its last three axes, but for some of length 1, are z, y, x.
    voxel_nm
        Edge of a voxel, nm; None where it is not stated.
    """

    name: str
    array: Any
    voxel_nm: float | None


def open_image(path: Path, name: str = "") -> ZarrImage:
    """Find an image in an OME-Zarr folder.

    Parameters
    ----------
    path
        The folder.
    name
        Group of the image, for example ``labels/phase``; the folder's own image when empty.

    Raises
    ------
    DataError
        No such group, no image in it, voxels that are no cubes, links out of the folder, or lost chunks of an export of
        this package.
    MissingBackendError
        zarr is not installed.

    Warns
    -----
    OutOfRangeWarning
        When chunks are missing, which other programs leave out where they hold one value.
    """
    try:
        import zarr
    except ImportError:
        raise MissingBackendError(
            f"{path}: reading OME-Zarr needs the package zarr (version 3). Install it with: pip install "
            "'npsi-twin[zarr]', or give the volume as TIFF, HDF5 or npy."
        ) from None
    _refuse_links(path)
    root = zarr.open_group(path, mode="r")
    group = root
    if name:
        found = root.get(name)
        if not isinstance(found, zarr.Group):
            raise DataError(f"{path}: has no image '{name}'. It holds: {_images(root)}.")
        group = found
    scales = _ome(group).get("multiscales")
    if not scales:
        raise DataError(f"{path}: states no OME image in '{name or '/'}'. Name one with --dataset: {_images(root)}.")
    largest = scales[0]["datasets"][0]
    edges = _edges_nm(scales[0], largest)
    if edges and max(edges) > 1.001 * min(edges):
        raise DataError(
            f"{path}: states voxels of {' x '.join(f'{edge:g}' for edge in edges)} nm (z, y, x); cubes are needed. "
            "Resample it, or give --voxel-nm if the file is wrong."
        )
    array = group[largest["path"]]
    if not isinstance(array, zarr.Array):
        raise DataError(f"{path}: names no array in '{name or '/'}' but {largest['path']!r}. Write it anew.")
    _refuse_false_claims(path, array)
    lost = array.nchunks - array.nchunks_initialized
    if lost:
        _tell_what_is_lost(path, lost, array, whole="npsi_twin" in root.attrs)
    return ZarrImage(name, array, edges[-1] if edges else None)


def _refuse_links(path: Path) -> None:
    """Refuse links out of the folder before anything in it is opened: a chunk could be any file of the user's."""
    own = path.resolve()
    for folder, folders, files in os.walk(own):
        for name in (*folders, *files):
            place = Path(folder, name)
            if place.is_symlink() and not place.resolve().is_relative_to(own):
                raise DataError(
                    f"{path}: {place.relative_to(own)} is a link to {place.resolve()}, outside the folder, and is not "
                    "followed: it could be any file of yours. Copy the data in."
                )


def _refuse_false_claims(path: Path, array: Any) -> None:
    chunk = math.prod(array.chunks) * array.dtype.itemsize
    if chunk > _LARGEST_CHUNK_BYTES or array.nchunks > _MOST_CHUNKS:
        raise DataError(
            f"{path}: claims the shape {array.shape} in {array.nchunks} chunks of {chunk:.3g} bytes. It is damaged, or "
            "was made to exhaust memory."
        )


def _tell_what_is_lost(path: Path, lost: int, array: Any, *, whole: bool) -> None:
    """Refuse an export of this package that lacks chunks; warn of another's, which may leave out what is empty."""
    said = f"{path}: {lost} of {array.nchunks} chunks are not there and would be read as {array.fill_value}"
    if whole:
        raise DataError(f"{said}. This export was written with all of them: the copy was cut short; copy it anew.")
    warn(
        f"{said}. Some programs leave out chunks of that one value; if yours does not, the copy was cut short.",
        OutOfRangeWarning,
        stacklevel=4,
    )


def _ome(group: Any) -> dict[str, Any]:
    """Return the OME attributes, which version 0.5 keeps one level deeper than 0.4."""
    attributes = dict(group.attrs)
    return dict(attributes.get("ome", attributes))


def _images(root: Any) -> str:
    labels = _ome(root["labels"]).get("labels", []) if "labels" in root else []
    return ", ".join(f"labels/{label}" for label in labels) or "no label images"


def _edges_nm(scale: dict[str, Any], dataset: dict[str, Any]) -> list[float]:
    """Return the edges of a voxel along the last three axes of space, nm; nothing where a unit is missing."""
    axes = scale.get("axes", [])
    factors = [1.0] * len(axes)
    # the image's own transformation acts after that of the array
    for step in (*dataset.get("coordinateTransformations", []), *scale.get("coordinateTransformations", [])):
        if step.get("type") == "scale":
            factors = [factor * float(part) for factor, part in zip(factors, step["scale"], strict=True)]
    edges = []
    for axis, factor in zip(axes, factors, strict=True):
        if isinstance(axis, dict) and axis.get("type") == "space":
            unit = LENGTH.factor(str(axis.get("unit", "")))
            if unit is None:
                return []
            edges.append(factor * unit)
    return edges if len(edges) == 3 else []
