"""The lithium-silicon alloy against its closed form and the numbers of the design page."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npsi_twin.errors import ParameterError
from npsi_twin.materials import alloy

# capacity mAh/g, lithium per silicon, volume ratio, density g/cm3, attenuation at 8 keV 1/cm; as printed
TABLE = [
    (0.0, 0.0, 1.0, 2.329, 150.7),
    (1000.0, 1.048, 1.773, 1.653, 85.1),
    (1570.0, 1.645, 2.214, 1.480, 68.3),
    (2000.0, 2.096, 2.547, 1.388, 59.4),
    (3579.0, 3.750, 3.768, 1.191, 40.3),
]
CAPACITIES = st.floats(0.0, 4198.0)


@pytest.mark.parametrize(("capacity", "x", "ratio", "density", "per_cm"), TABLE)
def test_numbers_of_the_design(capacity, x, ratio, density, per_cm):
    lithium = alloy.lithium_per_silicon(capacity)
    assert lithium == pytest.approx(x, abs=6e-4)
    assert alloy.volume_ratio(lithium) == pytest.approx(ratio, abs=6e-4)
    assert alloy.density_g_per_cm3(lithium) == pytest.approx(density, abs=6e-4)
    assert alloy.attenuation_per_um(lithium, 8.0) * 1e4 == pytest.approx(per_cm, abs=0.06)


@given(CAPACITIES)
def test_capacity_goes_there_and_back(capacity):
    assert alloy.capacity_mah_per_g(alloy.lithium_per_silicon(capacity)) == pytest.approx(capacity, abs=1e-9)


@given(CAPACITIES)
def test_silicon_mass_is_conserved(capacity):
    # Density times volume ratio, less the lithium taken up, is the density of silicon.
    x = alloy.lithium_per_silicon(capacity)
    silicon = alloy.density_g_per_cm3(x) * alloy.volume_ratio(x) - x * alloy.LITHIUM_G_PER_MOL / 12.05883199
    assert silicon == pytest.approx(2.32904, rel=1e-5)


@given(CAPACITIES)
def test_attenuation_counts_silicon(capacity):
    # Lithium adds 0.35 / 150.7 of its volume share at most: the line integral is a silicon balance to 1 %.
    x = alloy.lithium_per_silicon(capacity)
    conserved = alloy.attenuation_per_um(x, 8.0) * alloy.volume_ratio(x) / alloy.attenuation_per_um(0.0, 8.0)
    assert 0.999 < conserved < 1.01


@pytest.mark.parametrize("capacity", [-1.0, 4300.0, float("nan")])
def test_capacity_guard(capacity):
    with pytest.raises(ParameterError, match="capacity_mah_per_g"):
        alloy.lithium_per_silicon(capacity)


@pytest.mark.parametrize("x", [-0.1, 4.5, float("nan")])
@pytest.mark.parametrize("ask", [alloy.capacity_mah_per_g, alloy.volume_ratio, alloy.density_g_per_cm3])
def test_lithium_guard(ask, x):
    with pytest.raises(ParameterError, match="lithium_per_silicon"):
        ask(x)
