"""Attenuation and refraction against xraylib, against each other and against the laws they obey."""

import math

import pytest
import xraylib

from npsi_twin.errors import ParameterError
from npsi_twin.materials.compounds import MATERIALS, attenuation_per_um, refraction

# 1/cm at 7.11 and 8.0 keV, as the design page prints them; one unit of the last digit is the tolerance.
TABLE_PER_CM = {
    "silicon": (211.4, 150.7),
    "copper": (650.0, 470.9),
    "acetylene_black": (12.7, 8.9),
    "lithium_fluoride": (44.6, 31.3),
    "lithium_carbonate": (25.3, 17.7),
    "lithium_oxide": (18.5, 13.0),
    "fluoroethylene_carbonate": (20.1, 14.1),
}


@pytest.mark.parametrize("name", TABLE_PER_CM)
def test_attenuation_matches_the_table_of_the_design(name):
    for energy_kev, per_cm in zip((7.11, 8.0), TABLE_PER_CM[name], strict=True):
        assert MATERIALS[name].attenuation_per_um(energy_kev) * 1e4 == pytest.approx(per_cm, abs=0.1)


@pytest.mark.parametrize("name", ["silicon", "copper", "polyimide", "lithium_fluoride"])
@pytest.mark.parametrize("energy_kev", [5.0, 8.0, 12.0, 25.0])
def test_two_libraries_agree(name, energy_kev):
    # Both tables are evaluated fits to the same measurements; they differ by up to 1-2 % for light elements, where
    # scattering is a large share, and by a few per mille for silicon and copper.
    material = MATERIALS[name]
    other = xraylib.CS_Total_CP(material.formula, energy_kev) * material.density_g_per_cm3 * 1e-4
    assert material.attenuation_per_um(energy_kev) == pytest.approx(other, rel=0.02)


def test_attenuation_is_proportional_to_density():
    assert attenuation_per_um("Si", 4.658, 8.0) == pytest.approx(2 * attenuation_per_um("Si", 2.329, 8.0), rel=1e-12)


def test_attenuation_falls_with_about_the_cube_of_energy_away_from_edges():
    ratio = attenuation_per_um("Si", 2.329, 8.0) / attenuation_per_um("Si", 2.329, 16.0)
    assert 7.0 < ratio < 8.5


def test_refraction_follows_the_free_electron_law_above_the_edges():
    # delta = r_e lambda^2 n_e / (2 pi); silicon's K edge at 1.84 keV adds about 3 % at 8 keV.
    wavelength_cm = 12.39842 / 8.0 * 1e-8
    electrons_per_cm3 = 2.329 * 6.02214e23 / 28.0855 * 14
    free = 2.8179403e-13 * wavelength_cm**2 * electrons_per_cm3 / (2 * math.pi)
    delta, beta = refraction("Si", 2.329, 8.0)
    assert delta == pytest.approx(free, rel=0.03)
    # 4 pi beta / lambda is the photo-absorption; scattering makes up the rest of 3 % at most.
    assert 4 * math.pi * beta / wavelength_cm * 1e-4 == pytest.approx(attenuation_per_um("Si", 2.329, 8.0), rel=0.04)


@pytest.mark.parametrize(("energy_kev", "density", "formula", "word"), [
    (8000.0, 2.3, "Si", "energy_kev"),
    (3.9, 2.3, "Si", "energy_kev"),
    (float("nan"), 2.3, "Si", "energy_kev"),
    (8.0, 0.0, "Si", "density_g_per_cm3"),
    (8.0, float("nan"), "Si", "density_g_per_cm3"),
    (8.0, 2.3, "Xx2", "formula"),
])  # fmt: skip
def test_guards_name_what_is_wrong(energy_kev, density, formula, word):
    for ask in (attenuation_per_um, refraction):
        with pytest.raises(ParameterError, match=word):
            ask(formula, density, energy_kev)
