"""Volumes on disk: HDF5 of a run folder, and label or grey volumes that users bring (HDF5, TIFF, npz, npy).

`create_volumes` makes an HDF5 file with data sets (z, y, x), filled slab by slab by `write_slab`; `read_volume` gives a
`Volume` from a run's own file or from a user's, whose voxel size must be stated by the file or by the caller.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import DTypeLike, NDArray

from npsi_twin.errors import DataError, ParameterError
from npsi_twin.volumes import Phase, Volume

PHASE_NAMES = {int(phase): phase.name.lower() for phase in Phase}


@contextmanager
def create_volumes(
    path: Path,
    shape: tuple[int, int, int],
    kinds: Mapping[str, DTypeLike],
    *,
    voxel_nm: float | None,
    compressed: bool,
    attributes: Mapping[str, Any] | None = None,
) -> Iterator[h5py.File]:
    """Create an HDF5 file of volumes with one chunk a slice.

    Parameters
    ----------
    path
        The file; an existing one is replaced, so give a temporary name (`execution.written_whole`).
    shape
        (z, y, x).
    kinds
        Name of every data set -> its type.
    voxel_nm
        Edge of a voxel in nm, None where it is unknown.
    compressed
        gzip with shuffle, for truth and labels; noise does not compress and costs time.
    attributes
        More attributes of the file.
    """
    options = {"compression": "gzip", "compression_opts": 1, "shuffle": True} if compressed else {}
    with h5py.File(path, "w") as file:
        if voxel_nm is not None:
            file.attrs["voxel_nm"] = voxel_nm
        file.attrs.update(attributes or {})
        for name, kind in kinds.items():
            data = file.create_dataset(name, shape, kind, chunks=(1, *shape[1:]), fletcher32=True, **options)
            data.attrs["axes"] = "z:y:x"
            if voxel_nm is not None:
                # What Fiji's HDF5 importers look for, in micrometres.
                data.attrs["element_size_um"] = np.full(3, voxel_nm / 1000, np.float32)
            if name == "phase":
                data.attrs["labels"] = [f"{label} {text}" for label, text in PHASE_NAMES.items()]
        yield file


def write_slab(file: h5py.File, first_row: int, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write the same rows of several data sets."""
    for name, values in arrays.items():
        file[name][first_row : first_row + len(values)] = values


def write_volume(path: Path, name: str, volume: Volume, **attributes: Any) -> None:
    """Write one volume as the only data set of a file (labels compressed, grey values not)."""
    shape = volume.grid.shape
    kinds = {name: volume.values.dtype}
    compressed = volume.values.dtype.kind in "ui"
    with create_volumes(
        path, shape, kinds, voxel_nm=volume.voxel_nm, compressed=compressed, attributes=attributes
    ) as file:
        write_slab(file, 0, {name: volume.values})


def read_volume(path: Path, name: str | None = None, *, voxel_nm: float | None = None) -> Volume:
    """Read a volume (z, y, x) from HDF5, TIFF, npz or npy.

    Parameters
    ----------
    path
        The file; its suffix tells the format.
    name
        Data set of an HDF5 or array of an npz; may be left out where there is only one.
    voxel_nm
        Edge of a voxel in nm; overrides what the file states (HDF5 attribute ``voxel_nm``).

    Raises
    ------
    DataError
        When the file cannot be read, holds no volume of real numbers, or the voxel size is not known.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file.")
    stated: float | None = None
    suffix = path.suffix.lower()
    try:
        if suffix in (".h5", ".hdf5", ".hdf", ".nxs"):
            values, stated = _read_hdf5(path, name)
        elif suffix in (".tif", ".tiff"):
            import tifffile

            values = tifffile.imread(path)
        elif suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                values = arrays[_only(path, list(arrays.files), name)]
        elif suffix == ".npy":
            values = np.load(path, allow_pickle=False)
        else:
            raise DataError(f"{path}: the suffix '{suffix}' is not known; HDF5, TIFF, npz and npy volumes are read.")
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{path}: cannot be read as a volume ({error}).") from None
    if values.ndim != 3 or 0 in values.shape or values.dtype.kind not in "buif":
        raise DataError(
            f"{path}: holds an array of shape {values.shape} and type {values.dtype}; numbers as (z, y, x) are needed."
        )
    voxel = voxel_nm if voxel_nm is not None else stated
    if voxel is None:
        raise DataError(f"{path}: does not state its voxel size. Give --voxel-nm.")
    if not (np.isfinite(voxel) and voxel > 0):
        raise ParameterError(f"{path}: got a voxel of {voxel} nm; a positive number is needed.")
    return Volume(values.view(np.uint8) if values.dtype == bool else values, float(voxel))


def _only(path: Path, names: list[str], asked: str | None) -> str:
    if asked is not None and asked in names:
        return asked
    if asked is None and len(names) == 1:
        return names[0]
    raise DataError(f"{path}: holds {', '.join(names) or 'nothing'}. Name the one to read with --dataset.")


def _read_hdf5(path: Path, name: str | None) -> tuple[NDArray[Any], float | None]:
    with h5py.File(path, "r") as file:
        found: list[str] = []

        def visit(where: str, item: object) -> None:
            if isinstance(item, h5py.Dataset) and item.ndim == 3:
                found.append(where)

        # visititems never follows links, so nothing outside this file is read.
        file.visititems(visit)
        data = file[_only(path, found, None if name is None else name.strip("/"))]
        if data.external or data.is_virtual:
            raise DataError(f"{path}: /{data.name} keeps its data in other files, which are not opened.")
        stated = data.attrs.get("voxel_nm", file.attrs.get("voxel_nm"))
        return data[()], None if stated is None else float(stated)
