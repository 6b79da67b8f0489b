import numpy as np
import pytest
from pydantic import ValidationError

from npsi_twin.errors import DataError, ParameterError
from npsi_twin.morphology import segmentation_recipe
from npsi_twin.morphology.collector import find_collector
from npsi_twin.morphology.needle import find_needle
from npsi_twin.morphology.segmentation import (
    SegmentationRecipe,
    register_segmentation,
    segment,
    segmentation_methods,
)
from npsi_twin.volumes import Phase, Volume

METHODS = ("smooth-threshold", "multi-otsu", "hysteresis", "watershed", "random-walker")


def dice(truth, found):
    return 2 * np.count_nonzero(truth & found) / (np.count_nonzero(truth) + np.count_nonzero(found))


@pytest.fixture(scope="module")
def small(build_needle):
    return build_needle((6, 120, 140), thickness_nm=1500.0, thickness_sd_nm=100.0)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_finds_the_silicon(small, method):
    found = segment(small.attenuation, SegmentationRecipe(method=method))
    silicon = small.labels.values == Phase.SILICON
    # noise of a fifth of silicon's contrast, blur of 0.6 voxels and a smoothing of one: about 0.88 by the threshold
    assert dice(silicon, found.labels.values == Phase.SILICON) > 0.78
    assert found.made_by.backend == method
    assert found.threshold_per_um.shape == (6,)


@pytest.mark.parametrize("method", METHODS)
def test_without_blur_and_noise_all_methods_agree_with_the_truth(build_needle, method):
    clean = build_needle((4, 120, 140), noise_per_um=0.0, blur_voxels=0.0, binder=False, thickness_nm=1500.0)
    bare = {"smoothing_sigma_voxels": 0.0, "foil_guard_nm": 0.0}
    found = segment(clean.attenuation, SegmentationRecipe(method=method, **bare)).labels.values
    # what is wrong is only what the speck filter and the needle's flank columns take, 1.5 % of so small a needle
    assert dice(clean.labels.values == Phase.SILICON, found == Phase.SILICON) > 0.98


@pytest.mark.parametrize(
    ("method", "change"),
    [
        ("smooth-threshold", {"smoothing": "median"}),
        ("smooth-threshold", {"histogram_bins": 256}),
        ("smooth-threshold", {"outside_needle": "void", "minimum_component_voxels": 1}),
        ("multi-otsu", {"multi_otsu_classes": 4}),
        ("hysteresis", {"sure_margin_fraction": 0.6}),
        ("watershed", {"sure_margin_fraction": 0.6}),
        ("random-walker", {"sure_margin_fraction": 0.6}),
        ("random-walker", {"random_walker_beta": 5.0}),
    ],
)
def test_every_setting_of_a_method_matters(small, method, change):
    same = {"minimum_component_voxels": 1} if "outside_needle" in change else {}
    plain = segment(small.attenuation, SegmentationRecipe(method=method, **same))
    other = segment(small.attenuation, SegmentationRecipe(method=method, **change))
    assert not np.array_equal(plain.labels.values, other.labels.values)


@pytest.mark.parametrize(
    "change",
    [
        {"smoothing": "median", "smoothing_radius_voxels": 2.0},
        {"smoothing": "bilateral-3d", "smoothing_strength": 4.0},
        {"smoothing": "bilateral-3d", "smoothing_sigma_voxels": 0.5},
    ],
)
def test_every_setting_of_a_filter_matters(small, change):
    plain = segment(small.attenuation, SegmentationRecipe(smoothing=change["smoothing"]))
    other = segment(small.attenuation, SegmentationRecipe(**change))
    assert not np.array_equal(plain.labels.values, other.labels.values)


def test_hysteresis_without_a_margin_is_the_threshold(small):
    one = {"minimum_component_voxels": 1, "foil_guard_nm": 0.0}
    plain = segment(small.attenuation, SegmentationRecipe(**one)).labels.values
    none = segment(small.attenuation, SegmentationRecipe(method="hysteresis", sure_margin_fraction=0.0, **one))
    assert np.array_equal(plain, none.labels.values)


@pytest.mark.parametrize("method", METHODS)
def test_no_method_looks_at_anything_but_the_attenuation(small, method):
    """Twice the attenuation in voxels of the same size has the same labels."""
    double = Volume(small.attenuation.values * np.float32(2), small.attenuation.voxel_nm)
    recipe = SegmentationRecipe(method=method)
    one, two = segment(small.attenuation, recipe), segment(double, recipe)
    # a power of two scales every float exactly; the random walker's solution rounds, and may turn ties
    differ = np.count_nonzero(one.labels.values != two.labels.values)
    assert differ <= (5e-4 * one.labels.values.size if method == "random-walker" else 0)


def test_fixed_thresholds_with_all_on_one_side_are_refused_where_both_are_needed(small):
    with pytest.raises(DataError, match="all of the layer is below the threshold"):
        segment(small.attenuation, SegmentationRecipe(method="watershed", threshold_per_um=1.0))


def test_ones_own_method_gets_what_the_data_say(small, monkeypatch):
    monkeypatch.setattr(segmentation_recipe, "_REGISTERED", {})
    seen = []

    class Settings(SegmentationRecipe):
        share: float = 0.1

    def mine(view, recipe):
        seen.append(recipe)
        cut = recipe.share * view.collector.attenuation_per_um
        return view.smooth > cut, np.full(len(view.smooth), cut)

    register_segmentation("mine", mine)
    assert segmentation_methods() == (*METHODS, "forest", "mine")
    named = segment(small.attenuation, Settings(method="mine", share=0.12))
    assert seen[0].share == 0.12
    assert named.made_by.backend == "mine"
    given = segment(small.attenuation, Settings(share=0.12), method=mine)
    assert np.array_equal(named.labels.values, given.labels.values)
    # it is the plain threshold that a recipe can also ask for
    cut = float(named.threshold_per_um[0])
    bright = (named.labels.values == Phase.SILICON).sum()
    fixed = (segment(small.attenuation, SegmentationRecipe(threshold_per_um=cut)).labels.values == Phase.SILICON).sum()
    assert abs(int(bright) - int(fixed)) < 0.01 * bright
    for name in ("mine", "watershed", " "):
        with pytest.raises(ParameterError, match="Give another name"):
            register_segmentation(name, mine)


def test_unknown_names_and_volumes_that_show_no_layer_are_refused(small):
    with pytest.raises(ValidationError, match="known are smooth-threshold"):
        SegmentationRecipe(method="magic")
    with pytest.raises(ValidationError):
        SegmentationRecipe(smoothing="magic")
    for shape in ((4, 1, 30), (4, 30, 1), (0, 30, 30)):
        with pytest.raises(DataError, match="at least 1 x 4 x 3"):
            segment(Volume(np.zeros(shape, np.float32), 50.0))
    values = np.array(small.attenuation.values)
    values[2, 10, 10] = np.nan
    with pytest.raises(DataError, match="NaN"):
        segment(Volume(values, 50.8))


def test_a_single_slice_is_enough_for_methods_that_work_by_slice(small):
    one = segment(Volume(small.attenuation.values[2:3], 50.8))
    assert dice(small.labels.values[2:3] == Phase.SILICON, one.labels.values == Phase.SILICON) > 0.7


@pytest.mark.parametrize("side", [(120, 140), (140, 120)])
def test_the_needle_is_where_it_was_cut(build_needle, side):
    needle = build_needle((6, *side), tilt_deg=3.0)
    found = find_needle(find_collector(needle.attenuation))
    # the truth is a circle of 0.47 of the shorter side about the middle; digitising moves its ends by half a voxel
    assert found.row == pytest.approx((side[0] - 1) / 2, abs=0.5)
    assert found.column == pytest.approx((side[1] - 1) / 2, abs=0.5)
    assert found.radius_nm / 50.8 == pytest.approx(0.47 * 120, abs=0.5)


def test_outside_of_the_needle_is_void_and_a_block_has_none(small):
    values = np.array(small.attenuation.values)
    # a bright body beside the needle, at the height of the layer
    values[:, 45:55, :6] = 0.0151
    bright = Volume(values, 50.8)
    kept = segment(bright).labels.values
    void = segment(bright, SegmentationRecipe(outside_needle="void")).labels.values
    assert (kept[:, 46:54, 1:5] == Phase.SILICON).mean() > 0.9
    assert not (void[:, 46:54, 1:5] == Phase.SILICON).any()
    block = np.zeros((4, 60, 60), np.float32)
    block[:, 40:], block[:, 20:40, ::2] = 0.047, 0.015
    assert find_needle(find_collector(Volume(block, 50.0))) is None
    plain, masked = (segment(Volume(block, 50.0), SegmentationRecipe(outside_needle=to)) for to in ("kept", "void"))
    assert np.array_equal(plain.labels.values, masked.labels.values)


def degenerate(kind):
    values = np.random.default_rng(6).normal(0, 0.001, (4, 40, 30)).astype(np.float32)
    if kind in ("nothing", "constant"):
        return np.full_like(values, kind == "constant")
    values[:, 28:] += 0.047
    if kind == "silicon up to the edge":
        values[:, :28] += 0.015
    return values


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["nothing", "constant", "bare foil", "silicon up to the edge"])
def test_volumes_without_a_layer_and_air_are_refused(kind, method):
    with pytest.raises(DataError):
        segment(Volume(degenerate(kind), 50.0), SegmentationRecipe(method=method))


@pytest.mark.parametrize("method", METHODS)
def test_a_layer_of_solid_silicon_is_silicon(method):
    values = degenerate("bare foil")
    values[:, 15:28] += 0.015
    labels = segment(Volume(values, 50.0), SegmentationRecipe(method=method)).labels.values
    # the Gaussian of one voxel, the guard band and rules for two phases leave its top within two voxels
    assert (labels[:, 18:28] == Phase.SILICON).mean() > 0.97
    assert (labels[:, :12] == Phase.VOID).all()
