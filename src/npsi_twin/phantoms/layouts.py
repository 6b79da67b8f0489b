"""The files of one phantom, image and labels, in the layout that a program trains from.

A reconstruction and its truth in HDF5 -> files below a folder, by paths that hold for the whole set:

* ``nnunet``: ``Dataset501_NpSi/imagesTr/CASE_0000.tif``, ``labelsTr/CASE.tif`` and spacing files; Ts for the test;
* ``tiff``: ``cases/CASE/image.tif`` and ``labels.tif`` as ImageJ writes them;
* ``ome-zarr``: ``cases/CASE/image.zarr`` with the labels in ``labels/phase``;
* ``hdf5``, ``npz``: ``cases/CASE/case.h5`` or ``case.npz`` with ``attenuation_per_um`` and ``phase``.

Every file keeps the voxel size in nm, and the same volumes give the same bytes.
"""

from pathlib import Path
from typing import Literal

import numpy as np

from npsi_twin.errors import MissingBackendError
from npsi_twin.storage.exports import export_volume
from npsi_twin.storage.nnunet import ENDING, spacing_json
from npsi_twin.storage.volumes import VolumeFile, create_volumes, write_slab

Layout = Literal["nnunet", "hdf5", "ome-zarr", "tiff", "npz"]
Split = Literal["train", "validation", "test"]
#: nnU-Net keeps the numbers below 500 for data sets of its own.
NNUNET_FOLDER = "Dataset501_NpSi"
CASES = "cases"


def check_layout(layout: Layout) -> None:
    """Refuse a layout whose package is missing.

    Raises
    ------
    MissingBackendError
        For OME-Zarr without the package zarr.
    """
    if layout == "ome-zarr":
        try:
            import zarr  # noqa: F401
        except ImportError:
            raise MissingBackendError(
                "--to ome-zarr needs the package zarr (version 3). Install it with: pip install 'npsi-twin[zarr]', or "
                "take another format."
            ) from None


def write_pair(image: VolumeFile, labels: VolumeFile, folder: Path, case: str, layout: Layout, split: Split) -> None:
    """Write image and labels of a case below a folder.

    Parameters
    ----------
    image, labels
        Attenuation in 1/um, and phases, of the same shape and voxel.
    folder
        Where paths begin; ``cases/CASE`` is there.
    case
        Its name.
    layout
        For whom.
    split
        Which part it belongs to; nnU-Net keeps test cases apart.
    """
    own = folder / CASES / case
    match layout:
        case "nnunet":
            _write_nnunet(image, labels, folder / NNUNET_FOLDER, case, "Ts" if split == "test" else "Tr")
        case "tiff":
            export_volume(image, own / "image.tif", "tiff")
            export_volume(labels, own / "labels.tif", "tiff")
        case "ome-zarr":
            _write_zarr(image, labels, own / "image.zarr")
        case "hdf5":
            kinds = {"attenuation_per_um": np.float32, "phase": np.uint8}
            with create_volumes(own / "case.h5", image.shape, kinds, voxel_nm=image.voxel_nm, compressed=True) as file:
                write_slab(file, 0, {"attenuation_per_um": _whole(image), "phase": _whole(labels)})
        case "npz":
            np.savez_compressed(
                own / "case.npz",
                attenuation_per_um=_whole(image),
                phase=_whole(labels),
                voxel_nm=np.float64(image.voxel_nm),
            )


def _whole(volume: VolumeFile) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    return volume.read(range(volume.shape[0]))


def _write_nnunet(image: VolumeFile, labels: VolumeFile, folder: Path, case: str, part: str) -> None:
    for kind, volume, name in (("images", image, f"{case}_0000{ENDING}"), ("labels", labels, f"{case}{ENDING}")):
        where = folder / f"{kind}{part}"
        where.mkdir(parents=True)
        export_volume(volume, where / name, "tiff")
        (where / f"{case}.json").write_text(spacing_json(volume.voxel_nm), encoding="utf-8")


def _write_zarr(image: VolumeFile, labels: VolumeFile, store: Path) -> None:
    """Write an image with its label image inside, as OME-NGFF 0.5 places it."""
    import zarr

    export_volume(image, store, "ome-zarr")
    held = zarr.open_group(store, mode="r+").create_group("labels")
    held.attrs["ome"] = {"version": "0.5", "labels": ["phase"]}
    made = export_volume(labels, store / "labels" / "phase.zarr", "ome-zarr")
    made.rename(made.with_suffix(""))
