"""Sets of phantoms on disk: every layout read back, the same bytes by any road, whole cases only."""

import json
import shutil
import warnings
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import tifffile

from npsi_twin import costs
from npsi_twin.errors import (
    IncompleteError,
    NotConvergedError,
    OutOfRangeWarning,
    ParameterError,
    ResourceError,
)
from npsi_twin.execution import file_sha256
from npsi_twin.phantoms import case as case_module
from npsi_twin.phantoms.data_set import make_phantoms
from npsi_twin.phantoms.draws import PhantomRecipe
from npsi_twin.phantoms.layouts import NNUNET_FOLDER
from npsi_twin.phantoms.ranges import parse_ranges
from npsi_twin.repetition import repeat
from npsi_twin.seeds import Seeds
from npsi_twin.specification import load_specification, parse_specification
from npsi_twin.storage.nnunet import check_nnunet
from npsi_twin.storage.volumes import open_volume, read_volume
from npsi_twin.twin import run_twin
from npsi_twin.verification import verify

SHAPE, VOXEL = (12, 56, 56), 50.8
#: A thin needle, few views and a known axis: seconds, and no physics to speak of.
BASE = parse_specification("""
name = "tiny phantom"
electrode.specimen = {width_um = 2.6, length_um = 2.0, foil_surface_height_um = -0.6, needle_offset_across_um = 0.1, needle_offset_height_um = -0.1}
electrode.layer = {mean_height_um = 1.4, height_sd_um = 0.1}
microscope.halo_rows = 5
microscope.supersampling = 1
microscope.detector = {rows = 12, columns = 64, flat_frames = 4, dark_frames = 4}
microscope.stage = {views = 61, axis_offset_px = 1.0}
reconstruction = {width_px = 56, sirt_iterations = 20, rotation_axis_px = 32.5}
""")  # noqa: E501
RANGES = parse_ranges("""
[electrode.silicon]
porosity_fraction = {low = 0.45, high = 0.6}
[microscope.detector]
flat_electrons = {low = 2000.0, high = 8000.0, scale = "log"}
""")


def make(folder, seed=5, ranges=RANGES, base=BASE, how=None, resume=False, **recipe):
    given = {"count": 2, "layout": "npz"} | recipe
    return make_phantoms(folder, PhantomRecipe(**given), ranges, base, seeds=Seeds(seed), resume=resume, **(how or {}))


def contents(folder: Path) -> dict[str, str]:
    """Return the hashes of everything but what tells times."""
    told = ("run.json", "ro-crate-metadata.json")
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in told)
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}


def case_folders(folder: Path) -> list[Path]:
    return sorted((folder / "cases").iterdir())


@pytest.fixture(scope="module")
def npz_set(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantoms") / "set"
    facts = make(folder)
    assert facts["cases"] == 2
    return folder


def volumes(folder: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return image and labels of every case of a set of npz."""
    found = []
    for own in case_folders(folder):
        with np.load(own / "case.npz", allow_pickle=False) as arrays:
            assert float(arrays["voxel_nm"]) == VOXEL
            found.append((arrays["attenuation_per_um"], arrays["phase"]))
    return found


def test_a_case_is_image_labels_truth_and_how_to_make_it_again(npz_set, tmp_path):
    (image, labels), _ = volumes(npz_set)
    assert image.shape == labels.shape == SHAPE
    own = case_folders(npz_set)[0]
    record = json.loads((own / "case.json").read_text())
    assert sum(record["voxels_of_phase"].values()) == labels.size
    assert record["voxels_of_phase"]["silicon"] == np.count_nonzero(labels == 1) > 0
    # What was drawn is what the specification says, and the ordinary road makes the very same volumes of it.
    specification = load_specification(own / "specification.toml")
    drawn = record["drawn"]["electrode.silicon.porosity_fraction"]
    assert specification.electrode.silicon.porosity_fraction == drawn
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutOfRangeWarning)
        # so few rows and columns need not show their layer to whoever would segment them
        run_twin(specification, tmp_path / "run", until="reconstruct")
    np.testing.assert_array_equal(read_volume(tmp_path / "run" / "reconstruction.h5").values, image)
    np.testing.assert_array_equal(read_volume(tmp_path / "run" / "truth.h5", "phase").values, labels)


def test_hashes_manifest_and_split_agree_with_the_files(npz_set):
    lines = [json.loads(line) for line in (npz_set / "manifest.jsonl").read_text().splitlines()]
    assert [line["case"] for line in lines] == [path.name for path in case_folders(npz_set)]
    for line in lines:
        assert {npz_set / place: digest for place, digest in line["files"].items()} == {
            path: file_sha256(path) for path in (npz_set / "cases" / line["case"]).iterdir()
        }
    splits = json.loads((npz_set / "splits.json").read_text())
    assert sorted(name for part in splits.values() for name in part) == [line["case"] for line in lines]
    assert not list(npz_set.glob(".making-*"))
    card = (npz_set / "README.md").read_text()
    assert "CC-BY-4.0" in card
    assert "`electrode.silicon.porosity_fraction` | specimen | 0.45 to 0.6 |" in card


def test_two_workers_make_the_same_bytes(npz_set, tmp_path):
    make(tmp_path / "set", how={"workers": 2})
    assert contents(tmp_path / "set") == contents(npz_set)


def unfinished(npz_set: Path, folder: Path) -> Path:
    """Copy a set as it was before it was finished: with its cases, and no record of the whole."""
    shutil.copytree(npz_set, folder)
    state = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(state | {"stages": {}, "status": "incomplete"}))
    return folder


def test_a_lost_case_a_cut_manifest_and_leftovers_are_mended_to_the_same_bytes(npz_set, tmp_path):
    folder = unfinished(npz_set, tmp_path / "set")
    shutil.rmtree(case_folders(folder)[0])
    text = (folder / "manifest.jsonl").read_text()
    (folder / "manifest.jsonl").write_text(text[:-40])
    (folder / ".making-killed").mkdir()
    make(folder, resume=True)
    assert contents(folder) == contents(npz_set)


def test_a_set_grows_and_does_not_shrink(npz_set, tmp_path):
    folder = tmp_path / "set"
    make(folder, count=1)
    make(folder, count=2, resume=True)
    assert contents(folder) == contents(npz_set)
    with pytest.raises(ParameterError, match="a set only grows"):
        make(folder, count=1, resume=True)
    with pytest.raises(IncompleteError, match="seed"):
        make(folder, seed=6, resume=True)


@pytest.mark.parametrize("file", ["specification.toml", "case.npz", "case.json"])
def test_a_changed_case_is_set_aside_and_made_again(npz_set, tmp_path, file):
    folder = tmp_path / "set"
    shutil.copytree(npz_set, folder)
    own = case_folders(folder)[1]
    (own / file).write_text("mine")
    told = []
    make(folder, resume=True, how={"progress": lambda *what: told.append(what)})
    kept = folder / "aside-1" / "cases" / own.name
    assert (kept / file).read_text() == "mine"
    assert f"kept aside-1: {own.name} is not as it was written, and is made again" in [what for what, _, _ in told]
    assert ("specimens", 1, 1) in told
    shutil.rmtree(folder / "aside-1")
    assert contents(folder) == contents(npz_set)


def test_what_a_power_cut_left_of_a_case_is_made_again(npz_set, tmp_path):
    # Before the manifest had its line, the record was in place and its bytes were not.
    folder = unfinished(npz_set, tmp_path / "set")
    lines = (folder / "manifest.jsonl").read_text().splitlines(keepends=True)
    (folder / "manifest.jsonl").write_text(lines[0])
    (case_folders(folder)[1] / "case.json").write_text("")
    make(folder, resume=True)
    shutil.rmtree(folder / "aside-1")
    assert contents(folder) == contents(npz_set)


def test_files_of_the_set_as_a_whole_are_recorded_and_a_changed_one_is_kept(npz_set, tmp_path):
    folder = tmp_path / "set"
    shutil.copytree(npz_set, folder)
    recorded = {finding.file for finding in verify(folder).of("same")}
    told = {"run.json", "ro-crate-metadata.json"}
    assert recorded == {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {*told}
    (folder / "README.md").write_text("my notes")
    assert [finding.file for finding in verify(folder).of("changed")] == ["README.md"]
    make(folder, resume=True)
    assert (folder / "README.md.aside-1").read_text() == "my notes"
    assert contents(folder) == contents(npz_set) | {"README.md.aside-1": file_sha256(folder / "README.md.aside-1")}


def test_the_crate_of_a_set_names_every_file(npz_set):
    state = json.loads((npz_set / "run.json").read_text())
    assert state["status"] == "complete"
    assert state["ended"]
    graph = json.loads((npz_set / "ro-crate-metadata.json").read_text())["@graph"]
    named = {entity["@id"]: entity["sha256"] for entity in graph if entity["@type"] == "File"}
    assert named == contents(npz_set)


def test_a_set_repeats_byte_for_byte(npz_set, tmp_path):
    found = repeat(npz_set, tmp_path / "again")
    assert found.same, found.as_text()
    assert {"README.md", "splits.json", "manifest.jsonl"} < {*found.equal}
    assert len(found.equal) == 3 + 2 * 3  # and of every case the volumes, its specification and its record


def test_a_set_is_overwritten_whole_and_nothing_of_another_code_stays(npz_set, tmp_path):
    folder = tmp_path / "set"
    shutil.copytree(npz_set, folder)
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(ResourceError, match="--overwrite"):
        make(folder, count=1)
    make(folder, count=1, how={"overwrite": True})
    assert len(case_folders(folder)) == len((folder / "manifest.jsonl").read_text().splitlines()) == 1
    assert (folder / "mine.txt").read_text() == "mine"


def test_everything_of_a_case_is_on_disk_before_its_record_has_its_place(tmp_path, monkeypatch):
    tree, folder, events = tmp_path / "tree", tmp_path / "set", []
    (tree / "cases" / "one" / "image.zarr").mkdir(parents=True)
    for name in ("images/one.tif", "cases/one/case.json", "cases/one/image.zarr/0"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("x")
    rename = Path.rename
    monkeypatch.setattr(case_module, "flush_to_disk", lambda path: events.append(path))
    monkeypatch.setattr(Path, "rename", lambda path, to: (events.append("renamed"), rename(path, to))[1])
    case_module.publish(tree, folder, "one")
    last = events.index("renamed")
    assert {tree / "images/one.tif", tree / "cases/one/case.json", tree / "cases/one/image.zarr/0"} <= {*events[:last]}
    assert {folder / "images", tree / "cases/one", tree / "cases/one/image.zarr"} <= {*events[:last]}
    assert events[last + 1 :] == [folder / "cases"]
    assert (folder / "cases/one/image.zarr/0").read_text() == "x"


def test_a_finished_set_asks_for_no_more_disk(npz_set, tmp_path, monkeypatch):
    folder = tmp_path / "set"
    shutil.copytree(npz_set, folder)
    monkeypatch.setattr(costs.shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    make(folder, resume=True)
    with pytest.raises(ResourceError, match="of disk"):
        make(folder, count=3, resume=True)


def test_low_memory_makes_low_slabs_of_the_base(tmp_path):
    with pytest.raises(ResourceError, match="--max-memory"):
        make(tmp_path / "set", how={"max_memory": "1MB"})
    assert not (tmp_path / "set").exists()


def test_nnunet_layout_passes_the_check_and_holds_the_same_voxels(npz_set, tmp_path):
    facts = make(tmp_path / "set", layout="nnunet", train_fraction=0.5, validation_fraction=0.0)
    dataset = tmp_path / "set" / NNUNET_FOLDER
    # Specimen 1 lies at 0.618 of the golden sequence: beyond one half, it is the test.
    assert (facts["train"], facts["validation"], facts["test"]) == (1, 0, 1)
    assert check_nnunet(dataset)["training"] == check_nnunet(dataset)["test"] == 1
    tree = json.loads((dataset / "dataset.json").read_text())
    assert tree["channel_names"] == {"0": "TXM"}
    assert tree["numTraining"] == 1
    assert list(tree["labels"].values()) == [0, 1, 2, 3, 4, 5]
    for part, (image, labels) in zip(("Tr", "Ts"), volumes(npz_set), strict=True):
        [stored] = (dataset / f"images{part}").glob("*_0000.tif")
        np.testing.assert_array_equal(tifffile.imread(stored), image)
        [stored] = (dataset / f"labels{part}").glob("*.tif")
        np.testing.assert_array_equal(tifffile.imread(stored), labels)
        for kind in ("images", "labels"):
            [aside] = (dataset / f"{kind}{part}").glob("*.json")
            assert json.loads(aside.read_text()) == {"spacing": [VOXEL] * 3}
    before = contents(tmp_path / "set")
    [lost] = (dataset / "labelsTs").glob("*.tif")
    lost.unlink()
    make(tmp_path / "set", layout="nnunet", train_fraction=0.5, validation_fraction=0.0, resume=True)
    assert contents(tmp_path / "set") == before


@pytest.mark.parametrize("layout", ["hdf5", "tiff", "ome-zarr"])
def test_other_layouts_hold_the_same_voxels_with_their_size(npz_set, tmp_path, layout):
    make(tmp_path / "set", count=1, layout=layout, keep_projections=layout == "hdf5")
    own = case_folders(tmp_path / "set")[0]
    if layout == "ome-zarr":
        zarr = pytest.importorskip("zarr")
        assert zarr.open_group(own / "image.zarr", mode="r")["labels"].attrs["ome"]["labels"] == ["phase"]
    image, labels = {
        "hdf5": (("case.h5", "attenuation_per_um"), ("case.h5", "phase")),
        "tiff": (("image.tif", None), ("labels.tif", None)),
        "ome-zarr": (("image.zarr", None), ("image.zarr", "labels/phase")),
    }[layout]
    for (name, dataset), expected in zip((image, labels), volumes(npz_set)[0], strict=True):
        found = open_volume(own / name, dataset)
        assert found.voxel_nm == pytest.approx(VOXEL, rel=1e-9)
        np.testing.assert_array_equal(found.read(range(SHAPE[0])), expected)
    assert (own / "scan.h5").is_file() == (layout == "hdf5")
    if layout == "hdf5":
        with h5py.File(own / "scan.h5") as file:
            assert file["exchange/data"].shape == (61, 12, 64)


def test_scans_of_one_specimen_have_one_truth_and_images_of_their_own(npz_set, tmp_path):
    make(tmp_path / "set", scans_per_specimen=2)
    (image, labels), (other_image, other_labels) = volumes(tmp_path / "set")
    np.testing.assert_array_equal(labels, other_labels)
    assert not np.array_equal(image, other_image)
    records = [json.loads((own / "case.json").read_text()) for own in case_folders(tmp_path / "set")]
    assert {(record["specimen"], record["split"]) for record in records} == {(0, "train")}
    # The first scan of specimen 0 is that of a set with one scan a specimen.
    np.testing.assert_array_equal(image, volumes(npz_set)[0][0])


def test_what_never_packs_is_drawn_again_told_and_given_up(tmp_path):
    # Carbon and polyimide by weight fill far more than a tenth of the room between particles, at any draw.
    dense = parse_ranges("[electrode.slurry]\nmost_fraction = {low = 0.11, high = 0.12}")
    with pytest.raises(NotConvergedError, match="specimen 0 came to nothing in 2 draws"):
        make(tmp_path / "set", ranges=dense, attempts=2)
    assert not (tmp_path / "set" / "cases").exists()


def test_some_draws_are_refused_and_recorded(tmp_path):
    # 12 rows and their halo see 1.12 um: the shorter specimen would end inside the field, and is drawn again.
    either = parse_ranges("[electrode.specimen]\nlength_um = {choices = [1.0, 2.0]}")
    facts = make(tmp_path / "set", ranges=either, attempts=40, count=2)
    records = [json.loads((own / "case.json").read_text()) for own in case_folders(tmp_path / "set")]
    assert facts["drawn_again"] == sum(len(record["refused"]) for record in records) > 0
    assert all(record["drawn"] == {"electrode.specimen.length_um": 2.0} for record in records)
    assert "specimen would end inside the field" in (tmp_path / "set" / "README.md").read_text()


def test_ranges_that_never_fit_are_refused_before_anything_is_written(tmp_path):
    short = parse_ranges("[electrode.specimen]\nlength_um = {low = 1.0, high = 1.05}")
    with pytest.raises(NotConvergedError, match="specimen would end inside the field"):
        make(tmp_path / "set", ranges=short)
    with pytest.raises(ParameterError, match="falls to the test"):
        make(tmp_path / "set", layout="nnunet", train_fraction=0.0, validation_fraction=0.0)
    assert not (tmp_path / "set").exists()
