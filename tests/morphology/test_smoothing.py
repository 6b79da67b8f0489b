import numba
import numpy as np
import pytest
from scipy import ndimage

from npsi_twin.errors import DataError
from npsi_twin.morphology.bilateral import bilateral
from npsi_twin.morphology.smoothing import _disk, noise_per_um, smoothed

OPTIONS = {"sigma_voxels": 1.0, "radius_voxels": 1.0, "strength": 1.0}
NAMES = ("gaussian", "median", "mean", "gaussian-3d", "median-3d", "bilateral-3d", "non-local-means-3d")


def noisy(shape=(8, 20, 20), step=0.015, seed=2):
    values = np.zeros(shape, np.float32)
    values[:, shape[1] // 2 :] = step
    return values + np.random.default_rng(seed).normal(0, 0.003, shape).astype(np.float32)


@pytest.mark.parametrize(
    ("radius", "pixels"), [(0.0, 1), (0.5, 5), (1.0, 9), (1.5, 13), (2.0, 21), (2.5, 29), (3.0, 37)]
)
def test_kernels_have_imagejs_sizes(radius, pixels):
    assert _disk(radius).sum() == pixels


@pytest.mark.parametrize("name", NAMES)
def test_noise_falls_and_the_mean_stays(name):
    values = noisy()
    found = smoothed(values, name, **OPTIONS)
    inside = (slice(None), slice(4, 7))
    assert found.dtype == np.float32
    assert found[inside].std() < 0.75 * values[inside].std()
    # 480 voxels of noise 0.003: the mean scatters by 1.4e-4
    assert found[inside].mean() == pytest.approx(0, abs=6e-4)


@pytest.mark.parametrize("name", ["gaussian", "median", "mean"])
def test_slices_are_smoothed_apart(name):
    values = noisy()
    whole = smoothed(values, name, **OPTIONS)
    assert np.array_equal(whole[3:4], smoothed(values[3:4], name, **OPTIONS))


def test_edge_preserving_filters_keep_the_edge():
    # an edge of five standard deviations; the Gaussian of one voxel makes half of it in the two rows at the edge
    values = noisy()
    sharp = {name: np.diff(smoothed(values, name, **OPTIONS).mean(axis=(0, 2)))[9] for name in NAMES}
    for name in ("median-3d", "bilateral-3d", "non-local-means-3d"):
        assert sharp[name] > 1.3 * sharp["gaussian-3d"]


def test_the_bilateral_filter_is_its_sum():
    values = noisy((4, 5, 6))
    found = bilateral(values, 1.0, 0.004)
    padded = np.pad(values.astype(float), 2, mode="edge")
    steps = np.indices((5, 5, 5)) - 2
    near = np.exp(-(steps**2).sum(axis=0) / 2)
    for z, y, x in ((0, 0, 0), (2, 3, 4), (3, 4, 5)):
        cube = padded[z : z + 5, y : y + 5, x : x + 5]
        weight = near * np.exp(-((cube - values[z, y, x]) ** 2) / (2 * 0.004**2))
        assert found[z, y, x] == pytest.approx((weight * cube).sum() / weight.sum(), rel=1e-5, abs=1e-9)


def test_a_bilateral_filter_blind_to_grey_is_a_gaussian():
    values = noisy((9, 9, 9))
    found = bilateral(values, 1.0, 1e3)
    window = np.exp(-(np.arange(-2, 3) ** 2) / 2.0)
    expected = values.astype(np.float64)
    for axis in range(3):
        expected = ndimage.correlate1d(expected, window / window.sum(), axis=axis, mode="nearest")
    assert np.allclose(found, expected, atol=1e-6)


def test_noise_is_found_beside_structure():
    # 460 800 differences: the median absolute value scatters by 0.2 %; edges are in no difference of slices
    assert noise_per_um(noisy((9, 240, 240))) == pytest.approx(0.003, rel=0.01)


def test_filters_that_need_the_noise_say_so():
    with pytest.raises(DataError, match="single slice"):
        smoothed(noisy()[:1], "bilateral-3d", **OPTIONS)
    with pytest.raises(DataError, match="noise above 0"):
        smoothed(np.zeros((3, 8, 8), np.float32), "non-local-means-3d", **OPTIONS)


def test_threads_change_nothing():
    values = noisy()
    several = bilateral(values, 1.0, 0.004)
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        assert np.array_equal(bilateral(values, 1.0, 0.004), several)
    finally:
        numba.set_num_threads(threads)
