"""Data sets in the layout of nnU-Net v2: what goes into ``dataset.json``, and a check of a whole folder.

A folder ``DatasetNNN_Name`` holds ``imagesTr/CASE_0000.tif`` (one file a channel), ``labelsTr/CASE.tif`` and, beside
both, ``CASE.json`` with the spacing (z, y, x), since a TIFF states none that nnU-Net reads; ``imagesTs`` and
``labelsTs`` hold what is kept for a test. `check_nnunet` asks what nnU-Net's own check of a data set asks, and more:
without a spacing file nnU-Net goes on with 1, 1, 1, here it is a fault, and the test's cases are looked at too.

References
----------
F. Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation", Nature
Methods 18 (2021) 203, doi:10.1038/s41592-020-01008-z; the documentation of version 2, dataset format.
"""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npsi_twin.errors import DataError
from npsi_twin.storage.volumes import PHASE_NAMES

ENDING = ".tif"
_REQUIRED = ("channel_names", "labels", "numTraining", "file_ending")


def dataset_json(name: str, *, training: int, licence: str, description: str) -> str:
    """Return the text of ``dataset.json`` for one channel of attenuation and the phases as labels.

    Parameters
    ----------
    name
        Name of the data set.
    training
        Number of cases in ``imagesTr``.
    licence, description
        For people.

    Examples
    --------
    >>> json.loads(dataset_json("np-Si", training=2, licence="CC0-1.0", description=""))["labels"]["silicon"]
    1
    """
    labels = {("background" if label == 0 else phase): label for label, phase in sorted(PHASE_NAMES.items())}
    tree = {
        "channel_names": {"0": "TXM"},
        "labels": labels,
        "numTraining": training,
        "file_ending": ENDING,
        "overwrite_image_reader_writer": "Tiff3DIO",
        "name": name,
        "description": description,
        "licence": licence,
    }
    return json.dumps(tree, indent=2) + "\n"


def spacing_json(voxel_nm: float) -> str:
    r"""Return the text of a spacing file: the edges of a voxel (z, y, x), nm.

    Examples
    --------
    >>> spacing_json(50.8)
    '{"spacing": [50.8, 50.8, 50.8]}\n'
    """
    return json.dumps({"spacing": [voxel_nm] * 3}) + "\n"


def check_nnunet(folder: Path) -> dict[str, Any]:
    """Check a data set of 3-D TIFF against the rules of nnU-Net v2.

    Parameters
    ----------
    folder
        The folder ``DatasetNNN_Name``.

    Returns
    -------
    dict
        ``training`` and ``test`` (numbers of cases), ``labels`` (name -> label), ``labels_found`` (sorted).

    Raises
    ------
    DataError
        One line a fault: name, ``dataset.json``, missing files and channels, shapes, spacings, labels, NaN.
    """
    if re.fullmatch(r"Dataset\d{3}_\w[\w-]*", folder.name) is None:
        raise DataError(f"{folder}: nnU-Net knows data sets by folders named DatasetNNN_Name with three digits.")
    tree = _read_tree(folder)
    labels, channels = tree["labels"], [f"_{int(number):04d}" for number in tree["channel_names"]]
    faults: list[str] = []
    allowed = _allowed(labels, faults)
    training, found = _check_part(folder, "Tr", channels, allowed, faults)
    if len(training) != tree["numTraining"]:
        faults.append(f"dataset.json: numTraining = {tree['numTraining']}, imagesTr holds {len(training)} cases")
    test: list[str] = []
    if (folder / "imagesTs").is_dir():
        test, also = _check_part(folder, "Ts", channels, allowed, faults)
        found |= also
    faults += [f"{case}: is in imagesTr and in imagesTs" for case in sorted(set(training) & set(test))]
    if faults:
        raise DataError("\n".join(f"{folder}: {fault}." for fault in faults))
    return {"training": len(training), "test": len(test), "labels": dict(labels), "labels_found": sorted(found)}


def _read_tree(folder: Path) -> dict[str, Any]:
    path = folder / "dataset.json"
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}).") from None
    missing = [key for key in _REQUIRED if not isinstance(tree, dict) or key not in tree]
    if missing:
        raise DataError(f"{path}: lacks {', '.join(missing)}.")
    if tree["file_ending"] != ENDING or tree.get("overwrite_image_reader_writer", "Tiff3DIO") != "Tiff3DIO":
        raise DataError(f"{path}: only 3-D TIFF (file_ending {ENDING!r}, reader Tiff3DIO) is checked here.")
    for part in ("imagesTr", "labelsTr"):
        if not (folder / part).is_dir():
            raise DataError(f"{folder}: has no folder {part}.")
    return dict(tree)


def _allowed(labels: dict[str, int], faults: list[str]) -> list[int]:
    """Return the labels that may be in a file; background is 0, the rest follow one by one, one to ignore is last."""
    values = sorted(labels.values())
    if labels.get("background") != 0 or values != list(range(len(values))):
        faults.append(f"dataset.json: labels are {labels}; background must be 0 and the others 1, 2, 3 and so on")
    if "ignore" in labels and labels["ignore"] != values[-1]:
        faults.append("dataset.json: the label 'ignore' must be the last")
    return values


def _check_part(
    folder: Path, part: str, channels: list[str], allowed: list[int], faults: list[str]
) -> tuple[list[str], set[int]]:
    """Check the cases to train on (Tr) or to test with (Ts); return their names and the labels that are there."""
    images, labelled = folder / f"images{part}", folder / f"labels{part}"
    names = [path.name.removesuffix(ENDING) for path in sorted(images.glob(f"*{ENDING}"))]
    faults += [f"{images.name}/{name}{ENDING}: no channel number" for name in names if not re.search(r"_\d{4}$", name)]
    cases = sorted({name[:-5] for name in names if re.search(r"_\d{4}$", name)})
    found: set[int] = set()
    for case in cases:
        there = sorted(name[-5:] for name in names if name[:-5] == case)
        if there != sorted(channels):
            faults.append(f"{images.name}/{case}: has the channels {', '.join(there)}; {', '.join(channels)} are named")
            continue
        if not (labelled / f"{case}{ENDING}").is_file():
            faults.append(f"{labelled.name}/{case}{ENDING}: is missing")
            continue
        found |= _check_case(case, [images / f"{case}{end}{ENDING}" for end in there], labelled, allowed, faults)
    without = {path.name.removesuffix(ENDING) for path in labelled.glob(f"*{ENDING}")} - set(cases)
    faults += [f"{labelled.name}/{case}{ENDING}: has no image" for case in sorted(without)]
    return cases, found


def _check_case(case: str, images: list[Path], labelled: Path, allowed: list[int], faults: list[str]) -> set[int]:
    paths = [*images, labelled / f"{case}{ENDING}"]
    arrays = [_read(path, faults) for path in paths]
    if any(array is None for array in arrays):
        return set()
    *pictures, labels = (array for array in arrays if array is not None)
    if any(picture.shape != labels.shape for picture in pictures):
        faults.append(f"{case}: image {pictures[0].shape} and labels {labels.shape} differ in shape")
    if any(np.isnan(picture).any() for picture in pictures):
        faults.append(f"{case}: the image holds NaN")
    found = {int(label) for label in np.unique(labels)}
    if not found <= set(allowed):
        faults.append(f"{case}: holds the labels {sorted(found - set(allowed))}, which dataset.json does not name")
    spacings = [_spacing(folder / f"{case}.json", faults) for folder in (images[0].parent, labelled)]
    if None not in spacings and not np.allclose(*spacings):  # type: ignore[arg-type]  # None is ruled out
        faults.append(f"{case}: spacings of image {spacings[0]} and labels {spacings[1]} differ")
    return found


def _read(path: Path, faults: list[str]) -> NDArray[Any] | None:
    import tifffile

    try:
        array = np.asarray(tifffile.imread(path))
    except (OSError, ValueError) as error:  # tifffile's own error is a ValueError
        faults.append(f"{path.parent.name}/{path.name}: cannot be read ({error})")
        return None
    if array.ndim != 3:
        faults.append(f"{path.parent.name}/{path.name}: has {array.ndim} dimensions; (z, y, x) is needed")
        return None
    return array


def _spacing(path: Path, faults: list[str]) -> list[float] | None:
    try:
        spacing = json.loads(path.read_text(encoding="utf-8"))["spacing"]
        if len(spacing) == 3 and all(edge > 0 for edge in spacing):
            return [float(edge) for edge in spacing]
        faults.append(f"{path.parent.name}/{path.name}: spacing = {spacing}; three positive numbers are needed")
    except (OSError, ValueError, KeyError, TypeError):
        faults.append(f"{path.parent.name}/{path.name}: states no spacing; nnU-Net would take 1, 1, 1")
    return None
