import numpy as np
import pytest
from scipy import ndimage, optimize, special

from npsi_twin.comparison.accuracy_curves import accuracy_by_distance, accuracy_by_feature_size
from npsi_twin.comparison.detectability import Detection, detected, wilson_interval
from npsi_twin.comparison.label_scores import ScoringRecipe, score_labels
from npsi_twin.comparison.segmentation_accuracy import score, soft_dice
from npsi_twin.errors import IncompatibleError, ParameterError
from npsi_twin.volumes import Phase, Volume

VOXEL = 50.0


def layer(seed=0, height=24, shape=(12, 40, 30)):
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.standard_normal(shape), 1.5, mode="wrap")
    values = np.zeros(shape, np.uint8)
    inside = np.zeros(shape, bool)
    inside[:, 32 - height : 32] = True
    values[inside & (field > 0)] = Phase.SILICON
    values[:, 32 - height : 34 - height] = Phase.SILICON
    values[:, 32:] = Phase.CURRENT_COLLECTOR
    return values


def silicon(values):
    return np.isin(values, (Phase.SILICON, Phase.UNRESOLVED_SILICON))


def test_perfect_labels_score_perfectly():
    truth = Volume(layer(), VOXEL)
    fraction = Volume(silicon(truth.values).astype(np.float32), VOXEL)
    found = score_labels(truth, truth, silicon_fraction=fraction)
    for name in ("dice_silicon_layer", "iou_silicon_layer", "precision_silicon_layer", "recall_silicon_layer"):
        assert found[name].value == 1
    for name in ("dice_current_collector", "surface_dice", "soft_dice_layer", "soft_dice_ceiling_layer"):
        assert found[name].value == 1
    for name in ("boundary_mean_nm", "boundary_95_nm", "boundary_largest_nm", "variation_of_information_bits"):
        assert found[name].value == pytest.approx(0, abs=1e-12)
    known = found.by_distance.n > 0
    assert np.all(found.by_distance.share[known] == 1)
    assert found.by_distance.n.sum() == 12 * 24 * 30


def test_overlaps_are_those_of_the_confusion():
    truth, found = Volume(layer(1), VOXEL), Volume(layer(2), VOXEL)
    scores, accuracy = score_labels(truth, found), score(truth, found)
    assert scores["dice_silicon_layer"].value == pytest.approx(accuracy.dice_silicon_layer)
    assert scores["iou_silicon_layer"].value == pytest.approx(accuracy.iou_silicon_layer)
    assert scores["precision_silicon_layer"].value == pytest.approx(accuracy.precision_silicon_layer)
    assert scores["recall_silicon_layer"].value == pytest.approx(accuracy.recall_silicon_layer)
    assert scores["dice_silicon"].value == accuracy.dice_silicon
    assert scores["dice_silicon_layer"].n == 8


def test_scikit_image_finds_the_same_variation_of_information():
    from skimage.metrics import variation_of_information

    truth, found = layer(1), layer(2)
    scores = score(Volume(truth, VOXEL), Volume(found, VOXEL))
    inside = np.s_[:, 8:32]
    theirs = variation_of_information(silicon(truth)[inside].astype(int), silicon(found)[inside].astype(int))
    ours = (scores.information_missed_bits, scores.information_invented_bits)
    assert sum(ours) == pytest.approx(sum(theirs))
    assert sorted(ours) == pytest.approx(sorted(theirs))


def test_simple_itk_finds_the_same_overlap():
    itk = pytest.importorskip("SimpleITK", reason="SimpleITK (the extra 'test') is not installed")
    truth, found = layer(1), layer(2)
    overlap = itk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(*(itk.GetImageFromArray(silicon(v).astype(np.uint8)) for v in (truth, found)))
    accuracy = score(Volume(truth, VOXEL), Volume(found, VOXEL))
    assert accuracy.dice_silicon == pytest.approx(overlap.GetDiceCoefficient(1))
    assert accuracy.iou_silicon == pytest.approx(overlap.GetJaccardCoefficient(1))


@pytest.mark.parametrize("kind", ["all pore", "all silicon", "one slice", "no layer in the truth"])
def test_what_cannot_be_scored_says_why(kind):
    truth = layer()
    found = truth.copy()
    if kind == "all pore":
        found[:] = Phase.VOID
    elif kind == "all silicon":
        found[:] = Phase.SILICON
    elif kind == "one slice":
        truth, found = truth[:1], layer(2)[:1]
    else:
        truth[silicon(truth)] = Phase.VOID
    scores = score_labels(Volume(truth, VOXEL), Volume(found, VOXEL))
    for name, entry in scores.quantities.items():
        assert np.isfinite(entry.value) or entry.note, name
    assert np.isnan(scores["boundary_mean_nm"].value)
    reasons = {
        "all pore": "recovered mask holds nothing",
        "all silicon": "recovered mask holds everything",
        "one slice": "at least two each way",
        "no layer in the truth": "true mask holds nothing",
    }
    assert reasons[kind] in scores["boundary_mean_nm"].note
    if kind == "all pore":
        assert scores["dice_silicon_layer"].value == 0  # it is 0, and the note says what is behind it
        assert "recovered labels hold no silicon" in scores["dice_silicon_layer"].note
        assert np.isnan(scores["precision_silicon_layer"].value)
        assert np.isnan(scores["dice_current_collector"].value) or scores["dice_current_collector"].value == 0
    if kind == "no layer in the truth":
        assert np.isnan(scores["recall_silicon_layer"].value)


def test_particles_are_found_by_their_silicon():
    truth = layer()
    number = np.zeros(truth.shape, np.int32)
    number[:, 8:32, :10], number[:, 8:32, 10:20], number[:, 8:32, 20:] = 1, 2, 3
    found = truth.copy()
    found[:, 8:32, 10:20] = Phase.VOID
    scores = score_labels(Volume(truth, VOXEL), Volume(found, VOXEL), particle_id=Volume(number, VOXEL))
    assert scores["particles_found"].value == pytest.approx(2 / 3)
    assert scores.particles.n.sum() == 3
    assert np.isnan(score_labels(Volume(truth, VOXEL), Volume(found, VOXEL))["particles_found"].value)


@pytest.mark.parametrize(
    "change",
    [
        {"tolerance_voxels": 0.0},
        {"distance_reach_voxels": 3},
        {"feature_crop_nm": 0.0},
        {"blocks": 3},
        {"overlap_fraction": 1.0},
    ],
)
def test_every_setting_matters(change):
    truth, found = Volume(layer(1), VOXEL), layer(1)
    found[::2, 10:20:3] = Phase.VOID
    number = Volume((np.indices(found.shape).sum(axis=0) // 12 + 1).astype(np.int32), VOXEL)
    found = Volume(found, VOXEL)
    told = [
        repr((s["dice_silicon_layer"], s["surface_dice"], s["particles_found"], s.by_distance, s.by_pore))
        for s in (
            score_labels(truth, found, ScoringRecipe(feature_crop_nm=600.0), particle_id=number),
            score_labels(truth, found, ScoringRecipe(**({"feature_crop_nm": 600.0} | change)), particle_id=number),
        )
    ]
    assert told[0] != told[1]


def test_volumes_on_other_voxels_are_refused():
    truth = Volume(layer(), VOXEL)
    with pytest.raises(IncompatibleError, match="silicon_fraction"):
        score_labels(truth, truth, silicon_fraction=Volume(np.zeros((2, 2, 2), np.float32), VOXEL))
    with pytest.raises(IncompatibleError, match="same voxels"):
        score_labels(truth, Volume(layer(), 25.0))


def test_the_soft_ceiling_is_the_best_of_all_labels():
    rng = np.random.default_rng(5)
    fraction = rng.beta(0.4, 0.6, 12)
    best = max(
        soft_dice(fraction, np.array([bool(code >> bit & 1) for bit in range(12)])).value for code in range(1, 4096)
    )
    found = soft_dice(fraction, fraction > 0.5)
    assert found.ceiling == pytest.approx(best)
    assert found.value <= found.ceiling
    with pytest.raises(IncompatibleError, match="volume fractions"):
        soft_dice(np.array([2.0]), np.array([True]))
    assert np.isnan(soft_dice(np.zeros(3), np.zeros(3, bool)).value)


def test_errors_of_a_moved_interface_lie_at_the_interface():
    truth = np.zeros((4, 20, 20), bool)
    truth[:, 10:] = True
    curve = accuracy_by_distance(truth, np.roll(truth, 2, axis=1) & truth, None, VOXEL, reach_voxels=4)
    # classes from -inf, -4 ... 4, inf voxels: the two layers of the solid next to the interface are lost
    assert curve.share.tolist() == [1, 1, 1, 1, 1, 0, 0, 1, 1, 1]
    assert curve.n.sum() == truth.size
    empty = accuracy_by_distance(np.zeros_like(truth), truth, None, VOXEL)
    assert np.isnan(empty.share).all()


def test_small_features_are_lost_first():
    truth = np.zeros((24, 24, 60), bool)
    truth[:, 4:6, 4:20] = True  # plates of 2 and 8 voxels
    truth[:, 10:18, 30:50] = True
    opened = ndimage.binary_opening(truth, np.ones((1, 5, 1)))
    curve = accuracy_by_feature_size(truth, opened, None, VOXEL)
    small, large = curve.share[curve.edges_nm[1:] <= 2.5 * VOXEL], curve.share[curve.edges_nm[:-1] >= 6.5 * VOXEL]
    assert np.nanmax(small) == 0
    assert np.nanmin(large) == 1


def test_bodies_are_found_by_half_of_their_voxels():
    bodies = np.zeros((6, 6, 30), int)
    for number, width in enumerate((1, 2, 3, 4), start=1):
        bodies[1 : 1 + width, 1 : 1 + width, 7 * number - 6 : 7 * number - 6 + width] = number
    recovered = ndimage.binary_erosion(bodies > 0) | (bodies == 2)
    found = detected(bodies, recovered, VOXEL)
    assert found.number.tolist() == [1, 2, 3, 4]
    # cubes of 3 and 4 voxels keep 1 and 8 voxels of 27 and 64
    assert found.share.tolist() == pytest.approx([0, 1, 1 / 27, 1 / 8])
    assert found.found.tolist() == [False, True, False, False]
    assert found.size_nm[2] == pytest.approx(VOXEL * np.cbrt(6 * 27 / np.pi))
    assert detected(bodies, recovered, VOXEL, overlap=0.1).found.tolist() == [False, True, False, True]
    with pytest.raises(IncompatibleError, match="same"):
        detected(bodies, recovered[:2], VOXEL)
    with pytest.raises(ParameterError, match="overlap"):
        detected(bodies, recovered, VOXEL, overlap=0.0)


def test_the_size_that_is_found_comes_back():
    """Bodies found with a logistic probability in the logarithm of size, half of them at 300 nm."""
    rng = np.random.default_rng(7)
    size = np.exp(rng.uniform(np.log(50), np.log(2000), 4000))
    chance = 1 / (1 + (300 / size) ** 4)
    share = (rng.random(4000) < chance).astype(float)
    found = Detection(np.arange(4000), size, share, 0.5)
    # 90 % are found at 300 * 9^(1/4); about 100 bodies lie within 10 % of either size, so each scatters by some 4 %
    for probability, true_nm, rel in ((0.5, 300, 0.1), (0.9, 300 * 9**0.25, 0.15)):
        told = found.size_found_nm(probability)
        assert told.value_nm == pytest.approx(true_nm, rel=rel)
        assert told.low_nm <= told.value_nm <= told.high_nm
        assert told.high_nm < 1.5 * told.low_nm  # so many bodies know it well; how often it covers is tested below
    curve = found.curve(np.geomspace(50, 2000, 9))
    middle = np.sqrt(curve.edges_nm[1:] * curve.edges_nm[:-1])
    covered = (curve.low <= 1 / (1 + (300 / middle) ** 4)) & (1 / (1 + (300 / middle) ** 4) <= curve.high)
    assert covered.sum() >= 6  # of 8 intervals of 95 %, with the probability curved within a class
    never = Detection(np.arange(3), size[:3], np.zeros(3), 0.5).size_found_nm(0.5)
    assert np.isnan(never.value_nm)
    # one body missed of those that half are found of is no wonder, two in a row are: 2 * 2 log 2 > 2.27 > 2 log 2
    assert (never.low_nm, never.high_nm) == (np.sort(size[:3])[1], np.inf)
    assert np.isnan(Detection(np.empty(0, int), np.empty(0), np.empty(0), 0.5).size_found_nm(0.5).value_nm)
    with pytest.raises(ParameterError):
        found.size_found_nm(1.0)
    with pytest.raises(ParameterError):
        found.curve(np.array([2.0, 1.0]))


def test_the_interval_of_a_size_is_what_the_likelihood_ratio_says():
    """Against the plain definition: two isotonic regressions, below and above every size, cut at the probability."""
    rng = np.random.default_rng(5)
    size = np.sort(np.exp(rng.uniform(np.log(50), np.log(500), 30)))
    hit = (rng.random(30) < 1 / (1 + (200 / size) ** 6)).astype(float)

    def likelihood(hits, shares):
        return special.xlogy(hits, shares).sum() + special.xlog1py(1 - hits, -shares).sum()

    for probability in (0.5, 0.9):
        accepted = []
        for gap in range(31):
            shares = [
                cut(optimize.isotonic_regression(part).x, probability) if part.size else part
                for part, cut in ((hit[:gap], np.minimum), (hit[gap:], np.maximum))
            ]
            best = likelihood(hit, optimize.isotonic_regression(hit).x)
            if 2 * (best - likelihood(hit, np.concatenate(shares))) <= 2.27:
                accepted.append(gap)
        told = Detection(np.arange(30), size, hit, 0.5).size_found_nm(probability)
        ends = [0.0, *size, np.inf]
        assert (told.low_nm, told.high_nm) == (ends[accepted[0]], ends[accepted[-1] + 1])
        assert told.low_nm <= told.value_nm <= told.high_nm


def test_the_interval_of_a_size_covers():
    """Of 200 trials with 40 bodies, at both probabilities."""
    rng, covered = np.random.default_rng(3), np.zeros(2)
    for _ in range(200):
        size = np.exp(rng.uniform(np.log(40), np.log(600), 40))
        hit = (rng.random(40) < 1 / (1 + (200 / size) ** 8)).astype(float)
        found = Detection(np.arange(40), size, hit, 0.5)
        for number, (probability, true_nm) in enumerate(((0.5, 200.0), (0.9, 200 * 9**0.125))):
            told = found.size_found_nm(probability)
            covered[number] += told.low_nm <= true_nm <= told.high_nm
    # 0.95 is known to 0.015 from 200 trials; the quantile is that of many bodies, and 0.90 to 0.99 were found with few
    assert covered.min() / 200 > 0.88


def test_wilsons_interval():
    # Newcombe 1998, Statistics in Medicine 17, 857, table I: 81/263, 15/148, 0/20, 1/29 with 95 %
    low, high = wilson_interval(np.array([81, 15, 0, 1]), np.array([263, 148, 20, 29]))
    assert low == pytest.approx([0.2553, 0.0624, 0.0, 0.0061], abs=1e-4)
    assert high == pytest.approx([0.3662, 0.1605, 0.1611, 0.1718], abs=1e-4)
    assert wilson_interval(np.array([0]), np.array([0])) == (0, 1)


def test_a_small_region_has_the_distances_of_the_whole():
    rng = np.random.default_rng(9)
    truth = ndimage.gaussian_filter(rng.standard_normal((30, 40, 50)), 3.0) > 0
    found = truth ^ (rng.random(truth.shape) < 0.1)
    region = np.zeros(truth.shape, bool)
    region[14:16, 18:24, 20:30] = True
    curve = accuracy_by_distance(truth, found, region, VOXEL, reach_voxels=3)
    depth = np.where(truth, ndimage.distance_transform_edt(truth) - 0.5, 0.5 - ndimage.distance_transform_edt(~truth))
    for number, (low, high) in enumerate(zip(curve.edges_nm[:-1], curve.edges_nm[1:], strict=True)):
        here = region & (depth * VOXEL >= low) & (depth * VOXEL < high)
        assert curve.n[number] == here.sum()
        assert not here.any() or curve.share[number] == pytest.approx((truth == found)[here].mean())
    nowhere = accuracy_by_distance(truth, found, np.zeros_like(region), VOXEL)
    assert nowhere.n.sum() == 0
