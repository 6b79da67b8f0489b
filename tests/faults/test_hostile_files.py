"""What a stranger's file, folder or name may do through the commands: nothing but an error with the right exit code."""

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from npsi_twin import cli
from npsi_twin.cli import app
from npsi_twin.errors import DataError, NotConvergedError, ParameterError
from npsi_twin.reconstruction.alignment import find_rotation_axis
from npsi_twin.reconstruction.rotation import AxisMisfit
from npsi_twin.reconstruction.route import ReconstructionRecipe, prepare
from npsi_twin.report.figures import draw_axis_search
from npsi_twin.report.run_page import _figures
from npsi_twin.scan import ParallelBeam
from npsi_twin.specification import parse_values
from npsi_twin.storage.exports import export_volume
from npsi_twin.storage.formats import open_scan
from npsi_twin.storage.volumes import open_volume, write_volume
from npsi_twin.volumes import Volume

VIEWS, ROWS, COLUMNS = 60, 2, 64


def call(*words):
    """Run a command and return its exit code, its message, and no traceback."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    error = result.exception
    if error is None or isinstance(error, SystemExit):
        return result.exit_code, result.output
    code = next((code for kind, code in cli._EXIT_CODES if isinstance(error, kind)), None)
    assert code is not None, repr(error)
    return code, str(error)


def blobs(axis, seed=0):
    """Return sinograms (row, view, column) of three cylinders that turn about an axis."""
    angles, column = np.pi * np.arange(VIEWS) / VIEWS, np.arange(COLUMNS)
    found = np.zeros((VIEWS, COLUMNS))
    for x, y, radius in ((8, 3, 5), (-6, -9, 4), (2, 10, 3)):
        place = axis + x * np.cos(angles) + y * np.sin(angles)
        found += 0.05 * np.sqrt(np.maximum(radius**2 - (column - place[:, None]) ** 2, 0))
    noise = np.random.default_rng(seed).normal(0, 0.005, (ROWS, VIEWS, COLUMNS))
    return (found + noise).astype(np.float32), ParallelBeam(angles, COLUMNS, 50.0)


@pytest.fixture
def scan(tmp_path):
    """Give a function that writes a whole scan under any name."""

    def write(name="scan.h5"):
        sinograms, beam = blobs(31.0)
        path = tmp_path / name
        with h5py.File(path, "w") as file:
            file["exchange/data"] = (10_000 * np.exp(-sinograms.transpose(1, 0, 2))).astype(np.uint16)
            file["exchange/data_white"] = np.full((4, ROWS, COLUMNS), 10_000, np.uint16)
            file["exchange/data_dark"] = np.zeros((4, ROWS, COLUMNS), np.uint16)
            file["exchange/theta"] = np.degrees(beam.angles_rad)
            file["exchange/theta"].attrs["units"] = "deg"
        return path

    return write


# --- the rotation axis -------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [-0.5, 64.0, -300.0, 1e9])
def test_an_axis_outside_the_detector_names_the_columns_that_there_are(scan, axis):
    found = open_scan(scan()).read(range(ROWS))
    with pytest.raises(ParameterError, match=r"axis: got column .*detector has columns 0 to 63"):
        prepare(found, ReconstructionRecipe(rotation_axis_px=axis, algorithm="fbp"))


@pytest.mark.parametrize("axis", [float("nan"), float("inf"), "31"])
def test_an_axis_that_is_no_number_is_no_axis(axis):
    with pytest.raises(ParameterError, match=r"reconstruction\.rotation_axis_px = .*(finite|valid number)"):
        parse_values(ReconstructionRecipe(), {"rotation_axis_px": axis}, "reconstruction")


def test_an_axis_that_cannot_be_found_names_the_window_that_was_tried():
    flat = np.random.default_rng(0).normal(0, 1, (ROWS, VIEWS, COLUMNS)).astype(np.float32)
    with pytest.raises(NotConvergedError, match=r"between columns 6\.4 and 57\.6 fits no better.*rotation_axis_px"):
        find_rotation_axis(flat, blobs(31.0)[1])


def test_an_axis_beyond_the_window_is_not_taken_at_its_end():
    # E(c) = 2.2 + 2 cos(4 pi c / 256) falls from column 0 to column 64, beyond the last that is tried.
    misfit = AxisMisfit(2.2, np.array([0, 1], complex), np.array([0, 1 / 256]), 256)
    with pytest.raises(NotConvergedError, match=r"between columns 6\.4 and 57\.6.*the axis lies beyond it"):
        misfit.found(COLUMNS, "fourier-wedge")


def test_an_axis_outside_the_detector_ends_with_2_and_writes_nothing(scan, tmp_path):
    path = scan()
    code, said = call("reconstruct", path, "--out", tmp_path / "out", "--axis-px", "900", "--algorithm", "fbp")
    assert (code, "columns 0 to 63" in said) == (2, True)
    code, said = call("reconstruct", path, "--out", tmp_path / "out", "--axis-px", "nan")
    assert (code, "finite" in said) == (2, True)
    assert not (tmp_path / "out").exists()


# --- names -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["a b.h5", "-x.h5", "--out.h5", "new\nline.h5", "ä;$(touch intruded).h5", "CON.h5", "..h5"]
)
def test_odd_names_of_files_are_only_names(scan, tmp_path, monkeypatch, name):
    path = scan(name=name)
    monkeypatch.chdir(tmp_path)
    code, said = call("inspect", "--text-only", "--", name)
    assert (code, "60" in said) == (0, True)
    assert list(tmp_path.iterdir()) == [path]


# --- outputs -----------------------------------------------------------------------------------------------


def test_pictures_are_never_written_through_a_link(tmp_path, scan):
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    run = tmp_path / "run"
    run.mkdir()
    (run / "axis.png").symlink_to(mine)
    trials = np.arange(8.0)
    draw_axis_search(run / "axis.png", trials_px=trials, misfit=1 + trials, axis_px=1.0, uncertainty_px=0.1)
    assert not (run / "axis.png").is_symlink()
    assert mine.read_text() == "mine"
    (run / "figures").symlink_to(tmp_path)
    with pytest.raises(DataError, match="is a link"):
        _figures(run)
    (tmp_path / "look.png").symlink_to(mine)
    code, said = call("inspect", scan(), "--out", tmp_path / "look.png")
    assert (code, "exists" in said) == (3, True)
    assert mine.read_text() == "mine"


def test_a_folder_that_cannot_be_written_ends_with_4(scan, tmp_path):
    path = scan()
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "inside"):
        code, said = call("reconstruct", path, "--out", out, "--algorithm", "fbp")
        assert code == 4
        assert str(tmp_path / "file") in said
    assert (tmp_path / "file").read_text() == "mine"


def test_a_path_with_dots_is_where_it_leads(tmp_path):
    write_volume(tmp_path / "own.h5", "phase", Volume(np.zeros((2, 4, 4), np.uint8), 50.0))
    (tmp_path / "deep" / "er").mkdir(parents=True)
    out = tmp_path / "deep" / "er" / ".." / "labels.tif"
    assert call("export", tmp_path / "own.h5", "--out", out)[0] == 0
    assert (tmp_path / "deep" / "labels.tif").is_file()


# --- exit codes --------------------------------------------------------------------------------------------


def test_hostile_input_ends_with_the_code_of_its_kind(tmp_path, scan):
    (tmp_path / "secret").write_bytes(b"TOPSECRET" * 1000)
    with h5py.File(tmp_path / "raw.h5", "w") as file:
        file.create_dataset("exchange/data", (2, 4, 8), "u2", external=[(str(tmp_path / "secret"), 0, 10**4)])
    (tmp_path / "empty.h5").write_bytes(b"")
    (tmp_path / "deep.toml").write_text("a = " + "[" * 100_000)
    (tmp_path / "text.npy").write_text("text")
    for words, code, message in (
        (("reconstruct", tmp_path / "raw.h5", "--out", tmp_path / "out"), 3, "raw bytes"),
        (("reconstruct", tmp_path / "empty.h5", "--out", tmp_path / "out"), 3, "not a readable HDF5 file (0 bytes"),
        (("inspect", tmp_path / "empty.h5"), 3, "0 bytes"),
        (("run", tmp_path / "deep.toml", "--out", tmp_path / "out"), 2, "nested deeper"),
        (("measure", tmp_path / "text.npy", "--voxel-nm", "50"), 3, "cannot be read"),
        (("segment", tmp_path / "text.npy", "--out", tmp_path / "out.h5", "--voxel-nm", "50"), 3, "cannot be read"),
        (("phantoms", "--vary", tmp_path / "deep.toml", "--out", tmp_path / "out"), 2, "nested deeper"),
    ):
        found, said = call(*words)
        assert (found, message in said) == (code, True), said
        assert "TOPSECRET" not in said
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.h5").exists()


def test_a_folder_zarr_is_a_volume_and_no_run(tmp_path):
    pytest.importorskip("zarr")
    labels = np.zeros((6, 8, 8), np.uint8)
    labels[:, 6:] = 3
    write_volume(tmp_path / "own.h5", "phase", Volume(labels, 50.0))
    folder = export_volume(open_volume(tmp_path / "own.h5"), tmp_path / "labels.zarr", "ome-zarr")
    code, said = call("segment", folder, "--out", tmp_path / "again.h5")
    assert (code, "holds whole numbers, such as labels" in said) == (3, True)
    code, said = call("measure", folder, "--labels", "0=void")
    assert (code, "[3]" in said) == (2, True)
    code, said = call("export", folder, "--to", "npy", "--out", tmp_path / "labels.npy")
    assert code == 0
    np.testing.assert_array_equal(np.load(tmp_path / "labels.npy"), labels)
