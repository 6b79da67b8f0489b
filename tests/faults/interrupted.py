"""A small run that is disturbed on purpose, in a process of its own, which may be killed and whose disk may be filled.

`main` prints one JSON object. Trials are forks of a process in which everything is imported and compiled, hence one
thread: OpenMP does not survive a fork once it has several.
"""

import contextlib
import json
import os
import random
import resource
import signal
import sys
import time
from multiprocessing import active_children
from pathlib import Path
from unittest import mock

from npsi_twin import twin
from npsi_twin.errors import ResourceError
from npsi_twin.specification import preset_specification

#: Drawing the page takes longer than all the rest, and writes what `files` has tests of.
STAGES = twin.STAGES[:-1]


def small(assembly="copy"):
    tiny = preset_specification("tiny")
    detector = tiny.microscope.detector.model_copy(update={"rows": 6, "columns": 112})
    stage = tiny.microscope.stage.model_copy(update={"views": 41})
    microscope = tiny.microscope.model_copy(update={"detector": detector, "stage": stage})
    specimen = tiny.electrode.specimen.model_copy(update={"width_um": 4.2})
    execution = tiny.execution.model_copy(update={"slab_rows": 2, "assembly": assembly})
    return tiny.model_copy(
        update={
            "microscope": microscope,
            "electrode": tiny.electrode.model_copy(update={"specimen": specimen}),
            "reconstruction": tiny.reconstruction.model_copy(update={"sirt_iterations": 20}),
            "execution": execution,
        }
    )


def walk(specification, folder, **given):
    """Walk the road up to the page."""
    twin.run_twin(specification, folder, until=STAGES[-1], **given)


def hashes(folder):
    """Return what the stages recorded of the files that they wrote."""
    state = json.loads((folder / "run.json").read_text())
    assert list(state["stages"]) == list(STAGES)
    return {name: digest for entry in state["stages"].values() for name, digest in entry["files"].items()}


def in_child(work):
    """Do something in a fork; return its exit code, negative for a signal."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except ResourceError as error:
            print(error, file=sys.stderr)
            code = 4
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def at_event(stage, number, act):
    """Return a progress that acts when it is told something of a stage for the n-th time."""
    left = [number]

    def progress(name, done, total):
        left[0] -= name == stage
        if name == stage and left[0] == 0:
            act()

    return progress


def undisturbed(folder, specification):
    """Run; return hashes, what progress told, and how long it took."""
    events, began = [], time.perf_counter()
    walk(specification, folder, progress=lambda *what: events.append(what))
    return hashes(folder), events, time.perf_counter() - began


def kills(folder):
    """Kill a run at an event of every stage, again and again, and another at any moment; go on with both."""
    random.seed(7)
    found = []
    for assembly in ("copy", "virtual"):
        specification = small(assembly)
        whole, events, seconds = undisturbed(folder / assembly, specification)
        codes, done = [], []

        def go_on(run, progress=twin.silent, seconds=0.0):
            signal.setitimer(signal.ITIMER_REAL, seconds)  # nobody handles it, so it ends the process at once
            walk(specification, run, resume=True, progress=progress)  # noqa: B023

        for stage in STAGES:
            told = [name for name, _, _ in events].count(stage)
            progress = at_event(stage, random.randint(1, told), lambda: os.kill(os.getpid(), signal.SIGKILL))
            codes.append(in_child(lambda: go_on(folder / f"{assembly} by event", progress)))  # noqa: B023
            done.append(list(json.loads((folder / f"{assembly} by event" / "run.json").read_text())["stages"]))
        moment = random.uniform(0.02, seconds)
        codes.append(in_child(lambda: go_on(folder / f"{assembly} by moment", seconds=moment)))  # noqa: B023
        for run in (folder / f"{assembly} by event", folder / f"{assembly} by moment"):
            go_on(run)
            same, left = hashes(run) == whole, [path.name for path in run.rglob("*.partial")]
            found.append({"run": run.name, "codes": codes, "done": done, "same": same, "left": left})
    return found


def full_disks(folder):
    """Fill the disk in every stage that writes, and go on once there is room."""
    specification = small()
    whole, _, _ = undisturbed(folder / "copy", specification)
    run, found = folder / "full", []
    for stage in STAGES:
        # Large enough for the state of the run and half of a shard; soft, so that the parent is left alone.
        limit = {"build": 20_000, "compare": 6_000}.get(stage, 8_000)

        def begin(stage=stage, limit=limit):
            def progress(name, done, total):
                if name == stage:
                    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

            walk(specification, run, resume=True, progress=progress)

        code, state = in_child(begin), json.loads((run / "run.json").read_text())
        found.append(
            {
                "stage": stage,
                "code": code,
                "recorded": stage in state["stages"],
                "left": [path.name for path in run.rglob("*.partial")],
            }
        )
    walk(specification, run, resume=True)
    return {"trials": found, "same": hashes(run) == whole}


class Backwards:
    """An executor whose last task is done first."""

    def completed(self, function, tasks):
        """Do the tasks from the last to the first."""
        for number in reversed(range(len(tasks))):
            yield number, function(tasks[number])


def anybody(folder):
    """Let the same run be done by others, some of which lose a worker on the way; tell who made other bytes."""
    import distributed

    specification = small()
    whole, _, _ = undisturbed(folder / "whole", specification)

    def lose(processes):
        return at_event("build", 3, lambda: os.kill(processes()[0].pid, signal.SIGKILL))

    with mock.patch.object(twin, "opened_executor", return_value=contextlib.nullcontext(Backwards())):
        walk(specification, folder / "backwards")
    walk(specification, folder / "threads", threads=2)
    walk(specification, folder / "processes", workers=4, threads=1, progress=lose(active_children))
    cluster = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**cluster, local_directory=str(folder / "scratch")) as workers:
        address = workers.scheduler_address
        nannies = lambda: [nanny.process.process for nanny in workers.workers.values()]  # noqa: E731
        walk(specification, folder / "dask", scheduler=address, threads=1, progress=lose(nannies))
    return {name: hashes(folder / name) == whole for name in ("backwards", "threads", "processes", "dask")}


def main():
    """Do what is asked for in the folder that is given."""
    what = {"kills": kills, "full_disks": full_disks, "anybody": anybody}[sys.argv[2]]
    print(json.dumps(what(Path(sys.argv[1]))))
