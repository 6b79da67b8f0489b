"""HDF5 files from outside, opened so that they show nothing but what the caller allowed.

`open_hdf5` gives an `OpenFile`, whose `dataset` walks to a data set one link at a time. Beamline files are full of
links: Diamond keeps frames behind external links, ESRF in virtual data sets. They are followed only where every file
they lead to lies below an allowed folder (that of the file itself, and those the caller names), is opened read-only,
and is looked at before HDF5 opens it. Data kept as raw bytes of other files are refused always, since they would show
any file of the user's as an image. Data that are claimed but were never written are refused too: HDF5 would give zeros
for them.

References
----------
The HDF Group, "HDF5 File Format Specification 3.0": external data files, virtual storage layout, link types.
"""

import importlib.util
import math
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import h5py

from npsi_twin import errors
from npsi_twin.errors import DataError, MissingBackendError
from npsi_twin.storage.hdf5_guard import refuse_harmful

#: Links that one name may lead through; more is a circle.
_MOST_HOPS = 32
#: Parts of a name with all that its links add; files have a dozen, and a group that holds itself any number.
_MOST_PARTS = 256
#: Names that are looked up in one file; groups that hold one another make a small file look endless.
_MOST_LOOKED_UP = 200_000
#: Pieces that a virtual data set is made of, those of its sources and of theirs included.
_MOST_PIECES = 1_000_000
#: A frame or a chunk is read whole; 2 GiB are a detector of 32768 x 32768 pixels.
_LARGEST_PIECE_BYTES = 2**31
#: zlib cannot compress further; what claims more was never written.
_MOST_COMPRESSION = 1032


class OpenFile:
    """An HDF5 file opened read-only, and the files that its links lead to.

    Parameters
    ----------
    path
        The file.
    roots
        Folders below which linked files may lie, besides the folder of the file itself.
    """

    def __init__(self, path: Path, roots: Iterable[Path] = ()) -> None:
        self.path = path
        self._roots = tuple(folder.resolve() for folder in (path.resolve().parent, *roots))
        self._stack = ExitStack()
        self._files: dict[Path, h5py.File] = {}
        self._looked_at, self._looked_up = "", 0
        self._checked: dict[tuple[int, int], int] = {}

    def __enter__(self) -> "OpenFile":
        self._open(self.path)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Close the files; what HDF5, or a conversion of what it gave, raised about their content names the file."""
        self._stack.close()
        if isinstance(error, Exception) and not isinstance(error, _PASSED_ON):
            said = str(error) or type(error).__name__
            raise DataError(
                f"{self.path}: {self._looked_at or 'its content'} cannot be read ({said}). The file is damaged, or is "
                "not what it says it is; copy it anew."
            ) from error

    @property
    def files(self) -> list[Path]:
        """Every file that was opened so far, this one first."""
        return list(self._files)

    @property
    def root(self) -> h5py.Group:
        """The root group of the file itself, for attributes and for walks that follow no link."""
        return self._open(self.path)["/"]

    def get(self, name: str) -> h5py.Group | h5py.Dataset | None:
        """Return the group or data set of that name, or None; a data set is not yet checked."""
        found = self._found(name)
        return None if found is None else found[1]

    def dataset(self, name: str) -> h5py.Dataset:
        """Return a data set whose values all exist and lie in allowed files.

        Raises
        ------
        DataError
            When it is not there, or is not to be trusted; says where and what to do.
        MissingBackendError
            When it is packed by a filter that is not here.
        """
        found = self._found(name)
        if found is None or not isinstance(found[1], h5py.Dataset):
            raise DataError(f"{self.path}: has no data set /{name.strip('/')}.")
        self._check(found[0], found[1], 0)
        return found[1]

    def has(self, name: str) -> bool:
        """Tell whether there is a data set of that name."""
        return isinstance(self.get(name), h5py.Dataset)

    def _found(self, name: str) -> tuple[h5py.File, h5py.Group | h5py.Dataset] | None:
        self._looked_at, self._looked_up = f"/{name.strip('/')}", self._looked_up + 1
        if self._looked_up > _MOST_LOOKED_UP:
            raise DataError(
                f"{self.path}: has more than {_MOST_LOOKED_UP} names where a scan may be. Say where it is with --where."
            )
        return self._walk(self._open(self.path), _parts(name), 0)

    def _open(self, path: Path) -> h5py.File:
        known = path.resolve()
        if known not in self._files:
            self._files[known] = self._stack.enter_context(_opened(path))
        return self._files[known]

    def _linked(self, holder: h5py.File, name: str, what: str) -> h5py.File:
        """Open a file that another one points to, once it is known to lie where it may."""
        target = (Path(holder.filename).resolve().parent / name).resolve()
        if not any(target.is_relative_to(root) for root in self._roots):
            raise DataError(
                f"{holder.filename}: {what} leads to {name}, outside the folder of the file, and is not followed: a "
                "link could show any file of yours. If that is where the data are, say --allow-root with their folder."
            )
        if not target.is_file():
            raise DataError(
                f"{holder.filename}: {what} leads to {name}, which is not there. Copy it beside the file, in the same "
                "folders as at the beamline."
            )
        return self._open(target)

    def _walk(
        self, file: h5py.File, parts: list[str], hops: int, group: h5py.Group | None = None
    ) -> tuple[h5py.File, h5py.Group | h5py.Dataset] | None:
        """Follow the parts of a name; a link is read before anything behind it is touched."""
        item: h5py.Group | h5py.Dataset = file["/"] if group is None else group
        if len(parts) > _MOST_PARTS:
            raise DataError(f"{file.filename}: a name of {len(parts)} parts leads in a circle. Correct the file.")
        for depth, part in enumerate(parts):
            if not isinstance(item, h5py.Group):
                return None
            name = part.encode()
            if not item.id.links.exists(name):
                return None
            kind = item.id.links.get_info(name).type
            if kind == h5py.h5l.TYPE_HARD:
                item = item[part]
                continue
            if hops >= _MOST_HOPS:
                raise DataError(f"{file.filename}: the links at /{'/'.join(parts)} lead in a circle. Correct the file.")
            rest = parts[depth + 1 :]
            if kind == h5py.h5l.TYPE_SOFT:
                target = item.id.links.get_val(name).decode()
                start = None if target.startswith("/") else item
                return self._walk(file, _parts(target) + rest, hops + 1, start)
            if kind != h5py.h5l.TYPE_EXTERNAL:
                raise DataError(f"{file.filename}: {item.name}/{part} is a link of an unknown kind. Copy the data in.")
            where, inside = (text.decode() for text in item.id.links.get_val(name))
            other = self._linked(file, where, f"the link {item.name.rstrip('/')}/{part}")
            return self._walk(other, _parts(inside) + rest, hops + 1)
        return file, item

    def _check(self, file: h5py.File, data: h5py.Dataset, hops: int) -> int:
        """Check a data set, once; return how many pieces it is made of."""
        facts = h5py.h5o.get_info(data.id)
        known = (facts.fileno, facts.addr)
        if known in self._checked:
            return self._checked[known]
        if data.shape is None:
            raise DataError(f"{file.filename}: {data.name} is empty. Write its values, or leave it out.")
        if data.external:
            raise DataError(
                f"{file.filename}: {data.name} keeps its data as raw bytes of other files, which are not opened: they "
                "could be any file of yours. Copy the data in."
            )
        if data.is_virtual:
            pieces = self._check_virtual(file, data, hops)
        else:
            _check_filters(file, data)
            _check_claims(file, data)
            pieces = 1
        self._checked[known] = pieces
        return pieces

    def _check_virtual(self, file: h5py.File, data: h5py.Dataset, hops: int) -> int:
        """Check that every part of a virtual data set comes from an allowed file and is there."""
        if hops >= _MOST_HOPS:
            raise DataError(f"{file.filename}: {data.name} is virtual upon itself. Correct the file.")
        covered, pieces = h5py.h5s.create_simple(data.shape), 0
        covered.select_none()
        for part in data.virtual_sources():
            if "%" in part.file_name or "%" in part.dset_name:
                raise DataError(
                    f"{file.filename}: {data.name} is made of files whose names are a pattern ({part.file_name}), "
                    "which cannot be checked before they are opened. Copy the data in."
                )
            here = part.file_name == "."
            other = file if here else self._linked(file, part.file_name, f"the virtual data set {data.name}")
            found = self._walk(other, _parts(part.dset_name), hops + 1)
            if found is None or not isinstance(found[1], h5py.Dataset):
                raise DataError(
                    f"{file.filename}: {data.name} needs {part.dset_name} of {part.file_name}, which is not there; it "
                    "would be read as zeros. Copy the file anew."
                )
            pieces += self._check(*found, hops + 1)
            if pieces > _MOST_PIECES:
                raise DataError(
                    f"{file.filename}: {data.name} is made of more than {_MOST_PIECES} pieces, which would take hours "
                    "to read. Copy the data in."
                )
            if not _reaches(part.src_space, part.vspace.get_select_npoints(), found[1]):
                raise DataError(
                    f"{file.filename}: {data.name} needs more of {part.dset_name} of {part.file_name} than the "
                    f"{found[1].shape} values that it holds; the rest would be read as zeros. Frames are missing."
                )
            _add(covered, part.vspace)
        held = covered.get_select_npoints()
        if held < math.prod(data.shape):
            raise DataError(
                f"{file.filename}: {data.name} is virtual, and its sources hold {held} of {math.prod(data.shape)} "
                "values; the rest would be read as zeros. Frames are missing."
            )
        return pieces


#: What is clear already, or says more of this machine than of the file.
_PASSED_ON = (
    *(kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)),
    MemoryError,
)


def _reaches(selected: h5py.h5s.SpaceID, values: int, source: h5py.Dataset) -> bool:
    """Tell whether a source holds all that is selected of it, that number of values."""
    if selected.get_select_type() == h5py.h5s.SEL_ALL:
        return bool(values <= math.prod(source.shape))
    ends = selected.get_select_bounds()[1]
    return bool(len(ends) == source.ndim and all(end < size for end, size in zip(ends, source.shape, strict=True)))


def _add(covered: h5py.h5s.SpaceID, part: h5py.h5s.SpaceID) -> None:
    """Add a part of a virtual data set to what is covered, so that what two parts hold is counted once."""
    if part.get_select_type() == h5py.h5s.SEL_ALL:
        covered.select_all()
    elif part.get_select_type() == h5py.h5s.SEL_HYPERSLABS and covered.get_select_type() != h5py.h5s.SEL_ALL:
        if part.is_regular_hyperslab():
            start, stride, count, block = part.get_regular_hyperslab()
            covered.select_hyperslab(start, count, stride, block, op=h5py.h5s.SELECT_OR)
            return
        for first, last in part.get_select_hyper_blocklist():
            size = tuple(int(end) - int(begin) + 1 for begin, end in zip(first, last, strict=True))
            covered.select_hyperslab(tuple(map(int, first)), (1,) * len(size), None, size, op=h5py.h5s.SELECT_OR)


def _check_claims(file: h5py.File, data: h5py.Dataset) -> None:
    """Refuse data that were claimed and never written: HDF5 gives zeros for them, and fills the memory with them."""
    piece = math.prod(data.chunks or data.shape[1:]) * data.dtype.itemsize
    written = min(data.id.get_storage_size(), Path(file.filename).stat().st_size)
    claimed = math.prod(data.shape) * data.dtype.itemsize
    if piece > _LARGEST_PIECE_BYTES or claimed > max(written * _MOST_COMPRESSION, 2**20):
        raise DataError(
            f"{file.filename}: {data.name} claims the shape {data.shape}, {claimed:.3g} bytes, of which {written} "
            "were written. The file is damaged or was made to exhaust memory; copy it anew from the beamline."
        )
    if data.chunks is not None:
        needed = math.prod(-(-size // chunk) for size, chunk in zip(data.shape, data.chunks, strict=True))
        if data.id.get_num_chunks() < needed:
            raise DataError(
                f"{file.filename}: {data.name} holds {data.id.get_num_chunks()} of its {needed} pieces; the rest "
                "would be read as zeros. The acquisition or the copy was cut short."
            )


def _check_filters(file: h5py.File, data: h5py.Dataset) -> None:
    """Refuse data packed in a way that cannot be unpacked here; beamlines use more ways than HDF5 brings along."""
    kinds = data.id.get_create_plist()
    needed = [kinds.get_filter(number) for number in range(kinds.get_nfilters())]
    lacking = [code for code, *_ in needed if not h5py.h5z.filter_avail(code)]
    if lacking and importlib.util.find_spec("hdf5plugin") is not None:
        importlib.import_module("hdf5plugin")  # importing it registers its filters
        lacking = [code for code in lacking if not h5py.h5z.filter_avail(code)]
    if lacking:
        names = ", ".join(f"{text.decode()} ({code})" for code, _, _, text in needed if code in lacking)
        raise MissingBackendError(
            f"{file.filename}: {data.name} is packed by the HDF5 filter {names}, which is not here. Install it with: "
            "pip install hdf5plugin"
        )


def _parts(name: str) -> list[str]:
    return [part for part in name.split("/") if part not in ("", ".")]


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    if not path.is_file():
        raise DataError(f"{path}: no such file. Check the path, which counts from where the command runs.")
    refuse_harmful(path)
    try:
        file = h5py.File(path, "r")
    except (OSError, ValueError, RuntimeError) as error:
        size = path.stat().st_size
        whole = re.search(r"truncated file: .*stored_eof = (\d+)", str(error))
        found = f"truncated: {size} of {whole[1]} bytes" if whole else f"{size} bytes: it cannot be read ({error})"
        raise DataError(f"{path}: not a readable HDF5 file ({found}). Copy it anew from the beamline.") from None
    with file:
        yield file


def open_hdf5(path: Path, roots: Iterable[Path] = ()) -> OpenFile:
    """Open an HDF5 file from outside; use it in a ``with`` statement.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.h5"
    >>> with h5py.File(path, "w") as file:
    ...     file["group/data"] = [1, 2, 3]
    ...     file["soft"] = h5py.SoftLink("/group")
    >>> with open_hdf5(path) as file:
    ...     file.dataset("soft/data").shape, file.has("nothing")
    ((3,), False)
    """
    return OpenFile(path, roots)
