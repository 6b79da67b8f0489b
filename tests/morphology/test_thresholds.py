import numpy as np
import pytest
from scipy.stats import norm
from skimage.filters import threshold_li

from npsi_twin.errors import DataError
from npsi_twin.morphology.thresholds import RULES, threshold_by_rule


def greys(dark=30_000, bright=12_000, apart=8.0, seed=3):
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.normal(0, 1, dark), rng.normal(apart, 1, bright)]).astype(np.float32)


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule not in ("triangle", "mean")])
def test_two_clear_phases_are_told_apart(rule):
    # 8 standard deviations apart: between 1.5 from one and 2 from the other 7 % of the darker and 2 % of the brighter
    # phase are lost; yen and max-entropy cut that near to the larger phase (SimpleITK's do, too), triangle and mean
    # inside it by construction
    assert 1.5 < threshold_by_rule(greys(), rule) < 6.0


@pytest.mark.parametrize("rule", RULES)
def test_thresholds_follow_a_change_of_unit_and_of_zero(rule):
    values = greys().astype(np.float64)
    one, two = threshold_by_rule(values, rule), threshold_by_rule(0.002 * values + 0.05, rule)
    # li is not invariant to a shift by definition (logarithms of means); scikit-image shifts to the minimum first
    # a bin of 1024 between -3 and 11 is 0.014; rounding moves greys over the ends of bins
    assert two == pytest.approx(0.002 * one + 0.05, abs=0.002 * 0.03)


@pytest.mark.parametrize("rule", ["huang", "moments", "max-entropy", "isodata", "otsu", "yen", "triangle"])
def test_simple_itk_finds_the_same(rule):
    itk = pytest.importorskip("SimpleITK", reason="SimpleITK (the extra 'test') is not installed")
    values = greys(apart=6.0)
    inside = np.clip(values, *np.quantile(values, (0.001, 0.999)))
    methods = {
        "huang": itk.HuangThresholdImageFilter,
        "moments": itk.MomentsThresholdImageFilter,
        "max-entropy": itk.MaximumEntropyThresholdImageFilter,
        "isodata": itk.IsoDataThresholdImageFilter,
        "otsu": itk.OtsuThresholdImageFilter,
        "yen": itk.YenThresholdImageFilter,
        "triangle": itk.TriangleThresholdImageFilter,
    }
    method = methods[rule]()
    method.SetNumberOfHistogramBins(256)
    low, high = float(inside.min()), float(inside.max())
    bytes_ = np.round((inside - low) / (high - low) * 255).astype(np.uint8)
    method.Execute(itk.GetImageFromArray(bytes_.reshape(1, -1, 100)))
    theirs = low + (high - low) / 255 * method.GetThreshold()
    # a bin of 256 between -3 and 8.5 is 0.045; theirs are shifted by half of one by the rounding to bytes, huang's
    # class means are rounded to bins, and the other two differ by a bin in which class the threshold's own bin is
    assert threshold_by_rule(values, rule, bins=256) == pytest.approx(theirs, abs=3 * 0.045)


def test_imagejs_default_is_its_loop():
    """The published procedure, walked one level at a time."""
    rng = np.random.default_rng(8)
    for _ in range(20):
        values = np.concatenate(
            [
                rng.normal(rng.uniform(0, 4), rng.uniform(0.2, 2), 5000),
                rng.normal(rng.uniform(3, 12), rng.uniform(0.2, 2), rng.integers(300, 5000)),
            ]
        )
        low, high = np.quantile(values, (0.001, 0.999))
        counts, edges = np.histogram(values, bins=256, range=(low, high))
        tamed = counts.astype(float)
        mode = int(np.argmax(tamed))
        others = np.delete(tamed, mode).max()
        if tamed[mode] > 2 * others:
            tamed[mode] = int(1.5 * others)
        tamed[0] = tamed[255] = 0
        filled = np.flatnonzero(tamed)
        level = np.arange(256)
        split = filled[0]
        while True:
            dark, bright = level <= split, level > split
            means = [np.average(level[side], weights=tamed[side]) for side in (dark, bright)]
            split += 1
            if not (split + 1 <= sum(means) / 2 and split < filled[-1] - 1):
                break
        expected = edges[int(np.floor(sum(means) / 2 + 0.5)) + 1]  # darker than or equal to that bin
        assert threshold_by_rule(values, "default", bins=256) == pytest.approx(expected, abs=1e-9)


def test_a_full_bin_does_not_pull_the_default():
    values = np.concatenate([greys(), np.full(200_000, 0.1, np.float32)])
    plain, default = (threshold_by_rule(values, rule, bins=256) for rule in ("mean", "default"))
    assert plain < 1 < 3 < default < 5


def test_moments_keeps_three_moments():
    values = greys(20_000, 20_000)
    cut = threshold_by_rule(values, "moments")
    dark = np.mean(values <= cut)
    # the two greys that keep mean, mean square and mean cube with these shares are unique; equal phases halve the share
    assert dark == pytest.approx(0.5, abs=0.01)


def test_what_has_no_threshold_is_refused():
    with pytest.raises(DataError, match="one grey only"):
        threshold_by_rule(np.full(100, 0.2), "otsu")
    with pytest.raises(DataError, match="one grey only"):
        threshold_by_rule(np.empty(0), "mean")
    with pytest.raises(DataError, match="no two maxima"):
        threshold_by_rule(norm.ppf((np.arange(50_000) + 0.5) / 50_000), "minimum", bins=64)  # one maximum


@pytest.mark.parametrize(("bright", "apart"), [(12_000, 8.0), (30_000, 3.0), (3_000, 5.0), (300_000, 2.0)])
def test_li_is_the_fixed_point_that_scikit_image_walks_to(bright, apart):
    """Theirs never ends where float32 lets its last steps alternate, as in a lifted layer's greys; ours cannot."""
    values = greys(bright=bright, apart=apart)
    low, high = np.quantile(values, (0.001, 0.999))
    theirs = threshold_li(np.clip(values, low, high).astype(np.float64))
    # Ours stops at the bin from which it would not leave; a step there is shortened by the slope of the map, up to 0.8.
    assert threshold_by_rule(values, "li") == pytest.approx(theirs, abs=5 * (high - low) / 1024)


@pytest.mark.parametrize("rule", RULES)
def test_a_grey_that_hardly_any_voxel_differs_from_is_refused(rule):
    """The 99.9th percentile lies between 0 and 1, so that the histogram has one grey."""
    values = np.zeros(1500, np.float32)
    values[:2] = 1.0
    with pytest.raises(DataError, match="one grey only"):
        threshold_by_rule(values, rule)
