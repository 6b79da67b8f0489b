"""Charge shared out among particles: the balance, the gradient, the spread, the limit."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npsi_twin.cycling.lithiation import Lithiation, share_charge
from npsi_twin.cycling.protocol import Condition, condition
from npsi_twin.errors import IncompatibleError, ParameterError
from npsi_twin.materials.alloy import LARGEST_LITHIUM_PER_SILICON, lithium_per_silicon
from npsi_twin.seeds import Seeds

FIRST = condition("2000/1st-lithiation")


def lithium(scene, *, state=FIRST, seed=5, **values):
    return Lithiation(**values).act(scene, state, seeds=Seeds(seed)).particles.lithium_per_silicon


@given(
    st.lists(st.tuples(st.floats(0.01, 100), st.floats(1, 1e6)), min_size=1, max_size=30),
    st.floats(0, LARGEST_LITHIUM_PER_SILICON),
)
def test_the_shared_charge_is_the_whole_charge(particles, mean):
    appetite, silicon = np.array(particles).T
    x = share_charge(mean, appetite, silicon)
    # Sums of at most 30 terms: 30 roundings of 1e-16.
    assert (x * silicon).sum() == pytest.approx(mean * silicon.sum(), rel=1e-12, abs=1e-12)
    assert x.min() >= 0
    assert x.max() <= LARGEST_LITHIUM_PER_SILICON
    order = np.argsort(appetite)
    assert (np.diff(x[order]) >= -1e-12).all()


@pytest.mark.parametrize("capacity", [300.0, 1000.0, 3579.0])
@pytest.mark.parametrize("values", [{}, {"depth_gradient": 1.0, "particle_spread": 1.0}])
def test_lithium_is_capacity_times_silicon(pristine, capacity, values):
    x = lithium(pristine, state=replace(FIRST, capacity_mah_per_g=capacity), **values)
    silicon = pristine.pores.solid_fraction * pristine.particles.envelope_nm3
    assert (x * silicon).sum() / silicon.sum() == pytest.approx(lithium_per_silicon(capacity), rel=1e-12)
    assert 0 < x.min() <= x.max() <= LARGEST_LITHIUM_PER_SILICON
    # Silicon that is full everywhere differs by rounding, or, by another processor's, not at all.
    assert (x.max() - x.min() > 0.01) == (capacity < 3579.0)


def test_without_gradient_and_spread_all_particles_are_alike(pristine):
    x = lithium(pristine, depth_gradient=0.0, particle_spread=0.0)
    np.testing.assert_allclose(x, lithium_per_silicon(2000.0), rtol=1e-12)


@pytest.mark.parametrize("gradient", [-0.8, 0.3, 1.0])
def test_the_gradient_is_the_asked_one(pristine, gradient):
    x = lithium(pristine, depth_gradient=gradient, particle_spread=0.0)
    along, height, across = pristine.particles.centre_nm.T
    depth = (height - pristine.foil.at(along, across)) / pristine.layer.at(along, across)
    slope, middle = np.polyfit(depth - 0.5, x, 1)
    assert slope / middle == pytest.approx(gradient, rel=1e-9)


def test_the_spread_is_the_asked_one(pristine):
    # The logarithm of x is normal with the width sqrt(log(1 + cv^2)), whatever the mean; its sample deviation scatters
    # by 1 / sqrt(2 n): 16 % for 20 particles, three of them.
    count = pristine.particles.count
    for spread in (0.1, 0.5):
        x = lithium(
            pristine, depth_gradient=0.0, particle_spread=spread, state=replace(FIRST, capacity_mah_per_g=300.0)
        )
        width = np.sqrt(np.log1p(spread**2))
        assert np.log(x).std(ddof=1) == pytest.approx(width, rel=3 / np.sqrt(2 * count))


def test_every_parameter_and_the_seed_matter(pristine):
    usual = lithium(pristine)
    np.testing.assert_array_equal(lithium(pristine), usual)
    for change in ({"depth_gradient": 0.21}, {"particle_spread": 0.11}, {"seed": 6}):
        assert (lithium(pristine, **change) != usual).any()
    assert not pristine.particles.lithium_per_silicon.any()


def test_what_cannot_be_charged_is_refused(pristine):
    with pytest.raises(ParameterError, match="lithiated"):
        lithium(pristine, state=condition("1000/500"))
    with pytest.raises(ParameterError, match=r"capacity_mah_per_g = 5000"):
        lithium(pristine, state=Condition("much", 5000.0, 1, 5000.0, "lithiated", "assumed"))
    charged = Lithiation().act(pristine, FIRST, seeds=Seeds(5))
    with pytest.raises(IncompatibleError, match="once"):
        Lithiation().act(charged, FIRST, seeds=Seeds(5))
