"""What a scan file must not tell, beside it: the truth of a simulated scan (``scan_truth.h5``).

`create_scan_truth` makes the file from what concerns the whole scan (true shifts and angles) and the shapes of what
comes row by row (noise-free transmission, illumination, gain map, masks of bad pixels and zingers); `write_truth_rows`
fills it slab by slab, and `read_scan_truth` reads rows of it. Every array says whether a reconstruction is told it
(attribute ``told``): an angle that is also in the scan file is, a run-out is not. The arrays are not listed here, so
that a new artefact needs no change of this file.
"""

from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import h5py
import numpy as np
from numpy.typing import DTypeLike, NDArray

from npsi_twin.errors import DataError, IncompatibleError
from npsi_twin.execution.files import written_hdf5
from npsi_twin.storage.hdf5 import open_hdf5

_PURPOSE = "truth of a simulated scan"


@dataclass(frozen=True)
class RowArray:
    """An array that is written row by row.

    Attributes
    ----------
    shape
        Its shape for the whole detector.
    row_axis
        Which axis counts detector rows: 1 for (view, row, column), 0 for (row, column).
    dtype
        Type of its values.
    """

    shape: tuple[int, ...]
    row_axis: int
    dtype: DTypeLike


@dataclass(frozen=True)
class ScanTruthFile:
    """What a truth file holds.

    Attributes
    ----------
    arrays
        Name -> array; those by row hold the rows asked for. Read-only.
    told
        Names of the arrays that a reconstruction is told.
    facts
        Attributes of the file.
    """

    arrays: Mapping[str, NDArray[Any]]
    told: frozenset[str]
    facts: Mapping[str, Any]


@contextmanager
def create_scan_truth(
    path: Path,
    *,
    whole: Mapping[str, NDArray[Any] | float],
    by_row: Mapping[str, RowArray],
    told: Set[str] = frozenset(),
    facts: Mapping[str, Any] | None = None,
) -> Iterator[h5py.File]:
    """Create a truth file, to be filled by `write_truth_rows`.

    Parameters
    ----------
    path
        The file; an existing one is replaced, so give a temporary name (`execution.written_whole`).
    whole
        Name -> what concerns the whole scan, with its unit in the name.
    by_row
        Name -> what comes row by row; masks compress, noise-free transmission is as large as the scan in float32.
    told
        Names of what a reconstruction is told.
    facts
        Attributes of the file.

    Raises
    ------
    IncompatibleError
        When a name is told that is not written, or written twice.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "scan_truth.h5"
    >>> rows = {"illumination": RowArray((4, 3), 0, np.float32)}
    >>> with create_scan_truth(path, whole={"angles_rad": np.zeros(2)}, by_row=rows, told={"angles_rad"}) as file:
    ...     write_truth_rows(file, 0, {"illumination": np.ones((4, 3), np.float32)})
    >>> truth = read_scan_truth(path)
    >>> sorted(truth.arrays), sorted(truth.told)
    (['angles_rad', 'illumination'], ['angles_rad'])
    """
    unknown, twice = set(told) - set(whole) - set(by_row), set(whole) & set(by_row)
    if unknown or twice:
        raise IncompatibleError(
            f"scan truth: {', '.join(sorted(unknown))} is told but not written, {', '.join(sorted(twice))} written "
            "twice; every name must be written once."
        )
    with written_hdf5(path) as file:
        file.attrs.update({"purpose": _PURPOSE, "synthetic": True, **(facts or {})})
        for name, values in whole.items():
            file[name] = values
        for name, array in by_row.items():
            # A chunk is one row of a frame, or of all frames of a mask: what a slab writes never shares one.
            chunks = tuple(1 if axis == array.row_axis else size for axis, size in enumerate(array.shape))
            packed = np.dtype(array.dtype).kind in "bui"
            options = {"compression": "gzip", "compression_opts": 1, "shuffle": True} if packed else {}
            data = file.create_dataset(name, array.shape, array.dtype, chunks=chunks, fletcher32=True, **options)
            data.attrs["row_axis"] = array.row_axis
        for name in (*whole, *by_row):
            file[name].attrs["told"] = name in told
        yield file


def write_truth_rows(file: h5py.File, first_row: int, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write the same detector rows of several arrays.

    Parameters
    ----------
    file
        From `create_scan_truth`.
    first_row
        Detector row of the first row given.
    arrays
        Name -> rows.
    """
    for name, values in arrays.items():
        axis = int(file[name].attrs["row_axis"])
        where = (slice(None),) * axis + (slice(first_row, first_row + values.shape[axis]),)
        file[name][where] = values


def read_scan_truth(path: Path, rows: range | None = None) -> ScanTruthFile:
    """Read a truth file.

    Parameters
    ----------
    path
        The file.
    rows
        Detector rows of the arrays by row; all when None.

    Raises
    ------
    DataError
        When the file is missing or not of that kind.
    """
    with open_hdf5(path) as file:
        facts = dict(file.root.attrs)
        if facts.get("purpose") != _PURPOSE:
            raise DataError(f"{path}: holds no truth of a scan. Give the scan_truth.h5 beside a simulated scan.")
        names: list[str] = []
        file.root.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        arrays, told = {}, set()
        for name in names:
            data = file.dataset(name)
            axis = data.attrs.get("row_axis")
            if axis is not None and int(axis) not in range(data.ndim):
                raise DataError(
                    f"{path}: /{name} counts rows along axis {axis}; it has {data.ndim}. Make the scan anew."
                )
            part = () if axis is None or rows is None else (slice(None),) * int(axis) + (slice(rows.start, rows.stop),)
            values = np.asarray(data[part])
            values.flags.writeable = False
            arrays[name] = values
            if data.attrs.get("told", False):
                told.add(name)
    return ScanTruthFile(MappingProxyType(arrays), frozenset(told), MappingProxyType(facts))
