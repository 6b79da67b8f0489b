"""Play every shipped hypothesis at its defaults and over its parameters' ranges, and hold all against the targets.

``python run.py`` goes on where an earlier run stopped: every state that was played is a line of ``specimens.csv``, and
a line counts as long as the settings and parameters behind it are those asked for; after a change of the package's
code begin with ``--fresh``.
"""

import argparse
import csv
import hashlib
import json
import math
import shutil
import sys
import time
import tomllib
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from scipy.stats import qmc

sys.path.insert(0, str(Path(__file__).parent))
from findings import find
from page import render

from npsi_twin.comparison.targets import StateObservables
from npsi_twin.comparison.truth_observables import observe
from npsi_twin.cycling.ageing import AgeingHypothesis, age, hypothesis
from npsi_twin.cycling.protocol import CONDITIONS
from npsi_twin.electrode.build import ElectrodeRecipe
from npsi_twin.electrode.specimen import SpecimenRecipe
from npsi_twin.errors import NotConvergedError, ParameterError
from npsi_twin.execution import map_slabs
from npsi_twin.morphology.measure import MeasurementRecipe
from npsi_twin.seeds import Seeds
from npsi_twin.state_series import (
    StateSeriesRecipe,
    build_specimen,
    draw_loading,
    own_seeds,
    play_states,
    view_state,
    write_states,
)

HERE = Path(__file__).parent
CAPACITY = "hypothesis.full_capacity_mah_per_g"
COLUMNS = [
    "kind", "index", "hypothesis", "condition", "key", "loading", "failure",
    *(field.name for field in fields(StateObservables)),
]  # fmt: skip
#: Heights and attenuation only: nothing here needs the surfaces inside the particles.
MEASUREMENT = MeasurementRecipe(edge_margin_nm=0.0, closing_radius_nm=0.0, crofton_directions=3)


@dataclass(frozen=True)
class Specimen:
    """One cell: its seeds, its loading, and the hypotheses that are played on it, each with its key."""

    kind: str
    index: int
    condition: str
    loading_variation: float
    played: tuple[tuple[AgeingHypothesis, str], ...]
    settings: tuple[tuple[str, object], ...]


def sampled(name, study):
    """Return the hypothesis at each sample of its parameters, with the parameters' values."""
    default, samples = hypothesis(name), study["design"]["samples"]
    owners = {mechanism.name for mechanism in default.mechanisms} | ({"hypothesis"} if default.mechanisms else set())
    ranges = {path: limits for path, limits in study["parameters"].items() if path.split(".")[0] in owners}
    if not ranges:
        return [(default, {})] * samples
    # A stream of its own for each hypothesis; a longer Sobol sequence begins with the shorter one.
    sobol = qmc.Sobol(len(ranges), rng=Seeds(study["design"]["root_seed"]).stream(f"sobol-{name}"))
    drawn = []
    for point in sobol.random_base2(math.ceil(math.log2(samples)))[:samples]:
        values = {path: _within(limits, float(u)) for (path, limits), u in zip(ranges.items(), point, strict=True)}
        drawn.append((_changed(default, values), values))
    return drawn


def _within(limits, u):
    low, high = limits["low"], limits["high"]
    return low * (high / low) ** u if limits.get("scale") == "log" else low + (high - low) * u


def _changed(default, values):
    mechanisms = []
    for mechanism in default.mechanisms:
        own = {path.split(".")[1]: value for path, value in values.items() if path.split(".")[0] == mechanism.name}
        typed = {n: round(v) if isinstance(getattr(mechanism, n, None), int) else v for n, v in own.items()}
        mechanisms.append(type(mechanism).model_validate(mechanism.model_dump() | typed))
    return replace(default, mechanisms=tuple(mechanisms), full_capacity_mah_per_g=values[CAPACITY])


def key_of(how, condition, cell):
    """Say in a few letters what a state was made from."""
    mechanisms = [(mechanism.name, mechanism.model_dump(mode="json")) for mechanism in how.mechanisms]
    told = json.dumps([how.name, mechanisms, how.full_capacity_mah_per_g, condition, cell], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:12]


def design_specimens(study, points):
    """Return all specimens of the design, with every hypothesis on each."""
    design = study["design"]
    names = ("root_seed", "field_um", "voxel_nm", "energy_kev", "end_state")
    low, high = design["loading_variation"]
    specimens = []
    counts = {"default": design["seeds"], "followed": design["seeds"], "sample": design["samples"]}
    for kind, count in counts.items():
        field_um = design["followed_field_um" if kind == "followed" else "field_um"]
        settings = tuple((name, (design | {"field_um": field_um})[name]) for name in names)
        for index in range(count):
            spread = float(Seeds(design["root_seed"]).stream("loading-variation", index).uniform(low, high))
            variation = {"default": design["default_loading_variation"], "followed": 0.0}.get(kind, spread)
            for condition in CONDITIONS:
                cell = (*settings, kind, index, variation)
                hows = [points[n][index][0] if kind == "sample" else hypothesis(n) for n in design["hypotheses"]]
                played = tuple((how, key_of(how, condition, cell)) for how in hows)
                specimens.append(Specimen(kind, index, condition, variation, played, settings))
    return specimens


def play(specimen):
    """Build a specimen once, age it by every hypothesis, and look at the truth: one row for each."""
    settings, condition = dict(specimen.settings), CONDITIONS[specimen.condition]
    root = int(Seeds(settings["root_seed"]).stream(specimen.kind, specimen.index).integers(1 << 32))
    # No experiment can follow one piece of an electrode through all states; a twin can.
    seeds = own_seeds("pristine" if specimen.kind == "followed" else condition.name, seeds=Seeds(root))
    loading = draw_loading(specimen.loading_variation, seeds=seeds)
    block = SpecimenRecipe(shape="block", width_um=settings["field_um"], length_um=settings["field_um"])
    pristine, unbuilt = None, ""
    try:
        pristine = build_specimen(ElectrodeRecipe(specimen=block), loading, seeds=seeds)
    except (ParameterError, NotConvergedError) as error:
        unbuilt = f"cannot be built: {error}"
    rows, seen = [], {}
    for how, key in specimen.played:
        row = {"kind": specimen.kind, "index": specimen.index, "hypothesis": how.name, "condition": condition.name}
        row |= {"key": key, "loading": loading, "failure": unbuilt}
        if not describes(how, condition):
            row["failure"] = "not described"
        elif pristine is not None:
            # A pristine cell is the same to all.
            if not (condition.is_pristine and seen):
                seen = observed(pristine, how, condition.ending(settings["end_state"]), settings, seeds)
            row |= seen
        rows.append(row)
    return rows


def describes(how, condition):
    """Say whether a hypothesis speaks of a condition at all."""
    within = how.last_cycle is None or condition.cycle <= how.last_cycle
    return condition.is_pristine or (bool(how.mechanisms) and within)


def observed(pristine, how, condition, settings, seeds):
    """Return what the truth shows of an aged specimen, or why there is none."""
    try:
        aged = age(pristine, how, condition, seeds=seeds)
    except (ParameterError, NotConvergedError) as error:
        return {"failure": f"does not pack: {error}"}
    seen = view_state(aged, settings["voxel_nm"], settings["energy_kev"], MEASUREMENT)
    return asdict(observe(aged, seen.composition, seen.attenuation_per_um, seen.measured))


def halved_voxel(study):
    """Say how much finer voxels change what is seen: the same cells of the first seed, viewed twice."""
    settings, how, rows = study["design"], hypothesis("agglomeration"), []
    fine = settings | {"voxel_nm": settings["voxel_nm"] / 2}
    for name in ("pristine", "1000/2nd-lithiation", "2000/1st-lithiation"):
        seeds = own_seeds(name, seeds=Seeds(settings["root_seed"]))
        block = SpecimenRecipe(shape="block", width_um=settings["field_um"], length_um=settings["field_um"])
        pristine = build_specimen(ElectrodeRecipe(specimen=block), 1.0, seeds=seeds)
        condition = CONDITIONS[name].ending(settings["end_state"])
        coarse, finer = (observed(pristine, how, condition, view, seeds) for view in (settings, fine))
        if "failure" in coarse:
            rows.append({"condition": name, "observable": coarse["failure"], "coarse": math.nan, "fine": math.nan})
            continue
        rows += [
            {"condition": name, "observable": observable, "coarse": coarse[observable], "fine": finer[observable]}
            for observable in ("thickness_field_um", "thickness_sd_um", "normalised_attenuation", "inventory_um",
                               "core_shell_index", "lift_off_um")
        ]  # fmt: skip
    return rows


def play_all(specimens, folder, workers):
    """Play what is not in ``specimens.csv`` yet, and return all rows of the design."""
    path = folder / "specimens.csv"
    known = {row["key"] for row in _rows(path)}
    left = [replace(s, played=tuple(p for p in s.played if p[1] not in known)) for s in specimens]
    left = [specimen for specimen in left if specimen.played]
    wanted = [key for specimen in specimens for _, key in specimen.played]
    print(f"{len(wanted)} states, {sum(len(s.played) for s in left)} to play, {len(left)} specimens", flush=True)
    begun = time.perf_counter()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if file.tell() == 0:
            writer.writeheader()
        for done, rows in enumerate(map_slabs(play, left, workers=workers), start=1):
            writer.writerows(rows)
            file.flush()
            spent = time.perf_counter() - begun
            told = f"{spent:.0f} s, about {spent / done * (len(left) - done):.0f} s left"
            print(f"{done}/{len(left)} {rows[0]['kind']} {rows[0]['index']} {rows[0]['condition']}: {told}", flush=True)
    # What other settings left behind goes, and the order is that of the design.
    counted = {row["key"]: row for row in _rows(path)}
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(counted[key] for key in wanted)
    return [counted[key] for key in wanted]


def _rows(path):
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_samples(points, path):
    """Write the parameters of every sample."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("hypothesis", "sample", "parameter", "value"))
        for name, drawn in points.items():
            for index, (_, values) in enumerate(drawn):
                writer.writerows((name, index, parameter, f"{value:.6g}") for parameter, value in values.items())


def arguments():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, help="specimens of each condition at the default parameters")
    parser.add_argument("--samples", type=int, help="samples of each hypothesis's parameters")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--fresh", action="store_true", help="forget what was played before")
    parser.add_argument("--no-figures", action="store_true", help="leave the five figures as they are")
    parser.add_argument("--quick", action="store_true", help="a trial of minutes, without figures, that says nothing")
    parser.add_argument("--out", type=Path, help="folder of the results; this one, or runs/failure_hypotheses if quick")
    return parser.parse_args()


def main():
    given = arguments()
    study = tomllib.loads((HERE / "study.toml").read_text(encoding="utf-8"))
    design = study["design"]
    if given.quick:
        design |= {"seeds": 1, "samples": 1, "field_um": 4.0, "combinations": 20}
    design |= {name: asked for name in ("seeds", "samples") if (asked := getattr(given, name)) is not None}
    folder = given.out or (Path("runs/failure_hypotheses") if given.quick else HERE)
    folder.mkdir(parents=True, exist_ok=True)
    if folder.resolve() != HERE.resolve():
        shutil.copy(HERE / "README.md", folder)
    if given.fresh:
        (folder / "specimens.csv").unlink(missing_ok=True)
    points = {name: sampled(name, study) for name in design["hypotheses"]}
    write_samples(points, folder / "samples.csv")
    rows = play_all(design_specimens(study, points), folder, given.workers)
    render(find(rows, study) | {"voxel": halved_voxel(study)}, study, folder)
    if not (given.quick or given.no_figures):
        recipe, seeds = StateSeriesRecipe(end_state=design["end_state"]), Seeds(design["root_seed"])
        states = play_states(recipe, seeds=seeds, progress=lambda *told: print(*told, flush=True))
        write_states(states, folder / "figures", dots_per_inch=110)


if __name__ == "__main__":
    main()
