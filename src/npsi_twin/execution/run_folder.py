"""The folder of one run: its state in ``run.json``, its files with their hashes, and *complete* only when it is.

`open_run` makes or reopens the folder under a lock and refuses to go on with a run of another request. A stage is done
when `RunFolder.stage` has recorded the SHA-256 of all it wrote; what changed since is set aside, not lost. Slabs of an
unfinished stage lie in ``.shards``, see `npsi_twin.execution.shards`.
"""

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from npsi_twin.errors import DataError, IncompleteError, ParameterError, ResourceError
from npsi_twin.execution.files import file_sha256, remove_partial, write_text_whole
from npsi_twin.execution.locks import check_free, locked
from npsi_twin.execution.progress import Progress, silent
from npsi_twin.execution.run_state import check_state
from npsi_twin.execution.software import code_sha256, host_facts

STATE = "run.json"
SHARDS = ".shards"
#: In a folder of shards, and nowhere else.
MANIFEST = "manifest.jsonl"


def kept_shards(file: str) -> str:
    """Return the name of the folder in which the shards of a virtual file lie.

    Examples
    --------
    >>> kept_shards("scan.h5")
    'scan.shards'
    """
    return f"{Path(file).stem}.shards"


@dataclass
class RunFolder:
    """One run on disk: its lock, its state, its files.

    Made by `open_run`; the state is written after every stage, so that a run that died says how far it came.
    """

    path: Path
    state: dict[str, Any] = field(default_factory=dict)
    _known: dict[Path, tuple[tuple[int, ...], str]] = field(default_factory=dict, repr=False)

    def save(self) -> None:
        """Write the state into ``run.json``."""
        write_text_whole(self.path / STATE, json.dumps(self.state, indent=2) + "\n")

    def has(self, stage: str) -> bool:
        """Tell whether a stage is finished and all its files are on disk as they were written."""
        entry = self.state["stages"].get(stage)
        if entry is None:
            return False
        return all(
            (self.path / name).is_file() and file_sha256(self.path / name) == digest
            for name, digest in entry["files"].items()
        )

    def set_aside(self, stage: str) -> list[str]:
        """Rename files of a stage that differ from what it wrote, so that they are not lost when it is done again."""
        renamed = []
        for name, digest in self.state["stages"].get(stage, {}).get("files", {}).items():
            path = self.path / name
            if path.is_file() and file_sha256(path) != digest:
                free = (path.with_name(f"{path.name}.aside-{number}") for number in range(1, 1_000_000))
                target = next(candidate for candidate in free if not candidate.exists())
                path.rename(target)
                renamed.append(target.name)
        return renamed

    def reopen(self, stage: str) -> list[str]:
        """Forget that a stage was done, since its files are about to change; return the names that were set aside.

        Without this, files that grew in a resumed run that was killed would be taken for changed by somebody else.
        """
        renamed = self.set_aside(stage)
        self.state["stages"].pop(stage, None)
        self.save()
        return renamed

    def digests(self, file: str) -> dict[str, str]:
        """Return name -> SHA-256 of a file and of the shards that it refers to, where it is virtual.

        What one stage wrote the next ones read: a file that was not touched since is not read again to be hashed.
        """
        # Beside the file: the shards of scan.h5 are not those of figures/scan.png.
        kept = sorted((self.path / file).with_name(kept_shards(file)).glob("*.h5"))
        names = [file, *(path.relative_to(self.path).as_posix() for path in kept)]
        return {name: self._digest(self.path / name) for name in names}

    def _digest(self, path: Path) -> str:
        told = path.stat()
        now = (told.st_ino, told.st_size, told.st_mtime_ns, told.st_ctime_ns)
        if path not in self._known or self._known[path][0] != now:
            self._known[path] = (now, file_sha256(path))
        return self._known[path][1]

    @contextmanager
    def stage(
        self, name: str, *files: str, sometimes: Sequence[str] = (), inputs: Sequence[str] = ()
    ) -> Iterator[dict[str, Any]]:
        """Time a stage, then record its files; yields a dict for facts worth keeping.

        Parameters
        ----------
        name
            Name of the stage.
        *files
            What it writes; recorded with hashes, and the shards of virtual ones with them.
        sometimes
            What it writes in some runs only; recorded where it is there.
        inputs
            What it reads; recorded with hashes too, and as given by the user where no stage of this run wrote it so.

        Raises
        ------
        DataError
            When an input is not there.
        """
        read: dict[str, str] = {}
        for file in inputs:
            if not (self.path / file).is_file():
                raise DataError(
                    f"{self.path}: {name} reads {file}, which is not there. Do the stage that writes it first."
                )
            read |= self.digests(file)
        written = {file: digest for entry in self.state["stages"].values() for file, digest in entry["files"].items()}
        self.state["stages"].pop(name, None)
        facts: dict[str, Any] = {}
        start = time.perf_counter()
        yield facts
        seconds = round(time.perf_counter() - start, 3)
        there = [*files, *(file for file in sometimes if (self.path / file).is_file())]
        for file in there:
            self._known.pop(self.path / file, None)  # was just written
        hashes = {name: digest for file in there for name, digest in self.digests(file).items()}
        own = [file for file, digest in read.items() if written.get(file) != digest]
        by = {"inputs": read, "given_by_user": own, "code": code_sha256()}
        record = {"seconds": seconds, "files": hashes, **by, **facts}
        self.state["stages"][name] = record
        self.save()

    def complete(self) -> None:
        """Say that everything asked for is there."""
        shutil.rmtree(self.path / SHARDS, ignore_errors=True)
        self.state["status"] = "complete"
        self.save()


def read_state(folder: Path) -> dict[str, Any]:
    """Return the state of a run folder.

    Raises
    ------
    DataError
        When the folder is no run folder or its state cannot be read.
    """
    path = folder / STATE
    if not path.is_file():
        raise DataError(f"{folder}: not a run folder (no {STATE}). Give the folder that --out named.")
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read ({error}). Run again with --overwrite.") from None
    try:
        return check_state(state)
    except ValueError as error:
        raise DataError(
            f"{path}: not the state of a run ({error}). Somebody changed it, or it is not ours: give another --out, or "
            "run again with --overwrite."
        ) from None


def finished_bytes(folder: Path) -> dict[str, int]:
    """Return the sizes of what the finished stages of a run wrote, by stage; those that lack a file are left out.

    Raises
    ------
    DataError
        As `read_state`.
    """
    found = {}
    for stage, entry in read_state(folder)["stages"].items():
        paths = [folder / name for name in entry["files"]]
        if all(path.is_file() for path in paths):
            found[stage] = sum(path.stat().st_size for path in paths)
    return found


def shard_bytes(folder: Path, stage: str, file: str | None) -> int:
    """Return the size of the slabs of a stage that is not finished.

    Parameters
    ----------
    folder
        Of the run.
    stage
        Name of the stage.
    file
        What it writes, beside which slabs lie that stay; None where there is none.
    """
    folders = [folder / SHARDS / stage, *([] if file is None else [folder / kept_shards(file)])]
    return sum(path.stat().st_size for place in folders for path in place.glob("*.h5"))


@contextmanager
def open_run(
    folder: Path,
    *,
    request: dict[str, Any],
    resume: bool = False,
    overwrite: bool = False,
    break_lock: bool = False,
    owns: Sequence[str] = (),
    differs: Mapping[str, Callable[[], Iterable[str]]] = MappingProxyType({}),
    progress: Progress = silent,
) -> Iterator[RunFolder]:
    """Open a folder for one run and keep everybody else out of it.

    Parameters
    ----------
    folder
        Made when it is not there.
    request
        What determines the bytes of the run (command, digest of the specification, inputs); a resumed run must ask for
        the same.
    resume
        Go on with what is there.
    overwrite
        Start anew; what the old run wrote is removed, so that no file of it is taken for one of the new.
    break_lock
        Take the folder from a process of another host, or an unknown one, that left its lock behind.
    owns
        Files and folders that runs of this kind fill long before a stage records them; ``overwrite`` removes them where
        the old run was of this kind, that is, where its request has the same parts.
    differs
        What there is to say of a part of the request that is not that of the run: the fields that changed.
    progress
        Who is told of a lock that a process left behind.

    Raises
    ------
    ResourceError
        When another process holds the folder, or it is not empty and neither ``resume`` nor ``overwrite`` was given.
    IncompleteError
        When ``resume`` meets a run of another request.
    """
    if folder.exists() and not folder.is_dir():
        raise ResourceError(f"{folder}: is a file. Give a folder with --out.")
    if resume and overwrite:
        raise ParameterError("--resume goes on with a run, --overwrite starts it anew: give one of them.")
    check_free(folder, break_lock=break_lock, progress=progress)
    # A process that was killed while it began leaves nothing but a name that was never finished.
    present = folder.is_dir() and any(not path.name.endswith(".partial") for path in folder.iterdir())
    if present and not (resume or overwrite):
        raise ResourceError(
            f"{folder}: is not empty. Give --resume to go on, --overwrite to start anew, or another --out."
        )
    if present and overwrite and not (folder / STATE).is_file():
        raise ResourceError(f"{folder}: holds files but no run. It is not overwritten; give another --out.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError(f"{folder}: cannot be made ({error.strerror}). Give another --out.") from None
    with locked(folder):
        run = RunFolder(folder)
        # Here and in folders of its own, such as that of figures; another run in it has a lock of its own.
        below = [path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()]
        for place in (folder, *(path for path in below if not (path / STATE).exists())):
            remove_partial(place)
        if present and resume:
            run.state = read_state(folder)
            _same_request(folder, run.state.get("request", {}), request, differs)
        else:
            if present and overwrite:
                _remove_written(folder, request, owns)
            run.state = {"request": request, "stages": {}}
        run.state |= {"status": "incomplete", **host_facts(), "command": " ".join(sys.argv)}
        run.save()
        yield run


def _remove_written(folder: Path, request: dict[str, Any], owns: Sequence[str]) -> None:
    """Remove what the stages of a run wrote; what the user put beside it stays."""
    try:
        state = read_state(folder)
    except DataError:
        return
    for name in owns if state["request"].keys() == request.keys() else ():
        if (folder / name).is_dir() and not (folder / name).is_symlink():
            shutil.rmtree(folder / name)
        else:
            (folder / name).unlink(missing_ok=True)
    for entry in state["stages"].values():
        for name in entry["files"]:
            # Names come from a file that anybody may have edited: never leave the folder.
            if (folder / name).resolve().is_relative_to(folder.resolve()):
                (folder / name).unlink(missing_ok=True)
    for left in (folder / SHARDS, *(path.parent for path in folder.glob(f"*.shards/{MANIFEST}"))):
        shutil.rmtree(left, ignore_errors=True)


def _same_request(
    folder: Path,
    before: dict[str, Any],
    now: dict[str, Any],
    differs: Mapping[str, Callable[[], Iterable[str]]],
) -> None:
    differing = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    if differing:
        parts = {key: ", ".join(differs[key]()) if key in differs else "" for key in differing}
        told = ", ".join(f"{key} ({fields})" if fields else key for key, fields in parts.items())
        raise IncompleteError(
            f"{folder}: --resume needs the request that began the run, but these differ: {told}. "
            "Give the same specification, version and code, --overwrite, or another --out."
        )
