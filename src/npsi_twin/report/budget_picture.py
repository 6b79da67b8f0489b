"""The waterfall of an error budget: from the true value down, or up, to the one that is recovered.

`Budget` by metric -> one panel a metric. Every bar begins where the one before ends, so that they add up; they are no
steps of one road but averages over the orders in which steps are turned on. A bar's whisker is the confidence interval
of the share, the last one's that of the whole bias.
"""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from npsi_twin.comparison.error_budget import Budget

_UP, _DOWN, _LEVEL = "#d64550", "#3f8efc", "#4a5a73"


def waterfall_figure(budgets: Mapping[str, Budget], switches: Sequence[str], *, confidence: float = 0.95) -> Figure:
    """Draw where the error of each metric comes from.

    Parameters
    ----------
    budgets
        Metric, as it is to be written, -> its budget; those without a number are left out.
    switches
        In the order in which they are drawn.
    confidence
        Of the budgets' intervals, for the legend.

    Returns
    -------
    matplotlib.figure.Figure
        Panels side by side, two in a row.
    """
    drawn = {name: budget for name, budget in budgets.items() if np.isfinite(budget.bias.value)}
    rows = max(1, -(-len(drawn) // 2))
    with mpl.rc_context({"font.size": 9, "axes.titlesize": 9}):
        figure = Figure(figsize=(11, 3.4 * rows), layout="constrained")
        panels = figure.subplots(rows, 2, squeeze=False).ravel()
        for axes, (name, budget) in zip(panels, drawn.items(), strict=False):
            _draw(axes, name, budget, switches)
        for axes in panels[len(drawn) :]:
            axes.set_axis_off()
        marks = [
            Patch(color=_UP, label="adds to the metric"),
            Patch(color=_DOWN, label="takes from it"),
            Line2D([], [], color="black", linewidth=1, label=f"{100 * confidence:g} % interval of the bar's length"),
        ]
        title = "Shapley shares: averages over the orders in which steps are turned on, set end to end"
        figure.legend(handles=marks, loc="outside upper center", ncols=3, frameon=False, title=title)
    return figure


def _draw(axes: Axes, name: str, budget: Budget, switches: Sequence[str]) -> None:
    names = ["truth", *(switch.replace("_", " ") for switch in switches), "recovered"]
    places = np.arange(len(names))[::-1]
    steps = np.array([budget[switch].bias.value for switch in switches])
    ends = budget.reference + np.cumsum(steps)
    starts = ends - steps
    axes.barh(places[1:-1], steps, left=starts, color=np.where(steps > 0, _UP, _DOWN), height=0.62)
    recovered = budget.reference + budget.bias.value
    axes.plot([budget.reference, recovered], places[[0, -1]], "o", color=_LEVEL, markersize=5)
    axes.vlines([budget.reference, *ends], places[1:] - 0.31, places[:-1] + 0.31, color=_LEVEL, linewidth=0.7)
    intervals = [*(budget[switch].bias for switch in switches), budget.bias]
    origins = [*starts, budget.reference]
    for place, origin, interval in zip(places[1:], origins, intervals, strict=True):
        if np.isfinite(interval.low):
            axes.plot([origin + interval.low, origin + interval.high], [place, place], color="black", linewidth=1)
    axes.use_sticky_edges = False  # or the axis ends with the first bar, and cuts the truth's mark
    axes.set_yticks(places, names)
    axes.set_title(name, loc="left")
    axes.grid(axis="x", linewidth=0.4, alpha=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
