import pickle

import numpy as np
import pytest
from scipy import ndimage

from npsi_twin.errors import DataError, IncompatibleError, MissingBackendError, OutOfRangeWarning, ParameterError
from npsi_twin.morphology import forest as forest_module
from npsi_twin.morphology import forest_training
from npsi_twin.morphology.forest import Forest, best_cut, load_forest, save_forest
from npsi_twin.morphology.forest_training import ForestRecipe, train_forest
from npsi_twin.morphology.forest_walk import linear_share, mean_share
from npsi_twin.morphology.segmentation import SegmentationRecipe, segment
from npsi_twin.morphology.voxel_features import feature_count, reach_voxels, voxel_features
from npsi_twin.recipes import MadeBy
from npsi_twin.seeds import Seeds
from npsi_twin.specification import parse_specification, parse_values, to_toml
from npsi_twin.volumes import Phase, Volume

SHAPE = (8, 120, 140)
SMALL = ForestRecipe(trees=12, voxels_per_volume=8000)


def learn():
    return pytest.importorskip("sklearn", reason="scikit-learn (the extra 'learn') is not installed: no training")


def stump(cut=1.0, feature=1, weights=(0, 0, 1, 0, 0, 0, 0)):
    """One tree of one question: is the narrowest mean above so many times the threshold."""
    arrays = (weights, [0], [1, -1, -1], [2, -1, -1], [feature, -2, -2], [cut, 0, 0], [0.5, 0.0, 1.0])
    kinds = (np.float64, np.int64, np.int32, np.int32, np.int32, np.float64, np.float64)
    return Forest(*(np.array(a, k) for a, k in zip(arrays, kinds, strict=True)), (50.0,), MadeBy("train_forest", "x"))


@pytest.fixture(scope="module")
def phantoms(build_needle):
    return [build_needle(SHAPE, thickness_nm=1500.0, thickness_sd_nm=100.0, seed=seed) for seed in (21, 22)]


@pytest.fixture(scope="module")
def trained(phantoms):
    learn()
    return train_forest([p.attenuation for p in phantoms], [p.labels for p in phantoms], SMALL, seeds=Seeds(1))


def dice(truth, found):
    return 2 * np.count_nonzero(truth & found) / (np.count_nonzero(truth) + np.count_nonzero(found))


def test_a_trained_forest_beats_the_threshold_on_what_it_has_not_seen(trained, build_needle):
    unseen = build_needle(SHAPE, thickness_nm=1500.0, thickness_sd_nm=100.0, seed=23)
    truth = unseen.labels.values == Phase.SILICON
    threshold, forest = (segment(unseen.attenuation, method=method) for method in (None, trained))
    assert dice(truth, forest.labels.values == Phase.SILICON) > dice(truth, threshold.labels.values == Phase.SILICON)
    assert forest.made_by.backend == trained.name
    assert np.isnan(forest.threshold_per_um).all()


def test_our_walk_is_scikit_learns_vote(phantoms):
    learn()
    from sklearn.ensemble import RandomForestClassifier

    rng = np.random.default_rng(4)
    features = rng.normal(size=(4000, 5)).astype(np.float32)
    silicon = features[:, 0] + 0.5 * features[:, 1] ** 2 + rng.normal(size=4000) > 0.5
    theirs = RandomForestClassifier(n_estimators=7, max_depth=8, random_state=1).fit(features, silicon)
    ours = forest_training._flattened(theirs.estimators_, np.zeros(5), SMALL, 0)
    weights = np.array([-0.5, 1.0, 0.0, 0.0, 0.0])  # the fifth feature is the first, less one half
    features[:, 4] = features[:, 0] - 0.5
    nodes = ours.roots, ours.left, ours.right, ours.feature, ours.cut, ours.share
    found = mean_share(features[:, :4], weights, *nodes)
    assert np.allclose(found, theirs.predict_proba(features)[:, 1], atol=1e-6)


def test_the_linear_feature_is_the_least_squares_fit():
    rng = np.random.default_rng(5)
    features = rng.normal(2.0, [1.0, 0.1, 3.0, 1.0], size=(5000, 4)).astype(np.float32)
    features[:, 3] = 0.7  # tells nothing
    silicon = features[:, 0] - 8 * features[:, 1] + rng.normal(size=5000) > -14
    weights = forest_training._fitted(features, silicon)
    theirs, *_ = np.linalg.lstsq(np.column_stack([np.ones(5000), features[:, :3]]), silicon.astype(float))
    assert weights == pytest.approx([*theirs, 0.0], abs=1e-5)
    expected = weights[0] + features @ weights[1:]
    assert linear_share(features, weights) == pytest.approx(expected, abs=1e-5)


def test_the_linear_feature_undoes_blur(build_needle, monkeypatch):
    learn()
    sharp = [build_needle(SHAPE, thickness_nm=1500.0, thickness_sd_nm=100.0, seed=seed) for seed in (21, 22, 23)]
    images = [Volume(ndimage.gaussian_filter(p.attenuation.values, 1.2), p.attenuation.voxel_nm) for p in sharp]
    labels, truth = [p.labels for p in sharp[:2]], sharp[2].labels.values == Phase.SILICON

    def found():
        forest = train_forest(images[:2], labels, SMALL, seeds=Seeds(1))
        return dice(truth, segment(images[2], method=forest).labels.values == Phase.SILICON)

    with_it = found()
    monkeypatch.setattr(forest_training, "_fitted", lambda features, _: np.zeros(1 + features.shape[1]))
    assert with_it > found() + 0.01


def test_training_is_repeatable_and_every_setting_matters(phantoms, trained):
    data = [p.attenuation for p in phantoms], [p.labels for p in phantoms]
    assert train_forest(*data, SMALL, seeds=Seeds(1)).name == trained.name
    data = tuple([Volume(volumes[0].values[:2], 50.8)] for volumes in data)
    small = SMALL.model_copy(update={"trees": 2, "voxels_per_volume": 1000})
    names = {train_forest(*data, small, seeds=Seeds(seed)).name for seed in (1, 2)}
    changes = (
        {"widths_nm": (60.0,)},
        {"trees": 3},
        {"depth": 4},
        {"leaf_voxels": 50},
        {"voxels_per_volume": 900},
        {"foil_guard_nm": 300.0},
    )
    for change in changes:
        names.add(train_forest(*data, small.model_copy(update=change), seeds=Seeds(1)).name)
    assert len(names) == 2 + len(changes)


def test_the_cut_has_the_largest_dice_to_be_expected():
    chances = np.random.default_rng(3).beta(0.5, 1.5, 4000).astype(np.float32)
    cut = best_cut([chances[:1500], chances[1500:]])
    expected = {
        c: 2 * chances[chances >= c].sum() / ((chances >= c).sum() + chances.sum()) for c in np.arange(1001) / 1000
    }
    best = max(expected.values())
    # steps of a thousandth miss the best of all cuts by less than a step's share of the voxels
    assert expected[cut] == pytest.approx(best, abs=1e-3)
    assert cut == pytest.approx(best / 2, abs=0.01)  # Lipton et al. 2014


def test_slabs_change_nothing(monkeypatch, phantoms):
    whole = segment(phantoms[0].attenuation, method=stump())
    monkeypatch.setattr(forest_module, "_FEATURES_AT_ONCE", 1)  # a slice at a time
    assert np.array_equal(segment(phantoms[0].attenuation, method=stump()).labels.values, whole.labels.values)


def test_features_see_as_far_as_they_say():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(30, 6, 6)).astype(np.float32)
    widths = (40.0, 100.0)
    reach = reach_voxels(widths, 50.0)
    assert reach == 8
    whole = voxel_features(values, widths, 50.0)
    assert whole.shape == (30, 6, 6, feature_count(widths))
    part = voxel_features(values[12 - reach : 14 + reach], widths, 50.0)[reach:-reach]
    assert np.array_equal(part, whole[12:14])


def test_features_of_a_ramp():
    ramp = np.broadcast_to(np.arange(40, dtype=np.float32)[None, :, None], (40, 40, 40))
    found = voxel_features(ramp, (100.0,), 50.0)[20, 20, 20]
    # mean 20, slope 1 a voxel times 2 voxels, no bend, none across slices, and the spread of a Gaussian of 2 voxels
    # along the ramp; the kernels end at 4 standard deviations, where the second derivative's leaves 1e-3 of the value
    assert found == pytest.approx([20, 20, 2, 0, 0, 2], abs=0.03)


def test_a_forest_comes_back_from_its_file(tmp_path):
    forest = stump()
    save_forest(tmp_path / "f.npz", forest)
    back = load_forest(tmp_path / "f.npz")
    assert back.name == forest.name
    assert back.made_by.recipe_digest == "x"
    assert stump(cut=0.2).name != forest.name
    with np.load(tmp_path / "f.npz", allow_pickle=False) as file:  # plain arrays: nothing in it can run
        assert not any(file[name].dtype.hasobject for name in file.files)


def test_a_forest_is_sent_to_workers_as_it_is():
    assert pickle.loads(pickle.dumps(stump())).digest == stump().digest  # noqa: S301


def test_a_forest_is_named_in_a_recipe_by_file_and_digest(trained, build_needle, tmp_path):
    unseen = build_needle(SHAPE, thickness_nm=1500.0, thickness_sd_nm=100.0, seed=23)
    save_forest(tmp_path / "f.npz", trained)
    named = SegmentationRecipe(method="forest", forest_file=str(tmp_path / "f.npz"), forest_digest=trained.digest)
    found, given = segment(unseen.attenuation, named), segment(unseen.attenuation, method=trained)
    assert np.array_equal(found.labels.values, given.labels.values)
    assert found.made_by.backend == trained.name == f"forest {trained.digest}"
    text = to_toml(named, ("segmentation",))
    assert parse_specification(text).segmentation == named
    save_forest(tmp_path / "other.npz", stump())
    other = named.model_copy(update={"forest_file": str(tmp_path / "other.npz")})
    with pytest.raises(DataError, match=f"holds the forest {stump().digest}, where {trained.digest} is asked for"):
        segment(unseen.attenuation, other)
    gone = named.model_copy(update={"forest_file": str(tmp_path / "gone.npz")})
    with pytest.raises(DataError, match="holds no forest"):
        segment(unseen.attenuation, gone)


@pytest.mark.parametrize(
    "values",
    [
        {"method": "forest"},
        {"method": "forest", "forest_file": "f.npz"},
        {"method": "forest", "forest_digest": "0" * 16},
        {"forest_file": "f.npz", "forest_digest": "0" * 16},
        {"method": "forest", "forest_file": "f.npz", "forest_digest": "0" * 15},
    ],
)
def test_a_recipe_names_a_forest_wholly_or_not_at_all(values):
    with pytest.raises(ParameterError, match="forest_digest"):
        parse_values(SegmentationRecipe(), values, "segmentation")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("left", [0, -1, -1]),  # a node that leads to itself: a walk without end
        ("left", [7, -1, -1]),
        ("right", [-1, -1, -1]),
        ("feature", [99, -2, -2]),
        ("roots", [5]),
        ("share", [0.5, 0.0, 3.0]),
        ("cut", [0.1]),
        ("weights", [0.0, 1.0]),
        ("weights", [np.nan] * 7),
        ("format", "another"),
        ("widths_nm", [-1.0]),
    ],
)
def test_a_file_that_is_no_forest_is_refused(tmp_path, name, value):
    save_forest(tmp_path / "f.npz", stump())
    with np.load(tmp_path / "f.npz") as file:
        arrays = {key: file[key] for key in file.files}
    np.savez(tmp_path / "g.npz", **(arrays | {name: np.array(value)}))
    with pytest.raises(DataError, match="holds no forest"):
        load_forest(tmp_path / "g.npz")


def test_files_that_cannot_be_are_refused(tmp_path):
    (tmp_path / "f.npz").write_bytes(b"no zip")
    with pytest.raises(DataError, match="holds no forest"):
        load_forest(tmp_path / "f.npz")
    with pytest.raises(DataError, match="exists"):
        save_forest(tmp_path / "f.npz", stump())
    with pytest.raises(ParameterError, match=r"\.npz"):
        save_forest(tmp_path / "f.pkl", stump())


def test_a_volume_that_shows_no_layer_is_left_out_and_named(phantoms, trained):
    noise = np.random.default_rng(1).normal(0, 0.1, SHAPE).astype(np.float32)
    drowned = Volume(noise, phantoms[0].attenuation.voxel_nm)
    images, labels = ([*(getattr(p, name) for p in phantoms)] for name in ("attenuation", "labels"))
    with pytest.warns(OutOfRangeWarning, match=r"volumes 2 \(counted from 0\) of 3 are left out"):
        assert train_forest([*images, drowned], [*labels, labels[0]], SMALL, seeds=Seeds(1)).name == trained.name
    with pytest.raises(DataError, match="no volume shows its layer"):
        train_forest([drowned], [labels[0]], SMALL, seeds=Seeds(1))


def test_training_data_that_do_not_fit_are_refused(phantoms, monkeypatch):
    volume, labels = phantoms[0].attenuation, phantoms[0].labels
    with pytest.raises(IncompatibleError, match="needs its own truth"):
        train_forest([volume], [], SMALL, seeds=Seeds(1))
    learn()
    with pytest.raises(IncompatibleError, match="same voxels"):
        train_forest([volume], [Volume(labels.values[:4], 50.8)], SMALL, seeds=Seeds(1))
    nothing = Volume(np.zeros_like(labels.values), 50.8)
    with pytest.raises(DataError, match="no silicon"):
        train_forest([volume], [nothing], SMALL, seeds=Seeds(1))
    monkeypatch.setitem(__import__("sys").modules, "sklearn.ensemble", None)
    with pytest.raises(MissingBackendError, match=r"npsi-twin\[learn\]"):
        train_forest([volume], [labels], SMALL, seeds=Seeds(1))
