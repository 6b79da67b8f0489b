"""A run that is told to stop, and one that meets another in its folder; as commands, in processes of their own."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from npsi_twin.execution import file_sha256, read_state
from npsi_twin.specification import preset_specification, to_toml
from npsi_twin.variations import with_values

SMALL = {
    "electrode.specimen.width_um": 4.2,
    "microscope.detector.rows": 6,
    "microscope.detector.columns": 112,
    "microscope.stage.views": 41,
    "reconstruction.sirt_iterations": 20,
    "execution.slab_rows": 2,
}


@pytest.fixture
def words(tmp_path):
    """The words of a run of seconds."""
    (tmp_path / "s.toml").write_text(to_toml(with_values(preset_specification("tiny"), SMALL)))
    command = (sys.executable, "-m", "npsi_twin.cli", "run", tmp_path / "s.toml", "--out", tmp_path / "run")
    return [str(word) for word in command]


@contextmanager
def begun(words, tmp_path):
    """Give a run that has just made its truth; it is ended afterwards, whatever the test did."""
    with (tmp_path / "said").open("w") as said, subprocess.Popen(words, stdout=said, stderr=said) as process:
        try:
            while not (tmp_path / "run" / "truth.h5").exists():
                assert process.poll() is None, (tmp_path / "said").read_text()
                time.sleep(0.02)
            yield process
        finally:
            process.kill()


def stopped(process, number, folder):
    """Send a signal, and see that the folder is free and holds nothing by halves; return the exit code."""
    process.send_signal(number)
    code = process.wait(120)
    assert read_state(folder)["status"] == "incomplete"
    assert {path.name for path in folder.glob(".*")} <= {".shards"}  # finished slabs stay for --resume
    assert list(folder.rglob("*.partial")) == []
    said = (folder.parent / "said").read_text()
    assert "Traceback" not in said
    return code, said


def test_a_terminated_run_gives_its_folder_free_and_is_resumed(words, tmp_path):
    with begun(words, tmp_path) as process:
        assert stopped(process, signal.SIGTERM, tmp_path / "run")[0] == 143
    done = subprocess.run([*words, "--resume"], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert read_state(tmp_path / "run")["status"] == "complete"


def test_a_second_run_is_sent_away_at_once_and_ctrl_c_gives_the_folder_free(words, tmp_path):
    folder = tmp_path / "run"
    with begun(words, tmp_path) as process:
        os.kill(process.pid, signal.SIGSTOP)  # it holds its lock, and whatever changes now was not its doing
        before = {path: file_sha256(path) for path in folder.rglob("*") if path.is_file()}
        assert folder / "truth.h5" in before
        for option in ("--resume", "--overwrite"):
            second = subprocess.run([*words, option], capture_output=True, text=True, timeout=120)
            assert second.returncode == 4, second.stderr
            assert f"in use by process {process.pid} on" in second.stderr
            # Nothing was begun: not a stage, not even the electrode.
            assert second.stderr.count("\n") == 1, second.stderr
        assert {path: file_sha256(path) for path in folder.rglob("*") if path.is_file()} == before
        os.kill(process.pid, signal.SIGCONT)
        code, said = stopped(process, signal.SIGINT, folder)
    assert code == 130
    assert "stopped. A run goes on with --resume" in said
    state = json.loads((folder / "run.json").read_text())
    for entry in state["stages"].values():
        assert all(file_sha256(folder / name) == digest for name, digest in entry["files"].items())
