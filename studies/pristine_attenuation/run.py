"""Play every rival cause of the pristine electrode's attenuation through the whole road, and see what tells them apart.

``python run.py`` goes on where an earlier run stopped; ``--quick`` plays one specimen on a smaller needle, three of
the causes and only the strongest level of each.
"""

import json
import math
import sys
import tomllib
from itertools import combinations
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from attenuation_page import DISTANCES, draw, parts_of
from ledger import arguments, key_of, mean_and_sd, play_rows, render
from walk import recovered_of, truth_of

from npsi_twin.materials.compounds import MATERIALS
from npsi_twin.morphology.measure import measure
from npsi_twin.morphology.profiles import attenuation_profile
from npsi_twin.morphology.segmentation import segment
from npsi_twin.morphology.thickness import SILICON, foil_surface
from npsi_twin.seeds import Seeds
from npsi_twin.specification import Specification
from npsi_twin.variations import with_values
from npsi_twin.volumes import Phase, Volume

HERE = Path(__file__).resolve().parent
WIDTH, COLUMNS = "electrode.specimen.width_um", "microscope.detector.columns"
#: What the second state is called, and what names a walk.
SECOND, FACTS = "second lithiation", ("state", "cause", "level", "specimen")


def cases(study, quick):
    """Yield what is walked: cause, level and the specification without its seed."""
    for cause, of in study["cause"].items():
        common = study["base"] | of.get("with", {})
        if quick:
            common[WIDTH] = common[WIDTH] * 2 / 3
            common[COLUMNS] = 2 * round(0.36 * common[COLUMNS])
            common |= {"microscope.detector.rows": 12, "microscope.stage.views": 151}
        levels = of["level"][-1:] if quick else of["level"]
        for level in ({"says": "off", **of.get("off", {})}, *levels):
            yield cause, level["says"], with_values(Specification(), common | _settings(level))


def _settings(level):
    return {name: value for name, value in level.items() if name != "says"}


def aged_cases(study, quick):
    """Yield what is walked after the second lithiation: cause, level and the specification without its seed."""
    second = study["second"]
    for cause in () if quick else second["causes"]:
        of = study["cause"][cause]
        common = study["base"] | of.get("with", {}) | second["with"] | {"ageing": second["ageing"]}
        for level in ({"says": "off", **of.get("off", {})}, of["level"][-1]):
            yield cause, level["says"], with_values(Specification(), common | _settings(level))


def walks_of(study, quick):
    """Return key -> (specimen, specification, states, causes and levels): equal walks of several are walked once."""
    seeds, band = Seeds(study["design"]["root_seed"]), study["design"]["plateau_nm"]
    walks = {}
    for index in range(1 if quick else study["design"]["seeds"]):
        seed = int(seeds.stream("specimen", index).integers(1 << 32))
        states = {"pristine": cases} | ({SECOND: aged_cases} if index < study["second"]["specimens"] else {})
        for state, of_state in states.items():
            for cause, level, specification in of_state(study, quick):
                own = specification.model_copy(update={"seed": seed})
                walks.setdefault(key_of(own.digest(), band), (index, own, []))[2].append((state, cause, level))
    return walks


def play_all(study, given):
    """Return state -> (cause, level) -> a row for every specimen."""
    walks, band = walks_of(study, given.quick), study["design"]["plateau_nm"]
    tasks = [
        (key, dict(zip(FACTS, (*names[0], index), strict=True)), lambda own=own: [look(own, band)])
        for key, (index, own, names) in walks.items()
    ]
    rows = play_rows(tasks, given.out / "walks.csv", fresh=given.fresh)
    found = {
        state: {(cause, level): [] for cause, level, _ in of_state(study, given.quick)}
        for state, of_state in (("pristine", cases), (SECOND, aged_cases))
    }
    for row, (_, _, names) in zip(rows, walks.values(), strict=True):
        for state, *name in names:
            found[state][tuple(name)].append(row)
    return found


def look(specification, band):
    """Walk a case and return its readings, its signatures and its profile, with the truth's own local reading."""
    labels, attenuation = truth_of(specification)
    true = measure(labels, attenuation, specification.measurement)
    volume = recovered_of(specification)
    found = segment(volume, specification.segmentation).labels
    seen = measure(found, volume, specification.measurement)
    copper, air = seen["foil_attenuation_per_um"].value, seen["air_attenuation_per_um"].value
    local = seen["normalised_attenuation_plateau"].value
    columns = Columns(found, volume, seen, specification.measurement, band)
    silicon, pores = columns.phase == SILICON[0], columns.phase == Phase.VOID
    foil = MATERIALS["copper"].attenuation_per_um(specification.microscope.energy_kev)
    row = {
        "truth": true["normalised_attenuation_plateau"].value,
        "local": local,
        "mean_foil": seen["normalised_attenuation_plateau_mean_foil"].value,
        "file_zero": (local * (copper - air) + air) / copper,
        "particles": seen["normalised_attenuation_particles"].value,
        "thresholded": float(columns.grey[silicon].mean()) if silicon.any() else np.nan,
        "copper": copper / foil,
        "cupping": columns.cupping,
        "air": air / copper,
        "slope": columns.at(0.3, 0.6) - columns.at(0.8, 1.1),
        "plane": seen["normalised_attenuation_plateau_mean_foil"].value - local,
        "roughness_um": seen["foil_roughness_um"].value,
        "tail": float((columns.grey > 0.5).mean()),
        "width": float(np.sqrt(max(columns.grey.var() - columns.noise**2, 0.0))),
        "pores": float(columns.grey[pores].mean()) if pores.any() else np.nan,
        "silicon_share": float(silicon.mean()),
    }
    kept = {name: float(value) for name, value in row.items()}
    return kept | {"profile": json.dumps([round(value, 4) for value in columns.profile])}


class Columns:
    """The layer's voxels between two distances from the local foil, and what the columns above and below them show."""

    def __init__(self, labels, volume, seen, recipe, band):
        foil = foil_surface(labels, edge_margin_nm=recipe.edge_margin_nm)
        top_nm = float(np.nanquantile(seen.thickness_map_nm, 0.99)) + 2 * labels.voxel_nm
        made, phases = (
            attenuation_profile(
                labels, of, foil, top_nm, foil_band_nm=recipe.foil_band_nm, air_gap_nm=recipe.air_gap_nm
            )
            for of in (volume, Volume(labels.values.astype(np.float32), labels.voxel_nm))
        )
        distance, grey = made.distance_nm, made.normalise(made.columns_per_um)
        here = (distance >= band[0]) & (distance <= band[1])
        inside = np.isfinite(grey[here])
        self.grey, self.phase = grey[here][inside], phases.columns_per_um[here][inside]
        self.noise = float(np.nanstd(grey[distance > top_nm + recipe.air_gap_nm]))
        deep = grey[(distance <= -recipe.foil_band_nm[0]) & (distance >= -recipe.foil_band_nm[1])]
        level = np.nanmean(deep[:, :, np.isfinite(deep).any(axis=(0, 1))], axis=(0, 1))
        third = level.size // 3
        self.cupping = float(level[third:-third].mean() / np.concatenate([level[:third], level[-third:]]).mean())
        self._distance_um, self._mean = distance / 1000, made.normalised

    def at(self, low_um, high_um):
        """Return the local reading between two distances."""
        return float(self._mean[(self._distance_um >= low_um) & (self._distance_um <= high_um)].mean())

    @property
    def profile(self):
        """The local reading at `DISTANCES`."""
        return np.interp(DISTANCES, self._distance_um, self._mean).tolist()


def find(found, study):
    """Set readings and signatures of all levels beside what they are without the cause."""
    low, high = study["design"]["admitted"]
    goal = study["design"]["published"]
    pristine, solid = found["pristine"], _solid_shares(study)
    known = {name: _spread_between_specimens(pristine, name) for name in study["signature"]}
    unknown = study["unknown"]["signature"]
    spread = known | {unknown: math.hypot(known[unknown], _spread_of_copper(study["unknown"]["energies_kev"]))}
    causes = {}
    for cause, of in study["cause"].items():
        played = {level: rows for (name, level), rows in pristine.items() if name == cause}
        readings = {
            reading: {level: mean_and_sd(_column(rows, reading)) for level, rows in played.items()}
            for reading in ("truth", *study["reading"])
        }
        causes[cause] = {
            "called": of["called"],
            "readings": readings,
            "solid": {level: solid[cause, level] for level in played},
            "reaches_digit": {name: _first(of_level, low, high) for name, of_level in readings.items()},
            "reaches_value": {name: _first(of_level, goal, math.inf) for name, of_level in readings.items()},
            "shift": {name: _shift(played, name) for name in study["signature"]},
            "failures": [
                f"{level}: {row['failure']}" for level, rows in played.items() for row in rows if row["failure"]
            ],
        }
    pairs = [
        (one, other, *_best_between(causes[one]["shift"], causes[other]["shift"], spread))
        for one, other in combinations([name for name in causes if name != "together"], 2)
    ]
    specimens = max(len(rows) for rows in pristine.values())
    aged = {
        cause: {level: _both_states(pristine, found[SECOND], (cause, level), study) for level in levels}
        for cause in study["second"]["causes"]
        if (levels := [level for name, level in found[SECOND] if name == cause])
    }
    return {
        "specimens": specimens,
        "packing": max(walked.electrode.powder.envelope_fraction for *_, walked in cases(study, study["quick"])),
        "causes": causes,
        "spread": spread,
        "spread_energy_known": known,
        "apart": pairs,
        "second": aged,
    }


def _solid_shares(study):
    """Return (cause, level) -> share of the layer that is solid silicon by design."""
    return {
        (cause, level): (1 - specification.electrode.silicon.porosity_fraction)
        * specification.electrode.powder.envelope_fraction
        for cause, level, specification in cases(study, study["quick"])
    }


def _spread_of_copper(energies_kev):
    """Return the relative standard deviation of copper's attenuation over energies that are all as likely."""
    energies = np.linspace(*energies_kev, 101)
    found = np.array([MATERIALS["copper"].attenuation_per_um(float(energy)) for energy in energies])
    return float(found.std() / found.mean())


def _both_states(pristine, second, case, study):
    """Return reading -> means before cycling and after the second lithiation, of the specimens that have both."""
    rows = [(one, other) for one, other in zip(pristine[case], second[case], strict=False) if not other["failure"]]
    return {way: [mean_and_sd(_column(side, way))[0] for side in zip(*rows, strict=True)] for way in study["reading"]}


def _column(rows, name):
    return [row.get(name, math.nan) for row in rows]


def _first(of_level, low, high):
    """Return the first level whose mean lies from low to below high, None where none does."""
    return next((level for level, (mean, _, _) in of_level.items() if low <= mean < high), None)


def _shift(played, name):
    """Return how far the strongest level moves a signature."""
    off, strongest = (mean_and_sd(_column(played[level], name))[0] for level in ("off", list(played)[-1]))
    return strongest - off


def _spread_between_specimens(found, name):
    """Return the standard deviation between specimens of one case, pooled over all cases."""
    spreads = [mean_and_sd(_column(rows, name))[1] for rows in found.values()]
    known = [spread**2 for spread in spreads if math.isfinite(spread)]
    return math.sqrt(math.fsum(known) / len(known)) if known else math.nan


def _best_between(one, other, spread):
    """Return the signature that tells two causes apart best, and by how many spreads between specimens."""
    apart = {name: abs(one[name] - other[name]) / spread[name] for name in spread if spread[name] > 0}
    apart = {name: value for name, value in apart.items() if math.isfinite(value)}
    return max(apart.items(), key=lambda item: item[1], default=("", math.nan))


def main():
    given = arguments(__doc__, HERE)
    study = tomllib.loads((HERE / "study.toml").read_text(encoding="utf-8")) | {"quick": given.quick}
    if given.quick:
        study["cause"] = {name: study["cause"][name] for name in study["design"]["quick"]}
        study["second"]["causes"] = []
    found = play_all(study, given)
    result = find(found, study)
    draw(result, found["pristine"], study, given.out / "readings.png")
    render(given.out, parts_of(result, study), result | {"quick": given.quick})


if __name__ == "__main__":
    main()
