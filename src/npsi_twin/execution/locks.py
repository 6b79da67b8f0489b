"""One process a folder: a lock that says who holds it, since when, and on which machine.

The lock is a file made with O_EXCL, which holds on network file systems too. It names host, boot, process and when the
process started: a number alone is given to another process sooner or later. A lock whose process is known to be gone
is removed; about another host nothing can be known, so its lock stays until somebody breaks it.
"""

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from npsi_twin.errors import ResourceError
from npsi_twin.execution.files import told_when_full
from npsi_twin.execution.progress import Progress, silent

LOCK = ".lock"


def _started(process: int) -> str:
    """Return when a process of this machine began, as boot and clock ticks; empty where the system does not tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        # The name of the program, in parentheses, may hold anything; what follows are numbers.
        ticks = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
    return f"{boot}:{ticks}"


def _is_there(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _holder(lock: Path) -> dict[str, Any]:
    """Return what a lock says; empty where it cannot be read (a process was killed while it wrote it)."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        said = json.loads(lock.read_text(encoding="utf-8"))
        return {"process": int(said["process"]), **{key: str(said[key]) for key in ("host", "since", "started")}}
    return {}


def _is_gone(holder: dict[str, Any]) -> bool:
    """Tell whether the holder of a lock, a process of this machine, is no more."""
    started = _started(holder["process"])
    return not _is_there(holder["process"]) or bool(started and holder["started"] and started != holder["started"])


def _who(holder: dict[str, Any]) -> str:
    return "process {process} on {host} since {since}".format(**holder) if holder else "an unknown process"


def _in_use(folder: Path, holder: dict[str, Any]) -> ResourceError:
    return ResourceError(
        f"{folder}: in use by {_who(holder)}. Two runs would destroy each other's files. Wait for it; if that "
        "process is gone, give --break-lock."
    )


def check_free(folder: Path, *, break_lock: bool = False, progress: Progress = silent) -> None:
    """Refuse a folder that is locked, and take away a lock whose process is gone.

    Parameters
    ----------
    folder
        Of the run.
    break_lock
        Take away the lock of another host, or one that cannot be read, too.
    progress
        Who is told whose lock was taken away.

    Raises
    ------
    ResourceError
        When the folder is in use: who holds it, and since when. A process that runs on this machine keeps its lock.
    """
    lock = folder / LOCK
    if not lock.exists():
        return
    holder = _holder(lock)
    here = holder.get("host") == socket.gethostname()
    gone = here and _is_gone(holder)
    if not (gone or (break_lock and not here)):
        raise _in_use(folder, holder)
    aside = lock.with_name(f"{LOCK}.{os.getpid()}.partial")
    try:
        lock.rename(aside)
    except FileNotFoundError:
        return
    taken = _holder(aside)
    if taken != holder:
        # Between looking and renaming another process did the same and began: it gets its lock back.
        with suppress(FileExistsError):
            os.link(aside, lock)
    aside.unlink()
    if taken != holder:
        raise _in_use(folder, taken)
    progress(f"took away the lock of {_who(holder)}, which {'is gone' if gone else 'left it behind'}", 0, 1)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder.

    Raises
    ------
    ResourceError
        When another process holds it.
    """
    lock = folder / LOCK
    try:
        handle = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
        raise _in_use(folder, _holder(lock)) from None
    own = {
        "process": os.getpid(),
        "host": socket.gethostname(),
        "started": _started(os.getpid()),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }
    try:
        with told_when_full(lock), os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(own, file)
        yield
    finally:
        # Somebody may have broken it and hold one of their own by now.
        if _holder(lock) in (own, {}):
            lock.unlink(missing_ok=True)
