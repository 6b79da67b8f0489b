"""The process in which HDF5 files from outside are looked through; `npsi_twin.storage.hdf5_guard` starts and asks it.

Takes one request a line (path, processor time in s for each object and for all) -> answers each with one line, if the
HDF5 library lets it. What the readers do to a file is done here first: every object that hard links lead to is opened,
every attribute read, every chunk index walked, and the values read of all that is small and of the first chunk of what
is large. What raises an error is passed over, since the reader will meet it and word it. Nothing here opens a second
file: links are read and not followed, raw bytes of other files are not touched, and virtual data sets are read only in
a file that refers to no other.

The file is run as a script and imports nothing of the package, so that it starts at once.
"""

import importlib
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from textwrap import shorten
from typing import TypeVar

import h5py

if sys.platform != "win32":
    import resource

T = TypeVar("T")

#: Objects that are looked at; the readers look up no more names than this.
_MOST_OBJECTS = 200_000
#: Data sets up to this size are read whole, larger ones in their first chunk.
_SMALL_BYTES = 2**24
#: Values that are read of one file altogether.
_MOST_BYTES = 2**26
#: Far more than looking needs; a length that a file claims must not fill the memory of the machine.
_MEMORY_BYTES = 2**30
#: What HDF5 says when there is no more.
_NO_MEMORY = "memory allocation failed"

#: The answer to a file that does no harm; every other says which.
HARMLESS = "harmless"


class _HarmError(Exception):
    """What a file does to the library, to be read behind its name."""


def look_through(path: str, step: Callable[[], None]) -> None:
    """Do to a file what the readers may do to it.

    Parameters
    ----------
    path
        The file.
    step
        Called before each object.

    Raises
    ------
    _HarmError
        When its groups cannot be listed, so that not all of it can be looked through, or something in it claims more
        memory than it may have.
    """
    with _passing_over_errors(), h5py.File(path, "r") as file:
        left, alone = _MOST_BYTES, True
        virtual: list[h5py.Dataset] = []
        for number, item in enumerate(islice(_objects(file["/"], step), _MOST_OBJECTS), 1):
            # Where the last objects lead is not known.
            alone = alone and number < _MOST_OBJECTS and not _refers_elsewhere(item)
            for name in _listed(item.attrs, f"attributes of {item.name}"):
                with _passing_over_errors():
                    item.attrs[name]
            if isinstance(item, h5py.Dataset):
                with _passing_over_errors():
                    if item.is_virtual:
                        virtual.append(item)
                    elif not item.external:
                        left -= _read(item, left)
        for data in virtual if alone else ():
            step()
            with _passing_over_errors():
                left -= _read(data, left)


@contextmanager
def _passing_over_errors() -> Iterator[None]:
    try:
        yield
    except _HarmError:
        raise
    except Exception as error:  # the reader meets it again, and words it
        if isinstance(error, MemoryError) or _NO_MEMORY in str(error):
            raise _HarmError("asks for more memory than any look through a file needs") from error


def _listed(names: Iterable[T], what: str) -> list[T]:
    """Return all names; what cannot be listed could still be reached by name, unseen."""
    try:
        return list(names)
    except Exception as error:
        raise _HarmError(f"cannot list the {what} ({error})") from error


def _objects(root: h5py.Group, step: Callable[[], None]) -> Iterator[h5py.HLObject]:
    """Give every object that hard links lead to, once."""
    seen: set[tuple[int, int]] = set()
    groups: list[tuple[h5py.Group, Iterator[bytes]]] = []

    def first_seen(item: h5py.HLObject) -> bool:
        facts = h5py.h5o.get_info(item.id)
        known = (facts.fileno, facts.addr) in seen
        seen.add((facts.fileno, facts.addr))
        if isinstance(item, h5py.Group) and not known:
            groups.append((item, iter(_listed(item.id, f"members of {item.name}"))))
        return not known

    if first_seen(root):
        yield root
    while groups:
        group, names = groups[-1]
        name = next(names, None)
        if name is None:
            groups.pop()
            continue
        step()
        with _passing_over_errors():
            if _link(group, name) == h5py.h5l.TYPE_HARD and first_seen(item := group[name]):
                yield item


def _link(group: h5py.Group, name: bytes) -> int:
    """Return the kind of a link, whose target is read and not followed."""
    kind = int(group.id.links.get_info(name).type)
    if kind != h5py.h5l.TYPE_HARD:
        group.id.links.get_val(name)
    return kind


def _refers_elsewhere(item: h5py.HLObject) -> bool:
    """Tell whether an object may lead HDF5 to another file."""
    try:
        if isinstance(item, h5py.Group):
            return any(_link(item, name) not in (h5py.h5l.TYPE_HARD, h5py.h5l.TYPE_SOFT) for name in item.id)
        if isinstance(item, h5py.Dataset):
            sources = item.virtual_sources() if item.is_virtual else []
            return bool(item.external) or any(part.file_name != "." for part in sources)
    except Exception:
        return True
    return False


def _read(data: h5py.Dataset, most: int) -> int:
    """Read a data set whole where it is small, else its first chunk; return the bytes that were read."""
    kinds = data.id.get_create_plist()
    if not all(h5py.h5z.filter_avail(kinds.get_filter(number)[0]) for number in range(kinds.get_nfilters())):
        with suppress(ImportError):
            importlib.import_module("hdf5plugin")  # as the readers do: importing it registers its filters
    data.id.get_storage_size()
    if data.chunks is not None:
        data.id.get_num_chunks()
    if data.shape is None:
        return 0
    value_bytes = int(data.dtype.itemsize)
    size: int = math.prod(data.shape) * value_bytes
    if size <= min(_SMALL_BYTES, most):
        data[()]
        return size
    first: int = math.prod(data.chunks or (1,)) * value_bytes
    if first > most:
        return 0
    data[(0,) * data.ndim]
    return first


def _limit_memory() -> None:
    for kind, most in ((resource.RLIMIT_AS, _MEMORY_BYTES), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(kind)[1]
        # Some systems know a limit only by name.
        with suppress(ValueError, OSError):
            resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _limit_processor(object_s: float, file_s: float) -> Callable[[], None]:
    """Return what lets the system end this process when an object, or all of a file, take longer, s."""

    def used_s() -> float:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return used.ru_utime + used.ru_stime

    end = used_s() + file_s
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]

    def step() -> None:
        most = math.ceil(min(used_s() + object_s, end))
        resource.setrlimit(resource.RLIMIT_CPU, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))

    return step


def _no_limit() -> None:
    """Let an object take as long as it does; whoever waits has a clock."""


def answer_requests() -> None:
    """Look through every file that comes in, a line each, until there are no more."""
    if sys.platform != "win32":
        _limit_memory()
    print(HARMLESS, flush=True)  # everything is imported
    for line in sys.stdin:
        path, object_s, file_s = json.loads(line)
        step = _limit_processor(object_s, file_s) if sys.platform != "win32" else _no_limit
        step()
        try:
            look_through(path, step)
        except _HarmError as harm:
            # One line of plain letters, whatever stands in the file.
            print(ascii(shorten(str(harm), 300))[1:-1], flush=True)
        else:
            print(HARMLESS, flush=True)


if __name__ == "__main__":
    answer_requests()
