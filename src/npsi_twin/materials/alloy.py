"""The lithium-silicon alloy LixSi: capacity <-> lithium per silicon <-> volume ratio <-> density <-> attenuation.

One number, ``lithium_per_silicon`` (x in LixSi), decides everything here. The model: the molar volume is linear in x,

    V_m(x) = V_Si + v x,    volume ratio V/V0 = 1 + x v / V_Si,    density = (M_Si + x M_Li) / V_m,

with V_Si = 12.0588 cm3/mol and v = 8.9 cm3 per mol of lithium. It holds for the amorphous alloy up to Li4.4Si within
a few percent; the crystalline phases lie within that. Capacity is counted per gram of silicon, lithium-free.

References
----------
M. N. Obrovac, L. Christensen, D. B. Le, J. R. Dahn, J. Electrochem. Soc. 154 (2007) A849, doi:10.1149/1.2752985;
V. L. Chevrier, J. R. Dahn, J. Electrochem. Soc. 156 (2009) A454 (linearity for the amorphous alloy).
"""

import math

import numpy as np
from numpy.typing import NDArray

from npsi_twin.errors import ParameterError
from npsi_twin.materials import compounds

#: Molar volume of crystalline silicon, cm3/mol (CODATA 2018).
SILICON_MOLAR_VOLUME_CM3 = 12.05883199
#: Volume that a mole of lithium adds to the alloy, cm3/mol (Obrovac et al. 2007; the literature spans 8.8 to 9.1).
LITHIUM_MOLAR_VOLUME_CM3 = 8.9
#: Standard atomic weights, g/mol (IUPAC).
SILICON_G_PER_MOL = 28.0855
LITHIUM_G_PER_MOL = 6.94
#: Faraday constant 96485.33 C/mol in mAh, divided by the mass of a mole of silicon: mAh/g for each lithium per silicon.
CAPACITY_PER_LITHIUM_MAH_PER_G = 96485.33212 / 3.6 / SILICON_G_PER_MOL
#: The richest phase, Li22Si5, lithium per silicon.
LARGEST_LITHIUM_PER_SILICON = 4.4


def lithium_per_silicon(capacity_mah_per_g: float) -> float:
    """Return x in LixSi from the specific capacity.

    Parameters
    ----------
    capacity_mah_per_g
        Charge stored per gram of silicon, mAh/g, 0 to 4199 (Li4.4Si).

    Returns
    -------
    float
        Lithium per silicon.

    Raises
    ------
    ParameterError
        If the capacity is negative or beyond Li4.4Si.

    Examples
    --------
    >>> round(lithium_per_silicon(1000.0), 3)
    1.048
    """
    x = capacity_mah_per_g / CAPACITY_PER_LITHIUM_MAH_PER_G
    if not 0 <= x <= LARGEST_LITHIUM_PER_SILICON:
        most = LARGEST_LITHIUM_PER_SILICON * CAPACITY_PER_LITHIUM_MAH_PER_G
        raise ParameterError(
            f"alloy: capacity_mah_per_g = {capacity_mah_per_g:g} mAh/g; allowed 0 to {most:.0f} mAh/g, since silicon "
            "takes up at most 4.4 lithium. Give the capacity per gram of lithium-free silicon."
        )
    return x


def capacity_mah_per_g(lithium_per_silicon: float) -> float:
    """Return the specific capacity of LixSi per gram of silicon, mAh/g.

    Examples
    --------
    >>> round(capacity_mah_per_g(3.75))
    3579
    """
    return _checked(lithium_per_silicon) * CAPACITY_PER_LITHIUM_MAH_PER_G


def volume_ratio(lithium_per_silicon: float) -> float:
    """Return V/V0 of LixSi against silicon.

    Examples
    --------
    >>> round(volume_ratio(3.75), 3)
    3.768
    """
    return 1.0 + _checked(lithium_per_silicon) * LITHIUM_MOLAR_VOLUME_CM3 / SILICON_MOLAR_VOLUME_CM3


def volume_ratios(lithium_per_silicon: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return V/V0 of LixSi for many x, the shape of the input; see `volume_ratio`.

    Examples
    --------
    >>> volume_ratios(np.array([0.0, 3.75])).round(3)
    array([1.   , 3.768])
    """
    for extreme in (lithium_per_silicon.min(initial=0.0), lithium_per_silicon.max(initial=0.0)):
        _checked(float(extreme))
    return np.asarray(1.0 + lithium_per_silicon * (LITHIUM_MOLAR_VOLUME_CM3 / SILICON_MOLAR_VOLUME_CM3))


def density_g_per_cm3(lithium_per_silicon: float) -> float:
    """Return the mass density of LixSi, g/cm3.

    Examples
    --------
    >>> round(density_g_per_cm3(0.0), 3), round(density_g_per_cm3(3.75), 3)
    (2.329, 1.191)
    """
    mass = SILICON_G_PER_MOL + _checked(lithium_per_silicon) * LITHIUM_G_PER_MOL
    return mass / (SILICON_MOLAR_VOLUME_CM3 * volume_ratio(lithium_per_silicon))


def attenuation_per_um(lithium_per_silicon: float, energy_kev: float) -> float:
    """Return the linear attenuation coefficient of dense LixSi.

    Lithium adds almost nothing, so the attenuation is silicon's divided by the volume ratio, to 0.2 % at 1000 mAh/g.

    Parameters
    ----------
    lithium_per_silicon
        x in LixSi, 0 to 4.4.
    energy_kev
        Photon energy, keV, 4 to 30.

    Returns
    -------
    float
        Attenuation, 1/um.

    Raises
    ------
    ParameterError
        If x or the energy is out of range.

    Examples
    --------
    >>> round(1e4 * attenuation_per_um(lithium_per_silicon=1.048, energy_kev=8.0), 1)  # 1/cm
    85.1
    """
    x = _checked(lithium_per_silicon)
    formula = "Si" if x == 0 else f"Li{x:.9f}Si"
    return compounds.attenuation_per_um(formula, density_g_per_cm3(x), energy_kev)


def _checked(x: float) -> float:
    if not (math.isfinite(x) and 0 <= x <= LARGEST_LITHIUM_PER_SILICON):
        raise ParameterError(
            f"alloy: lithium_per_silicon = {x!r}; allowed 0 to {LARGEST_LITHIUM_PER_SILICON} (Li22Si5), the richest "
            "phase "
            "there is. Use `lithium_per_silicon(capacity_mah_per_g)` to come from a capacity."
        )
    return x
