"""Volumes small enough to travel inside a page: truth, reconstruction and labels, one byte a voxel each.

Files of a run -> `SliceViewer`. Volumes of more voxels than the page may hold are thinned by one whole factor f in all
directions: of f rows the middle one is kept, within it attenuation is averaged over f x f voxels and a label is that
of their middle. Attenuation mu becomes a byte by

    c = 255 sqrt((mu - low) / (high - low)),

whose steps are finest near air and silicon; the labels of truth and segmentation share one byte. The thinned volumes
are for looking only: nothing is measured in them.
"""

import base64
import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npsi_twin.errors import DataError
from npsi_twin.report.figures import ERROR_COLOURS, PHASE_COLOURS, SILICON_RANGE_PER_UM
from npsi_twin.report.page import Picture, SliceViewer
from npsi_twin.storage.hdf5 import open_hdf5
from npsi_twin.volumes import FloatArray, Phase

#: Most that the volumes of one page may take, bytes of base64; turntable and pictures need some 2 MB more.
LARGEST_DATA = 6_000_000

_SILICON = (Phase.SILICON, Phase.UNRESOLVED_SILICON)
_DIRECTIONS = ("z: across the rotation axis", "y: parallel to the foil", "x: along the axis, across the foil")
_TITLES = {
    "truth": "Truth: attenuation",
    "reconstruction": "Reconstruction",
    "segmentation": "Segmentation",
    "error": "Error in silicon",
}


@dataclass(frozen=True)
class Thinned:
    """A thinned volume in a file: which rows and voxels of it are kept.

    Attributes
    ----------
    path, name
        File and dataset, (z, y, x).
    steps
        Voxels of the file for one that is kept, along z, y and x.
    shape
        Voxels that are kept; what does not fill a step at the far end is left out.
    """

    path: Path
    name: str
    steps: tuple[int, int, int]
    shape: tuple[int, int, int]

    @classmethod
    def of(cls, path: Path, name: str, factor: int) -> "Thinned":
        """Thin by one factor in all directions, or by all there is where that is less."""
        nz, ny, nx = _shape(path, name)
        steps = (min(factor, nz), min(factor, ny), min(factor, nx))
        return cls(path, name, steps, (nz // steps[0], ny // steps[1], nx // steps[2]))

    def _rows(self) -> Any:
        """Yield kept rows as blocks, (ny, step, nx, step)."""
        (fz, fy, fx), (nz, ny, nx) = self.steps, self.shape
        with open_hdf5(self.path) as file:
            data = file.dataset(self.name)
            for z in range(nz):
                yield data[z * fz + fz // 2][: ny * fy, : nx * fx].reshape(ny, fy, nx, fx)

    def means(self) -> FloatArray:
        """Return means within the kept rows."""
        return np.stack([row.mean(axis=(1, 3), dtype=np.float32) for row in self._rows()])

    def shares(self, *labels: int) -> FloatArray:
        """Return the share of voxels that carry one of some labels, within the kept rows."""
        return np.stack([np.isin(row, labels).mean(axis=(1, 3), dtype=np.float32) for row in self._rows()])

    def labels(self) -> NDArray[np.uint8]:
        """Return labels of the middle voxels."""
        _, fy, fx = self.steps
        return np.stack([row[:, fy // 2, :, fx // 2] for row in self._rows()]).astype(np.uint8)


def _shape(path: Path, name: str) -> tuple[int, int, int]:
    with open_hdf5(path) as file:
        nz, ny, nx = file.dataset(name).shape
    return int(nz), int(ny), int(nx)


def smallest_factor(shape: tuple[int, int, int], largest: int) -> int:
    """Return the smallest factor of thinning that leaves at most ``largest`` voxels.

    Examples
    --------
    >>> smallest_factor((64, 320, 320), 1_500_000), smallest_factor((12, 128, 128), 1_500_000)
    (2, 1)
    """
    factor = 1
    while np.prod([n // min(factor, n) for n in shape]) > largest:
        factor += 1
    return factor


def slice_viewer(folder: Path, *, name: str, unit: str, voxel_nm: float | None, still: Picture) -> SliceViewer:
    """Pack what a run folder holds for the slice viewer of its page.

    Parameters
    ----------
    folder
        The run folder: ``reconstruction.h5``, and ``segmentation.h5`` and ``truth.h5`` where there are any.
    name, unit
        Dataset of the reconstruction, and its unit.
    voxel_nm
        Edge of a voxel, nm; None where it is not known.
    still
        Picture for paper.

    Returns
    -------
    SliceViewer
        Panes for what is there, in the order truth, reconstruction, segmentation, error.

    Raises
    ------
    DataError
        A file cannot be read, or the volumes have not one shape.
    """
    path, truth, segmentation = (folder / f"{part}.h5" for part in ("reconstruction", "truth", "segmentation"))
    labelled, known = segmentation.is_file(), truth.is_file() and segmentation.is_file()
    panes = [pane for pane, there in zip(_TITLES, (known, True, labelled, known), strict=True) if there]
    channels = 1 + labelled + known
    whole = _shape(path, name)
    others = [(segmentation, "phase")] * labelled + [(truth, "phase"), (truth, "attenuation_per_um")] * known
    for other, dataset in others:
        if _shape(other, dataset) != whole:
            raise DataError(
                f"{other}: /{dataset} is {_shape(other, dataset)}, the reconstruction {whole}; the page shows one "
                "voxel of all together. Run the stages of one run again."
            )
    factor = smallest_factor(whole, LARGEST_DATA * 3 // 4 // channels)
    grid = Thinned.of(path, name, factor)
    greys = {"reconstruction": grid.means()}
    labels, phases = np.zeros(grid.shape, np.uint8), np.zeros(len(Phase), bool)
    if labelled:
        found = Thinned.of(segmentation, "phase", factor).labels()
        labels = np.asarray(found << 4, np.uint8)
        phases[np.unique(found)] = True
    if known:
        true = Thinned.of(truth, "phase", factor).labels()
        labels = labels | true
        phases[np.unique(true)] = True
        greys = {"truth": Thinned.of(truth, "attenuation_per_um", factor).means(), **greys}
    low, high = _span(greys)
    packed = [_codes(values, low, high) for values in greys.values()] + [labels] * labelled
    facts = {
        "shape": grid.shape,
        "steps": grid.steps,
        "channels": [*greys, *(["labels"] * labelled)],
        "voxel_um": None if voxel_nm is None else voxel_nm / 1000,
        "low": low,
        "high": high,
        "unit": unit.replace("1/", "/").replace("um", "µm"),
        "windows": _windows(greys["reconstruction"], low, high, silicon=labelled),
        "directions": _DIRECTIONS,
        "panes": [{"name": pane, "title": _TITLES[pane]} for pane in panes],
        "phases": [
            {
                "name": phase.name.lower().replace("_", " "),
                "colour": PHASE_COLOURS[phase],
                "silicon": phase in _SILICON,
                "there": bool(phases[phase]),
            }
            for phase in Phase
        ],
        # By whether it is silicon in truth (1) and in the segmentation (2).
        "errors": [
            {"name": told, "colour": ERROR_COLOURS[kind], "wrong": kind in (2, 3)}
            for told, kind in (("no silicon", 0), ("silicon, missed", 3), ("called silicon, is not", 2), ("silicon", 1))
        ],
    }
    # Level 9 of zlib is slow on noise and hardly smaller.
    data = base64.b64encode(zlib.compress(np.stack(packed).tobytes(), 6)).decode("ascii")
    title = "Slices: " + ", ".join(panes)
    return SliceViewer(title, _caption(whole, grid, len(data)), json.dumps(facts, ensure_ascii=False), data, still)


def _span(greys: dict[str, FloatArray]) -> tuple[float, float]:
    """Return the range of attenuation that bytes cover: all but one voxel in a thousand at either end."""
    ends = [np.percentile(values, (0.1, 99.9)) for values in greys.values()]
    low, high = float(min(a for a, _ in ends)), float(max(b for _, b in ends))
    return low, high if high > low else low + 1.0


def _codes(values: FloatArray, low: float, high: float) -> NDArray[np.uint8]:
    share = np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1)
    return np.asarray(np.rint(255 * np.sqrt(share)), np.uint8)


def _windows(values: FloatArray, low: float, high: float, *, silicon: bool) -> list[dict[str, Any]]:
    """Return ranges of grey to choose from."""
    whole = {"name": "whole range", "span": (low, high)}
    if silicon:
        return [{"name": "silicon (foil saturates)", "span": SILICON_RANGE_PER_UM}, whole]
    a, b = (float(end) for end in np.percentile(values, (0.5, 99.5)))
    return [{"name": "central 99 %", "span": (a, b)}, whole] if b > a else [whole]


def _caption(whole: tuple[int, int, int], grid: Thinned, size: int) -> str:
    nz, ny, nx = whole
    told = f"{nz} x {ny} x {nx} voxels (z, y, x)"
    fz, fy, fx = grid.steps
    if max(grid.steps) > 1:
        told += f", of which the page keeps one row in {fz} and, within it, means (labels: the middle) of {fy} x {fx}"
    else:
        told += ", all of them"
    return (
        f"{told}; {size / 1e6:.1f} MB of at most {LARGEST_DATA / 1e6:g} MB for volumes. Attenuation is kept in 256 "
        "steps. For looking only: every number of this page was measured on the whole volumes."
    )
