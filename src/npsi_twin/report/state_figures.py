"""The figures of the paper's story, drawn from states of the electrode: after its Figs 2C, 3 and 4.

`StatePicture`s (and capacity against cycle) -> matplotlib figures; any number of states, in the order given. States
whose names share what stands before a slash form a series; a state without a slash (pristine) opens every series.
Published values and bounds come from `npsi_twin.comparison.published`, and thicknesses among them from the paper's own
pristine 2.0 um. Pictures of space share one scale within a figure (`npsi_twin.report.sheet`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from npsi_twin.comparison.published import Published, zhao2018
from npsi_twin.errors import IncompatibleError, ParameterError
from npsi_twin.report import figures as _house  # noqa: F401  the house's fonts and sizes
from npsi_twin.report.ray_casting import BACKGROUND
from npsi_twin.report.sheet import Cell, Sheet, common_frame, painted, painted_section
from npsi_twin.report.state_picture import Edges, StatePicture

Floats = NDArray[np.floating[Any]]

#: Colours of the states of one series, of those without one, and of what the paper printed.
_SERIES_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
_BASE_COLOUR, _PAPER_COLOUR = "0.35", "black"


@dataclass(frozen=True)
class CapacityCurve:
    """Capacity of one cell against its cycles.

    Attributes
    ----------
    name
        Name in the legend.
    cycle
        Numbers of the cycles, ascending, (n,).
    capacity_mah_per_g
        Reversible capacity, mAh/g, (n,).
    life_cycles
        Last cycle at the full capacity; None where the cell never fell short.
    """

    name: str
    cycle: Floats | NDArray[np.integer[Any]]
    capacity_mah_per_g: Floats
    life_cycles: float | None = None

    def __post_init__(self) -> None:
        if self.cycle.shape != self.capacity_mah_per_g.shape or self.cycle.ndim != 1:
            raise IncompatibleError(
                f"capacity curve {self.name!r}: got {self.cycle.shape} cycles and {self.capacity_mah_per_g.shape} "
                "capacities; one capacity for each cycle is needed. Give two arrays of one length."
            )


def _series(states: Sequence[StatePicture]) -> tuple[list[StatePicture], dict[str, list[StatePicture]]]:
    """Return states without a series, and the series by name, in the order given."""
    if not states:
        raise ParameterError("figure of states: got no state; at least one is needed. Picture one with picture_state.")
    series: dict[str, list[StatePicture]] = {}
    for state in states:
        if "/" in state.name:
            series.setdefault(state.name.split("/")[0], []).append(state)
    return [state for state in states if "/" not in state.name], series


def _rows(states: Sequence[StatePicture]) -> dict[str, list[StatePicture]]:
    """Return every series opened by the states that belong to none."""
    bases, series = _series(states)
    return {name: [*bases, *members] for name, members in series.items()} or {"": bases}


def _series_title(name: str) -> str:
    return f"{name} mAh/g" if name.isdigit() else name


def _title(state: StatePicture) -> str:
    """Return a state's name within its series: ``2nd lithiation``, ``cycle 500``."""
    name = state.name.split("/", 1)[-1]
    return f"cycle {name}" if name.isdigit() else name.replace("-", " ")


def _colours(row: Sequence[StatePicture]) -> dict[str, str]:
    """Give every state of a row its colour."""
    members = [state.name for state in row if "/" in state.name]
    coloured = {name: _SERIES_COLOURS[k % len(_SERIES_COLOURS)] for k, name in enumerate(members)}
    return {state.name: coloured.get(state.name, _BASE_COLOUR) for state in row}


def _thickness_text(state: StatePicture) -> str:
    thickness, coverage = state.measured["thickness_silicon_um"], state.measured["silicon_coverage"].value
    if not np.isfinite(thickness.value):
        return "no layer left"
    spread = f" ± {thickness.spread:.1f}" if np.isfinite(thickness.spread) else ""
    return f"{thickness.value:.1f}{spread} µm" + (f" on {100 * coverage:.0f} %" if coverage < 0.95 else "")


#: Inches: margin of a sheet, gap between pictures, room for a title of two lines, and for the bars at the bottom.
_MARGIN, _GAP, _TITLE, _FOOT = 0.2, 0.15, 0.45, 0.75


def seven_states_figure(states: Sequence[StatePicture], *, um_per_inch: float = 9.0) -> Figure:
    """Draw the 3-D pictures of all states on one scale: the truth's version of the paper's Fig. 3A-C.

    Parameters
    ----------
    states
        Any number of states; a series a row, states without a series in the first column.
    um_per_inch
        Scale of the figure.

    Returns
    -------
    Figure
        Names, thickness (mean and standard deviation over columns, and the share of columns that have a layer where
        that is below 95 %), one scale bar and one colour bar.
    """
    bases, series = _series(states)
    rows = list(series.items()) or [("", bases)]
    bases = bases if series else []
    frame = common_frame(_visible(state) for state in states)
    width = (frame[1] - frame[0]) / um_per_inch + _GAP
    frames = [(*frame[:2], *common_frame(_visible(state) for state in members)[2:]) for _, members in rows]
    heights = [(f[3] - f[2]) / um_per_inch + _TITLE + 0.25 for f in frames]
    columns = (1 if bases else 0) + max(len(members) for _, members in rows)
    base_frames = [(*frame[:2], *_visible(state)[2:]) for state in bases]
    base_height = sum((f[3] - f[2]) / um_per_inch + _TITLE + _GAP for f in base_frames)
    inner = max(sum(heights), base_height)
    sheet = Sheet(2 * _MARGIN + columns * width, _MARGIN + inner + _FOOT, um_per_inch)
    top = _MARGIN + (inner - base_height) / 2
    for state, its_frame in zip(bases, base_frames, strict=True):
        sheet.draw(_rendered(state), _MARGIN, top + _TITLE, its_frame, framed=False)
        top += (its_frame[3] - its_frame[2]) / um_per_inch + _TITLE + _GAP
    top, left = _MARGIN, _MARGIN + (width if bases else 0)
    for (name, members), its_frame, height in zip(rows, frames, heights, strict=True):
        sheet.write(left, top, _series_title(name), fontweight="bold", fontsize=10)
        for column, state in enumerate(members):
            sheet.draw(_rendered(state), left + column * width, top + _TITLE + 0.2, its_frame, framed=False)
        top += height
    sheet.scale_bar(_MARGIN + 0.1, sheet.height - _FOOT + 0.15, 0.35 * (frame[1] - frame[0]))
    sheet.colour_bar(_MARGIN + max(width, 1.6), sheet.height - _FOOT + 0.15, min(3.0, 0.5 * sheet.width))
    return sheet.figure


def _visible(state: StatePicture) -> Edges:
    """Return the edges of what is seen in a rendering, um, on whole pixels; all of it where nothing is seen."""
    rendering, (left, right, bottom, top) = state.rendering, state.rendering_extent_um
    seen = (rendering.body != BACKGROUND) | (rendering.haze > 0)
    if not seen.any():
        return left, right, bottom, top
    step = rendering.sample_nm / 1000
    v, u = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    return left + u[0] * step, left + (u[-1] + 1) * step, top - (v[-1] + 1) * step, top - v[0] * step


def _rendered(state: StatePicture) -> Cell:
    return Cell(painted(state.rendering), state.rendering_extent_um, _title(state), _thickness_text(state))


def sections_figure(states: Sequence[StatePicture], *, um_per_inch: float = 8.0) -> Figure:
    """Draw sections parallel and perpendicular to the foil on one scale: the truth's version of Fig. 4A-B.

    Parameters
    ----------
    states
        Any number of states; a series two rows, opened by the states that belong to none.
    um_per_inch
        Scale of the figure.

    Returns
    -------
    Figure
        Above, the section parallel to the foil at a fixed height above the plane fitted to its surface; below, the
        middle slice, with that plane as a dashed line.
    """
    rows = _rows(states)
    parallel = common_frame(state.parallel.extent_um for state in states)
    across = common_frame(state.perpendicular.extent_um for state in states)[:2]
    width = (max(parallel[1], across[1]) - min(parallel[0], across[0])) / um_per_inch + _GAP
    uprights = [(*across, *common_frame(s.perpendicular.extent_um for s in members)[2:]) for members in rows.values()]
    flat = (parallel[3] - parallel[2]) / um_per_inch
    heights = [_TITLE + flat + _GAP + (f[3] - f[2]) / um_per_inch + 0.3 for f in uprights]
    columns = max(len(members) for members in rows.values())
    lettering = 0.25
    sheet = Sheet(2 * _MARGIN + lettering + columns * width, _MARGIN + sum(heights) + _FOOT + 0.3, um_per_inch)
    top = _MARGIN
    for (name, members), upright, height in zip(rows.items(), uprights, heights, strict=True):
        sheet.write(_MARGIN, top, _series_title(name), fontweight="bold", fontsize=10)
        flat_top, upright_top = top + _TITLE, top + _TITLE + flat + _GAP
        sheet.write(_MARGIN, flat_top, "//", fontsize=11)
        sheet.write(_MARGIN, upright_top, "⊥", fontsize=11)
        for column, state in enumerate(members):
            left = _MARGIN + lettering + column * width
            plain = Cell(painted_section(state.parallel), state.parallel.extent_um, _title(state))
            sheet.draw(plain, left, flat_top, parallel, framed=True)
            cut = Cell(painted_section(state.perpendicular), state.perpendicular.extent_um, "")
            axes = sheet.draw(cut, left, upright_top, upright, framed=True)
            axes.axhline(state.section_height_um, color="black", linewidth=0.7, linestyle=(0, (4, 4)))
        top += height
    heights_um = sorted({state.section_height_um for state in states})
    sheet.scale_bar(_MARGIN + lettering, top, 0.3 * (parallel[1] - parallel[0]))
    sheet.colour_bar(_MARGIN + lettering + max(width / 2, 1.2), top, min(3.0, 0.45 * sheet.width))
    told = ", ".join(f"{1000 * height:.0f}" for height in heights_um)
    # On a line of its own: beside the bars there is no room for it where states are few.
    sheet.write(_MARGIN + lettering, top + _FOOT, f"// at {told} nm above the foil's plane (dashed)")
    return sheet.figure


#: The paper's records of thickness and of normalised attenuation, by condition.
_PUBLISHED_THICKNESS = {
    "pristine": "pristine_thickness",
    "1000/2nd-lithiation": "thick_1000_2nd",
    "1000/500": "thick_1000_500",
    "2000/1st-lithiation": "thick_2000_1st",
}
_PUBLISHED_ATTENUATION = {"pristine": "grey_pristine_plateau", "1000/2nd-lithiation": "grey_1000_2nd"}
#: What it says of thicknesses that it prints no number for (sections 3.2.1 and 3.2.2).
_PUBLISHED_IN_WORDS = {
    "1000/1556": "thinner\nthan cycle 500",
    "2000/100": "thinner\nthan 1st",
    "2000/460": "thin\nresidue",
}


def _published_thickness_um(record: Published) -> float:
    """Return a thickness in um, from one that the paper prints in um or against its pristine electrode's."""
    pristine_um = zhao2018()["pristine_thickness"].number()
    if record.unit.startswith("%"):
        return pristine_um * (1 + record.number() / 100)
    return pristine_um * record.number() if record.unit.startswith("times") else record.number()


def _panels(rows: Mapping[str, Sequence[StatePicture]], width: float) -> tuple[Figure, list[tuple[str, Axes]]]:
    """Return a figure with axes for every row, side by side, that share their vertical axis."""
    figure = Figure(figsize=(max(width * len(rows), 4.5), 3.8), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(rows), sharey=True))
    for name, axis in zip(rows, axes, strict=True):
        axis.set_title(_series_title(name), loc="left", fontweight="bold")
        axis.spines[["top", "right"]].set_visible(False)
    return figure, list(zip(rows, axes, strict=True))


def thickness_bars_figure(states: Sequence[StatePicture]) -> Figure:
    """Draw the thickness of every state with the paper's values and bounds: the truth's version of Fig. 3D-E.

    Parameters
    ----------
    states
        Any number of states; a panel for each series, opened by the states that belong to none.

    Returns
    -------
    Figure
        Bars are means, whiskers standard deviations over columns that have a layer; their share is written above
        where it is below 95 %. Published values stand beside the bars, lower bounds as arrows.
    """
    rows = _rows(states)
    figure, panels = _panels(rows, 4.2)
    for name, axes in panels:
        colours = _colours(rows[name])
        for place, state in enumerate(rows[name]):
            _draw_bar(axes, place, state, colours[state.name])
            _draw_published_thickness(axes, place, state.name)
        words = [_PUBLISHED_IN_WORDS.get(state.name) for state in rows[name]]
        labels = [
            _title(state) + (f"\n(paper: {told})" if told else "")
            for state, told in zip(rows[name], words, strict=True)
        ]
        axes.set_xticks(range(len(labels)), labels, fontsize=8)
        axes.set_xlim(-0.6, len(labels) - 0.4)
    panels[0][1].set_ylim(bottom=0)
    panels[0][1].set_ylabel("thickness of the layer, µm")
    handles = [
        Line2D([], [], color=_BASE_COLOUR, linewidth=6, alpha=0.6, label="twin: mean ± sd over columns"),
        Line2D([], [], color=_PAPER_COLOUR, marker="D", markersize=4, linestyle="", label="published"),
        Line2D([], [], color=_PAPER_COLOUR, marker="^", markersize=5, linestyle="", label="published lower bound"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return figure


def _draw_bar(axes: Axes, place: int, state: StatePicture, colour: str) -> None:
    thickness, coverage = state.measured["thickness_silicon_um"], state.measured["silicon_coverage"].value
    if not np.isfinite(thickness.value):
        axes.text(place, 0, " no layer left", rotation=90, ha="center", va="bottom", fontsize=8, color="0.4")
        return
    spread = thickness.spread if np.isfinite(thickness.spread) else 0.0
    axes.bar(place, thickness.value, 0.6, color=colour, alpha=0.75)
    axes.errorbar(place, thickness.value, yerr=spread, color="0.2", capsize=4, linewidth=1.2)
    if coverage < 0.95:
        axes.text(place, thickness.value + spread, f"on {100 * coverage:.0f} %", ha="center", va="bottom", fontsize=8)


def _draw_published_thickness(axes: Axes, place: int, condition: str) -> None:
    if condition not in _PUBLISHED_THICKNESS:
        return
    record = zhao2018()[_PUBLISHED_THICKNESS[condition]]
    height, beside = _published_thickness_um(record), place + 0.38
    if record.relation == "gt":
        axes.plot([place - 0.42, beside], [height, height], color=_PAPER_COLOUR, linewidth=1)
        axes.plot(beside, height, color=_PAPER_COLOUR, marker=6, markersize=8, clip_on=False)
        return
    axes.errorbar(beside, height, yerr=record.spread, color=_PAPER_COLOUR, marker="D", markersize=4, capsize=3)


def attenuation_profiles_figure(states: Sequence[StatePicture]) -> Figure:
    """Draw normalised attenuation against distance to the local foil surface: the truth's version of Fig. 4C.

    Parameters
    ----------
    states
        Any number of states; a panel for each series, opened by the states that belong to none.

    Returns
    -------
    Figure
        Lines are means over columns as `measure` defines them, bands standard deviations over blocks of slices. What
        the paper prints for a state is a dashed line in its colour.
    """
    rows = _rows(states)
    figure, panels = _panels(rows, 4.6)
    shown = 0.1
    for name, axes in panels:
        colours = _colours(rows[name])
        for state in rows[name]:
            distance_um, mean = state.measured.profile_distance_nm / 1000, state.measured.profile_normalised
            axes.plot(distance_um, mean, color=colours[state.name], label=_title(state))
            low, high = mean - state.profile_spread, mean + state.profile_spread
            axes.fill_between(distance_um, low, high, color=colours[state.name], alpha=0.2, linewidth=0)
            layer = high[(distance_um > 0.3) & np.isfinite(high)]
            shown = max(shown, float(layer.max(initial=0.0)))
            if state.name in _PUBLISHED_ATTENUATION:
                record = zhao2018()[_PUBLISHED_ATTENUATION[state.name]]
                told = f"published: {record.number():g}"
                axes.axhline(record.number(), color=colours[state.name], linestyle="--", linewidth=1, label=told)
        axes.axvline(0, color="0.6", linewidth=0.8, zorder=0)
        axes.set_xlim(left=-0.5)
        axes.set_xlabel("distance to the local foil surface, µm")
        axes.legend(frameon=False, fontsize=8)
    panels[0][1].set_ylim(-0.01, 1.25 * max(shown, zhao2018()["grey_pristine_plateau"].number()))
    panels[0][1].set_ylabel("normalised attenuation (copper 1, air 0)")
    return figure


def capacity_figure(curves: Sequence[CapacityCurve]) -> Figure:
    """Draw reversible capacity against cycle number with the published lives: the truth's version of Fig. 2C.

    Parameters
    ----------
    curves
        Any number of cells.

    Returns
    -------
    Figure
        Crosses are the ends of the twin's lives; the paper's life at 2000 mAh/g is a diamond, its lower bound at
        1000 mAh/g an arrow.

    Examples
    --------
    >>> figure = capacity_figure([CapacityCurve("1000", np.arange(1, 9), np.full(8, 1000.0))])
    >>> figure.axes[0].get_ylabel()
    'reversible capacity, mAh/g'
    """
    if not curves:
        raise ParameterError("capacity figure: got no curve; at least one is needed. Give a CapacityCurve.")
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    for number, curve in enumerate(curves):
        colour = _SERIES_COLOURS[number % len(_SERIES_COLOURS)]
        axes.plot(curve.cycle, curve.capacity_mah_per_g, color=colour, label=curve.name)
        if curve.life_cycles is not None:
            capacity = float(np.interp(curve.life_cycles, curve.cycle, curve.capacity_mah_per_g))
            axes.plot(curve.life_cycles, capacity, "x", color=colour, label=f"{curve.name}: life {curve.life_cycles:g}")
    onset, bound = zhao2018()["fail_onset_2000"], zhao2018()["life_1000"]
    for record, marker, words in ((onset, "D", "published life"), (bound, ">", "published life, at least")):
        place = (record.number(), float(record.condition["mode"]))
        label = f"{words} {record.number():g}"
        axes.plot(*place, color=_PAPER_COLOUR, marker=marker, markersize=5, linestyle="", label=label)
    axes.margins(y=0.15)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("cycle")
    axes.set_ylabel("reversible capacity, mAh/g")
    axes.legend(frameon=False, fontsize=8)
    return figure
