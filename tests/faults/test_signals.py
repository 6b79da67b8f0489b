"""Runs as commands, in processes of their own: told to stop, beside another in one folder, and on a strange machine."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from npsi_twin.execution import file_sha256, read_state
from npsi_twin.specification import load_specification, preset_specification, to_toml
from npsi_twin.twin import run_twin
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


@pytest.fixture
def strange(tmp_path):
    """Say how to begin a process where the clock runs backwards in 2096, without a home, a display, or any letter but
    those of ASCII, in another zone and another folder.
    """
    (tmp_path / "clock").mkdir()
    (tmp_path / "clock" / "sitecustomize.py").write_text(
        "import time\nnow = time.time\ntime.time = lambda: 4e9 - now() % 1e8"
    )
    left_out = (
        "DISPLAY",
        "WAYLAND_DISPLAY",
        "MPLBACKEND",
        "MPLCONFIGDIR",
        "NPSI_TWIN_CACHE",
        "LANG",
        "PYTHONIOENCODING",
    )
    # Nobody, root included, can make a folder there.
    homes = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"), "/proc/nowhere")
    letters = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    found = os.pathsep.join([str(tmp_path / "clock"), *filter(None, [os.environ.get("PYTHONPATH")])])
    changed = {"TZ": "Pacific/Chatham", "PYTHONPATH": found, **homes, **letters}
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    return {"env": kept | changed, "cwd": tmp_path / "clock"}


@contextmanager
def begun(words, tmp_path, **machine):
    """Give a run that has just made its truth; it is ended afterwards, whatever the test did."""
    with (tmp_path / "said").open("w") as said, subprocess.Popen(words, stdout=said, stderr=said, **machine) as process:
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


def test_a_terminated_run_gives_its_folder_free_and_is_resumed_to_the_same_bytes_on_any_machine(
    words, tmp_path, strange
):
    run_twin(load_specification(tmp_path / "s.toml"), tmp_path / "here")
    with begun(words, tmp_path, **strange) as process:
        assert stopped(process, signal.SIGTERM, tmp_path / "run")[0] == 143
    done = subprocess.run([*words, "--resume"], capture_output=True, text=True, timeout=280, **strange)
    assert done.returncode == 0, done.stderr
    here, there = read_state(tmp_path / "here"), read_state(tmp_path / "run")
    assert there["status"] == "complete"
    for stage, entry in here["stages"].items():
        assert there["stages"][stage]["files"] == entry["files"], stage


def test_a_second_run_is_sent_away_at_once_and_ctrl_c_gives_the_folder_free(words, tmp_path):
    folder = tmp_path / "run"
    with begun(words, tmp_path) as process:
        os.kill(process.pid, signal.SIGSTOP)  # it holds its lock, and whatever changes now was not its doing
        before = {path: file_sha256(path) for path in folder.rglob("*") if path.is_file()}
        assert folder / "truth.h5" in before
        second = subprocess.run([*words, "--overwrite"], capture_output=True, text=True, timeout=120)
        assert second.returncode == 4, second.stderr
        assert f"in use by process {process.pid} on" in second.stderr
        assert second.stderr.count("\n") == 1, second.stderr  # nothing was begun, not even an electrode
        assert {path: file_sha256(path) for path in folder.rglob("*") if path.is_file()} == before
        os.kill(process.pid, signal.SIGCONT)
        code, said = stopped(process, signal.SIGINT, folder)
    assert code == 130
    assert "stopped. A run goes on with --resume" in said
    state = json.loads((folder / "run.json").read_text())
    for entry in state["stages"].values():
        assert all(file_sha256(folder / name) == digest for name, digest in entry["files"].items())
