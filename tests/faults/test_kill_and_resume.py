"""Runs that are killed, starved of disk, or done by others end with the bytes of an undisturbed run."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from npsi_twin.errors import ResourceError
from npsi_twin.execution.executors import LocalProcesses

STAGES = ("build", "scan", "reconstruct", "segment", "measure", "compare", "report")
#: A process that may mount in a namespace of its own, whose disks are gone with it.
OWN_DISKS = ("unshare", "--map-root-user", "--mount")


def disturbed(folder, what, threads=1, within=()):
    """Do a part of `interrupted` in a process of its own, and return what it found."""
    # Trials are forks, which this threading layer of numba alone survives.
    limits = {"NUMBA_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads), "NUMBA_THREADING_LAYER": "workqueue"}
    limits |= {"HYPOTHESIS_STORAGE_DIRECTORY": str(folder / "hypothesis")}
    # Worker processes import the script of their parent again, which is a waste: -c is none.
    command = [*within, sys.executable, "-c", "from interrupted import main; main()", str(folder), what]
    here = Path(__file__).parent
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | limits, cwd=here, timeout=280)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def went_on(run, stages):
    """See that a run was killed in each of its stages and ended with the bytes of one that was not."""
    assert run["same"], run
    assert run["left"] == [], run
    assert run["codes"] == [-9] * len(stages), run
    # What a stage tells last, it tells when it is recorded.
    for number, done in enumerate(run["done"]):
        assert done in (list(stages[:number]), list(stages[: number + 1])), run


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """What became of runs that were killed; made once, for it takes a while."""
    return disturbed(tmp_path_factory.mktemp("killed"), "kills")[0]


def test_killed_in_every_stage_and_at_any_moment_a_run_goes_on_to_the_same_bytes(killed):
    virtual, copied = killed["by event"]
    went_on(virtual, STAGES[:-1])
    went_on(copied, STAGES)
    assert len(killed["by moment"]) == 2
    for run in killed["by moment"]:
        assert run["same"], run
        assert run["left"] == [], run
        assert run["code"] in (-14, 0), run  # the moment may come after the end, where the machine is faster by then


def test_the_reconstruction_of_a_file_is_killed_at_any_slab_and_any_moment_and_goes_on_to_the_same_bytes(killed):
    assert len(killed["of a file"]) == 2
    for run in killed["of a file"]:
        went_on(run, ("reconstruct",))
        assert run["by moment"] in (-14, 0), run


def stopped_in(trials, stages):
    """See that a full disk ended every stage with one clear error."""
    assert [trial.pop("stage") for trial in trials] == list(stages)
    # Not a signal, which would be negative: the interpreter lives.
    assert all(trial == {"code": 4, "recorded": False, "left": []} for trial in trials), trials


def test_a_file_that_cannot_grow_is_an_error_in_every_stage_and_the_run_goes_on_once_it_can(tmp_path):
    """The page has its turn on a real disk; this needs no rights, and stops a file in its midst."""
    found, told = disturbed(tmp_path, "full_disks")
    stopped_in(found["trials"], STAGES[:-1])
    assert told.count("cannot be written") == len(STAGES) - 1
    assert found["same"]


def test_a_full_disk_is_an_error_in_every_stage_and_the_run_goes_on_once_there_is_room(tmp_path):
    (tmp_path / "trial").mkdir()
    mount = ("mount", "-t", "tmpfs", "-o", "size=1m", "none", str(tmp_path / "trial"))
    try:
        tried = subprocess.run([*OWN_DISKS, *mount], capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        pytest.skip("there is no unshare on this machine, with which a small disk is mounted")
    if tried.returncode:
        pytest.skip(f"this machine lets nobody mount a small disk: {tried.stderr.strip()}")
    found, told = disturbed(tmp_path, "small_disk", within=OWN_DISKS)
    stopped_in(found["trials"], STAGES)
    assert told.count("cannot be written (No space left on device)") == len(STAGES)
    assert found["same"]


def test_who_does_it_and_in_what_order_changes_no_byte_and_a_killed_worker_costs_its_slab(tmp_path):
    pytest.importorskip("distributed", reason="Dask is the extra 'dask'")
    found, _ = disturbed(tmp_path, "anybody", threads=2)
    assert found["same"] == {"shuffled": True, "threads": True, "processes": True, "dask": True}
    (line,) = found["dashboard"]
    assert re.fullmatch(r"Dask dashboard: (http://127\.0\.0\.1:\d+/status|none, the scheduler lacks bokeh)", line)


def test_a_task_that_kills_its_workers_is_named():
    # Every worker that is given the task ends at once, as one that runs out of memory does.
    with LocalProcesses(2, threads=1) as workers, pytest.raises(ResourceError, match=r"^7: the worker .* died 3 times"):
        list(workers.completed(os._exit, [7]))


def once(task):
    """Note that a task began; one of them takes its worker with it the first time, while another is under way."""
    begun = Path(task)
    with begun.open("a") as file:
        file.write("begun ")
    if begun.name == "1" and begun.read_text() == "begun ":
        while not (begun.parent / "0").is_file():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.5 if begun.name == "0" else 0)
    return begun.name


def test_a_worker_that_dies_costs_its_own_task_alone(tmp_path):
    tasks = [str(tmp_path / str(number)) for number in range(6)]
    with LocalProcesses(2, threads=1) as workers:
        waiting = workers.begun(once, str(tmp_path / "6"))
        assert sorted(workers.completed(once, tasks)) == [(number, str(number)) for number in range(6)]
        assert waiting() == "6"
    assert [path.read_text().split() for path in sorted(tmp_path.iterdir())] == [
        ["begun"] * (1 + (number == 1)) for number in range(7)
    ]
