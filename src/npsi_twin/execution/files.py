"""Files that are whole or not there: built under a temporary name, flushed to disk, renamed into place.

HDF5 gives up badly on a full disk: every write returns as if all was well, closing fails, the process then crashes, and
the file opens again with zeros for what is missing (h5py issue 914). `written_hdf5` therefore puts a `_Sink` between
HDF5 and the disk. It remembers the first failure and lets HDF5 believe in the rest, so that it closes in peace; the
failure is raised afterwards, and `written_whole` removes what was written.
"""

import errno
import io
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import h5py

from npsi_twin.errors import ResourceError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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

    Raises
    ------
    ResourceError
        When the disk is full.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> with written_whole(folder / "a.txt") as temporary:
    ...     _ = temporary.write_text("all of it")
    >>> (folder / "a.txt").read_text()
    'all of it'
    """
    with told_when_full(path):
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            flush_to_disk(temporary)
            # mkstemp makes private files; results are to be read by whoever may read the folder.
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            temporary.replace(path)
            # A name lives in its folder: without this, a power cut may take it back.
            flush_to_disk(path.parent)
        finally:
            with suppress(FileNotFoundError):
                temporary.unlink()


def flush_to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on disk: a power cut may take back what is not."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_partial(folder: Path) -> None:
    """Remove what `written_whole` left where the process was killed; nobody else may be writing there."""
    for left in folder.glob(".*.partial"):
        left.unlink(missing_ok=True)


def write_text_whole(path: Path, text: str) -> None:
    """Write a small text file whole or not at all."""
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def told_when_full(path: Path) -> Iterator[None]:
    """Turn a full disk into the package's own error."""
    try:
        yield
    except ResourceError:
        raise
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise ResourceError(
            f"{path}: cannot be written ({os.strerror(error.errno)}); nothing of it is kept. Free some space, and go "
            "on with --resume where there is a run."
        ) from error


class _Sink(io.RawIOBase):
    """A file to HDF5 whose first failure is kept instead of raised."""

    def __init__(self, file: io.FileIO) -> None:
        self._file = file
        self.failure: OSError | None = None

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: Any, /) -> int:
        return self._file.readinto(buffer) or 0

    def write(self, block: Any, /) -> int:
        left = memoryview(block).cast("B")
        size = len(left)

        def write_all(left: memoryview = left) -> None:
            # A disk that is almost full takes a part, and says so only when it is asked for the rest.
            while left:
                left = left[self._file.write(left) or 0 :]

        self._attempt(write_all)
        return size

    def truncate(self, size: int | None = None, /) -> int:
        self._attempt(lambda: self._file.truncate(size))
        return 0 if size is None else size

    def flush(self) -> None:
        """Do nothing: what is beneath keeps nothing back."""

    def _attempt(self, work: Callable[[], object]) -> None:
        if self.failure is None:
            try:
                work()
            except OSError as error:
                self.failure = error


@contextmanager
def _signals_wait() -> Iterator[None]:
    """Let Ctrl-C and termination wait: an exception of theirs inside `_Sink` would reach HDF5 as a failed disk."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python answers signals in the main thread only
        return
    came: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, lambda what, _: came.append(what))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for what in came:
            signal.raise_signal(what)


@contextmanager
def written_hdf5(path: Path, *, track_order: bool = False) -> Iterator[h5py.File]:
    """Create an HDF5 file on a disk that may fill up; an existing one is replaced, so give a temporary name.

    Parameters
    ----------
    path
        The file, as `written_whole` names it.
    track_order
        Keep the order in which groups and data sets are made.

    Raises
    ------
    OSError
        When the disk is full, once HDF5 has closed the file; `written_whole` says it in full.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "a.h5"
    >>> with written_hdf5(path) as file:
    ...     file["numbers"] = [1, 2]
    >>> with h5py.File(path) as file:
    ...     int(file["numbers"][()].sum())
    3
    """
    with _signals_wait(), io.FileIO(path, "w+") as raw:
        sink = _Sink(raw)
        try:
            with h5py.File(sink, "w", track_order=track_order) as file:
                yield file
        except Exception:
            # HDF5 may stumble over what the disk did not take; that is not the reason.
            if sink.failure is None:
                raise
        if sink.failure is not None:
            raise OSError(sink.failure.errno, sink.failure.strerror, str(path))
