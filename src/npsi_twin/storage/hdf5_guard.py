"""HDF5 files from outside are looked through in a process of their own before this one opens them.

The HDF5 library ends the process, or never comes back, on some broken files (a damaged heap of texts, a damaged
selection of a virtual data set); nothing in Python can catch that. `refuse_harmful` therefore lets
`npsi_twin.storage.hdf5_inspection`, a process that is started once and serves many files, do first what the readers
will do. Where that process is ended or held, a fresh one is asked again, and only its fate is the file's: refused, in
one error. A look costs milliseconds, so it is made at every file, this package's own included, and remembered while
the file stays as it is.

The limit is on processor time, so that a slow disk or a busy machine refuses no file; how long it may take by the clock
is limited widely. Windows knows only the latter.
"""

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from npsi_twin.errors import DataError, ResourceError
from npsi_twin.storage import hdf5_inspection

#: Processor time for one object of a file, which takes 0.4 ms, and for all of them, s.
_OBJECT_S, _FILE_S = 3.0, 300.0
#: Time by the clock for a file, s.
_CLOCK_S = 900.0
#: File systems count time in steps; a file changed so recently may change once more in the same step, ns.
_STEP_NS = 2_000_000_000


def refuse_harmful(path: Path) -> None:
    """Refuse an HDF5 file that ends the HDF5 library or holds it without end.

    Parameters
    ----------
    path
        An existing file.

    Raises
    ------
    DataError
        When looking through the file does so; says how.
    ResourceError
        When the process that looks cannot be started, or is killed from outside.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.h5"
    >>> _ = path.write_bytes(b"no HDF5 at all: the reader says so, and nothing is harmed")
    >>> refuse_harmful(path)
    """
    path = path.resolve()
    facts = path.stat()
    mark = (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
    with _lock:
        if _looked_through.get(path) == mark:
            return
        harm = _harm(path)
        if harm:
            raise DataError(
                f"{path}: the HDF5 library {harm}, and the file is not opened here. It is damaged, or was made to do "
                "so; copy it anew from where it was written."
            )
        if time.time_ns() - facts.st_mtime_ns > _STEP_NS:
            _looked_through[path] = mark


#: Files that did no harm, as they were then.
_looked_through: dict[Path, tuple[int, ...]] = {}
_lock = threading.Lock()


class _Inspection:
    """The process that looks through files."""

    def __init__(self) -> None:
        # -P: a folder of data must not lend its modules to the interpreter.
        command = [sys.executable, "-P", "-W", "ignore", hdf5_inspection.__file__]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            # Each thread of a library that is imported takes address space, which is limited there.
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        )
        self._owner = os.getpid()
        self._late = False
        if self._answer() != hdf5_inspection.HARMLESS:
            self.end()
            raise ResourceError(
                "The process that looks through HDF5 files before they are opened does not start. Run "
                f"'{' '.join(command)}' to see why."
            )

    @property
    def is_mine(self) -> bool:
        """Whether this process started it; one that was forked from that must not talk to it."""
        return self._owner == os.getpid()

    def ask(self, path: Path) -> str:
        """Have a file looked through; return the answer, empty where the process did not live to give one."""
        try:
            self._write(json.dumps([str(path), _OBJECT_S, _FILE_S]))
        except OSError:
            return ""
        return self._answer()

    def fate(self, path: Path) -> str:
        """Say what became of the library in a process that gave no answer."""
        ending = self._process.wait()
        self.end()
        if self._late:
            return f"did not come back from it within {_CLOCK_S:g} s"
        if sys.platform != "win32" and ending == -signal.SIGXCPU:
            return f"did not come back from it within {_OBJECT_S:g} s of processor time an object, {_FILE_S:g} s in all"
        if sys.platform != "win32" and ending == -signal.SIGKILL:
            raise ResourceError(
                f"{path}: the process that looks through the file was killed, most often for want of memory. Make "
                "room and run this again."
            )
        return f"was ended by it ({f'signal {-ending}' if ending < 0 else f'exit status {ending}'})"

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _answer(self) -> str:
        """Wait for one line; empty when the process ended, or is ended for being late."""
        assert self._process.stdout is not None
        timer = threading.Timer(_CLOCK_S, self._stop)
        timer.start()
        try:
            return self._process.stdout.readline().strip()
        finally:
            timer.cancel()

    def _stop(self) -> None:
        self._late = True
        self._process.kill()

    def end(self) -> None:
        """End the process, if it has not ended yet."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                # What could not be written to a process that is gone.
                with suppress(OSError):
                    stream.close()


_standing: _Inspection | None = None


def _harm(path: Path) -> str:
    """Have a file looked through; return the harm that it does, empty where it does none."""
    global _standing
    # Whoever is interrupted while waiting leaves no process behind whose next line answers an old request.
    inspection, _standing = _standing, None
    answer = inspection.ask(path) if inspection is not None and inspection.is_mine else ""
    if inspection is None or not answer:
        # An earlier file may have damaged the process, so only the end of a fresh one is held against this file.
        if inspection is not None and inspection.is_mine:
            inspection.end()
        inspection = _Inspection()
        answer = inspection.ask(path)
        if not answer:
            return inspection.fate(path)
    _standing = inspection
    return "" if answer == hdf5_inspection.HARMLESS else answer


@atexit.register
def _end() -> None:
    """End the standing process; the next file starts another."""
    global _standing
    if _standing is not None and _standing.is_mine:
        _standing.end()
    _standing = None
