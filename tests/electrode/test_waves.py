"""Sums of plane waves against their closed forms."""

import numpy as np
import pytest

from npsi_twin.electrode.waves import on_rows, shell_waves, smooth_waves


def test_the_mean_over_a_cell_is_exact():
    field = shell_waves(np.random.default_rng(1), 32, 100.0, 0.1)
    cell = np.array([30.0, 20.0, 40.0])
    # Ten Gauss points an axis integrate a cosine over less than half a period to machine precision.
    nodes, weights = np.polynomial.legendre.leggauss(10)
    points = np.stack(np.meshgrid(*[nodes * edge / 2 for edge in cell], indexing="ij"), axis=-1).reshape(-1, 3)
    weight = (weights[:, None, None] * weights[:, None] * weights).ravel() / 8
    closed = (field.amplitudes(tuple(cell)) * np.cos(field.phases_rad)).sum()
    assert closed == pytest.approx((weight * field.at(points)).sum(), abs=1e-12)


def test_the_gradient_is_the_derivative():
    field = smooth_waves(np.random.default_rng(2), 40, 500.0)
    points = np.random.default_rng(3).uniform(-1e3, 1e3, (5, 3))
    for axis in range(3):
        step = np.eye(3)[axis]
        # Central difference over 2 nm: relative error (q h)^2 / 6 with q < 0.02 / nm.
        slope = (field.at(points + step) - field.at(points - step)) / 2
        np.testing.assert_allclose(field.gradient_at(points)[:, axis], slope, atol=1e-6)


def test_smooth_waves_have_the_stated_correlation():
    length, lags, fields = 300.0, np.array([0.0, 150.0, 300.0, 600.0]), 1500
    points = np.stack([lags, np.zeros(4), np.zeros(4)], axis=1)
    rng = np.random.default_rng(4)
    values = np.array([smooth_waves(rng, 64, length, axes=(0, 2)).at(points) for _ in range(fields)])
    correlation = (values * values[:, :1]).mean(axis=0)
    # Each product of two unit Gaussians has a standard deviation of at most sqrt(2): four standard errors.
    np.testing.assert_allclose(correlation, np.exp(-((lags / length) ** 2)), atol=4 * np.sqrt(2 / fields))


def test_rows_are_the_field_and_do_not_depend_on_their_company():
    field = smooth_waves(np.random.default_rng(5), 64, 800.0, axes=(0, 2))
    along, across = np.linspace(-2e3, 2e3, 9), np.linspace(-3e3, 3e3, 11)
    rows = on_rows(field, along, across, 0.0)
    points = np.array([[z, 0.0, x] for z in along for x in across])
    np.testing.assert_allclose(rows.ravel(), field.at(points), atol=1e-12)
    assert (on_rows(field, along[3:5], across, 0.0) == rows[3:5]).all()
