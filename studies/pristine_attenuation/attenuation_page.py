"""Put what was found into words, tables and a picture: every number in README.md is rendered and never typed."""

import json
import math
import textwrap

import matplotlib as mpl
import numpy as np
from ledger import points, table

from npsi_twin.materials.compounds import MATERIALS
from npsi_twin.specification import Specification

#: Distances from the foil at which profiles are kept, um.
DISTANCES = np.arange(-0.5, 3.0, 0.1)
#: Multiples of the spread between specimens beyond which one scan is called enough.
CLEAR = 3.0
#: How a cause and its baseline are drawn, and the colour of what was published.
WITHOUT = {"color": "black", "marker": "o", "markerfacecolor": "white"}
WITH = {"color": "#d1495b", "marker": "o"}
PUBLISHED = "#3f8efc"


def _named(result, cause):
    return result["causes"][cause]["called"]


def answer(result, study):
    """Return the answer, point by point."""
    causes, readings = result["causes"], study["reading"]
    plain = causes["bismuth"]
    text = []
    for way in readings:
        said = f"Read as {readings[way]}, the electrode as published gives {mean_and_sd_of(plain, way, 'off')}"
        for goal, called in (("reaches_value", "0.20 or more"), ("reaches_digit", "what rounds to 0.2")):
            if plain[goal][way] == "off":
                said += f"; that is {called} without any cause"
                break
            reaching = [f"{of['called']} ({of[goal][way]})" for of in causes.values() if of[goal][way]]
            said += f"; {called} is reached by {', '.join(reaching) or 'no cause'}"
        text.append(f"{said}.")
    text.append("In brackets stands the first level that reaches it.")
    text.append(_told_solid(result, study))
    text += _told_signatures(result, study)
    text += _told_second(result, study)
    return points(study["quick"], text)


def _told_solid(result, study):
    """Say how much solid silicon the layers hold, and how much would read as published."""
    shares = [share for of in result["causes"].values() for share in of["solid"].values()]
    energy = Specification().microscope.energy_kev
    silicon, copper = (MATERIALS[name].attenuation_per_um(energy) for name in ("silicon", "copper"))
    needed = study["design"]["published"] * copper / silicon
    packing = result["packing"]
    return (
        f"Solid silicon fills {100 * min(shares):.0f} % of the layer as published and {100 * max(shares):.0f} % of the "
        f"richest that was played; the {100 * needed:.0f} % that would read {study['design']['published']:.2f} need "
        f"particles of {100 * (1 - needed / packing):.0f} % porosity at a packing of {packing:g}. As a mean over the "
        "layer they are out of reach; inside single particles or above a threshold they are not."
    )


def _told_signatures(result, study):
    """Say what each cause moves most, and what copper's own attenuation is worth while the energy is not known."""
    if not any(spread > 0 for spread in result["spread_energy_known"].values()):
        return []
    clearest = [
        f"{of['called']}: {study['signature'][name]} ({_times(of['shift'][name], result['spread'][name])})"
        for cause, of in result["causes"].items()
        if cause != "together" and (name := _clearest(of["shift"], result["spread"]))
    ]
    alike = [
        f"{_named(result, one)} and {_named(result, other)} ({times:.1f} spreads at most)"
        for one, other, _, times in result["apart"]
        if times < CLEAR
    ]
    unknown, (low, high) = study["unknown"]["signature"], study["unknown"]["energies_kev"]
    ends = [MATERIALS["copper"].attenuation_per_um(energy) for energy in (low, high)]
    stray = result["causes"]["stray"]["shift"][unknown]
    return [
        "The signature that each cause moves most, in spreads between specimens: " + "; ".join(clearest) + ".",
        f"One scan would not tell apart: {_listed(alike)}.",
        f"{study['signature'][unknown].capitalize()} would show stray light by "
        f"{_times(stray, result['spread_energy_known'][unknown])} spreads if the energy were known. The paper says "
        f"{low:g} to {high:g} keV, between which copper changes by {100 * (ends[0] / ends[1] - 1):.0f} %; with that in "
        f"the spread it is {_times(stray, result['spread'][unknown])}.",
    ]


def _told_second(result, study):
    """Say which cause, in which reading, gives both published numbers, and which only their ratio."""
    if not result["second"]:
        return []
    second, reading = study["second"], study["reading"]
    hits = {"both numbers": [], "their ratio": []}
    for cause, of in result["second"].items():
        for level, ways in of.items():
            name = "no cause" if level == "off" else f"{_named(result, cause)} ({level})"
            for way, (before, after) in ways.items():
                said = f"{name}, read as {reading[way]}: {before:.3f} and {after:.3f}"
                both = _within(before, study["design"]["admitted"]) and _within(after, second["admitted"])
                if both:
                    hits["both numbers"].append(said)
                if _within(after / before, second["digit"]):
                    hits["their ratio"].append(f"{name}, {reading[way]}: {after / before:.2f}")
    specimens = study["second"]["specimens"]
    text = [
        f"After the second lithiation {second['published']} is published. What rounds to both numbers is reached by "
        f"{_listed(hits['both numbers'])} (of {specimens} specimen{'s' * (specimens > 1)} with either; the "
        f"spread between specimens is that above). The ratio of {' to '.join(f'{end:g}' for end in second['digit'])} "
        f"that rounding leaves is reached by {_listed(hits['their ratio'])}."
    ]
    return [*text, _told_mixing(result, study)]


def _within(value, ends):
    return ends[0] <= value < ends[1]


def _listed(names):
    return "; ".join(dict.fromkeys(names)) or "nothing"


def _told_mixing(result, study):
    """Say what each cause does to ratio and difference: what multiplies keeps the one, what adds keeps the other."""
    parts = []
    for cause, of in result["second"].items():
        way = max(study["reading"], key=lambda way, of=of: abs(list(of.values())[-1][way][0] - of["off"][way][0]))
        (g0, g2), (before, after) = of["off"][way], list(of.values())[-1][way]
        parts.append(
            f"{_named(result, cause)} (read as {study['reading'][way]}) turns a ratio of {g2 / g0:.2f} into "
            f"{after / before:.2f} and a difference of {g0 - g2:.3f} into {before - after:.3f}"
        )
    return "Both states together, where each cause shows most: " + "; ".join(parts) + "."


def mean_and_sd_of(of, reading, level):
    """Write a reading of a cause at a level."""
    mean, sd, _ = of["readings"][reading][level]
    if not math.isfinite(mean):
        return "none"
    return f"{mean:.3f}" + (f" ± {sd:.3f}" if math.isfinite(sd) else "")


def _clearest(shift, spread):
    """Return the signature that is moved by most spreads, empty where no spread is known."""
    times = {name: abs(shift[name]) / spread[name] for name in shift if spread[name] > 0 and math.isfinite(shift[name])}
    return max(times, key=times.get, default="")


def _times(shift, spread):
    return f"{shift / spread:+.1f}" if spread > 0 else "not known"


def parts_of(result, study):
    """Return the README's tables."""
    causes, ways = result["causes"], study["reading"]
    rows = [
        (of["called"] if level == "off" else "", level, f"{100 * of['solid'][level]:.0f} %",
         *(mean_and_sd_of(of, way, level) for way in ("truth", *ways)))
        for of in causes.values()
        for level in of["readings"]["local"]
    ]  # fmt: skip
    moved = [
        (says, *(_moved(of["shift"][name], result["spread"][name]) for of in causes.values()))
        for name, says in study["signature"].items()
    ]
    names = [of["called"] for of in causes.values()]
    ages = [
        (_named(result, cause) if level == "off" else "", level, *(_told_states(*of_level[way]) for way in ways))
        for cause, of in result["second"].items()
        for level, of_level in of.items()
    ]
    return {
        "answer": answer(result, study),
        "causes": table(("cause", "what is varied", "admissible because"), _causes(study)),
        "readings": table(("cause", "level", "solid silicon", "truth, local foil", *ways.values()), rows),
        "signatures": table(("signature", *names), moved),
        "second": table(("cause", "level", *ways.values()), ages) if ages else ["Not played."],
        "apart": table(("cause", "other cause", "signature", "spreads apart"), [
            (_named(result, one), _named(result, other), study["signature"].get(name, "none known"),
             f"{times:.1f}" if math.isfinite(times) else "one specimen: not known")
            for one, other, name, times in result["apart"]
        ]),
        "refused": sorted({f"- {of['called']}, {reason}" for of in causes.values() for reason in of["failures"]})
        or ["None."],
    }  # fmt: skip


def _told_states(before, after):
    """Write a reading in both states, their ratio and difference."""
    return f"{before:.3f}, {after:.3f}: {after / before:.2f}, {before - after:+.3f}"


def _causes(study):
    return [(of["called"], of["says"], of["source"]) for of in study["cause"].values()]


def _moved(shift, spread):
    clear = spread > 0 and abs(shift) > CLEAR * spread
    text = f"{shift:+.3g}" + (f" ({shift / spread:+.1f})" if spread > 0 else "")
    return f"**{text}**" if clear else text


def draw(result, found, study, path):
    """Draw every cause beside its own specimens without it: a panel a reading, then a panel a cause with profiles."""
    mpl.use("agg")
    from matplotlib.figure import Figure

    causes = result["causes"]
    columns = -(-len(causes) // 2)
    figure = Figure(figsize=(14, 10.5), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1, 1.05))
    panels = above.subplots(1, len(study["reading"]), sharey=True)
    for axes, (way, says) in zip(panels, study["reading"].items(), strict=True):
        _draw_reading(axes, causes, way, study["design"])
        axes.set_title(textwrap.fill(says, 26), fontsize=9)
    names = [f"{of['called']}\n{textwrap.fill(list(of['solid'])[-1], 24)}" for of in causes.values()]
    panels[0].set_yticks(range(len(causes)), names)
    panels[0].tick_params(axis="y", labelsize=8)
    panels[0].invert_yaxis()
    handles, labels = panels[0].get_legend_handles_labels()
    above.legend(handles, labels, loc="outside upper center", ncols=3, fontsize=9, frameon=False)
    above.supxlabel("normalised attenuation of the layer, mean and standard deviation between specimens", fontsize=9)
    grid = below.subplots(2, columns, sharex=True, sharey=True).ravel()
    for axes, (cause, of) in zip(grid, causes.items(), strict=False):
        levels = list(of["solid"])
        for level, style in ((levels[0], WITHOUT), (levels[-1], WITH)):
            profiles = [json.loads(row["profile"]) for row in found[cause, level] if not row["failure"]]
            if profiles:
                axes.plot(DISTANCES, np.mean(profiles, axis=0), color=style["color"], linewidth=1.6)
        axes.axhline(study["design"]["published"], color=PUBLISHED, linewidth=1)
        axes.set(title=of["called"], xlim=(0, 2.9), ylim=(-0.05, 0.5))
        axes.title.set_size(9)
    for axes in grid[len(causes) :]:
        axes.set_axis_off()
    below.supxlabel("distance from the local foil (um)", fontsize=9)
    below.supylabel("normalised attenuation", fontsize=9)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _draw_reading(axes, causes, way, design):
    """Draw one reading of all causes, without them and at their strongest level."""
    axes.axvspan(*design["admitted"], color=PUBLISHED, alpha=0.18, linewidth=0, label="rounds to the published 0.2")
    for style, place, shift in ((WITHOUT, 0, -0.14), (WITH, -1, 0.14)):
        told = [list(of["readings"][way].values())[place][:2] for of in causes.values()]
        means, errors = [mean for mean, _ in told], [0.0 if math.isnan(sd) else sd for _, sd in told]
        label = "same specimens without the cause" if place == 0 else "with the cause, strongest level"
        axes.errorbar(
            means, np.arange(len(causes)) + shift, xerr=errors, linestyle="none", markersize=5, label=label, **style
        )
    axes.grid(axis="y", linewidth=0.4, alpha=0.6)
    axes.set_xlim(0.05, 0.32)
