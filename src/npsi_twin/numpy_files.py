"""Arrays in npy and npz files from outside, opened so that they run no code and claim no more than they hold.

`open_npy` maps a file that holds one array, `npz_arrays` lists the arrays of an archive by their heads alone, and
`read_npz` unpacks some of them. Pickled objects are refused always: unpacking them runs whatever they say. A head is
believed only where what follows it is as long as the head says, and an archive only where its parts unpack to no more
than deflate can pack, so that a small file cannot fill the memory. Names in an archive are never taken for paths.

References
----------
NumPy enhancement proposal 1, the npy format; P. Deutsch, RFC 1951 (deflate), doi:10.17487/RFC1951.
"""

import math
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from npsi_twin.errors import DataError

#: Deflate cannot pack further than 258 bytes into two bits; what claims more was never written.
MOST_DEFLATED = 1032
_HEADS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


@dataclass(frozen=True)
class ArrayHead:
    """What the head of an array says of it.

    Attributes
    ----------
    shape, dtype
        Of the array.
    fortran_order
        Whether its first axis runs fastest.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran_order: bool

    @property
    def nbytes(self) -> int:
        """Length of the values."""
        return math.prod(self.shape) * self.dtype.itemsize


def _head(stream: IO[bytes], length: int) -> ArrayHead:
    """Read a head, and hold it against the length of what it heads."""
    version = np.lib.format.read_magic(stream)
    if version not in _HEADS:
        raise ValueError(f"version {version} of the format, of which 1.0 and 2.0 are read")
    shape, fortran_order, dtype = _HEADS[version](stream)
    head = ArrayHead(shape, dtype, fortran_order)
    if dtype.hasobject:
        raise ValueError("it holds pickled objects, which could run any code")
    if any(size < 0 for size in shape) or head.nbytes != length - stream.tell():
        raise ValueError(f"it claims the shape {shape} of {dtype}, and {length - stream.tell()} bytes follow")
    return head


def open_npy(path: Path) -> NDArray[Any]:
    """Map the array of an npy file; nothing is read before it is used.

    Raises
    ------
    DataError
        When it is no such file, holds objects, or is not as long as its head says.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.npy"
    >>> np.save(path, np.arange(3))
    >>> int(open_npy(path).sum())
    3
    """
    try:
        with path.open("rb") as stream:
            head = _head(stream, path.stat().st_size)
        if head.nbytes == 0:
            return np.empty(head.shape, head.dtype)
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError, TypeError, OverflowError) as error:
        raise DataError(f"{path}: cannot be read as an npy file ({error}). Write it anew with numpy.save.") from None


def npz_arrays(path: Path) -> dict[str, ArrayHead]:
    """Return the heads of the arrays in an archive by their names.

    Raises
    ------
    DataError
        When it is no archive of arrays, or one that unpacks to more than was packed.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.npz"
    >>> np.savez_compressed(path, ones=np.ones((2, 3)))
    >>> npz_arrays(path)["ones"].shape
    (2, 3)
    """
    heads = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for part in archive.infolist():
                if part.file_size > max(part.compress_size * MOST_DEFLATED, 2**16):
                    raise ValueError(f"{part.filename!r} claims {part.file_size} bytes, packed in {part.compress_size}")
                if part.filename.endswith(".npy"):
                    with archive.open(part) as stream:
                        heads[part.filename.removesuffix(".npy")] = _head(stream, part.file_size)
    except Exception as error:
        raise _no_archive(path, error) from None
    return heads


def read_npz(path: Path, names: Collection[str]) -> Mapping[str, NDArray[Any]]:
    """Unpack some arrays of an archive.

    Raises
    ------
    DataError
        As `npz_arrays`, and when one is missing or damaged.
    """
    known = npz_arrays(path)
    if missing := sorted(set(names) - set(known)):
        raise DataError(f"{path}: lacks the array {', '.join(missing)}; it holds {', '.join(known) or 'none'}.")
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in names}
    except Exception as error:
        raise _no_archive(path, error) from None


def _no_archive(path: Path, error: Exception) -> DataError:
    # A damaged archive raises almost anything: zipfile, zlib, struct and numpy have errors of their own.
    return DataError(f"{path}: cannot be read as an npz file ({error}). Write it anew with numpy.savez.")
