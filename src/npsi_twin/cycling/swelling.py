"""Swelling: lithium makes silicon grow, into its own pores and into the layer's height.

`Electrode` with lithium in its silicon, `Condition` -> `Electrode`. The model, with J the volume ratio of a particle's
silicon (`npsi_twin.materials.alloy`), phi its pristine solid fraction and a the accommodation:

    envelope    J_env = (1 - a) J + a max(1, phi J)           a = 0: pores grow too;  a = 1: pores give way first
    solid       phi J / J_env                                  1: the pores are closed
    thickness   T / T0 = 1 + f (<J_env> - 1)                   f: envelopes' share of the pristine layer
                       at least f <J_env> / f_max              f_max: the densest packing of the envelopes

Every pore network stays the same random field in the coordinates of its growing particle, and its level moves until
the integrated silicon is J times what it was. The layer is thin and held by the foil, so all growth goes into its
height: the layer's top and the particles' places move up by T / T0, envelopes grow about their places and flatten
against one another (`npsi_twin.electrode.repacking`), carbon and binder keep their volume in the room that is left.
What a larger first lithiation opened stays open in part: T = T_first - (1 - irreversibility) (T_first - T_now), at the
layer, not in the particles. One accommodation serves thickness and contact alike: the envelopes' share of the layer at
the end of every charge, f <J_env> / (T / T0), is what `agglomeration` reads from the history.

Envelopes grow alike in all directions and the layer in height alone, so that tall particles lift off the foil and
squeeze carbon and binder from their sides to above and below them. What else pushes the layer up is the business of
`agglomeration`, `macropores` and `sei`.

References
----------
M. N. Obrovac et al., J. Electrochem. Soc. 154 (2007) A849, doi:10.1149/1.2752985 (volume of the alloy);
C. Zhao et al., Nano Energy 52 (2018) 381-390 (thickness against capacity).
"""

from dataclasses import replace
from typing import Literal

import numpy as np

from npsi_twin.cycling.capacity import begun
from npsi_twin.cycling.layer import fill_of, filled, stretched
from npsi_twin.cycling.protocol import Condition
from npsi_twin.electrode.bicontinuous import swollen_pore_networks
from npsi_twin.electrode.polyhedra import Floats
from npsi_twin.electrode.scene import Electrode
from npsi_twin.errors import IncompatibleError
from npsi_twin.materials import alloy
from npsi_twin.recipes import Recipe, parameter
from npsi_twin.seeds import Seeds


class Swelling(Recipe):
    """How silicon's growth is shared between its pores, the particles and the layer."""

    mechanism: Literal["swelling"] = "swelling"
    accommodation: float = parameter(
        0.0,
        "share of the silicon's growth that its own pores take up before the particle grows: 0 none, 1 all they can",
        source="inferred: the layer of Zhao 2018, section 3.2, grows as if they took up none",
        ge=0,
        le=1,
    )
    irreversibility: float = parameter(
        0.45,
        "share of the thickness gained in a larger first lithiation, and not needed now, that stays",
        source="inferred: 0.38 to 0.55 in dilatometry of silicon composites (Tranchot et al., IMLB 2016)",
        ge=0,
        le=1,
    )
    densest_packing: float = parameter(
        0.78, "envelopes' largest share of the layer; beyond it the layer rises by open space",
        source="assumed: faceted grains jam between 0.7 and 0.8", ge=0.6, le=0.9,
    )  # fmt: skip
    clearance_nm: float = parameter(
        20.0, "smallest gap between swollen particles, filled by carbon and binder", unit="nm",
        source="assumed: half of the pristine clearance", ge=0, le=200,
    )  # fmt: skip

    @property
    def name(self) -> str:
        """Name of the mechanism."""
        return self.mechanism

    def envelope_ratio(self, silicon_ratio: Floats, solid_fraction: Floats) -> Floats:
        """Return the volume ratio of envelopes (particles,) from that of silicon and the pristine solid fraction.

        Examples
        --------
        >>> Swelling(accommodation=1.0).envelope_ratio(np.array([1.773, 2.547]), np.array([0.396, 0.396])).round(3)
        array([1.   , 1.009])
        """
        least = np.maximum(1.0, solid_fraction * silicon_ratio)
        return np.asarray((1 - self.accommodation) * silicon_ratio + self.accommodation * least)

    def act(self, electrode: Electrode, condition: Condition, *, seeds: Seeds) -> Electrode:
        """Return the swollen scene; the input stays untouched.

        Parameters
        ----------
        electrode
            A scene with lithium in its silicon that has not swollen yet.
        condition
            What the electrode went through; the ratio of its first lithiation to its capacity sets the memory.
        seeds
            Not drawn from.

        Raises
        ------
        IncompatibleError
            If the silicon has swollen before, or bismuth lies in the pores.
        ParameterError
            If carbon and binder find no room between the swollen particles.
        NotConvergedError
            If the swollen particles find no room in the layer.

        Examples
        --------
        >>> from npsi_twin.cycling.lithiation import Lithiation
        >>> from npsi_twin.cycling.protocol import condition
        >>> from npsi_twin.electrode.build import ElectrodeRecipe, build_electrode
        >>> from npsi_twin.electrode.specimen import SpecimenRecipe
        >>> small = ElectrodeRecipe(specimen=SpecimenRecipe(width_um=4.0, length_um=3.0))
        >>> scene, first = build_electrode(small, seeds=Seeds(1)), condition("2000/1st-lithiation")
        >>> charged = Lithiation(particle_spread=0.0, depth_gradient=0.0).act(scene, first, seeds=Seeds(1))
        >>> swollen = Swelling().act(charged, first, seeds=Seeds(1))
        >>> (swollen.particles.envelope_nm3 / scene.particles.envelope_nm3).round(3)[:2]
        array([2.547, 2.547])
        """
        _check(electrode)
        if not electrode.states.most_lithium_per_silicon.any():
            return electrode
        electrode, history = begun(electrode, condition)
        particles, solid = electrode.particles, electrode.pores.solid_fraction
        ratio = alloy.volume_ratios(particles.lithium_per_silicon)
        envelope = self.envelope_ratio(ratio, solid)
        most = self.envelope_ratio(alloy.volume_ratios(electrode.states.most_lithium_per_silicon), solid)
        before = fill_of(electrode)

        def thickness(growth: Floats | float) -> float:
            filled = electrode.envelope_fraction * float(np.average(growth, weights=particles.envelope_nm3))
            return max(1 + filled - electrode.envelope_fraction, filled / self.densest_packing)

        first = thickness(most)
        stretch = self._remembered(first, thickness(envelope))
        grown = stretched(electrode, stretch, envelope * particles.envelope_nm3, self.clearance_nm)
        grown = replace(grown, particles=replace(grown.particles, silicon_volume_ratio=ratio))
        porosity = np.maximum(1 - solid * ratio / envelope, 0.0)
        pores = swollen_pore_networks(electrode.pores, grown.particles, np.cbrt(envelope), porosity)

        # What every cycle sees at the end of its charge, were all silicon active and charged alike.
        each = [condition.first_lithiation_mah_per_g, history.cut_off_mah_per_g]
        nominal = [self.envelope_ratio(_even(min(q, history.full_capacity_mah_per_g), solid), solid) for q in each]
        opened, charged = (thickness(growth) for growth in nominal)
        is_first = history.cycles == 1
        heights = np.where(is_first, opened, self._remembered(opened, charged))
        envelopes = np.where(is_first, *(np.average(growth, weights=particles.envelope_nm3) for growth in nominal))
        history = replace(
            history,
            thickness_ratio=history.thickness_ratio * heights,
            filled_ratio=history.filled_ratio * heights,
            packing_fraction=electrode.envelope_fraction * envelopes / heights,
        )
        return filled(replace(grown, pores=pores, history=history), before)

    def _remembered(self, first: float, now: float) -> float:
        """Return the thickness ratio after a first lithiation that has thickened the layer to ``first``."""
        return max(now, first - (1 - self.irreversibility) * (first - now))


def _check(electrode: Electrode) -> None:
    if (electrode.particles.silicon_volume_ratio != 1).any():
        raise IncompatibleError(
            f"swelling: the silicon has already swollen up to {electrode.particles.silicon_volume_ratio.max():.3f} "
            "times; the model starts from pristine envelopes. Let it act once."
        )
    if len(electrode.bismuth.places_nm):
        raise IncompatibleError(
            f"swelling: {len(electrode.bismuth.places_nm)} bismuth beads lie in the pores; how they make way for "
            "growing ligaments is not part of this version. Build with bismuth.envelope_fraction = 0."
        )


def _even(capacity_mah_per_g: float, like: Floats) -> Floats:
    """Return the silicon's volume ratio at a capacity, the same for all particles, (particles,)."""
    return alloy.volume_ratios(np.full(like.size, alloy.lithium_per_silicon(capacity_mah_per_g)))
