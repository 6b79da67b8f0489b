"""Volumes for other programs: read back with independent readers, voxel size and unit kept."""

import json

import numpy as np
import pytest
import tifffile

from npsi_twin.errors import DataError, MissingBackendError, ParameterError
from npsi_twin.storage import exports
from npsi_twin.storage.exports import export_volume
from npsi_twin.storage.volumes import create_volumes, open_volume, write_slab

SHAPE, VOXEL = (5, 66, 130), 50.8


@pytest.fixture
def volumes(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        "attenuation_per_um": rng.random(SHAPE, np.float32),
        "phase": rng.integers(0, 6, SHAPE).astype(np.uint8),
        "particle_id": rng.integers(0, 900, SHAPE).astype(np.int32),
    }
    kinds = {name: values.dtype for name, values in arrays.items()}
    with create_volumes(tmp_path / "v.h5", SHAPE, kinds, voxel_nm=VOXEL, compressed=True) as file:
        write_slab(file, 0, arrays)
    return {name: (open_volume(tmp_path / "v.h5", name), values) for name, values in arrays.items()}


@pytest.mark.parametrize("name", ["attenuation_per_um", "phase", "particle_id"])
def test_imagej_sees_values_voxel_and_unit(tmp_path, volumes, name):
    volume, values = volumes[name]
    export_volume(volume, tmp_path / "a.tif", "tiff")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.is_imagej
        assert file.series[0].axes == "ZYX"
        np.testing.assert_array_equal(file.asarray(), values)
        metadata = file.imagej_metadata
        assert (metadata["spacing"], metadata["unit"]) == (VOXEL, "nm")
        upper, lower = file.pages[0].tags["XResolution"].value
        assert lower / upper == pytest.approx(VOXEL)
    back = open_volume(tmp_path / "a.tif")
    assert back.voxel_nm == VOXEL
    np.testing.assert_array_equal(back.read(range(1, 3)), values[1:3])


def test_beyond_four_gigabytes_it_is_ome_tiff(tmp_path, volumes, monkeypatch):
    monkeypatch.setattr(exports, "_LARGEST_IMAGEJ_BYTES", 1000)
    volume, values = volumes["attenuation_per_um"]
    export_volume(volume, tmp_path / "a.tif", "tiff")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.is_ome
        assert file.is_bigtiff
        np.testing.assert_array_equal(file.asarray(), values)
    assert open_volume(tmp_path / "a.tif").voxel_nm == VOXEL


def test_npy_states_beside_itself_what_it_cannot_hold(tmp_path, volumes):
    volume, values = volumes["phase"]
    export_volume(volume, tmp_path / "a.npy", "npy")
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), values)
    facts = json.loads((tmp_path / "a.json").read_text())
    assert facts["voxel_nm"] == VOXEL
    assert facts["labels"]["1"] == "silicon"


def test_equal_volumes_give_equal_files(tmp_path, volumes):
    for name in ("a.tif", "b.tif"):
        export_volume(volumes["phase"][0], tmp_path / name, "tiff")
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()


def test_ome_zarr_keeps_voxel_unit_and_a_pyramid(tmp_path, volumes):
    zarr = pytest.importorskip("zarr", reason="zarr (the extra 'zarr') is not installed: OME-Zarr is not tested")
    for name in ("attenuation_per_um", "phase"):
        volume, values = volumes[name]
        root = zarr.open_group(export_volume(volume, tmp_path / f"{name}.zarr", "ome-zarr"), mode="r")
        np.testing.assert_array_equal(root["0"][:], values)
        assert root["1"].shape == (2, 33, 65)
        eight = values[:4, :66, :130].reshape(2, 2, 33, 2, 65, 2)
        halved = eight.mean(axis=(1, 3, 5)) if name != "phase" else eight[:, 0, :, 0, :, 0]
        np.testing.assert_allclose(root["1"][:], halved, rtol=1e-6)
        scales = root.attrs["ome"]["multiscales"][0]
        assert [axis["unit"] for axis in scales["axes"]] == ["nanometer"] * 3
        assert scales["datasets"][1]["coordinateTransformations"][0]["scale"] == [2 * VOXEL] * 3
    assert root.attrs["ome"]["image-label"]["properties"][1]["name"] == "silicon"


def test_the_package_ome_zarr_reads_values_voxel_and_unit(tmp_path, volumes):
    io = pytest.importorskip(
        "ome_zarr.io", reason="ome-zarr is not installed, and in no extra: it needs a cloud's clients"
    )
    from ome_zarr.reader import Reader

    volume, values = volumes["attenuation_per_um"]
    folder = export_volume(volume, tmp_path / "a.zarr", "ome-zarr")
    image = next(iter(Reader(io.parse_url(folder))()))
    np.testing.assert_array_equal(image.data[0].compute(), values)
    assert [(axis["name"], axis["unit"]) for axis in image.metadata["axes"]] == [(name, "nanometer") for name in "zyx"]
    for level, (scaling, *_) in enumerate(image.metadata["coordinateTransformations"]):
        assert scaling["scale"] == [VOXEL * 2**level] * 3


def test_without_zarr_it_says_what_to_install(tmp_path, volumes, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "zarr", None)
    with pytest.raises(MissingBackendError, match=r"npsi-twin\[zarr\]"):
        export_volume(volumes["phase"][0], tmp_path / "a.zarr", "ome-zarr")
    assert not list(tmp_path.glob("*.zarr*"))


def test_nothing_is_overwritten_and_labels_must_fit(tmp_path, volumes):
    (tmp_path / "a.tif").write_text("mine")
    with pytest.raises(DataError, match="exists"):
        export_volume(volumes["phase"][0], tmp_path / "a.tif", "tiff")
    assert (tmp_path / "a.tif").read_text() == "mine"
    with pytest.raises(ParameterError, match="ends in .tif"):
        export_volume(volumes["phase"][0], tmp_path / "a.png", "tiff")
    np.save(tmp_path / "big.npy", np.full((1, 2, 2), 70_000, np.int32))
    with pytest.raises(DataError, match="label 70000"):
        export_volume(open_volume(tmp_path / "big.npy", voxel_nm=1.0), tmp_path / "b.tif", "tiff")
    assert not (tmp_path / "b.tif").exists()


def test_oblong_voxels_of_a_tiff_are_refused(tmp_path):
    stack = np.zeros((3, 4, 5), np.uint8)
    metadata = {"axes": "ZYX", "spacing": 100.0, "unit": "nm"}
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, resolution=(1 / 50, 1 / 50), metadata=metadata)
    with pytest.raises(DataError, match="100 x 50 x 50 nm"):
        open_volume(tmp_path / "a.tif")
