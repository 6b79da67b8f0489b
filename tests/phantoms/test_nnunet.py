"""The check of an nnU-Net folder finds every fault that nnU-Net's own would, and a missing spacing."""

import json

import numpy as np
import pytest
import tifffile

from npsi_twin.errors import DataError
from npsi_twin.storage.nnunet import check_nnunet, dataset_json, spacing_json


def write(path, array):
    tifffile.imwrite(path, array, photometric="minisblack")


@pytest.fixture
def dataset(tmp_path):
    folder = tmp_path / "Dataset007_Test"
    rng = np.random.default_rng(1)
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
        for case in ("a", "b"):
            (folder / part / f"{case}.json").write_text(spacing_json(50.0))
    for case in ("a", "b"):
        write(folder / "imagesTr" / f"{case}_0000.tif", rng.random((4, 5, 6), np.float32))
        write(folder / "labelsTr" / f"{case}.tif", rng.integers(0, 4, (4, 5, 6), np.uint8))
    (folder / "dataset.json").write_text(dataset_json("test", training=2, licence="CC0-1.0", description=""))
    return folder


def test_a_sound_folder_passes(dataset):
    found = check_nnunet(dataset)
    assert (found["training"], found["test"], found["labels_found"]) == (2, 0, [0, 1, 2, 3])


def test_nnunets_own_check_passes_where_it_is_installed(dataset, monkeypatch):
    for name in ("raw", "preprocessed", "results"):  # without them it warns when it is imported
        monkeypatch.setenv(f"nnUNet_{name}", str(dataset.parent))
    own = pytest.importorskip("nnunetv2.experiment_planning.verify_dataset_integrity")
    own.verify_dataset_integrity(str(dataset), num_processes=1)
    (dataset / "labelsTr" / "b.tif").unlink()
    with pytest.raises(AssertionError):
        own.verify_dataset_integrity(str(dataset), num_processes=1)


def _tree(dataset, **changes):
    tree = json.loads((dataset / "dataset.json").read_text())
    (dataset / "dataset.json").write_text(json.dumps(tree | changes))


def _nan(dataset):
    image = tifffile.imread(dataset / "imagesTr" / "a_0000.tif")
    image[0, 0, 0] = np.nan
    write(dataset / "imagesTr" / "a_0000.tif", image)


FAULTS = {
    "no dataset.json": (lambda d: (d / "dataset.json").unlink(), "cannot be read"),
    "no numTraining": (lambda d: (d / "dataset.json").write_text('{"labels": {}}'), "lacks channel_names"),
    "wrong number": (lambda d: _tree(d, numTraining=3), "numTraining = 3, imagesTr holds 2"),
    "labels with a gap": (lambda d: _tree(d, labels={"background": 0, "silicon": 2, "c": 3}), "1, 2, 3 and so on"),
    "no background": (lambda d: _tree(d, labels={"a": 0, "b": 1, "c": 2, "d": 3}), "background must be 0"),
    "unknown label": (lambda d: _tree(d, labels={"background": 0, "silicon": 1}), "does not name"),
    "missing channel": (lambda d: _tree(d, channel_names={"0": "TXM", "1": "phase"}), "has the channels _0000"),
    "missing label": (lambda d: (d / "labelsTr" / "a.tif").unlink(), "labelsTr/a.tif: is missing"),
    "missing image": (lambda d: (d / "imagesTr" / "a_0000.tif").unlink(), "labelsTr/a.tif: has no image"),
    "missing spacing": (lambda d: (d / "labelsTr" / "a.json").unlink(), "nnU-Net would take 1, 1, 1"),
    "other spacing": (lambda d: (d / "labelsTr" / "a.json").write_text(spacing_json(1.0)), "spacings of image"),
    "spacing of 0": (lambda d: (d / "labelsTr" / "a.json").write_text(spacing_json(0.0)), "three positive numbers"),
    "other shape": (lambda d: write(d / "labelsTr" / "a.tif", np.zeros((4, 5, 5), "u1")), "differ in shape"),
    "flat": (lambda d: write(d / "labelsTr" / "a.tif", np.zeros((5, 6), "u1")), "has 2 dimensions"),
    "broken": (lambda d: (d / "labelsTr" / "a.tif").write_bytes(b"no TIFF"), "cannot be read"),
    "NaN": (_nan, "holds NaN"),
    "name": (lambda d: d.rename(d.with_name("Phantoms")), "DatasetNNN_Name"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_found_and_told(dataset, fault):
    spoil, said = FAULTS[fault]
    spoil(dataset)
    folder = dataset if dataset.is_dir() else dataset.with_name("Phantoms")
    with pytest.raises(DataError) as refused:
        check_nnunet(folder)
    assert said in str(refused.value)
