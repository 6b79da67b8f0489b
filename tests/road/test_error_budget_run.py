"""A whole error budget in seconds: an ideal microscope of which only photons and views are left to blame."""

import csv
import json
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from npsi_twin import error_budget_run
from npsi_twin.cli import app
from npsi_twin.comparison.error_budget import Budget, Estimate, Share
from npsi_twin.error_budget_run import ErrorBudgetRecipe, needle_specification, run_budget, tell
from npsi_twin.errors import DataError, IncompleteError, ResourceError
from npsi_twin.imaging_chain import SWITCHES, chain_of
from npsi_twin.repetition import repeat
from npsi_twin.specification import preset_specification, to_toml
from npsi_twin.verification import verify

DESIGN = ErrorBudgetRecipe(orders=2, replicates=2, resamples=20)
IDLE = ("optics", "rings_and_drift", "alignment", "smoothing")
FILES = ("outcomes.csv", "budget.csv", "budget.json", "budget.png", "summary.txt")


def ideal_specification():
    """Return a road on which only voxels, threshold, reconstruction, photons and views do anything."""
    tiny = preset_specification("tiny")
    detector = tiny.microscope.detector.model_copy(update={"rows": 6, "columns": 128, "flat_electrons": 3000.0})
    stage = tiny.microscope.stage.model_copy(update={"views": 61})
    small = tiny.model_copy(
        update={"microscope": tiny.microscope.model_copy(update={"detector": detector, "stage": stage})}
    )
    # what the switches turn off is what this specification never had
    off = chain_of(small, frozenset({"voxel_size", "threshold", "reconstruction", "views"}))
    return small.model_copy(
        update={
            "microscope": off.microscope,
            "reconstruction": off.reconstruction.model_copy(update={"sirt_iterations": 20}),
            "segmentation": off.segmentation,
        }
    )


SPECIFICATION = ideal_specification()


@pytest.fixture(scope="module")
def budget(tmp_path_factory):
    folder = tmp_path_factory.mktemp("budget")
    return folder, run_budget(SPECIFICATION, folder, DESIGN)


def test_shares_add_up_and_idle_switches_have_exactly_none(budget):
    folder, tree = budget
    with (folder / "budget.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for metric in ("porosity_layer", "thickness_silicon_um", "foil_attenuation_per_um"):
        of = {row["switch"]: row for row in rows if row["metric"] == metric}
        assert set(of) == {*SWITCHES, "all"}
        for kind in ("bias", "variance"):
            parts = [float(of[switch][kind]) for switch in SWITCHES]
            assert sum(parts) == pytest.approx(float(of["all"][kind]), abs=1e-12)
            assert all(float(of[switch][f"{kind}{end}"]) == 0 for switch in IDLE for end in ("", "_low", "_high"))
        assert any(float(of[switch]["bias"]) for switch in ("photons", "views", "threshold"))
    # What is idle makes no chain: 2 of voxels, 1 of the threshold, at most 4 of the scan, in each of two replicates.
    assert tree["chains"] <= 2 * 7 < 2 * tree["coalitions"]


def test_what_is_not_measured_says_why(budget):
    missing = budget[1]["metrics"]["tortuosity_pores"]
    assert missing["bias"]["value"] is None
    assert missing["note"].startswith("not measured in")


def test_an_interrupted_budget_ends_with_the_same_bytes(budget, tmp_path, monkeypatch):
    folder, tree = budget
    again = shutil.copytree(folder, tmp_path / "again")
    lines = (folder / "outcomes.csv").read_text().splitlines(keepends=True)
    # ten chains were played, and one row is left from other settings
    (again / "outcomes.csv").write_text("".join(lines[:11]) + "0123456789abcdef" + lines[11][16:])
    state = json.loads((again / "run.json").read_text())
    (again / "run.json").write_text(json.dumps(state | {"stages": {}, "status": "incomplete"}))
    played = []
    real = error_budget_run.play
    monkeypatch.setattr(error_budget_run, "play", lambda *what: (played.append(what), real(*what))[1])
    run_budget(SPECIFICATION, again, DESIGN, resume=True)
    assert len(played) == tree["chains"] - 10
    assert not list(again.glob("*aside*"))
    _same_files(again, folder)


def _same_files(again, folder):
    for name in FILES:
        assert (again / name).read_bytes() == (folder / name).read_bytes(), name


def test_a_smaller_design_grows_with_two_workers_to_the_same_bytes(budget, tmp_path):
    folder, _ = budget
    again = tmp_path / "again"
    run_budget(SPECIFICATION, again, DESIGN.model_copy(update={"orders": 1, "replicates": 1}))
    run_budget(SPECIFICATION, again, DESIGN, resume=True, workers=2)
    assert not list(again.glob("*aside*"))
    _same_files(again, folder)


def test_a_budget_is_a_run_folder_that_verifies_and_repeats(budget, tmp_path, monkeypatch):
    folder, _ = budget
    assert verify(folder).sound
    assert {finding.file for finding in verify(folder).findings} == {*FILES, "specification.toml", "design.toml"}
    state = json.loads((folder / "run.json").read_text())
    assert (state["status"], state["seed"]) == ("complete", SPECIFICATION.seed)
    graph = json.loads((folder / "ro-crate-metadata.json").read_text())["@graph"]
    assert {*FILES} < {entity["name"] for entity in graph if entity["@type"] == "File"}
    with pytest.raises(ResourceError, match="--resume to go on, --overwrite"):
        run_budget(SPECIFICATION, folder, DESIGN)
    other = SPECIFICATION.model_copy(update={"seed": 7})
    with pytest.raises(IncompleteError, match="these differ: budget"):
        run_budget(other, folder, DESIGN, resume=True)
    with monkeypatch.context() as patch:
        patch.setattr(error_budget_run, "code_sha256", lambda: "of another day")
        with pytest.raises(IncompleteError, match="these differ: code"):
            run_budget(SPECIFICATION, folder, DESIGN, resume=True)
    found = repeat(folder, tmp_path / "again")
    assert found.same, found.as_text()
    assert found.equal == FILES


def test_a_budget_that_is_overwritten_plays_every_chain_anew(budget, tmp_path, monkeypatch):
    folder = shutil.copytree(budget[0], tmp_path / "again")
    state = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(state | {"stages": {}}))  # as a kill leaves it: chains, and no record

    def stopped(chain, seed):
        raise KeyboardInterrupt

    monkeypatch.setattr(error_budget_run, "play", stopped)
    with pytest.raises(KeyboardInterrupt):
        run_budget(SPECIFICATION, folder, DESIGN, overwrite=True)
    assert not (folder / "outcomes.csv").exists()


def test_the_command_goes_on_with_a_folder_and_tells_in_words(budget, tmp_path):
    tree = budget[1]
    folder = shutil.copytree(budget[0], tmp_path / "again")
    (tmp_path / "spec.toml").write_text(to_toml(SPECIFICATION))
    words = ["budget", str(tmp_path / "spec.toml"), "--out", str(folder), "--orders", "2", "--replicates", "2"]
    told = CliRunner().invoke(app, [*words, "--resume", "--json"])
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout[told.stdout.index("{") :])
    assert found["metrics"]["porosity_layer"]["bias"]["value"] == tree["metrics"]["porosity_layer"]["bias"]["value"]
    assert "Porosity of the layer comes out as" in found["summary"][0]


def test_a_chain_that_fails_leaves_its_reason(tmp_path, monkeypatch):
    def no_foil(chain, seed):
        raise DataError("no foil below the layer")

    monkeypatch.setattr(error_budget_run, "play", no_foil)
    tree = run_budget(SPECIFICATION, tmp_path, ErrorBudgetRecipe(orders=1, replicates=1))
    assert "no foil below the layer" in tree["metrics"]["porosity_layer"]["note"]
    assert tree["metrics"]["porosity_layer"]["note"].endswith("0 of 1 replicates have it in every chain")
    assert tree["summary"][0] == (
        "Porosity of the layer: could be measured in every chain of no replicate; budget.csv says why."
    )


def test_another_file_is_not_taken_for_outcomes(tmp_path, monkeypatch):
    monkeypatch.setattr(error_budget_run, "play", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run_budget(SPECIFICATION, tmp_path, DESIGN)
    (tmp_path / "outcomes.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="no chains of an error budget"):
        run_budget(SPECIFICATION, tmp_path, DESIGN, resume=True)


def budget_of(*shares):
    """Return a budget from (switch, share of the bias and half its interval, share of the variance and half its)."""
    told = tuple(
        Share(name, Estimate(bias, bias - half, bias + half), Estimate(variance, variance - wide, variance + wide))
        for name, bias, half, variance, wide in shares
    )
    whole = sum(bias for _, bias, *_ in shares)
    return Budget(0.6, Estimate(whole, whole - 0.02, whole + 0.02), Estimate(0.0004, 0.0, 0.001), 6, told)


def test_words_are_those_of_the_numbers():
    whole = budget_of(
        ("optics", -0.05, 0.01, 3e-4, 4e-4), ("photons", 0.02, 0.03, 1e-4, 1e-4), ("views", 0.0, 0.0, 0.0, 0.0)
    )
    assert tell("porosity_layer", whole) == (
        "Porosity of the layer comes out as 0.57 where the truth is 0.6, an error of -0.03 (95 % interval -0.05 to "
        "-0.01, 6 replicates). The largest shares: optics -0.05 (-0.06 to -0.04), photons +0.02 (-0.01 to +0.05). "
        "Certain of these: optics. From specimen to specimen the error scatters by 0.02; so few replicates cannot tell "
        "through which step."
    )


def test_a_switch_is_named_for_the_scatter_only_where_its_interval_excludes_zero():
    whole = budget_of(("optics", -0.05, 0.01, 3e-4, 4e-4), ("photons", 0.02, 0.03, 1e-4, 0.5e-4))
    assert tell("porosity_layer", whole).endswith("scatters by 0.02, part of it through photons.")


def test_shares_that_cancel_are_told():
    cancel = budget_of(("photons", -0.05, 0.01, 0.0, 1.0), ("smoothing", 0.04, 0.01, 0.0, 1.0))
    assert "Shares cancel: +0.04 and -0.05 leave -0.01, foremost smoothing against photons." in tell(
        "porosity_layer", cancel
    )
    unsure = budget_of(("photons", -0.05, 0.01, 0.0, 1.0), ("smoothing", 0.04, 0.05, 0.0, 1.0))
    assert "cancel" not in tell("porosity_layer", unsure)


def test_the_default_needle_has_the_dose_of_the_demo():
    needle, demo = needle_specification().microscope, preset_specification("demo").microscope
    for name in ("flat_electrons", "camera_pixel_nm", "binning", "blur_fwhm_px"):
        assert getattr(needle.detector, name) == getattr(demo.detector, name)
    assert needle.stage == demo.stage
    assert np.isclose(needle.detector.columns * needle.detector.pixel_nm, 6502.4)
