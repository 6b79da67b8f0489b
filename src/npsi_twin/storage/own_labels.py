"""Labels that users bring from Ilastik, Dragonfly, Avizo or nnU-Net, to be scored against a truth.

`open_truth` finds the truth of a run. `read_labels` takes a label volume in any format of `npsi_twin.storage.volumes`,
checks that it lies on the truth's voxels, and translates its labels into phases. Nothing is resampled, cropped or
guessed: what does not fit is an error that states both sides.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from npsi_twin.errors import DataError, IncompatibleError
from npsi_twin.morphology.measure import relabel
from npsi_twin.storage.hdf5 import open_hdf5
from npsi_twin.storage.volumes import VolumeFile, open_volume, read_volume
from npsi_twin.volumes import Phase, Volume

#: Voxel sizes that differ by less are one: files keep them as ratios of whole numbers, or with few digits.
_SAME_VOXEL = 1e-3


def open_truth(path: Path) -> VolumeFile:
    """Find the true phases of a run.

    Parameters
    ----------
    path
        Folder of a run, or its truth.h5.

    Raises
    ------
    DataError
        There is no truth.
    """
    file = path / "truth.h5" if path.is_dir() else path
    if not file.is_file():
        raise DataError(
            f"{file}: no such file; labels are scored against the truth of a simulated run, which `npsi-twin build` or "
            "`npsi-twin run` writes. A real scan has none."
        )
    with open_hdf5(file) as content:
        if not content.has("phase"):
            raise DataError(
                f"{file}: holds no phases, as the truth of a run that began with an object of your own; labels can be "
                "scored where the electrode is the package's own."
            )
    return open_volume(file, "phase")


def true_volume(truth: VolumeFile, name: str) -> Volume | None:
    """Read another volume that lies beside the true phases, None where there is none of that name."""
    with open_hdf5(truth.path) as content:
        if not content.has(name):
            return None
    return read_volume(truth.path, name)


def read_labels(
    path: Path,
    truth: VolumeFile,
    meaning: Mapping[int, Phase],
    *,
    dataset: str | None = None,
    voxel_nm: float | None = None,
) -> Volume:
    """Read labels that lie on the truth's voxels, as phases.

    Parameters
    ----------
    path
        TIFF, HDF5, OME-Zarr, npz or npy.
    truth
        From `open_truth`.
    meaning
        Label -> phase for every label that occurs.
    dataset
        Data set, array or image where the file holds several.
    voxel_nm
        Edge of a voxel in nm, where the file does not state it.

    Returns
    -------
    Volume
        Phases (z, y, x).

    Raises
    ------
    IncompatibleError
        Another shape or another voxel size than the truth's; the message states both.
    ParameterError
        A label without a meaning, or numbers that are no labels.
    DataError
        A file that cannot be read, or that does not state its voxel size.
    """
    found = open_volume(path, dataset, voxel_nm=voxel_nm)
    if found.shape != truth.shape:
        hint = ""
        if sorted(found.shape) == sorted(truth.shape):
            hint = " The lengths agree in another order: write it with axes (z, y, x), z along the rotation axis."
        raise IncompatibleError(
            f"{path}: holds {_times(found.shape)} labels (z, y, x), the truth {truth.path} {_times(truth.shape)} "
            f"voxels; both must be the same volume. Segment the whole reconstruction of that run.{hint}"
        )
    if abs(found.voxel_nm / truth.voxel_nm - 1) > _SAME_VOXEL:
        raise IncompatibleError(
            f"{path}: has voxels of {found.voxel_nm:g} nm, the truth {truth.path} of {truth.voxel_nm:g} nm; the "
            "same volume has the same voxels. Correct the file, or give --voxel-nm if it states them wrongly."
        )
    values = found.read(range(found.shape[0]))
    return relabel(Volume(np.asarray(values), truth.voxel_nm), meaning)


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
