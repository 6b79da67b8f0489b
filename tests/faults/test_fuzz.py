"""Anything at all in a scan file or a specification ends in success or in one of the package's own errors.

Bytes of whole HDF5 files are changed by the thousand in ``validation/12_hostile_files``, in processes of their own,
since a broken file may end the C library or hold it for ever; here its structure is changed, and a handful of bytes.
"""

import contextlib
import json
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from npsi_twin import errors
from npsi_twin.recipes import describe
from npsi_twin.specification import Specification, parse_specification, to_toml
from npsi_twin.storage.formats import open_scan
from npsi_twin.storage.volumes import open_volume

OURS = tuple(kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception))
FUZZ = settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
VIEWS, ROWS, COLUMNS = 6, 4, 8

EXCHANGE = {
    "exchange/data": np.full((VIEWS, ROWS, COLUMNS), 900, np.uint16),
    "exchange/data_white": np.full((2, ROWS, COLUMNS), 990, np.uint16),
    "exchange/data_dark": np.full((2, ROWS, COLUMNS), 9, np.uint16),
    "exchange/theta": np.arange(VIEWS) * 30.0,
    "exchange/theta_white": np.array([0.0, 150.0]),
    "measurement/instrument/name": "TXM",
    "measurement/instrument/monochromator/energy": 8.0,
    "measurement/instrument/detector/actual_pixel_size_x": 5e-8,
    "measurement/instrument/source/current": np.full(VIEWS, 100.0),
    "process/acquisition/rotation/start": 0.0,
    "process/acquisition/rotation/step": 30.0,
    "process/acquisition/rotation/num_angles": VIEWS,
    "process/acquisition/flat_fields/mode": "both",
    "defaults/HDF5FrameLocation": np.array([b"/exchange/data_white"] * 2 + [b"/exchange/data"] * VIEWS),
}
NEXUS = {
    "entry/definition": "NXtomo",
    "entry/title": "needle",
    "entry/instrument/detector/data": np.full((VIEWS + 2, ROWS, COLUMNS), 900, np.uint16),
    "entry/instrument/detector/image_key": np.array([2, 1] + [0] * VIEWS),
    "entry/instrument/detector/image_key_control": np.array([2, 1] + [0] * VIEWS),
    "entry/instrument/detector/x_pixel_size": 5e-8,
    "entry/instrument/detector/y_pixel_size": 5e-8,
    "entry/instrument/detector/field_of_view": "Full",
    "entry/instrument/beam/incident_energy": 8.0,
    "entry/sample/rotation_angle": np.arange(VIEWS + 2) * 30.0,
    "entry/control/data": np.full(VIEWS + 2, 100.0),
}
FXI = {
    "img_tomo": np.full((VIEWS, ROWS, COLUMNS), 900, np.uint16),
    "img_bkg": np.full((2, ROWS, COLUMNS), 990, np.uint16),
    "img_dark": np.full((2, ROWS, COLUMNS), 9, np.uint16),
    "angle": np.arange(VIEWS) * 30.0,
    "X_eng": 8.0,
    "Pixel Size": "20.1nm",
}
LAYOUTS = {"Data Exchange": EXCHANGE, "NXtomo": NEXUS, "FXI": FXI}
UNITS = {"theta": "deg", "angle": "degree", "energy": "keV", "step": "deg", "size": "m"}


def write(path, layout):
    with h5py.File(path, "w") as file:
        for name, value in layout.items():
            file[name] = value
            for word, unit in UNITS.items():
                if word in name.rsplit("/", 1)[-1]:
                    file[name].attrs["units"] = unit
    return path


def read_whole(path):
    """Open a scan and read all of it; True where that worked, False where the package said no in its own words."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", errors.OutOfRangeWarning)
            scan = open_scan(path).read(range(1))
    except OURS as error:
        said = str(error)
    else:
        assert np.all(np.isfinite(np.asarray(scan.projections, np.float64)))
        return True
    assert str(path) in said
    assert len(said) < 2000
    return False


ODD_VALUES = st.sampled_from(
    [
        *(np.full(shape, 3, kind) for shape in ((), (1,), (0,), (6,), (2, 4, 8), (6, 4, 8)) for kind in "bHdfF?"),
        *(np.full(6, value) for value in (np.nan, np.inf, -1e300, 1e308, 0.0, b"\xff\xfe", b"")),
        np.zeros(6, [("a", "f8"), ("b", "S3")]),
        np.full((6, 4, 8), 2**63, np.uint64),
        np.full((6, 4, 8), np.nan, np.float32),
        "text",
        "\U0001f600" * 100,
        h5py.Empty("f8"),
        h5py.SoftLink("/nowhere"),
        h5py.SoftLink("/"),
        h5py.ExternalLink("nowhere.h5", "/"),
        h5py.ExternalLink("/etc/hostname", "/"),
        np.dtype("f8"),
    ]
)
ODD_UNITS = st.sampled_from(
    [
        "",
        "rad",
        "mm",
        "nm",
        "J",
        "eV",
        5,
        np.arange(3),
        np.array([b"deg", b"rad"]),
        b"\xff",
        h5py.Empty("S1"),
        "x" * 999,
    ]
)
PLACES = {name: st.sampled_from(list(layout)) for name, layout in LAYOUTS.items()}


def changed(file, kind, name, value, unit):
    """Change one thing: drop it, put something else there, make it a group, move it, or give it another unit."""
    if kind == "unit" and isinstance(file.get(name), h5py.Dataset):
        file[name].attrs["units"] = unit
        return
    if kind == "move" and name in file and f"{name}_moved" not in file:
        file.move(name, f"{name}_moved")
        return
    if name in file:
        del file[name]
    if kind == "group":
        file.create_group(f"{name}/data")
    elif kind == "value":
        file[name] = value
    elif kind == "chunks":
        file.create_dataset(name, (6, 4, 8), "u2", chunks=(1, 4, 8))


@pytest.mark.parametrize("layout", LAYOUTS)
@FUZZ
@given(data=st.data())
def test_any_structure_of_a_scan_file(layout, data):
    kinds = st.sampled_from(["drop", "value", "value", "value", "group", "move", "unit", "unit", "chunks"])
    changes = data.draw(st.lists(st.tuples(kinds, PLACES[layout], ODD_VALUES, ODD_UNITS), min_size=1, max_size=4))
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "scan.h5", LAYOUTS[layout])
        with h5py.File(path, "a") as file:
            for change in changes:
                changed(file, *change)
        read_whole(path)


def test_an_unchanged_scan_of_every_layout_is_read(tmp_path):
    for layout in LAYOUTS.values():
        assert read_whole(write(tmp_path / "scan.h5", layout))


@FUZZ
@given(data=st.data())
def test_any_bytes_in_a_folder_of_images(data):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part, level in (("projections", 900), ("flats", 990), ("darks", 9)):
            tifffile.imwrite(
                folder / f"{part}.tif", np.full((VIEWS, ROWS, COLUMNS), level, np.uint16), photometric="minisblack"
            )
        (folder / "angles.txt").write_text("# deg\n" + "\n".join(str(30 * view) for view in range(VIEWS)))
        path = data.draw(st.sampled_from(sorted(folder.iterdir())))
        content = bytearray(path.read_bytes())
        for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=8)):
            content[place] = data.draw(st.integers(0, 255))
        path.write_bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
        read_whole(folder)
        if path.suffix == ".tif":
            with contextlib.suppress(*OURS):
                open_volume(path, voxel_nm=50.0).read(range(1))


WORKER = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_fuzz import read_whole
for line in sys.stdin:
    print(json.dumps(read_whole(Path(json.loads(line)))), flush=True)
"""


def test_changed_bytes_of_hdf5_end_no_process(tmp_path):
    rng, paths = np.random.default_rng(7), []
    for number, layout in enumerate(list(LAYOUTS.values()) * 10):
        path = write(tmp_path / f"{number}.h5", layout)
        content = bytearray(path.read_bytes())
        for place in rng.integers(0, len(content), rng.integers(1, 20)):
            content[place] = rng.integers(256)
        path.write_bytes(content)
        paths.append(json.dumps(str(path)))
    command = [sys.executable, "-c", WORKER, str(Path(__file__).parent)]
    done = subprocess.run(command, input="\n".join(paths), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(paths)
    assert {True, False} == set(answers)  # some changes hit what nobody reads


LEAVES = [leaf.path for leaf in describe(Specification())]
ODD_TOML = st.one_of(
    st.integers().map(str),
    st.floats().map(repr),
    st.text(max_size=20).map(json.dumps),
    st.sampled_from(
        [
            "true",
            "[]",
            "[1, 'a']",
            "{}",
            "{a = 1}",
            "[[1]]",
            "1979-05-27",
            "07:32:00",
            "1e400",
            "-0.0",
            "nan",
            "''",
            "'''",
            "9" * 50,
            "0x10",
            "[1.0, 2.0, 3.0]",
            "'sirt-fbp'",
            "'none'",
            "'2000/100'",
        ]
    ),
)


def accepted(text):
    """Parse a specification: True where it is one, that survives being written; False where it is refused in words."""
    try:
        found = parse_specification(text, "fuzz.toml")
    except errors.ParameterError as error:
        said = str(error)
    else:
        assert parse_specification(to_toml(found)) == found
        return True
    assert said.startswith("fuzz.toml")
    return False


@FUZZ
@given(st.lists(st.tuples(st.sampled_from(LEAVES), ODD_TOML), min_size=1, max_size=4))
def test_any_values_in_a_specification(lines):
    accepted("\n".join(f"{path} = {value}" for path, value in lines))


@FUZZ
@given(st.one_of(st.text(max_size=200), st.text(alphabet="[]{}.=\"#'\n ab1", max_size=80)))
def test_any_text_for_a_specification(text):
    accepted(text)


@FUZZ
@given(data=st.data())
def test_any_change_of_a_written_specification(data):
    text = to_toml(Specification())
    start = data.draw(st.integers(0, len(text)))
    stop = data.draw(st.integers(start, min(len(text), start + 40)))
    accepted(text[:start] + data.draw(st.text(max_size=20)) + text[stop:])
