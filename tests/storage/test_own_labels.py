import h5py
import numpy as np
import pytest
import tifffile

from npsi_twin.errors import DataError, IncompatibleError, MissingBackendError, ParameterError
from npsi_twin.storage.exports import export_volume
from npsi_twin.storage.own_labels import open_truth, read_labels, true_volume
from npsi_twin.storage.volumes import open_volume, write_volume
from npsi_twin.volumes import Phase, Volume

VOXEL = 50.8
MEANING = {1: Phase.VOID, 2: Phase.SILICON, 3: Phase.CURRENT_COLLECTOR}


@pytest.fixture
def labels():
    return np.random.default_rng(3).integers(1, 4, (4, 6, 8)).astype(np.uint8)


@pytest.fixture
def truth(tmp_path, labels):
    phases = np.array([0, 0, 1, 3], np.uint8)[labels]
    write_volume(tmp_path / "truth.h5", "phase", Volume(phases, VOXEL))
    return open_truth(tmp_path)


def ilastik(path, values):
    """A label export as Ilastik writes it: axes zyxc, no voxel size."""
    with h5py.File(path, "w") as file:
        data = file.create_dataset("exported_data", data=values[..., None], chunks=True)
        data.attrs["axistags"] = '{"axes": [{"key": "z"}, {"key": "y"}, {"key": "x"}, {"key": "c"}]}'


def fiji(path, values, unit="nm", voxel=VOXEL):
    metadata = {"axes": "ZYX", "spacing": voxel, "unit": unit}
    tifffile.imwrite(path, values, imagej=True, resolution=(1 / voxel, 1 / voxel), metadata=metadata)


@pytest.mark.parametrize("kind", ["tif", "h5", "npy", "zarr", "zarr-0.4", "five axes"])
def test_labels_of_other_programs_become_phases(tmp_path, truth, labels, kind):
    stated = None
    if kind == "tif":
        path = tmp_path / "fiji.tif"
        fiji(path, labels, "um", VOXEL / 1000)
    elif kind == "h5":
        path, stated = tmp_path / "ilastik.h5", VOXEL
        ilastik(path, labels)
    elif kind == "npy":
        path, stated = tmp_path / "a.npy", VOXEL
        np.save(path, labels)
    elif kind == "five axes":
        path, stated = tmp_path / "five.h5", VOXEL
        with h5py.File(path, "w") as file:
            file["volume"] = labels[None, None]
    else:
        zarr = pytest.importorskip("zarr", reason="zarr (the extra 'zarr') is not installed: OME-Zarr is not tested")
        path = tmp_path / "a.zarr"
        if kind == "zarr":
            write_volume(tmp_path / "own.h5", "labels", Volume(labels, VOXEL))
            export_volume(open_volume(tmp_path / "own.h5"), path, "ome-zarr")
        else:
            root = zarr.open_group(path, mode="w", zarr_format=2)
            root.create_array("0", data=labels[None, None])
            axes = [{"name": "t", "type": "time"}, {"name": "c", "type": "channel"}]
            axes += [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
            scale = [{"type": "scale", "scale": [1, 1, *[VOXEL / 1000] * 3]}]
            datasets = [{"path": "0", "coordinateTransformations": scale}]
            root.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]
    found = read_labels(path, truth, MEANING, voxel_nm=stated)
    assert found.voxel_nm == VOXEL
    assert np.array_equal(found.values, np.array([0, 0, 1, 3], np.uint8)[labels])


def test_label_images_in_a_zarr_are_named(tmp_path, truth, labels):
    zarr = pytest.importorskip("zarr", reason="zarr (the extra 'zarr') is not installed: OME-Zarr is not tested")
    root = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=3)
    root.create_group("labels").attrs["ome"] = {"version": "0.5", "labels": ["mine"]}
    image = root.create_group("labels/mine")
    image.create_array("s0", data=labels)
    axes = [{"name": name, "type": "space", "unit": "nanometer"} for name in "zyx"]
    datasets = [{"path": "s0", "coordinateTransformations": [{"type": "scale", "scale": [VOXEL] * 3}]}]
    image.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    with pytest.raises(DataError, match="labels/mine"):
        read_labels(tmp_path / "a.zarr", truth, MEANING)
    with pytest.raises(DataError, match="has no image 'labels/yours'"):
        read_labels(tmp_path / "a.zarr", truth, MEANING, dataset="labels/yours")
    found = read_labels(tmp_path / "a.zarr", truth, MEANING, dataset="labels/mine")
    assert np.count_nonzero(found.values == Phase.SILICON) == np.count_nonzero(labels == 2)
    axes[0]["unit"] = "parsec"
    image.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    with pytest.raises(DataError, match="voxel size"):
        read_labels(tmp_path / "a.zarr", truth, MEANING, dataset="labels/mine")


def test_without_zarr_it_says_what_to_install(tmp_path, truth, monkeypatch):
    (tmp_path / "a.zarr").mkdir()
    monkeypatch.setitem(__import__("sys").modules, "zarr", None)
    with pytest.raises(MissingBackendError, match=r"npsi-twin\[zarr\]"):
        read_labels(tmp_path / "a.zarr", truth, MEANING)


def test_what_does_not_lie_on_the_truths_voxels_is_refused(tmp_path, truth, labels):
    np.save(tmp_path / "part.npy", labels[:3])
    with pytest.raises(IncompatibleError, match=r"3 x 6 x 8 labels.*4 x 6 x 8\s+voxels") as caught:
        read_labels(tmp_path / "part.npy", truth, MEANING, voxel_nm=VOXEL)
    assert "another order" not in str(caught.value)
    np.save(tmp_path / "turned.npy", labels.transpose(2, 1, 0))
    with pytest.raises(IncompatibleError, match="another order"):
        read_labels(tmp_path / "turned.npy", truth, MEANING, voxel_nm=VOXEL)
    fiji(tmp_path / "coarse.tif", labels, voxel=51.5)
    with pytest.raises(IncompatibleError, match=r"51.5 nm.*50.8 nm"):
        read_labels(tmp_path / "coarse.tif", truth, MEANING)
    read_labels(tmp_path / "coarse.tif", truth, MEANING, voxel_nm=VOXEL)


def test_what_are_no_labels_is_refused(tmp_path, truth, labels):
    np.save(tmp_path / "a.npy", labels)
    with pytest.raises(DataError, match="--voxel-nm"):
        read_labels(tmp_path / "a.npy", truth, MEANING)
    with pytest.raises(ParameterError, match=r"holds \[3\]"):
        read_labels(tmp_path / "a.npy", truth, {1: Phase.VOID, 2: Phase.SILICON}, voxel_nm=VOXEL)
    np.save(tmp_path / "f.npy", labels.astype(np.float32))
    with pytest.raises(ParameterError, match="whole numbers"):
        read_labels(tmp_path / "f.npy", truth, MEANING, voxel_nm=VOXEL)
    with h5py.File(tmp_path / "p.h5", "w") as file:  # probabilities of three classes
        file["exported_data"] = np.zeros((4, 6, 8, 3), np.float32)
    with pytest.raises(DataError):
        read_labels(tmp_path / "p.h5", truth, MEANING, voxel_nm=VOXEL)
    with pytest.raises(DataError, match="no such file"):
        read_labels(tmp_path / "nothing.tif", truth, MEANING)
    with pytest.raises(DataError, match="A real scan has none"):
        open_truth(tmp_path / "elsewhere")
    write_volume(tmp_path / "own.h5", "attenuation_per_um", Volume(labels.astype(np.float32), VOXEL))
    with pytest.raises(DataError, match="holds no phases"):
        open_truth(tmp_path / "own.h5")
    assert true_volume(truth, "silicon_fraction") is None
    assert np.array_equal(true_volume(truth, "phase").values, np.array([0, 0, 1, 3], np.uint8)[labels])
