"""Volumes on disk: HDF5 of a run folder, and label or grey volumes that users bring (HDF5, OME-Zarr, TIFF, npz, npy).

`create_volumes` makes an HDF5 file with data sets (z, y, x), filled slab by slab by `write_slab`. `open_volume` finds a
volume in a run's own file or in a user's and reads any of its slices; `read_volume` reads it whole. The voxel size must
be stated by the file (HDF5 attribute ``voxel_nm``, ImageJ or OME metadata of a TIFF, scale of an OME-Zarr) or by the
caller. Axes of length 1 that other programs write before (time, channel) or behind (channel) the three are dropped.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import DTypeLike, NDArray

from npsi_twin.errors import DataError, MissingBackendError, ParameterError, ResourceError
from npsi_twin.execution.files import written_hdf5
from npsi_twin.memory import memory_there
from npsi_twin.numpy_files import npz_arrays, open_npy, read_npz
from npsi_twin.storage.hdf5 import OpenFile, open_hdf5
from npsi_twin.storage.tiffstack import refuse_claims
from npsi_twin.storage.units import LENGTH, text
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
    with written_hdf5(path) as file:
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


@dataclass(frozen=True)
class VolumeFile:
    """A volume (z, y, x) in a file, of which any slices can be read.

    Attributes
    ----------
    path
        The file.
    name
        Data set of an HDF5 or array of an npz; empty elsewhere.
    shape, dtype
        Of the volume.
    voxel_nm
        Edge of a voxel in nm.
    unit
        Unit of the values as the file states it; empty where it does not.
    """

    path: Path
    name: str
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    voxel_nm: float
    unit: str

    def read(self, rows: range) -> NDArray[Any]:
        """Return some slices (z, y, x).

        Raises
        ------
        DataError
            When they cannot be read.
        ResourceError
            When they are larger than the memory of this machine, or than a caller allows (`npsi_twin.memory`).
        """
        self._refuse_more_than_memory(len(rows))
        with _as_volume(self.path):
            values = self._read(slice(rows.start, rows.stop))
            native = values.astype(values.dtype.newbyteorder("="), copy=False)
        return np.asarray(native.view(np.uint8) if native.dtype == bool else native)

    def whole(self) -> Volume:
        """Return the whole volume; see `read`."""
        return Volume(self.read(range(self.shape[0])), self.voxel_nm)

    def _refuse_more_than_memory(self, slices: int) -> None:
        needed, memory = slices * math.prod(self.shape[1:]) * self.dtype.itemsize, memory_there()
        if needed > memory.size_bytes:
            raise ResourceError(
                f"{self.path}: {slices} slices of {self.shape[1:]} need {needed / 2**30:.3g} GiB of memory; {memory}. "
                "Cut the volume, give a larger --max-memory, or use a larger machine."
            )

    def _read(self, part: slice) -> NDArray[Any]:
        suffix = self.path.suffix.lower()
        if suffix in _HDF5:
            with open_hdf5(self.path) as file:
                return self._of(file.dataset(self.name), part)
        if suffix == ".zarr":
            from npsi_twin.storage.omezarr import open_image

            return self._of(open_image(self.path, self.name).array, part)
        if suffix == ".npz":
            self._refuse_more_than_memory(self.shape[0])  # it is unpacked as a whole
            return self._of(read_npz(self.path, [self.name])[self.name], part)
        if suffix == ".npy":
            return np.array(self._of(open_npy(self.path), part))
        import tifffile

        with tifffile.TiffFile(self.path, _multifile=False) as file:
            series = file.series[0]
            if series.dataoffset is not None:  # the slices lie unpacked, one after the other
                kind = series.dtype.newbyteorder(file.byteorder)
                mapped = np.memmap(self.path, kind, "r", series.dataoffset, series.shape)
                return np.array(mapped.reshape(self.shape)[part])
            # Slices of their own pages are unpacked one by one; other arrangements as a whole.
            paged = len(file.pages) == self.shape[0]
            if not paged:
                self._refuse_more_than_memory(self.shape[0])
            found = file.asarray(key=part) if paged else series.asarray().reshape(self.shape)[part]
            return np.asarray(found.reshape(-1, *self.shape[1:]))

    def _of(self, array: Any, part: slice) -> NDArray[Any]:
        """Return some slices of an array, without the axes of length 1 around the three."""
        before = len(array.shape) - 3 - _single_behind(array.shape)
        return np.asarray(array[(0,) * before + (part,)]).reshape(-1, *self.shape[1:])


_HDF5 = (".h5", ".hdf5", ".hdf", ".nxs", ".nx")


def open_volume(path: Path, name: str | None = None, *, voxel_nm: float | None = None) -> VolumeFile:
    """Find a volume (z, y, x) in HDF5, OME-Zarr, TIFF, npz or npy.

    Parameters
    ----------
    path
        The file, or the folder of an OME-Zarr; its suffix tells the format.
    name
        Data set of an HDF5, array of an npz, or image in an OME-Zarr (``labels/cells``); may be left out where there
        is only one.
    voxel_nm
        Edge of a voxel in nm; overrides what the file states.

    Raises
    ------
    DataError
        When the file cannot be read, holds no volume of real numbers, claims more than it holds, or the voxel size is
        not known.
    """
    suffix = path.suffix.lower()
    if not (path.is_dir() if suffix == ".zarr" else path.is_file()):
        raise DataError(f"{path}: no such file. Check the path, which counts from where the command runs.")
    with _as_volume(path):
        if suffix in _HDF5:
            found = _find_hdf5(path, name)
        elif suffix in (".tif", ".tiff"):
            found = _find_tiff(path)
        elif suffix == ".zarr":
            found = _find_zarr(path, name)
        elif suffix == ".npz":
            heads = npz_arrays(path)
            taken = _only(path, list(heads), name)
            found = _Found(taken, heads[taken].shape, heads[taken].dtype)
        elif suffix == ".npy":
            values = open_npy(path)
            found = _Found("", values.shape, values.dtype)
        else:
            raise DataError(
                f"{path}: the suffix '{suffix}' is not known; HDF5, OME-Zarr, TIFF, npz and npy volumes are read."
            )
    found = replace(found, shape=_three(found.shape))
    if len(found.shape) != 3 or 0 in found.shape or found.dtype.kind not in "buif":
        raise DataError(
            f"{path}: holds an array of shape {found.shape} and type {found.dtype}; numbers as (z, y, x) are needed."
        )
    voxel = voxel_nm if voxel_nm is not None else found.voxel_nm
    if voxel is None:
        raise DataError(f"{path}: does not state its voxel size. Give --voxel-nm.")
    if not (np.isfinite(voxel) and voxel > 0):
        raise ParameterError(f"{path}: got a voxel of {voxel} nm; a positive number is needed.")
    dtype = np.dtype(np.uint8) if found.dtype == bool else found.dtype.newbyteorder("=")
    nz, ny, nx = found.shape
    return VolumeFile(path, found.name, (nz, ny, nx), dtype, float(voxel), found.unit)


def read_volume(path: Path, name: str | None = None, *, voxel_nm: float | None = None) -> Volume:
    """Read a whole volume (z, y, x); see `open_volume`."""
    return open_volume(path, name, voxel_nm=voxel_nm).whole()


@contextmanager
def _as_volume(path: Path) -> Iterator[None]:
    """Name the file in whatever the libraries of its format raise about it."""
    try:
        yield
    except (DataError, ParameterError, MissingBackendError, ResourceError, MemoryError):
        raise
    except Exception as error:
        said = str(error) or type(error).__name__
        raise DataError(f"{path}: cannot be read as a volume ({said}). Write it anew.") from error


@dataclass(frozen=True)
class _Found:
    """What a file says of its volume."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    voxel_nm: float | None = None
    unit: str = ""


def _single_behind(shape: tuple[int, ...]) -> int:
    """Return how many of the last axes have length 1 and are more than three need."""
    extra, behind = len(shape) - 3, 0
    while behind < extra and shape[-1 - behind] == 1:
        behind += 1
    return max(behind, 0)


def _three(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape without the axes of length 1 around three; as it is where that leaves more.

    Examples
    --------
    >>> _three((1, 1, 8, 9, 10)), _three((8, 9, 10, 1)), _three((8, 9, 10, 3))
    ((8, 9, 10), (8, 9, 10), (8, 9, 10, 3))
    """
    inner = shape[: len(shape) - _single_behind(shape)]
    before = max(len(inner) - 3, 0)
    return inner[before:] if all(n == 1 for n in inner[:before]) else shape


def _only(path: Path, names: list[str], asked: str | None) -> str:
    if asked is not None and asked in names:
        return asked
    if asked is None and len(names) == 1:
        return names[0]
    raise DataError(f"{path}: holds {', '.join(names) or 'nothing'}. Name the one to read with --dataset.")


def _find_hdf5(path: Path, name: str | None) -> _Found:
    with open_hdf5(path) as file:
        asked = None if name is None else name.strip("/")
        if asked is None or not file.has(asked):
            asked = _only(path, _volumes_in(file), asked)
        data = file.dataset(asked)
        stated = data.attrs.get("voxel_nm", file.root.attrs.get("voxel_nm"))
        voxel = None if stated is None else float(stated)
        return _Found(asked, data.shape, data.dtype, voxel, _unit(asked, data, file))


def _volumes_in(file: OpenFile) -> list[str]:
    found: list[str] = []

    def visit(where: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and len(_three(item.shape)) == 3:
            found.append(where)

    # visititems never follows links, so nothing outside this file is read.
    file.root.visititems(visit)
    return found


def _unit(name: str, data: h5py.Dataset, file: OpenFile) -> str:
    """Return the unit that a data set states, by attribute or, in this package's own files, by its name."""
    if "units" in data.attrs:
        return text(data.attrs["units"])
    own = {"attenuation_per_um": "1/um", "attenuation_per_pixel": "1/pixel"}
    return own.get(name.rsplit("/", 1)[-1], text(file.root.attrs.get("unit", "")))


def _find_zarr(path: Path, name: str | None) -> _Found:
    from npsi_twin.storage.omezarr import open_image

    image = open_image(path, name or "")
    return _Found(image.name, tuple(image.array.shape), np.dtype(image.array.dtype), image.voxel_nm)


def _find_tiff(path: Path) -> _Found:
    import tifffile

    # OME metadata may name other files, anywhere; pages that lie there are missing then, and refused below.
    with tifffile.TiffFile(path, _multifile=False) as file:
        series = file.series[0]
        if any(page is None for page in series.pages):
            raise DataError(
                f"{path}: is a part of a stack in several files, or lacks pages, which would be read as zeros. Save "
                "the whole stack as one file."
            )
        refuse_claims(path, math.prod(series.shape) * series.dtype.itemsize, packed=series.keyframe.compression != 1)
        return _Found("", series.shape, series.dtype, _tiff_voxel_nm(path, file))


def _tiff_voxel_nm(path: Path, file: Any) -> float | None:
    """Return the edge of a voxel that ImageJ or OME metadata state."""
    edges: list[float] = []
    if file.imagej_metadata:
        factor = LENGTH.factor(_plain(str(file.imagej_metadata.get("unit", ""))))
        tags = file.pages[0].tags
        if factor is not None and "XResolution" in tags and "spacing" in file.imagej_metadata:
            across = [tags[name].value for name in ("XResolution", "YResolution")]
            edges = [factor * lower / upper for upper, lower in across]
            edges.append(factor * float(file.imagej_metadata["spacing"]))
    elif file.ome_metadata:
        import tifffile

        pixels = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]
        pixels = (pixels[0] if isinstance(pixels, list) else pixels)["Pixels"]
        for axis in "XYZ":
            size, unit = pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit", "µm")
            factor = LENGTH.factor(str(unit))
            edges += [float(size) * factor] if size is not None and factor is not None else []
        edges = edges if len(edges) == 3 else []
    if not edges:
        return None
    if max(edges) > 1.001 * min(edges):
        raise DataError(
            f"{path}: states voxels of {edges[2]:g} x {edges[1]:g} x {edges[0]:g} nm (z, y, x); cubes are needed. "
            "Resample it, or give --voxel-nm if the file is wrong."
        )
    # ImageJ keeps 1 / voxel as a fraction of two 32-bit numbers; the spacing is kept as it is.
    return edges[-1]


def _plain(unit: str) -> str:
    """Return a unit in which ImageJ wrote the micro sign as an escape."""
    return unit.replace("\\u00B5", "µ").replace("\\u00b5", "µ")
