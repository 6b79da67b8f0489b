"""What is recorded is checked and comes out again; where two runs differ is said, in what and by how much."""

import json
import shutil

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from npsi_twin.cli import app
from npsi_twin.errors import DataError, IncompleteError, ParameterError, ResourceError
from npsi_twin.execution import ExecutionRecipe, open_run
from npsi_twin.object_scan import scan_object
from npsi_twin.repetition import differences, repeat
from npsi_twin.report.run_page import FIGURES
from npsi_twin.single_files import reconstruct_file
from npsi_twin.specification import preset_specification
from npsi_twin.storage.measurements import without_nan
from npsi_twin.twin import build_run, run_stage, run_twin
from npsi_twin.variations import with_values
from npsi_twin.verification import verify


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NPSI_TWIN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def small():
    """Return a twin of a second."""
    values = {
        "electrode.specimen.length_um": 1.6,
        "electrode.specimen.width_um": 2.0,
        "microscope.detector.rows": 4,
        "microscope.detector.columns": 64,
        "microscope.stage.views": 61,
    }
    return with_values(preset_specification("tiny"), values)


@pytest.fixture(scope="module")
def scanned(tmp_path_factory):
    """A run up to its scan."""
    folder = tmp_path_factory.mktemp("records") / "run"
    run_twin(small(), folder, until="scan")
    return folder


def _verified(folder, *options):
    result = CliRunner().invoke(app, ["verify", str(folder), *options])
    return result.exit_code, result.output


def test_a_changed_and_a_missing_file_are_named(scanned, tmp_path):
    folder = shutil.copytree(scanned, tmp_path / "run")
    assert _verified(folder) == (0, f"{folder} (incomplete): 4 same\n")
    with (folder / "scan.h5").open("ab") as file:
        file.write(b"x")
    (folder / "truth.h5").unlink()
    code, said = _verified(folder)
    assert code == 3
    assert "scan.h5: changed since scan wrote it" in said
    assert "truth.h5: missing, though build wrote it" in said
    code, said = _verified(folder, "--json")
    assert code == 3
    assert {file["file"]: file["condition"] for file in json.loads(said)["files"]} == {
        "specification.toml": "same", "truth.h5": "missing", "scan.h5": "changed", "scan_truth.h5": "same",
    }  # fmt: skip


def test_the_budget_that_lies_in_a_run_is_looked_at(scanned, tmp_path):
    folder = shutil.copytree(scanned, tmp_path / "run")
    with open_run(folder / "budget", request={}) as budget, budget.stage("budget", "budget.csv"):
        (folder / "budget" / "budget.csv").write_text("ours")
    assert _verified(folder)[0] == 0
    (folder / "budget" / "budget.csv").write_text("edited")
    code, said = _verified(folder)
    assert code == 3
    assert "budget/budget.csv: changed since budget wrote it" in said


def test_what_the_user_gave_is_not_called_changed(tmp_path):
    folder = tmp_path / "run"
    with open_run(folder, request={}) as run:
        with run.stage("scan", "scan.h5"):
            (folder / "scan.h5").write_text("ours")
        (folder / "scan.h5").write_text("the user's")
        with run.stage("reconstruct", "reconstruction.h5", inputs=("scan.h5",)):
            (folder / "reconstruction.h5").write_text("from it")
    found = verify(folder)
    assert found.sound
    assert [(one.file, one.condition) for one in found.findings] == [
        ("scan.h5", "given"),
        ("reconstruction.h5", "same"),
    ]
    (folder / "scan.h5").write_text("another")
    assert not verify(folder).sound


def test_a_record_that_leads_out_of_its_folder_is_refused(tmp_path):
    folder = tmp_path / "run"
    with open_run(folder, request={}) as run:
        run.state["stages"]["build"] = {"files": {"../secret": "0" * 64}}
        run.save()
    with pytest.raises(DataError, match="below its folder"):
        verify(folder)
    with pytest.raises(DataError, match="below its folder"):
        repeat(folder, tmp_path / "again")


def test_a_reconstruction_comes_out_again_and_a_run_of_other_versions_says_so(scanned, tmp_path):
    folder = tmp_path / "reconstructed"
    reconstruct_file(scanned / "scan.h5", folder, changes={"algorithm": "fbp", "rotation_axis_px": 32.0})
    state = json.loads((folder / "run.json").read_text())
    assert state["inputs"][0]["sha256"] == state["request"]["scan_sha256"]
    assert state["environment"]["packages"]["numba"]
    state["environment"]["packages"]["numba"] = "0.1"
    (folder / "run.json").write_text(json.dumps(without_nan(state)))
    result = CliRunner().invoke(app, ["repeat", str(folder)])
    assert result.exit_code == 0, result.output
    assert "not the same as then: numba was 0.1" in result.output
    assert "4 files equal, 0 differ" in result.output  # the volume, the page, and two pictures beside it
    with h5py.File(folder / "reconstruction.h5", "r+") as file:
        file["attenuation_per_um"][1, 2, 3] += 0.25
    result = CliRunner().invoke(app, ["repeat", str(folder), "--json"])
    assert result.exit_code == 5
    (line,) = json.loads(result.stdout)["differing"]["reconstruction.h5"]
    assert line.startswith("/attenuation_per_um: 1 of 16384 values differ, by 0.25 at most")
    with pytest.raises(DataError, match="--scan"):
        (folder / "run.json").write_text(json.dumps(state | {"inputs": [state["inputs"][0] | {"path": "/gone.h5"}]}))
        repeat(folder, tmp_path / "again")


def test_a_virtual_reconstruction_comes_out_again(scanned, tmp_path):
    specification = small().model_copy(update={"execution": ExecutionRecipe(slab_rows=2, assembly="virtual")})
    reconstruct_file(
        scanned / "scan.h5",
        tmp_path / "first",
        specification=specification,
        changes={"algorithm": "fbp", "rotation_axis_px": 32.0},
    )
    found = repeat(tmp_path / "first", tmp_path / "again", workers=2)
    assert found.same, found.as_text()
    assert "reconstruction.shards/0001.h5" in found.equal


def test_a_run_with_an_nxtomo_scan_comes_out_again(scanned, tmp_path):
    folder = shutil.copytree(scanned, tmp_path / "run")
    run_stage(folder, "scan", scan_format="nxtomo")
    found = repeat(folder, tmp_path / "again")
    assert found.same, found.as_text()
    with h5py.File(tmp_path / "again" / "scan.h5") as file:
        assert "exchange" not in file  # as Data Exchange has it


@pytest.mark.parametrize("labelled", [False, True])
def test_a_scan_of_ones_own_object_is_resumed_and_comes_out_again(scanned, tmp_path, labelled):
    rod = np.zeros((6, 24, 24), np.uint8 if labelled else np.float32)
    rod[:, 9:15, 9:15] = 1
    np.save(tmp_path / "rod.npy", rod if labelled else rod * 0.01)
    (tmp_path / "table.toml").write_text("[0]\nattenuation_per_um = 0.0\n[1]\nmaterial = 'copper'\n")
    told = {"compounds": tmp_path / "table.toml"} if labelled else {"unit": "1/um"}
    microscope = small().microscope
    folder = tmp_path / "own"

    def stopped(stage, done, total):
        if stage == "scan":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scan_object(tmp_path / "rod.npy", folder, microscope, voxel_nm=50.0, **told, progress=stopped)
    written = (folder / "truth.h5").stat().st_mtime_ns
    scan_object(
        tmp_path / "rod.npy", folder, microscope, voxel_nm=50.0, **told, resume=True, scan_format="dataexchange"
    )
    assert (folder / "truth.h5").stat().st_mtime_ns == written
    (tmp_path / "table.toml").unlink()
    found = repeat(folder, tmp_path / "again")
    assert found.same, found.as_text()
    assert set(found.equal) == {"truth.h5", "scan.h5", "scan_truth.h5"}
    assert verify(folder).sound
    np.save(tmp_path / "rod.npy", rod[::-1, 1:])
    with pytest.raises(DataError, match="is not the object that was scanned"):
        repeat(folder, tmp_path / "third")


def test_build_goes_on_and_keeps_what_is_done(tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        build_run(small(), folder, progress=_stopped)
    with pytest.raises(ResourceError, match="--resume to go on"):
        build_run(small(), folder)
    build_run(small(), folder, resume=True)
    written = (folder / "truth.h5").stat().st_mtime_ns
    build_run(small(), folder, resume=True)
    assert (folder / "truth.h5").stat().st_mtime_ns == written
    with pytest.raises(IncompleteError, match="these differ: specification"):
        build_run(small().model_copy(update={"seed": 3}), folder, resume=True)


def _stopped(stage, done, total):
    raise KeyboardInterrupt


def test_a_stage_of_a_folder_that_is_no_twin_says_how_to_begin_one(tmp_path):
    with open_run(tmp_path / "sweep", request={"sweep": ""}):
        pass
    with pytest.raises(ParameterError, match="is not the run of a twin.*Begin one with npsi-twin run"):
        run_stage(tmp_path / "sweep", "report")


def test_figures_of_a_run_are_recorded_and_a_folder_of_no_command_is_refused(tmp_path):
    with open_run(tmp_path / "own", request={"mine": 1}) as run, run.stage("one", "one.txt"):
        (tmp_path / "own" / "one.txt").write_text("1")
    with pytest.raises(ParameterError, match="does not say of what"):
        repeat(tmp_path / "own", tmp_path / "again")
    with open_run(tmp_path / "begun", request={"sweep": "", "base": ""}):
        pass
    with pytest.raises(DataError, match="no stage of it is finished"):
        repeat(tmp_path / "begun", tmp_path / "again")
    with open_run(tmp_path / "drawn", request={}) as run, run.stage("report", sometimes=FIGURES):
        (tmp_path / "drawn" / "figures").mkdir()
        (tmp_path / "drawn" / "scan.shards").mkdir()
        (tmp_path / "drawn" / "scan.shards" / "0000.h5").write_text("of the scan")
        for name in ("scan", "of mine"):
            (tmp_path / "drawn" / "figures" / f"{name}.png").write_text("x")
    assert list(run.state["stages"]["report"]["files"]) == ["figures/scan.png"]


def test_where_two_files_differ_is_said_data_set_by_data_set(tmp_path):
    first, second = tmp_path / "a.h5", tmp_path / "b.h5"
    for path, shift, name in ((first, 0.0, "old"), (second, 0.5, "new")):
        with h5py.File(path, "w") as file:
            file["grid/values"] = np.arange(6.0).reshape(2, 3) + shift * (np.arange(6).reshape(2, 3) == 4)
            file["hole"] = [np.nan, 1.0]
            file["grid"].attrs["unit"] = name
            file[name] = 1
            file["text"] = name
            file["shape"] = np.zeros(2 + int(2 * shift))
    assert list(differences(first, first)) == []
    assert list(differences(first, second)) == [
        "/grid: attribute unit was old and became new",
        "/grid/values: 1 of 6 values differ, by 0.5 at most",
        "/new is new",
        "/old is gone",
        "/shape was (2,) float64 and became (3,) float64",
        "/text: 1 of 1 values differ",
    ]
    assert list(differences(first, tmp_path / "none.h5")) == ["did not come out again"]
