"""Volumes on disk: round trips, formats that users bring, and clear refusals."""

import h5py
import numpy as np
import pytest
import tifffile

from npsi_twin.errors import DataError
from npsi_twin.storage.volumes import create_volumes, read_volume, write_slab, write_volume
from npsi_twin.volumes import Volume


def test_slabs_make_the_volume(tmp_path):
    values = np.random.default_rng(0).random((5, 3, 4)).astype(np.float32)
    path = tmp_path / "v.h5"
    with create_volumes(path, values.shape, {"a": np.float32}, voxel_nm=50.8, compressed=True) as file:
        write_slab(file, 0, {"a": values[:2]})
        write_slab(file, 2, {"a": values[2:]})
    volume = read_volume(path, "a")
    np.testing.assert_array_equal(volume.values, values)
    assert volume.voxel_nm == 50.8


def test_equal_volumes_give_equal_bytes(tmp_path):
    labels = Volume(np.arange(24, dtype=np.uint8).reshape(2, 3, 4), 10.0)
    for name in ("a.h5", "b.h5"):
        write_volume(tmp_path / name, "phase", labels)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["phase"].attrs["labels"][5] == "5 unresolved_silicon"


def test_formats_that_users_bring(tmp_path):
    mask = np.random.default_rng(0).random((3, 4, 5)) > 0.5
    np.savez(tmp_path / "m.npz", im=mask)
    np.save(tmp_path / "m.npy", mask)
    tifffile.imwrite(tmp_path / "m.tif", mask.astype(np.uint8), photometric="minisblack")
    for name in ("m.npz", "m.npy", "m.tif"):
        volume = read_volume(tmp_path / name, voxel_nm=5345.0)
        np.testing.assert_array_equal(volume.values, mask)


def test_a_voxel_size_is_never_invented(tmp_path):
    np.save(tmp_path / "m.npy", np.ones((2, 2, 2)))
    with pytest.raises(DataError, match="--voxel-nm"):
        read_volume(tmp_path / "m.npy")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tif", b"no", "cannot be read"),
        ("a.h5", b"no", "cannot be read"),
        ("a.npz", b"no", "cannot be read"),
        ("a.raw", b"no", "suffix"),
    ],
)
def test_a_broken_volume_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_volume(tmp_path / name, voxel_nm=1.0)


def test_pickled_objects_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="cannot be read"):
        read_volume(tmp_path / "a.npy", voxel_nm=1.0)


def test_the_array_must_be_named_where_there_are_several(tmp_path):
    np.savez(tmp_path / "m.npz", a=np.ones((2, 2, 2)), b=np.zeros((2, 2, 2)))
    with pytest.raises(DataError, match="a, b.*--dataset"):
        read_volume(tmp_path / "m.npz", voxel_nm=1.0)
    assert read_volume(tmp_path / "m.npz", "b", voxel_nm=1.0).values.max() == 0


def test_flat_images_are_no_volume(tmp_path):
    tifffile.imwrite(tmp_path / "m.tif", np.ones((4, 5), np.uint8))
    with pytest.raises(DataError, match=r"\(4, 5\)"):
        read_volume(tmp_path / "m.tif", voxel_nm=1.0)
