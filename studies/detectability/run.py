"""Plant gaps, pores and particles of known size, scan them, and say which are found against dose, views and voxel.

``python run.py`` goes on where an earlier run stopped; ``--quick`` scans two conditions once.
"""

import sys
import tomllib
from dataclasses import asdict
from pathlib import Path

import numpy as np
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from detectability_page import draw_curves, draw_sizes, parts_of
from ledger import arguments, key_of, play_rows, render
from planted import KINDS, attenuation_of, plant, shares_found
from walk import reconstructed

from npsi_twin.comparison.detectability import Detection
from npsi_twin.morphology.segmentation import segment
from npsi_twin.seeds import Seeds
from npsi_twin.specification import Specification
from npsi_twin.txm.microscope import project, simulation_grid
from npsi_twin.variations import with_values

HERE = Path(__file__).resolve().parent


def conditions(study, quick):
    """Yield every condition once: what is varied, its value, and what that changes."""
    seen = set()
    for varied, of in study["varied"].items():
        for value, changes in of["at"].items():
            known = str(sorted(changes.items()))
            if known not in seen and not (quick and changes and seen - {"[]"}):  # the base and one more
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
    """Return, for what is varied, its value and every kind: sizes, false alarms, the curve, and what the base finds."""
    base = [row for row in rows if row["changes"] == "[]"]
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
                    "half": asdict(detection.size_found_nm(0.5)),
                    "ninety": asdict(detection.size_found_nm(0.9)),
                    "alarms": alarms,
                    "curve": {name: getattr(curve, name).tolist() for name in ("share", "low", "high", "n")},
                    "against_base": against_base(own, base, kind),
                }
    return found


def against_base(rows, base, kind):
    """Return how many objects are found here only and at the base only, and how likely so uneven a split is by chance.

    The same objects are planted under every condition, so that each is its own control; the split is judged by the
    sign test (McNemar's, exact).
    """
    known = {_object(row): row["share"] >= 0.5 for row in base if row.get("kind") == kind and not row["blank"]}
    own = {_object(row): row["share"] >= 0.5 for row in rows if row.get("kind") == kind and not row["blank"]}
    both = known.keys() & own.keys()
    gained = sum(own[name] and not known[name] for name in both)
    lost = sum(known[name] and not own[name] for name in both)
    chance = stats.binomtest(lost, lost + gained).pvalue if lost + gained else 1.0
    return {"gained": gained, "lost": lost, "objects": len(both), "chance": float(chance)}


def _object(row):
    return int(row["replicate"]), round(row["size_nm"], 6)


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
    draw_sizes(found, study, given.out / "sizes.png")
    draw_curves(found, study, given.out / "curves.png")
    render(given.out, parts_of(found, rows, study), {"found": found, "quick": given.quick})


if __name__ == "__main__":
    main()
