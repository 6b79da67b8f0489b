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

import matplotlib as mpl
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from ledger import arguments, key_of, mean_and_sd, play_rows, points, render, table
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
#: Distances from the foil at which profiles are kept, um.
DISTANCES = np.arange(-0.5, 3.0, 0.1)
#: Multiples of the spread between specimens beyond which one scan is called enough.
CLEAR = 3.0


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
            values = common | {name: value for name, value in level.items() if name != "says"}
            yield cause, level["says"], with_values(Specification(), values)


def walks_of(study, quick):
    """Return key -> (specimen, specification, causes and levels): equal walks of several causes are walked once."""
    seeds, band = Seeds(study["design"]["root_seed"]), study["design"]["plateau_nm"]
    walks = {}
    for index in range(1 if quick else study["design"]["seeds"]):
        seed = int(seeds.stream("specimen", index).integers(1 << 32))
        for cause, level, specification in cases(study, quick):
            own = specification.model_copy(update={"seed": seed})
            walks.setdefault(key_of(own.digest(), band), (index, own, []))[2].append((cause, level))
    return walks


def play_all(study, given):
    """Return (cause, level) -> a row for every specimen."""
    walks, band = walks_of(study, given.quick), study["design"]["plateau_nm"]
    tasks = [
        (key, {"cause": names[0][0], "level": names[0][1], "specimen": index}, lambda own=own: [look(own, band)])
        for key, (index, own, names) in walks.items()
    ]
    rows = play_rows(tasks, given.out / "walks.csv", fresh=given.fresh)
    found = {(cause, level): [] for cause, level, _ in cases(study, given.quick)}
    for row, (_, _, names) in zip(rows, walks.values(), strict=True):
        for name in names:
            found[name].append(row)
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
    spread = {name: _spread_between_specimens(found, name) for name in study["signature"]}
    causes = {}
    for cause, of in study["cause"].items():
        played = {level: rows for (name, level), rows in found.items() if name == cause}
        readings = {
            reading: {level: mean_and_sd(_column(rows, reading)) for level, rows in played.items()}
            for reading in ("truth", *study["reading"])
        }
        causes[cause] = {
            "says": of["says"],
            "readings": readings,
            "reaches_digit": {name: _first(of_level, low, high) for name, of_level in readings.items()},
            "reaches_value": {name: _first(of_level, goal, math.inf) for name, of_level in readings.items()},
            "shift": {name: _shift(played, name) for name in study["signature"]},
            "failures": [row["failure"] for rows in played.values() for row in rows if row["failure"]],
        }
    pairs = [
        (one, other, *_best_between(causes[one]["shift"], causes[other]["shift"], spread))
        for one, other in combinations([name for name in causes if name != "together"], 2)
    ]
    specimens = max(len(rows) for rows in found.values())
    return {"specimens": specimens, "causes": causes, "spread": spread, "apart": pairs}


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
            reaching = [f"{name} ({of[goal][way]})" for name, of in causes.items() if of[goal][way]]
            said += f"; {called} is reached by {', '.join(reaching) or 'no cause'}"
        text.append(f"{said}.")
    text.append("In brackets stands the first level that reaches it.")
    clearest = [
        f"{name}: {signature} ({_times(of['shift'][signature], result['spread'][signature])})"
        for name, of in causes.items()
        if name != "together" and (signature := _clearest(of["shift"], result["spread"]))
    ]
    if clearest:
        text.append(
            "The signature that each cause moves most, in spreads between specimens: " + "; ".join(clearest) + "."
        )
    return points(study["quick"], text)


def mean_and_sd_of(of, reading, level):
    """Write a reading of a cause at a level."""
    mean, sd, _ = of["readings"][reading][level]
    return f"{mean:.3f}" + (f" ± {sd:.3f}" if math.isfinite(sd) else "")


def _clearest(shift, spread):
    zero = dict.fromkeys(shift, 0.0)
    return _best_between(shift, zero, spread)[0]


def _times(shift, spread):
    return f"{shift / spread:+.1f}" if spread > 0 else "not known"


def parts_of(result, study):
    """Return the README's tables."""
    causes, ways = result["causes"], study["reading"]
    rows = [
        (name if level == "off" else "", level, *(mean_and_sd_of(of, way, level) for way in ("truth", *ways)))
        for name, of in causes.items()
        for level in of["readings"]["local"]
    ]
    moved = [
        (says, *(_moved(of["shift"][name], result["spread"][name]) for of in causes.values()))
        for name, says in study["signature"].items()
    ]
    return {
        "answer": answer(result, study),
        "causes": table(("cause", "what is varied", "admissible because"), _causes(study)),
        "readings": table(("cause", "level", "truth, local", *ways), rows),
        "signatures": table(("signature", *causes), moved),
        "apart": table(("cause", "other cause", "signature", "spreads apart"), [
            (one, other, name or "none known", f"{times:.1f}" if math.isfinite(times) else "one specimen: not known")
            for one, other, name, times in result["apart"]
        ]),
        "refused": [f"- {name}: {reason}" for name, of in causes.items() for reason in of["failures"]] or ["None."],
    }  # fmt: skip


def _causes(study):
    return [(name, of["says"], of["source"]) for name, of in study["cause"].items()]


def _moved(shift, spread):
    clear = spread > 0 and abs(shift) > CLEAR * spread
    text = f"{shift:+.3g}" + (f" ({shift / spread:+.1f})" if spread > 0 else "")
    return f"**{text}**" if clear else text


def draw(result, found, study, path):
    """Draw the readings of every cause, and the profiles of the strongest level beside those without it."""
    mpl.use("agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    low, high = study["design"]["admitted"]
    names = list(result["causes"])
    left.axhspan(low, high, color="0.9", label="rounds to 0.2")
    left.axhline(study["design"]["published"], color="0.5", linewidth=1)
    for way, marker in zip(("truth", "local", "mean_foil", "particles", "thresholded"), "xosD^", strict=True):
        means = [list(of["readings"][way].values())[-1][:2] for of in result["causes"].values()]
        errors = [0.0 if math.isnan(sd) else sd for _, sd in means]
        left.errorbar(names, [mean for mean, _ in means], errors, marker=marker, linestyle="none", label=way)
    left.tick_params(axis="x", rotation=60)
    left.set_ylabel("normalised attenuation at the strongest level")
    left.legend(fontsize=8)
    drawn = {"as published": ("bismuth", "off")} | {
        name: (name, list(of["readings"]["local"])[-1]) for name, of in result["causes"].items()
    }
    for label, case in drawn.items():
        profiles = [json.loads(row["profile"]) for row in found[case] if not row["failure"]]
        if profiles:
            style = {"color": "black", "linewidth": 2} if label == "as published" else {"linewidth": 1}
            right.plot(DISTANCES, np.mean(profiles, axis=0), label=label, **style)
    right.set(
        xlabel="distance from the local foil (um)", ylabel="normalised attenuation", xlim=(0, None), ylim=(-0.05, 0.5)
    )
    right.axhline(study["design"]["published"], color="0.5", linewidth=1)
    right.legend(fontsize=8)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def main():
    given = arguments(__doc__, HERE)
    study = tomllib.loads((HERE / "study.toml").read_text(encoding="utf-8")) | {"quick": given.quick}
    if given.quick:
        study["cause"] = {name: study["cause"][name] for name in study["design"]["quick"]}
    found = play_all(study, given)
    result = find(found, study)
    draw(result, found, study, given.out / "readings.png")
    render(given.out, parts_of(result, study), result | {"quick": given.quick})


if __name__ == "__main__":
    main()
