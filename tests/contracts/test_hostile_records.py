"""A run.json that somebody else wrote: whatever it holds, it is refused in one sentence or read, never a traceback."""

import copy
import json
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from npsi_twin import repetition
from npsi_twin.errors import DataError, IncompatibleError, IncompleteError, ParameterError, ResourceError
from npsi_twin.execution import read_state
from npsi_twin.specification import preset_specification, to_toml
from npsi_twin.verification import verify

SAID = (DataError, IncompatibleError, IncompleteError, ParameterError, ResourceError)
STAGE = {"seconds": 1.0, "files": {"a.txt": "0" * 64}, "inputs": {"b.txt": "1" * 64}, "given_by_user": ["b.txt"]}
COMMON = {
    "status": "complete",
    "command": "npsi-twin",
    "versions": {"numpy": "2"},
    "environment": {"packages": {"numpy": "2"}, "variables": {}, "threads": 1},
    "asked": {"specification.toml": "2" * 64},
    "python": "3.11",
    "platform": "x",
    "code_sha256": "3" * 64,
    "count": 3,
}
READING = {"theta": "", "where": {}, "line_integrals": False, "repair": False, "flats_from_air": False}
SPECIFICATION = preset_specification("tiny")
RECORDS = {
    "run": COMMON
    | {
        "request": {"specification": SPECIFICATION.digest(), "version": "0.1.0", "code": "3" * 64},
        "stages": {"build": STAGE},
    },
    "reconstruction": COMMON
    | {
        "request": {
            "scan": "scan.h5",
            "scan_sha256": "4" * 64,
            "theta_unit": None,
            "assume_normalised": False,
            "reading": READING,
            "recipe": SPECIFICATION.reconstruction.digest(),
            "pixel_nm": 50.0,
        },
        "stages": {"reconstruct": STAGE},
        "inputs": [{"path": "scan.h5", "sha256": "4" * 64, "bytes": 1}],
        "arguments": {"pixel_nm": None, "slab_rows": 40, "allowed_roots": []},
    },
    "sweep": COMMON
    | {"request": {"sweep": "x", "twins": "y"}, "stages": {"sweep": STAGE}, "arguments": {"only": ["a" * 16]}},
}
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["..", "/etc/passwd", "\0", "\ud800", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def places(tree, before=()):
    """Yield the way to every part of a tree."""
    for key in tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ():
        yield (*before, key)
        yield from places(tree[key], (*before, key))


@st.composite
def changed(draw):
    """Draw a record in which some parts are something else, are gone, or have another name."""
    kind = draw(st.sampled_from(sorted(RECORDS)))
    state = copy.deepcopy(RECORDS[kind])
    for _ in range(draw(st.integers(1, 3))):
        *way, last = draw(st.sampled_from(list(places(state))))
        holder = state
        for key in way:
            holder = holder[key]
        how = draw(st.sampled_from(["value", "value", "gone", "name"]))
        if how == "value":
            holder[last] = draw(ANYTHING)
        else:
            value = holder.pop(last)
            if how == "name" and isinstance(holder, dict):
                holder[draw(st.text(max_size=8))] = value
    return state


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Give a folder of a run, from which nothing is really made again."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "specification.toml").write_text(to_toml(SPECIFICATION))
    (tmp_path / "again").mkdir()

    def made(*_, **__):
        (tmp_path / "again" / "run.json").write_text(json.dumps(RECORDS["reconstruction"]))

    for maker in ("run_twin", "reconstruct_file", "make_sweep", "load_sweep"):
        monkeypatch.setattr(repetition, maker, made)
    return tmp_path / "run"


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changed())
def test_no_record_ends_in_a_traceback(folder, state):
    (folder / "run.json").write_text(json.dumps(state))
    for read in (
        lambda: verify(folder).as_text().encode(),
        lambda: repetition.repeat(folder, folder.parent / "again").as_text().encode(),
    ):
        with suppress(*SAID):
            read()


@pytest.mark.parametrize("kind", sorted(RECORDS))
def test_records_of_ours_are_read(folder, kind):
    (folder / "run.json").write_text(json.dumps(RECORDS[kind]))
    assert read_state(folder) == RECORDS[kind]
    assert verify(folder).of("missing")


@pytest.mark.parametrize(
    ("way", "value", "told"),
    [
        (("asked",), [1], "asked: Input should be a valid dictionary"),
        (("stages", "build", "given_by_user"), 3, r"stages\.build\.given_by_user"),
        (("count",), "x", "count: Input should be a valid integer"),
        (("stages", "build", "files"), {"../out": "0"}, "only files below its folder"),
        (("environment",), 7, "environment"),
    ],
)
def test_what_is_wrong_is_named_by_its_place(folder, way, value, told):
    state = copy.deepcopy(RECORDS["run"])
    holder = state
    for key in way[:-1]:
        holder = holder[key]
    holder[way[-1]] = value
    (folder / "run.json").write_text(json.dumps(state))
    with pytest.raises(DataError, match=told):
        read_state(folder)


def test_a_record_that_is_nested_without_end_is_refused(folder):
    (folder / "run.json").write_text('{"request":' * 100_000)
    with pytest.raises(DataError, match="cannot be read"):
        read_state(folder)
