"""Volumes, forests and measurements from outside: what they claim is checked before it is read, and no code is run."""

import io
import json
import pickle
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from npsi_twin.errors import DataError, OutOfRangeWarning, ParameterError, ResourceError
from npsi_twin.memory import Memory
from npsi_twin.morphology.forest import load_forest, save_forest
from npsi_twin.numpy_files import npz_arrays
from npsi_twin.storage import volumes
from npsi_twin.storage.exports import export_volume
from npsi_twin.storage.measurements import read_measurements
from npsi_twin.storage.scan_truth import read_scan_truth
from npsi_twin.storage.volumes import open_volume, read_volume, write_volume
from npsi_twin.volumes import Volume

HUGE = (10**6, 20_000, 8_000)
VOXEL = 50.0
A_MAP = "truth/thickness_map_nm"


class Intruder:
    """What runs code when it is unpickled: it makes a folder."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return (Path.mkdir, (self.place,))


def head(shape, kind="<f4"):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": kind, "fortran_order": False, "shape": shape})
    return stream.getvalue()


def archive(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name.replace("__", "/"), content)
    return path


def hdf5(path, change):
    with h5py.File(path, "w") as file:
        change(file)
    return path


def tiff(path, **tags):
    tifffile.imwrite(
        path, np.zeros((4, 16, 16), np.uint16), photometric="minisblack", metadata=None, compression="zlib"
    )
    with tifffile.TiffFile(path, mode="r+") as file:
        for page in file.pages:
            for tag, value in tags.items():
                page.tags[tag].overwrite(value)
    return path


def zarr_folder(path, *, array=None, dataset="0", chunks=None):
    """Write the files of an OME-Zarr 0.4 by hand."""
    (path / "0").mkdir(parents=True)
    axes = [{"name": name, "type": "space", "unit": "nanometer"} for name in "zyx"]
    scale = [{"type": "scale", "scale": [VOXEL] * 3}]
    image = {"version": "0.4", "axes": axes, "datasets": [{"path": dataset, "coordinateTransformations": scale}]}
    known = {"shape": [2, 2, 2], "chunks": [2, 2, 2], "dtype": "|u1", "compressor": None, "filters": None}
    known |= {"zarr_format": 2, "fill_value": 0, "order": "C"}
    (path / ".zgroup").write_text('{"zarr_format": 2}')
    (path / ".zattrs").write_text(json.dumps({"multiscales": [image]}))
    (path / "0" / ".zarray").write_text(json.dumps(known | (array or {})))
    for name, content in ({"0.0.0": bytes(8)} if chunks is None else chunks).items():
        (path / "0" / name).write_bytes(content)
    return path


def short_npy(path):
    path.write_bytes(head((4, 4, 4)) + bytes(100))
    return path


def claim(path, shape):
    path.write_bytes(head(shape))
    return path


def named_twice(file):
    file["a"] = np.ones((2, 2, 2))
    file.attrs["voxel_nm"] = [1.0, 2.0, 3.0]


CLAIMS = {
    "npy of 640 TB": (lambda p: claim(p / "a.npy", HUGE), "claims the shape"),
    "npy with negative sides": (lambda p: claim(p / "a.npy", (-2, 2, 2)), "claims the shape"),
    "npy with sides beyond 64 bits": (lambda p: claim(p / "a.npy", (10**30, 2, 2)), "claims the shape|cannot be read"),
    "npy cut short": (lambda p: short_npy(p / "a.npy"), "100 bytes follow"),
    "npz of 640 TB": (lambda p: archive(p / "a.npz", **{"a.npy": head(HUGE)}), "claims the shape"),
    "npz of something else": (lambda p: archive(p / "a.npz", a="text"), "holds nothing"),
    "HDF5 of 320 TB": (
        lambda p: hdf5(p / "a.h5", lambda f: f.create_dataset("a", HUGE, "u2", chunks=(1, 99, 99))),
        "claims the shape",
    ),
    "HDF5 whose voxel is no cube": (lambda p: hdf5(p / "a.h5", named_twice), "cannot be read"),
    "HDF5 that holds itself": (lambda p: hdf5(p / "a.h5", lambda f: f.__setitem__("f", f["/"])), "holds nothing"),
    "TIFF of 29 GB": (
        lambda p: tiff(p / "a.tif", ImageWidth=60_000, ImageLength=60_000, RowsPerStrip=60_000),
        "claims images",
    ),
    "zarr of 160 TB": (lambda p: zarr_folder(p / "a.zarr", array={"shape": HUGE}), "claims the shape"),
    "zarr with one huge chunk": (lambda p: zarr_folder(p / "a.zarr", array={"chunks": HUGE}), "claims the shape"),
    "zarr that names a group": (lambda p: zarr_folder(p / "a.zarr", dataset=""), "names no array"),
    "zarr with a short chunk": (lambda p: zarr_folder(p / "a.zarr", chunks={"0.0.0": b"abc"}), "cannot be read"),
}


@pytest.mark.parametrize(("make", "message"), CLAIMS.values(), ids=CLAIMS.keys())
def test_a_volume_that_claims_what_it_has_not_is_refused(tmp_path, make, message):
    path = make(tmp_path)
    if path.suffix == ".zarr":
        pytest.importorskip("zarr")
    with pytest.raises(DataError, match=message) as caught:
        read_volume(path, voxel_nm=VOXEL)
    assert str(path) in str(caught.value)


def test_a_bomb_in_an_archive_is_told_by_its_size(tmp_path):
    """Two files in a zip may share one packed body or state a wrong length; deflate packs 1032-fold at most."""
    packed = archive(tmp_path / "a.npz", **{"a.npy": head((64, 64, 64), "|u1") + bytes(64**3)})
    content = bytearray(packed.read_bytes())
    at = content.index(b"PK\x01\x02") + 24  # the length in the directory, which is what readers believe
    content[at : at + 4] = (2**31).to_bytes(4, "little")
    packed.write_bytes(content)
    with pytest.raises(DataError, match=r"claims 2147483648 bytes, packed in"):
        npz_arrays(packed)


def test_a_volume_beyond_the_memory_is_refused_with_both_numbers(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", np.zeros((64, 64, 64), np.uint8))
    monkeypatch.setattr(volumes, "memory_there", lambda: Memory(2.0**16, "this machine has"))
    found = open_volume(tmp_path / "a.npy", voxel_nm=VOXEL)
    assert found.read(range(16)).shape == (16, 64, 64)
    with pytest.raises(ResourceError, match=r"0.000244 GiB.*6.1e-05 GiB"):
        read_volume(tmp_path / "a.npy", voxel_nm=VOXEL)


def test_pickles_are_never_opened(tmp_path):
    pytest.importorskip("zarr")
    sign = tmp_path / "intruded"
    np.save(tmp_path / "a.npy", np.array([Intruder(sign)], object), allow_pickle=True)
    (tmp_path / "b.npy").write_bytes(pickle.dumps(Intruder(sign)))
    np.savez(tmp_path / "c.npz", a=np.array([Intruder(sign)], object))
    bodies = {"0.0.0": pickle.dumps(Intruder(sign))}
    zarr_folder(tmp_path / "d.zarr", array={"filters": [{"id": "pickle"}]}, chunks=bodies)
    zarr_folder(tmp_path / "e.zarr", array={"compressor": {"id": "pickle"}}, chunks=bodies)
    zarr_folder(tmp_path / "f.zarr", array={"dtype": "|O", "filters": [{"id": "pickle"}]}, chunks=bodies)
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(DataError, match="cannot be read"):
            read_volume(path, voxel_nm=VOXEL)
    with pytest.raises(DataError, match="no forest"):
        load_forest(tmp_path / "c.npz")
    assert not sign.exists()


@pytest.mark.parametrize("place", ["../other.zarr/0", "/etc", "0/../../other.zarr/0", "..\\other.zarr\\0"])
def test_a_zarr_leads_nowhere_else(tmp_path, place):
    pytest.importorskip("zarr")
    zarr_folder(tmp_path / "other.zarr", chunks={"0.0.0": b"SECRET!!"})
    with pytest.raises(DataError, match="cannot be read"):
        read_volume(zarr_folder(tmp_path / "a.zarr", dataset=place))


def test_a_link_in_a_zarr_is_not_followed_out_of_it(tmp_path):
    pytest.importorskip("zarr")
    (tmp_path / "secret").write_bytes(b"SECRET!!")
    path = zarr_folder(tmp_path / "a.zarr", chunks={})
    (path / "0" / "0.0.0").symlink_to(tmp_path / "secret")
    with pytest.raises(DataError, match=r"0/0\.0\.0 is a link to .*secret"):
        read_volume(path)


def test_lost_chunks_of_a_zarr_are_not_silent(tmp_path):
    pytest.importorskip("zarr")
    with pytest.warns(OutOfRangeWarning, match="1 of 1 chunks are not there and would be read as 0"):
        read_volume(zarr_folder(tmp_path / "a.zarr", chunks={}))
    # Our own export writes chunks of zeros too, so that each of them must be there.
    write_volume(tmp_path / "own.h5", "phase", Volume(np.zeros((65, 4, 4), np.uint8), VOXEL))
    own = export_volume(open_volume(tmp_path / "own.h5"), tmp_path / "own.zarr", "ome-zarr")
    assert read_volume(own).values.shape == (65, 4, 4)
    next(part for part in (own / "0" / "c").rglob("*") if part.is_file()).unlink()
    with pytest.raises(DataError, match="1 of 2 chunks.*copy it anew"):
        read_volume(own)


def test_other_files_that_ome_metadata_name_are_not_opened(tmp_path):
    (tmp_path / "in").mkdir()
    words = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{own}"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="16" SizeY="16" SizeZ="4" SizeC="1" '
        'SizeT="1"><TiffData IFD="0" PlaneCount="4"><UUID FileName="../b.tif">urn:uuid:2</UUID></TiffData></Pixels>'
        "</Image></OME>"
    )
    for path, value, own in (("b.tif", 7, 2), ("in/a.tif", 1, 1)):
        tifffile.imwrite(
            tmp_path / path,
            np.full((4, 16, 16), value, np.uint16),
            description=words.format(own=own),
            metadata=None,
            photometric="minisblack",
        )
    assert np.unique(read_volume(tmp_path / "in" / "a.tif", voxel_nm=VOXEL).values).tolist() == [1]


def test_a_tiff_whose_pages_lead_in_a_circle_ends(tmp_path):
    path = tiff(tmp_path / "a.tif")
    with tifffile.TiffFile(path) as file:
        start, tags = file.pages[0].offset, len(file.pages[0].tags)
    content = bytearray(path.read_bytes())
    content[start + 2 + 12 * tags : start + 6 + 12 * tags] = start.to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(DataError):
        read_volume(path, voxel_nm=VOXEL)


# --- what this package reads back --------------------------------------------------------------------------


def raw_bytes(secret, shape=(8,)):
    def change(file):
        group = file.create_group("truth")
        group.attrs["recipe_digest"] = "0"
        for name in ("thickness_map_nm", "inventory_map_um", "profile_distance_nm", "profile_normalised"):
            group.create_dataset(name, shape, "u1", external=[(str(secret), 0, h5py.h5f.UNLIMITED)])
        for name in ("quantities", "curves"):
            group.create_group(name)
        file.attrs["purpose"] = "truth of a simulated scan"

    return change


@pytest.mark.parametrize(
    "read", [read_measurements, read_scan_truth, lambda path: read_volume(path, A_MAP, voxel_nm=1)]
)
def test_raw_bytes_of_other_files_are_never_shown(tmp_path, read):
    (tmp_path / "secret").write_bytes(b"TOPSECRET" * 100)
    with pytest.raises(DataError, match="raw bytes of other files"):
        read(hdf5(tmp_path / "a.h5", raw_bytes(tmp_path / "secret", (2, 2, 2))))


def test_measurements_are_read_from_their_own_file(tmp_path):
    (tmp_path / "other").mkdir()
    hdf5(tmp_path / "other" / "b.h5", lambda file: file.create_group("truth"))
    for change, message in (
        (lambda file: file.__setitem__("truth", h5py.ExternalLink("../other/b.h5", "/truth")), "outside the folder"),
        (lambda file: file.__setitem__("truth", 1), "has no group /truth/quantities"),
        (lambda file: file.create_group("truth/quantities").__setitem__("a", "text"), "cannot be read"),
    ):
        (tmp_path / "own").mkdir(exist_ok=True)
        with pytest.raises(DataError, match=message) as caught:
            read_measurements(hdf5(tmp_path / "own" / "a.h5", change))
        assert "npsi-twin measure" in str(caught.value)


@pytest.mark.parametrize("axis", ["x", 10**9, -1])
def test_a_truth_of_a_scan_with_a_false_axis_is_named(tmp_path, axis):
    def change(file):
        file.attrs["purpose"] = "truth of a simulated scan"
        file["a"] = np.ones((2, 2))
        file["a"].attrs["row_axis"] = axis

    with pytest.raises(DataError, match=r"a\.h5"):
        read_scan_truth(hdf5(tmp_path / "a.h5", change), range(1))


FORESTS = {
    "a bomb": {"format.npy": head(HUGE)},
    "no arrays": {"format.npy": b"text"},
    "nothing": {},
}


@pytest.mark.parametrize("members", FORESTS.values(), ids=FORESTS.keys())
def test_what_is_no_forest_is_refused(tmp_path, members):
    with pytest.raises(DataError, match="holds no forest"):
        load_forest(archive(tmp_path / "f.npz", **members))
    (tmp_path / "g.npz").write_bytes(b"PK\x03\x04 but no archive")
    with pytest.raises(DataError, match="holds no forest"):
        load_forest(tmp_path / "g.npz")


# --- outputs -----------------------------------------------------------------------------------------------


def test_an_output_never_writes_through_a_link(tmp_path):
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    write_volume(tmp_path / "own.h5", "phase", Volume(np.zeros((2, 4, 4), np.uint8), VOXEL))
    volume = open_volume(tmp_path / "own.h5")
    for name, target in (("a.npy", mine), ("b.npy", tmp_path / "not there yet")):
        (tmp_path / name).symlink_to(target)
        with pytest.raises(DataError, match="exists"):
            export_volume(volume, tmp_path / name, "npy")
    (tmp_path / "c.json").symlink_to(mine)
    with pytest.raises(DataError, match=r"c\.json: exists"):
        export_volume(volume, tmp_path / "c.npy", "npy")
    (tmp_path / "f.npz").symlink_to(tmp_path / "not there yet")
    with pytest.raises(DataError, match="exists"):
        save_forest(tmp_path / "f.npz", None)
    with pytest.raises(ParameterError, match="ends in"):
        export_volume(volume, tmp_path / "..", "npy")
    assert mine.read_text() == "mine"
    assert not (tmp_path / "not there yet").exists()
