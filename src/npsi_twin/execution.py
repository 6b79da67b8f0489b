"""Slabs over an executor, and the folder a run lives in.

`map_slabs` maps a pure function over slabs in this process or in worker processes and yields the results in order, so
that what is written does not depend on the number of workers. `RunFolder` owns one run: a lock, the state in
``run.json``, files that are built under a temporary name and renamed into place, and the word *complete* only when it
is.
"""

import json
import os
import platform
import signal
import socket
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol, TypeVar

from npsi_twin.errors import DataError, IncompleteError, ParameterError, ResourceError
from npsi_twin.projectors.choice import ProjectorName
from npsi_twin.recipes import Recipe, parameter

Task = TypeVar("Task")
Result = TypeVar("Result")


class ExecutionRecipe(Recipe):
    """How the work is cut, and who projects. Both are part of the specification; the number of workers is not."""

    slab_rows: int = parameter(
        40,
        "detector rows a slab",
        unit="rows",
        source="assumed: few enough for memory, many for their halo",
        ge=1,
        le=4096,
    )
    keep_transmission: bool = parameter(
        False,
        "whether the scan's truth keeps the noise-free transmission, which is twice as large as the counts",
        source="assumed: counts are what a beamline has",
    )
    projector: ProjectorName = parameter(
        "auto",
        "who projects the simulated scan: fourier and rays (our own), nufft, astra-cpu; cufinufft, astra-cuda on a GPU",
        source="assumed: auto takes fourier",
    )


class Progress(Protocol):
    """Someone to tell how far a stage has come."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Take note that ``done`` of ``total`` steps of a stage are finished."""
        ...


def silent(stage: str, done: int, total: int) -> None:
    """Tell nobody."""


def slabs(rows: int, slab_rows: int) -> list[range]:
    """Cut ``rows`` detector rows into slabs of at most ``slab_rows``.

    Examples
    --------
    >>> slabs(5, 2)
    [range(0, 2), range(2, 4), range(4, 5)]
    """
    return [range(start, min(start + slab_rows, rows)) for start in range(0, rows, slab_rows)]


def available_cpus() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_THREADS = "NPSI_TWIN_THREADS"


def threads() -> int:
    """Return how many threads this process should use: all processors, or its share in a worker."""
    return int(os.environ.get(_THREADS, available_cpus()))


def _limit_threads(threads: int) -> None:
    # Ctrl-C reaches the whole group of processes; the parent alone answers it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ[_THREADS] = str(threads)
    # Set before numba and BLAS are imported in the worker: they read these once.
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)


def map_slabs(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    *,
    workers: int = 1,
    stage: str = "",
    progress: Progress = silent,
) -> Iterator[Result]:
    """Apply a pure function to every task and yield the results in the order of the tasks.

    Parameters
    ----------
    function
        A pure function; with more than one worker it must be picklable (a module-level function or a partial of one).
    tasks
        Its arguments.
    workers
        1 works in this process with all its threads; more start that many processes, which share the threads. At most
        ``workers + 1`` results are in flight, so memory does not grow with the number of tasks.
    stage, progress
        What to report after every task, and to whom.

    Raises
    ------
    ParameterError
        For fewer than one worker.

    Examples
    --------
    >>> list(map_slabs(abs, [-1, -2]))
    [1, 2]
    """
    if workers < 1:
        raise ParameterError(f"workers: got {workers}; at least 1 is needed.")
    progress(stage, 0, len(tasks))
    if workers == 1:
        for done, task in enumerate(tasks, start=1):
            result = function(task)
            progress(stage, done, len(tasks))
            yield result
        return
    share = max(1, available_cpus() // workers)
    with ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_limit_threads, initargs=(share,)
    ) as pool:
        waiting: deque[Future[Result]] = deque()
        remaining = iter(tasks)
        try:
            for done in range(1, len(tasks) + 1):
                while len(waiting) <= workers:
                    try:
                        waiting.append(pool.submit(function, next(remaining)))
                    except StopIteration:
                        break
                result = waiting.popleft().result()
                progress(stage, done, len(tasks))
                yield result
        finally:
            pool.shutdown(cancel_futures=True)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    digest = sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a temporary name beside ``path``; on success the file is flushed to disk and renamed, else it is removed.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> with written_whole(folder / "a.txt") as temporary:
    ...     _ = temporary.write_text("all of it")
    >>> (folder / "a.txt").read_text()
    'all of it'
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        # mkstemp makes private files; results are to be read by whoever may read the folder.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def write_text_whole(path: Path, text: str) -> None:
    """Write a small text file whole or not at all."""
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def host_facts() -> dict[str, Any]:
    """Return what a reader of ``run.json`` needs to know of machine and software."""
    packages = ("npsi-twin", "numpy", "scipy", "numba", "finufft", "astra-toolbox", "scikit-image", "h5py", "xraydb")
    return {
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "processors": available_cpus(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
    }


STATE = "run.json"
LOCK = ".lock"


@dataclass
class RunFolder:
    """One run on disk: its lock, its state, its files.

    Made by `open_run`; the state is written after every stage, so that a run that died says how far it came.
    """

    path: Path
    state: dict[str, Any] = field(default_factory=dict)

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
                free = (path.with_name(f"{name}.aside-{number}") for number in range(1, 1_000_000))
                target = next(candidate for candidate in free if not candidate.exists())
                path.rename(target)
                renamed.append(target.name)
        return renamed

    @contextmanager
    def stage(self, name: str, *files: str, inputs: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
        """Time a stage, then record its files; yields a dict for facts worth keeping.

        Parameters
        ----------
        name
            Name of the stage.
        *files
            What it writes; recorded with hashes.
        inputs
            What it reads; recorded with hashes too, and as given by the user where no stage of this run wrote it so.

        Raises
        ------
        DataError
            When an input is not there.
        """
        read = {}
        for file in inputs:
            if not (self.path / file).is_file():
                raise DataError(
                    f"{self.path}: {name} reads {file}, which is not there. Do the stage that writes it first."
                )
            read[file] = file_sha256(self.path / file)
        written = {file: digest for entry in self.state["stages"].values() for file, digest in entry["files"].items()}
        self.state["stages"].pop(name, None)
        facts: dict[str, Any] = {}
        start = time.perf_counter()
        yield facts
        seconds = round(time.perf_counter() - start, 3)
        hashes = {file: file_sha256(self.path / file) for file in files}
        own = [file for file, digest in read.items() if written.get(file) != digest]
        record = {"seconds": seconds, "files": hashes, "inputs": read, "given_by_user": own, **facts}
        self.state["stages"][name] = record
        self.save()

    def complete(self) -> None:
        """Say that everything asked for is there."""
        self.state["status"] = "complete"
        self.save()


def _in_use(folder: Path) -> ResourceError:
    owner = "an unknown process"
    with suppress(OSError, ValueError, KeyError, TypeError):
        lock = json.loads((folder / LOCK).read_text(encoding="utf-8"))
        owner = f"process {lock['process']} on {lock['host']} since {lock['since']}"
    return ResourceError(
        f"{folder}: in use by {owner}. Wait for it; if that process is gone, remove {LOCK} in the folder."
    )


def _remove_stale_lock(folder: Path) -> None:
    """Remove the lock of a process of this machine that is no longer there (killed, or lost to a power cut)."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        lock = json.loads((folder / LOCK).read_text(encoding="utf-8"))
        if lock["host"] == socket.gethostname() and not Path(f"/proc/{int(lock['process'])}").exists():
            (folder / LOCK).unlink()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    lock = folder / LOCK
    try:
        handle = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
        raise _in_use(folder) from None
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        json.dump({"process": os.getpid(), "host": socket.gethostname(), "since": since}, file)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


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
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}). Run again with --overwrite.") from None
    if isinstance(state, dict) and isinstance(state.get("request"), dict) and isinstance(state.get("stages"), dict):
        entries = state["stages"].values()
        if all(isinstance(entry, dict) and isinstance(entry.get("files"), dict) for entry in entries):
            return dict(state)
    raise DataError(f"{path}: not the state of a run. Run again with --overwrite.")


@contextmanager
def open_run(
    folder: Path,
    *,
    request: dict[str, Any],
    resume: bool = False,
    overwrite: bool = False,
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
    _remove_stale_lock(folder)
    present = folder.is_dir() and any(folder.iterdir())
    if present and (folder / LOCK).exists():
        raise _in_use(folder)
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
    with _locked(folder):
        run = RunFolder(folder)
        if present and resume:
            run.state = read_state(folder)
            _same_request(folder, run.state.get("request", {}), request)
        else:
            if present and overwrite:
                _remove_written(folder)
            run.state = {"request": request, "stages": {}}
        run.state |= {"status": "incomplete", **host_facts(), "command": " ".join(sys.argv)}
        run.save()
        yield run


def _remove_written(folder: Path) -> None:
    """Remove what the stages of a run wrote; what the user put beside it stays."""
    try:
        stages = read_state(folder)["stages"]
    except DataError:
        return
    for entry in stages.values():
        for name in entry["files"]:
            # Names come from a file that anybody may have edited: never leave the folder.
            if Path(name).name == name:
                (folder / name).unlink(missing_ok=True)


def _same_request(folder: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    differing = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    if differing:
        raise IncompleteError(
            f"{folder}: --resume needs the request that began the run, but these differ: {', '.join(differing)}. "
            "Give the same specification and version, --overwrite, or another --out."
        )
