"""The bodies of a run from all around: frames that the page turns through.

Labels and attenuation of a run folder -> `Turntable`. Volumes are thinned as for the slice viewer, so that one frame
takes a fraction of a second, and then seen by `npsi_twin.report.rendering`: the foil's surface where its smoothed share
crosses one half, silicon's where its volume is kept, since thinned voxels are hardly smaller than its ligaments;
coloured by attenuation with the foil 1 and air 0. Light comes from the camera's left in every
frame.
"""

import base64
import io
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from npsi_twin.errors import DataError
from npsi_twin.morphology.measure import Measurements
from npsi_twin.report.page import ColourBar, Turntable
from npsi_twin.report.rendering import Bodies, RenderingRecipe, render_around
from npsi_twin.report.sheet import ATTENUATION_COLOURS, LARGEST_ATTENUATION, painted
from npsi_twin.report.slice_viewer import Thinned, smallest_factor
from npsi_twin.volumes import Phase

#: Frames of a whole turn; voxels that are drawn at most; larger edge of a frame, pixels.
FRAMES, _LARGEST, _EDGE = 10, 1_000_000, 360
#: Directions of light, a third of those of a single picture: large frames are worth more than soft shadows.
_SKY, _LAMP = 20, 3
#: Near enough to shade the pores; a further reach costs more time than it shows.
_SKY_REACH_NM = 400.0


_PALER = " What was recovered is paler than the truth because blur mixes silicon with its pores."
#: Files of a run folder with labels and with attenuation.
_SOURCES = {"truth": ("truth.h5", "truth.h5"), "recovered": ("segmentation.h5", "reconstruction.h5")}
#: Frames on sheets of one size, (frames, rows, columns, 4): colour on white, and 255 where anything is seen.
Sheets = NDArray[np.uint8]


def turned(folder: Path, name: str, measured: Mapping[str, Measurements], *, voxel_nm: float) -> Sheets | None:
    """Draw the truth or what was recovered from all around.

    Parameters
    ----------
    folder
        The run folder.
    name
        ``truth`` or ``recovered``.
    measured
        ``recovered``, and ``truth`` where there is one: the attenuation of foil and air.
    voxel_nm
        Edge of a voxel, nm.

    Returns
    -------
    ndarray or None
        None where it was not measured, where the volume lacks foil or air, without which colours mean nothing, or where
        it has fewer slices than one thinned voxel.
    """
    if name not in measured:
        return None
    labels, attenuation = _SOURCES[name]
    seen = _bodies(folder / labels, folder / attenuation, measured[name], voxel_nm)
    return None if seen is None else _turned(seen)


def turntable(sheets: Mapping[str, Sheets | None]) -> Turntable | None:
    """Put what was drawn from all around side by side.

    Parameters
    ----------
    sheets
        By name, from `turned`.

    Returns
    -------
    Turntable or None
        None where there is nothing to see.
    """
    turns = {name.capitalize(): drawn for name, drawn in sheets.items() if drawn is not None}
    if not turns:
        return None
    # All frames are cut alike, so that the bodies stand still while the camera goes round.
    there = np.max([sheets[..., 3].max(axis=0) for sheets in turns.values()], axis=0) > 0
    v, u = (np.flatnonzero(there.any(axis=axis)) for axis in (1, 0))
    cut = np.s_[v[0] : v[-1] + 1, u[0] : u[-1] + 1] if v.size else np.s_[:, :]
    frames = {name: [_as_uri(sheet[cut]) for sheet in sheets] for name, sheets in turns.items()}
    return Turntable(
        "In three dimensions",
        "Silicon, coloured by its attenuation, on the grey foil; drag a picture or move the slider. Carbon-binder is "
        f"not drawn.{_PALER if len(turns) > 1 else ''}",
        _angles(),
        frames,
        _colour_bar(),
    )


def _angles() -> list[int]:
    return [360 * k // FRAMES for k in range(FRAMES)]


def _bodies(labels_path: Path, attenuation_path: Path, measured: Measurements, voxel_nm: float) -> Bodies | None:
    foil, air = (measured[f"{level}_attenuation_per_um"].value for level in ("foil", "air"))
    if not (np.isfinite(foil) and np.isfinite(air) and foil > air):
        return None
    attenuation = Thinned.of(attenuation_path, "attenuation_per_um", 1)
    factor = smallest_factor(attenuation.shape, _LARGEST)
    labels = Thinned.of(labels_path, "phase", factor)
    if len(set(labels.steps)) > 1:
        return None
    silicon = labels.shares(Phase.SILICON, Phase.UNRESOLVED_SILICON)
    normalised = (Thinned.of(attenuation_path, "attenuation_per_um", factor).means() - air) / (foil - air)
    if normalised.shape != silicon.shape:
        raise DataError(
            f"{labels_path}: the labels are thinned to {silicon.shape}, the attenuation to {normalised.shape}; both "
            "must lie on the same voxels. Run the stages of one run again."
        )
    return Bodies(
        silicon,
        labels.shares(Phase.CURRENT_COLLECTOR),
        np.zeros_like(silicon),
        np.asarray(normalised, np.float32),
        voxel_nm * factor,
    )


def _turned(seen: Bodies) -> Sheets:
    """Return the frames of one body."""
    nz, ny, nx = seen.silicon.shape
    recipe = RenderingRecipe(
        pixel_nm=seen.voxel_nm * max(math.hypot(nz, nx), ny) / _EDGE,
        samples_per_edge=1,
        smoothing_nm=max(60.0, 0.8 * seen.voxel_nm),
        surface="volume",
        sky_reach_nm=_SKY_REACH_NM,
    )
    pictures = [painted(picture) for picture in render_around(seen, recipe, _angles(), sky=_SKY, lamp=_LAMP)]
    rows, columns = (max(picture.shape[axis] for picture in pictures) for axis in (0, 1))
    sheets = np.full((len(pictures), rows, columns, 4), (255, 255, 255, 0), np.uint8)
    for sheet, picture in zip(sheets, pictures, strict=True):
        # Every picture's middle is the volume's, and its edges are even.
        top, left = (rows - picture.shape[0]) // 2, (columns - picture.shape[1]) // 2
        opacity, place = picture[..., 3:], np.s_[top : top + picture.shape[0], left : left + picture.shape[1]]
        sheet[place][..., :3] = np.rint(255 * (picture[..., :3] * opacity + 1 - opacity))
        sheet[place][..., 3:] = 255 * (opacity > 0)
    return sheets


def _colour_bar() -> ColourBar:
    """Return what the colours mean, as a strip of the picture's own colours."""
    colours = np.rint(255 * ATTENUATION_COLOURS(np.linspace(0, 1, 256))[None, :, :3]).astype(np.uint8)
    ticks = [f"{LARGEST_ATTENUATION * k / 4:.2g}" for k in range(4)]
    return ColourBar(
        _as_uri(np.repeat(colours, 12, axis=0)),
        [*ticks, f"{LARGEST_ATTENUATION:g} or more"],
        "normalised attenuation of silicon (foil 1, air 0)",
    )


def _as_uri(rgb: NDArray[np.uint8]) -> str:
    """Return a picture in 64 colours: a quarter of the bytes, and no difference that one sees."""
    stream = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(rgb[..., :3]))
    picture.quantize(64, dither=Image.Dither.NONE).save(stream, format="png", compress_level=6)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
