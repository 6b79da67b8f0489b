"""Delamination: bodies come off the foil where the stress of charging releases more energy than the interface holds.

`Electrode` after all that moves particles, `Condition`, `Seeds` -> `Electrode` with islands that stand off the foil or
have left the field. The model: a body of height h and solid share phi releases

    G = (1 - nu^2) s*^2 h / (2 E*),   s* = c(phi) s_y(x) phi^1.5,   E* = E(x) phi^2,

with the yield stress and modulus of LixSi, scaled to an open foam (c = 0.3 up to a solid share of one half) and on to
the dense alloy (c = 1). Its interface of energy Gamma, a smooth random field, tires by

    dD/dN = (1/N_1) (G / Gamma)^n b^m,   b = min(1/a, Q_p/Q_c),

so that a body holds N_1 cycles where G = Gamma, and what is left, the attached share a, carries the charge of what is
lost until it is full. That share is the cell's: the mean over all interface energies and over the layer's heights, both
lognormal, about the specimen's mean height, since a field of some micrometres holds but a few of the bodies that decide
how long a cell lives. Loose particles stand as tall as the layer without its open space (a foam that is drawn out keeps
phi h, and so its G); an agglomerate, from the cycle on in which it welded, as tall as the envelopes of its column
pressed together. From D = 1/2 on a body stands off the foil; at D = 1 it is lost and takes no more part. In the scene
whole islands go by the height and the interface energy at their place, so that a field may lose more or less than the
cell: their particles are declared lost, cracks open round them.

A porous film of 2 um releases 0.9 J/m2, one of 16 um 7, a dense agglomerate of 3 um 30: the paper's claim in numbers.
Bodies do not hold on to their neighbours, and nothing leaves an island in part.

References
----------
J. P. Maranchi et al., J. Electrochem. Soc. 153 (2006) A1246 (silicon on copper: 7.7 J/m2);
V. B. Shenoy et al., J. Power Sources 195 (2010) 6825, doi:10.1016/j.jpowsour.2010.04.044 (modulus);
V. A. Sethuraman et al., J. Power Sources 195 (2010) 5062 (flow stress);
L. J. Gibson, M. F. Ashby, "Cellular Solids", Cambridge (1997), chapter 5 (foams).
"""

import math
from dataclasses import replace
from typing import Literal

import numpy as np
from scipy.special import ndtr

from npsi_twin.cycling.capacity import bare_silicon_nm3, begun
from npsi_twin.cycling.layer import body_centres
from npsi_twin.cycling.protocol import Condition
from npsi_twin.electrode.polyhedra import Floats
from npsi_twin.electrode.scene import Electrode
from npsi_twin.electrode.states import History, Islands
from npsi_twin.electrode.waves import smooth_waves
from npsi_twin.errors import IncompatibleError
from npsi_twin.materials import alloy
from npsi_twin.recipes import Recipe, parameter
from npsi_twin.seeds import Seeds

_POISSON_RATIO = 0.25
#: Lithium per silicon up to which modulus and yield stress fall linearly (Li15Si4).
_SOFTEST_LITHIUM = 3.75
#: Waves of the interface energy's field; smallest active share that still carries the charge.
_WAVES, _LEAST_ACTIVE = 64, 1e-3
#: Damage from which on a body stands off the foil.
_LOOSE = 0.5


def energy_release_rate_j_per_m2(height_um: Floats, solid_fraction: Floats, lithium_per_silicon: float) -> Floats:
    """Return the energy that a body releases as it comes off the foil.

    Parameters
    ----------
    height_um
        Height above the foil, um.
    solid_fraction
        Share of the body that is silicon.
    lithium_per_silicon
        x in LixSi at the end of charge.

    Examples
    --------
    >>> energy_release_rate_j_per_m2(np.array([2.0, 16.0, 3.0]), np.array([0.396, 0.396, 1.0]), 1.048).round(1)
    array([ 0.9,  7.5, 39.2])
    """
    softer = min(lithium_per_silicon, _SOFTEST_LITHIUM)
    modulus_gpa = 90.0 - 13.3 * softer
    yield_gpa = 1.75 + (0.7 - 1.75) * softer / _SOFTEST_LITHIUM
    foam = 0.3 + 0.7 * np.clip((solid_fraction - 0.5) / 0.5, 0, 1)
    # s*^2 / E* = (c s_y)^2 phi / E; GPa um is 1e3 J/m2.
    return np.asarray(
        1e3 * (1 - _POISSON_RATIO**2) * (foam * yield_gpa) ** 2 * solid_fraction * height_um / (2 * modulus_gpa)
    )


class Delamination(Recipe):
    """How well the interface holds, and how it tires."""

    mechanism: Literal["delamination"] = "delamination"
    interface_energy_j_per_m2: float = parameter(
        7.7, "Gamma: mean energy of the interface", unit="J/m2", source="stated for silicon on copper (Maranchi 2006)",
        ge=0.5, le=30,
    )  # fmt: skip
    interface_spread: float = parameter(
        0.2, "standard deviation of the logarithm of the interface energy", source="assumed", ge=0, le=1
    )
    correlation_length_um: float = parameter(
        4.0, "distance over which the interface energy varies (1/e)", unit="um", source="assumed", ge=0.5, le=100
    )
    fatigue_exponent: float = parameter(
        3.0, "n: power with which the energy release rate tires the interface", source="inferred: Paris laws, 2 to 4",
        ge=1, le=6,
    )  # fmt: skip
    hold_cycles: float = parameter(
        81.0, "N_1: cycles that an interface holds where G = Gamma", unit="cycles",
        source="inferred: life of 435 cycles at 2000 mAh/g", ge=1, le=1e6,
    )  # fmt: skip
    feedback_exponent: float = parameter(
        5.0, "m: power with which lost silicon burdens what is left",
        source="inferred: what is left at cycle 460 (Zhao 2018, section 3.2.2)", ge=0, le=12,
    )  # fmt: skip
    gap_um: float = parameter(
        0.6, "height above the foil of an island about to be lost", unit="um", source="assumed: 0 to 2", ge=0, le=5
    )
    crack_nm: float = parameter(
        200.0, "width of the cracks round loose islands", unit="nm", source="assumed", ge=0, le=5000
    )

    @property
    def name(self) -> str:
        """Name of the mechanism and of its random stream."""
        return self.mechanism

    def act(self, electrode: Electrode, condition: Condition, *, seeds: Seeds) -> Electrode:
        """Return the scene with its islands; the input stays untouched.

        Raises
        ------
        IncompatibleError
            If islands have come off already.
        """
        if electrode.islands is not None:
            raise IncompatibleError(
                "delamination: islands have come off the foil already; the model starts from a whole layer. Let it act "
                "once."
            )
        electrode, history = begun(electrode, condition)
        worn, attached = self._tire(electrode, history, condition.cycle)
        damage = worn * self._haste(electrode, seeds)
        ids, silicon = electrode.states.agglomerate, bare_silicon_nm3(electrode)
        body = np.bincount(ids, silicon * damage, ids.size) / np.maximum(np.bincount(ids, silicon, ids.size), 1e-300)
        lost = body[ids] >= 1
        tired = np.clip((body[ids] - _LOOSE) / (1 - _LOOSE), 0, 1)
        gap_nm = np.where(lost, 0.0, 1e3 * self.gap_um * tired)
        centre = electrode.particles.centre_nm.copy()
        islands = Islands(centre[:, [0, 2]].copy(), ids.copy(), gap_nm, lost, self.crack_nm)
        centre[:, 1] += gap_nm
        states = electrode.states
        return replace(
            electrode,
            particles=replace(electrode.particles, centre_nm=centre),
            states=replace(states, present=states.present & ~lost, active=states.active & ~lost),
            islands=islands if lost.any() or gap_nm.any() else None,
            history=replace(history, active_fraction=history.active_fraction * attached),
        )

    def _haste(self, electrode: Electrode, seeds: Seeds) -> Floats:
        """Return how much faster each particle's body tires than one of mean height on the mean interface."""
        along, _, across = body_centres(electrode).T
        field = smooth_waves(seeds.stream(self.name), _WAVES, 1e3 * self.correlation_length_um, axes=(0, 2))
        unit = field.at(np.stack([along, np.zeros_like(along), across], axis=1))
        held = np.exp(self.interface_spread * unit - self.interface_spread**2 / 2)
        taller = electrode.layer.at(along, across) / electrode.layer.mean_nm
        return np.asarray((taller / held) ** self.fatigue_exponent)

    def _survival(self, worn: Floats, height_variation: float) -> Floats:
        """Return the probability that a body is attached, over all interface energies and heights.

        Parameters
        ----------
        worn
            Damage at the mean height on the mean interface.
        height_variation
            Coefficient of variation of the layer's height.

        Examples
        --------
        >>> Delamination(interface_spread=0.0)._survival(np.array([0.9, 1.0]), 0.0)
        array([1., 0.])
        """
        height_spread = math.sqrt(math.log1p(height_variation**2))
        width = math.hypot(self.interface_spread, height_spread)
        if width == 0:
            return np.asarray((worn < 1).astype(float))
        shift = (self.interface_spread**2 - height_spread**2) / 2
        with np.errstate(divide="ignore"):
            return np.asarray(ndtr(-(np.log(worn) / self.fatigue_exponent + shift) / width))

    def _tire(self, electrode: Electrode, history: History, cycle: int) -> tuple[Floats, Floats]:
        """Return damage after ``cycle`` at mean height and interface (particles,), and the cell's attached share."""
        silicon, states, pores = bare_silicon_nm3(electrode), electrode.states, electrode.pores
        height_um, variation = (
            np.asarray(history.pristine_height_nm / 1e3),
            electrode.layer.sd_nm / electrode.layer.mean_nm,
        )
        lithium = alloy.lithium_per_silicon(min(history.cut_off_mah_per_g, history.full_capacity_mah_per_g))
        loose, welded = (
            (
                energy_release_rate_j_per_m2(height_um, np.where(solid > 0, solid, pores.solid_fraction), lithium)
                / self.interface_energy_j_per_m2
            )
            ** self.fatigue_exponent
            for solid in (states.loose_solid_fraction, states.welded_solid_fraction)
        )
        # Over the pristine height: how tall the filled layer stands, and how tall its envelopes would alone.
        taller = history.filled_ratio**self.fatigue_exponent
        compact = (history.thickness_ratio * history.packing_fraction) ** self.fatigue_exponent
        most = history.full_capacity_mah_per_g / history.cut_off_mah_per_g
        worn, then = np.zeros(silicon.size), np.zeros(silicon.size)
        attached, left = np.ones(history.cycles.size), 1.0
        for n in history.cycles:
            burden = min(1 / max(left, _LEAST_ACTIVE), most) ** self.feedback_exponent
            worn = worn + np.where(n >= states.weld_cycle, welded * compact[n - 1], loose * taller[n - 1]) * (
                burden / self.hold_cycles
            )
            left = attached[n - 1] = float((silicon * self._survival(worn, variation)).sum() / silicon.sum())
            if n == cycle:
                then = worn
        return then, attached
