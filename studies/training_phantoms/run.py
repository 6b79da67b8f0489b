"""Train random forests on phantoms, and hold them against the paper's threshold on scans that they never saw.

``python run.py`` goes on where an earlier run stopped; the phantoms go into ``runs/training_phantoms``. ``--quick``
makes a few small phantoms.
"""

import json
import math
import shutil
import sys
import tomllib
from functools import lru_cache
from pathlib import Path

import matplotlib as mpl
import numpy as np
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from ledger import REFUSALS, arguments, key_of, mean_and_sd, play_rows, points, render, table, told

from npsi_twin.comparison.segmentation_accuracy import score
from npsi_twin.execution import file_sha256
from npsi_twin.morphology.forest_training import ForestRecipe, train_forest
from npsi_twin.morphology.measure import MeasurementRecipe, measure
from npsi_twin.morphology.segmentation import SegmentationRecipe, segment
from npsi_twin.phantoms.data_set import make_phantoms
from npsi_twin.phantoms.draws import PhantomRecipe, phantom_base
from npsi_twin.phantoms.ranges import load_ranges, parse_ranges
from npsi_twin.seeds import Seeds
from npsi_twin.storage.volumes import read_volume
from npsi_twin.variations import with_values

HERE = Path(__file__).resolve().parent
#: Geometry only, and nothing that the study does not ask for.
MEASUREMENT = MeasurementRecipe(bodies=False, correlation_lag_nm=0.0)
SMALL = {"microscope.detector.rows": 24, "microscope.stage.views": 181, "electrode.specimen.length_um": 3.0}


def make_sets(study, given):
    """Make what is missing of every set; return name -> folders of its cases, in order."""
    made, root = {}, Path("runs") / ("training_phantoms_quick" if given.quick else "training_phantoms")
    if given.fresh:
        shutil.rmtree(root, ignore_errors=True)
    for name, of in study["set"].items():
        ranges, values = load_ranges(None), dict(of["base"])
        if given.quick:
            values |= SMALL
        changed = of.get("vary", {})
        if changed or given.quick:
            ranges = parse_ranges(changed_text(ranges, changed, fixed=SMALL if given.quick else {}))
        recipe = PhantomRecipe(count=of["cases"], layout="hdf5", train_fraction=1.0, validation_fraction=0.0)
        seeds = Seeds(study["design"]["root_seed"] + of["seed"])
        base = with_values(phantom_base(), values)
        print(f"set {name}: {of['cases']} phantoms", flush=True)
        make_phantoms(root / name, recipe, ranges, base, seeds=seeds, resume=(root / name).exists())
        made[name] = sorted((root / name / "cases").iterdir())
    return made


def changed_text(ranges, changed, fixed):
    """Write ranges as TOML again, with some changed and some left out, because their field is fixed."""
    entries = {}
    for entry in ranges.ranges:
        if entry.name in fixed:
            continue
        if entry.choices:
            entries[entry.name] = {"choices": list(entry.choices)}
        else:
            entries[entry.name] = {"low": entry.low, "high": entry.high} | ({"scale": "log"} if entry.log else {})
    entries |= {name: entry for name, entry in changed.items() if name not in fixed}
    return "\n".join(f"{json.dumps(name)} = {_inline(entry)}" for name, entry in entries.items())


def _inline(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {_inline(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_inline(inner) for inner in value) + "]"
    return json.dumps(value)


def pair(case):
    """Return image and labels of a phantom."""
    return read_volume(case / "case.h5", "attenuation_per_um"), read_volume(case / "case.h5", "phase")


def shows_layer(case):
    """Say whether a phantom's layer stands out of its noise without any smoothing, as training needs."""
    try:
        segment(pair(case)[0], SegmentationRecipe(smoothing_sigma_voxels=0.0))
    except REFUSALS:
        return False
    return True


@lru_cache(maxsize=8)
def forest_of(cases, root_seed):
    """Train a forest on phantoms."""
    images, labels = zip(*(pair(case) for case in cases), strict=True)
    print(f"training on {len(cases)}", flush=True)
    return train_forest(images, labels, seeds=Seeds(root_seed))


def look(case, forests, rivals, root_seed):
    """Return a row for every method on a scan that no forest has seen."""
    image, labels = pair(case)
    record = json.loads((case / "case.json").read_text(encoding="utf-8"))
    facts = {"state": record["drawn"]["ageing"]["condition"], "refused": len(record["refused"])}
    facts |= {name.rpartition(".")[2]: value for name, value in record["drawn"].items() if name in DRAWN}
    true = measure(labels, None, MEASUREMENT)
    methods = {name: (SegmentationRecipe(**changes), None) for name, changes in rivals.items()}
    methods |= {name: (None, forest_of(cases, root_seed)) for name, cases in forests.items()}
    rows = []
    for name, (recipe, forest) in methods.items():
        row = facts | {"method": name}
        try:
            found = segment(image, recipe, method=forest).labels
        except REFUSALS as error:
            rows.append(row | {"failure": f"{type(error).__name__}: {error}"})
            continue
        seen, accuracy = measure(found, None, MEASUREMENT), score(labels, found)
        row |= {
            "dice": accuracy.dice_silicon_layer,
            "precision": accuracy.precision_silicon_layer,
            "recall": accuracy.recall_silicon_layer,
        }
        for metric in ("pore_size_nm", "local_thickness_pore_nm", "porosity_layer"):
            row |= {f"{metric} true": true[metric].value, metric: seen[metric].value}
        rows.append(row)
    return rows


#: What is told of every scan beside its state.
DRAWN = ("microscope.detector.flat_electrons", "microscope.stage.views", "reconstruction.algorithm")


def gain_of(own, other, metric):
    """Return how much better one row is than another: Dice gained, or relative error spared; NaN where unknown."""
    if metric == "dice":
        return own.get("dice", math.nan) - other.get("dice", math.nan)
    return abs(_bias(other, metric)) - abs(_bias(own, metric))


def _bias(row, metric):
    true = row.get(f"{metric} true", math.nan)
    return (row.get(metric, math.nan) - true) / true


def find(rows, study):
    """Return the gain of the largest forest over every rival, and what every method scores."""
    methods = list(dict.fromkeys(row["method"] for row in rows if "method" in row))
    largest = methods[-1]
    by_set = {name: [row for row in rows if row["set"] == name] for name in dict.fromkeys(row["set"] for row in rows)}
    gains = {
        name: {
            metric: {
                rival: _interval(_paired(own, largest, rival, metric), study["design"]["confidence"])
                for rival in methods[:-1]
            }
            for metric in study["metric"]
        }
        for name, own in by_set.items()
    }
    return {"methods": methods, "largest": largest, "rows": by_set, "gains": gains}


def _paired(rows, method, rival, metric):
    of = {(row["case"], row["method"]): row for row in rows if "method" in row}
    cases = dict.fromkeys(case for case, _ in of)
    return [gain_of(of[case, method], of[case, rival], metric) for case in cases]


def _interval(gains, confidence):
    """Return mean gain, its interval by Student's t, and in how many scans there is a gain."""
    mean, sd, n = mean_and_sd(gains)
    half = stats.t.ppf((1 + confidence) / 2, n - 1) * sd / math.sqrt(n) if n > 1 else math.nan
    return {"mean": mean, "low": mean - half, "high": mean + half, "better": sum(g > 0 for g in gains), "scans": n}


def answer(result, study):
    """Return the answer, point by point."""
    text = []
    for name, of in result["gains"].items():
        parts = [_verdict(study["metric"][metric], by_rival["paper"]) for metric, by_rival in of.items()]
        text.append(f"On {study['set'][name]['says']}, the forest of {result['largest']} {'; '.join(parts)}.")
        text.append(_why(result["rows"][name], result["largest"]))
        dice = of["dice"]["gaussian-3d"]
        text.append(
            f"Against the paper's threshold after a 3-D Gaussian, which sees as much of the neighbourhood, its Dice "
            f"differs by {_with_interval(dice)}."
        )
    text.append(
        f"{result['drowned']} of {result['phantoms']} phantoms made for training were left out, because their layer "
        "does not stand out of the noise without smoothing."
    )
    return points(study["quick"], text)


def _verdict(says, gain):
    how = (
        "beats the paper's threshold"
        if gain["low"] > 0
        else "loses to it"
        if gain["high"] < 0
        else "is not told from it"
    )
    return f"{how} in {says} ({_with_interval(gain)}, better in {gain['better']} of {gain['scans']})"


def _with_interval(gain):
    if not math.isfinite(gain["mean"]):
        return "not measurable by both in any scan"
    if not math.isfinite(gain["low"]):
        return f"{gain['mean']:+.3f}, one scan"
    return f"{gain['mean']:+.3f}, {gain['low']:+.3f} to {gain['high']:+.3f}"


def _whole(row, name):
    """Return a setting that was drawn; a dash where it was not."""
    value = row.get(name, math.nan)
    return f"{value:.0f}" if math.isfinite(value) else "-"


def _why(rows, largest):
    """Say what either errs by: silicon invented, or silicon missed."""
    said = []
    for method in ("paper", largest):
        own = [row for row in rows if row.get("method") == method]
        precision, recall = (
            mean_and_sd([row.get(name, math.nan) for row in own])[0] for name in ("precision", "recall")
        )
        invented = "finds none"
        if math.isfinite(precision):
            invented = f"is wrong in {100 * (1 - precision):.0f} % of what it calls silicon"
        said.append(f"{method} {invented} and misses {100 * (1 - recall):.0f} %")
    return f"Of the layer's silicon, {' while '.join(said)}."


def parts_of(result, study):
    """Return the README's tables."""
    lines = {"answer": answer(result, study), "scores": [], "gains": [], "scans": []}
    for name, rows in result["rows"].items():
        says = study["set"][name]["says"]
        columns = {metric: f"{said}, error" if metric != "dice" else said for metric, said in study["metric"].items()}
        scores = [
            (method, *(told(_scores(rows, method, metric), 2, "" if metric == "dice" else "+") for metric in columns))
            for method in result["methods"]
        ]
        lines["scores"] += ["", f"**{name}**: {says}", "", *table(("method", *columns.values()), scores)]
        gains = [
            (rival, *(_with_interval(of[rival]) for of in result["gains"][name].values()))
            for rival in result["methods"][:-1]
        ]
        lines["gains"] += ["", f"**{name}**", "", *table(("over", *study["metric"].values()), gains)]
    for row in (row for rows in result["rows"].values() for row in rows if row.get("method") == "paper"):
        own = next(
            r for r in result["rows"][row["set"]] if r["case"] == row["case"] and r["method"] == result["largest"]
        )
        lines["scans"].append(
            (row["set"], row["case"].removeprefix("np-si_"), row["state"], _whole(row, "flat_electrons"),
             _whole(row, "views"), row.get("algorithm", ""), f"{row.get('dice', math.nan):.3f}",
             f"{own.get('dice', math.nan):.3f}")
        )  # fmt: skip
    head = ("set", "scan", "state", "electrons", "views", "algorithm", "Dice, paper", f"Dice, {result['largest']}")
    return lines | {"scans": table(head, lines["scans"])}


def _scores(rows, method, metric):
    own = [row for row in rows if row.get("method") == method]
    return [row.get("dice", math.nan) if metric == "dice" else _bias(row, metric) for row in own]


def draw(result, study, path):
    """Draw Dice and error of pore size of every scan, the largest forest's over the paper's, and the learning curve."""
    mpl.use("agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.2), layout="constrained")
    first, second, third = figure.subplots(1, 3)
    for name, rows in result["rows"].items():
        for axes, metric in ((first, "dice"), (second, "pore_size_nm")):
            sides = [_scores(rows, method, metric) for method in ("paper", result["largest"])]
            axes.plot(*sides, "o", label=name)
        forests = [method for method in result["methods"] if method.startswith("forest")]
        means = [mean_and_sd(_scores(rows, method, "dice"))[0] for method in forests]
        third.plot([int(method.split()[1]) for method in forests], means, "o-", label=name)
        paper = mean_and_sd(_scores(rows, "paper", "dice"))[0]
        third.axhline(paper, linestyle=":", color=third.lines[-1].get_color())
    for axes, says in ((first, "Dice"), (second, "relative error of pore size, 4 V/S")):
        low, high = np.nanmin([*axes.get_xlim(), *axes.get_ylim()]), np.nanmax([*axes.get_xlim(), *axes.get_ylim()])
        axes.plot([low, high], [low, high], color="0.6", linewidth=1)
        axes.set(xlabel=f"{says}: paper", ylabel=f"{says}: {result['largest']}")
        axes.legend()
    third.set(xlabel="phantoms trained on", ylabel="mean Dice (dotted: paper)", xscale="log")
    third.legend()
    figure.savefig(path, dpi=110, metadata={"Software": None})


def main():
    given = arguments(__doc__, HERE)
    study = tomllib.loads((HERE / "study.toml").read_text(encoding="utf-8")) | {"quick": given.quick}
    counts, root_seed = study["design"]["training"], study["design"]["root_seed"]
    if given.quick:
        counts = [1]
        study["set"] = {name: of | {"cases": 2} for name, of in study["set"].items()}
    sets = make_sets(study, given)
    usable = [case for case in sets["train"] if shows_layer(case)]
    forests = {f"forest {min(count, len(usable))}": tuple(usable[:count]) for count in counts}
    learned = [file_sha256(case / "case.h5") for case in usable[: counts[-1]]]
    told_of = [learned, counts, ForestRecipe().digest(), study["rival"], root_seed]
    tasks = [
        (
            key_of(told_of, file_sha256(case / "case.h5")),
            {"set": name, "case": case.name},
            lambda case=case: look(case, forests, study["rival"], root_seed),
        )
        for name in ("same", "other")
        for case in sets[name]
    ]
    rows = play_rows(tasks, given.out / "scans.csv", fresh=given.fresh)
    result = find(rows, study) | {"drowned": len(sets["train"]) - len(usable), "phantoms": len(sets["train"])}
    draw(result, study, given.out / "forests.png")
    render(given.out, parts_of(result, study), result["gains"] | {"quick": given.quick})


if __name__ == "__main__":
    main()
