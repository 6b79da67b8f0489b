"""Studies ask for what the package has: every walk of their designs is a valid specification before it is walked."""

import importlib.util
import sys
import tomllib
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from npsi_twin.comparison.targets import StateObservables
from npsi_twin.cycling.protocol import CONDITIONS
from npsi_twin.morphology.measure import measure
from npsi_twin.morphology.segmentation import SegmentationRecipe
from npsi_twin.phantoms.draws import PhantomRecipe, draw_specimen, phantom_base
from npsi_twin.phantoms.ranges import load_ranges, parse_ranges
from npsi_twin.seeds import Seeds
from npsi_twin.specification import Specification, parse_values
from npsi_twin.variations import with_values
from npsi_twin.volumes import Phase, Volume, VoxelGrid

STUDIES = Path(__file__).resolve().parents[2] / "studies"


@pytest.fixture
def study(request, monkeypatch):
    """Return a study's run.py as a module, and its design."""
    folder = STUDIES / request.param
    monkeypatch.syspath_prepend(str(STUDIES))
    monkeypatch.setattr(sys, "path", list(sys.path))  # a study puts its own folder there
    spec = importlib.util.spec_from_file_location(f"study_{request.param}", folder / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module, tomllib.loads((folder / "study.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("study", ["pristine_attenuation"], indirect=True)
def test_every_cause_is_a_road_of_its_own(study):
    module, design = study
    walks = list(module.cases(design, False))
    assert {cause for cause, _, _ in walks} == set(design["cause"])
    for cause in design["cause"]:
        own = [specification.digest() for name, _, specification in walks if name == cause]
        assert len(own) == len(set(own)) >= 2
    assert len(module.walks_of(design, False)) < design["design"]["seeds"] * len(walks)  # equal walks are walked once


@pytest.mark.parametrize("study", ["segmentation_methods"], indirect=True)
def test_every_scan_and_method_is_valid(study):
    module, design = study
    scans = list(module.scans(design, False))
    assert len({specification.digest() for *_, specification in scans}) == len(scans) == 21
    recipes = {parse_values(SegmentationRecipe(), changes, "segmentation") for changes in design["method"].values()}
    assert len(recipes) == len(design["method"])


@pytest.mark.parametrize("study", ["training_phantoms"], indirect=True)
def test_sets_can_be_drawn_and_the_other_microscope_is_none_of_the_training(study):
    module, design = study
    drawn = {}
    for name, of in design["set"].items():
        ranges = parse_ranges(module.changed_text(load_ranges(None), of.get("vary", {}), fixed={}))
        base = with_values(phantom_base(), of["base"])
        first = draw_specimen(PhantomRecipe(), ranges, base, 0, seeds=Seeds(design["design"]["root_seed"] + of["seed"]))
        drawn[name] = first.scans[0].specification
    assert len({specification.seed for specification in drawn.values()}) == len(drawn)
    train, other = drawn["train"].microscope, drawn["other"].microscope
    assert other.detector.pixel_nm != train.detector.pixel_nm
    limits = {entry.name: entry for entry in load_ranges(None).ranges}
    for name, entry in design["set"]["other"]["vary"].items():
        assert entry["low"] > limits[name].high


@pytest.mark.parametrize("study", ["seven_states"], indirect=True)
def test_every_state_is_walked_and_every_name_is_known(study):
    module, design = study
    walks = list(module.walks(design, False))
    assert {state for state, *_ in walks} == set(CONDITIONS)
    assert len({specification.digest() for *_, specification in walks}) == len(walks) == 14
    assert set(design["state"]) < set(CONDITIONS)
    assert set(design["observable"]) <= {field.name for field in fields(StateObservables)}
    assert set(design["quantity"]) <= set(measure(Volume(np.zeros((1, 4, 4), np.uint8), 50.0)).quantities)


@pytest.mark.parametrize("study", ["seven_states"], indirect=True)
def test_what_changes_a_verdict_is_told(study):
    """Two pristine pieces and one that has grown: doubled in the truth, and for one piece tripled as recovered."""
    module, design = study

    def row(state, **thickness):
        seen = {f"{reading} thickness_field_um": value for reading, value in thickness.items()}
        return {"state": state, "specimen": 0, "failure": ""} | seen

    rows = [
        row("pristine", scene=2.0, truth=2.0, recovered=2.0, best=2.0),
        row("pristine", scene=2.0, truth=2.0, recovered=4.0 / 3, best=2.0),
        row("1000/2nd-lithiation", scene=4.0, truth=4.0, recovered=4.0, best=4.0),
        {"state": "1000/500", "specimen": 0, "failure": "does not pack"},
    ]
    result = module.find(rows, design | {"quick": False})
    found = result["targets"]["field"]["T_ratio_1000_2nd"]
    assert (result["series"], found["changed"]) == (2, {"recovered": {"met to not met": 1}, "best": {}})
    assert (found["ratios"]["truth"], found["ratios"]["recovered"]) == ("2", "2.5")
    assert result["targets"]["field"]["T_ratio_1000_500"]["verdicts"]["recovered"] == {"not decidable": 2}
    assert result["bias"]["recovered"]["thickness_field_um"]["pristine"] == pytest.approx(-1 / 6)
    page = module.parts_of(result, rows, design | {"quick": False})
    assert any("T_ratio_1000_2nd" in point for point in page["answer"])
    assert page["refused"] == ["- 1000/500, specimen 0, all of it: does not pack"]


@pytest.mark.parametrize("study", ["detectability"], indirect=True)
def test_planted_objects_have_their_volume_and_are_found_in_true_labels(study):
    module, design = study
    assert len(list(module.conditions(design, False))) == 17  # of twenty, the base is walked once
    specimen = with_values(Specification(), design["base"]).electrode.specimen
    grid = VoxelGrid((48, 256, 256), 50.8)
    objects = module.plant(design["design"], specimen, 48 * grid.voxel_nm, np.random.default_rng(1))
    attenuation = module.attenuation_of(objects, grid, specimen, 8.0)
    phases = np.select([attenuation > 0.03, attenuation > 0.0075], [Phase.CURRENT_COLLECTOR, Phase.SILICON], Phase.VOID)
    found = module.shares_found(objects, Volume(phases.astype(np.uint8), grid.voxel_nm))
    assert {planted.kind for planted in objects} == set(module.KINDS)
    for planted, share in zip(objects, found, strict=True):
        if planted.blank:
            assert share == 0
        elif planted.size_nm > 3 * grid.voxel_nm:
            assert share > 0.5
    ball = max((planted for planted in objects if planted.kind == "pore"), key=lambda planted: planted.size_nm)
    volume_nm3 = ball.share_of_voxels(grid)[1].sum() * grid.voxel_nm**3
    # 125 samples a voxel on a ball of some ten voxels across
    assert volume_nm3 == pytest.approx(np.pi / 6 * ball.size_nm**3, rel=0.02)
