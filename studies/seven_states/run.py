"""Recover all seven states through the whole road, and hold truth, recovered and published against each other.

``python run.py`` goes on where an earlier run stopped; ``--quick`` walks one specimen of two states on a thin needle.
"""

import math
import sys
import tomllib
import warnings
from collections import Counter
from dataclasses import asdict, fields, replace
from itertools import product
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from ledger import REFUSALS, arguments, key_of, mean_and_sd, play_rows, render
from seven_states_page import READINGS, RECOVERED, draw, parts_of
from walk import recovered_of, scene_of

from npsi_twin.comparison.agreement import compare
from npsi_twin.comparison.measured_observables import observe_measured
from npsi_twin.comparison.targets import StateObservables, judge, targets
from npsi_twin.comparison.truth_observables import observe
from npsi_twin.errors import OutOfRangeWarning
from npsi_twin.morphology.measure import measure
from npsi_twin.morphology.segmentation import segment
from npsi_twin.morphology.thickness import SILICON, foil_surface, is_one_of
from npsi_twin.seeds import Seeds
from npsi_twin.specification import Specification
from npsi_twin.txm.contrast import contrast
from npsi_twin.variations import with_values
from npsi_twin.volumes import Volume

HERE = Path(__file__).resolve().parent
OBSERVABLES = [field.name for field in fields(StateObservables)]
#: A column whose top lies this near the needle's side, in voxels, is taken for cut off.
NEAR_SIDE = 3
SMALL = {
    "electrode.specimen.width_um": 9.0,
    "microscope.detector.columns": 240,
    "microscope.detector.rows": 12,
    "microscope.stage.views": 201,
    "electrode.specimen.foil_surface_height_um": -2.5,
}


def walks(study, quick):
    """Yield state, specimen and specification of every walk."""
    design, seeds = study["design"], Seeds(study["design"]["root_seed"])
    for state in design["quick"] if quick else design["states"]:
        values = _road(study, state, quick)
        ageing = {"condition": state, "hypothesis": design["hypothesis"], "end_state": design["end_state"]}
        for specimen in range(1 if quick else design["specimens"]):
            seed = int(seeds.stream(f"specimen {state}", specimen).integers(1 << 32))
            specification = with_values(Specification(), values | {"ageing": ageing}).model_copy(update={"seed": seed})
            yield state, specimen, specification


def _road(study, state, quick):
    """Return the settings of a state's walk."""
    return study["base"] | (SMALL if quick else study["state"].get(state, {}))


def look(specification, quantities, thresholds):
    """Return the row of one walk: what each reading shows, and the quantities beside the published ones."""
    with warnings.catch_warnings():
        # A layer that is cut off has another thickness: such a walk answers nothing, and the study stops.
        warnings.filterwarnings("error", "specimen: the layer has grown", OutOfRangeWarning)
        electrode, composition = scene_of(specification)
    attenuation = contrast(composition, specification.microscope.energy_kev)
    labels, recipe = Volume(composition.phase, composition.voxel_nm), specification.measurement
    true = measure(labels, Volume(attenuation, composition.voxel_nm), recipe)
    scene = observe(electrode, composition, attenuation, true)
    row = {"cut": cut_share(specification, labels, true)}
    del composition, attenuation
    measured, volume = {"truth": true}, recovered_of(specification)
    for way, values in (("recovered", [specification.segmentation.threshold_per_um]), ("best", thresholds)):
        try:
            found = best_threshold(volume, labels, specification.segmentation, values)
        except REFUSALS as error:
            row[f"{way} refused"] = f"{type(error).__name__}: {error}"
            continue
        measured[way] = measure(found.labels, volume, recipe)
        row |= {f"{way} threshold": float(found.threshold_per_um.mean()), f"{way} dice": dice(labels, found.labels)}
    # The cell's own record tells its life, whoever reads the electrode.
    lives = {"life_cycles": scene.life_cycles, "recorded_cycles": scene.recorded_cycles}
    seen = {"scene": scene} | {reading: replace(observe_measured(of), **lives) for reading, of in measured.items()}
    for reading, of in measured.items():
        row |= _beside_published(reading, compare(None, of, state=specification.ageing.condition), quantities)
    return row | {f"{reading} {name}": value for reading, of in seen.items() for name, value in asdict(of).items()}


def best_threshold(volume, labels, recipe, thresholds):
    """Return the segmentation whose threshold, or rule for it, finds the true silicon best."""
    tried = [segment(volume, recipe.model_copy(update={"threshold_per_um": value})) for value in thresholds]
    return max(tried, key=lambda found: dice(labels, found.labels))


def dice(labels, found):
    """Return the Dice coefficient of the silicon."""
    true, seen = (is_one_of(volume.values, SILICON) for volume in (labels, found))
    both = np.count_nonzero(true) + np.count_nonzero(seen)
    return 2 * np.count_nonzero(true & seen) / both if both else math.nan


def _beside_published(reading, compared, quantities):
    row = {}
    for name in quantities:
        found = compared[name]
        row[f"{reading} {name}"] = found.recovered
        if found.published:
            row |= {f"{reading} {name} e_n": found.e_n, f"{reading} {name} verdict": found.verdict}
            row |= {f"{name} printed": found.published_value, f"{name} relation": found.relation}
            row |= {f"{name} uncertainty": found.published_uncertainty}
    return row


def cut_share(specification, labels, measured):
    """Return the share of the columns with silicon whose top lies at the needle's side."""
    grid, heights = labels.grid, measured.thickness_map_nm
    inside = specification.electrode.specimen.share(grid.height_nm, grid.across_nm, grid.voxel_nm) >= 0.5
    foil = foil_surface(labels, edge_margin_nm=specification.measurement.edge_margin_nm)
    top, held = foil.row - heights / grid.voxel_nm, np.isfinite(heights)
    return float(np.mean((top - inside.argmax(axis=0) <= NEAR_SIDE)[held])) if held.any() else math.nan


def find(rows, study):
    """Return biases and what becomes of each target, reading by reading."""
    cells = {}
    for row in rows:
        if not row["failure"]:
            cells.setdefault(row["state"], []).append(_readings(row))
    series = [dict(zip(cells, chosen, strict=True)) for chosen in product(*cells.values())]
    kinds = {kind: _verdicts(series, kind) for kind in ("field", "covered")}
    needles = {state: _needle(study, state) for state in dict.fromkeys(row["state"] for row in rows)}
    return {"bias": _biases(cells, study), "targets": kinds, "series": len(series), "needles": needles}


def _readings(row):
    return {
        reading: StateObservables(**{name: row.get(f"{reading} {name}", math.nan) for name in OBSERVABLES})
        for reading in READINGS
    }


def _needle(study, state):
    """Return what a state's specimen is cut to, and on how many pixels and views it is seen."""
    values = _road(study, state, study["quick"])
    names = ("width_um", "columns", "rows", "views")
    return {name: next(value for path, value in values.items() if path.endswith(f".{name}")) for name in names}


def _verdicts(series, thickness):
    """Judge every series of specimens, one of each state, as each reading shows it."""
    judged = {
        reading: [judge({state: of[reading] for state, of in one.items()}, thickness=thickness) for one in series]
        for reading in READINGS
    }
    found = {}
    for target in targets():
        verdicts = {reading: [result[target].verdict for result in judged[reading]] for reading in READINGS}
        changes = {
            reading: Counter(f"{a} to {b}" for a, b in zip(verdicts["truth"], verdicts[reading], strict=True) if a != b)
            for reading in RECOVERED
        }
        found[target] = {
            "verdicts": {reading: dict(Counter(of)) for reading, of in verdicts.items()},
            "ratios": {
                reading: _medians([result[target].ratios for result in judged[reading]]) for reading in READINGS
            },
            "changed": {reading: dict(of) for reading, of in changes.items()},
        }
    return found


def _medians(ratios):
    """Write the median over all series of the ratio of each clause."""
    known = [[value for value in clause if not math.isnan(value)] for clause in zip(*ratios, strict=True)]
    return "; ".join(f"{np.median(clause):.3g}" if clause else "?" for clause in known)


def _biases(cells, study):
    """Return recovered over truth less 1 by way, observable and state, mean over specimens; NaN where there is none."""
    return {
        way: {
            name: {
                state: mean_and_sd([_bias(of["truth"], of[way], name) for of in readings])[0]
                for state, readings in cells.items()
            }
            for name in study["observable"]
        }
        for way in RECOVERED
    }


def _bias(truth, recovered, name):
    true = getattr(truth, name)
    return getattr(recovered, name) / true - 1 if true else math.nan


def main():
    given = arguments(__doc__, HERE)
    study = tomllib.loads((HERE / "study.toml").read_text(encoding="utf-8")) | {"quick": given.quick}
    quantities, thresholds = list(study["quantity"]), study["design"]["thresholds_per_um"]
    tasks = [
        (
            key_of(specification.digest(), quantities, thresholds),
            {"state": state, "specimen": specimen},
            lambda specification=specification: [look(specification, quantities, thresholds)],
        )
        for state, specimen, specification in walks(study, given.quick)
    ]
    rows = play_rows(tasks, given.out / "walks.csv", fresh=given.fresh)
    result = find(rows, study)
    draw(rows, study, given.out / "states.png")
    render(given.out, parts_of(result, rows, study), result | {"quick": given.quick})


if __name__ == "__main__":
    main()
