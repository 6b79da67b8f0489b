"""The whole road on the smallest specimen: what is written, that it repeats, that its stages can be walked alone."""

import csv
import json
import re
import shutil

import h5py
import numpy as np
import pytest

from npsi_twin.comparison.label_scores import score_labels
from npsi_twin.errors import DataError, IncompleteError, OutOfRangeWarning, ResourceError
from npsi_twin.execution import file_sha256
from npsi_twin.report.turntable import FRAMES
from npsi_twin.single_files import reconstruct_file
from npsi_twin.specification import load_specification, preset_specification
from npsi_twin.stages import make_electrode, truth_grid
from npsi_twin.storage.measurements import scores_tree
from npsi_twin.storage.ro_crate import CRATE
from npsi_twin.storage.volumes import read_volume
from npsi_twin.twin import STAGES, build_run, run_stage, run_twin
from npsi_twin.verification import verify

#: Everything but run.json, which keeps times and the host.
FILES = (
    "specification.toml",
    "truth.h5",
    "scan.h5",
    "scan_truth.h5",
    "reconstruction.h5",
    "segmentation.h5",
    "measurements.csv",
    "measurements.h5",
    "comparison.json",
    "report.html",
)


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NPSI_TWIN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def tiny():
    return preset_specification("tiny")


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny):
    folder = tmp_path_factory.mktemp("road") / "run"
    run_twin(tiny, folder)
    return folder


def _bytes(folder):
    figures = sorted((folder / "figures").iterdir())
    return {path.name: path.read_bytes() for path in (*(folder / name for name in FILES), *figures)}


def _recovered(folder):
    """Return what a run's table says of the recovered volume, as it is written."""
    with (folder / "measurements.csv").open(newline="") as file:
        return {row["quantity"]: (row["recovered"], row["recovered_spread"], row["n"]) for row in csv.DictReader(file)}


def test_the_run_is_complete_and_says_how_it_was_made(run, tiny):
    state = json.loads((run / "run.json").read_text())
    assert state["status"] == "complete"
    assert list(state["stages"]) == list(STAGES)
    assert state["seed"] == tiny.seed
    assert state["stages"]["scan"]["projector"] == state["stages"]["reconstruct"]["projector"] == "fourier"
    assert load_specification(run / "specification.toml") == tiny
    assert sorted(path.name for path in run.iterdir()) == sorted((*FILES, "run.json", CRATE, "figures"))


def test_a_whole_run_verifies_and_its_crate_says_what_was_made_from_what(run):
    found = verify(run)
    assert (found.status, found.sound, found.of("given")) == ("complete", True, [])
    files = {*FILES, *(f"figures/{path.name}" for path in (run / "figures").iterdir())}
    assert {finding.file for finding in found.findings} == files
    graph = {entity["@id"]: entity for entity in json.loads((run / CRATE).read_text())["@graph"]}
    referred = re.findall(r'"@id": "([^"]*)"', json.dumps(list(graph.values())))
    assert {name for name in referred if not name.startswith("http")} <= graph.keys()
    assert {entry["@id"] for entry in graph["#stage-segment"]["object"]} == {"specification.toml", "reconstruction.h5"}
    assert {entry["@id"] for entry in graph["#run"]["result"]} == files - {"specification.toml"}
    assert graph["#stage-scan"]["description"] == "projector: fourier"
    rocrate = pytest.importorskip("rocrate.rocrate", reason="rocrate is not installed")
    crate = rocrate.ROCrate(str(run))
    assert {entity["sha256"] for entity in crate.data_entities} == {finding.found for finding in found.findings}


def test_truth_is_exact_and_whole(run, tiny):
    grid = truth_grid(tiny)
    with h5py.File(run / "truth.h5") as file:
        assert file.attrs["voxel_nm"] == grid.voxel_nm
        arrays = {name: data[()] for name, data in file.items() if isinstance(data, h5py.Dataset)}
    fractions = [name for name in arrays if name.endswith("_fraction")]
    assert len(fractions) == 6
    assert all(array.shape == grid.shape for array in arrays.values())
    # Rounding of five float32 fractions.
    np.testing.assert_allclose(sum(arrays[name].astype(float) for name in fractions), 1.0, atol=5e-7)
    assert arrays["void_fraction"][arrays["phase"] == 0].mean() > 0.98
    assert arrays["silicon_fraction"][arrays["phase"] == 1].mean() > 0.8
    assert set(np.unique(arrays["phase"])) == {0, 1, 2, 3}
    # A pore inside an envelope carries its particle's number.
    assert np.any((arrays["phase"] == 0) & (arrays["particle_id"] > 0))


def test_the_scan_tells_nothing_that_a_beamline_would_not(run):
    with h5py.File(run / "scan.h5") as file:
        names = []
        file.visit(names.append)
    assert not [name for name in names if "truth" in name or "shift" in name or "axis" in name or "phase" in name]


def test_the_axis_is_found(run):
    found = json.loads((run / "run.json").read_text())["stages"]["reconstruct"]["rotation_axis_px"]
    with h5py.File(run / "truth.h5") as file:
        true = file["scan/rotation_axis_px"][()]
    # 12 noisy rows of a needle of 98 pixels whose every view is moved by 0.3 pixels: 0.3 / sqrt(views / 2) = 0.04 for
    # the mean shift, as much again for its first harmonic, and noise; four of their sum.
    assert found == pytest.approx(true, abs=0.3)
    # The comparison leaves out the mean shift, which is a part of the axis that the data show.
    accuracy = json.loads((run / "comparison.json").read_text())["stage_accuracy"]
    assert abs(accuracy["axis_error_px"]) < 0.3
    assert accuracy["run_out_left_rms_px"] == pytest.approx(accuracy["run_out_rms_px"])


def test_the_table_is_complete(run):
    with (run / "measurements.csv").open() as file:
        rows = {row["quantity"]: row for row in csv.DictReader(file)}
    assert list(next(iter(rows.values()))) == [
        "quantity", "unit", "truth", "truth_spread", "recovered", "recovered_spread", "bias", "n",
    ]  # fmt: skip
    for name in ("thickness_silicon_um", "porosity_particles", "foil_attenuation_per_um"):
        row = rows[name]
        assert float(row["bias"]) == pytest.approx(float(row["recovered"]) - float(row["truth"]), abs=1e-9)
    assert rows["thickness_solids_um"]["recovered"] == ""
    comparison = json.loads((run / "comparison.json").read_text())
    assert 0.4 < comparison["segmentation_accuracy"]["dice_silicon_layer"] < 1


def test_the_comparison_scores_labels_in_every_way(run):
    """What `npsi-twin score` says of anybody's labels, a run says of its own."""
    truth, comparison = run / "truth.h5", json.loads((run / "comparison.json").read_text())
    volumes = {name: read_volume(truth, name) for name in ("phase", "silicon_fraction", "particle_id")}
    scores = score_labels(volumes.pop("phase"), read_volume(run / "segmentation.h5"), **volumes)
    told = scores_tree(scores)
    assert comparison["label_scores"] == {name: told[name] for name in ("quantities", "curves", "recipe_digest")}
    assert comparison["label_scores"]["quantities"]["boundary_mean_nm"]["value"] > 0
    assert comparison["label_scores"]["curves"]["by_ligament"]["n"]
    assert comparison["segmentation_accuracy"]["confusion_true_by_recovered"] == told["confusion_true_by_recovered"]


def test_the_page_needs_no_network(run):
    page = (run / "report.html").read_text()
    # Seven figures, the turntables of truth and recovered, and the strip of their colours.
    assert page.count("data:image/png;base64,") == 7 + 2 * FRAMES + 1
    assert "://" not in page  # base64 has no colon, and "http" by chance
    assert page.count("<script") == 2  # the volumes of the slice viewer, and the page's own


def test_two_workers_write_the_same_bytes(run, tiny, tmp_path):
    run_twin(tiny, tmp_path / "two", workers=2)
    one, two = _bytes(run), _bytes(tmp_path / "two")
    assert [name for name in one if one[name] != two[name]] == []
    assert one.keys() == two.keys()


def test_stages_alone_write_the_same_bytes(run, tiny, tmp_path):
    folder = tmp_path / "alone"
    build_run(tiny, folder)
    assert json.loads((folder / "run.json").read_text())["status"] == "incomplete"
    for name in STAGES[1:]:
        run_stage(folder, name)
    assert json.loads((folder / "run.json").read_text())["status"] == "complete"
    one, alone = _bytes(run), _bytes(folder)
    assert [name for name in one if one[name] != alone[name]] == []
    run_stage(folder, "measure")
    state = json.loads((folder / "run.json").read_text())
    assert list(state["stages"]) == list(STAGES[:5])
    assert state["status"] == "incomplete"


def test_resume_redoes_only_what_differs_and_what_follows_and_loses_nothing(tiny, run, tmp_path):
    folder = tmp_path / "resumed"
    run_twin(tiny, folder)
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.h5")}
    (folder / "segmentation.h5").write_bytes(b"somebody's own labels, or bit rot")
    run_twin(tiny, folder, resume=True)
    after = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.h5")}
    assert {name for name in after if after[name] != before[name]} == {"segmentation.h5", "measurements.h5"}
    assert (folder / "segmentation.h5.aside-1").read_bytes() == b"somebody's own labels, or bit rot"
    assert _bytes(folder) == _bytes(run)


def test_a_users_own_segmentation_is_measured_and_named(tiny, run, tmp_path):
    folder = tmp_path / "own"
    run_twin(tiny, folder)
    with h5py.File(folder / "segmentation.h5", "a") as file:
        labels = file["phase"][()]
        labels[labels == 1] = 0
        labels[:, 60:70, 50:70] = 1
        file["phase"][...] = labels
    for name in STAGES[4:]:
        run_stage(folder, name)
    state = json.loads((folder / "run.json").read_text())
    assert state["stages"]["measure"]["given_by_user"] == ["segmentation.h5"]
    page = (folder / "report.html").read_text()
    assert file_sha256(folder / "segmentation.h5") + " (not written by this run)" in page
    assert (folder / "measurements.csv").read_bytes() != (run / "measurements.csv").read_bytes()


def test_a_run_without_truth_has_its_page(run, tmp_path):
    folder = tmp_path / "blind"
    shutil.copytree(run, folder)
    for name in ("truth.h5", "scan_truth.h5"):
        (folder / name).unlink()
    for name in STAGES[2:]:
        run_stage(folder, name)
    # blind is sighted: nothing between scan and recovered numbers looks at the truth, hence the same bytes
    for name in ("reconstruction.h5", "segmentation.h5"):
        assert (folder / name).read_bytes() == (run / name).read_bytes(), name
    blind, sighted = _recovered(folder), _recovered(run)
    assert sum(value != "" for value, _, _ in sighted.values()) > 30
    assert blind == sighted
    page = (folder / "report.html").read_text()
    assert "<h2>Slices: reconstruction, segmentation</h2>" in page
    assert "no truth is known" in page
    assert page.count("data:image/png;base64,") == 5 + FRAMES + 1
    assert "paler than the truth" not in page


def test_overwriting_leaves_nothing_of_the_old_run(tiny, tmp_path):
    """A new truth beside the scan of an old one would be compared with it."""
    folder = tmp_path / "again"
    run_twin(tiny, folder)
    (folder / "notes.txt").write_text("mine")
    build_run(tiny.model_copy(update={"seed": 7}), folder, overwrite=True)
    assert sorted(path.name for path in folder.glob("*.*")) == [
        "notes.txt",
        "run.json",
        "specification.toml",
        "truth.h5",
    ]
    with pytest.raises(DataError, match=r"scan\.h5"):
        run_stage(folder, "reconstruct")


def test_a_run_is_never_overwritten_by_accident(tiny, run):
    before = _bytes(run)
    with pytest.raises(ResourceError, match="--resume.*--overwrite"):
        run_twin(tiny, run)
    with pytest.raises(IncompleteError, match="specification"):
        run_twin(tiny.model_copy(update={"seed": 1}), run, resume=True)
    assert _bytes(run) == before


def test_a_real_scan_walks_the_same_stairs(tiny, run, tmp_path):
    """The file alone, in a folder without any truth, gives the very same volume."""
    (tmp_path / "real.h5").write_bytes((run / "scan.h5").read_bytes())
    result = reconstruct_file(tmp_path / "real.h5", tmp_path / "out", specification=tiny)
    assert result["unit"] == "1/um"
    assert (tmp_path / "out" / "reconstruction.h5").read_bytes() == (run / "reconstruction.h5").read_bytes()
    assert json.loads((tmp_path / "out" / "run.json").read_text())["status"] == "complete"
    assert (tmp_path / "out" / "report.html").read_text().count("data:image/png") == 3


def test_nothing_is_written_for_a_scan_that_cannot_be_used(tmp_path, run):
    broken = tmp_path / "broken.h5"
    broken.write_bytes((run / "scan.h5").read_bytes())
    with h5py.File(broken, "a") as file:
        del file["exchange/data_white"]
    with pytest.raises(DataError, match="no flat fields"):
        reconstruct_file(broken, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pixels_larger_than_the_pores_are_warned_of(tiny):
    # Mean ligament: pore (1 - porosity) / porosity, 110 x 0.3 / 0.7 = 47 nm, below the pixel of 50.8 nm.
    fine = tiny.electrode.silicon.model_copy(update={"mean_pore_nm": 110.0, "porosity_fraction": 0.7})
    specification = tiny.model_copy(update={"electrode": tiny.electrode.model_copy(update={"silicon": fine})})
    with pytest.warns(OutOfRangeWarning, match="larger than the silicon's features"):
        make_electrode(specification)
