"""What is wrong with a scan file is said before any work begins: where, why, and what to do. Nothing is invented."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from npsi_twin.errors import DataError, MissingBackendError, OutOfRangeWarning, ParameterError
from npsi_twin.report.scan_facts import inspect_scan
from npsi_twin.storage.formats import open_scan
from npsi_twin.storage.scanfile import Reading

VIEWS, ROWS, COLUMNS = 6, 4, 8
AT = "entry/instrument/detector"


@pytest.fixture
def exchange(tmp_path):
    """Give a function that writes a Data Exchange file with one thing changed."""

    def write(change=lambda file: None, name="scan.h5"):
        with h5py.File(tmp_path / name, "w") as file:
            for part, frames in (("data", VIEWS), ("data_white", 2), ("data_dark", 2)):
                file[f"exchange/{part}"] = np.full((frames, ROWS, COLUMNS), 900, np.uint16)
            file["exchange/theta"] = np.arange(VIEWS) * 30.0
            file["exchange/theta"].attrs["units"] = "deg"
            change(file)
        return tmp_path / name

    return write


@pytest.fixture
def nexus(tmp_path):
    """Give a function that writes an NXtomo file with one thing changed."""

    def write(change=lambda file: None):
        with h5py.File(tmp_path / "scan.nxs", "w") as file:
            file["entry/definition"] = "NXtomo"
            file[f"{AT}/image_key"] = [2, 1, 0, 0, 0, 0]
            file[f"{AT}/data"] = np.full((6, ROWS, COLUMNS), 900, np.uint16)
            file["entry/sample/rotation_angle"] = np.arange(6) * 30.0
            file["entry/sample/rotation_angle"].attrs["units"] = "deg"
            change(file)
        return tmp_path / "scan.nxs"

    return write


def put(name, value, **attributes):
    def change(file):
        if name in file:
            del file[name]
        file[name] = value
        if attributes:
            file[name].attrs.update(attributes)

    return change


def unwritten(shape, chunks=None):
    def change(file):
        del file["exchange/data"]
        file.create_dataset("exchange/data", shape, np.uint16, chunks=chunks)

    return change


def cut_short(file):
    del file["exchange/data"]
    data = file.create_dataset("exchange/data", (VIEWS, ROWS, COLUMNS), np.uint16, chunks=(1, ROWS, COLUMNS))
    data[:3] = 900


def without(name):
    def change(file):
        del file[name]

    return change


DATA = "exchange/data"
EXCHANGE = {
    "no projections": (without(DATA), "has no data set /exchange/data"),
    "a group for projections": (
        lambda file: [without(DATA)(file), file.create_group(DATA)],
        "no data set /exchange/data",
    ),
    "two dimensions": (put(DATA, np.ones((4, 8), np.uint16)), r"shape \(4, 8\); frames as \(frame, row, column\)"),
    "zero frames": (put(DATA, np.ones((0, 4, 8), np.uint16)), r"shape \(0, 4, 8\); frames"),
    "angles for other frames": (put("exchange/theta", np.arange(5.0), units="deg"), "5 angles for 6 projections"),
    "angles that are NaN": (put("exchange/theta", np.full(6, np.nan), units="deg"), "holds NaN or infinity"),
    "angles that are text": (put("exchange/theta", np.full(6, b"a"), units="deg"), "/exchange/theta cannot be read"),
    "current that is text": (put("measurement/instrument/source/current", np.full(6, b"a")), "cannot be read"),
    "energy in furlongs": (put("measurement/instrument/monochromator/energy", 8.0, units="furlong"), "unit 'furlong'"),
    "energy that is text": (put("measurement/instrument/monochromator/energy", "8", units=["keV", "eV"]), "unit"),
    "four dimensions": (put(DATA, np.ones((2, 2, 2, 2))), r"shape \(2, 2, 2, 2\)"),
    "complex": (put(DATA, np.ones((6, 4, 8), complex)), "complex128; real numbers"),
    "bool": (put(DATA, np.ones((6, 4, 8), bool)), "bool; real numbers"),
    "text": (put(DATA, np.full((6, 4, 8), b"a")), "real numbers"),
    "signed with negatives": (put(DATA, np.full((6, 4, 8), -5, np.int16)), r"192 negative values.*\(0, 0, 0\)"),
    "empty": (put("exchange/theta", h5py.Empty("f8")), "theta is empty"),
    "320 TB claimed": (unwritten((10**6, 20_000, 8_000)), "claims the shape"),
    "320 TB claimed in pieces": (unwritten((10**6, 20_000, 8_000), (1, 100, 100)), "claims the shape"),
    "one huge piece": (unwritten((1, 70_000, 70_000), (1, 70_000, 70_000)), "claims the shape"),
    "acquisition cut short": (cut_short, "3 of its 6 pieces"),
    "darks of another size": (put("exchange/data_dark", np.ones((2, 4, 9), np.uint16)), "must agree"),
    "angles in mm": (put("exchange/theta", np.arange(6.0), units="mm"), "unit 'mm'.*--theta-unit"),
    "degrees called radians": (put("exchange/theta", np.arange(6) * 36.0, units="rad"), "--theta-unit deg"),
    "pixel in furlongs": (
        put("measurement/instrument/detector/actual_pixel_size_x", 1.0, units="furlong"),
        "unit 'furlong'",
    ),
    "pixel of zero": (put("measurement/instrument/detector/actual_pixel_size_x", 0.0, units="nm"), "positive number"),
    "pixel without a unit": (put("measurement/instrument/detector/actual_pixel_size_x", 50.0), "unit ''"),
    "NaN in a flat": (
        put("exchange/data_white", np.full((2, 4, 8), np.nan, np.float32)),
        r"64 values that are NaN.*\(0, 0, 0\)",
    ),
    "flats of another type": (put("exchange/data_white_post", np.ones((2, 4, 8), np.float32)), "must agree"),
    "transmissions": (put(DATA, np.full((6, 4, 8), 0.9, np.float32)), "--assume-normalised.*--line-integrals"),
}
NEXUS = {
    "keys for other frames": (put(f"{AT}/image_key", [0, 1]), "marks 2 frames of 6"),
    "no projections": (put(f"{AT}/image_key", [1] * 6), "no frame as a projection"),
    "no flats": (put(f"{AT}/image_key", [2, 0, 0, 0, 0, 0]), "no flat fields.*none are invented"),
    "no angles": (put("entry/sample/rotation_angle", np.zeros((0,))), "0 angles for 4"),
    "no unit of angles": (put("entry/sample/rotation_angle", np.arange(6.0)), "--theta-unit"),
    "oblong pixels": (
        lambda file: [
            put(f"{AT}/{axis}_pixel_size", size, units="m")(file) for axis, size in (("x", 5e-8), ("y", 6e-8))
        ],
        "50 x 60 nm",
    ),
    "two scans": (lambda file: file.copy("entry", "again"), "holds 2 scans: /again, /entry.*--where entry=/again"),
}


@pytest.mark.parametrize(("change", "message"), EXCHANGE.values(), ids=EXCHANGE.keys())
def test_a_fault_in_data_exchange_is_named(exchange, change, message):
    path = exchange(change)
    with pytest.raises(DataError, match=f"(?s){message}") as caught:
        open_scan(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(("change", "message"), NEXUS.values(), ids=NEXUS.keys())
def test_a_fault_in_nxtomo_is_named(nexus, change, message):
    path = nexus(change)
    with pytest.raises(DataError, match=message) as caught:
        open_scan(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("kind", [">u2", "u1", "<i2", "<u4", ">f4", "<f2", "<f8"])
def test_numbers_that_lose_nothing_are_taken_as_they_are(exchange, kind):
    counts = (100 + np.arange(VIEWS * ROWS * COLUMNS) % 100).reshape(VIEWS, ROWS, COLUMNS)
    found = open_scan(exchange(put(DATA, counts.astype(kind)))).read(range(ROWS)).projections
    np.testing.assert_array_equal(found, counts)
    assert found.dtype.isnative
    assert found.dtype != np.float16


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "0 bytes"), (b"<html>404</html>", "16 bytes"), (b"\x89HDF\r\n\x1a\n" + bytes(50), "58 b")],
)
@pytest.mark.parametrize("name", ["scan.h5", "scan.nxs", "scan.tif", "scan"])
def test_what_is_no_hdf5_is_refused_whatever_its_name(tmp_path, content, said, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"not a readable HDF5 file \({said}.*Copy it anew") as caught:
        open_scan(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_a_scan_cut_short_anywhere_is_refused(exchange):
    whole = exchange().read_bytes()
    for kept in np.linspace(1, len(whole) - 1, 40).astype(int):
        path = exchange()
        path.write_bytes(whole[:kept])
        says = f"cannot be read|truncated: {kept} of {len(whole)} bytes"
        with pytest.raises(DataError, match=says):
            open_scan(path).read(range(ROWS))


def test_damage_is_noticed_where_the_file_has_checksums(exchange):
    def change(file):
        counts = file[DATA][()]
        del file[DATA]
        file.create_dataset(DATA, data=counts, chunks=(1, ROWS, COLUMNS), fletcher32=True)

    path = exchange(change)
    content = bytearray(path.read_bytes())
    with h5py.File(path) as file:
        place = file[DATA].id.get_chunk_info(2).byte_offset
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be read.*copy it anew"):
        open_scan(path).read(range(ROWS))


def test_an_unknown_filter_says_what_to_install(exchange, monkeypatch):
    def change(file):
        counts = file[DATA][()]
        del file[DATA]
        file.create_dataset(DATA, data=counts, chunks=(1, ROWS, COLUMNS), compression="gzip")

    path = exchange(change)
    monkeypatch.setattr(h5py.h5z, "filter_avail", lambda code: False)
    with pytest.raises(MissingBackendError, match=r"deflate \(1\).*pip install hdf5plugin"):
        open_scan(path)


def test_one_of_several_scans_can_be_named(nexus):
    path = nexus(lambda file: file.copy("entry", "again"))
    assert open_scan(path, reading=Reading(where={"entry": "/again"})).beam.views == 4


def test_what_might_be_angles_is_shown_but_never_taken(nexus):
    def change(file):
        del file["entry/sample"]
        file["entry/imaging/theta_value"] = np.arange(6) * 30.0

    with pytest.raises(DataError, match=r"none are invented.*/entry/imaging/theta_value"):
        open_scan(nexus(change))
    stated = Reading(where={"theta": "entry/imaging/theta_value"})
    assert open_scan(nexus(change), theta_unit="deg", reading=stated).beam.angles_rad[1] == pytest.approx(np.pi / 2)


def test_a_file_of_no_known_layout_says_how_to_be_read(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["something"] = np.ones(3)
    with pytest.raises(DataError, match="no layout that is known.*--where"):
        open_scan(tmp_path / "a.h5")


@pytest.mark.parametrize("words", ["0:180", "0:180:perhaps", "a:b:exclusive", "0:0:exclusive", "0:nan:inclusive"])
def test_angles_in_words_are_exact(words):
    with pytest.raises(ParameterError, match="start:stop:exclusive"):
        Reading(theta=words)


@pytest.mark.parametrize(
    ("theta", "message"),
    [
        ([0, 30, 30, 60, 90, 120], "1 of 6 angles is repeated"),
        ([0, 1, 2, 3, 4, 90], "a gap of 86 degrees"),
        ([0, 60, 30, 90, 120, 150], "not in order, 1 of 5 steps goes the other way"),
        ([150, 120, 30, 90, 60, 0], "not in order, 1 of 5 steps goes the other way"),
    ],
)
def test_angles_that_a_plain_scan_has_not_are_warned_of(exchange, theta, message):
    with pytest.warns(OutOfRangeWarning, match=message) as told:
        found = open_scan(exchange(put("exchange/theta", np.array(theta, float), units="deg")))
    assert len(told) == 1
    # Nothing is sorted or dropped: an angle belongs to the frame in its place.
    np.testing.assert_allclose(np.degrees(found.beam.angles_rad), theta)


@pytest.mark.parametrize("theta", [np.arange(6) * 30.0, -np.arange(6) * 30.0, np.arange(6) * 60.0])
def test_half_turns_and_full_ones_either_way_round_are_nothing_unusual(exchange, theta):
    open_scan(exchange(put("exchange/theta", theta, units="deg")))


@pytest.mark.parametrize(
    ("first", "last", "word"),
    [
        (0, 180, "both 0 and 180 degrees were recorded: one view is there twice, mirrored"),
        (180, -180, "both -180 and 180 degrees were recorded: one view is there twice, a full turn later"),
        (0, 150, None),
    ],
)
def test_both_ends_of_a_turn_are_used_as_they_are_and_named_by_a_look_at_the_scan(exchange, first, last, word):
    path = exchange(put("exchange/theta", np.linspace(first, last, VIEWS), units="deg"))
    assert open_scan(path).beam.views == VIEWS
    assert [said for said in inspect_scan(path).missing if "degrees were" in said] == [word] * (word is not None)


@pytest.mark.parametrize(
    ("name", "value", "unit", "found"),
    [("monochromator/energy", 8.0, "eV", "0.008 keV"), ("detector/actual_pixel_size_x", 50.0, "mm", "5e+07 nm")],
)
def test_quantities_a_thousand_times_off_are_warned_of(exchange, name, value, unit, found):
    with pytest.warns(OutOfRangeWarning, match=f"reads {found}".replace("+", r"\+")):
        open_scan(exchange(put(f"measurement/instrument/{name}", value, units=unit)))


# --- links -------------------------------------------------------------------------------------------------


@pytest.fixture
def elsewhere(tmp_path_factory):
    """Give a file outside the scan's folder, with frames in it."""
    path = tmp_path_factory.mktemp("elsewhere") / "frames.h5"
    with h5py.File(path, "w") as file:
        file["data"] = np.full((VIEWS, ROWS, COLUMNS), 900, np.uint16)
    return path


def linked_to(target, inside="/data"):
    def change(file):
        del file[DATA]
        file[DATA] = h5py.ExternalLink(str(target), inside)

    return change


def virtual_from(*sources, shape=(VIEWS, ROWS, COLUMNS)):
    def change(file):
        del file[DATA]
        layout = h5py.VirtualLayout(shape, np.uint16)
        start = 0
        for path, name, frames in sources:
            layout[start : start + frames] = h5py.VirtualSource(str(path), name, (frames, *shape[1:]))
            start += frames
        file.create_virtual_dataset(DATA, layout)

    return change


def test_links_out_of_the_folder_are_followed_only_where_allowed(exchange, elsewhere):
    for change in (linked_to(elsewhere), virtual_from((elsewhere, "data", VIEWS))):
        path = exchange(change)
        with pytest.raises(DataError, match="outside the folder.*--allow-root"):
            open_scan(path)
        assert open_scan(path, reading=Reading(allow_roots=(elsewhere.parent,))).rows == ROWS


def test_a_symbolic_link_is_judged_by_where_it_leads(exchange, elsewhere, tmp_path):
    (tmp_path / "frames.h5").symlink_to(elsewhere)
    with pytest.raises(DataError, match="outside the folder"):
        open_scan(exchange(linked_to("frames.h5")))


def test_a_link_of_a_linked_file_is_judged_too(exchange, elsewhere, tmp_path):
    with h5py.File(tmp_path / "middle.h5", "w") as file:
        file["data"] = h5py.ExternalLink(str(elsewhere), "/data")
    with pytest.raises(DataError, match="outside the folder"):
        open_scan(exchange(linked_to("middle.h5")))


def test_raw_bytes_of_other_files_are_refused_behind_every_link(exchange, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"TOPSECRET" * 100)
    with h5py.File(tmp_path / "raw.h5", "w") as file:
        file.create_dataset("data", (VIEWS, ROWS, COLUMNS), np.uint16, external=[(str(secret), 0, h5py.h5f.UNLIMITED)])
    for change in (linked_to("raw.h5"), virtual_from(("raw.h5", "data", VIEWS))):
        with pytest.raises(DataError, match="raw bytes"):
            open_scan(exchange(change), reading=Reading(allow_roots=(tmp_path.parent,)))


def test_no_text_of_another_file_is_ever_shown(nexus, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"TOPSECRET")

    def change(file):
        file.create_dataset("entry/title", (), "S9", external=[(str(secret), 0, h5py.h5f.UNLIMITED)])

    assert "TOPSECRET" not in str(open_scan(nexus(change)).notes)


def test_links_in_a_circle_end(exchange):
    def change(file):
        del file[DATA]
        file[DATA] = h5py.SoftLink("/other")
        file["other"] = h5py.SoftLink(f"/{DATA}")

    with pytest.raises(DataError, match="circle"):
        open_scan(exchange(change))


def test_what_a_virtual_data_set_lacks_is_never_read_as_zeros(exchange, tmp_path):
    with h5py.File(tmp_path / "part.h5", "w") as file:
        file["data"] = np.full((3, ROWS, COLUMNS), 900, np.uint16)
    for sources, message in (
        ([("part.h5", "data", 3)], "96 of 192 values"),
        ([("part.h5", "data", 3), ("gone.h5", "data", 3)], "gone.h5, which is not there"),
        ([("part.h5", "data", 3), ("part.h5", "nothing", 3)], "needs nothing of part.h5"),
    ):
        with pytest.raises(DataError, match=message):
            open_scan(exchange(virtual_from(*sources)))


def test_frames_that_two_sources_hold_do_not_stand_for_those_that_none_holds(exchange, tmp_path):
    with h5py.File(tmp_path / "part.h5", "w") as file:
        file["data"] = np.full((3, ROWS, COLUMNS), 900, np.uint16)

    def change(file):
        del file[DATA]
        layout = h5py.VirtualLayout((VIEWS, ROWS, COLUMNS), np.uint16)
        for start in (0, 1):  # frames 0 to 3; 4 and 5 would be read as zeros
            layout[start : start + 3] = h5py.VirtualSource("part.h5", "data", (3, ROWS, COLUMNS))
        file.create_virtual_dataset(DATA, layout)

    with pytest.raises(DataError, match="sources hold 128 of 192 values"):
        open_scan(exchange(change))
    with pytest.raises(DataError, match=r"needs more of data of part.h5 than the \(3, 4, 8\)"):
        open_scan(exchange(virtual_from(("part.h5", "data", 6))))


def test_virtual_frames_may_be_interleaved(exchange, tmp_path):
    """Two modules of a camera write every second frame each."""
    for name, level in (("even.h5", 900), ("odd.h5", 800)):
        with h5py.File(tmp_path / name, "w") as file:
            file["data"] = np.full((3, ROWS, COLUMNS), level, np.uint16)

    def change(file):
        del file[DATA]
        layout = h5py.VirtualLayout((VIEWS, ROWS, COLUMNS), np.uint16)
        for start, name in enumerate(("even.h5", "odd.h5")):
            layout[start::2] = h5py.VirtualSource(name, "data", (3, ROWS, COLUMNS))
        file.create_virtual_dataset(DATA, layout)

    found = open_scan(exchange(change)).read(range(ROWS)).projections
    assert found[:, 0, 0].tolist() == [900, 800] * 3


def test_virtual_data_made_of_virtual_data_cannot_grow_without_end(exchange):
    """Twenty data sets, each made twice of the next: a file of some kB that is made of a million pieces."""

    def change(file):
        file["v20"] = np.full((1, ROWS, COLUMNS), 900, np.uint16)
        for number in range(19, -1, -1):
            layout = h5py.VirtualLayout((2, ROWS, COLUMNS), np.uint16)
            for part in range(2):
                shape = (1 if number == 19 else 2, ROWS, COLUMNS)
                layout[part : part + 1] = h5py.VirtualSource(".", f"v{number + 1}", shape)[:1]
            file.create_virtual_dataset(f"v{number}", layout)
        del file[DATA]
        file[DATA] = h5py.SoftLink("/v0")

    with pytest.raises(DataError, match="more than 1000000 pieces"):
        open_scan(exchange(change))


def test_groups_that_hold_one_another_are_gone_through_once(tmp_path):
    """A hundred names for one group that holds them all: a million paths three names long."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        group = file.create_group("a")
        for number in range(100):
            group[f"g{number}"] = file["/"]
            file[f"g{number}"] = group
    with pytest.raises(DataError, match="no layout that is known"):
        open_scan(tmp_path / "a.h5")


def test_a_name_that_goes_round_and_round_ends(exchange):
    def change(file):
        del file[DATA]
        file["self"] = file["/"]
        file[DATA] = h5py.SoftLink("/self" * 1000)

    with pytest.raises(DataError, match="1000 parts leads in a circle"):
        open_scan(exchange(change))


def test_no_filter_is_looked_for_beside_the_data(exchange, tmp_path, monkeypatch):
    """HDF5 loads filters as code; the folder of the data is never a place for them."""
    (tmp_path / "libH5Zintruder.so").write_bytes(b"\x7fELF")
    monkeypatch.chdir(tmp_path)

    def change(file):
        del file[DATA]
        shape = (VIEWS, ROWS, COLUMNS)
        made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        made.set_chunk((1, ROWS, COLUMNS))
        made.set_filter(32_999, h5py.h5z.FLAG_OPTIONAL)
        space = h5py.h5s.create_simple(shape)
        data = h5py.h5d.create(file["exchange"].id, b"data", h5py.h5t.STD_U16LE, space, made)
        h5py.Dataset(data)[...] = 900

    with pytest.raises(MissingBackendError, match=r"\(32999\).*pip install hdf5plugin"):
        open_scan(exchange(change))
    places = [h5py.h5pl.get(number) for number in range(h5py.h5pl.size())]
    assert not any(Path(place.decode()).resolve().is_relative_to(tmp_path) for place in places)


# --- TIFF folders ------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    for name, frames in (("projections", VIEWS), ("flats", 2), ("darks", 2)):
        (tmp_path / name).mkdir()
        for number in range(frames):
            tifffile.imwrite(tmp_path / name / f"{number}.tif", np.full((ROWS, COLUMNS), 900, np.uint16))
    (tmp_path / "angles.txt").write_text("# deg\n" + "\n".join(str(30 * view) for view in range(VIEWS)))
    return tmp_path


def test_faults_in_a_folder_of_images_are_named(folder):
    assert open_scan(folder).beam.views == VIEWS
    (folder / "angles.txt").write_text("0 30 60 90 120 150")
    with pytest.raises(DataError, match="--theta-unit"):
        open_scan(folder)
    (folder / "angles.txt").write_text("0 thirty 60")
    with pytest.raises(DataError, match=r"angles\.txt: cannot be read as angles"):
        open_scan(folder)
    (folder / "angles.txt").unlink()
    with pytest.raises(DataError, match="none are invented"):
        open_scan(folder)
    tifffile.imwrite(folder / "flats" / "9.tif", np.full((ROWS, COLUMNS + 1), 900, np.uint16))
    with pytest.raises(DataError, match=r"9\.tif: is \(4, 9\)"):
        open_scan(folder)
    (folder / "flats" / "9.tif").write_bytes(b"no image")
    with pytest.raises(DataError, match="cannot be read as TIFF"):
        open_scan(folder)


def test_a_folder_without_images_is_no_scan(tmp_path):
    with pytest.raises(DataError, match="neither a run nor TIFF images"):
        open_scan(tmp_path)


def test_links_out_of_a_folder_of_images_are_followed_only_where_allowed(folder, tmp_path_factory):
    there = tmp_path_factory.mktemp("elsewhere")
    secret = there / "angles.txt"
    secret.write_text("# deg\nTOPSECRET")
    (folder / "angles.txt").unlink()
    (folder / "angles.txt").symlink_to(secret)
    with pytest.raises(DataError, match=r"angles\.txt is a link to .*--allow-root") as caught:
        open_scan(folder)
    assert "TOPSECRET" not in str(caught.value)
    secret.write_text("# deg\n" + "\n".join(str(30 * view) for view in range(VIEWS)))
    (folder / "projections" / "0.tif").rename(there / "0.tif")
    (folder / "projections" / "0.tif").symlink_to(there / "0.tif")
    with pytest.raises(DataError, match=r"projections/0\.tif is a link"):
        open_scan(folder)
    assert open_scan(folder, reading=Reading(allow_roots=(there,))).beam.views == VIEWS


def test_angles_that_never_end_or_claim_too_much_are_refused(folder):
    (folder / "angles.txt").unlink()
    (folder / "angles.txt").symlink_to("/dev/zero")
    with pytest.raises(DataError, match="--allow-root"):
        open_scan(folder)
    with pytest.raises(DataError, match="no file of angles"):
        open_scan(folder, reading=Reading(allow_roots=(Path("/dev"),)))
    (folder / "angles.txt").unlink()
    with (folder / "angles.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (10**14,)})
    with pytest.raises(DataError, match="claims the shape"):
        open_scan(folder, theta_unit="deg")


def test_an_image_that_claims_more_than_its_file_is_refused(folder):
    with tifffile.TiffFile(folder / "projections" / "0.tif", mode="r+") as file:
        file.pages[0].tags["ImageLength"].overwrite(20_000)
        file.pages[0].tags["ImageWidth"].overwrite(20_000)
    with pytest.raises(DataError, match=r"0\.tif: claims images of 8e\+08 bytes"):
        open_scan(folder)


def test_places_outside_the_folder_are_refused(folder):
    with pytest.raises(DataError, match="has no '../x'"):
        open_scan(folder, reading=Reading(where={"theta": "../x"}))
    with pytest.raises(ParameterError, match="known are data, flats"):
        Reading(where={"angle": "x"})
