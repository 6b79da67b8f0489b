"""Runs that are killed, starved of disk, or done by others end with the bytes of an undisturbed run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from npsi_twin.errors import ResourceError
from npsi_twin.execution.executors import LocalProcesses

STAGES = ("build", "scan", "reconstruct", "segment", "measure", "compare")


def disturbed(folder, what, threads=1):
    """Do a part of `interrupted` in a process of its own, and return what it found."""
    # Trials are forks, which this threading layer of numba alone survives.
    limits = {"NUMBA_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads), "NUMBA_THREADING_LAYER": "workqueue"}
    # Worker processes import the script of their parent again, which is a waste: -c is none.
    command = [sys.executable, "-c", "from interrupted import main; main()", str(folder), what]
    here = Path(__file__).parent
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | limits, cwd=here, timeout=280)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def test_killed_in_every_stage_and_at_any_moment_a_run_goes_on_to_the_same_bytes(tmp_path):
    for run in disturbed(tmp_path, "kills")[0]:
        assert run["same"], run
        assert run["left"] == [], run
        *by_event, by_moment = run["codes"]
        assert by_event == [-9] * len(STAGES), run
        assert by_moment in (-14, 0), run  # the moment may come after the end, where the machine is faster by then
        # What a stage tells last, it tells when it is recorded.
        for number, done in enumerate(run["done"]):
            assert done in (list(STAGES[:number]), list(STAGES[: number + 1])), run


def test_a_full_disk_is_an_error_in_every_stage_and_the_run_goes_on_once_there_is_room(tmp_path):
    found, told = disturbed(tmp_path, "full_disks")
    assert [trial.pop("stage") for trial in found["trials"]] == list(STAGES)
    # Not a signal, which would be negative: the interpreter lives.
    assert all(trial == {"code": 4, "recorded": False, "left": []} for trial in found["trials"])
    assert told.count("cannot be written") == len(STAGES)
    assert found["same"]


def test_who_does_it_and_in_what_order_changes_no_byte_and_a_killed_worker_costs_its_slab(tmp_path):
    pytest.importorskip("distributed", reason="Dask is the extra 'dask'")
    found, _ = disturbed(tmp_path, "anybody", threads=2)
    assert found == {"backwards": True, "threads": True, "processes": True, "dask": True}


def test_a_task_that_kills_its_workers_is_named():
    # Every worker that is given the task ends at once, as one that runs out of memory does.
    with LocalProcesses(2, threads=1) as workers, pytest.raises(ResourceError, match=r"^7: the worker .* died 3 times"):
        list(workers.completed(os._exit, [7]))
