"""What the page of the seven states says: its answer, tables and picture, from what ``run.py`` found."""

import math
from collections import Counter

import matplotlib as mpl
import numpy as np
from ledger import points, table, told

from npsi_twin.comparison.published import zhao2018
from npsi_twin.comparison.targets import LIFE_TOLERANCE, targets

#: Who reads a state: the scene itself, and one measurement of true labels, of those that the paper's way recovers, and
#: of those that the best fixed threshold recovers.
READINGS = ("scene", "truth", "recovered", "best")
#: How the pages name what was recovered.
RECOVERED = {"recovered": "recovered", "best": "at the best threshold"}
#: What is told where no verdict holds in more than half of all series.
NONE = "without a majority"


def answer(result, rows, study):
    """Return the answer, point by point."""
    found, count = result["targets"]["field"], result["series"]
    paper = list(zhao2018().targets)
    told_of = {
        reading: _counted([found[name]["verdicts"][reading] for name in paper]) for reading in ("truth", "recovered")
    }
    text = [
        f"Of the paper's {len(paper)} targets the true labels find {told_of['truth']}, the recovered ones "
        f"{told_of['recovered']}{f' (in more than half of {count} series of specimens)' if count > 1 else ''}."
    ]
    flipped = _flipped(found, "recovered", count)
    partly = [name for name, of in found.items() if of["changed"]["recovered"] and name not in flipped]
    told_flips = "; ".join(f"{name} ({', '.join(found[name]['changed']['recovered'])})" for name in flipped)
    text.append(f"Microscope, reconstruction and threshold change the verdict of {told_flips or 'none'}.")
    if partly:
        text.append(f"They change it in half of the series or fewer for {', '.join(partly)}.")
    text.append(
        f"At the best threshold that a scan could have been given, which only the truth tells, the verdict changes for "
        f"{', '.join(_flipped(found, 'best', count)) or 'none'}: so much is the microscope's and the reconstruction's "
        "part, the rest the threshold's."
    )
    also = set(_flipped(result["targets"]["covered"], "recovered", count)) ^ set(flipped)
    if also:
        text.append(f"Where thickness leaves out bare columns, the first list differs by {', '.join(sorted(also))}.")
    blind = [name for name, of in found.items() if _most(of["verdicts"]["scene"]) != _most(of["verdicts"]["truth"])]
    if blind:
        text.append(f"Even true labels do not say what the scene says of {', '.join(blind)}.")
    return points(study["quick"], [*text, *_largest_biases(result, study), _agreement(rows, study)])


def _flipped(found, reading, count):
    """Name the targets whose verdict changes in more than half of all series."""
    return [name for name, of in found.items() if 2 * sum(of["changed"][reading].values()) > count]


def _largest_biases(result, study):
    """Yield what is most wrong, and how wrong thickness and attenuation are, way by way."""
    for way, lead in {"recovered": "By the paper's way", "best": "At the best threshold"}.items():
        of_way = result["bias"][way]
        sizes = [(abs(bias), bias, name, state) for name, of in of_way.items() for state, bias in of.items()]
        known = [entry for entry in sizes if math.isfinite(entry[0])]
        if known:
            _, bias, name, state = max(known)
            yield (
                f"{lead} the largest bias is that of {study['observable'][name]} at {state}, {_percent(bias)}; the "
                f"thickness is off by {_range(of_way['thickness_field_um'])}, the normalised attenuation of the layer "
                f"by {_range(of_way['normalised_attenuation'])}."
            )


def _most(verdicts):
    """Return the verdict of more than half of all series, or that there is none."""
    verdict, number = Counter(verdicts).most_common(1)[0]
    return verdict if 2 * number > sum(verdicts.values()) else NONE


def _counted(verdicts):
    of = Counter(map(_most, verdicts))
    return ", ".join(f"{of[name]} {name}" for name in ("met", "not met", "not decidable", NONE) if of[name])


def _range(biases):
    known = [bias for bias in biases.values() if math.isfinite(bias)]
    return f"{_percent(min(known))} to {_percent(max(known))}" if known else "what is not known"


def _agreement(rows, study):
    """Say how many values agree with the printed ones, as the truth is and as it was recovered."""
    verdicts = {
        reading: [row[key] for row in rows for name in study["quantity"] if (key := f"{reading} {name} verdict") in row]
        for reading in READINGS[1:]
    }
    counts = {reading: f"{of.count('agrees')} of {len(of)}" for reading, of in verdicts.items()}
    return (
        f"The value that the paper prints is met by {counts['truth']} values in the truth, by {counts['recovered']} as "
        f"recovered and by {counts['best']} at the best threshold."
    )


def parts_of(result, rows, study):
    """Return the README's tables."""
    quantities = []
    for name, of in study["quantity"].items():
        quantities += ["", f"**{of['says']}**", "", *_of_quantity(name, of, rows)]
    states = list(dict.fromkeys(row["state"] for row in rows if not row["failure"]))
    bias = []
    for way, of_way in result["bias"].items():
        lines = [(says, *map(_percent, of_way[name].values())) for name, says in study["observable"].items()]
        bias += ["", f"**{RECOVERED[way].capitalize()}**", "", *table(("observable", *states), lines)]
    refused = [
        f"- {row['state']}, specimen {row['specimen']:.0f}, {what}: {row[key]}"
        for row in rows
        for key, what in {"failure": "all of it", **{f"{way} refused": says for way, says in RECOVERED.items()}}.items()
        if row.get(key)
    ]
    return {
        "answer": answer(result, rows, study),
        "targets": _target_table(result),
        "quantities": quantities,
        "bias": bias,
        "needles": _needles(result, rows),
        "refused": refused or ["None."],
    }


def _percent(share):
    return f"{100 * share:+.0f} %" if math.isfinite(share) else "none"


def _target_table(result):
    found, count, paper = result["targets"]["field"], result["series"], zhao2018().targets
    lines = [
        (
            name,
            target.expression,
            target.kind if name in paper else f"{target.kind}, beside",
            _published(target),
            *(_judgement(found[name], reading, count) for reading in READINGS),
            *(f"{sum(found[name]['changed'][way].values())} of {count}" for way in RECOVERED),
        )
        for name, target in targets().items()
    ]
    head = ("target", "demands", "kind", "published", "scene", "true labels", *RECOVERED.values(),
            *(f"changed: {way}" for way in RECOVERED.values()))  # fmt: skip
    return table(head, lines)


def _published(target):
    if target.kind == "ordering":
        return "order only"
    if target.kind == "lower_bound":
        return f"≥ {target.value:g}"
    if target.low is None:
        return f"{target.value:g} ± {100 * LIFE_TOLERANCE:.0f} %"
    return f"{target.value:g} ({target.low:g} to {target.high:g})"


def _judgement(found, reading, count):
    verdicts = found["verdicts"][reading]
    verdict = _most(verdicts)
    if verdict not in verdicts or verdicts[verdict] < count:
        verdict = f"met in {verdicts.get('met', 0)} of {count}"
        if undecided := verdicts.get("not decidable", 0):
            verdict += f", not decidable in {undecided}"
    return verdict if verdict == "not decidable" else f"{verdict}: {found['ratios'][reading]}"


def _of_quantity(name, of, rows):
    """Set truth, recovered and published of one quantity side by side, a line for each state."""
    lines = []
    for state in dict.fromkeys(row["state"] for row in rows):
        here = [row for row in rows if row["state"] == state]
        printed = next((_printed(name, row) for row in here if f"{name} printed" in row), "")
        means = [told([row.get(f"{reading} {name}", math.nan) for row in here]) for reading in READINGS[1:]]
        lines.append((state, *means, printed, *(_against(name, reading, here) for reading in READINGS[1:])))
    unit, ways = f" ({of['unit']})" if of["unit"] else "", ("truth", *RECOVERED.values())
    head = ("state", *(f"{way}{unit}" for way in (*ways, "published")), *(f"E_n: {way}" for way in ways))
    return table(head, lines)


def _printed(name, row):
    value, relation = row[f"{name} printed"], row[f"{name} relation"]
    if relation != "eq":
        return f"{'>' if relation == 'gt' else 'up to'} {value:.3g}"
    return f"{value:.3g} ± {row[f'{name} uncertainty']:.2g}"


def _against(name, reading, rows):
    """Say how a reading stands to the printed value, specimen by specimen; a bound has no E_n."""
    said = []
    for row in rows:
        if verdict := row.get(f"{reading} {name} verdict"):
            e_n = row[f"{reading} {name} e_n"]
            said.append(f"{e_n:+.1f} {verdict}" if math.isfinite(e_n) else verdict)
    return ", ".join(said)


def _needles(result, rows):
    """Say what every state was cut from, how much of it the needle cuts, and how it was segmented."""
    lines = []
    for state, of in result["needles"].items():
        here = [row for row in rows if row["state"] == state]
        names = [f"{way} {what}" for what in ("threshold", "dice") for way in RECOVERED]
        lines.append(
            (
                state,
                f"{of['width_um']:g}",
                f"{of['columns']} x {of['rows']} x {of['views']}",
                told([100 * row.get("cut", math.nan) for row in here], 2),
                *(told([row.get(name, math.nan) for row in here], 2) for name in names),
            )
        )
    head = ("state", "needle (um)", "columns x rows x views", "columns cut by its side (%)")
    ways = (f"{what}, {way}" for what in ("threshold (1/um)", "Dice") for way in ("the paper's way", "best"))
    return table((*head, *ways), lines)


def draw(rows, study, path):
    """Draw thickness and normalised attenuation of every state: truth, recovered and published."""
    mpl.use("agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 5.2), layout="constrained")
    states = list(dict.fromkeys(row["state"] for row in rows))
    for axes, name in zip(figure.subplots(1, 2), study["design"]["drawn"], strict=True):
        of = study["quantity"][name]
        for reading, offset, marker, colour in (
            ("truth", -0.2, "o", "tab:blue"),
            ("recovered", 0.2, "s", "tab:orange"),
            ("best", 0.3, "^", "tab:green"),
        ):
            key = f"{reading} {name}"
            known = [(states.index(row["state"]) + offset, row[key]) for row in rows if key in row]
            axes.plot(*np.transpose(known), marker, color=colour, label=RECOVERED.get(reading, reading))
        _draw_published(axes, name, rows, states)
        axes.set_xticks(range(len(states)), states, rotation=35, ha="right")
        axes.set(title=of["says"], ylabel=of["unit"] or "foil 1, air 0", xlim=(-0.5, len(states) - 0.5))
        axes.axhline(0, color="0.6", linewidth=1)
        axes.grid(axis="y", color="0.9")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.suptitle("Each mark is one specimen; published: value and expanded uncertainty, or a bound")
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _draw_published(axes, name, rows, states):
    """Draw what the paper prints: a bar for a value, an arrow away from a bound."""
    printed = {row["state"]: row for row in rows if f"{name} printed" in row}
    label = "published"
    for state, row in printed.items():
        at, value, relation = states.index(state), row[f"{name} printed"], row[f"{name} relation"]
        if relation == "eq":
            axes.errorbar(at, value, row[f"{name} uncertainty"], fmt="D", color="black", capsize=4, label=label)
        else:
            up = relation == "gt"
            axes.errorbar(
                at, value, 0.08 * value, lolims=up, uplims=not up, fmt="_", markersize=14, color="black", label=label
            )
        label = None
