"""The random numbers of counting against known answers and distributions in closed form."""

import numba
import numpy as np
import pytest
from scipy import stats

from npsi_twin.txm.counting import Levels, Light, Pixels, Zingers, count, normal_quantile, philox

NONE = Zingers(np.zeros(2, np.int64), np.zeros(0, np.int64), np.zeros(0))
KEYS = np.array([[123456789, 987654321]], np.uint64)


@numba.njit
def words(counter, key):
    return philox(counter[0], counter[1], counter[2], counter[3], key[0], key[1])


def dark_counts(mean, frames, columns, *, noise=0.0, offset=0.0, threads=1):
    """Without light, with gain 1 and no offset, counts are Poisson draws of the dark charge."""
    row = np.zeros((1, columns), np.float32)
    still = np.zeros(frames)
    light = Light(row, row, np.zeros((0, 0), np.float32), 0, still + 1, np.zeros((frames, 2)), still)
    pixels = Pixels(row, row, row + np.float32(mean))
    levels = Levels(0.0, 1e9, 1.0, offset, noise, 65535.0)
    return count(np.ones((frames, 1, columns), np.float32), light, pixels, levels, NONE, KEYS, threads=threads)


@pytest.mark.parametrize(
    ("counter", "key", "known"),
    [
        ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_gives_its_authors_known_answers(counter, key, known):
    assert [int(w) for w in words(np.array(counter, np.uint64), np.array(key, np.uint64))] == known


def test_normal_quantile_is_that_of_the_normal_distribution():
    # Giles' single-precision coefficients: a few 1e-7 where that precision reaches, both tails from 1e-7; beyond it,
    # down to the last 32-bit word and z = 6.3, they still follow to 5e-4.
    for low, high, rtol in ((1e-7, 0.5, 1e-6), (2.0**-33, 1e-7, 5e-4)):
        u = np.concatenate([np.geomspace(low, high, 300), 1 - np.geomspace(low, high, 300)])
        np.testing.assert_allclose([normal_quantile(x) for x in u], stats.norm.ppf(u), rtol=rtol, atol=1e-6)


@pytest.mark.parametrize("mean", [0.3, 3.0, 9.99, 10.01, 60.0, 255.0, 257.0, 700.0, 25_000.0])
def test_counts_are_poisson(mean):
    # 200 000 draws in up to 60 cells of at least 50 expected: chi squared, two-sided at 1e-4. All three methods
    # and the means at which they change hands; the sum of the tables' probabilities is 1.
    draws = dark_counts(mean, 200, 1000).ravel()
    exact = stats.poisson(float(np.float32(mean)))
    edges = np.unique(exact.ppf(np.linspace(0, 1, 62)[1:-1]))
    expected = np.diff(np.concatenate([[0], exact.cdf(edges), [1]])) * draws.size
    found = np.bincount(np.searchsorted(edges, draws, side="left"), minlength=expected.size)
    keep = expected > 50
    chi = np.sum((found[keep] - expected[keep]) ** 2 / expected[keep])
    p = stats.chi2.sf(chi, keep.sum() - 1)
    assert 1e-4 < p < 1 - 1e-4


def test_noise_is_normal():
    draws = dark_counts(0.0, 100, 1000, noise=40.0, offset=1000.0).ravel() - 1000.0
    # Standard errors of 1e5 draws: mean 40 / 316, deviation 40 / 447, skewness sqrt(6 / n), kurtosis sqrt(24 / n).
    assert abs(draws.mean()) < 4.5 * 40 / 316
    assert draws.std() == pytest.approx(np.hypot(40, 12**-0.5), abs=4.5 * 40 / 447)
    assert abs(stats.skew(draws)) < 4.5 * np.sqrt(6 / draws.size)
    assert abs(stats.kurtosis(draws)) < 4.5 * np.sqrt(24 / draws.size)


def test_pixels_and_frames_are_independent():
    # Correlations of 1e5 pairs are normal with 1 / sqrt(n) = 0.0032; neighbours along columns, frames, and a quarter of
    # the row apart, where noise shares its counter.
    draws = dark_counts(50.0, 100, 1000, noise=5.0)[:, 0].astype(float)
    draws = (draws - draws.mean()) / draws.std()
    for a, b in (
        (draws[:, 1:], draws[:, :-1]),
        (draws[1:], draws[:-1]),
        (draws[:, 250:], draws[:, :-250]),
    ):
        assert abs((a * b).mean()) < 4.5 / np.sqrt(a.size)


def test_frames_do_not_depend_on_threads_or_on_how_many_there_are():
    whole = dark_counts(30.0, 9, 101, noise=2.0)
    assert np.array_equal(dark_counts(30.0, 9, 101, noise=2.0, threads=2), whole)
    assert np.array_equal(dark_counts(30.0, 4, 101, noise=2.0), whole[:4])
