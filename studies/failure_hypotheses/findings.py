"""What the played states say: how likely, how often and how nearly each hypothesis meets each target."""

import math
from collections import Counter, defaultdict
from dataclasses import fields
from itertools import combinations

import numpy as np

from npsi_twin.comparison.targets import StateObservables, judge, targets
from npsi_twin.cycling.ageing import hypothesis
from npsi_twin.cycling.protocol import CONDITIONS
from npsi_twin.seeds import Seeds

THICKNESSES = ("field", "covered")
OBSERVABLES = [field.name for field in fields(StateObservables)]
#: What is compared between hypotheses as a ratio to the same series' pristine cell; the rest is compared as it is.
RELATIVE = {
    "thickness_field_um", "thickness_sd_um", "normalised_attenuation", "near_foil_attenuation", "inventory_um",
    "agglomerate_um",
}  # fmt: skip
#: Not compared: the first doubles another, the second belongs to no electrode.
LEFT_OUT = {"thickness_covered_um", "recorded_cycles"}


def find(rows, study):
    """Turn rows of ``specimens.csv`` into what the page says."""
    names = study["design"]["hypotheses"]
    speaking = [name for name in names if hypothesis(name).mechanisms]
    return {
        "hypotheses": {name: _of_hypothesis(rows, name, study) for name in names},
        "separation": separation(rows, speaking),
    }


def _of_hypothesis(rows, name, study):
    (seen, failed), (seen_samples, failed_samples) = tables(rows, "default", name), tables(rows, "sample", name)
    seen_followed, failed_followed = tables(rows, "followed", name)
    mechanisms = {mechanism.name for mechanism in hypothesis(name).mechanisms}
    unmade = (*failed.values(), *failed_followed.values(), *failed_samples.values())
    reasons = Counter(reason.split(". ")[0] for some in unmade for reason in some.values())
    return {
        "default": {kind: at_default(seen, study, kind) for kind in THICKNESSES},
        "followed": {kind: over_series(seen_followed, failed_followed, kind) for kind in THICKNESSES},
        "ranges": {kind: over_series(seen_samples, failed_samples, kind) for kind in THICKNESSES},
        "seeds": study["design"]["seeds"],
        "failed_states": sum(len(some) for some in (*failed.values(), *failed_followed.values())),
        "samples": study["design"]["samples"],
        "not_admissible": len(failed_samples),
        "reasons": dict(sorted(reasons.items())),
        "tuned": {
            target: [path for path in paths if path.split(".")[0] in mechanisms]
            for target, paths in study["calibrated"].items()
        },
    }


def tables(rows, kind, name):
    """Return observables and failures by index and condition; silence of a hypothesis is no failure."""
    seen, failures = defaultdict(dict), defaultdict(dict)
    for row in rows:
        if (row["kind"], row["hypothesis"]) != (kind, name) or row["failure"] == "not described":
            continue
        if row["failure"]:
            failures[int(row["index"])][row["condition"]] = row["failure"]
        else:
            values = {observable: float(row[observable]) for observable in OBSERVABLES}
            seen[int(row["index"])][row["condition"]] = StateObservables(**values)
    return seen, failures


def at_default(seen, study, thickness):
    """Return each target's probability over series that are put together at random from independent cells."""
    rng, count = Seeds(study["design"]["root_seed"]).stream("combinations"), study["design"]["combinations"]
    cells = {name: [table[name] for table in seen.values() if name in table] for name in CONDITIONS}
    verdicts, ratios = defaultdict(Counter), defaultdict(list)
    for _ in range(count):
        series = {name: some[int(rng.integers(len(some)))] for name, some in cells.items() if some}
        for target, result in judge(series, thickness=thickness).items():
            verdicts[target][result.verdict] += 1
            ratios[target].append(result.ratios)
    return {
        target: {
            "probability": verdicts[target]["met"] / count,
            "undecided": verdicts[target]["not decidable"] / count,
            "median": "; ".join(_median(clause) for clause in np.array(ratios[target], float).T),
        }
        for target in targets()
    }


def _median(values):
    known = values[~np.isnan(values)]
    return f"{np.median(known):.3g}" if known.size else "?"


def over_series(seen, failures, thickness):
    """Return how many whole series meet each target, their median ratios, and the best that one of them reached."""
    judged = [judge(table, thickness=thickness) for index, table in seen.items() if index not in failures]
    found = {}
    for target in targets():
        results = [results[target] for results in judged]
        best = max((r for r in results if not math.isnan(r.margin)), key=lambda r: r.margin, default=None)
        verdicts = Counter(result.verdict for result in results)
        found[target] = {
            "met": verdicts["met"],
            "undecided": verdicts["not decidable"],
            "admissible": len(results),
            "median": "; ".join(_median(clause) for clause in np.array([r.ratios for r in results], float).T),
            "best": best.text if best else "?",
        }
    return found


def separation(rows, names):
    """Return the three observables that tell each two hypotheses apart best, by Cliff's delta between their samples."""
    values, found = {name: _compared(rows, name) for name in names}, []
    for one, other in combinations(names, 2):
        pair = []
        for label in values[one]:
            a, b = (np.array(values[name].get(label, []), float) for name in (one, other))
            a, b = a[~np.isnan(a)], b[~np.isnan(b)]
            if min(a.size, b.size) > 1:
                delta = float(((a[:, None] > b).astype(float) - (a[:, None] < b)).mean())
                medians = f"{np.median(a):.3g} / {np.median(b):.3g}"
                pair.append(
                    {
                        "hypotheses": f"{one} / {other}",
                        "observable": label,
                        "delta": round(delta, 2),
                        "medians": medians,
                        "n": f"{a.size} / {b.size}",
                    }
                )
        found += sorted(pair, key=lambda entry: (-abs(entry["delta"]), entry["observable"]))[:3]
    return found


def _compared(rows, name):
    seen, failures = tables(rows, "sample", name)
    values = defaultdict(list)
    for index, table in seen.items():
        if index in failures:
            continue
        for condition, state in table.items():
            for observable in OBSERVABLES:
                if condition == "pristine" or observable in LEFT_OUT:
                    continue
                value = getattr(state, observable)
                if observable == "life_cycles":
                    value = min(value, state.recorded_cycles)
                elif observable in RELATIVE:
                    value /= getattr(table["pristine"], observable)
                values[f"{observable} {condition}"].append(value)
    return values
