"""Measure what runs cost when they are shared out, what they survive, and what the widest of them needs.

python run.py                the whole page; `wide` alone takes most of an hour
python run.py sweep workers  these parts
"""

import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent))
from render import asked_parts, render_parts  # noqa: E402
from watched import COMMAND, timed  # noqa: E402

from npsi_twin.phantoms.draws import phantom_base  # noqa: E402
from npsi_twin.specification import preset_specification, to_toml  # noqa: E402
from npsi_twin.stages import truth_grid  # noqa: E402
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
Row = dict[str, str | bool | None]


def row(requirement: str, required: str, measured: str, passed: bool | None) -> Row:
    return {"requirement": requirement, "required": required, "measured": measured, "passed": passed}


def stage_seconds(folder: Path) -> dict[str, float]:
    state = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    return {name: entry["seconds"] for name, entry in state["stages"].items()}


def hashes(folder: Path) -> dict[str, str]:
    state = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    return {name: digest for entry in state["stages"].values() for name, digest in entry["files"].items()}


def workers() -> list[Row]:
    """Make the embedded default by one worker, by two, and by two of a Dask cluster on this machine, a thread each."""
    import distributed

    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        timed(["run", "--preset", "tiny", "--out", str(scratch / "warm")])
        own = {"one": ("1", ONE_THREAD), "two": ("2", TWO_THREADS)}
        seconds = {
            called: timed(["run", "--workers", number, "--threads", "1", "--out", str(scratch / called)], environment)[
                0
            ]
            for called, (number, environment) in own.items()
        }
        os.environ.update(ONE_THREAD)
        cluster = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
        with distributed.LocalCluster(**cluster, local_directory=str(scratch / "dask")) as made:
            given = ["--scheduler", made.scheduler_address, "--threads", "1"]
            seconds["dask"] = timed(["run", *given, "--out", str(scratch / "dask-run")], TWO_THREADS)[0]
        found = {called: hashes(scratch / folder) for called, folder in
                 (("one", "one"), ("two", "two"), ("dask", "dask-run"))}  # fmt: skip
        stages = {called: stage_seconds(scratch / called) for called in ("one", "two")}
    gain, more = seconds["one"] / seconds["two"], seconds["dask"] / seconds["two"] - 1
    slabbed = [sum(stages[called][stage] for stage in ("build", "scan", "reconstruct")) for called in ("one", "two")]
    same = found["one"] == found["two"] == found["dask"]
    told = (
        f"{gain:.2f} ({seconds['one']:.0f} against {seconds['two']:.0f} s; slabs alone {slabbed[0] / slabbed[1]:.2f})"
    )
    return [
        row("whole road, two workers beside one, a thread each", "at least 1.7", told, gain >= 1.7),
        row(
            "a Dask cluster's two workers beside two local ones",
            "at most 10 % more",
            f"{100 * more:+.0f} %",
            more <= 0.1,
        ),
        row("their bytes", "the same", "the same" if same else "differ", same),
    ]


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


def wide() -> list[Row]:
    """Walk with 64 rows at the full width of the instrument, every artefact on, beside what `plan` says."""
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        specification = with_values(preset_specification("zhao2018"), WIDE)
        (scratch / "wide.toml").write_text(to_toml(specification), encoding="utf-8")
        planned = json.loads(subprocess.run([*COMMAND, "plan", str(scratch / "wide.toml"), "--json"],
                                            capture_output=True, check=True, text=True).stdout)  # fmt: skip
        spent, peak, _ = timed(["run", str(scratch / "wide.toml"), "--out", str(scratch / "run")])
        stages = stage_seconds(scratch / "run")
    expected = {entry["stage"]: entry["seconds"] for entry in planned["stages"]}
    total, memory = planned["total"]["seconds"], planned["total"]["memory_bytes"]
    per_stage = ", ".join(f"{stage} {expected[stage]:.0f} / {taken:.0f}" for stage, taken in stages.items())
    full_h = spent * 2048 / 64 / 3600
    return [
        row("64 rows, 2448 columns, 1201 views, every artefact, the whole road: peak memory", "below 12 GiB",
            f"{peak / 2**30:.2f} GiB", peak < 12 * 2**30),
        row("the same: memory beside `plan`", "at most 1.3 times", f"{peak / memory:.2f} times", peak <= 1.3 * memory),
        row("the same: time beside `plan`", "within 30 %", f"{spent:.0f} s, {total:.0f} s predicted",
            abs(spent / total - 1) < 0.3),
        row("the same: seconds predicted / taken", "report", per_stage, None),
        row("2048 rows at that rate", "report", f"{full_h:.0f} h on this machine, {full_h / 16:.1f} h on 16 like it",
            None),
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


PARTS = {"workers": workers, "sweep": sweep, "phantoms": phantoms, "wide": wide}

if __name__ == "__main__":
    processor = f"{platform.machine()}, {len(os.sched_getaffinity(0))} processors"
    render_parts(FOLDER, PARTS, asked_parts(PARTS), processor)
