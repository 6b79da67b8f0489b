"""X-ray contrast: composition of a voxel -> linear attenuation coefficient.

Takes the volume fractions of a `Composition` -> gives ``attenuation_per_um`` (z, y, x). The model is the mixture rule

    mu = f_Si mu(Li_x Si) + f_CB [s mu_C + (1 - s) mu_PI] + f_Cu mu_Cu + f_Bi mu_Bi + f_SEI (mu_LiF + mu_Li2CO3) / 2,

where f are volume fractions of the voxel, x is lithium per silicon and s the carbon's share of the carbon-binder solid
by volume. It is exact for the mean attenuation of a voxel; the exponential of a line integral through it differs from
the mean exponential by half the variance of the line integral inside one voxel, which a finer grid makes small.
Attenuation coefficients come from `npsi_twin.materials`.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from npsi_twin.materials import alloy
from npsi_twin.materials.compounds import MATERIALS
from npsi_twin.volumes import FloatArray


class Fractions(Protocol):
    """What `contrast` reads of a voxelised electrode: arrays (z, y, x) of volume fractions of the voxel."""

    @property
    def silicon_fraction(self) -> NDArray[np.float32]:
        """Volume fraction of Li_x Si."""

    @property
    def lithium_per_silicon(self) -> NDArray[np.float32]:
        """Lithium atoms per silicon atom, x in Li_x Si."""

    @property
    def carbon_binder_fraction(self) -> NDArray[np.float32]:
        """Volume fraction of carbon black and polyimide together."""

    @property
    def current_collector_fraction(self) -> NDArray[np.float32]:
        """Volume fraction of copper."""

    @property
    def bismuth_fraction(self) -> NDArray[np.float32]:
        """Volume fraction of bismuth left over from dealloying."""

    @property
    def sei_fraction(self) -> NDArray[np.float32]:
        """Volume fraction of solid electrolyte interphase."""

    @property
    def carbon_share(self) -> float:
        """Volume share of carbon in the carbon-binder solid."""


def silicon_attenuation_per_um(lithium_per_silicon: NDArray[np.float32], energy_kev: float) -> FloatArray:
    """Return the linear attenuation of dense Li_x Si for an array of x.

    Atomic cross-sections add and the molar volume is linear in x, so mu(x) J(x) and J(x) are both linear, J being the
    volume ratio: two calls of `npsi_twin.materials.alloy` decide the whole curve.

    Parameters
    ----------
    lithium_per_silicon
        x in Li_x Si, 0 to 4.4, any shape.
    energy_kev
        Photon energy in keV.

    Returns
    -------
    FloatArray
        Attenuation per um, the shape of the input.

    Raises
    ------
    ParameterError
        If x or the energy is out of range.

    Examples
    --------
    >>> mu = silicon_attenuation_per_um(np.array([0.0, 1.048], np.float32), 8.0)
    >>> [round(1e4 * float(m), 1) for m in mu]  # 1/cm
    [150.7, 85.1]
    """
    x = np.asarray(lithium_per_silicon, np.float32)
    for extreme in (x.min(initial=0.0), x.max(initial=0.0)):
        # Refuses what silicon cannot hold; one step towards zero forgives the rounding of 4.4 to float32.
        alloy.volume_ratio(float(np.nextafter(extreme, np.float32(0))))
    pristine = alloy.attenuation_per_um(0.0, energy_kev)
    expansion = alloy.volume_ratio(1.0) - 1
    lithium = alloy.attenuation_per_um(1.0, energy_kev) * (1 + expansion) - pristine
    attenuation = np.float32(pristine) + np.float32(lithium) * x
    attenuation /= np.float32(1) + np.float32(expansion) * x
    return attenuation


def contrast(composition: Fractions, energy_kev: float) -> FloatArray:
    """Turn composition into linear attenuation.

    Parameters
    ----------
    composition
        Voxelised electrode (`npsi_twin.electrode.voxelise.Composition`).
    energy_kev
        Photon energy in keV.

    Returns
    -------
    FloatArray
        ``attenuation_per_um``, float32 (z, y, x), per micrometre.

    Raises
    ------
    ParameterError
        If the energy lies outside the attenuation tables, or lithium per silicon outside 0 to 4.4.

    Notes
    -----
    Normalised to copper at 8 keV solid silicon reads 0.320, carbon and polyimide 0.019, bismuth 4.94.

    Examples
    --------
    >>> import numpy as np
    >>> from types import SimpleNamespace
    >>> none, half = np.zeros((1, 1, 2), np.float32), np.full((1, 1, 2), 0.5, np.float32)
    >>> voxels = SimpleNamespace(silicon_fraction=half, lithium_per_silicon=none, carbon_binder_fraction=none,
    ...     current_collector_fraction=half, bismuth_fraction=none, sei_fraction=none, carbon_share=0.5)
    >>> [round(float(mu), 4) for mu in contrast(voxels, 8.0)[0, 0]]  # half of 0.01507 and half of 0.04709 per um
    [0.0311, 0.0311]
    """

    def of(name: str) -> np.float32:
        return np.float32(MATERIALS[name].attenuation_per_um(energy_kev))

    share = np.float32(composition.carbon_share)
    carbon_binder = share * of("acetylene_black") + (np.float32(1) - share) * of("polyimide")
    copper, bismuth = of("copper"), of("bismuth")
    sei = (of("lithium_fluoride") + of("lithium_carbonate")) / np.float32(2)
    attenuation = np.empty(composition.silicon_fraction.shape, np.float32)
    for z, mixed in enumerate(attenuation):  # slice by slice: the temporary arrays stay small
        silicon = silicon_attenuation_per_um(composition.lithium_per_silicon[z], energy_kev)
        np.multiply(composition.silicon_fraction[z], silicon, out=mixed)
        mixed += composition.carbon_binder_fraction[z] * carbon_binder
        mixed += composition.current_collector_fraction[z] * copper
        mixed += composition.bismuth_fraction[z] * bismuth
        mixed += composition.sei_fraction[z] * sei
    return attenuation
