"""Contrast against the materials room, number by number."""

from types import SimpleNamespace

import numpy as np
import pytest

from npsi_twin.errors import ParameterError
from npsi_twin.materials import alloy
from npsi_twin.materials.compounds import MATERIALS
from npsi_twin.txm.contrast import contrast, silicon_attenuation_per_um


def composition(**given):
    names = ("silicon", "carbon_binder", "current_collector", "bismuth", "sei")
    fractions = {f"{n}_fraction": np.full((2, 3, 4), given.get(n, 0.0), np.float32) for n in names}
    lithium = np.full((2, 3, 4), given.get("lithium_per_silicon", 0.0), np.float32)
    return SimpleNamespace(**fractions, lithium_per_silicon=lithium, carbon_share=given.get("carbon_share", 0.5))


def mu(name, energy_kev=8.0):
    return MATERIALS[name].attenuation_per_um(energy_kev)


@pytest.mark.parametrize("energy_kev", [7.11, 8.0])
def test_pure_voxels_have_their_material(energy_kev):
    # float32 arithmetic: 3 roundings of 6e-8.
    silicon = alloy.attenuation_per_um(0.0, energy_kev)
    copper, bismuth = mu("copper", energy_kev), mu("bismuth", energy_kev)
    for name, expected in (("silicon", silicon), ("current_collector", copper), ("bismuth", bismuth)):
        values = contrast(composition(**{name: 1.0}), energy_kev)
        assert values.shape == (2, 3, 4)
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_carbon_share_is_by_volume():
    values = contrast(composition(carbon_binder=1.0, carbon_share=0.3), 8.0)
    np.testing.assert_allclose(values, 0.3 * mu("acetylene_black") + 0.7 * mu("polyimide"), rtol=1e-6)


def test_greys_of_the_design():
    # physics.md section 2: solid silicon 0.320, np-Si of 39.6 % silicon 0.127, bismuth 4.94 of copper.
    for fractions, grey in (({"silicon": 1.0}, 0.320), ({"silicon": 0.396}, 0.127), ({"bismuth": 1.0}, 4.94)):
        assert contrast(composition(**fractions), 8.0)[0, 0, 0] / mu("copper") == pytest.approx(grey, rel=0.005)


def test_fractions_add():
    parts = {"silicon": 0.2, "carbon_binder": 0.3, "current_collector": 0.4, "bismuth": 0.01}
    total = sum(contrast(composition(**{name: f}), 8.0) for name, f in parts.items())
    np.testing.assert_allclose(contrast(composition(**parts), 8.0), total, rtol=1e-6)


def test_array_of_lithium_agrees_with_the_alloy_one_by_one():
    # mu J is linear in x exactly. The atomic weights of the alloy and of the tables differ by about 1e-5.
    x = np.array([0.0, 0.3, 1.048, 2.096, 3.75, 4.4], np.float32)
    one_by_one = [alloy.attenuation_per_um(min(float(v), 4.4), 8.0) for v in x]
    np.testing.assert_allclose(silicon_attenuation_per_um(x, 8.0), one_by_one, rtol=2e-5)


def test_impossible_lithium_is_refused():
    with pytest.raises(ParameterError, match="lithium_per_silicon"):
        contrast(composition(silicon=1.0, lithium_per_silicon=5.0), 8.0)
    with pytest.raises(ParameterError, match="lithium_per_silicon"):
        contrast(composition(silicon=1.0, lithium_per_silicon=-0.1), 8.0)


def test_input_is_left_alone():
    voxels = composition(silicon=0.5, lithium_per_silicon=1.0, carbon_binder=0.1)
    contrast(voxels, 8.0)
    assert np.all(voxels.silicon_fraction == np.float32(0.5))
    assert np.all(voxels.lithium_per_silicon == np.float32(1.0))
