"""X-ray attenuation and refraction of the compounds of an electrode; the package's only door to xraydb.

(formula, density in g/cm3, photon energy in keV) -> attenuation in 1/um, or refractive-index decrements (delta, beta)
with n = 1 - delta + i beta.

The model: independent atoms, ``attenuation = density * sum_i w_i (mu/rho)_i(E)``, with the mass-attenuation
coefficients of Elam et al. (photo-absorption plus coherent and incoherent scattering). It holds away from absorption
edges at the resolution of the tables, and says nothing about near-edge structure. `alloy` supplies the densities of
lithiated silicon.

References
----------
W. T. Elam, B. D. Ravel, J. R. Sieber, "A new atomic database for X-ray spectroscopic calculations", Radiation Physics
and Chemistry 63 (2002) 121-128, doi:10.1016/S0969-806X(01)00227-4.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

from npsi_twin.errors import ParameterError

#: Photon energies this room answers for, keV: hard X-ray microscopes; below 4 keV a needle is opaque.
ENERGY_RANGE_KEV = (4.0, 30.0)


@dataclass(frozen=True)
class Material:
    """A compound of known composition and density.

    Attributes
    ----------
    name
        The key in `MATERIALS`.
    formula
        Chemical formula, as xraydb reads it.
    density_g_per_cm3
        Mass density of the dense solid or liquid, g/cm3.
    source
        Where the density comes from, with the word *stated*, *inferred* or *assumed*.
    """

    name: str
    formula: str
    density_g_per_cm3: float
    source: str

    def attenuation_per_um(self, energy_kev: float) -> float:
        """Return the linear attenuation coefficient at ``energy_kev`` (4 to 30 keV), 1/um."""
        return attenuation_per_um(self.formula, self.density_g_per_cm3, energy_kev)


_TABLE = (
    Material("silicon", "Si", 2.329, "stated: handbook, crystalline silicon at room temperature"),
    Material("copper", "Cu", 8.96, "stated: handbook"),
    Material("acetylene_black", "C", 1.95, "assumed: middle of the reported range 1.8-2.1"),
    Material("polyimide", "C22H10N2O5", 1.42, "stated: handbook, PMDA-ODA (Kapton)"),
    Material("bismuth", "Bi", 9.78, "stated: handbook"),
    Material("lithium", "Li", 0.534, "stated: handbook"),
    Material("lithium_fluoride", "LiF", 2.64, "stated: handbook"),
    Material("lithium_carbonate", "Li2CO3", 2.11, "stated: handbook"),
    Material("lithium_oxide", "Li2O", 2.01, "stated: handbook"),
    Material("silicon_dioxide", "SiO2", 2.2, "stated: handbook, vitreous silica"),
    Material("fluoroethylene_carbonate", "C3H3FO3", 1.454, "stated: handbook, the electrolyte's solvent"),
)
#: Every compound known by name.
MATERIALS = MappingProxyType({material.name: material for material in _TABLE})


def attenuation_per_um(formula: str, density_g_per_cm3: float, energy_kev: float) -> float:
    """Return the linear attenuation coefficient of a compound (photo-absorption plus scattering).

    Parameters
    ----------
    formula
        Chemical formula, for example ``"Si"`` or ``"C22H10N2O5"``.
    density_g_per_cm3
        Mass density, g/cm3, positive.
    energy_kev
        Photon energy, keV, 4 to 30.

    Returns
    -------
    float
        Attenuation, 1/um.

    Raises
    ------
    ParameterError
        If the energy, the density or the formula cannot be used.

    References
    ----------
    Elam, Ravel, Sieber (2002), Radiat. Phys. Chem. 63, 121, doi:10.1016/S0969-806X(01)00227-4.

    Examples
    --------
    >>> round(attenuation_per_um("Cu", 8.96, 8.0), 5)
    0.04709
    """
    _check("attenuation", formula, density_g_per_cm3, energy_kev)
    return _attenuation_per_um(formula, float(density_g_per_cm3), float(energy_kev))


def refraction(formula: str, density_g_per_cm3: float, energy_kev: float) -> tuple[float, float]:
    """Return the decrements (delta, beta) of the refractive index n = 1 - delta + i beta.

    Parameters
    ----------
    formula
        Chemical formula.
    density_g_per_cm3
        Mass density, g/cm3, positive.
    energy_kev
        Photon energy, keV, 4 to 30.

    Returns
    -------
    tuple of float
        delta and beta, dimensionless. beta counts photo-absorption only (Chantler's tables), so that
        4 pi beta / wavelength lies a few percent from `attenuation_per_um`.

    Raises
    ------
    ParameterError
        If the energy, the density or the formula cannot be used.

    References
    ----------
    C. T. Chantler, J. Phys. Chem. Ref. Data 29 (2000) 597-1048, doi:10.1063/1.1321055.

    Examples
    --------
    >>> delta, beta = refraction("Si", 2.329, 8.0)
    >>> round(delta * 1e6, 2), round(delta / beta)
    (7.67, 43)
    """
    import xraydb  # more than a second to import: only where it is asked

    _check("refraction", formula, density_g_per_cm3, energy_kev)
    delta, beta, _ = xraydb.xray_delta_beta(formula, density_g_per_cm3, 1e3 * energy_kev)
    return float(delta), float(beta)


@lru_cache(maxsize=4096)
def _attenuation_per_um(formula: str, density_g_per_cm3: float, energy_kev: float) -> float:
    import xraydb

    per_cm = xraydb.material_mu(formula, 1e3 * energy_kev, density=density_g_per_cm3, kind="total")
    return float(per_cm) * 1e-4


def _check(where: str, formula: str, density_g_per_cm3: float, energy_kev: float) -> None:
    low, high = ENERGY_RANGE_KEV
    if not low <= energy_kev <= high:
        raise ParameterError(
            f"{where}: energy_kev = {energy_kev:g} keV; allowed {low:g} to {high:g} keV. Softer X-rays do not pass a "
            "needle, harder ones see no contrast in it. Give the energy in keV, for example 8.0."
        )
    if not (math.isfinite(density_g_per_cm3) and density_g_per_cm3 > 0):
        raise ParameterError(
            f"{where}: density_g_per_cm3 = {density_g_per_cm3!r} of {formula!r}; a positive number is needed, since "
            "attenuation is proportional to it. Give g/cm3, for example 2.329 for silicon."
        )
    import xraydb

    if not xraydb.validate_formula(formula):
        raise ParameterError(
            f"{where}: formula = {formula!r} cannot be read; element symbols with numbers are allowed, since "
            "composition "
            "decides attenuation. Give, for example, 'Li2CO3'."
        )
