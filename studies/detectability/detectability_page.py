"""Put what was found into words, tables and pictures: every number in README.md is rendered and never typed."""

import math
import re

import matplotlib as mpl
import numpy as np
from ledger import points, table

from npsi_twin.comparison.detectability import FoundSize

#: What the page calls the objects, and how it draws them.
CALLED = {"pore": "round pores", "gap": "gaps, by width", "particle": "round particles"}
DRAWN = {"pore": ("#d1495b", "o"), "gap": ("#2a6f97", "s"), "particle": ("#6a994e", "^")}
#: Below this chance a split of verdicts is called no accident.
CHANCE = 0.05
#: What no size bounds is drawn up to here, nm.
LARGEST_NM = 700.0


def told(of):
    """Write the sizes found with 50 and 90 %, nm, each with its interval of 95 %."""
    return " / ".join(str(FoundSize(**of[name])) for name in ("half", "ninety"))


def answer(found, study):
    """Return the answer, point by point."""
    base = next(iter(by_value[_base(study, varied)] for varied, by_value in found.items() if by_value))
    sizes = "; ".join(f"{CALLED[kind]} {told(of)}" for kind, of in base.items())
    text = [
        *_headline(found, study),
        f"At {study['base_says']}, sizes found with 50 / 90 % in nm (95 % interval): {sizes}.",
        *(_verdict(found[varied], study, varied) for varied in found),
    ]
    return points(study["quick"], text)


def _headline(found, study):
    """Say in plain words what sets the limit: the doses within which nothing changes, and the steps that do."""
    base = _base(study, "dose")
    doses = [value for value, kinds in found["dose"].items() if value == base or not any(map(_is_told, kinds.values()))]
    steps = {value: kinds for value, kinds in found["step"].items() if value != _base(study, "step")}
    better = [value for value, kinds in steps.items() if any(map(_is_better, kinds.values()))]
    idle = [value for value, kinds in steps.items() if not any(map(_is_told, kinds.values()))]
    if len(doses) < 2 or not better:
        return []
    text = (
        f"From {min(doses, key=float)} to {max(doses, key=float)} electrons the dose does not set the limit, as far as "
        f"the intervals below can tell. What does is blur: more is found where {_and(better)} are made ideal"
    )
    return [text + (f"; {_and(idle)} alone changes nothing." if idle else ".")]


def _is_better(kinds):
    return _is_told(kinds) and kinds["against_base"]["gained"] > kinds["against_base"]["lost"]


def _base(study, varied):
    return next(value for value, changes in study["varied"][varied]["at"].items() if not changes)


def _verdict(by_value, study, varied):
    """Say under which conditions objects are found that the base misses, or the other way round."""
    base, alike, differs = _base(study, varied), [], []
    for value, of in by_value.items():
        changed = [_split(kind, kinds["against_base"]) for kind, kinds in of.items() if _is_told(kinds)]
        if value != base:
            (differs if changed else alike).append((value, ", ".join(changed)))
    text = f"**{study['varied'][varied]['short']}** (base {base}):"
    if alike:
        text += f" at {_and([value for value, _ in alike])} no kind is found more or less often than at the base."
    for value, changed in differs:
        text += f" At {value}: {changed}."
    refused = [value for value in study["varied"][varied]["at"] if value not in by_value]
    if refused and not study["quick"]:
        text += f" At {_and(refused)} no scan could be segmented."
    return text + _alarms(by_value)


def _is_told(kinds):
    return kinds["against_base"]["chance"] < CHANCE


def _split(kind, of):
    return f"{CALLED[kind].split(',')[0]} {of['lost']} of {of['objects']} lost and {of['gained']} gained"


def _and(names):
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _alarms(by_value):
    """Say where empty places are taken for objects."""
    alarms = [
        f"{100 * of['alarms']:.0f} % ({CALLED[kind].split(',')[0]}, {value})"
        for value, kinds in by_value.items()
        for kind, of in kinds.items()
        if of["alarms"] > 0
    ]
    if not alarms:
        return ""
    return f" Empty places are taken for objects there: {', '.join(alarms)}; of what is gained part is noise."


def parts_of(found, rows, study):
    """Return the README's tables."""
    lines = []
    for varied, by_value in found.items():
        lines += ["", f"**{study['varied'][varied]['says']}**", ""]
        head = ("", *(f"{CALLED[kind]}: 50 / 90 %, nm (95 % interval); lost, gained; empty places" for kind in CALLED))
        lines += table(head, [(value, *map(_cell, kinds.values())) for value, kinds in by_value.items()])
    return {"answer": answer(found, study), "sizes": lines, "refused": _refused(rows) or ["None."]}


def _refused(rows):
    """Return a line for every kind of refusal; those that differ in numbers only are one kind."""
    kinds = {}
    for row in rows:
        if row["failure"]:
            kinds.setdefault((row["varied"], row["value"], re.sub(r"[0-9.]+", "", row["failure"])), []).append(row)
    return [
        f"- {varied} {value:g}, {len(same)} scan{'s' * (len(same) > 1)}: {same[0]['failure']}"
        for (varied, value, _), same in kinds.items()
    ]


def _cell(of):
    split = of["against_base"]
    alarms = "none" if not math.isfinite(of["alarms"]) else f"{100 * of['alarms']:.0f} %"
    return f"{told(of)}; {split['lost']}, {split['gained']} of {split['objects']}; {alarms}"


def draw_sizes(found, study, path):
    """Draw the sizes found with 50 and 90 % and their intervals: a panel for what is varied."""
    mpl.use("agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 8.5), layout="constrained")
    panels = figure.subplots(2, len(found), sharey=True, squeeze=False)
    for column, (varied, by_value) in zip(panels.T, found.items(), strict=True):
        for axes, name, says in zip(column, ("half", "ninety"), ("50 %", "90 %"), strict=True):
            for shift, (kind, (color, marker)) in zip((-0.22, 0.0, 0.22), DRAWN.items(), strict=True):
                sizes = [of[kind][name] for of in by_value.values()]
                _draw_sizes(axes, np.arange(len(sizes)) + shift, sizes, color, marker, CALLED[kind])
            axes.set(yscale="log", title=f"found with {says}", xlim=(-0.6, len(by_value) - 0.4), ylim=(50, LARGEST_NM))
            axes.set_yticks([60, 100, 150, 200, 300, 400, 600], ["60", "100", "150", "200", "300", "400", "600"])
            axes.minorticks_off()
            axes.grid(axis="y", linewidth=0.4, alpha=0.6)
            axes.set_xticks(range(len(by_value)), by_value, rotation=25 if len(by_value) > 5 else 0, fontsize=8)
        column[-1].set_xlabel(study["varied"][varied]["says"].replace(", ", ",\n", 1), fontsize=9)
    for axes in panels[:, 0]:
        axes.set_ylabel("size (nm), 95 % interval")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    n = next(of for by_value in found.values() for of in by_value.values())
    labels = [f"{label} (n = {n[kind]['half']['n']})" for label, kind in zip(labels, DRAWN, strict=True)]
    figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _draw_sizes(axes, places, sizes, color, marker, label):
    """Draw sizes of one kind; an interval that the largest object does not bound ends in an arrow."""
    for place, size in zip(places, sizes, strict=True):
        low, high = max(size["low_nm"], 1.0), size["high_nm"]
        axes.vlines(place, low, min(high, LARGEST_NM), color=color, linewidth=4, alpha=0.3)
        if not math.isfinite(high):
            axes.plot(place, LARGEST_NM * 0.97, marker="^", color=color, alpha=0.5, markersize=6)
    values = [size["value_nm"] for size in sizes]
    axes.plot(places, values, linestyle="none", marker=marker, color=color, markersize=5, label=label)


def draw_curves(found, study, path):
    """Draw the share found against size: a row for what is varied, a column for each kind, markers side by side."""
    mpl.use("agg")
    from matplotlib.figure import Figure

    edges = np.array(study["design"]["classes_nm"])
    middles = np.sqrt(edges[1:] * edges[:-1])
    figure = Figure(figsize=(13, 3.2 * len(found)), layout="constrained")
    for line, (varied, by_value) in zip(
        figure.subplots(len(found), 3, sharex=True, sharey=True), found.items(), strict=True
    ):
        colors = mpl.colormaps["viridis"](np.linspace(0, 0.9, len(by_value)))
        for axes, kind in zip(line, CALLED, strict=True):
            # all curves would lie on each other: each has a place of its own within the class
            factors = np.geomspace(0.9, 1.11, len(by_value)) if len(by_value) > 1 else [1.0]
            for factor, color, (value, of) in zip(factors, colors, by_value.items(), strict=True):
                _draw_curve(axes, middles * factor, of[kind], color, value)
            n = next(iter(by_value.values()))[kind]["curve"]["n"]
            for middle, count in zip(middles, n, strict=True):
                axes.text(middle, -0.16, f"{count:.0f}", ha="center", fontsize=7)
            axes.set(xscale="log", title=f"{CALLED[kind]}: {study['varied'][varied]['short']}", ylim=(-0.2, 1.08))
            for share in (0.5, 0.9):
                axes.axhline(share, color="0.6", linewidth=0.8)
        line[0].set_ylabel("share found, 95 % interval")
        line[-1].legend(title=study["varied"][varied]["short"], fontsize=7, title_fontsize=7, loc="upper left")
    for axes in figure.axes[-3:]:
        axes.set_xticks([50, 100, 200, 400], ["50", "100", "200", "400"])
        axes.minorticks_off()
        axes.set_xlabel("size (nm)")
    figure.suptitle(
        "dotted: share of empty places taken for an object; below: number of objects in a class", fontsize=9
    )
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _draw_curve(axes, places, of, color, label):
    """Draw one curve with its intervals, and the false alarms as a dotted line."""
    share, low, high, n = (np.array(of["curve"][name], float) for name in ("share", "low", "high", "n"))
    known = n > 0
    share, low, high = share[known], low[known], high[known]
    errors = [np.maximum(share - low, 0), np.maximum(high - share, 0)]
    axes.errorbar(places[known], share, errors, fmt="o-", color=color, markersize=3, linewidth=0.9, label=label)
    if math.isfinite(of["alarms"]):
        axes.axhline(of["alarms"], color=color, linewidth=1, linestyle=":")
