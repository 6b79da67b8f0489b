import numpy as np
import pytest

from npsi_twin.errors import IncompatibleError
from npsi_twin.projectors.choice import choose_projector
from npsi_twin.reconstruction.algorithms import fbp
from npsi_twin.reconstruction.rings import RingRecipe, default_levels, remove_stripes


def _rms(values):
    return float(np.sqrt(np.mean(np.asarray(values, np.float64) ** 2)))


def test_stripes_go_and_the_sample_stays(needle):
    integrals, beam = needle(columns=256, views=301, fill=0.7)
    stripes = 0.005 * np.random.default_rng(0).standard_normal(256).astype(np.float32)
    recipe = RingRecipe()
    striped, _ = remove_stripes(integrals + stripes, recipe)
    clean, removed = remove_stripes(integrals, recipe)
    projector = choose_projector("nufft", beam, 256)
    truth, rings = fbp(integrals, projector), fbp(integrals + stripes, projector)
    filtered, harmed = fbp(striped, projector), fbp(clean, projector)
    # The filter is linear, so what is left of the stripes is the difference of the two filtered slices. Three levels
    # keep the part of a white stripe pattern that is slower than 8 columns, 1/8 of its power in the sinogram; the ramp
    # weighs power by frequency squared, which leaves (1/8)**3 of it, 4 % in amplitude, and imperfect bands more.
    assert _rms(filtered - harmed) < 0.25 * _rms(rings - truth)
    # What the filter does to the sample's own straight edges must stay below what these weak rings (0.5 %) did.
    assert _rms(harmed - truth) < 0.8 * _rms(rings - truth)
    assert removed[0] < 0.05 * _rms(integrals)


def test_the_filter_is_linear(needle):
    a, _ = needle(columns=96, views=60)
    b = np.random.default_rng(4).standard_normal(a.shape).astype(np.float32)
    both, _ = remove_stripes(2 * a - b, RingRecipe())
    parts = 2 * remove_stripes(a, RingRecipe())[0] - remove_stripes(b, RingRecipe())[0]
    np.testing.assert_allclose(both, parts, atol=2e-5)  # float32, values up to 4, four transforms


def test_a_sinogram_without_anything_constant_is_left_alone():
    # cos(20 theta) has no power at k < 5 in any band, so damping with sigma = 1 cycle takes exp(-12) of it at most,
    # but for the symmetric continuation of the wavelet transform at the two ends of the scan.
    views, columns = 256, 128
    sinogram = np.cos(2 * np.pi * 20 * np.arange(views) / views)[:, None] * np.random.default_rng(1).random(columns)
    cleaned, removed = remove_stripes(sinogram[None].astype(np.float32), RingRecipe())
    assert removed[0] < 0.02 * _rms(sinogram)
    assert cleaned.shape == (1, views, columns)


@pytest.mark.parametrize(("views", "columns"), [(61, 64), (60, 63), (7, 33), (2, 8)])
def test_odd_shapes_come_back_whole(views, columns):
    sinograms = np.random.default_rng(0).random((2, views, columns)).astype(np.float32)
    cleaned, removed = remove_stripes(sinograms, RingRecipe())
    assert cleaned.shape == sinograms.shape
    assert np.all(np.isfinite(cleaned))
    assert removed.shape == (2,)


def test_none_changes_nothing_and_shares_nothing():
    sinograms = np.random.default_rng(0).random((2, 10, 16)).astype(np.float32)
    cleaned, removed = remove_stripes(sinograms, RingRecipe(method="none"))
    np.testing.assert_array_equal(cleaned, sinograms)
    assert not np.shares_memory(cleaned, sinograms)
    assert np.all(removed == 0)


def test_input_is_untouched_and_rows_are_independent(needle):
    integrals, _ = needle(columns=64, views=40)
    pair = np.concatenate([integrals, integrals[:, :, ::-1]])
    before = pair.copy()
    together, _ = remove_stripes(pair, RingRecipe())
    np.testing.assert_array_equal(pair, before)
    np.testing.assert_array_equal(together[1:], remove_stripes(pair[1:], RingRecipe())[0])


@pytest.mark.parametrize("changed", [{"sigma_cycles": 3.0}, {"wavelet": "db3"}, {"levels": 3}, {"method": "none"}])
def test_every_parameter_matters(needle, changed):
    integrals, _ = needle(columns=128, views=60)
    usual, _ = remove_stripes(integrals, RingRecipe())
    other, _ = remove_stripes(integrals, RingRecipe(**changed))
    assert not np.array_equal(usual, other)


def test_levels_follow_the_width():
    assert [default_levels(n) for n in (8, 64, 256, 640, 2448)] == [1, 1, 3, 4, 6]


def test_a_single_sinogram_is_refused():
    with pytest.raises(IncompatibleError, match="2 dimensions"):
        remove_stripes(np.zeros((4, 4), np.float32), RingRecipe())


METHODS = ["muench", "muench-tomopy", "titarenko", "sorting", "filtering", "large", "dead", "all"]


@pytest.mark.parametrize("method", [m for m in METHODS if m != "dead"])
def test_every_method_takes_rings_and_leaves_the_sample(needle, method):
    """White column errors of 1 %: under half of the rings is left, and the clean sample changes by less than these."""
    integrals, beam = needle(columns=256, views=301, fill=0.7)
    stripes = 0.01 * np.random.default_rng(0).standard_normal(256).astype(np.float32)
    recipe = RingRecipe(method=method)
    projector = choose_projector("fourier", beam, 256)
    truth, rings = fbp(integrals, projector), fbp(integrals + stripes, projector)
    filtered = fbp(remove_stripes(integrals + stripes, recipe)[0], projector)
    harmed = fbp(remove_stripes(integrals, recipe)[0], projector)
    assert _rms(filtered - harmed) < 0.5 * _rms(rings - truth)
    assert _rms(harmed - truth) < _rms(rings - truth)


def test_dead_columns_are_bridged(needle):
    """A column that does not respond is replaced between its neighbours, to the projections' slope over a column."""
    integrals, _ = needle(columns=128, views=120, fill=0.7)
    noisy = integrals + 0.003 * np.random.default_rng(1).standard_normal(integrals.shape).astype(np.float32)
    broken = noisy.copy()
    broken[:, :, 60] = 0.7
    for method in ("dead", "all"):
        cleaned, _ = remove_stripes(broken, RingRecipe(method=method))
        assert _rms(cleaned[:, :, 60] - integrals[:, :, 60]) < 0.2 * _rms(broken[:, :, 60] - integrals[:, :, 60])


@pytest.mark.parametrize("shape", [(180, 256), (181, 255), (60, 63), (16, 40)])
@pytest.mark.parametrize("sigma", [1.0, 2.5])
def test_muench_by_modes_is_muench_by_transforms(shape, sigma):
    """Two roads: the published definition, band by band through full transforms of the framed sinogram, written out."""
    import pywt

    views, columns = shape
    sinogram = np.random.default_rng(3).random(shape).astype(np.float32)
    levels, first = default_levels(columns), views // 8 // 2
    framed = np.zeros((views + views // 8, columns))
    framed[first : first + views] = sinogram
    ladder = []
    for _ in range(levels):
        framed, bands = pywt.dwt2(framed, "db5")
        place = np.fft.fftshift(np.arange(len(bands[1]))) * 0 + np.arange(len(bands[1])) - len(bands[1]) / 2 + 0.5
        keep = -np.expm1(-(place**2) / (2 * sigma**2))
        spectrum = np.fft.fftshift(np.fft.fft(bands[1], axis=0), axes=0) * keep[:, None]
        damped = np.fft.ifft(np.fft.ifftshift(spectrum, axes=0), axis=0).real
        ladder.append((bands[0], damped, bands[2]))
    for bands in reversed(ladder):
        framed = pywt.idwt2((framed[: bands[0].shape[0], : bands[0].shape[1]], bands), "db5")
    expected = framed[first : first + views, :columns]
    made, _ = remove_stripes(sinogram[None], RingRecipe(method="muench-tomopy", sigma_cycles=sigma))
    np.testing.assert_allclose(made[0], expected, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_rows_and_threads_do_not_matter(needle, method):
    integrals, _ = needle(columns=96, views=80)
    rows = integrals * np.array([1.0, 0.5, 2.0, 1.5, 0.7], np.float32)[:, None, None]
    recipe = RingRecipe(method=method)
    whole, removed = remove_stripes(rows, recipe, threads=2)
    alone, removed_alone = remove_stripes(rows[3:4], recipe, threads=1)
    np.testing.assert_array_equal(whole[3:4], alone)
    np.testing.assert_array_equal(removed[3:4], removed_alone)


@pytest.mark.parametrize(
    "changed",
    [{"window_px": 21}, {"method": "titarenko"}, {"method": "large", "contrast": 0.5}, {"method": "filtering"}],
    ids=str,
)
def test_every_parameter_of_the_other_methods_matters(needle, changed):
    integrals, _ = needle(columns=128, views=60)
    noisy = integrals + 0.01 * np.random.default_rng(0).standard_normal((1, 1, 128)).astype(np.float32)
    usual = RingRecipe(method="large" if "contrast" in changed else "sorting")
    other = usual.model_copy(update=changed)
    assert not np.array_equal(remove_stripes(noisy, usual)[0], remove_stripes(noisy, other)[0])
