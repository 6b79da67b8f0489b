"""Plant gaps, pores and particles of known size, scan them, and say which are found against dose, views and voxel.

``python run.py`` goes on where an earlier run stopped; ``--quick`` scans two conditions once.
"""

import sys
import tomllib
from pathlib import Path

import matplotlib as mpl
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from ledger import arguments, key_of, play_rows, points, render, table
from planted import KINDS, attenuation_of, plant, shares_found
from walk import reconstructed

from npsi_twin.comparison.detectability import Detection
from npsi_twin.morphology.segmentation import segment
from npsi_twin.seeds import Seeds
from npsi_twin.specification import Specification
from npsi_twin.txm.microscope import project, simulation_grid
from npsi_twin.variations import with_values

HERE = Path(__file__).resolve().parent
#: What the page calls the objects, and what their size is.
CALLED = {"pore": "round pores", "gap": "gaps, by width", "particle": "round particles"}


def conditions(study, quick):
    """Yield every condition once: what is varied, its value, and what that changes."""
    seen = set()
    for varied, of in study["varied"].items():
        for value, changes in of["at"].items():
            known = str(sorted(changes.items()))
            if known not in seen and not (quick and len(seen) == 2):
                seen.add(known)
                yield varied, value, changes


def look(specification, study, replicate):
    """Return a row for every object: kind, size, and the share of it that is found."""
    microscope, design = specification.microscope, study["design"]
    seeds = Seeds(specification.seed)
    specimen = specification.electrode.specimen
    length_nm = microscope.detector.rows * microscope.detector.pixel_nm
    objects = plant(design, specimen, length_nm, Seeds(design["root_seed"]).stream("objects", replicate))
    fine = attenuation_of(objects, simulation_grid(microscope), specimen, microscope.energy_kev)
    lines, taken = project(fine, microscope, seeds=seeds)
    labels = segment(reconstructed(lines, taken, specification), specification.segmentation).labels
    return [
        {"kind": planted.kind, "blank": float(planted.blank), "size_nm": planted.size_nm, "share": share}
        for planted, share in zip(objects, shares_found(objects, labels), strict=True)
    ]


def detection_of(rows, kind):
    """Return the detection of one kind of objects, and the share of empty places where it is found as well."""
    own = [row for row in rows if row.get("kind") == kind and not row["blank"]]
    empty = [row["share"] >= 0.5 for row in rows if row.get("kind") == kind and row["blank"]]
    size, share = (np.array([row[name] for row in own]) for name in ("size_nm", "share"))
    return Detection(np.arange(len(own)), size, share, 0.5), float(np.mean(empty)) if empty else float("nan")


def find(rows, study):
    """Return, for what is varied, its value and every kind, sizes, false alarms and the curve with its band."""
    found = {}
    for varied, of in study["varied"].items():
        found[varied] = {}
        for value, changes in of["at"].items():
            own = [row for row in rows if row["changes"] == str(sorted(changes.items()))]
            if not any("kind" in row for row in own):
                continue
            found[varied][value] = {}
            for kind in KINDS:
                detection, alarms = detection_of(own, kind)
                curve = detection.curve(np.array(study["design"]["classes_nm"]))
                found[varied][value][kind] = {
                    "half_nm": detection.size_found_nm(0.5),
                    "ninety_nm": detection.size_found_nm(0.9),
                    "alarms": alarms,
                    "objects": len(detection.size_nm),
                    "curve": {name: getattr(curve, name).tolist() for name in ("share", "low", "high", "n")},
                }
    return found


def _nm(value):
    return f"{value:.0f}" if np.isfinite(value) else "none"


def answer(found, study):
    """Return the answer, point by point."""
    text = []
    for varied, by_value in found.items():
        for kind in KINDS:
            sizes = [
                f"{_nm(of[kind]['half_nm'])} / {_nm(of[kind]['ninety_nm'])} nm at {value}"
                for value, of in by_value.items()
            ]
            text.append(
                f"Against {study['varied'][varied]['says']}: {CALLED[kind]} are found with 50 / 90 % from "
                f"{', '.join(sizes)}."
            )
    return points(study["quick"], text)


def parts_of(found, rows, study):
    """Return the README's tables."""
    lines = []
    for varied, by_value in found.items():
        lines += ["", f"**{study['varied'][varied]['says']}**", ""]
        head = ("", *(f"{CALLED[kind]}: 50 / 90 %, nm (in empty places)" for kind in KINDS))
        told = [
            (
                value,
                *(f"{_nm(k['half_nm'])} / {_nm(k['ninety_nm'])} ({100 * k['alarms']:.0f} %)" for k in of.values()),
            )
            for value, of in by_value.items()
        ]
        lines += table(head, told)
    failed = sorted({f"- {row['varied']} {row['value']}: {row['failure']}" for row in rows if row["failure"]})
    return {"answer": answer(found, study), "sizes": lines, "refused": failed or ["None."]}


def draw(found, study, path):
    """Draw the curves: a row for what is varied, a column for each kind of object."""
    mpl.use("agg")
    from matplotlib.figure import Figure

    edges = np.array(study["design"]["classes_nm"])
    middles = np.sqrt(edges[1:] * edges[:-1])
    figure = Figure(figsize=(12, 9), layout="constrained")
    for line, (varied, by_value) in zip(figure.subplots(3, 3, sharex=True, sharey=True), found.items(), strict=True):
        for axes, kind in zip(line, KINDS, strict=True):
            for value, of in by_value.items():
                curve = {name: np.array(values, float) for name, values in of[kind]["curve"].items()}
                known = curve["n"] > 0
                (drawn,) = axes.plot(middles[known], curve["share"][known], "o-", markersize=4, label=value)
                axes.fill_between(
                    middles[known], curve["low"][known], curve["high"][known], color=drawn.get_color(), alpha=0.15
                )
            axes.set(xscale="log", title=f"{CALLED[kind]}: {varied}")
            axes.axhline(0.9, color="0.7", linewidth=0.8)
            axes.axhline(0.5, color="0.7", linewidth=0.8)
        line[0].set_ylabel("share found, 95 % band")
        line[-1].legend(title=study["varied"][varied]["says"], fontsize=7, title_fontsize=7)
    for axes in figure.axes[-3:]:
        axes.set_xticks([50, 100, 200, 400], ["50", "100", "200", "400"])
        axes.minorticks_off()
        axes.set_xlabel("size (nm)")
    figure.savefig(path, dpi=110, metadata={"Software": None})


def main():
    given = arguments(__doc__, HERE)
    study = tomllib.loads((HERE / "study.toml").read_text(encoding="utf-8")) | {"quick": given.quick}
    tasks = []
    for varied, value, changes in conditions(study, given.quick):
        for replicate in range(1 if given.quick else study["design"]["replicates"]):
            seed = int(Seeds(study["design"]["root_seed"]).stream("scan", replicate).integers(1 << 32))
            specification = with_values(Specification(), study["base"] | changes).model_copy(update={"seed": seed})
            facts = {"varied": varied, "value": value, "changes": str(sorted(changes.items())), "replicate": replicate}
            tasks.append(
                (
                    key_of(specification.digest(), study["design"], replicate),
                    facts,
                    lambda specification=specification, replicate=replicate: look(specification, study, replicate),
                )
            )
    rows = play_rows(tasks, given.out / "objects.csv", fresh=given.fresh)
    found = find(rows, study)
    draw(found, study, given.out / "curves.png")
    render(given.out, parts_of(found, rows, study), {"found": found, "quick": given.quick})


if __name__ == "__main__":
    main()
