"""HDF5 files that end or hold the HDF5 library are refused before this process opens them, and no other file is.

The damage is put where the HDF5 file format specification says that the library will stumble; the bytes of whole packed
files are changed at random in processes of their own.
"""

import os
import subprocess
import sys

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from npsi_twin import cli
from npsi_twin.errors import DataError, ResourceError
from npsi_twin.storage import hdf5_guard
from npsi_twin.storage.formats import open_scan
from npsi_twin.storage.hdf5_guard import refuse_harmful
from npsi_twin.storage.volumes import read_volume

VIEWS, ROWS, COLUMNS = 6, 4, 8


def packed(path):
    """Write an NXtomo with packed frames and texts of any length."""
    keys = np.array([2, 1] + [0] * VIEWS)
    with h5py.File(path, "w") as file:
        frames = np.full((len(keys), ROWS, COLUMNS), 900, np.uint16)
        chunked = {"chunks": (1, ROWS, COLUMNS), "compression": "gzip", "fletcher32": True}
        file.create_dataset("entry/instrument/detector/data", data=frames, **chunked)
        file["entry/instrument/detector/image_key"] = keys
        file["entry/definition"] = "NXtomo"
        file["entry/sample/rotation_angle"] = 30.0 * np.arange(len(keys))
        file["entry/sample/rotation_angle"].attrs["units"] = "degree"
    return path


def virtual(path):
    """Write a volume that is a virtual data set of another one in the same file."""
    with h5py.File(path, "w") as file:
        file["raw/frames"] = np.zeros((VIEWS, ROWS, COLUMNS), np.uint16)
        layout = h5py.VirtualLayout((VIEWS, ROWS, COLUMNS), np.uint16)
        layout[:] = h5py.VirtualSource(".", "raw/frames", (VIEWS, ROWS, COLUMNS))
        file.create_virtual_dataset("frames", layout)
    return path


def endless_heap(content):
    # An object of length 0 in the heap of texts: the next one is looked for at the same place, for ever.
    size = content.index(b"GCOL") + 24
    return content[:size] + bytes(8) + content[size + 8 :]


def unknown_text(content):
    # A type of variable length (class 9, version 1) whose kind is neither sequence nor text.
    assert b"\x19\x01" in content
    return content.replace(b"\x19\x01", b"\x19\x02")


def many_dimensions(content):
    # The part that a virtual data set is made of has 65283 dimensions; the library keeps room for 32.
    assert content.count(b" \0\0\0\3\0\0\0") == 1
    return content.replace(b" \0\0\0\3\0\0\0", b" \0\0\0\3\xff\0\0")


def no_members(content):
    assert b"SNOD" in content
    return content.replace(b"SNOD", b"XXXX")


HARM = {
    "held for ever": (packed, endless_heap, "did not come back from it within 0.2 s of processor time"),
    "ended in a text": (packed, unknown_text, "was ended by it"),
    "ended in a virtual data set": (virtual, many_dimensions, "was ended by it"),
    "groups that cannot be listed": (packed, no_members, "cannot list the members of"),
}


@pytest.mark.parametrize("case", HARM)
def test_a_file_that_harms_the_library_is_refused_in_words(tmp_path, monkeypatch, case):
    make, damage, words = HARM[case]
    monkeypatch.setattr(hdf5_guard, "_OBJECT_S", 0.2)
    path = make(tmp_path / "scan.h5")
    read = open_scan if make is packed else lambda path: read_volume(path, "frames", voxel_nm=50.0)
    read(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=rf"scan\.h5: the HDF5 library {words}.*copy it anew"):
        read(path)
    read(make(tmp_path / "good.h5"))  # nothing remains of the harm


def test_the_command_ends_with_the_code_for_data(tmp_path):
    path = packed(tmp_path / "scan.h5")
    path.write_bytes(unknown_text(path.read_bytes()))
    result = CliRunner().invoke(cli.app, ["reconstruct", str(path), "--out", str(tmp_path / "out")])
    error = result.exception
    assert next(code for kind, code in cli._EXIT_CODES if isinstance(error, kind)) == 3
    assert not (tmp_path / "out").exists()


READER = """
import sys, warnings
from pathlib import Path
from npsi_twin.errors import DataError, MissingBackendError
from npsi_twin.storage.formats import open_scan
warnings.simplefilter("ignore")
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        scan = open_scan(path)
        scan.read(range(scan.rows))
        print("read")
    except (DataError, MissingBackendError):
        print("refused")
"""


def test_changed_bytes_of_packed_files_with_texts_end_no_process(tmp_path):
    # Most bytes are zeros that nobody reads; one or two of the others are changed. Two of these files end HDF5 2.0.
    whole, rng = packed(tmp_path / "whole.h5").read_bytes(), np.random.default_rng(35)
    (tmp_path / "changed").mkdir()
    places = np.flatnonzero(np.frombuffer(whole, np.uint8))
    for number in range(60):
        content = bytearray(whole)
        for place in rng.choice(places, rng.integers(1, 3)):
            content[place] = rng.choice([rng.integers(256), 0, 255, (content[place] + 1) % 256])
        (tmp_path / "changed" / f"{number:02}.h5").write_bytes(content)
    command = [sys.executable, "-c", READER, str(tmp_path / "changed")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    answers = done.stdout.split()
    assert len(answers) == 60
    assert set(answers) == {"read", "refused"}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a file that holds whoever opens it")
def test_looking_follows_nothing_to_another_file(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "away.h5")  # who opens it waits for ever
    monkeypatch.setattr(hdf5_guard, "_CLOCK_S", 20.0)
    shape = (VIEWS, ROWS, COLUMNS)
    for source in ("away.h5", "."):
        path = packed(tmp_path / "scan.h5")
        with h5py.File(path, "a") as file:
            file["link"] = h5py.ExternalLink("away.h5", "/frames")
            file["soft"] = h5py.SoftLink("/link")
            raw = [(str(tmp_path / "away.h5"), 0, h5py.h5f.UNLIMITED)]
            file.create_dataset("raw", shape, np.uint16, external=raw)
            layout = h5py.VirtualLayout(shape, np.uint16)
            layout[:] = h5py.VirtualSource(source, "link", shape)
            file.create_virtual_dataset("virtual", layout)
        refuse_harmful(path)


def test_a_process_that_is_gone_is_no_fault_of_the_file(tmp_path, monkeypatch):
    path = packed(tmp_path / "scan.h5")
    refuse_harmful(path)
    hdf5_guard._standing._process.kill()
    refuse_harmful(path)
    hdf5_guard._end()
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ResourceError, match="does not start. Run '/bin/false"):
        refuse_harmful(path)


def test_a_folder_of_data_lends_no_modules(tmp_path, monkeypatch):
    (tmp_path / "h5py.py").write_text("raise SystemExit(1)")
    monkeypatch.chdir(tmp_path)
    hdf5_guard._end()
    refuse_harmful(packed(tmp_path / "scan.h5"))


def test_a_file_is_looked_through_once_while_it_stays_as_it_is(tmp_path, monkeypatch):
    path = packed(tmp_path / "scan.h5")
    os.utime(path, (1e9, 1e9))
    looks = []
    look = hdf5_guard._harm
    monkeypatch.setattr(hdf5_guard, "_harm", lambda path: looks.append(path) or look(path))
    refuse_harmful(path)
    refuse_harmful(path)
    assert len(looks) == 1
    path.write_bytes(unknown_text(path.read_bytes()))
    os.utime(path, (1e9, 1e9))  # the same size and time: the change of its entry tells
    with pytest.raises(DataError):
        refuse_harmful(path)
