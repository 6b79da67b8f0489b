import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import erfinv

from npsi_twin.errors import IncompatibleError, ParameterError
from npsi_twin.morphology.correlation import two_point_correlation


def by_hand(phase, within, lag):
    """Count pairs lag by lag."""
    both, pairs = {}, {}
    nz, ny, nx = phase.shape
    phase = phase & within
    for dz in range(-lag, lag + 1):
        for dy in range(-lag, lag + 1):
            for dx in range(lag + 1):
                squared = dz * dz + dy * dy + dx * dx
                if squared > lag * lag:
                    continue
                if abs(dz) >= nz or abs(dy) >= ny or dx >= nx:
                    both.setdefault(squared, 0)
                    pairs.setdefault(squared, 0)
                    continue
                a = tuple(slice(max(0, -d), min(n, n - d)) for d, n in zip((dz, dy, dx), (nz, ny, nx), strict=True))
                b = tuple(slice(max(0, d), min(n, n + d)) for d, n in zip((dz, dy, dx), (nz, ny, nx), strict=True))
                both[squared] = both.get(squared, 0) + np.count_nonzero(phase[a] & phase[b])
                pairs[squared] = pairs.get(squared, 0) + np.count_nonzero(within[a] & within[b])
    return both, pairs


@pytest.mark.parametrize("shape", [(7, 9, 11), (1, 9, 4), (3, 1, 1)])
def test_it_counts_every_pair_once(shape):
    rng = np.random.default_rng(3)
    phase, within = rng.random(shape) < 0.5, rng.random(shape) < 0.8
    found = two_point_correlation(phase, 1.0, 4.0, within=within, blocks=1)
    both, pairs = by_hand(phase, within, 4)
    assert found.squared_lag.tolist() == sorted(both)
    assert found.both[0].tolist() == [both[k] for k in sorted(both)]
    assert found.pairs[0].tolist() == [pairs[k] for k in sorted(pairs)]
    free = two_point_correlation(phase, 1.0, 4.0, blocks=1)
    all_of_it = two_point_correlation(phase, 1.0, 4.0, within=np.ones_like(phase), blocks=1)
    assert np.array_equal(free.pairs, all_of_it.pairs)


def test_blocks_count_what_lies_in_them():
    phase = np.random.default_rng(5).random((40, 8, 8)) < 0.3
    found = two_point_correlation(phase, 1.0, 5.0, blocks=3)
    assert found.both.shape[0] == 3
    first = two_point_correlation(phase[:13], 1.0, 5.0, blocks=1)
    assert np.array_equal(found.both[0], first.both[0])


def test_a_level_cut_field_has_the_s2_and_the_surface_of_theory(gaussian_field):
    n, wavelength, porosity, lag = 160, 16.0, 0.604, 24
    field = gaussian_field((n, n, n), wavelength, np.random.default_rng(7))
    level = np.sqrt(2) * erfinv(2 * porosity - 1)
    found = two_point_correlation(field > np.quantile(field, porosity), 1.0, float(lag), blocks=1)
    phi = 1 - porosity
    g = np.linspace(-1, 1, 401)
    berk = [quad(lambda t: np.exp(-(level**2) / (1 + np.sin(t))), 0, np.arcsin(c))[0] for c in g]
    # the realisation's own correlation at every lag; over its period, where S2 has the pairs inside the box only
    power = np.abs(np.fft.rfftn(field)) ** 2
    own = np.fft.irfftn(power, s=(n, n, n), axes=(0, 1, 2)) / (field**2).sum()
    d = np.arange(-lag, lag + 1)
    squared = d[:, None, None] ** 2 + d[None, :, None] ** 2 + d[None, None, :] ** 2
    s2 = phi**2 + np.interp(own[np.ix_(d % n, d % n, d % n)], g, berk) / (2 * np.pi)
    theory = np.bincount(squared.ravel(), s2.ravel()) / np.maximum(np.bincount(squared.ravel()), 1)
    error = found.s2() - theory[found.squared_lag]
    # a distance has 3 to 100 lags: single distances scatter more than S2 does, which is held to 1e-3 (measured 3e-4)
    assert np.sqrt(np.mean(error**2)) < 1e-3
    assert found.s2()[0] == pytest.approx(phi, abs=1e-5)
    k = [2 * np.pi * np.fft.fftfreq(n)] * 2 + [2 * np.pi * np.fft.rfftfreq(n)]
    power[:, :, 1:-1] *= 2
    k2 = k[0][:, None, None] ** 2 + k[1][None, :, None] ** 2 + k[2][None, None, :] ** 2
    lambda2 = (power * k2).sum() / power.sum() / 3
    surface = 2 / np.pi * np.sqrt(lambda2) * np.exp(-(level**2) / 2)
    # this realisation's crossings lie 0.5 % off the ensemble's, the fit of two terms up to 3 voxels adds as much
    assert found.specific_surface_per_um() / 1000 == pytest.approx(surface, rel=0.02)


def test_a_gyroid_has_its_surface_and_both_phases_one_length():
    u = np.arange(96) * 2 * np.pi * 3 / 96
    z, y, x = np.meshgrid(u, u, u, indexing="ij", sparse=True)
    solid = np.sin(x) * np.cos(y) + np.sin(y) * np.cos(z) + np.sin(z) * np.cos(x) > 0
    found = two_point_correlation(solid, 50.0, 600.0)
    # 3.0915 a^2 in a cell of edge a = 1.6 um; 32 voxels a cell
    # counting along 13 directions reads this lattice 1.6 % high too: its period is a whole number of voxels
    assert found.specific_surface_per_um() == pytest.approx(3.0915 / 1.6, rel=0.04)
    # the same 1/e is reached by pores and solid
    pores = two_point_correlation(~solid, 50.0, 600.0)
    assert pores.correlation_length_nm() == pytest.approx(found.correlation_length_nm(), rel=0.01)


def test_bad_requests_and_empty_phases():
    phase = np.zeros((8, 8, 8), bool)
    with pytest.raises(ParameterError, match="one voxel"):
        two_point_correlation(phase, 50.0, 10.0)
    with pytest.raises(IncompatibleError, match="Crop them alike"):
        two_point_correlation(phase, 50.0, 100.0, within=phase[1:])
    empty = two_point_correlation(phase, 50.0, 100.0)
    assert (empty.s2() == 0).all()
    assert np.isnan(empty.correlation_length_nm())
    nowhere = two_point_correlation(phase, 50.0, 100.0, within=phase)
    assert np.isnan(nowhere.s2()).all()
    assert np.isnan(nowhere.specific_surface_per_um())
