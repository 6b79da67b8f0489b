"""What is checked before anything is read or written: disk beside what a folder holds, memory, claims of files."""

import json
from collections import namedtuple

import numpy as np
import pytest
from typer.testing import CliRunner

from npsi_twin import cli, costs, plan, twin
from npsi_twin.costs import Costs, StageCost, check_resources
from npsi_twin.errors import ResourceError
from npsi_twin.execution import run_folder
from npsi_twin.memory import Memory, memory_there
from npsi_twin.plan import plan_reconstruction, plan_twin
from npsi_twin.specification import preset_specification
from npsi_twin.storage.formats import open_scan
from npsi_twin.variations import with_values

Usage = namedtuple("Usage", "total used free")


@pytest.fixture(scope="module")
def scanned(tmp_path_factory):
    """Walk to the scan, at the smallest size that is shipped."""
    folder = tmp_path_factory.mktemp("runs") / "scanned"
    twin.run_twin(preset_specification("tiny"), folder, until="scan")
    return folder


@pytest.fixture
def free_disk(monkeypatch):
    """Give a function that says how much disk is free."""
    return lambda size: monkeypatch.setattr(costs.shutil, "disk_usage", lambda _: Usage(1e15, 1e15 - size, size))


def test_a_resumed_run_needs_disk_for_what_is_missing_alone(scanned, free_disk):
    tiny = preset_specification("tiny")
    costs = plan_twin(tiny)
    left = costs.only("axis, filters", "reconstruct", "segment", "measure", "compare", "report")
    free_disk(1.2 * left.fullest_disk_bytes + 1)
    assert left.fullest_disk_bytes < 0.9 * costs.fullest_disk_bytes
    with pytest.raises(ResourceError, match="of disk"):
        check_resources(costs, scanned)
    check_resources(costs.beyond(scanned), scanned)
    assert costs.beyond(scanned) == left
    # The same road as a user's: refused before anything is touched, or walked on.
    free_disk(1.2 * left.only("reconstruct").fullest_disk_bytes + 1)
    twin.run_twin(tiny, scanned, resume=True, until="reconstruct")
    assert (scanned / "reconstruction.h5").is_file()


def test_slabs_that_are_there_are_not_asked_for_again(tmp_path):
    costs = Costs([StageCost("scan", 1.0, 1.0, 5000.0, 5000.0), StageCost("reconstruct", 1.0, 1.0, 9000.0)], 1)
    assert costs.beyond(tmp_path) is costs
    (tmp_path / "run.json").write_text(json.dumps({"request": {}, "stages": {}}))
    for name, size in ((".shards/scan/0000.h5", 3000), ("reconstruction.shards/0000.h5", 4000)):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(bytes(size))
    scan, reconstruct = costs.beyond(tmp_path).stages
    assert (scan.disk_bytes, scan.passing_bytes) == (5000.0, 2000.0)  # the copy is still to be made, whole
    assert reconstruct.disk_bytes == 5000.0  # the slabs are the file's own


def test_what_is_overwritten_is_counted_as_free(scanned, free_disk):
    costs = plan_twin(preset_specification("tiny"))
    held = sum(run_folder.finished_bytes(scanned).values())
    assert held > 0
    free_disk(1.2 * costs.fullest_disk_bytes - held + 1)
    check_resources(costs, scanned, overwrite=True)
    with pytest.raises(ResourceError, match=r"of disk; \d+\.\d MB are free"):
        check_resources(costs, scanned)


def test_the_plan_holds_the_transmission_and_slabs_beside_their_copy(tmp_path):
    kept = with_values(preset_specification("tiny"), {"execution.keep_transmission": True})
    most = 0

    def look(*_):
        nonlocal most
        most = max(most, sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()))

    # Progress is told after every slab, and once more where a stage begins, when the files of the one before are whole.
    twin.run_twin(kept, tmp_path / "run", until="scan", progress=look)
    costs = plan_twin(kept).only("build", "scan")
    look()
    without = plan_twin(preset_specification("tiny")).only("build", "scan")
    detector, views = kept.microscope.detector, kept.microscope.stage.views
    assert costs.disk_bytes - without.disk_bytes == 4 * detector.rows * detector.columns * views
    assert most <= 1.2 * costs.fullest_disk_bytes
    assert costs.fullest_disk_bytes == costs.disk_bytes + costs.only("scan").disk_bytes


def test_virtual_files_need_their_slabs_alone():
    tiny = with_values(preset_specification("tiny"), {"execution.assembly": "virtual"})
    assert plan_twin(tiny).fullest_disk_bytes == plan_twin(tiny).disk_bytes


def test_a_control_group_counts_as_the_machine(monkeypatch, tmp_path):
    monkeypatch.setattr(costs, "memory_there", lambda: Memory(1e6, "the control group of this process allows"))
    with pytest.raises(ResourceError, match="control group of this process allows"):
        check_resources(plan_twin(preset_specification("tiny")), tmp_path)


def test_a_cluster_is_judged_by_its_smallest_worker(monkeypatch, tmp_path):
    asked = []

    def worker(scheduler):
        asked.append(scheduler)
        return Memory(4e8, f"the smallest worker of {scheduler} has")

    monkeypatch.setattr(costs, "cluster_memory", worker)
    planned = plan_twin(preset_specification("tiny"))
    assert planned.only("scan").memory_bytes > 4e8 > planned.only("electrode", "axis, filters").memory_bytes
    with pytest.raises(ResourceError, match=r"scan: needs .* the smallest worker of tcp://there:1 has"):
        check_resources(planned, tmp_path, scheduler="tcp://there:1")
    monkeypatch.setattr(costs, "memory_there", lambda: Memory(1e6, "this machine has"))
    with pytest.raises(ResourceError, match="axis, filters: needs .* this machine has"):
        check_resources(planned, tmp_path, scheduler="tcp://there:1")
    assert asked == ["tcp://there:1"]


def test_a_reconstruction_that_is_resumed_needs_what_is_missing(scanned):
    scan_file = open_scan(scanned / "scan.h5")
    tiny = preset_specification("tiny")
    costs = plan_reconstruction(scan_file, tiny.execution, tiny.reconstruction)
    voxels = scan_file.rows * scan_file.beam.columns**2
    assert [cost.stage for cost in costs.stages] == ["axis, filters", "reconstruct"]
    assert costs.disk_bytes == 4 * voxels
    assert costs.fullest_disk_bytes == 8 * voxels


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("segment", "{grey}", "--out", "{out}.h5"), "segment needs about"),
        (("measure", "{labels}"), "measure needs about"),
        (("score", "{labels}", "--truth", "{run}", "--out", "{out}.json"), "score needs about"),
        (("export", "{grey}", "--to", "npy", "--out", "{out}.npy"), "--max-memory allows"),
        (("inspect", "{run}/scan.h5", "--text-only"), "--max-memory allows"),
    ],
)
def test_files_that_claim_more_than_is_allowed_are_not_read(scanned, tmp_path, monkeypatch, arguments, told):
    np.savez_compressed(tmp_path / "grey.npz", a=np.zeros((64, 64, 64), np.float32))
    np.savez_compressed(tmp_path / "labels.npz", a=np.zeros((64, 64, 64), np.uint8))
    places = {name: str(tmp_path / f"{name}.npz") for name in ("grey", "labels")}
    places |= {"run": str(scanned), "out": str(tmp_path / "written")}
    given = [argument.format(**places) for argument in arguments]
    given += ["--voxel-nm", "50"] if arguments[0] != "inspect" else []
    before = memory_there()
    with pytest.raises(ResourceError, match=told):
        CliRunner().invoke(cli.app, [*given, "--max-memory", "10kB"], catch_exceptions=False)
    assert not list(tmp_path.glob("written*"))
    assert memory_there() == before


def test_more_processors_are_promised_only_what_they_share(monkeypatch):
    found = {}
    for processors in (2, 8):
        monkeypatch.setattr(plan, "available_cpus", lambda processors=processors: processors)
        found[processors] = {cost.stage: cost.seconds for cost in plan_twin(preset_specification("demo")).stages}
    for stage in ("electrode", "segment", "report"):
        assert found[2][stage] == found[8][stage]
    assert found[8]["scan"] < found[2]["scan"]
    assert found[2]["reconstruct"] / 4 < found[8]["reconstruct"] < found[2]["reconstruct"]


def test_what_two_workers_begin_ahead_is_part_of_the_plan():
    demo = preset_specification("demo")
    assert plan_twin(demo) == plan_twin(demo, ahead=False)
    walked, alone = (
        {cost.stage: cost.memory_bytes for cost in plan_twin(demo, workers=2, ahead=ahead).stages}
        for ahead in (True, False)
    )
    measuring = alone["measure"] / 2
    for stage in ("scan", "reconstruct"):
        assert walked[stage] == max(alone[stage], alone[stage] / 2 + measuring)
    for stage in ("axis, filters", "segment"):
        assert walked[stage] == alone[stage] + measuring
