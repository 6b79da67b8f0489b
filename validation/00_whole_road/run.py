"""Walk the whole road as a user does; measure time, memory, bytes, and the prediction of `plan`."""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from render import render
from watched import timed

FOLDER = Path(__file__).resolve().parent
TIMED = ("run.json", "ro-crate-metadata.json")


def fastest(arguments: list[str]) -> float:
    """Return the least time of five runs of a Python command."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
        times.append(time.perf_counter() - start)
    return min(times)


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file of a run but the two that keep times."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in TIMED)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        caches = {"NUMBA_CACHE_DIR": str(scratch / "numba"), "NPSI_TWIN_CACHE": str(scratch / "filters")}
        predicted = json.loads(timed(["plan", "--json"], caches)[2])
        cold_s, cold_bytes, _ = timed(["run", "--out", str(scratch / "one")], caches)
        timed_s, _, _ = timed(["run", "--out", str(scratch / "one"), "--overwrite"], caches)
        warm_s, warm_bytes, _ = timed(["run", "--workers", "2", "--out", str(scratch / "two")], caches)
        one, two = contents(scratch / "one"), contents(scratch / "two")
        state = json.loads((scratch / "one" / "run.json").read_text())
        accuracy = json.loads(one["comparison.json"])["segmentation_accuracy"]
        size = sum(map(len, one.values()))
    differing = [name for name in one if one[name] != two.get(name)]
    seconds = {stage: entry["seconds"] for stage, entry in state["stages"].items()}
    dice = accuracy["dice_silicon_layer"]
    importing, helping = fastest(["-c", "import npsi_twin"]), fastest(["-m", "npsi_twin.cli", "--help"])
    total = predicted["total"]
    rows = [
        row("whole road, one worker, empty caches", "at most 300 s", f"{cold_s:.0f} s", cold_s <= 300),
        row("peak memory, one worker", "at most 4 GiB", f"{cold_bytes / 2**30:.2f} GiB", cold_bytes <= 4 * 2**30),
        row("whole road, one worker, full caches", "-", f"{timed_s:.0f} s", None),
        row("whole road, two workers, full caches", "-", f"{warm_s:.0f} s, {warm_bytes / 2**30:.2f} GiB", None),
        row(
            "files that differ between 1 and 2 workers",
            "none",
            ", ".join(differing) or f"none of {len(one)}",
            not differing and one.keys() == two.keys(),
        ),
        row("Dice coefficient of silicon in the layer", "0.70 to 0.88", f"{dice:.3f}", 0.70 <= dice <= 0.88),
        row("import npsi_twin", "below 0.3 s", f"{importing:.2f} s", importing < 0.3),
        row("npsi-twin --help", "below 0.7 s", f"{helping:.2f} s", helping < 0.7),
        row(
            "`plan`: memory",
            "measured at most 1.3 times",
            f"{total['memory_bytes'] / 2**30:.2f} GiB predicted",
            cold_bytes <= 1.3 * total["memory_bytes"],
        ),
        row(
            "`plan`: disk",
            "within 30 %",
            f"{total['disk_bytes'] / 2**20:.0f} MiB predicted, {size / 2**20:.0f} MiB measured",
            abs(total["disk_bytes"] / size - 1) < 0.3,
        ),
    ]
    for stage in predicted["stages"]:
        name, expected = stage["stage"], stage["seconds"]
        if name not in seconds:
            continue
        rows.append(row(f"`plan`: {name}", "-", f"{expected:.0f} s predicted, {seconds[name]:.0f} s measured", None))
    processor = platform.processor() or platform.machine()
    render(FOLDER, rows, f"{processor}, {len(os.sched_getaffinity(0))} processors")


def row(requirement: str, required: str, measured: str, passed: bool | None) -> dict[str, object]:
    """Return one line of the table."""
    return {"requirement": requirement, "required": required, "measured": measured, "passed": passed}


if __name__ == "__main__":
    main()
