"""Volumes for other programs, with voxel size and unit kept: TIFF, OME-Zarr, npy.

Takes a `VolumeFile` and writes it slice by slice, so that nothing needs the whole volume in memory. TIFF is ImageJ's
(Fiji, Dragonfly, Avizo) up to 4 GB and OME-BigTIFF beyond; OME-Zarr is version 0.5 with a pyramid of halved copies
(napari, web viewers), means for grey values and every second voxel for labels, whose phases are named; npy has a JSON
file beside it that states voxel size, unit, axes and labels. Labels wider than 16 bits become 16 bits where their
values fit, since ImageJ knows no others.

References
----------
J. Moore et al., "OME-NGFF: a next-generation file format for expanding bioimaging data-access strategies", Nature
Methods 18 (2021) 1496, doi:10.1038/s41592-021-01326-w; specification 0.5.
"""

import json
import math
import shutil
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from npsi_twin.errors import DataError, MissingBackendError, ParameterError
from npsi_twin.execution import write_text_whole, written_whole
from npsi_twin.storage.volumes import PHASE_NAMES, VolumeFile

ExportFormat = Literal["tiff", "ome-zarr", "npy"]
_SUFFIX: dict[str, tuple[str, ...]] = {"tiff": (".tif", ".tiff"), "ome-zarr": (".zarr",), "npy": (".npy",)}
#: ImageJ's TIFF counts bytes with 32 bits.
_LARGEST_IMAGEJ_BYTES = 4_000_000_000
_CHUNK = 64
_SMALLEST_LEVEL = 64


def export_volume(volume: VolumeFile, out: Path, to: ExportFormat) -> Path:
    """Write a volume in another format.

    Parameters
    ----------
    volume
        From `npsi_twin.storage.volumes.open_volume`.
    out
        File to write (a folder for OME-Zarr); its suffix must be that of the format, and nothing may be there.
    to
        Format.

    Returns
    -------
    pathlib.Path
        What was written.

    Raises
    ------
    ParameterError
        For a suffix that is not the format's.
    DataError
        When something is there already, or values do not fit the format.
    MissingBackendError
        For OME-Zarr without the package zarr.
    """
    if not out.name.lower().endswith(_SUFFIX[to]):
        raise ParameterError(f"--out: got {out.name}; {to} is written to a name that ends in {_SUFFIX[to][0]}.")
    for name in (out, out.with_suffix(".json")) if to == "npy" else (out,):
        if name.exists() or name.is_symlink():
            raise DataError(f"{name}: exists. Give another name with --out, or remove it first.")
    if not out.parent.is_dir():
        raise DataError(f"{out.parent}: no such folder. Make it first, or give another --out.")
    if to == "ome-zarr":
        _write_zarr(volume, out)
    elif to == "tiff":
        with written_whole(out) as path:
            _write_tiff(volume, path)
    else:
        with written_whole(out) as path:
            _write_npy(volume, path)
        write_text_whole(out.with_suffix(".json"), json.dumps(_facts(volume), indent=2) + "\n")
    return out


def is_labels(volume: VolumeFile) -> bool:
    """Tell whether a volume holds labels rather than grey values."""
    return volume.dtype.kind in "bui"


def _facts(volume: VolumeFile) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "name": volume.name or volume.path.stem,
        "shape": list(volume.shape),
        "axes": "z,y,x; z along the rotation axis",
        "voxel_nm": volume.voxel_nm,
        "unit": volume.unit,
        "written_by": f"npsi-twin {version('npsi-twin')}",
    }
    if volume.name == "phase":
        facts["labels"] = {str(label): name for label, name in PHASE_NAMES.items()}
    return facts


def _slices(volume: VolumeFile, dtype: np.dtype[Any]) -> Iterator[NDArray[Any]]:
    for row in range(volume.shape[0]):
        image = volume.read(range(row, row + 1))[0]
        if dtype != volume.dtype and dtype.kind == "u" and (image.min() < 0 or image.max() > np.iinfo(dtype).max):
            raise DataError(
                f"{volume.path}: slice {row} holds the label {image.max()}, the format labels up to "
                f"{np.iinfo(dtype).max}. Export to npy or ome-zarr."
            )
        yield image.astype(dtype, copy=False)


def _portable(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type that ImageJ can hold for ours."""
    if dtype.kind == "f":
        return np.dtype(np.float32)
    return dtype if dtype in (np.dtype(np.uint8), np.dtype(np.uint16)) else np.dtype(np.uint16)


def _write_tiff(volume: VolumeFile, path: Path) -> None:
    import tifffile

    dtype, voxel = _portable(volume.dtype), volume.voxel_nm
    small = math.prod(volume.shape) * dtype.itemsize < _LARGEST_IMAGEJ_BYTES
    metadata: dict[str, Any] = {"axes": "ZYX"}
    if small:
        metadata |= {"spacing": voxel, "unit": "nm", "Info": json.dumps(_facts(volume))}
    else:
        metadata["Name"] = volume.name or volume.path.stem
        for axis in "XYZ":
            metadata |= {f"PhysicalSize{axis}": voxel, f"PhysicalSize{axis}Unit": "nm"}
    with path.open("wb") as file:
        tifffile.imwrite(
            file,
            _slices(volume, dtype),
            shape=volume.shape,
            dtype=dtype,
            imagej=small,
            ome=not small,
            bigtiff=not small,
            photometric="minisblack",
            resolution=(1 / voxel, 1 / voxel) if small else None,
            metadata=metadata,
            software=False,
        )


def _write_npy(volume: VolumeFile, path: Path) -> None:
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": np.lib.format.dtype_to_descr(volume.dtype), "fortran_order": False, "shape": volume.shape}
        )
        for image in _slices(volume, volume.dtype):
            file.write(np.ascontiguousarray(image).tobytes())


def _write_zarr(volume: VolumeFile, out: Path) -> None:
    try:
        import zarr
    except ImportError:
        raise MissingBackendError(
            "export to ome-zarr needs the package zarr (version 3). Install it with: pip install 'npsi-twin[zarr]', or "
            "export to tiff."
        ) from None
    store = out.with_name(f".{out.name}.partial")
    try:
        _fill_zarr(volume, zarr, store)
        store.rename(out)
    finally:
        shutil.rmtree(store, ignore_errors=True)


def _fill_zarr(volume: VolumeFile, zarr: Any, store: Path) -> None:
    root = zarr.open_group(store, mode="w", zarr_format=3)
    levels = _levels(volume.shape)
    arrays = [
        root.create_array(
            str(level),
            shape=shape,
            dtype=volume.dtype,
            chunks=tuple(min(_CHUNK, n) for n in shape),
            config={"write_empty_chunks": True},  # so that a chunk that is not there was lost
        )
        for level, shape in enumerate(levels)
    ]
    # A slab is as high as a chunk, and a multiple of what a voxel of the coarsest level spans.
    height = math.lcm(_CHUNK, 2 ** (len(levels) - 1))
    for start in range(0, volume.shape[0], height):
        block = volume.read(range(start, min(start + height, volume.shape[0])))
        for level, array in enumerate(arrays):
            first = start // 2**level
            array[first : first + len(block)] = block
            if level + 1 < len(arrays):
                block = _halved(block, levels[level + 1], volume.dtype)
    root.attrs["ome"] = _multiscales(volume, len(levels))
    root.attrs["npsi_twin"] = _facts(volume)


def _levels(shape: tuple[int, int, int]) -> list[tuple[int, int, int]]:
    """Return the shapes of the pyramid, halved until the largest side is small; odd ends are dropped.

    Examples
    --------
    >>> _levels((100, 256, 256))
    [(100, 256, 256), (50, 128, 128), (25, 64, 64)]
    """
    levels = [shape]
    while max(levels[-1]) > _SMALLEST_LEVEL and min(levels[-1]) >= 2:
        nz, ny, nx = levels[-1]
        levels.append((nz // 2, ny // 2, nx // 2))
    return levels


def _halved(block: NDArray[Any], shape: tuple[int, int, int], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the next level of a block: means of grey values, every second voxel of labels."""
    nz, ny, nx = len(block) // 2, shape[1], shape[2]
    even = block[: 2 * nz, : 2 * ny, : 2 * nx]
    if dtype.kind != "f":
        return even[::2, ::2, ::2]
    eight = even.reshape(nz, 2, ny, 2, nx, 2)
    return np.asarray(eight.mean(axis=(1, 3, 5), dtype=np.float64), dtype)


def _multiscales(volume: VolumeFile, levels: int) -> dict[str, Any]:
    """Return the OME-NGFF attributes; a halved voxel's middle lies between those of its two parts."""
    voxel = volume.voxel_nm
    datasets = []
    for level in range(levels):
        # Labels keep the place of the first of two voxels, means lie half-way.
        shift = 0.0 if is_labels(volume) else (2**level - 1) / 2 * voxel
        steps = [
            {"type": "scale", "scale": [voxel * 2**level] * 3},
            {"type": "translation", "translation": [shift] * 3},
        ]
        datasets.append({"path": str(level), "coordinateTransformations": steps})
    axes = [{"name": name, "type": "space", "unit": "nanometer"} for name in "zyx"]
    scale = {"name": volume.name or volume.path.stem, "axes": axes, "datasets": datasets}
    found: dict[str, Any] = {
        "version": "0.5",
        "multiscales": [scale | {"type": "nearest" if is_labels(volume) else "mean"}],
    }
    if volume.name == "phase":
        found["image-label"] = {
            "version": "0.5",
            "properties": [{"label-value": label, "name": text} for label, text in PHASE_NAMES.items()],
        }
    return found
