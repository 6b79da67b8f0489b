"""Slabs over an executor and the run folder: order, wholeness, refusals."""

import json
import operator
import subprocess
import sys
from unittest.mock import Mock

import pytest

from npsi_twin.errors import DataError, IncompleteError, ParameterError, ResourceError
from npsi_twin.execution import (
    executors,
    file_sha256,
    map_slabs,
    open_run,
    opened_executor,
    read_state,
    run_folder,
    slabs,
    written_whole,
)
from npsi_twin.plan import plan_twin, within_memory
from npsi_twin.specification import preset_specification

REQUEST = {"specification": "abc", "version": "1"}
EARLY = """
import sys
from npsi_twin.execution import map_slabs
from npsi_twin.worker_server import begin_server
if __name__ == "__main__":
    begin_server(2, None, ["colorsys"])
    asked = ["'colorsys' in __import__('sys').modules"] * 4
    print(list(map_slabs(eval, asked, workers=2)), "colorsys" in sys.modules)
"""


def test_slabs_cover_every_row_once():
    for rows, height in ((1, 16), (16, 16), (33, 16), (5, 2)):
        covered = [row for slab in slabs(rows, height) for row in slab]
        assert covered == list(range(rows))


def test_results_come_in_order_for_any_number_of_workers():
    tasks = list(range(-6, 1))
    told = []
    one = list(map_slabs(operator.neg, tasks, workers=1))
    two = list(map_slabs(operator.neg, tasks, workers=2, stage="neg", progress=lambda *what: told.append(what)))
    assert one == two == [6, 5, 4, 3, 2, 1, 0]
    assert told[0] == ("neg", 0, 7)
    assert told[-1] == ("neg", 7, 7)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a system that can fork")
def test_workers_are_forked_from_the_server_that_was_begun_early(tmp_path):
    """A module that only the server was told of is there in every worker."""
    script = tmp_path / "early.py"
    script.write_text(EARLY, encoding="utf-8")
    told = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert told.stdout == "[True, True, True, True] False\n"


def test_a_worker_is_needed():
    with pytest.raises(ParameterError, match="at least 1"):
        list(map_slabs(abs, [1], workers=0))


@pytest.mark.parametrize(
    ("services", "told"),
    [
        ({"dashboard": 8787}, "Dask dashboard: http://node7:8787/status"),
        ({}, "Dask dashboard: none, the scheduler lacks bokeh"),
    ],
)
def test_where_the_dashboard_of_a_cluster_is_is_told_first(monkeypatch, services, told):
    client = Mock(dashboard_link="http://node7:8787/status")
    client.scheduler_info.return_value = {"services": services, "workers": {}}
    monkeypatch.setattr(executors, "_connected", lambda scheduler: client)
    said = []
    with opened_executor(scheduler="tcp://node7:8786", progress=lambda *what: said.append(what[0])):
        assert said == [told, "tcp://node7:8786 has no worker yet: the run waits for one"]
    client.close.assert_called_once_with()


def _note(folder):
    """Leave a file behind; return how many there are."""
    (folder / str(len(list(folder.iterdir())))).touch()
    return len(list(folder.iterdir()))


@pytest.fixture(params=["in process", "two workers", "cluster"])
def executor(request):
    """Everyone who may do the work."""
    if request.param == "cluster":
        distributed = pytest.importorskip("distributed", reason="Dask is the extra 'dask'")
        with distributed.Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None) as client:
            yield executors.DaskCluster(client)
    else:
        with opened_executor(1 if request.param == "in process" else 2) as given:
            yield given


def test_what_was_begun_is_done_once_however_often_it_is_asked_for(executor, tmp_path):
    result = executor.begun(_note, tmp_path)
    assert [result(), result(), len(list(tmp_path.iterdir()))] == [1, 1, 1]


def test_a_fault_in_a_worker_reaches_the_caller():
    with pytest.raises(TypeError):
        list(map_slabs(operator.neg, [1, "a"], workers=2))


def test_slabs_are_as_high_as_the_memory_allows():
    demo = preset_specification("demo")  # slabs of 40 rows, and those of 20 need what is given
    execution = demo.execution.model_copy(update={"slab_rows": 20})
    given = plan_twin(demo.model_copy(update={"execution": execution}), workers=2).memory_bytes
    lower = within_memory(demo, f"{given / 1e6 + 0.01:.2f}MB", workers=2)
    assert lower.execution.slab_rows == 20
    assert lower.electrode == demo.electrode
    assert within_memory(demo, "1TB", workers=2) == demo
    with pytest.raises(ResourceError, match="slabs of one row"):
        within_memory(demo, "100MiB")
    with pytest.raises(ParameterError, match="got '8'"):
        within_memory(demo, "8")


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), written_whole(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["a.txt"]
    with written_whole(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"


def test_a_run_says_complete_only_when_it_is(tmp_path):
    with open_run(tmp_path / "run", request=REQUEST) as run:
        with run.stage("one", "one.txt"), written_whole(run.path / "one.txt") as path:
            path.write_text("1")
        assert read_state(run.path)["status"] == "incomplete"
        assert run.has("one")
        run.complete()
    state = json.loads((tmp_path / "run" / "run.json").read_text())
    assert state["status"] == "complete"
    assert state["stages"]["one"]["files"]["one.txt"] == file_sha256(tmp_path / "run" / "one.txt")
    assert not (tmp_path / "run" / ".lock").exists()


def test_a_changed_file_is_not_taken_for_finished(tmp_path):
    with open_run(tmp_path, request=REQUEST) as run:
        with run.stage("one", "one.txt"):
            (tmp_path / "one.txt").write_text("1")
        (tmp_path / "one.txt").write_text("2")
        assert not run.has("one")


def test_a_stage_that_fails_is_not_recorded(tmp_path):
    with open_run(tmp_path, request=REQUEST) as run:
        with pytest.raises(RuntimeError), run.stage("one"):
            raise RuntimeError
        assert not run.has("one")


def test_a_second_run_is_refused_and_the_first_undamaged(tmp_path):
    with open_run(tmp_path / "run", request=REQUEST):
        before = (tmp_path / "run" / "run.json").read_bytes()
        with (
            pytest.raises(ResourceError, match="in use by process"),
            open_run(tmp_path / "run", request=REQUEST, overwrite=True),
        ):
            pass
        assert (tmp_path / "run" / "run.json").read_bytes() == before
    with pytest.raises(ResourceError, match="not empty"), open_run(tmp_path / "run", request=REQUEST):
        pass
    with open_run(tmp_path / "run", request=REQUEST, overwrite=True) as run:
        assert run.state["stages"] == {}


def test_resume_needs_the_same_request(tmp_path):
    with open_run(tmp_path, request=REQUEST) as run, run.stage("one"):
        pass
    with open_run(tmp_path, request=REQUEST, resume=True) as run:
        assert "one" in run.state["stages"]
    with (
        pytest.raises(IncompleteError, match="specification"),
        open_run(tmp_path, request=REQUEST | {"specification": "def"}, resume=True),
    ):
        pass


def test_a_folder_of_somebody_elses_is_never_overwritten(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ResourceError, match="no run"), open_run(tmp_path, request=REQUEST, overwrite=True):
        pass
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_a_broken_state_is_named(tmp_path):
    with pytest.raises(DataError, match="not a run folder"):
        read_state(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(DataError, match=r"run\.json"):
        read_state(tmp_path)


@pytest.mark.parametrize("name", ["../outside.h5", "/etc/outside.h5", "scan.shards/../../outside.h5"])
def test_a_state_never_names_files_outside_its_folder(tmp_path, name):
    state = {"request": REQUEST, "stages": {"build": {"files": {name: "0" * 64}}}}
    (tmp_path / "run.json").write_text(json.dumps(state))
    with pytest.raises(DataError, match="below its folder"):
        read_state(tmp_path)


def test_what_a_stage_wrote_is_read_once_to_be_hashed(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(run_folder, "file_sha256", lambda path: read.append(path.name) or file_sha256(path))
    with open_run(tmp_path, request=REQUEST) as run:
        with run.stage("one", "one.txt"):
            (tmp_path / "one.txt").write_text("1")
        with run.stage("two", "two.txt", inputs=["one.txt"]):
            (tmp_path / "two.txt").write_text("2")
        assert read == ["one.txt", "two.txt"]
        (tmp_path / "one.txt").write_text("another")
        with run.stage("two", "two.txt", inputs=["one.txt"]):
            pass
        assert run.state["stages"]["two"]["given_by_user"] == ["one.txt"]
    assert read == ["one.txt", "two.txt", "one.txt", "two.txt"]
