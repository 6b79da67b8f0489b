"""Small runs that are disturbed on purpose, in a process of its own, which may be killed and whose disk may be filled.

`main` prints one JSON object. Trials are forks of a process in which everything is imported and compiled, hence one
thread: OpenMP does not survive a fork once it has several.
"""

import contextlib
import functools
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from multiprocessing import active_children
from pathlib import Path
from unittest import mock

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from npsi_twin import single_files, twin
from npsi_twin.errors import ResourceError
from npsi_twin.report import turntable
from npsi_twin.specification import preset_specification

STAGES = twin.STAGES
#: What comes before the page, whose drawing takes as long as all of it.
BEFORE_THE_PAGE = STAGES[-2]
#: Moments are new every time, and told where a run goes wrong: nothing is stored, and nothing made simpler.
ANEW = {"max_examples": 2, "database": None, "deadline": None, "phases": [Phase.generate]}
#: 0 to 1, from beginning to end; hypothesis begins with its simplest number, 0, which here is the middle.
PLACES = st.integers(0, 999).map(lambda number: (number + 500) % 1000 / 1000)


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


def walk(specification, folder, **options):
    """Walk the road; bodies are turned through two frames on the page, which costs less and writes the same files."""
    with mock.patch.object(turntable, "FRAMES", 2):
        twin.run_twin(specification, folder, **options)


def walk_back(scan, folder, **options):
    """Reconstruct a scan that has no run, in slabs of two rows."""
    single_files.reconstruct_file(scan, folder, specification=small(), **options)


def stages_of(folder):
    """Return the stages that a run has recorded."""
    return list(json.loads((folder / "run.json").read_text())["stages"])


def hashes(folder):
    """Return what the stages recorded of the files that they wrote."""
    state = json.loads((folder / "run.json").read_text())
    return {name: digest for entry in state["stages"].values() for name, digest in entry["files"].items()}


def partial(folder):
    """Return the names of files that are not whole."""
    return [path.name for path in folder.rglob("*.partial")]


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


def undisturbed(work, folder):
    """Do it; return hashes, how often progress told of every stage, and how long it took."""
    events, began = Counter(), time.perf_counter()
    work(folder, progress=lambda name, done, total: events.update([name]))
    return hashes(folder), events, time.perf_counter() - began


def kill(act_on, run, progress=twin.silent, seconds=0.0):
    """Go on with a run in a fork that is killed by what progress does, or after some seconds; return its exit code."""

    def begin():
        signal.setitimer(signal.ITIMER_REAL, seconds)  # nobody handles it, so it ends the process at once
        act_on(run, resume=True, progress=progress)

    return in_child(begin)


def kill_in_every_stage(act_on, whole, run, stages, places):
    """Kill a run at a place, 0 to 1, in each of its stages, and go on to its end; tell what happened."""
    expected, events, _ = whole
    told = {"run": run.name, "places": dict(zip(stages, places, strict=True)), "codes": [], "done": []}
    for stage, place in told["places"].items():
        progress = at_event(stage, 1 + int(place * events[stage]), lambda: os.kill(os.getpid(), signal.SIGKILL))
        told["codes"].append(kill(act_on, run, progress))
        told["done"].append(stages_of(run))
    act_on(run, resume=True)
    return told | {"same": hashes(run) == expected, "left": partial(run)}


def kills(folder):
    """Kill runs at an event of every stage, again and again, and others at any moment; go on with all."""
    by_event, by_moment = [], []
    # Once with the page, which is the same for both, and last, where the moments are not those in the middle.
    works = {
        "virtual": (functools.partial(walk, small("virtual"), until=BEFORE_THE_PAGE), STAGES[:-1]),
        "copy": (functools.partial(walk, small("copy")), STAGES),
    }
    wholes = {name: undisturbed(work, folder / name) for name, (work, _) in works.items()}

    @settings(**ANEW)
    @given(st.tuples(*(PLACES for _ in STAGES)), PLACES)
    def disturb(places, moment):
        name, (work, stages) = list(works.items())[len(by_event)]
        whole, run = wholes[name], folder / f"{name} by moment"
        by_event.append(kill_in_every_stage(work, whole, folder / f"{name} by event", stages, places[: len(stages)]))
        code = kill(work, run, seconds=0.02 + moment * whole[2])
        work(run, resume=True, until=BEFORE_THE_PAGE)
        before_the_page = [stage for stage in stages_of(run) if stage != STAGES[-1]]
        same = before_the_page == list(STAGES[:-1]) and hashes(run).items() <= whole[0].items()
        by_moment.append({"moment": moment, "code": code, "same": same, "left": partial(run)})

    disturb()
    return {"by event": by_event, "by moment": by_moment, "of a file": kills_of_a_file(folder / "copy" / "scan.h5")}


def kills_of_a_file(scan):
    """Kill the reconstruction of a scan that has no run at any of its slabs, and then at any moment; go on."""
    found, folder = [], scan.parent.with_name("of a file")
    work = functools.partial(walk_back, scan)
    whole = undisturbed(work, folder / "whole")

    @settings(**ANEW)
    @given(PLACES, PLACES)
    def disturb(place, moment):
        run = folder / f"{len(found)}"

        def killed_again(run, **options):
            if "progress" not in options:  # after the first kill
                found[-1]["by moment"] = kill(work, run, seconds=0.02 + moment * whole[2])
            work(run, **options)

        found.append({"moment": moment})
        found[-1] |= kill_in_every_stage(killed_again, whole, run, ("reconstruct",), (place,))

    disturb()
    return found


def fill_in_every_stage(act_on, whole, run, stages, fill, free=lambda: None):
    """Fill the disk in every stage of a run, make room, and go on to its end; tell what happened."""
    found = []
    for stage in stages:

        def begin(stage=stage):
            act_on(run, resume=True, progress=lambda name, done, total: fill(stage) if name == stage else None)

        code = in_child(begin)
        free()
        found.append({"stage": stage, "code": code, "recorded": stage in stages_of(run), "left": partial(run)})
    act_on(run, resume=True)
    return {"trials": found, "same": hashes(run) == whole[0]}


def full_disks(folder):
    """Let no file grow beyond some size in every stage, as a disk that fills up while a file is written."""
    work = functools.partial(walk, small(), until=BEFORE_THE_PAGE)
    whole = undisturbed(work, folder / "copy")

    def fill(stage):
        # Large enough for the state of the run and half of a shard; soft, so that the parent is left alone.
        limit = {"build": 20_000, "compare": 6_000}.get(stage, 8_000)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    return fill_in_every_stage(work, whole, folder / "full", STAGES[:-1], fill)


def small_disk(folder):
    """Do the same in all stages on a disk of 24 MB, of which somebody else's file takes what is left."""
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", str(disk)], check=True)
    work = functools.partial(walk, small())
    whole = undisturbed(work, folder / "copy")
    ballast = disk / "ballast"

    def fill(stage):
        with ballast.open("ab") as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 16))
                file.flush()

    return fill_in_every_stage(work, whole, disk / "full", STAGES, fill, ballast.unlink)


class Shuffled:
    """An executor that does tasks in any order but their own, another one each time."""

    def completed(self, function, tasks):
        """Do the tasks in a random order."""
        order = list(range(len(tasks)))
        while len(order) > 1 and order == sorted(order):
            random.shuffle(order)
        for number in order:
            yield number, function(tasks[number])

    def begun(self, function, task):
        """Do the task when its result is wanted."""
        return functools.partial(function, task)


def anybody(folder):
    """Let the same run be done by others, some of which lose a worker on the way; tell who made other bytes."""
    import distributed

    work = functools.partial(walk, small(), until=BEFORE_THE_PAGE)
    whole, _, _ = undisturbed(work, folder / "whole")

    told = []

    def lose(processes):
        killing = at_event("build", 3, lambda: os.kill(processes()[0].pid, signal.SIGKILL))

        def progress(name, done, total):
            told.append(name)
            killing(name, done, total)

        return progress

    with mock.patch.object(twin, "opened_executor", return_value=contextlib.nullcontext(Shuffled())):
        work(folder / "shuffled")
    work(folder / "threads", threads=2)
    work(folder / "processes", workers=4, threads=1, progress=lose(active_children))
    cluster = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**cluster, local_directory=str(folder / "scratch")) as workers:
        address = workers.scheduler_address
        nannies = lambda: [nanny.process.process for nanny in workers.workers.values()]  # noqa: E731
        work(folder / "dask", scheduler=address, threads=1, progress=lose(nannies))
    same = {name: hashes(folder / name) == whole for name in ("shuffled", "threads", "processes", "dask")}
    return {"same": same, "dashboard": [name for name in told if "dashboard" in name]}


def main():
    """Do what is asked for in the folder that is given."""
    known = (kills, full_disks, small_disk, anybody)
    what = {each.__name__: each for each in known}[sys.argv[2]]
    print(json.dumps(what(Path(sys.argv[1]))))
