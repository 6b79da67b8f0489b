"""Every layout gives the same scan: Data Exchange and its variants, NXtomo, FXI, TIFF folders, named places."""

import pickle

import h5py
import numpy as np
import pytest
import tifffile

from npsi_twin.errors import IncompatibleError
from npsi_twin.scan import ParallelBeam, Scan
from npsi_twin.storage.dataexchange import create_scan, write_rows
from npsi_twin.storage.formats import open_scan
from npsi_twin.storage.nexus import create_nxtomo, write_nxtomo_rows
from npsi_twin.storage.scanfile import Reading

VIEWS, ROWS, COLUMNS, FLATS, DARKS = 9, 5, 7, 4, 2
#: Two flats before the scan, one after the third view, one after the last.
FLAT_VIEWS = np.array([0, 0, 3, 9])


@pytest.fixture
def scan():
    rng = np.random.default_rng(1)
    beam = ParallelBeam(np.linspace(0, np.pi, VIEWS, endpoint=False), COLUMNS, 50.8)
    counts = [rng.integers(0, 65536, (n, ROWS, COLUMNS)).astype(np.uint16) for n in (VIEWS, FLATS, DARKS)]
    return Scan(*counts, beam, energy_kev=8.0, flat_views=FLAT_VIEWS)


@pytest.fixture
def angles_deg(scan):
    return np.degrees(scan.beam.angles_rad)


def same(found, scan, *, flat_views=None):
    """Check that every row of a scan file is the scan's."""
    np.testing.assert_allclose(found.beam.angles_rad, scan.beam.angles_rad, atol=1e-7)
    part = pickle.loads(pickle.dumps(found)).read(range(1, ROWS))  # noqa: S301  # workers get it pickled
    for name in ("projections", "flats", "darks"):
        np.testing.assert_array_equal(getattr(part, name), getattr(scan, name)[:, 1:])
    if flat_views is None:
        assert part.flat_views is None
    else:
        np.testing.assert_array_equal(part.flat_views, flat_views)
    np.testing.assert_array_equal(found.read_projection(4), scan.projections[4])
    np.testing.assert_allclose(found.read_mean_flat(), scan.flats.mean(axis=0))


def facts_of(scan):
    return {
        "beam": scan.beam,
        "rows": ROWS,
        "flats": FLATS,
        "darks": DARKS,
        "energy_kev": 8.0,
        "sample": "s",
        "facts": {"measurement/instrument/detector/binning_x": (2, "")},
    }


@pytest.mark.parametrize(("create", "write"), [(create_scan, write_rows), (create_nxtomo, write_nxtomo_rows)])
@pytest.mark.parametrize("known", [True, False])
def test_what_is_written_in_slabs_is_read_back(tmp_path, scan, create, write, known):
    places = FLAT_VIEWS if known else None
    with create(tmp_path / "s.h5", **facts_of(scan), flat_views=places) as file:
        for rows in (slice(0, 2), slice(2, 5)):
            part = [counts[:, rows] for counts in (scan.projections, scan.flats, scan.darks)]
            write(file, Scan(*part, scan.beam, first_row=rows.start, flat_views=places))
    found = open_scan(tmp_path / "s.h5")
    assert found.beam.pixel_nm == pytest.approx(50.8)
    assert found.energy_kev == 8.0
    # NXtomo orders its frames in time, so it always tells; all before the scan is what it is written with.
    expected = FLAT_VIEWS if known else (np.zeros(FLATS) if create is create_nxtomo else None)
    same(found, scan, flat_views=expected)


def test_flats_after_more_views_than_there_are_or_for_no_frame_are_refused(scan):
    for places in ([0, 0, 0, 10], [0, 0, 0], [-1, 0, 0, 0]):
        with pytest.raises(IncompatibleError, match="flat_views"):
            Scan(scan.projections, scan.flats, scan.darks, scan.beam, flat_views=np.array(places))


def exchange(path, scan, angles_deg, **changes):
    """Write a Data Exchange file by hand; a change of None leaves out, names are below /exchange."""
    parts = {"data": scan.projections, "data_white": scan.flats, "data_dark": scan.darks, "theta": angles_deg}
    with h5py.File(path, "w") as file:
        for name, values in (parts | changes).items():
            if values is not None:
                file[name if "/" in name else f"exchange/{name}"] = values
        if "exchange/theta" in file:
            file["exchange/theta"].attrs["units"] = "degrees"
    return path


def test_flats_in_groups_keep_their_place(tmp_path, scan, angles_deg):
    groups = {"data_white": None, "data_white_post": scan.flats[3:], "data_white_pre": scan.flats[:3]}
    found = open_scan(exchange(tmp_path / "a.h5", scan, angles_deg, **groups))
    same(found, scan, flat_views=[0, 0, 0, VIEWS])


def test_tomoscans_record_of_frames_tells_when_flats_were_taken(tmp_path, scan, angles_deg):
    kinds = ["/exchange/data_white"] * 2 + ["/exchange/data"] * 3 + ["/exchange/data_white"] + ["/exchange/data"] * 6
    kinds += ["/exchange/data_white"] + ["/exchange/data_dark"] * 2
    record = {"defaults/HDF5FrameLocation": np.array([kind.encode() for kind in kinds])}
    same(open_scan(exchange(tmp_path / "a.h5", scan, angles_deg, **record)), scan, flat_views=FLAT_VIEWS)


@pytest.mark.parametrize(
    ("mode", "expected"), [("Start", [0] * 4), ("End", [VIEWS] * 4), ("Both", [0, 0, VIEWS, VIEWS]), ("None", None)]
)
def test_the_mode_of_the_flats_tells_when_they_were_taken(tmp_path, scan, angles_deg, mode, expected):
    named = {"process/acquisition/flat_fields/flat_field_mode": mode}
    same(open_scan(exchange(tmp_path / "a.h5", scan, angles_deg, **named)), scan, flat_views=expected)


def test_the_angles_of_the_flats_tell_when_they_were_taken(tmp_path, scan, angles_deg):
    # Halfway between the second and third view, and so on: the number of views before is unambiguous.
    white = {"theta_white": np.array([-5.0, -5.0, 50.0, 170.0])}
    same(open_scan(exchange(tmp_path / "a.h5", scan, angles_deg, **white)), scan, flat_views=FLAT_VIEWS)


@pytest.mark.parametrize("prefix", ["", "rotation_"])
def test_angles_as_commanded_are_angles_that_the_file_states(tmp_path, scan, angles_deg, prefix):
    rotation = "process/acquisition/rotation"
    stated = {f"{rotation}/{prefix}start": 0.0, f"{rotation}/{prefix}step": 20.0, f"{rotation}/num_angles": VIEWS}
    path = exchange(tmp_path / "a.h5", scan, angles_deg, theta=None, **stated)
    found = open_scan(path, theta_unit="deg")
    same(found, scan)
    assert "commanded" in found.notes["angles"]


@pytest.mark.parametrize("kind", ["u1", ">u2", "<f2", ">f4", "f8", "i2", "u4"])
def test_real_numbers_of_any_type_are_read_without_loss(tmp_path, scan, angles_deg, kind):
    low = [(counts % 100 + 2).astype(kind) for counts in (scan.projections, scan.flats, scan.darks)]
    parts = dict(zip(("data", "data_white", "data_dark"), low, strict=True))
    part = open_scan(exchange(tmp_path / "a.h5", scan, angles_deg, **parts)).read(range(ROWS))
    for name, expected in zip(("projections", "flats", "darks"), low, strict=True):
        np.testing.assert_array_equal(getattr(part, name), expected.astype(np.float64))
        assert getattr(part, name).dtype.isnative


def nexus(path, scan, *, entry="entry1/tomo_entry", definition="NXtomo", keys=None, data=None, detector="detector"):
    """Write the layout of Diamond's beamlines by hand: flats and projections in one stack."""
    frames = np.concatenate([scan.darks, scan.flats[:2], scan.projections, scan.flats[2:], scan.projections[:1]])
    with h5py.File(path, "w") as file:
        group = file.create_group(entry)
        if definition:
            group["definition"] = definition
        at = f"instrument/{detector}"
        group[f"{at}/image_key"] = [2, 2, 1, 1, *[0] * VIEWS, 1, 1, 3] if keys is None else keys
        group[f"{at}/data"] = frames if data is None else data
        group[f"{at}/x_pixel_size"] = 50.8e-9
        group[f"{at}/x_pixel_size"].attrs["units"] = "m"
        angles = np.concatenate([np.zeros(4), np.degrees(scan.beam.angles_rad), np.zeros(3)])
        group["sample/rotation_angle"] = angles
        group["sample/rotation_angle"].attrs["units"] = "degree"
        group["data/data"] = h5py.SoftLink(f"/{entry}/{at}/data")
    return path


def test_image_keys_sort_the_frames_and_invalid_ones_are_left_out(tmp_path, scan):
    found = open_scan(nexus(tmp_path / "a.nxs", scan))
    same(found, scan, flat_views=[0, 0, VIEWS, VIEWS])
    assert found.beam.pixel_nm == pytest.approx(50.8)
    assert "1 marked as invalid" in found.notes["frames left out"]


def test_a_raw_diamond_file_without_a_definition_is_read(tmp_path, scan):
    path = nexus(tmp_path / "a.nxs", scan, entry="entry", definition="", detector="imaging")
    with h5py.File(path, "a") as file:
        # A second detector that nobody copied must not be in the way.
        file["entry/instrument/other/image_key"] = np.zeros(3, int)
        file["entry/instrument/other/data"] = h5py.ExternalLink("missing.h5", "/data")
    same(open_scan(path), scan, flat_views=[0, 0, VIEWS, VIEWS])


def test_frames_behind_external_links_beside_the_file_are_read(tmp_path, scan):
    path = nexus(tmp_path / "a.nxs", scan)
    (tmp_path / "raw").mkdir()
    with h5py.File(path, "a") as file, h5py.File(tmp_path / "raw" / "frames.h5", "w") as raw:
        raw["entry/data"] = file["entry1/tomo_entry/instrument/detector/data"][()]
        del file["entry1/tomo_entry/instrument/detector/data"]
        link = h5py.ExternalLink("raw/frames.h5", "/entry/data")
        file["entry1/tomo_entry/instrument/detector/data"] = link
    found = open_scan(path)
    same(found, scan, flat_views=[0, 0, VIEWS, VIEWS])
    assert [file.name for file in found.projections.files()] == ["a.nxs", "frames.h5"]
    before = found.sha256()
    with h5py.File(tmp_path / "raw" / "frames.h5", "a") as raw:
        raw["entry/data"][5] = 7
    assert open_scan(path).sha256() != before


def test_virtual_data_sets_are_read(tmp_path, scan):
    path = nexus(tmp_path / "a.nxs", scan)
    at = "entry1/tomo_entry/instrument/detector/data"
    with h5py.File(path, "a") as file:
        frames = file[at][()]
        del file[at]
        layout = h5py.VirtualLayout(frames.shape, frames.dtype)
        for number, start in enumerate(range(0, len(frames), 5)):
            part = frames[start : start + 5]
            with h5py.File(tmp_path / f"part{number}.h5", "w") as raw:
                raw["data"] = part
            layout[start : start + 5] = h5py.VirtualSource(f"part{number}.h5", "data", part.shape)
        file.create_virtual_dataset(at, layout)
    same(open_scan(path), scan, flat_views=[0, 0, VIEWS, VIEWS])


def test_alignment_frames_are_no_projections(tmp_path, scan):
    path = nexus(tmp_path / "a.nxs", scan, keys=[2, 2, 1, 1, *[0] * VIEWS, 1, 1, 0])
    with h5py.File(path, "a") as file:
        keys = file["entry1/tomo_entry/instrument/detector/image_key"][()]
        keys[-1] = -1
        file["entry1/tomo_entry/instrument/detector/image_key_control"] = keys
    same(open_scan(path), scan, flat_views=[0, 0, VIEWS, VIEWS])


def fxi(path, scan, angles_deg, size="50.8nm"):
    with h5py.File(path, "w") as file:
        parts = {"img_tomo": scan.projections, "img_bkg": scan.flats, "img_dark": scan.darks, "angle": angles_deg}
        for name, values in (parts | {"X_eng": 8.0, "Pixel Size": size}).items():
            file[name] = values
    return path


def test_the_fxi_layout_is_read(tmp_path, scan, angles_deg):
    found = open_scan(fxi(tmp_path / "fly.h5", scan, angles_deg))
    same(found, scan)
    assert (found.beam.pixel_nm, found.energy_kev) == (50.8, 8.0)
    bare = open_scan(fxi(tmp_path / "bare.h5", scan, angles_deg, size=50.8))
    assert not bare.pixel_known
    assert "--pixel-nm" in bare.notes["pixel size"]


def tiffs(folder, scan, angles_deg):
    for name, frames in (("projections", scan.projections), ("flats_before", scan.flats[:3]), ("darks", scan.darks)):
        (folder / name).mkdir(parents=True)
        for number, image in enumerate(frames):
            # Without leading zeros, as cameras count: 10 comes after 9.
            packed = "zlib" if name == "darks" else None
            tifffile.imwrite(folder / name / f"i_{number + 8}.tif", image, compression=packed)
    tifffile.imwrite(folder / "flats_after.tif", scan.flats[3:], photometric="minisblack")
    (folder / "angles.txt").write_text("# angle in degrees\n" + "\n".join(map(str, angles_deg)))
    return folder


def test_a_folder_of_tiff_images_is_read(tmp_path, scan, angles_deg):
    found = open_scan(tiffs(tmp_path / "scan", scan, angles_deg), pixel_nm=50.8)
    same(found, scan, flat_views=[0, 0, 0, VIEWS])
    assert len(found.sha256()) == 64


def test_places_in_a_file_of_any_layout_can_be_named(tmp_path, scan):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, values in (("p", scan.projections), ("f", scan.flats), ("d", scan.darks)):
            file[f"mine/{name}"] = values
        file["mine/a"] = scan.beam.angles_rad
    where = {"data": "/mine/p", "flats": "/mine/f", "darks": "/mine/d", "theta": "/mine/a"}
    same(open_scan(tmp_path / "a.h5", theta_unit="rad", reading=Reading(where=where)), scan)
    spoken = Reading(theta="0:180:exclusive", where={name: path for name, path in where.items() if name != "theta"})
    same(open_scan(tmp_path / "a.h5", reading=spoken), scan)


def test_line_integrals_become_the_transmissions_they_were(tmp_path, scan, angles_deg):
    integrals = (scan.projections / 65536.0 * 3).astype(np.float32)
    path = exchange(tmp_path / "a.h5", scan, angles_deg, data=integrals, data_white=None, data_dark=None)
    part = open_scan(path, reading=Reading(line_integrals=True)).read(range(ROWS))
    assert part.normalised
    # float32: relative rounding of exp(-3) is below 4e-7.
    np.testing.assert_allclose(-np.log(part.projections), integrals, atol=1e-6)
