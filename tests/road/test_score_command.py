import json

import numpy as np
import pytest
from typer.testing import CliRunner

from npsi_twin.cli import app
from npsi_twin.errors import DataError, IncompatibleError, ParameterError
from npsi_twin.morphology.forest import Forest, load_forest, save_forest
from npsi_twin.recipes import MadeBy
from npsi_twin.storage.volumes import create_volumes, read_volume, write_slab
from npsi_twin.volumes import Phase

SHAPE = (6, 30, 24)


def call(*words):
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=True)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def run(tmp_path):
    """A folder with the truth of a run: two particles on a foil."""
    phase = np.zeros(SHAPE, np.uint8)
    phase[:, 10:22, 2:10] = phase[:, 10:22, 14:20] = Phase.SILICON
    phase[:, 22:] = Phase.CURRENT_COLLECTOR
    number = np.zeros(SHAPE, np.int32)
    number[:, 10:22, 2:10], number[:, 10:22, 14:20] = 1, 2
    fraction = (phase == Phase.SILICON).astype(np.float32)
    fraction[:, 10] *= 0.5
    kinds = {"phase": np.uint8, "particle_id": np.int32, "silicon_fraction": np.float32}
    with create_volumes(tmp_path / "truth.h5", SHAPE, kinds, voxel_nm=50.0, compressed=True) as file:
        write_slab(file, 0, {"phase": phase, "particle_id": number, "silicon_fraction": fraction})
    labels = np.array([1, 2, 0, 3], np.uint8)[phase]
    labels[:, :, 14:17] = np.where(labels[:, :, 14:17] == 2, 1, labels[:, :, 14:17])  # half of the second is missed
    (tmp_path / "mine").mkdir()
    np.save(tmp_path / "mine" / "labels.npy", labels)
    return tmp_path


def test_labels_are_scored_against_a_run(run):
    labels = run / "mine" / "labels.npy"
    options = ("--truth", run, "--voxel-nm", 50, "--meaning", "1=void,2=silicon,3=current_collector")
    told = call("score", labels, *options).output
    tree = json.loads((run / "mine" / "scores.json").read_text())
    # 8 + 6 columns are true, 8 + 3 of them were found, nothing was invented
    assert tree["quantities"]["dice_silicon_layer"]["value"] == pytest.approx(22 / 25)
    assert tree["quantities"]["recall_silicon_layer"]["value"] == pytest.approx(11 / 14)
    assert tree["quantities"]["precision_silicon_layer"]["value"] == 1
    assert tree["quantities"]["particles_found"]["value"] == 1
    # one row of twelve is half void: 2 * 11 * 11.5 / (14 * 11.5 + 11 * 12)
    assert tree["quantities"]["soft_dice_layer"]["value"] == pytest.approx(253 / 293)
    assert tree["confusion_true_by_recovered"][1][0] == 6 * 12 * 3
    assert "dice_silicon_layer" in told
    assert "scores.json" in told
    with pytest.raises(DataError, match="exists"):
        call("score", labels, *options)
    printed = call("score", labels, *options, "--out", run / "again.json", "--json").output
    assert json.loads(printed) == tree
    assert (run / "again.json").read_bytes() == (run / "mine" / "scores.json").read_bytes()


def test_labels_that_do_not_fit_write_nothing(run):
    np.save(run / "part.npy", np.zeros((2, 3, 4), np.uint8))
    with pytest.raises(IncompatibleError, match="2 x 3 x 4"):
        call("score", run / "part.npy", "--truth", run, "--voxel-nm", 50)
    assert not (run / "scores.json").exists()


def test_help_shows_an_example():
    assert "npsi-twin score ilastik.h5 --truth runs/study" in " ".join(call("score", "--help").output.split())


def test_a_volume_is_segmented_by_a_specification_or_a_forest(tmp_path):
    rng = np.random.default_rng(2)
    values = rng.normal(0, 0.001, (4, 40, 30)).astype(np.float32)
    values[:, 12:28, 4:20] += 0.015
    values[:, 28:] += 0.047
    np.save(tmp_path / "a.npy", values)
    volume = (tmp_path / "a.npy", "--voxel-nm", 50)
    (tmp_path / "s.toml").write_text('[segmentation]\nmethod = "watershed"\nsmoothing = "median"\n')
    call("segment", *volume, "--out", tmp_path / "w.h5", "--spec", tmp_path / "s.toml")
    # one tree of one question: is the mean of 50 nm around above the threshold that IsoData finds in it
    nodes = ([0.0] * 7, [0], [1, -1, -1], [2, -1, -1], [1, -2, -2], [1.0, 0.0, 0.0], [0.5, 0.0, 1.0])
    save_forest(tmp_path / "f.npz", Forest(*map(np.array, nodes), (50.0,), MadeBy("train_forest", "")))
    told = call("segment", *volume, "--out", tmp_path / "f.h5", "--forest", tmp_path / "f.npz", "--json").output
    assert json.loads(told)["method"] == load_forest(tmp_path / "f.npz").name
    for name in ("w", "f"):
        silicon = read_volume(tmp_path / f"{name}.h5").values == Phase.SILICON
        # an edge of silicon of 16 x 16 voxels may move by one voxel
        assert 14 * 14 * 4 < np.count_nonzero(silicon) < 18 * 18 * 4
        assert silicon[:, 14:24, 6:18].all()
    (tmp_path / "bad.toml").write_text('[segmentation]\nmethod = "magic"\n')
    with pytest.raises(ParameterError, match="known are smooth-threshold"):
        call("segment", *volume, "--out", tmp_path / "b.h5", "--spec", tmp_path / "bad.toml")
    with pytest.raises(ParameterError, match="run folder"):
        call("segment", tmp_path, "--forest", tmp_path / "f.npz")


def test_a_missing_forest_is_refused_before_anything_is_written(tmp_path):
    forest = 'method = "forest"\nforest_file = "gone.npz"\nforest_digest = "0123456789abcdef"\n'
    (tmp_path / "s.toml").write_text(f"[segmentation]\n{forest}")
    with pytest.raises(DataError, match=r"gone\.npz"):
        call("run", tmp_path / "s.toml", "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()
