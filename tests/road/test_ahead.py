"""What later stages want is begun beside what earlier ones wait for, and by one process in its turn."""

from contextlib import contextmanager

import pytest

from npsi_twin import twin
from npsi_twin.execution import InProcess, read_state
from npsi_twin.specification import preset_specification

TINY = preset_specification("tiny")


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("NPSI_TWIN_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


class Noting:
    """Does what is begun when it is wanted, and notes when that was begun."""

    def __init__(self, notes):
        self.notes = notes

    def completed(self, function, tasks):
        return InProcess().completed(function, tasks)

    def begun(self, function, task):
        self.notes.append(f"begun {task}" if isinstance(task, str) else "begun segment")
        return InProcess().begun(function, task)


def walked(folder, monkeypatch, executor, **how):
    """Walk with an executor; return what was begun among what the stages told, repetitions left out."""
    notes = executor.notes if isinstance(executor, Noting) else []

    @contextmanager
    def opened(*_, **__):
        yield executor

    monkeypatch.setattr(twin, "opened_executor", opened)
    twin.run_twin(TINY, folder, progress=lambda stage, done, of: notes.append(f"{stage} {done}/{of}"), **how)
    return [note for before, note in zip([None, *notes], notes, strict=False) if note != before]


def between(notes, first, last):
    """Return what was begun between two notes."""
    return [note.removeprefix("begun ") for note in notes[notes.index(first) : notes.index(last)] if "begun" in note]


def files(folder):
    return {name: digest for entry in read_state(folder)["stages"].values() for name, digest in entry["files"].items()}


def test_nothing_waits_that_could_be_done_and_the_bytes_are_the_same(tmp_path, monkeypatch):
    notes = walked(tmp_path / "ahead", monkeypatch, Noting([]))
    assert between(notes, "scan 1/2", "scan 2/2") == ["truth"]
    assert between(notes, "segment 0/1", "segment 1/1") == ["segment", "truth", "scan"]
    wanted = ["recovered", "sizes", "surfaces", "overlaps", "slices"]
    assert between(notes, "segment 1/1", "measure 0/2") == wanted
    assert between(notes, "measure 2/2", "compare 0/3") == ["recovered"]
    assert between(notes, "compare 3/3", "report 0/5") == ["curves"]
    walked(tmp_path / "turns", monkeypatch, InProcess())
    assert files(tmp_path / "ahead") == files(tmp_path / "turns")


def test_what_is_not_asked_for_is_not_begun(tmp_path, monkeypatch):
    notes = walked(tmp_path / "run", monkeypatch, Noting([]), until="measure")
    assert [note for note in notes if "begun" in note] == ["begun truth", "begun segment", "begun recovered"]


def test_a_file_of_the_users_is_kept_though_an_earlier_stage_is_done_again(tmp_path):
    folder = tmp_path / "run"
    twin.run_twin(TINY, folder, until="segment")
    mine = (folder / "segmentation.h5").read_bytes() + b"mine"
    (folder / "segmentation.h5").write_bytes(mine)
    (folder / "scan.h5").unlink()
    told = []
    twin.run_twin(TINY, folder, until="segment", resume=True, progress=lambda what, *_: told.append(what))
    assert (folder / "segmentation.h5.aside-1").read_bytes() == mine
    assert "kept segmentation.h5.aside-1, which this run did not write" in told
