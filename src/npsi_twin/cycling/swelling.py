"""Swelling: lithium makes silicon grow, into its own pores and into the layer's height.

`Electrode` with lithium in its silicon, `Condition` -> `Electrode`. The model, with J the volume ratio of a particle's
silicon (`npsi_twin.materials.alloy`), phi its pristine solid fraction and a the accommodation:

    envelope    J_env = (1 - a) J + a max(1, phi J)           a = 0: pores grow too;  a = 1: pores give way first
    solid       phi J / J_env                                  1: the pores are closed
    thickness   T / T0 = 1 + f (<J_env> - 1)                   f: envelopes' share of the specimen's layer

Every pore network stays the same random field in the coordinates of its growing particle, and its level moves until
the integrated silicon is J times what it was. The layer is thin and held by the foil, so all growth goes into its
height: the layer's top and the particles' places move up by T / T0, envelopes grow about their places and flatten
against one another (`npsi_twin.electrode.repacking`), carbon and binder keep their volume in the room that is left.
What a larger first lithiation opened stays open in part: T = T_first - (1 - irreversibility) (T_first - T_now), at the
layer, not in the particles. One accommodation serves thickness and contact alike.

It holds up to a few lithiations. Envelopes grow alike in all directions and the layer in height alone, so that tall
particles lift off the foil and squeeze carbon and binder from their sides to above and below them. Macropores,
agglomeration, fracture, loss of contact and SEI are not in it.

References
----------
M. N. Obrovac et al., J. Electrochem. Soc. 154 (2007) A849, doi:10.1149/1.2752985 (volume of the alloy);
C. Zhao et al., Nano Energy 52 (2018) 381-390 (thickness against capacity).
"""

from dataclasses import dataclass, replace

import numpy as np

from npsi_twin.cycling.protocol import Condition
from npsi_twin.electrode.bicontinuous import solid_fractions, swollen_pore_networks
from npsi_twin.electrode.binder import CarbonBinder, solve_solids
from npsi_twin.electrode.polyhedra import Floats
from npsi_twin.electrode.repacking import repack
from npsi_twin.electrode.scene import Electrode
from npsi_twin.electrode.surfaces import HeightMap
from npsi_twin.electrode.voxelise import room_between_particles
from npsi_twin.electrode.waves import WaveField
from npsi_twin.errors import IncompatibleError, ParameterError
from npsi_twin.materials import alloy
from npsi_twin.recipes import Recipe, parameter
from npsi_twin.seeds import Seeds


class Swelling(Recipe):
    """How silicon's growth is shared between its pores, the particles and the layer."""

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
    clearance_nm: float = parameter(
        20.0, "smallest gap between swollen particles, filled by carbon and binder", unit="nm",
        source="assumed: half of the pristine clearance", ge=0, le=200,
    )  # fmt: skip

    @property
    def name(self) -> str:
        """Name of the mechanism."""
        return "swelling"

    def envelope_ratio(self, silicon_ratio: Floats, solid_fraction: Floats) -> Floats:
        """Return the volume ratio of envelopes (particles,) from that of silicon and the pristine solid fraction.

        Examples
        --------
        >>> Swelling(accommodation=1.0).envelope_ratio(np.array([1.773, 2.547]), np.array([0.396, 0.396])).round(3)
        array([1.   , 1.009])
        """
        filled = np.maximum(1.0, solid_fraction * silicon_ratio)
        return np.asarray((1 - self.accommodation) * silicon_ratio + self.accommodation * filled)

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
        particles = electrode.particles
        _check(electrode)
        lithium = particles.lithium_per_silicon
        if not lithium.any():
            return electrode
        ratio, solid = _volume_ratios(lithium), solid_fractions(electrode.pores, particles)
        envelope = self.envelope_ratio(ratio, solid)
        memory = max(1.0, condition.first_lithiation_mah_per_g / condition.capacity_mah_per_g)
        most = self.envelope_ratio(
            _volume_ratios(np.minimum(memory * lithium, alloy.LARGEST_LITHIUM_PER_SILICON)), solid
        )
        before = _fill(electrode)
        now, first = (1 + before.envelope_share * (_mean(r, particles.envelope_nm3) - 1) for r in (envelope, most))
        stretch = first - (1 - self.irreversibility) * (first - now)
        grown = _stretched(electrode, stretch, envelope * particles.envelope_nm3, self.clearance_nm)
        grown = replace(grown, particles=replace(grown.particles, silicon_volume_ratio=ratio))
        porosity = np.maximum(1 - solid * ratio / envelope, 0.0)
        pores = swollen_pore_networks(electrode.pores, grown.particles, np.cbrt(envelope), porosity)
        return _with_binder(replace(grown, pores=pores), before)


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


def _volume_ratios(lithium: Floats) -> Floats:
    return np.array([alloy.volume_ratio(float(x)) for x in lithium])


def _mean(values: Floats, weights: Floats) -> float:
    return float((values * weights).sum() / weights.sum())


@dataclass(frozen=True)
class _Fill:
    """What fills a specimen's layer: share of envelopes, and carbon-binder over lithium-free silicon by volume."""

    envelope_share: float
    solids_per_silicon: float


def _fill(electrode: Electrode) -> _Fill:
    modulation, room_nm3, silicon_nm3 = room_between_particles(_with_solid_room(electrode))
    # Without its particles, carried far beyond the end of the specimen, the room is the whole layer.
    absent = replace(electrode.particles, centre_nm=electrode.particles.centre_nm + 1e12)
    _, layer_nm3, _ = room_between_particles(_with_solid_room(replace(electrode, particles=absent)))
    solids_nm3 = float((electrode.carbon_binder.share(modulation) * room_nm3).sum())
    return _Fill(1 - float(room_nm3.sum() / layer_nm3.sum()), solids_nm3 / silicon_nm3)


def _with_solid_room(electrode: Electrode) -> Electrode:
    binder = electrode.carbon_binder
    return replace(electrode, carbon_binder=CarbonBinder(binder.field, 0.0, 1.0, 0.0, 1.0, binder.carbon_share))


def _stretched(electrode: Electrode, stretch: float, envelope_nm3: Floats, clearance_nm: float) -> Electrode:
    """Stretch layer, places and the carbon-binder's field along the height, and let the envelopes grow."""
    old, foil, centre_nm = electrode.layer, electrode.foil, electrode.particles.centre_nm.copy()
    layer = HeightMap(stretch * old.mean_nm, stretch * old.sd_nm, old.field, stretch * old.floor_nm)
    ground = foil.at(centre_nm[:, 0], centre_nm[:, 2])
    centre_nm[:, 1] = ground + stretch * (centre_nm[:, 1] - ground)
    binder = electrode.carbon_binder
    waves = binder.field.wavevectors_per_nm / (1.0, stretch, 1.0)
    shift = (binder.field.wavevectors_per_nm - waves)[:, 1] * foil.mean_nm
    return replace(
        electrode,
        layer=layer,
        particles=repack(electrode.particles, centre_nm, envelope_nm3, foil, layer, clearance_nm),
        carbon_binder=replace(binder, field=WaveField(waves, binder.field.phases_rad + shift)),
    )


def _with_binder(electrode: Electrode, before: _Fill) -> Electrode:
    """Spread the carbon and binder that belong to the specimen's silicon over the room there is now."""
    modulation, room_nm3, silicon_nm3 = room_between_particles(_with_solid_room(electrode))
    solids_nm3 = before.solids_per_silicon * silicon_nm3
    solved = solve_solids(electrode.carbon_binder, modulation, room_nm3, solids_nm3)
    if solved is None:
        raise ParameterError(
            f"swelling: carbon and polyimide would fill {solids_nm3 / max(room_nm3.sum(), 1.0):.3f} of the room "
            f"between swollen particles; allowed {electrode.carbon_binder.least_fraction:g} to "
            f"{electrode.carbon_binder.most_fraction:g} (slurry.least_fraction, most_fraction), since their volume "
            "does not change. Change the limits, irreversibility or the powder.envelope_fraction."
        )
    return replace(electrode, carbon_binder=solved)
