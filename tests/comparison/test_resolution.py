import numpy as np
import pytest

from npsi_twin.comparison.resolution import shell_correlation
from npsi_twin.errors import IncompatibleError
from npsi_twin.volumes import Volume


def volume(values, voxel_nm=50.0):
    return Volume(np.asarray(values, np.float32), voxel_nm)


def white(seed, shape=(24, 48, 48)):
    return np.random.default_rng(seed).standard_normal(shape)


def blurred(values, sigma_px):
    axes = np.meshgrid(*[np.fft.fftfreq(n) for n in values.shape], indexing="ij", sparse=True)
    transfer = np.exp(-2 * (np.pi * sigma_px) ** 2 * sum(axis**2 for axis in axes))
    return np.fft.ifftn(np.fft.fftn(values) * transfer).real


def test_gain_and_offset_do_not_matter():
    curve = shell_correlation(volume(white(0)), volume(3 * white(0) + 7))
    np.testing.assert_allclose(curve.correlation, 1, atol=1e-6)
    assert curve.resolution_nm("half") == pytest.approx(50, rel=1e-6)


def test_noise_over_signal_in_closed_form():
    """Signal in two noises: FSC = S / (S + N), with S = N a half, up to 1 / sqrt(samples) of a shell."""
    signal, noise = white(1), (white(2), white(3))
    curve = shell_correlation(volume(signal + noise[0]), volume(signal + noise[1]))
    off = (curve.correlation - 0.5) * np.sqrt(curve.samples / 2)
    assert np.abs(off).max() < 5
    assert abs(off.mean()) < 1


def test_resolution_is_where_signal_meets_noise():
    """A blurred signal of spectrum exp(-4 pi^2 s^2 k^2) falls to the noise's level at a known frequency."""
    sigma, noise_rms = 1.5, 0.05
    signal = blurred(white(4, (64, 64, 64)), sigma)
    pair = [volume(signal + noise_rms * white(seed, (64, 64, 64))) for seed in (5, 6)]
    expected_px = np.sqrt(-np.log(noise_rms**2)) / (2 * np.pi * sigma)
    # A shell is a sixty-fourth of a cycle a voxel thick, and noise moves the crossing by as much.
    assert 0.5 * 50 / expected_px == pytest.approx(shell_correlation(*pair).resolution_nm("half"), rel=0.06)


def test_truth_halves_more_at_half_bit_than_at_half():
    curve = shell_correlation(volume(blurred(white(4), 1.0) + 0.05 * white(5)), volume(blurred(white(4), 1.0)))
    assert curve.resolution_nm("half-bit") <= curve.resolution_nm("half")
    assert 0 < curve.mean(4.0) <= 1


def test_a_single_slice_gives_rings():
    curve = shell_correlation(volume(white(0, (1, 64, 64))), volume(white(0, (1, 64, 64))))
    assert curve.correlation.size == 32
    assert curve.frequency_per_um[-1] == pytest.approx(10.0)


def test_samples_count_every_frequency_once():
    curve = shell_correlation(volume(white(0, (16, 16, 16))), volume(white(1, (16, 16, 16))))
    axes = np.meshgrid(*[np.fft.fftfreq(16)] * 3, indexing="ij")
    shell = np.rint(np.sqrt(sum(axis**2 for axis in axes)) * 16)
    assert curve.samples.tolist() == [int((shell == n).sum()) for n in range(1, 9)]


def test_what_does_not_fit_is_refused():
    with pytest.raises(IncompatibleError, match="same voxels"):
        shell_correlation(volume(white(0)), volume(white(0), 40.0))
    with pytest.raises(IncompatibleError, match="at least 8"):
        shell_correlation(volume(white(0, (2, 4, 4))), volume(white(0, (2, 4, 4))))
