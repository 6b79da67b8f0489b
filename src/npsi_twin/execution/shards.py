"""Slabs as shards on disk, and the files that are put together from them.

A shard is an HDF5 file with some detector rows of the arrays of a stage. The task itself writes it, in whatever process
it runs, whole and under its final name, and tells only its hash and a few facts; `make_shards` notes them in an
append-only manifest. A line of the manifest holds

    key = SHA-256(request of the run, code, stage, rows, digests of what the stage reads),

so that after a kill, a full disk or a power cut a shard is taken for done only if it was made for the very same
question and lies on disk as it was written. `assemble` fills a file from its shards: their chunks are copied as they
are, checksum and compression included, or the file's data sets are made virtual and refer to them. A virtual data set
that lost a shard would read as ordinary numbers; ours read as NaN or the largest number of their type, and this
package's readers refuse them.
"""

import json
import math
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from npsi_twin.errors import DataError, ResourceError
from npsi_twin.execution.executors import Executor
from npsi_twin.execution.files import (
    file_sha256,
    remove_partial,
    told_when_full,
    write_text_whole,
    written_hdf5,
    written_whole,
)
from npsi_twin.execution.progress import Progress
from npsi_twin.execution.run_folder import MANIFEST, SHARDS, RunFolder, kept_shards
from npsi_twin.execution.software import code_sha256

_ROW_AXIS = "row_axis"


@dataclass(frozen=True)
class SlabArray:
    """Some detector rows of one array.

    Attributes
    ----------
    values
        The array.
    row_axis
        Which of its axes counts detector rows.
    chunks
        Shape of a chunk; that of the assembled file, for a chunk to be copied as it is.
    compressed
        gzip with shuffle, for truth and labels; noise does not compress and costs time.
    """

    values: NDArray[Any]
    row_axis: int
    chunks: tuple[int, ...]
    compressed: bool = False


@dataclass(frozen=True)
class Slab:
    """What a stage makes of some detector rows: arrays by their place in the assembled file, and facts for JSON."""

    arrays: Mapping[str, SlabArray]
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Shard:
    """A slab on disk."""

    path: Path
    rows: range
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class _Task:
    """The rows of a slab, and the file they go to; printed where a worker died over them."""

    rows: range
    path: Path

    def __str__(self) -> str:
        return f"{self.path}: rows {self.rows.start} to {self.rows.stop - 1}"


def _write_shard(make: Callable[[range], Slab], task: _Task) -> tuple[str, Mapping[str, Any]]:
    """Make a slab and write it; return its hash and facts."""
    slab = make(task.rows)
    with written_whole(task.path) as path, written_hdf5(path) as file:
        for name, array in slab.arrays.items():
            options = {"compression": "gzip", "compression_opts": 1, "shuffle": True} if array.compressed else {}
            chunks = tuple(map(min, array.chunks, array.values.shape))
            data = file.create_dataset(name, data=array.values, chunks=chunks, fletcher32=True, **options)
            data.attrs[_ROW_AXIS] = array.row_axis
    return file_sha256(task.path), slab.facts


def make_shards(
    run: RunFolder,
    stage: str,
    make: Callable[[range], Slab],
    slabs: Sequence[range],
    *,
    executor: Executor,
    progress: Progress,
    kept_for: str | None = None,
    inputs: Iterable[str] = (),
    variant: str = "",
    beside_last: Callable[[], None] = lambda: None,
) -> list[Shard]:
    """Make the slabs of a stage that are not on disk yet.

    Parameters
    ----------
    run
        The run; its request is a part of every key.
    stage
        Name of the stage.
    make
        A pure function of detector rows, picklable where the executor has other processes.
    slabs
        The detector rows of every slab, in order.
    executor, progress
        Who does it, and whom to tell how much is done of what was missing.
    kept_for
        Name of the virtual file for which the shards are to stay; None for those that are copied and then go.
    inputs
        Files of the run that the stage reads.
    variant
        What else decides the bytes, where the request of the run does not say it.
    beside_last
        Called when one slab is left to wait for: begins what the other workers may do meanwhile.

    Returns
    -------
    list of Shard
        In the order of ``slabs``, whoever made them when.

    Raises
    ------
    ResourceError
        When the disk is full, a worker died over a slab again and again, or workers elsewhere write somewhere else.
    """
    folder = run.path / (f"{SHARDS}/{stage}" if kept_for is None else kept_shards(kept_for))
    folder.mkdir(parents=True, exist_ok=True)
    remove_partial(folder)
    digests = {name: digest for file in inputs for name, digest in run.digests(file).items()}
    question = json.dumps([run.state["request"], code_sha256(), stage, variant, digests], sort_keys=True)
    tasks = [_Task(rows, folder / f"{number:04d}.h5") for number, rows in enumerate(slabs)]
    keys = [sha256(f"{question}{task.rows.start}:{task.rows.stop}".encode()).hexdigest() for task in tasks]
    listed = _listed(folder)
    found = {number: _facts(task, listed, keys[number], progress) for number, task in enumerate(tasks)}
    facts = {number: known for number, known in found.items() if known is not None}
    missing = [number for number in found if number not in facts]
    if kept_for is not None and missing:
        # It would refer to shards of which some are old and some are new.
        (run.path / kept_for).unlink(missing_ok=True)
    progress(stage, 0, len(missing))
    if len(missing) < 2:
        beside_last()
    made = executor.completed(partial(_write_shard, make), [tasks[number] for number in missing])
    with told_when_full(folder / MANIFEST), (folder / MANIFEST).open("a", encoding="utf-8") as manifest:
        for done, (place, (digest, told)) in enumerate(made, start=1):
            number = missing[place]
            name = tasks[number].path.name
            if not tasks[number].path.is_file():
                raise ResourceError(
                    f"{tasks[number].path}: a worker wrote it, and it is not here. Workers on other machines must see "
                    "the folder of the run under the same path: give --out on a shared disk, as an absolute path."
                )
            line = {"shard": name, "key": keys[number], "sha256": digest, "facts": told}
            manifest.write(json.dumps(line) + "\n")
            manifest.flush()
            os.fsync(manifest.fileno())
            facts[number] = told
            progress(stage, done, len(missing))
            if done == len(missing) - 1:
                beside_last()
    return [Shard(task.path, task.rows, facts[number]) for number, task in enumerate(tasks)]


def _listed(folder: Path) -> dict[str, Any]:
    """Return the last line of the manifest for every shard; one that was cut short by a kill is taken away."""
    path = folder / MANIFEST
    try:
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            write_text_whole(path, whole)
        lines = [json.loads(line) for line in whole.splitlines()]
        return {line["shard"]: (line["key"], line["sha256"], line["facts"]) for line in lines}
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path}: cannot be read ({error}). Remove its folder, and go on with --resume.") from None


def _facts(task: _Task, listed: Mapping[str, Any], key: str, progress: Progress) -> Mapping[str, Any] | None:
    """Return the facts of a shard that is on disk as it was written for this very question, else None."""
    asked, digest, facts = listed.get(task.path.name, ("", "", None))
    if asked != key or not task.path.is_file():
        return None
    if file_sha256(task.path) != digest:
        progress(f"{task.path.name} is not as it was written, and is made again", 0, 1)
        return None
    return dict(facts)


def discard(run: RunFolder, stage: str) -> None:
    """Remove the shards of a stage that were copied, once the copy is recorded."""
    shutil.rmtree(run.path / SHARDS / stage, ignore_errors=True)
    with suppress(OSError):  # other stages have theirs there
        (run.path / SHARDS).rmdir()


def assemble(file: h5py.File, shards: Sequence[Shard], *, folder: Path | None = None) -> None:
    """Fill the data sets of a file that have rows in shards.

    Parameters
    ----------
    file
        A new file; its data sets have their shapes, and no values yet.
    shards
        All of them, in order. What they hold beside the file's data sets is left.
    folder
        Where the file will lie, for virtual data sets that refer to the shards from there; None copies.
    """
    with h5py.File(shards[0].path) as first:
        axes = {name: axis for name, axis in _row_axes(first).items() if name in file}
    if folder is not None:
        for name, axis in axes.items():
            _refer(file, name, axis, shards, folder)
        return
    for shard in shards:
        with h5py.File(shard.path) as source:
            for name, axis in axes.items():
                _copy(source[name], file[name], axis, shard.rows.start)


def _row_axes(file: h5py.File) -> dict[str, int]:
    found: dict[str, int] = {}

    def note(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = int(item.attrs[_ROW_AXIS])

    file.visititems(note)
    return found


def _copy(source: h5py.Dataset, target: h5py.Dataset, axis: int, first_row: int) -> None:
    """Copy a slab to its rows: chunk by chunk as it is packed where chunks agree, else by its values."""
    same = source.chunks == target.chunks and _packing(source) == _packing(target)
    if not same or first_row % source.chunks[axis]:
        target[(slice(None),) * axis + (slice(first_row, first_row + source.shape[axis]),)] = source[()]
        return
    starts = [range(0, size, chunk) for size, chunk in zip(source.shape, source.chunks, strict=True)]
    for offset in product(*starts):
        mask, packed = source.id.read_direct_chunk(offset)
        place = tuple(start + first_row * (number == axis) for number, start in enumerate(offset))
        target.id.write_direct_chunk(place, packed, mask)


def _packing(data: h5py.Dataset) -> tuple[Any, ...]:
    return data.dtype, data.compression, data.compression_opts, data.shuffle, data.fletcher32


def _refer(file: h5py.File, name: str, axis: int, shards: Sequence[Shard], folder: Path) -> None:
    """Put a virtual data set in the place of an empty one."""
    empty = file[name]
    shape, attributes, kind = empty.shape, dict(empty.attrs), empty.id.get_type()
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    # h5py's own virtual data sets keep the time, and two equal runs would differ.
    layout.set_obj_track_times(False)
    # What a lost shard reads as: no measurement, no label, no count.
    missing = np.nan if empty.dtype.kind == "f" else np.iinfo(empty.dtype).max
    layout.set_fill_value(np.array(missing, empty.dtype))
    for shard in shards:
        rows = tuple(len(shard.rows) if number == axis else size for number, size in enumerate(shape))
        start = tuple(shard.rows.start if number == axis else 0 for number in range(len(shape)))
        here, there = h5py.h5s.create_simple(shape), h5py.h5s.create_simple(rows)
        here.select_hyperslab(start, rows)
        layout.set_virtual(here, shard.path.relative_to(folder).as_posix().encode(), name.encode(), there)
    del file[name]
    h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create_simple(shape), dcpl=layout)
    file[name].attrs.update(attributes)


def array_bytes(shapes: Iterable[tuple[tuple[int, ...], Any]]) -> int:
    """Return the size of arrays given by shape and type.

    Examples
    --------
    >>> array_bytes([((2, 3), np.float32), ((5,), np.uint8)])
    29
    """
    return sum(math.prod(shape) * np.dtype(kind).itemsize for shape, kind in shapes)
