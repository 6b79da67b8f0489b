"""Scans kept as a folder of TIFF images with a file of angles.

The projections are the images of the folder itself or of a folder or multi-page file ``projections``; flat and dark
fields those of ``flats`` and ``darks`` (also ``flats_before``, ``flats_after`` and the like). Images are taken in the
order of the numbers in their names. Angles stand in ``angles.txt`` (or .csv, .npy, or IMOD's .tlt and .rawtlt, which
are degrees), one number a projection; a text file states their unit in a comment, ``# degrees``. TIFF has no place for
the pixel at the sample: the caller states it.
"""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npsi_twin.errors import DataError
from npsi_twin.numpy_files import open_npy
from npsi_twin.storage.scanfile import Located, Reading, native
from npsi_twin.storage.units import ANGLE

_IMAGES = (".tif", ".tiff")
_NAMES = {
    "projections": ("projections", "projection", "proj", "tomo"),
    "flats": ("flats", "flat", "white", "flat_fields"),
    "darks": ("darks", "dark", "dark_fields"),
}
_BEFORE, _AFTER = ("before", "pre", "start"), ("after", "post", "end")
_ANGLES = (".txt", ".csv", ".dat", ".npy", ".tlt", ".rawtlt")
_LARGEST_IMAGE_BYTES = 2**31
#: What the strongest packing of TIFF does to an image of one value.
_MOST_PACKED = 2**16
_LARGEST_ANGLES_BYTES = 2**26


@dataclass(frozen=True)
class TiffFrames:
    """Frames that are pages of TIFF files.

    Attributes
    ----------
    pages
        (file, page) of every frame, in order.
    shape, dtype
        Of all frames together.
    """

    pages: tuple[tuple[Path, int], ...]
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]

    @property
    def name(self) -> str:
        """Name of the first file."""
        return str(self.pages[0][0])

    def read(self, rows: range) -> NDArray[Any]:
        """Return some rows of every frame, (frame, row, column); packed images are unpacked whole for it."""
        found = np.empty((self.shape[0], len(rows), self.shape[2]), self.dtype)
        for place, image in enumerate(self.each()):
            found[place] = image[rows.start : rows.stop]
        return found

    def frame(self, number: int) -> NDArray[Any]:
        """Return one whole frame, (row, column)."""
        path, page = self.pages[number]
        return next(_images(path, (page,), self.shape[1:]))

    def each(self) -> Iterator[NDArray[Any]]:
        """Read whole frames one at a time; unpacked ones are mapped, so that only what is used is read."""
        start = 0
        while start < len(self.pages):
            path = self.pages[start][0]
            stop = next((n for n in range(start, len(self.pages)) if self.pages[n][0] != path), len(self.pages))
            yield from _images(path, tuple(page for _, page in self.pages[start:stop]), self.shape[1:])
            start = stop

    def files(self) -> list[Path]:
        """Return every image file."""
        return list(dict.fromkeys(path for path, _ in self.pages))


def _images(path: Path, pages: tuple[int, ...], shape: tuple[int, ...]) -> Iterator[NDArray[Any]]:
    import tifffile

    with _as_tiff(path), tifffile.TiffFile(path) as file:
        for number in pages:
            page = file.pages[number]
            if page.shape != shape:
                raise DataError(f"{path}: page {number} is {page.shape}, the first {shape}; they must agree.")
            image = tifffile.memmap(path, page=number, mode="r") if page.is_memmappable else page.asarray()
            if image.shape != shape:
                raise DataError(f"{path}: page {number} holds {image.shape} of {shape}; it is damaged. Copy it anew.")
            yield native(image)


@contextmanager
def _as_tiff(path: Path) -> Iterator[None]:
    """Name the file in whatever a broken one makes tifffile raise."""
    try:
        yield
    except (DataError, MemoryError):
        raise
    except Exception as error:
        said = str(error) or type(error).__name__
        raise DataError(f"{path}: cannot be read as TIFF ({said}). Copy it anew.") from error


@dataclass(frozen=True)
class _Folder:
    """The folder of a scan, looked through once."""

    path: Path

    @cached_property
    def entries(self) -> dict[str, Path]:
        """Lower-case name without the suffix of images -> path."""
        found = sorted(self.path.iterdir())
        return {(p.stem if p.suffix.lower() in _IMAGES else p.name).lower(): p for p in found}

    def stacks(self, kind: str) -> list[tuple[int | None, list[Path]]]:
        """Return (-1 before, 1 after, None unknown; files) of every stack of a kind, in order of time."""
        found: list[tuple[int | None, list[Path]]] = []
        for name, path in self.entries.items():
            stem, _, ending = name.rpartition("_")
            when = -1 if ending in _BEFORE else 1 if ending in _AFTER else None
            if name in _NAMES[kind] or (when is not None and stem in _NAMES[kind]):
                files = _numbered(path.iterdir()) if path.is_dir() else [path]
                if files:
                    found.append((when, files))
        return sorted(found, key=lambda stack: stack[0] or 0)


def _numbered(paths: Any) -> list[Path]:
    """Return the image files in the order of the numbers in their names, as cameras count without leading zeros."""

    def order(path: Path) -> list[tuple[int, str]]:
        return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]

    return sorted((path for path in paths if path.suffix.lower() in _IMAGES and path.is_file()), key=order)


def _frames(files: list[Path]) -> TiffFrames:
    """Locate every page of some files; only their heads are read."""
    import tifffile

    pages: list[tuple[Path, int]] = []
    shape: tuple[int, ...] = ()
    kind = np.dtype(np.uint8)
    for path in files:
        with _as_tiff(path), tifffile.TiffFile(path) as file:
            first = file.pages[0]
            here, dtype, count, packed = first.shape, first.dtype, len(file.pages), first.compression != 1
            if len(here) != 2 or dtype is None or dtype.kind not in "uif":
                raise DataError(f"{path}: is an image of {here} {dtype}; grey images (row, column) are needed.")
            claimed = math.prod(here) * dtype.itemsize
            if claimed > _LARGEST_IMAGE_BYTES:
                raise DataError(f"{path}: claims an image of {here}; it is damaged or was made to exhaust memory.")
            refuse_claims(path, count * claimed, packed=packed)
        if not pages:
            shape, kind = here, dtype
        elif (here, dtype) != (shape, kind):
            raise DataError(f"{path}: is {here} {dtype}, {files[0].name} {shape} {kind}; they must agree.")
        pages += [(path, number) for number in range(count)]
    wide = np.dtype(np.float32) if kind == np.float16 else kind.newbyteorder("=")
    return TiffFrames(tuple(pages), (len(pages), *shape), wide)  # type: ignore[arg-type]


def refuse_claims(path: Path, claimed: int, *, packed: bool) -> None:
    """Refuse a TIFF file that claims more than it can hold, before anything is unpacked.

    Parameters
    ----------
    path
        The file.
    claimed
        Bytes of all its images.
    packed
        Whether they are compressed; unpacked ones grow when their samples have fewer bits than a byte.

    Raises
    ------
    DataError
        When the file is shorter than its images can be packed.
    """
    size = path.stat().st_size
    if claimed > size * (_MOST_PACKED if packed else 8):
        raise DataError(
            f"{path}: claims images of {claimed:.3g} bytes in a file of {size}. It was cut short, or made to exhaust "
            "memory; copy it anew."
        )


def locate(folder: Path, reading: Reading) -> Located:
    """Find a scan in a folder of TIFF images.

    Parameters
    ----------
    folder
        The folder.
    reading
        What the caller states; ``where`` may name another folder or file for each kind, relative to the folder.

    Raises
    ------
    DataError
        When there are no images, images differ in shape, or angles cannot be read.
    """
    inside = _Folder(folder)
    roots = tuple(root.resolve() for root in (folder, *reading.allow_roots))

    def stacks(kind: str, place: str) -> list[tuple[int | None, list[Path]]]:
        if place not in reading.where:
            return inside.stacks(kind)
        path = _within(folder, reading.where[place])
        return [(None, _numbered(path.iterdir()) if path.is_dir() else [path])]

    projections = stacks("projections", "data") or [(None, _loose(folder))]
    white, dark = stacks("flats", "flats"), stacks("darks", "darks")
    for _, files in (*projections, *white, *dark):
        for path in files:
            _refuse_elsewhere(folder, path, roots)
    if not projections[0][1]:
        raise DataError(
            f"{folder}: holds neither a run nor TIFF images. Give a folder with the projections as TIFF files, in it "
            "or in its folder 'projections', with 'flats', 'darks' and 'angles.txt' beside them."
        )
    frames = _frames(projections[0][1])
    flats = _frames([path for _, files in white for path in files]) if white else None
    views = None
    if flats is not None and all(when is not None for when, _ in white):
        lengths = [_frames(files).shape[0] for _, files in white]
        views = np.repeat([0 if when == -1 else frames.shape[0] for when, _ in white], lengths)
    theta, unit, place = _theta(folder, reading.where.get("theta"), roots)
    return Located(
        frames,
        flats,
        _frames([path for _, files in dark for path in files]) if dark else None,
        theta,
        unit,
        place,
        flat_views=views,
    )


def _loose(folder: Path) -> list[Path]:
    """Return the images that lie in the folder itself and are no stack of flat or dark fields."""
    others = {name for kind in ("flats", "darks") for name in _NAMES[kind]}
    return [
        path
        for path in _numbered(folder.iterdir())
        if path.stem.lower() not in others and path.stem.lower().rpartition("_")[0] not in others
    ]


def _within(folder: Path, name: str) -> Path:
    path = (folder / name.lstrip("/")).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.exists():
        raise DataError(f"{folder}: has no '{name}' in it. Give names in the folder of the scan.")
    return path


def _refuse_elsewhere(folder: Path, path: Path, roots: tuple[Path, ...]) -> None:
    """Refuse a symbolic link out of the folder, as links in HDF5 files are."""
    if not any(path.resolve().is_relative_to(root) for root in roots):
        raise DataError(
            f"{folder}: {path.relative_to(folder)} is a link to {path.resolve()}, outside the folder, and is not "
            "followed: a link could show any file of yours. If that is where the data are, say --allow-root with their "
            "folder."
        )


def _theta(folder: Path, name: str | None, roots: tuple[Path, ...]) -> tuple[NDArray[np.float64] | None, str, str]:
    """Return angles as they stand in their file, their unit, and where they stand."""
    if name is not None:
        path = _within(folder, name)
    else:
        found = [
            path
            for path in sorted(folder.iterdir())
            if path.suffix.lower() in (".tlt", ".rawtlt")
            or (path.suffix.lower() in _ANGLES and re.search("angle|theta", path.stem.lower()))
        ]
        if not found:
            return None, "", f"{folder.name}/angles.txt"
        if len(found) > 1:
            raise DataError(
                f"{folder}: holds several files of angles: {', '.join(path.name for path in found)}. Name one with "
                f"--where theta={found[0].name}."
            )
        path = found[0]
    _refuse_elsewhere(folder, path, roots)
    if not path.is_file() or path.stat().st_size > _LARGEST_ANGLES_BYTES:
        raise DataError(f"{path}: is no file of angles; one number a projection is needed, a few kB of them.")
    try:
        if path.suffix.lower() == ".npy":
            return np.asarray(open_npy(path), np.float64).ravel(), "", str(path)
        words = path.read_text(encoding="utf-8")
        theta = np.array([float(word) for word in re.split(r"[\s,;]+", _without_comments(words)) if word])
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path}: cannot be read as angles ({error}); one number a projection is needed.") from None
    unit = "deg" if path.suffix.lower() in (".tlt", ".rawtlt") else ""
    stated = [word for line in words.splitlines() if line.startswith("#") for word in re.findall(r"[^\W\d_]+|°", line)]
    return theta, next((word for word in stated if ANGLE.factor(word) is not None), unit), str(path)


def _without_comments(words: str) -> str:
    return "\n".join(line.split("#")[0] for line in words.splitlines())
