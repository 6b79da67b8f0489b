"""Segment the same scans by every method, and see which recovers which metric best at which dose.

``python run.py`` goes on where an earlier run stopped; ``--quick`` scans one pristine specimen on a thin needle and
tries few methods.
"""

import math
import sys
import tomllib
from pathlib import Path

import matplotlib as mpl
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from ledger import REFUSALS, arguments, key_of, mean_and_sd, play_rows, points, render, table, told
from walk import recovered_of, truth_of

from npsi_twin.comparison.segmentation_accuracy import score
from npsi_twin.morphology.measure import measure
from npsi_twin.morphology.segmentation import segment
from npsi_twin.seeds import Seeds
from npsi_twin.specification import Specification, parse_values
from npsi_twin.variations import with_values

HERE = Path(__file__).resolve().parent
#: Dice coefficients among the metrics, and where `score` keeps them.
DICE = {"dice": "dice_silicon_layer", "dice_all": "dice_silicon"}
SMALL = {
    "electrode.specimen.width_um": 7.0,
    "microscope.detector.columns": 192,
    "microscope.detector.rows": 12,
    "microscope.stage.views": 151,
    "electrode.specimen.foil_surface_height_um": -1.0,
}


def scans(study, quick):
    """Yield every scan: state, specimen, dose and the specification; doses of one specimen follow one another."""
    design, seeds = study["design"], Seeds(study["design"]["root_seed"])
    base = study["base"] | (SMALL if quick else {})
    states, large = (design["states"][:1] if quick else design["states"]), study["state"]
    for specimen in range(1 if quick else design["specimens"]):
        for state in states:
            ageing = {"condition": state, "hypothesis": design["hypothesis"], "end_state": design["end_state"]}
            seed = int(seeds.stream(f"specimen {state}", specimen).integers(1 << 32))
            for dose, electrons in study["dose"].items():
                values = (
                    base | large.get(state, {}) | {"ageing": ageing, "microscope.detector.flat_electrons": electrons}
                )
                specification = with_values(Specification(), values).model_copy(update={"seed": seed})
                yield state, specimen, dose, specification


def look(specification, methods, metrics):
    """Return a row for every method: truth, recovered and Dice of one scan."""
    labels, attenuation = truth_of(specification)
    true = measure(labels, attenuation, specification.measurement)
    volume = recovered_of(specification)
    rows = []
    for name, changes in methods.items():
        row = {"method": name}
        try:
            found = segment(volume, parse_values(specification.segmentation, changes, "segmentation")).labels
        except REFUSALS as error:
            rows.append(row | {"failure": f"{type(error).__name__}: {error}"})
            continue
        seen = measure(found, volume, specification.measurement)
        for metric in metrics:
            if metric in DICE:
                row |= {f"{metric} true": 1.0, metric: getattr(score(labels, found), DICE[metric])}
            else:
                row |= {f"{metric} true": true[metric].value, metric: seen[metric].value}
        rows.append(row)
    return rows


def error_of(row, metric, of):
    """Return how far a metric came out from the truth; NaN where it could not be measured."""
    true, seen = row.get(f"{metric} true", math.nan), row.get(metric, math.nan)
    return (seen - true) / true if of.get("relative") and true else seen - true


def find(rows, study):
    """Return errors by metric, dose and method, in the order of the scans, and who did best.

    A scan that no method segments says nothing of methods, and is left out.
    """
    refused = _refused_by_all(rows)
    rows = [row for row in rows if _scan(row) not in refused]
    errors = {
        metric: {
            dose: {
                method: [
                    error_of(row, metric, of) for row in rows if row["dose"] == dose and row.get("method") == method
                ]
                for method in study["method"]
            }
            for dose in study["dose"]
        }
        for metric, of in study["metric"].items()
    }
    best = {
        metric: {dose: _best(by_method) for dose, by_method in by_dose.items()} for metric, by_dose in errors.items()
    }
    return {"errors": errors, "best": best}


def _scan(row):
    return row["state"], row["specimen"], row["dose"]


def _refused_by_all(rows):
    """Return the scans that no method segmented."""
    return {_scan(row) for row in rows} - {_scan(row) for row in rows if not row["failure"]}


def _size(errors):
    """Return the mean size of errors; infinite where one is missing, so that who refuses a scan does not win."""
    return math.inf if any(math.isnan(error) for error in errors) else math.fsum(map(abs, errors)) / len(errors)


def _best(by_method):
    """Return the method of the smallest mean error, its size and the paper's, and in how many scans it is closer."""
    method = min(by_method, key=lambda name: _size(by_method[name]))
    pairs = list(zip(by_method[method], by_method["paper"], strict=True))
    closer = sum(abs(own) < abs(paper) or math.isnan(paper) for own, paper in pairs)
    sizes = {"size": _size(by_method[method]), "paper": _size(by_method["paper"])}
    return {"method": method, **sizes, "closer": closer, "scans": len(pairs)}


def answer(result, study):
    """Return the answer, point by point."""
    text = []
    for dose in study["dose"]:
        won = {}
        for metric, of in study["metric"].items():
            found = result["best"][metric][dose]
            won.setdefault(found["method"], []).append(of["says"])
        told_of = "; ".join(f"{method} for {', '.join(of)}" for method, of in won.items())
        text.append(f"At {dose} dose the smallest mean error is that of {told_of}.")
    many = [(m, d) for m, of in result["best"].items() for d in of]
    sure = [(m, d) for m, d in many if _is_sure(result["best"][m][d])]
    usual = max(study["method"], key=lambda name: sum(result["best"][m][d]["method"] == name for m, d in many))
    wins = sum(result["best"][m][d]["method"] == usual for m, d in many)
    text.append(
        f"The method that is most often best, {usual}, is so in {wins} of {len(many)} pairs of metric "
        f"and dose. In {len(sure)} of {len(many)} the best is closer to the truth than the paper's way in nine "
        f"scans of ten or more."
    )
    worst = max(many, key=lambda pair: _relative(result["best"][pair[0]][pair[1]]["size"], study["metric"][pair[0]]))
    left = result["best"][worst[0]][worst[1]]
    text.append(
        f"What the method cannot mend is largest for {study['metric'][worst[0]]['says']} at {worst[1]} dose: "
        f"{100 * left['size']:.0f} % at best."
    )
    return points(study["quick"], text)


def _relative(size, of):
    return size if of.get("relative") and math.isfinite(size) else -1.0


def _is_sure(found):
    return found["method"] != "paper" and found["closer"] >= 0.9 * found["scans"]


def parts_of(result, rows, study):
    """Return the README's tables."""
    best = [
        (of["says"], *(_said(result["best"][metric][dose], of) for dose in study["dose"]))
        for metric, of in study["metric"].items()
    ]
    errors = []
    for metric, of in study["metric"].items():
        errors += ["", f"**{of['says']}**" + (" (share of the truth)" if of.get("relative") else ""), ""]
        of_metric = result["errors"][metric]
        errors += table(
            ("method", *(f"{dose} dose" for dose in study["dose"])),
            [(name, *(told(by_method[name], 2, "+") for by_method in of_metric.values())) for name in study["method"]],
        )
    by_all = _refused_by_all(rows)
    refused = sorted(
        {
            f"- {r['state']}, {r['dose']} dose, {'every method' if _scan(r) in by_all else r['method']}: {r['failure']}"
            for r in rows
            if r["failure"]
        }
    )
    return {
        "answer": answer(result, study),
        "best": table(("metric", *(f"{dose} dose" for dose in study["dose"])), best),
        "states": _by_state(rows, study),
        "errors": errors,
        "refused": refused or ["None."],
    }


def _said(found, of):
    factor, unit = (100, " %") if of.get("relative") else (1, "")
    text = f"{found['method']}: {factor * found['size']:.2g}{unit}"
    if found["method"] != "paper":
        paper = f"{factor * found['paper']:.2g}{unit}" if math.isfinite(found["paper"]) else "not always measured"
        text += f" (paper {paper}; closer in {found['closer']} of {found['scans']})"
    return f"**{text}**" if _is_sure(found) else text


def _by_state(rows, study):
    """Set out the Dice coefficient of every state: the paper's way and the best method at each dose."""
    head = ["state"]
    for dose in study["dose"]:
        head += [f"paper, {dose} dose", f"best, {dose} dose"]
    lines = []
    for state in dict.fromkeys(row["state"] for row in rows):
        line = [state]
        for dose in study["dose"]:
            here = [row for row in rows if row["state"] == state and row["dose"] == dose and "dice" in row]
            means = {m: mean_and_sd([r["dice"] for r in here if r["method"] == m])[0] for m in study["method"]}
            means = {method: mean for method, mean in means.items() if math.isfinite(mean)}
            best = max(means, key=lambda name: means[name], default="none")
            line += [f"{means['paper']:.2f}" if "paper" in means else "none", f"{best} {means.get(best, math.nan):.2f}"]
        lines.append(line)
    return table(head, lines)


def draw(result, study, path):
    """Draw every method's mean error over the paper's, metric by metric, a picture for every dose."""
    mpl.use("agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4.8), layout="constrained")
    methods, metrics = list(study["method"]), list(study["metric"])
    for axes, dose in zip(figure.subplots(1, len(study["dose"]), sharey=True), study["dose"], strict=True):
        sizes = np.array([[_size(result["errors"][metric][dose][m]) for m in methods] for metric in metrics])
        over = np.full(sizes.shape, np.nan)
        known = np.isfinite(sizes) & np.isfinite(sizes[:, :1]) & (sizes[:, :1] > 0) & (sizes > 0)
        np.log2(sizes / np.where(known, sizes[:, :1], 1.0), out=over, where=known)
        shown = axes.imshow(over, cmap="RdBu_r", vmin=-2, vmax=2, aspect="auto")
        axes.set_title(f"{dose} dose")
        axes.set_xticks(range(len(methods)), methods, rotation=75)
        axes.set_yticks(range(len(metrics)), [study["metric"][metric]["says"] for metric in metrics])
    figure.colorbar(shown, ax=figure.axes, label="log2 of error over the paper's; blank: refused")
    figure.savefig(path, dpi=110, metadata={"Software": None})


def main():
    given = arguments(__doc__, HERE)
    study = tomllib.loads((HERE / "study.toml").read_text(encoding="utf-8")) | {"quick": given.quick}
    if given.quick:
        study["method"] = {name: study["method"][name] for name in study["design"]["quick"]}
    methods, metrics = study["method"], list(study["metric"])
    tasks = [
        (
            key_of(specification.digest(), methods, metrics),
            {"state": state, "specimen": specimen, "dose": dose},
            lambda specification=specification: look(specification, methods, metrics),
        )
        for state, specimen, dose, specification in scans(study, given.quick)
    ]
    rows = play_rows(tasks, given.out / "scans.csv", fresh=given.fresh)
    result = find(rows, study)
    draw(result, study, given.out / "methods.png")
    render(given.out, parts_of(result, rows, study), result["best"] | {"quick": given.quick})


if __name__ == "__main__":
    main()
