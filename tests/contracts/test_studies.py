"""Studies ask for what the package has: every walk of their designs is a valid specification before it is walked."""

import importlib.util
import sys
import tomllib
from pathlib import Path

import pytest

from npsi_twin.morphology.segmentation import SegmentationRecipe
from npsi_twin.phantoms.draws import PhantomRecipe, draw_specimen, phantom_base
from npsi_twin.phantoms.ranges import load_ranges, parse_ranges
from npsi_twin.seeds import Seeds
from npsi_twin.specification import parse_values
from npsi_twin.variations import with_values

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
