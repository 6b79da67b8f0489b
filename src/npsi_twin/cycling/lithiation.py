"""Lithiation: the charge of a condition, shared out among the particles.

`Electrode`, `Condition`, `Seeds` -> `Electrode` with lithium in every active particle. The model: the condition's
capacity, as long as the cell reaches it, is the mean over all silicon; the active share a of the silicon carries it, so
that its mean is x = Q / (954.28 mAh/g a). A particle whose centre stands at the share z/T of the local layer takes

    x = c [1 + h (z/T - 1/2)] s,    s lognormal with mean 1,    x <= what the cell's silicon can hold,

h the depth gradient and c one number, solved so that the mean over the silicon's volume is exact: the charge that a
full particle cannot take goes to the others. The first lithiation is shared out by the same appetites and remembered.
A cell opened delithiated keeps a residue. Silicon's volume is integrated from every particle's own field.

It holds while lithium is even inside a particle: diffusion across ligaments of 0.3 um takes minutes, a charge hours.
Cores and shells of dense bodies are `blocked_diffusion`'s. `swelling` turns lithium into volume.

References
----------
C. Zhao et al., Nano Energy 52 (2018) 381-390 (constant-capacity cycling; silicon far from the foil takes more lithium).
"""

import math
from dataclasses import replace
from typing import Literal

import numpy as np

from npsi_twin.cycling.capacity import bare_silicon_nm3, begun
from npsi_twin.cycling.protocol import Condition
from npsi_twin.electrode.polyhedra import Floats
from npsi_twin.electrode.scene import Electrode
from npsi_twin.errors import IncompatibleError, ParameterError
from npsi_twin.materials import alloy
from npsi_twin.recipes import Recipe, parameter
from npsi_twin.seeds import Seeds


class Lithiation(Recipe):
    """How the charge of a condition is shared out among the particles."""

    mechanism: Literal["lithiation"] = "lithiation"
    depth_gradient: float = parameter(
        0.2,
        "h: lithium at the layer's top less that at the foil, over their mean; above 0: more far from the foil",
        source="inferred: sign after Zhao 2018, section 3.3.1; size assumed",
        ge=-1,
        le=1,
    )
    particle_spread: float = parameter(
        0.1, "standard deviation of lithium over its mean, particle to particle", source="assumed", ge=0, le=1
    )
    residual_lithium_per_silicon: float = parameter(
        0.1, "mean lithium that a cell opened delithiated keeps", source="assumed: trapped lithium", ge=0, le=1
    )

    @property
    def name(self) -> str:
        """Name of the mechanism and of its random streams."""
        return self.mechanism

    def act(self, electrode: Electrode, condition: Condition, *, seeds: Seeds) -> Electrode:
        """Return the scene with lithium in its silicon; the input stays untouched.

        Parameters
        ----------
        electrode
            A scene whose silicon holds no lithium.
        condition
            What the electrode went through; its capacity is in mAh per gram of lithium-free silicon.
        seeds
            Root of the streams ``("lithiation", particle)``.

        Raises
        ------
        ParameterError
            If the condition's end state is unknown, or its capacity is beyond Li4.4Si.
        IncompatibleError
            If the silicon already holds lithium, or there is no silicon.

        Examples
        --------
        >>> from npsi_twin.cycling.protocol import condition
        >>> from npsi_twin.electrode.build import ElectrodeRecipe, build_electrode
        >>> from npsi_twin.electrode.specimen import SpecimenRecipe
        >>> small = ElectrodeRecipe(specimen=SpecimenRecipe(width_um=4.0, length_um=3.0))
        >>> even = Lithiation(depth_gradient=0.0, particle_spread=0.0)
        >>> scene = build_electrode(small, seeds=Seeds(1))
        >>> charged = even.act(scene, condition("2000/1st-lithiation"), seeds=Seeds(1))
        >>> charged.particles.lithium_per_silicon.round(3)[:2]
        array([2.096, 2.096])
        """
        if condition.end_state not in ("lithiated", "delithiated"):
            raise ParameterError(
                f"lithiation: condition {condition.name!r} ends in the state {condition.end_state!r}; only 'lithiated' "
                "and 'delithiated' say how much lithium the silicon holds. Use condition.ending('lithiated')."
            )
        particles = electrode.particles
        if particles.count == 0 or particles.lithium_per_silicon.any():
            raise IncompatibleError(
                f"lithiation: got a scene of {particles.count} particles with up to "
                f"{particles.lithium_per_silicon.max(initial=0.0):g} lithium per silicon; it shares out the whole "
                "charge among silicon that holds none. Let it act once, on a pristine scene."
            )
        electrode, history = begun(electrode, condition)
        full = alloy.lithium_per_silicon(history.full_capacity_mah_per_g)
        silicon, active, appetite = (
            bare_silicon_nm3(electrode),
            electrode.states.active,
            self._appetite(electrode, seeds),
        )
        charged = min(history.charged_fraction, float(silicon[active].sum() / silicon.sum()))
        held = min(history.cut_off_mah_per_g, history.full_capacity_mah_per_g * charged)
        # The first lithiation found all silicon active.
        first = share_charge(alloy.lithium_per_silicon(condition.first_lithiation_mah_per_g), appetite, silicon, full)
        lithium = np.zeros(particles.count)
        if active.any():
            now = alloy.lithium_per_silicon(held) / max(charged, 1e-9)
            if condition.end_state == "delithiated":
                now = min(self.residual_lithium_per_silicon, now)
            lithium[active] = share_charge(min(now, full), appetite[active], silicon[active], full)
        return replace(
            electrode,
            particles=replace(particles, lithium_per_silicon=lithium),
            states=replace(electrode.states, most_lithium_per_silicon=np.maximum(first, lithium)),
        )

    def _appetite(self, electrode: Electrode, seeds: Seeds) -> Floats:
        """Return what every particle would take relative to the others, (particles,)."""
        along, height, across = electrode.particles.centre_nm.T
        depth = (height - electrode.foil.at(along, across)) / electrode.layer.at(along, across)
        width = math.sqrt(math.log1p(self.particle_spread**2))
        normal = np.array([seeds.stream(self.name, i).normal() for i in range(along.size)])
        scatter = np.exp(width * normal - width**2 / 2)
        return np.asarray((1 + self.depth_gradient * (np.clip(depth, 0, 1) - 0.5)) * scatter)


def share_charge(
    mean_lithium: float,
    appetite: Floats,
    silicon_nm3: Floats,
    most: float = alloy.LARGEST_LITHIUM_PER_SILICON,
) -> Floats:
    """Share lithium out in proportion to appetites, no particle above the most it can hold, the mean kept.

    Parameters
    ----------
    mean_lithium
        Mean over the silicon's volume, lithium per silicon; at most ``most``, or everything is full.
    appetite
        Positive weights, (particles,).
    silicon_nm3
        Lithium-free volume of each particle's silicon, (particles,), nm3.
    most
        Largest lithium per silicon.

    Returns
    -------
    Floats
        Lithium per silicon, (particles,).

    Examples
    --------
    >>> share_charge(3.0, np.array([1.0, 3.0]), np.ones(2))  # the second would take 4.5
    array([1.6, 4.4])
    """
    full = np.zeros(appetite.size, bool)
    while not full.all():
        left = mean_lithium * silicon_nm3.sum() - most * silicon_nm3[full].sum()
        lithium = np.where(full, most, appetite * (left / (appetite * silicon_nm3)[~full].sum()))
        if not (lithium > most).any():
            return lithium
        full |= lithium > most
    return np.full(appetite.size, most)
