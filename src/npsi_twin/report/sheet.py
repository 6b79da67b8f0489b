"""Pictures of space on one scale: colours of attenuation, and sheets on which a micrometre is a micrometre.

`Rendering`, `Section` -> RGBA images; images with their edges in um -> a matplotlib figure. Blue is little attenuation
and red is much, as in the paper, on a map of equal steps in CIELAB; the foil is grey, air is white. Light adds up in
linear intensity before the screen's gamma of 2.2.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from npsi_twin.report.ray_casting import BACKGROUND, FOIL
from npsi_twin.report.rendering import Rendering
from npsi_twin.report.state_picture import Edges, Section

#: Normalised attenuation at the red end: solid silicon without lithium reads 0.32 at 8 keV.
LARGEST_ATTENUATION = 0.36
#: Normalised attenuation at the blue end; less than that fades into white, so that air is white, not blue.
_FADES_BELOW = 0.02
_BLUE_TO_RED = [
    "#2554a5", "#2c74ba", "#3a92c9", "#4fabcb", "#6cc0c7", "#93d0bc", "#b9daac", "#dae09a",
    "#f7de86", "#fbc366", "#f3a047", "#eb7e36", "#e25c31", "#c7362d", "#a11929",
]  # fmt: skip
#: White, then blue to red through pale yellow in steps that are equally far apart in CIELAB.
ATTENUATION_COLOURS = LinearSegmentedColormap.from_list(
    "attenuation",
    [(0.0, "white"), *zip(np.linspace(_FADES_BELOW / LARGEST_ATTENUATION, 1, 15).tolist(), _BLUE_TO_RED, strict=True)],
)
#: Grey of the foil, and colour of light solids in a 3-D picture.
FOIL_GREY = (0.72, 0.70, 0.68)
_HAZE_COLOUR = np.array([0.45, 0.52, 0.62])
#: Brightness of a surface that faces lamp and sky in full.
_EXPOSURE = 1.25


def painted(rendering: Rendering) -> NDArray[np.float64]:
    """Colour a rendering and average its samples to pixels.

    Parameters
    ----------
    rendering
        What is seen, and its light.

    Returns
    -------
    ndarray
        RGBA, 0 to 1, (rows, columns, 4); transparent where nothing is seen.
    """
    shade = rendering.normalised_attenuation / LARGEST_ATTENUATION
    colour = np.asarray(ATTENUATION_COLOURS(np.clip(shade, 0, 1))[..., :3], np.float64)
    colour[rendering.body == FOIL] = FOIL_GREY
    # Light adds up before, not after, the screen's gamma.
    linear = np.clip(colour**2.2 * (_EXPOSURE * rendering.light[..., None]), 0, 1)
    there = (rendering.body != BACKGROUND)[..., None].astype(np.float64)
    haze = rendering.haze[..., None].astype(np.float64)
    opacity = haze + (1 - haze) * there
    pixel = _averaged(haze * _HAZE_COLOUR**2.2 + (1 - haze) * there * linear, rendering.samples_per_edge)
    alpha = _averaged(opacity, rendering.samples_per_edge)
    return np.concatenate([(pixel / np.maximum(alpha, 1e-9)) ** (1 / 2.2), alpha], axis=2)


def _averaged(values: NDArray[np.float64], edge: int) -> NDArray[np.float64]:
    rows, columns, channels = values.shape
    return np.asarray(values.reshape(rows // edge, edge, columns // edge, edge, channels).mean(axis=(1, 3)))


def painted_section(section: Section) -> NDArray[np.float64]:
    """Colour what is not foil, and mix it with the foil's grey by share; transparent outside of the volume."""
    foil = np.nan_to_num(section.foil_share, nan=0.0)[..., None]
    # Of a voxel that is almost all foil the rest is not known, and does not show.
    rest = (section.normalised_attenuation[..., None] - foil) / np.maximum(1 - foil, 0.02)
    rgba = np.asarray(ATTENUATION_COLOURS(np.clip(rest[..., 0] / LARGEST_ATTENUATION, 0, 1)), np.float64)
    rgba[..., :3] = foil * np.array(FOIL_GREY) + (1 - foil) * rgba[..., :3]
    rgba[..., 3] = np.isfinite(section.normalised_attenuation)
    return rgba


@dataclass(frozen=True)
class Cell:
    """A picture of space with its edges (left, right, bottom, top) in um, and its title."""

    image: NDArray[np.float64]
    extent_um: Edges
    title: str
    note: str = ""


class Sheet:
    """A figure on which pictures of space share one scale; positions in inches from the upper left corner."""

    def __init__(self, width: float, height: float, um_per_inch: float) -> None:
        self.figure = Figure(figsize=(width, height))
        self.width, self.height, self.um_per_inch = width, height, um_per_inch

    def box(self, left: float, top: float, width: float, height: float) -> Axes:
        """Add axes."""
        return self.figure.add_axes(
            (left / self.width, 1 - (top + height) / self.height, width / self.width, height / self.height)
        )

    def draw(self, cell: Cell, left: float, top: float, frame: Edges, *, framed: bool) -> Axes:
        """Draw a cell in a frame of edges in um, with its title above."""
        axes = self.box(left, top, (frame[1] - frame[0]) / self.um_per_inch, (frame[3] - frame[2]) / self.um_per_inch)
        axes.imshow(cell.image, extent=cell.extent_um, interpolation="antialiased")
        axes.set(xlim=frame[:2], ylim=frame[2:])
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(framed)
        axes.spines[:].set(color="0.7", linewidth=0.6)
        axes.set_title(f"{cell.title}\n{cell.note}".strip(), loc="center")
        return axes

    def write(self, left: float, top: float, text: str, **style: Any) -> None:
        """Write text whose upper left corner is given."""
        self.figure.text(left / self.width, 1 - top / self.height, text, va="top", **style)

    def colour_bar(self, left: float, top: float, width: float) -> None:
        """Draw what the colours mean, and the foil's grey beside it."""
        axes = self.box(left, top, width, 0.14)
        mappable = ScalarMappable(Normalize(0, LARGEST_ATTENUATION), ATTENUATION_COLOURS)
        bar = self.figure.colorbar(mappable, cax=axes, orientation="horizontal", extend="max")
        bar.set_label("normalised attenuation (copper 1, air 0)")
        swatch = self.box(left + width + 0.35, top, 0.25, 0.14)
        swatch.set_facecolor(FOIL_GREY)
        swatch.set(xticks=[], yticks=[])
        self.write(left + width + 0.68, top, "copper foil")

    def scale_bar(self, left: float, top: float, room_um: float) -> None:
        """Draw a bar of a round length of at most the room given."""
        lengths_um = np.array([0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50])
        fitting = lengths_um[lengths_um <= room_um]
        length_um = float(fitting[-1] if fitting.size else lengths_um[0])
        axes = self.box(left, top, length_um / self.um_per_inch, 0.05)
        axes.set_facecolor("black")
        axes.set(xticks=[], yticks=[])
        self.write(left, top + 0.1, f"{length_um:g} µm")


def common_frame(extents: Iterable[Edges]) -> Edges:
    """Return the smallest frame around all."""
    left, right, bottom, top = zip(*extents, strict=True)
    return min(left), max(right), min(bottom), max(top)
