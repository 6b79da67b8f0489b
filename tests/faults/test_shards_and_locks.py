"""What lies in a run's folder between its beginning and its end: shards, their manifest, and the lock."""

import json
import os
import signal
import socket
import time
from functools import partial

import h5py
import numpy as np
import pytest

from npsi_twin import twin
from npsi_twin.errors import DataError, IncompleteError, ResourceError
from npsi_twin.execution import InProcess, file_sha256, open_run, written_hdf5, written_whole
from npsi_twin.execution.shards import Slab, SlabArray, assemble, make_shards
from npsi_twin.specification import preset_specification, to_toml
from npsi_twin.storage.volumes import create_volumes, read_volume
from npsi_twin.variations import with_values

ROWS = [range(0, 2), range(2, 4), range(4, 5)]
VALUES = np.arange(5 * 3 * 4, dtype=np.float32).reshape(5, 3, 4)
LOCK = {"process": os.getpid(), "host": socket.gethostname(), "since": "2026-01-01 00:00:00", "started": ""}


def slab(made, rows):
    made.append(rows.start)
    return Slab({"a": SlabArray(VALUES[rows.start : rows.stop], 0, (1, 3, 4))}, {"first": rows.start})


def shards(run, *, told=None, kept_for=None, variant=""):
    made = []
    found = make_shards(
        run,
        "stage",
        partial(slab, made),
        ROWS,
        executor=InProcess(),
        progress=lambda *what: None if told is None else told.append(what[0]),
        kept_for=kept_for,
        variant=variant,
    )
    assert [shard.facts["first"] for shard in found] == [0, 2, 4]
    return found, made


def test_a_run_is_resumed_by_the_same_specification_version_and_code_alone(tmp_path, monkeypatch):
    tiny = preset_specification("tiny")
    with open_run(tmp_path / "run", request=twin._request(tiny)):
        pass
    before = (tmp_path / "run" / "run.json").read_bytes()
    monkeypatch.setattr(twin, "code_sha256", lambda: "other")
    monkeypatch.setattr(twin, "version", lambda name: "9.9")
    for asked, differing in ((tiny, "code, version"), (tiny.model_copy(update={"seed": 1}), "code, spec.*, version")):
        with pytest.raises(IncompleteError, match=f"these differ: {differing}"):
            twin.run_twin(asked, tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "run.json").read_bytes() == before
    (tmp_path / "run" / "specification.toml").write_text(to_toml(tiny))
    other = with_values(tiny, {"microscope.detector.rows": 5, "seed": 1})
    for walk in (twin.run_twin, twin.build_run):
        with pytest.raises(IncompleteError, match=r"specification \(seed, microscope.detector.rows\), version"):
            walk(other, tmp_path / "run", resume=True)


@pytest.mark.parametrize(("rows", "when"), [(ROWS, [0, 2]), (ROWS[:1], []), ([], [])])
def test_what_others_may_do_beside_the_last_slab_is_begun_once_all_before_it_are_done(tmp_path, rows, when):
    made, begun = [], []
    with open_run(tmp_path / "run", request={}) as run:
        make_shards(
            run,
            "stage",
            partial(slab, made),
            rows,
            executor=InProcess(),
            progress=lambda *_: None,
            beside_last=lambda: begun.append(list(made)),
        )
    assert begun == [when]


def volume(run, found, *, virtual):
    with (
        written_whole(run.path / "v.h5") as path,
        create_volumes(path, VALUES.shape, {"a": np.float32}, voxel_nm=50.0, compressed=False) as file,
    ):
        assemble(file, found, folder=run.path if virtual else None)


def test_only_what_is_missing_damaged_or_of_another_question_is_made_again(tmp_path):
    with open_run(tmp_path / "run", request={"a": "1"}) as run:
        found, made = shards(run)
        assert made == [0, 2, 4]
        assert shards(run)[1] == []
        with found[1].path.open("r+b") as file:  # a flipped bit
            file.seek(-1, 2)
            last = file.read()
            file.seek(-1, 2)
            file.write(bytes([last[0] ^ 1]))
        found[2].path.unlink()
        told = []
        assert shards(run, told=told)[1] == [2, 4]
        assert "0001.h5 is not as it was written, and is made again" in told
        manifest = found[0].path.with_name("manifest.jsonl")
        with manifest.open("a") as file:  # a line that a power cut took in half
            file.write('{"shard": "0000.h5", "key": "')
        assert shards(run)[1] == []
        for damage in (b"no JSON\n", b"\xff\n"):
            whole = manifest.read_bytes()
            manifest.write_bytes(whole + damage)
            with pytest.raises(DataError, match="cannot be read .*Remove its folder"):
                shards(run)
            manifest.write_bytes(whole)
        assert all(json.loads(line) for line in manifest.read_text().splitlines())
        assert shards(run, variant="another")[1] == [0, 2, 4]


def test_a_copied_file_and_a_virtual_one_hold_the_same(tmp_path):
    with open_run(tmp_path / "run", request={}) as run:
        found, _ = shards(run)
        volume(run, found, virtual=False)
        first = file_sha256(tmp_path / "run" / "v.h5")
        volume(run, found, virtual=False)
        assert file_sha256(tmp_path / "run" / "v.h5") == first
        np.testing.assert_array_equal(read_volume(tmp_path / "run" / "v.h5").values, VALUES)
        found, _ = shards(run, kept_for="v.h5")
        volume(run, found, virtual=True)
        with run.stage("stage", "v.h5"):
            pass
        assert list(run.state["stages"]["stage"]["files"]) == ["v.h5", *(f"v.shards/000{n}.h5" for n in range(3))]
        first = file_sha256(run.path / "v.h5")
        time.sleep(1.1)  # HDF5 keeps times in seconds, where it keeps them
        volume(run, found, virtual=True)
        assert file_sha256(run.path / "v.h5") == first
    moved = tmp_path / "moved"
    (tmp_path / "run").rename(moved)
    np.testing.assert_array_equal(read_volume(moved / "v.h5").values, VALUES)
    assert read_volume(moved / "v.h5").voxel_nm == 50.0
    # Moved without its shards it is refused, and a reader that does not look finds no numbers.
    (moved / "v.h5").rename(tmp_path / "v.h5")
    with pytest.raises(DataError, match=r"v.shards/0000.h5, which is not there"):
        read_volume(tmp_path / "v.h5")
    with h5py.File(tmp_path / "v.h5") as file:
        assert np.isnan(file["a"][()]).all()


def test_a_bit_that_flips_on_disk_is_noticed(tmp_path):
    with open_run(tmp_path / "run", request={}) as run:
        volume(run, shards(run)[0], virtual=False)
    path = tmp_path / "run" / "v.h5"
    with h5py.File(path) as file:
        place = file["a"].id.get_chunk_info(3).byte_offset
    with path.open("r+b") as file:
        file.seek(place)
        file.write(b"\xff")
    with pytest.raises(DataError, match="cannot be read"):
        read_volume(path)


def test_a_failure_inside_is_not_taken_for_a_full_disk(tmp_path):
    with pytest.raises(RuntimeError), written_whole(tmp_path / "a.h5") as path, written_hdf5(path) as file:
        file["a"] = VALUES
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_half_written_is_removed_where_nobody_else_works(tmp_path):
    with open_run(tmp_path / "run", request={}):
        pass
    for name in ("run", "run/figures", "run/another"):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / ".a.png.x.partial").write_text("half")
    (tmp_path / "run" / "another" / "run.json").write_text("{}")
    (tmp_path / "run" / "link").symlink_to(tmp_path / "run" / "another")
    with open_run(tmp_path / "run", request={}, resume=True):
        pass
    assert [path.parent.name for path in tmp_path.rglob("*.partial")] == ["another"]


@pytest.fixture
def _heeds_ctrl_c():
    """Give SIGINT its usual handler: a process that was begun in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_heeds_ctrl_c")
def test_ctrl_c_waits_until_hdf5_is_done_and_leaves_nothing(tmp_path):
    reached = []
    with pytest.raises(KeyboardInterrupt), written_whole(tmp_path / "a.h5") as path, written_hdf5(path) as file:
        signal.raise_signal(signal.SIGINT)
        file["a"] = VALUES
        reached.append(True)
    assert reached == [True]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("held_by", "free", "can_be_broken"),
    [
        ({}, False, False),  # a process of this machine that runs
        ({"process": 2**22 + 1}, True, True),  # one that is gone: beyond the largest number there is
        ({"started": "another boot:1"}, True, True),  # its number was given to another process
        ({"host": "beamline-7"}, False, True),  # nothing can be known of another machine
    ],
)
def test_a_lock_says_who_holds_it_and_yields_only_where_nobody_is_hurt(tmp_path, held_by, free, can_be_broken):
    (tmp_path / ".lock").write_text(json.dumps(LOCK | held_by))
    for break_lock, opens in ((False, free), (True, can_be_broken)):
        (tmp_path / ".lock").write_text(json.dumps(LOCK | held_by))
        if opens:
            told = []
            tell = {"progress": lambda text, *_, told=told: told.append(text)}
            with open_run(tmp_path, request={}, resume=True, break_lock=break_lock, **tell):
                assert f"on {(LOCK | held_by)['host']} since 2026-01-01 00:00:00" in told[0]
                assert json.loads((tmp_path / ".lock").read_text())["process"] == os.getpid()
        else:
            who = f"process {os.getpid()} on {(LOCK | held_by)['host']} since 2026-01-01 00:00:00.*--break-lock"
            with pytest.raises(ResourceError, match=who), open_run(tmp_path, request={}, break_lock=break_lock):
                pass
    (tmp_path / ".lock").write_text("")  # killed while it wrote the lock
    with pytest.raises(ResourceError, match="an unknown process"), open_run(tmp_path, request={}, resume=True):
        pass
    with open_run(tmp_path, request={}, resume=True, break_lock=True):
        pass
    assert not (tmp_path / ".lock").exists()
