"""Figures of curves: attenuation against height, structure, and where a segmentation errs.

What `measure` and `score_labels` found -> PNGs, truth beside recovered. Both are told apart by colour (blue and orange,
which the colour-blind tell apart, too) and by line, so that a print in grey can be read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from npsi_twin.morphology.measure import Measurements
from npsi_twin.report.figures import STYLES, _save

#: A height that fewer columns reach is that of the volume's rim.
LEAST_SHARE = 0.5


@dataclass(frozen=True)
class Curve:
    """One line of a profile: its name, distance in um, values, and where known their spread; unseen heights are cut."""

    name: str
    distance_um: NDArray[np.floating]
    values: NDArray[np.floating]
    spread: NDArray[np.floating] | None = None

    @classmethod
    def of(cls, name: str, points: NDArray[np.floating]) -> "Curve":
        """Take what most columns see of a measured profile, (2 or 4, k)."""
        seen = points[3] >= LEAST_SHARE if len(points) > 3 else np.ones(points.shape[1], np.bool_)
        kept = points[:, seen]
        return cls(name, kept[0] / 1000, kept[1], kept[2] if len(points) > 3 else None)


def profiles(measured: Mapping[str, Measurements]) -> dict[str, list[Curve]]:
    """Return the attenuation profiles that there are: what the distance is to -> a curve of truth and of recovered.

    Parameters
    ----------
    measured
        ``recovered``, and ``truth`` where there is one.
    """
    found: dict[str, list[Curve]] = {}
    for surface in ("local", "mean"):
        curves = []
        for name, numbers in measured.items():
            points = numbers.curves.get(f"attenuation_from_{surface}_foil", np.empty((2, 0)))
            if surface == "local" and not points.size:  # of a run that kept no more
                points = np.stack([numbers.profile_distance_nm, numbers.profile_normalised])
            if points.size:
                curves.append(Curve.of(name, points))
        if curves:
            found[surface] = curves
    return found


def _tidy(
    axes: Axes, title: str, across: str, upwards: str, place: Literal["upper right", "lower right"] = "upper right"
) -> None:
    axes.set_title(title, loc="left")
    axes.set_xlabel(across)
    axes.set_ylabel(upwards)
    axes.grid(linewidth=0.4, alpha=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8, loc=place)


def draw_profiles(path: Path, *, curves: Mapping[str, list[Curve]], published: tuple[str, float] | None = None) -> None:
    """Draw attenuation (foil 1, air 0) against the distance to the foil's local surface and to its mean plane.

    Parameters
    ----------
    path
        PNG to write.
    curves
        From `profiles`, a panel each.
    published
        What the paper prints for the plateau: legend and value.
    """
    figure = Figure(figsize=(11 if len(curves) > 1 else 7, 3.6), layout="tight")
    panels = np.atleast_1d(figure.subplots(1, max(1, len(curves)), sharey=True))
    top = 0.3
    for axes, (surface, lines) in zip(panels, curves.items(), strict=False):
        for curve in lines:
            axes.plot(curve.distance_um, curve.values, label=curve.name, **STYLES.get(curve.name, {}))
            if curve.spread is not None:
                low, high = curve.values - curve.spread, curve.values + curve.spread
                colour = STYLES.get(curve.name, {}).get("color")
                axes.fill_between(curve.distance_um, low, high, alpha=0.2, linewidth=0, color=colour)
            above = curve.values[(curve.distance_um > 0.3) & np.isfinite(curve.values)]
            top = max(top, 1.2 * float(above.max())) if above.size else top
        if published is not None:
            axes.axhline(published[1], color="0.4", linestyle=":", linewidth=1.2, label=published[0])
        axes.axhline(0, color="0.8", linewidth=0.8, zorder=0)
        axes.axvline(0, color="0.8", linewidth=0.8, zorder=0)
        axes.set_xlim(left=-0.5)
        _tidy(axes, f"Height above the {surface} foil surface", "height, µm (below 0: foil)", "")
    panels[0].set_ylim(-0.05, min(top, 1.1))
    panels[0].set_ylabel("normalised attenuation (foil 1, air 0)")
    _save(figure, path)


def draw_structure(path: Path, *, measured: Mapping[str, Measurements]) -> bool:
    """Draw two-point correlation and local thickness of silicon and pores.

    Parameters
    ----------
    path
        PNG to write.
    measured
        ``recovered``, and ``truth`` where there is one.

    Returns
    -------
    bool
        Whether there was anything to draw.
    """
    panels = {
        "two_point_correlation": ("Two-point correlation S2 of silicon", "lag, µm", "S2, probability"),
        "local_thickness_ligament": ("Local thickness of ligaments", "diameter of largest ball, nm", "share of volume"),
        "local_thickness_pore": ("Local thickness of pores", "diameter of largest ball, nm", "share of volume"),
    }
    there = [kind for kind in panels if any(m.curves.get(kind, np.empty(0)).size for m in measured.values())]
    if not there:
        return False
    figure = Figure(figsize=(11, 3.4), layout="tight")
    for axes, kind in zip(np.atleast_1d(figure.subplots(1, len(there))), there, strict=True):
        for name, numbers in measured.items():
            points = numbers.curves.get(kind, np.empty((2, 0)))
            if not points.size:
                continue
            x, y = points
            style = STYLES.get(name, {})
            if kind == "two_point_correlation":
                axes.plot(x / 1000, y, label=name, **style)
                axes.axhline(y[0] ** 2, linewidth=0.7, **(style | {"linestyle": ":"}))
            else:
                step = x[1] - x[0] if len(x) > 1 else x[0]
                axes.stairs(y, [x[0] - step, *x], label=name, linewidth=1.5, **style)
        axes.margins(y=0.25)  # room for the legend
        _tidy(axes, *panels[kind])
    _save(figure, path)
    return True


def draw_accuracy(path: Path, *, curves: Mapping[str, Any]) -> None:
    """Draw the share of right voxels against the distance to the true interface and against the feature's size.

    Parameters
    ----------
    path
        PNG to write.
    curves
        ``by_distance``, ``by_ligament`` and ``by_pore`` as ``comparison.json`` holds them: ``edges_nm``, ``share`` and
        ``n``, with None for what is infinite or empty.
    """
    figure = Figure(figsize=(11, 3.6), layout="tight")
    distance, size = figure.subplots(1, 2, sharey=True)
    if curves["by_distance"] is not None:
        middle, share, _ = _classes(curves["by_distance"])
        distance.plot(middle, share, "o-", color=STYLES["truth"]["color"], markersize=4)
    distance.axvline(0, color="0.6", linewidth=0.8)
    _tidy(distance, "By distance to the true interface", "distance, nm (below 0: pore, above 0: silicon)", "")
    distance.set_ylabel("share of voxels labelled right")
    kinds = {
        "by_ligament": ("ligaments (silicon found)", {"color": "#e69f00", "marker": "s"}),
        "by_pore": ("pores (void found)", {"color": "#56607a", "marker": "o", "linestyle": "--"}),
    }
    for kind, (label, style) in kinds.items():
        if curves[kind] is not None:
            middle, share, _ = _classes(curves[kind])
            size.plot(middle, share, label=label, markersize=4, **style)
    _tidy(size, "By size of the true feature", "local thickness, nm", "", "lower right")
    size.set_xlim(left=0)
    distance.set_ylim(-0.03, 1.03)
    _save(figure, path)


def _classes(curve: Mapping[str, Any]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Return the middles of classes, nm, their shares and voxels; an open class lies one step beyond its end."""
    edges = np.array([np.nan if edge is None else edge for edge in curve["edges_nm"]])
    share = np.array([np.nan if value is None else value for value in curve["share"]])
    low, high = edges[:-1].copy(), edges[1:].copy()
    step = np.nanmedian(high - low)
    low, high = np.where(np.isnan(low), high - step, low), np.where(np.isnan(high), low + step, high)
    n = np.array(curve["n"], np.int64)
    known = n > 0
    return (low + high)[known] / 2, share[known], n[known]
