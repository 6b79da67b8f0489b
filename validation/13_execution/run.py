"""Measure what runs cost when they are shared out, what they survive, and what the widest of them needs.

python run.py                the whole page; `wide` alone takes three quarters of an hour, for it walks thrice
python run.py sweep workers  these parts
"""

import itertools
import json
import os
import platform
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent))
from render import asked_parts, render_parts  # noqa: E402
from watched import COMMAND, timed, users_environment  # noqa: E402

from npsi_twin.phantoms.draws import phantom_base  # noqa: E402
from npsi_twin.plan import plan_twin  # noqa: E402
from npsi_twin.specification import Specification, preset_specification, to_toml  # noqa: E402
from npsi_twin.stages import truth_grid  # noqa: E402
from npsi_twin.twin import STAGES  # noqa: E402
from npsi_twin.variations import with_values  # noqa: E402

#: One thread a worker; what a run does itself has as many threads as there are workers.
ONE_THREAD, TWO_THREADS = (
    dict.fromkeys(("NPSI_TWIN_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS"), number) for number in "12"
)
#: Two hundred needles of 4 rows, of which the truth alone is measured.
SWEEP = """
preset = "tiny"
until = "build"
record = ["porosity_layer", "porosity_particles"]
design = "latin-hypercube"
points = 100
replicates = 2
[base]
electrode.specimen.length_um = 1.6
electrode.specimen.width_um = 2.0
microscope.detector.rows = 4
microscope.detector.columns = 64
[vary]
electrode.silicon.porosity_fraction = { low = 0.5, high = 0.65 }
electrode.silicon.mean_pore_nm = { low = 300.0, high = 500.0 }
"""
#: What docs/cluster.md advises where processors are few.
DASK_ON_FEW_PROCESSORS = {
    "distributed.admin.tick.interval": "1s",
    "distributed.worker.profile.enabled": False,
    "distributed.nanny.pre-spawn-environ.MALLOC_ARENA_MAX": 1,
}
#: What is changed of the paper's frame: fewer rows, and every artefact of the microscope.
WIDE = {
    "electrode.specimen.length_um": 5.0,
    "microscope.optics.stray_fraction": 0.05,
    "microscope.optics.delta_over_beta": 10.0,
    "microscope.beam.structure_contrast": 0.03,
    "microscope.beam.structure_drift_um": 0.3,
    "microscope.beam.lifetime_h": 2.0,
    "microscope.detector.rows": 64,
    "microscope.detector.gain_drift_spread": 0.01,
    "microscope.detector.zinger_fraction": 1e-4,
    "microscope.detector.dead_pixel_fraction": 3e-4,
    "microscope.detector.hot_pixel_fraction": 3e-4,
    "microscope.detector.flat_frames_after": 20,
    "microscope.stage.axis_tilt_deg": 0.02,
    "microscope.stage.drift_across_nm": 30.0,
    "microscope.stage.wobble_urad": 5.0,
}
FULL_ROWS = 2048
#: Times that one worker, two, and a cluster's are compared.
TURNS = 5
#: Times that numbers of rows, and one worker and two of a longer road, are.
WALKS = 3
Row = dict[str, str | bool | None]


@dataclass(frozen=True)
class Spent:
    """What the command of a stage took, and the seconds that the stage itself kept in its record."""

    seconds: float
    peak_bytes: int
    kept_s: float = 0.0


def row(requirement: str, required: str, measured: str, passed: bool | None) -> Row:
    return {"requirement": requirement, "required": required, "measured": measured, "passed": passed}


def stage_seconds(folder: Path) -> dict[str, float]:
    state = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    return {name: entry["seconds"] for name, entry in state["stages"].items()}


def hashes(folder: Path) -> dict[str, str]:
    state = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    return {name: digest for entry in state["stages"].values() for name, digest in entry["files"].items()}


def workers() -> list[Row]:
    """Make the embedded default by one worker, by two, and by two of a Dask cluster on this machine, a thread each.

    The three are walked in turn, several times, and compared within a turn, since a shared host is not always as fast;
    so are two runs of one worker side by side, which tell what its two processors gain at best.
    """
    import dask
    import distributed

    called = ("one", "two", "dask", "side by side")
    turns: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        timed(["run", "--preset", "tiny", "--out", str(scratch / "warm")])
        own = {"one": ("1", ONE_THREAD), "two": ("2", TWO_THREADS)}
        os.environ.update(ONE_THREAD)
        cluster = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
        for turn in range(TURNS):
            folder = scratch / str(turn)
            taken = {
                who: timed(["run", "--workers", number, "--threads", "1", "--out", str(folder / who)], how)[0]
                for who, (number, how) in own.items()
            }
            taken["side by side"] = side_by_side(folder)
            # There is a cluster for its own walk alone: an idle one takes processor time, too.
            with (
                dask.config.set(DASK_ON_FEW_PROCESSORS),
                distributed.LocalCluster(**cluster, local_directory=str(folder / "dask-workers")) as made,
            ):
                given = ["--scheduler", made.scheduler_address, "--threads", "1"]
                timed(["run", *given, "--preset", "tiny", "--out", str(folder / "imports")])
                taken["dask"] = timed(["run", *given, "--out", str(folder / "dask")], TWO_THREADS)[0]
            turns.append(taken)
        found = [hashes(scratch / str(turn) / who) for turn in range(TURNS) for who in ("one", "two", "dask")]
        stages = [{who: stage_seconds(scratch / str(turn) / who) for who in own} for turn in range(TURNS)]
    seconds = {who: statistics.median(turn[who] for turn in turns) for who in called}
    gain = statistics.median(turn["one"] / turn["two"] for turn in turns)
    more = statistics.median(turn["dask"] / turn["two"] for turn in turns) - 1
    most = statistics.median(2 * turn["one"] / turn["side by side"] for turn in turns)
    slabs = statistics.median(slab_seconds(stage["one"]) / slab_seconds(stage["two"]) for stage in stages)
    same = all(other == found[0] for other in found)
    told = f"{gain:.2f} ({seconds['one']:.0f} against {seconds['two']:.0f} s; slabs alone {slabs:.2f})"
    return [
        row(f"whole road, two workers beside one, a thread each, median of {TURNS} turns", "at least 1.7", told,
            gain >= 1.7),
        row("what the processors gain where nothing is shared: two runs of one worker at once", "report",
            f"{most:.2f}", None),
        row("a Dask cluster's two workers beside two local ones", "at most 10 % more", f"{100 * more:+.0f} %",
            more <= 0.1),
        row("their bytes", "the same", "the same" if same else "differ", same),
    ]  # fmt: skip


def longer() -> list[Row]:
    """Make a road of twice the embedded default's rows by one worker and by two: what is done once weighs half."""
    demo = preset_specification("demo")
    rows, length_um = 2 * demo.microscope.detector.rows, 2 * demo.electrode.specimen.length_um
    twice = with_values(demo, {"microscope.detector.rows": rows, "electrode.specimen.length_um": length_um})
    turns: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        (scratch / "asked.toml").write_text(to_toml(twice), encoding="utf-8")
        asked = ["run", str(scratch / "asked.toml"), "--threads", "1"]
        for turn in range(WALKS):
            one = timed([*asked, "--workers", "1", "--out", str(scratch / f"one-{turn}")], ONE_THREAD)[0]
            two = timed([*asked, "--workers", "2", "--out", str(scratch / f"two-{turn}")], TWO_THREADS)[0]
            turns.append((one, two))
    gain = statistics.median(one / two for one, two in turns)
    seconds = [statistics.median(each) for each in zip(*turns, strict=True)]
    told = f"{gain:.2f} ({seconds[0]:.0f} against {seconds[1]:.0f} s)"
    return [row(f"the same where the detector has {rows} rows in place of {rows // 2}", "report", told, None)]


def side_by_side(folder: Path) -> float:
    """Return the seconds that two runs of one worker take at once, until the last has ended."""
    arguments = [*COMMAND, "run", "--threads", "1", "--out"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": users_environment(ONE_THREAD)}
    began = time.perf_counter()
    runs = [subprocess.Popen([*arguments, str(folder / f"beside-{number}")], **quiet) for number in range(2)]
    if any(run.wait() for run in runs):
        raise RuntimeError("a run failed; run `npsi-twin run` by hand to see why")
    return time.perf_counter() - began


def slab_seconds(stages: dict[str, float]) -> float:
    """Return the seconds of the stages that are shared out slab by slab."""
    return sum(stages[stage] for stage in ("build", "scan", "reconstruct"))


def sweep() -> list[Row]:
    """Make two hundred twins undisturbed, and killed twice at any moment."""
    random.seed(3)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        (scratch / "sweep.toml").write_text(SWEEP, encoding="utf-8")
        given = ["sweep", str(scratch / "sweep.toml"), "--workers", "2", "--out"]
        seconds, _, _ = timed([*given, str(scratch / "whole")])
        killed = []
        for again in ([], ["--resume"]):
            arguments = [*COMMAND, *given, str(scratch / "killed"), *again]
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            with subprocess.Popen(arguments, start_new_session=True, **quiet) as process:
                time.sleep(random.uniform(0.2, 0.4) * seconds)
                os.killpg(process.pid, signal.SIGKILL)
            killed.append(len(list((scratch / "killed" / "twins").glob("*.json"))))
        timed([*given, str(scratch / "killed"), "--resume"])
        tables = [(scratch / folder / "sweep.csv").read_bytes() for folder in ("whole", "killed")]
    lines = tables[0].count(b"\n") - 1
    equal = "the same" if tables[0] == tables[1] else "differ"
    told = f"{lines} rows, killed after {killed[0]} and {killed[1]} twins: {equal}"
    return [
        row("a sweep of 200 twins, killed twice and resumed, beside one undisturbed", "the same bytes", told,
            lines == 200 and tables[0] == tables[1]),
        row("the same, two workers", "report", f"{seconds:.0f} s, {seconds / lines:.2f} s a twin", None),
    ]  # fmt: skip


#: What slabs are shared out to; a volume, or the process that began the run, does the rest.
IN_SLABS = ("build", "scan", "reconstruct")
#: Slabs of half the rows that are told apart, so that each number of rows is made of whole slabs.
ROWS, ROWS_A_SLAB = (16, 32, 64), 16
NODES = 16


def walked(scratch: Path, specification: Specification) -> tuple[dict[str, Any], dict[str, Spent], float]:
    """Walk the road a command a stage; return what `plan` says, what each stage took, and the seconds that it kept."""
    (scratch / "asked.toml").write_text(to_toml(specification), encoding="utf-8")
    planned = json.loads(timed(["plan", str(scratch / "asked.toml"), "--json"])[2])
    folder, spent = str(scratch / "run"), {}
    for stage in STAGES:
        asked = ["build", str(scratch / "asked.toml"), "--out", folder] if stage == "build" else [stage, folder]
        spent[stage] = Spent(*timed(asked)[:2])
    kept = stage_seconds(scratch / "run")
    return planned, {stage: replace(took, kept_s=kept[stage]) for stage, took in spent.items()}, sum(kept.values())


def whole_road(specification: Specification) -> tuple[float, int, float, float]:
    """Walk the road by one command; return its seconds and peak bytes, and what `plan` says of both."""
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        (scratch / "asked.toml").write_text(to_toml(specification), encoding="utf-8")
        total = json.loads(timed(["plan", str(scratch / "asked.toml"), "--json"])[2])["total"]
        spent, peak, _ = timed(["run", str(scratch / "asked.toml"), "--out", str(scratch / "run")])
    return spent, peak, total["seconds"], total["memory_bytes"]


def spread_of(a_row: dict[int, float]) -> float:
    """Return by how much the dearest row exceeds the cheapest."""
    return max(a_row.values()) / min(a_row.values()) - 1


def ms_a_row(a_row: dict[int, float]) -> str:
    return ", ".join(f"{1000 * seconds:.0f}" for seconds in a_row.values()) + " ms a row"


def wide(specification: Specification | None = None) -> list[Row]:
    """Walk with 64 rows at the full width of the instrument, every artefact on, beside what `plan` says.

    A quarter of the rows is walked as well: each costs its share.
    """
    specification = specification or with_values(preset_specification("zhao2018"), WIDE)
    rows = specification.microscope.detector.rows
    spent, peak, total, memory = whole_road(specification)
    found = {}
    for height in (rows, rows // 4):
        with tempfile.TemporaryDirectory() as name:
            found[height] = walked(Path(name), with_values(specification, {"microscope.detector.rows": height}))
    planned, stages, _ = found[rows]
    a_row = {height: kept / height for height, (_, _, kept) in sorted(found.items())}
    columns, views = specification.microscope.detector.columns, specification.microscope.stage.views
    return [
        row(f"{rows} rows, {columns} columns, {views} views, every artefact, the whole road: peak memory",
            "below 12 GiB", f"{peak / 2**30:.2f} GiB", peak < 12 * 2**30),
        row("the same: memory beside `plan`", "at most 1.3 times", f"{peak / memory:.2f} times", peak <= 1.3 * memory),
        row("the same: time beside `plan`", "within 30 %", f"{spent:.0f} s, {total:.0f} s predicted",
            abs(spent / total - 1) < 0.3),
        row(f"{', '.join(map(str, a_row))} such rows: the whole road, a row", "the same within 15 %",
            f"{ms_a_row(a_row)}: {100 * spread_of(a_row):.0f} %", spread_of(a_row) <= 0.15),
        *stage_rows(planned, stages),
        *full_scan(specification, spent, stages),
    ]  # fmt: skip


def stage_rows(planned: dict[str, Any], stages: dict[str, Spent]) -> list[Row]:
    """Hold every stage against `plan`; one of less than ten seconds is not timed well enough to be judged."""
    expected = {entry["stage"]: entry for entry in planned["stages"]}
    found = []
    for stage, took in stages.items():
        seconds, memory = expected[stage]["seconds"], expected[stage]["memory_bytes"]
        found.append(row(
            f"`plan`: {stage}, time", "within 30 %", f"{took.kept_s:.0f} s, {seconds:.0f} s predicted",
            abs(took.kept_s / seconds - 1) < 0.3 if took.kept_s >= 10 else None,
        ))  # fmt: skip
        # A command alone makes the scene again, or looks for the axis: its peak is that of all it does.
        also = {"scan": "electrode", "build": "electrode", "reconstruct": "axis, filters"}.get(stage, stage)
        memory = max(memory, expected[also]["memory_bytes"])
        found.append(row(
            f"`plan`: {stage}, memory", "at most 1.3 times",
            f"{took.peak_bytes / 2**30:.2f} GiB, {memory / 2**30:.2f} GiB predicted",
            took.peak_bytes <= 1.3 * memory,
        ))  # fmt: skip
    return found


def full_scan(specification: Specification, spent: float, stages: dict[str, Spent]) -> list[Row]:
    """Reckon the full detector: slabs divided among machines, what holds the volume done whole by one of them."""
    rows, full_rows = specification.microscope.detector.rows, FULL_ROWS
    times = full_rows / rows
    slabbed = times * sum(stages[stage].kept_s for stage in IN_SLABS)
    whole = {stage: times * took.kept_s for stage, took in stages.items() if stage not in IN_SLABS}
    # Beginning, scene, axis and filters do not grow with rows.
    once = max(0.0, spent - sum(took.kept_s for took in stages.values()))
    alone_h = (once + slabbed + sum(whole.values())) / 3600
    # Two workers measure truth and recovered volume at the same time.
    shared_h = (once + slabbed / NODES + sum(whole.values()) - whole["measure"] / 2) / 3600
    every = {"microscope.detector.rows": full_rows, "electrode.specimen.length_um": full_length_um(specification)}
    full = plan_twin(with_values(specification, every))
    needed = {cost.stage: cost.memory_bytes / 2**30 for cost in full.stages}
    slab = max(needed[stage] for stage in IN_SLABS)
    held = {stage: needed[stage] for stage in ("segment", "measure", "compare")}
    told = ", ".join(f"{stage} {size:.0f} GiB" for stage, size in held.items())
    shares = f"slabs {slabbed / 3600:.1f} h, whole volumes {sum(whole.values()) / 3600:.1f} h"
    return [
        row(f"{full_rows} rows at that rate, one machine like this", "report", f"{alone_h:.1f} h: {shares}", None),
        row(f"{full_rows} rows, {NODES} such machines: slabs divided, the rest not", "report",
            f"{shared_h:.1f} h, {alone_h / shared_h:.1f} times as fast", None),
        row("memory of each machine for its slabs, by `plan`", "report", f"{slab:.1f} GiB", None),
        row("memory of the one machine that holds a volume, by `plan`", "report", told, None),
    ]  # fmt: skip


def full_length_um(specification: Specification) -> float:
    """Return the length of a specimen that fills the full detector and its halo."""
    microscope = specification.microscope
    return (FULL_ROWS + 2 * microscope.halo_rows + 2) * microscope.detector.pixel_nm / 1000


def linear_in_rows(columns: int = 612, views: int = 301, heights: tuple[int, ...] = ROWS) -> list[Row]:
    """Walk with 16, 32 and 64 rows at a quarter of the width: each further row costs the same."""
    base = preset_specification("zhao2018")
    share = columns / base.microscope.detector.columns
    narrow = WIDE | {
        "electrode.specimen.width_um": share * base.electrode.specimen.width_um,
        "microscope.detector.columns": columns,
        "microscope.stage.views": views,
        "execution.slab_rows": min(ROWS_A_SLAB, heights[0]),
    }
    found: dict[int, dict[str, float]] = {}
    # The first walk compiles, and finds filters that are then kept; of the others the fastest counts, stage by stage,
    # since what else a shared host does only ever adds.
    for turn, height in ((0, heights[0]), *itertools.product(range(WALKS), heights)):
        with tempfile.TemporaryDirectory() as name:
            _, stages, _ = walked(Path(name), with_values(base, narrow | {"microscope.detector.rows": height}))
        kept = {stage: took.kept_s for stage, took in stages.items()}
        found[height] = {stage: min(kept[stage], found[height][stage]) for stage in kept} if turn else kept
    lowest, *_, highest = heights
    slabs = {height: sum(stages[stage] for stage in IN_SLABS) for height, stages in found.items()}
    volumes = {
        height: sum(stages[stage] for stage in ("segment", "measure", "compare")) / height
        for height, stages in found.items()
    }
    more = {stage: (found[highest][stage] - found[lowest][stage]) / (highest - lowest) for stage in found[lowest]}
    halfway = {
        height: abs(sum(found[height].values()) - predicted) / predicted
        for height in heights[1:-1]
        if (predicted := sum(found[lowest][stage] + more[stage] * (height - lowest) for stage in more))
    }
    # Every command begins, and loads its kernels, once.
    further = {
        after: (slabs[after] - slabs[before]) / (after - before) for before, after in itertools.pairwise(heights)
    }
    whole = {height: seconds / height for height, seconds in slabs.items()}
    what = f"{', '.join(map(str, heights))} rows x {columns} columns x {views} views"

    return [
        row(f"{what}: build, scan and reconstruct, each further row", "the same within 15 %",
            f"{ms_a_row(further)}: {100 * spread_of(further):.0f} %", spread_of(further) <= 0.15),
        row("the same, a row, with what is done once", "the same within 15 %",
            f"{ms_a_row(whole)}: {100 * spread_of(whole):.0f} %", spread_of(whole) <= 0.15),
        row("the same: segment, measure and compare, a row", "report", ms_a_row(volumes), None),
        row("the same: the whole road half-way, beside a line through the ends", "within 10 %",
            ", ".join(f"{100 * off:.0f} %" for off in halfway.values()), max(halfway.values()) <= 0.1),
    ]  # fmt: skip


def phantoms() -> list[Row]:
    """Make four and sixteen phantoms, scans and reconstructions included."""
    with tempfile.TemporaryDirectory() as name:
        seconds = {
            count: timed(["phantoms", "--count", str(count), "--workers", "2", "--out", f"{name}/{count}"])[0]
            for count in (4, 16)
        }
    edges = " x ".join(map(str, truth_grid(phantom_base()).shape))
    told = f"{seconds[16] / 60:.1f} min, {seconds[16] / 16:.0f} s each; four take {seconds[4] / 4:.0f} s each"
    return [row(f"16 training phantoms of {edges} voxels, two workers", "at most 10 min", told, seconds[16] <= 600)]


PARTS = {
    "workers": workers,
    "longer": longer,
    "sweep": sweep,
    "phantoms": phantoms,
    "rows": linear_in_rows,
    "wide": wide,
}

if __name__ == "__main__":
    processor = f"{platform.machine()}, {len(os.sched_getaffinity(0))} processors"
    render_parts(FOLDER, PARTS, asked_parts(PARTS), processor)
