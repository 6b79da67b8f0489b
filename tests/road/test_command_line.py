"""The command line: what it prints, what it refuses, and with which exit code."""

import json
import subprocess
import sys

import h5py
import numpy as np
import pytest

from npsi_twin.specification import parse_specification


def call(*arguments, cwd=None, code=0):
    """Run the command and return what it printed on both channels."""
    command = [sys.executable, "-m", "npsi_twin.cli", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=240)
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr
    return result.stdout, result.stderr


def test_every_command_has_an_example():
    out, _ = call("--help")
    for name in (
        "init",
        "explain",
        "plan",
        "run",
        "build",
        "scan",
        "reconstruct",
        "segment",
        "measure",
        "compare",
        "inspect",
        "export",
        "states",
    ):
        assert name in out
        assert "Example" in call(name, "--help")[0]


def test_condition_and_hypothesis_stand_in_for_the_specification_s(tmp_path):
    _, err = call("run", "--preset", "tiny", "--condition", "2000/100", "--out", tmp_path / "a", code=2)
    assert "no mechanism" in err
    _, err = call("run", "--preset", "tiny", "--hypothesis", "aggregation", "--out", tmp_path / "a", code=2)
    assert "ageing hypothesis: got 'aggregation'" in err
    assert list(tmp_path.iterdir()) == []
    call(
        "build", "--preset", "tiny", "--condition", "1000/2nd-lithiation", "--hypothesis", "swelling",
        "--out", tmp_path / "a",
    )  # fmt: skip
    kept = parse_specification((tmp_path / "a" / "specification.toml").read_text()).ageing
    assert (kept.condition, kept.hypothesis) == ("1000/2nd-lithiation", "swelling")


def test_init_writes_a_file_that_reads_back_and_never_overwrites(tmp_path):
    call("init", "study.toml", "--preset", "tiny", cwd=tmp_path)
    text = (tmp_path / "study.toml").read_text()
    assert parse_specification(text).name == "tiny"
    assert "# " in text
    _, err = call("init", "study.toml", cwd=tmp_path, code=2)
    assert "exists" in err
    assert (tmp_path / "study.toml").read_text() == text


def test_explain_names_units_sources_and_mechanisms():
    out, _ = call("explain", "--preset", "zhao2018")
    assert "electrode.silicon.porosity_fraction" in out
    assert "keV" in out
    assert "stated" in out
    assert "Mechanisms" in out
    tree = json.loads(call("explain", "--json")[0])
    assert {"values", "mechanisms"} == tree.keys()


def test_plan_predicts_before_anything_runs(tmp_path):
    small, large = (
        json.loads(call("plan", "--preset", name, "--json", cwd=tmp_path)[0]) for name in ("tiny", "zhao2018")
    )
    for key in ("seconds", "memory_bytes", "disk_bytes"):
        assert 0 < small["total"][key] < large["total"][key]
    # The volume alone: 2048 x 2448^2 voxels of 4 bytes.
    assert large["total"]["disk_bytes"] > 49e9
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_does_not_fit_is_refused_before_it_begins(tmp_path):
    _, err = call("run", "--preset", "zhao2018", "--out", "big", cwd=tmp_path, code=4)
    assert "GiB" in err or "GB" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[electrode.silicon]\nporosity_fraction = 60.4", "did you mean 0.604"),
        ("[electrode.silicon]\nporosity_fracton = 0.6", "did you mean 'porosity_fraction'"),
        ("[microscope]\nenergy_kev = nan", "microscope.energy_kev"),
    ],
)
def test_a_wrong_specification_ends_with_2_and_writes_nothing(tmp_path, text, message):
    (tmp_path / "s.toml").write_text(text)
    _, err = call("run", "s.toml", "--out", "out", cwd=tmp_path, code=2)
    assert message in err
    assert len(err.splitlines()) < 10
    assert not (tmp_path / "out").exists()


def _scan(path, *, leave_out=(), counts=None):
    counts = np.full((8, 2, 16), 900.0, np.float32) if counts is None else counts
    with h5py.File(path, "w") as file:
        parts = {"data": counts, "data_white": np.full((2, 2, 16), 1000.0), "data_dark": np.zeros((2, 2, 16))}
        for name, values in parts.items():
            if name not in leave_out:
                file[f"exchange/{name}"] = values
        if "theta" not in leave_out:
            file["exchange/theta"] = np.linspace(0, 180, 8, endpoint=False)
            file["exchange/theta"].attrs["units"] = "deg"


@pytest.mark.parametrize(
    ("leave_out", "message"), [("data_white", "--assume-normalised"), ("theta", "none are invented")]
)
def test_a_scan_that_lacks_something_ends_with_3_and_writes_nothing(tmp_path, leave_out, message):
    _scan(tmp_path / "scan.h5", leave_out=(leave_out,))
    _, err = call("reconstruct", "scan.h5", "--out", "out", cwd=tmp_path, code=3)
    assert message in err
    assert not (tmp_path / "out").exists()


def test_nan_pixels_and_truncated_files_end_with_3_and_write_nothing(tmp_path):
    counts = np.full((8, 2, 16), 900.0, np.float32)
    counts[3, 1, 5] = np.nan
    _scan(tmp_path / "nan.h5", counts=counts)
    _, err = call("reconstruct", "nan.h5", "--out", "out", cwd=tmp_path, code=3)
    assert "(3, 1, 5)" in err
    (tmp_path / "cut.h5").write_bytes((tmp_path / "nan.h5").read_bytes()[:1500])
    _, err = call("reconstruct", "cut.h5", "--out", "out", cwd=tmp_path, code=3)
    assert "not a readable HDF5 file" in err
    assert not (tmp_path / "out").exists()


def test_wrong_usage_ends_with_2(tmp_path):
    call("run", "--workers", "0", code=2)
    call("measure", code=2)
    _scan(tmp_path / "scan.h5")
    assert "--out" in call("reconstruct", tmp_path / "scan.h5", code=2)[1]
    assert "demo, tiny, zhao2018" in call("plan", "--preset", "huge", code=2)[1]


def test_errors_are_for_machines_too(tmp_path):
    out, _ = call("scan", tmp_path, "--json", code=3)
    assert json.loads(out)["exit_code"] == 3


def test_any_label_volume_is_measured(tmp_path):
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[:, :, ::4] = 7
    np.savez(tmp_path / "labels.npz", im=labels)
    out, _ = call("measure", tmp_path / "labels.npz", "--voxel-nm", "100", "--labels", "0=void,7=silicon", "--json")
    found = json.loads(out)["quantities"]
    assert found["porosity_layer"]["value"] == pytest.approx(0.75)
    assert found["thickness_silicon_um"]["value"] is None
    assert "current collector" in found["thickness_silicon_um"]["note"]
    _, err = call("measure", tmp_path / "labels.npz", "--labels", "0=void,7=silicon", code=3)
    assert "--voxel-nm" in err
    _, err = call("measure", tmp_path / "labels.npz", "--voxel-nm", "100", "--labels", "0=void", code=2)
    assert "7" in err


def test_a_stage_without_its_input_says_what_is_missing(tmp_path):
    call("build", "--preset", "tiny", "--out", tmp_path / "run")
    for command, missing in (("reconstruct", "scan.h5"), ("segment", "reconstruction.h5"), ("measure", "h5")):
        _, err = call(command, tmp_path / "run", code=3)
        assert missing in err


def test_options_that_a_run_folder_answers_are_refused(tmp_path):
    call("build", "--preset", "tiny", "--out", tmp_path / "run")
    for arguments in (
        ("reconstruct", tmp_path / "run", "--algorithm", "fbp"),
        ("measure", tmp_path / "run", "--voxel-nm", "7"),
        ("segment", tmp_path / "run", "--out", "x.h5"),
    ):
        _, err = call(*arguments, code=2)
        assert "run folder" in err
    (tmp_path / "s.toml").write_text("")
    assert "one of them" in call("plan", tmp_path / "s.toml", "--preset", "tiny", code=2)[1]


@pytest.mark.parametrize("voxel", ["0", "-5", "nan", "inf"])
def test_a_voxel_is_a_positive_length(tmp_path, voxel):
    np.save(tmp_path / "a.npy", np.ones((3, 3, 3), np.uint8))
    _, err = call("measure", tmp_path / "a.npy", "--voxel-nm", voxel, code=2)
    assert "positive" in err


def test_counts_that_are_transmissions_are_noticed(tmp_path):
    _scan(tmp_path / "norm.h5", counts=np.full((8, 2, 16), 0.9, np.float32))
    _, err = call("reconstruct", "norm.h5", "--out", "out", cwd=tmp_path, code=3)
    assert "--assume-normalised" in err


def test_a_changed_scan_is_not_resumed(tmp_path):
    views = np.linspace(0, np.pi, 40, endpoint=False)[:, None, None]
    columns = np.arange(48)[None, None, :]
    counts = np.repeat(1000 * np.exp(-np.exp(-(((columns - 23 - 9 * np.cos(views)) / 3) ** 2))), 2, axis=1)
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["exchange/data"] = counts.astype(np.float32)
        file["exchange/data_white"] = np.full((2, 2, 48), 1000.0, np.float32)
        file["exchange/data_dark"] = np.zeros((2, 2, 48), np.float32)
        file["exchange/theta"] = np.degrees(views.ravel())
        file["exchange/theta"].attrs["units"] = "deg"
    call("reconstruct", "scan.h5", "--out", "out", "--algorithm", "fbp", cwd=tmp_path)
    call("reconstruct", "scan.h5", "--out", "out", "--algorithm", "fbp", "--resume", cwd=tmp_path)
    with h5py.File(tmp_path / "scan.h5", "a") as file:
        file["exchange/data"][:, :, 20:30] = 900.0
    _, err = call("reconstruct", "scan.h5", "--out", "out", "--algorithm", "fbp", "--resume", cwd=tmp_path, code=5)
    assert "scan_sha256" in err


def test_markup_in_a_name_is_only_text(tmp_path):
    (tmp_path / "s.toml").write_text('name = "[/bold]"')
    assert "[/bold]" in call("explain", "s.toml", cwd=tmp_path)[0]
