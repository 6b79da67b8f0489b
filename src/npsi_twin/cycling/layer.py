"""The layer's room: what happens to everything in a layer that grows in height.

Mechanisms that push the layer up call `stretched` (envelopes may grow with it), `raised` (open space between envelopes)
or `dilated` (open space within envelopes too). Foil, width and length never change: all growth goes into the height.
Particles move up in proportion, members of an agglomerate together, and are packed again; carbon and binder keep their
volume; what opens between the particles without being filled is macropores, and carbon and binder hang in webs between
them. Bodies that stand on the foil stay there, bodies that reach the top keep reaching it, and those between keep their
share of the free height.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import brentq
from scipy.spatial import cKDTree

from npsi_twin.electrode.bicontinuous import clumped_networks
from npsi_twin.electrode.binder import CarbonBinder, Macropores, no_macropores, solve_solids
from npsi_twin.electrode.polyhedra import Floats, Integers
from npsi_twin.electrode.powder import bounded_particles
from npsi_twin.electrode.repacking import repack
from npsi_twin.electrode.scene import Electrode
from npsi_twin.electrode.surfaces import HeightMap
from npsi_twin.electrode.voxelise import ROOM_CELL_NM, room_between_particles
from npsi_twin.electrode.waves import WaveField, smooth_waves
from npsi_twin.errors import IncompatibleError, ParameterError
from npsi_twin.seeds import Seeds

#: Particles whose middles are closer than this many times the sum of their radii are neighbours.
_NEAR = 1.1
#: Waves of the macropores' field; share of the layer that a body as tall as the layer has to move in.
_WAVES, _LEAST_FREE = 64, 0.1


@dataclass(frozen=True)
class Fill:
    """What fills a specimen's layer.

    Attributes
    ----------
    envelope_share
        Envelopes over the layer, by volume.
    solids_per_silicon
        Carbon and binder over lithium-free silicon, by volume.
    binder_room_per_silicon
        Their domain, macropores left out, over lithium-free silicon, by volume.
    silicon_share
        Lithium-free silicon over the layer, by volume.
    """

    envelope_share: float
    solids_per_silicon: float
    binder_room_per_silicon: float
    silicon_share: float


def fill_of(electrode: Electrode) -> Fill:
    """Measure what fills the specimen's layer, before something changes it.

    Raises
    ------
    IncompatibleError
        If islands stand off the foil, or particles have cores: both belong to places that would move.
    """
    if electrode.islands is not None or np.isfinite(electrode.particles.core_distances_nm).any():
        raise IncompatibleError(
            "layer: the layer is to grow after islands have come off the foil or cores have formed, and both belong to "
            "places that would move. Let delamination and blocked diffusion act after all that moves particles."
        )
    if electrode.states.clump_solid_fraction.any():
        raise IncompatibleError(
            "layer: the layer is to grow after macropores have drawn broken particles out, and drawn-out bodies cannot "
            "be packed again. Let macropores act after all that packs particles (swelling, agglomeration, SEI growth), "
            "once."
        )
    binder = electrode.carbon_binder
    domain = room_between_particles(_with_solid_room(electrode), even=True)
    room = domain
    if binder.macropores.field.phases_rad.size:
        room = room_between_particles(_with_solid_room(electrode, binder.macropores), even=True)
    absent = replace(electrode.states, present=np.zeros(electrode.particles.count, bool))
    layer_nm3 = room_between_particles(_with_solid_room(replace(electrode, states=absent)), even=True).volume_nm3.sum()
    solids_nm3 = (binder.share(room.modulation) * room.volume_nm3).sum()
    return Fill(
        envelope_share=1 - float(domain.volume_nm3.sum() / layer_nm3),
        solids_per_silicon=float(solids_nm3) / domain.silicon_nm3,
        binder_room_per_silicon=float(room.volume_nm3.sum()) / domain.silicon_nm3,
        silicon_share=domain.silicon_nm3 / float(layer_nm3),
    )


def stretched(electrode: Electrode, stretch: float, envelope_nm3: Floats, clearance_nm: float) -> Electrode:
    """Stretch layer, places and fields along the height by a factor, and give the envelopes new volumes."""
    particles = electrode.particles
    old, foil, centre_nm = electrode.layer, electrode.foil, particles.centre_nm.copy()
    layer = HeightMap(stretch * old.mean_nm, stretch * old.sd_nm, old.field, stretch * old.floor_nm)
    centre_nm[:, 1] += _lifts(electrode, stretch, envelope_nm3)
    binder, macropores = electrode.carbon_binder, electrode.carbon_binder.macropores
    return replace(
        electrode,
        layer=layer,
        particles=repack(
            particles, centre_nm, envelope_nm3, foil, layer, clearance_nm, electrode.states.agglomerate
        ),
        carbon_binder=replace(
            binder,
            field=_taller(binder.field, stretch, foil.mean_nm),
            macropores=replace(macropores, field=_taller(macropores.field, stretch, foil.mean_nm)),
        ),
    )  # fmt: skip


def raised(
    electrode: Electrode,
    rise_nm: float,
    filled_nm3_per_nm3: float,
    pore_um: float,
    clearance_nm: float,
    *,
    seeds: Seeds,
) -> Electrode:
    """Push the layer up by open space between its particles.

    Parameters
    ----------
    electrode
        The scene.
    rise_nm
        Growth of the layer's mean height, nm.
    filled_nm3_per_nm3
        Volume of the new room that is domain of solids, over lithium-free silicon; the rest is macropores.
    pore_um
        Distance over which the macropores' field forgets itself (1/e), um, where there were none before.
    clearance_nm
        Smallest gap between two particles, nm.
    seeds
        Root of the stream ``"macropores"``.
    """
    electrode, before = with_macropores(electrode, pore_um, seeds=seeds), fill_of(electrode)
    stretch = 1 + rise_nm / electrode.layer.mean_nm
    grown = stretched(electrode, stretch, electrode.particles.envelope_nm3, clearance_nm)
    return filled(grown, replace(before, binder_room_per_silicon=before.binder_room_per_silicon + filled_nm3_per_nm3))


def dilated(electrode: Electrode, factor: float, clump_um: float) -> Electrode:
    """Pull layer and envelopes alike apart along the height, as fragments ride on a binder that is drawn out.

    Silicon, carbon, binder and SEI keep their volumes: envelopes hold their silicon in clumps as dense as the bodies
    were, macropores between them, and the domain's macropores widen. An affine map keeps convex bodies apart, so that
    nothing is packed again; nothing can pack them later either.

    Parameters
    ----------
    electrode
        The scene; its domain has a field of macropores.
    factor
        New height of everything over its height now, above 1.
    clump_um
        Distance from clump to clump, um.
    """
    before, particles, pores, states = fill_of(electrode), electrode.particles, electrode.pores, electrode.states
    old, foil, binder = electrode.layer, electrode.foil, electrode.carbon_binder
    normals = particles.facet_normals / (1.0, factor, 1.0)
    length = np.sqrt((normals**2).sum(axis=1))
    along, height, across = particles.centre_nm.T
    ground = foil.at(along, across)
    # A body that hangs into a valley beside its middle is not pulled through the foil.
    hanging = np.maximum(ground - height - particles.lower_nm[:, 1], 0.0)
    centre_nm = np.stack([along, ground + factor * (height + hanging - ground), across], axis=1)
    taller = bounded_particles(
        centre_nm, particles.facet_start, normals / length[:, None], particles.facet_distances_nm / length
    )
    taller = replace(
        taller,
        lithium_per_silicon=particles.lithium_per_silicon,
        silicon_volume_ratio=particles.silicon_volume_ratio,
    )
    solid = pores.solid_fraction
    clumps = clumped_networks(pores, taller, 1e3 * clump_um, 1 / factor)
    layer = HeightMap(factor * old.mean_nm, factor * old.sd_nm, old.field, factor * old.floor_nm)
    macropores = replace(binder.macropores, field=_taller(binder.macropores.field, factor, foil.mean_nm))
    states = replace(
        states,
        sei_pore_share=states.sei_pore_share * (1 - solid) / (factor - solid),
        loose_solid_fraction=np.where(states.loose_solid_fraction > 0, states.loose_solid_fraction, solid),
        welded_solid_fraction=np.where(states.welded_solid_fraction > 0, states.welded_solid_fraction, solid),
        clump_solid_fraction=solid,
    )
    grown = replace(
        electrode,
        layer=layer,
        particles=taller,
        pores=clumps,
        states=states,
        carbon_binder=replace(binder, field=_taller(binder.field, factor, foil.mean_nm), macropores=macropores),
    )
    return filled(grown, before)


def with_macropores(electrode: Electrode, pore_um: float, *, seeds: Seeds) -> Electrode:
    """Give the layer a field of macropores, all closed; one that has a field keeps it."""
    binder = electrode.carbon_binder
    if binder.macropores.field.phases_rad.size:
        return electrode
    field = smooth_waves(seeds.stream("macropores"), _WAVES, 1e3 * pore_um)
    # The field's correlation exp(-(r/l)^2) has a mean square gradient of 6 / l^2.
    closed = Macropores(field, np.inf, math.sqrt(6) / (1e3 * pore_um))
    return replace(electrode, carbon_binder=replace(binder, macropores=closed))


def filled(electrode: Electrode, before: Fill) -> Electrode:
    """Spread carbon and binder over the room there is now; where macropores are, their domain keeps its volume."""
    binder, macropores = electrode.carbon_binder, electrode.carbon_binder.macropores
    room = room_between_particles(_with_solid_room(electrode, replace(macropores, level=np.inf)), even=True)
    room_nm3 = room.volume_nm3
    if macropores.field.phases_rad.size:
        step = macropores.slope_per_nm * ROOM_CELL_NM
        wanted_nm3 = min(before.binder_room_per_silicon * room.silicon_nm3, float(room_nm3.sum()))

        def share(level: float) -> Floats:
            return np.clip(0.5 + (level - np.abs(room.macropore_field)) / step, 0, 1)

        level = float(brentq(lambda at: float((share(at) * room_nm3).sum()) - wanted_nm3, -step, 30 + step))
        room_nm3 = room_nm3 * share(level)
        binder = replace(binder, macropores=replace(macropores, level=level))
    solids_nm3 = before.solids_per_silicon * room.silicon_nm3
    solved = solve_solids(binder, room.modulation, room_nm3, solids_nm3)
    if solved is None:
        raise ParameterError(
            f"layer: carbon and polyimide would fill {solids_nm3 / max(room_nm3.sum(), 1.0):.3f} of the room between "
            f"the particles; allowed {binder.least_fraction:g} to {binder.most_fraction:g} (slurry.least_fraction, "
            "most_fraction), since their volume does not change. Change the limits, irreversibility or the "
            "powder.envelope_fraction."
        )
    return replace(electrode, carbon_binder=solved)


def body_centres(electrode: Electrode) -> Floats:
    """Return the middle of each particle's agglomerate, weighted by envelopes, (particles, 3), nm."""
    ids, particles = electrode.states.agglomerate, electrode.particles
    weight = np.bincount(ids, particles.envelope_nm3, ids.size)
    sums = [np.bincount(ids, particles.envelope_nm3 * axis, ids.size) for axis in particles.centre_nm.T]
    return np.stack([total[ids] / weight[ids] for total in sums], axis=1)


def neighbours(electrode: Electrode) -> Integers:
    """Return the pairs (pairs, 2) of particles that stand next to one another, in the order of their numbers."""
    places, radii = electrode.particles.centre_nm, electrode.particles.diameter_nm / 2
    pairs = cKDTree(places).query_pairs(2 * _NEAR * radii.max(initial=0.0), output_type="ndarray").astype(np.int64)
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    apart = np.sqrt(((places[pairs[:, 0]] - places[pairs[:, 1]]) ** 2).sum(axis=1))
    return np.asarray(pairs[apart < _NEAR * (radii[pairs[:, 0]] + radii[pairs[:, 1]])])


def _lifts(electrode: Electrode, stretch: float, envelope_nm3: Floats) -> Floats:
    """Return how far each particle moves up, (particles,), nm; members of an agglomerate move together."""
    particles, ids = electrode.particles, electrode.states.agglomerate
    grown = np.cbrt(envelope_nm3 / particles.envelope_nm3)
    along, _, across = body_centres(electrode).T
    ground, height = electrode.foil.at(along, across), electrode.layer.at(along, across)
    bottom, top = np.full(ids.size, np.inf), np.full(ids.size, -np.inf)
    np.minimum.at(bottom, ids, particles.centre_nm[:, 1] + particles.lower_nm[:, 1])
    np.maximum.at(top, ids, particles.centre_nm[:, 1] + particles.upper_nm[:, 1])
    clear, tall = np.maximum(bottom[ids] - ground, 0.0), (top - bottom)[ids]
    # The free height grows with the layer, less what the body itself has grown by; it grows about its middle.
    free = np.maximum(height - tall, _LEAST_FREE * height)
    free_now = np.maximum(stretch * height - grown * tall, _LEAST_FREE * height)
    share = np.minimum(clear / free, 1.0)
    # A body as tall as the layer, wide on a rough foil, rises with it as the others do.
    lift = share * (free_now - free) + (grown - 1) * tall / 2
    # Nothing overtakes what lies over it: neighbours then never come closer, and none is pushed through the top.
    lower, upper = _ordered(neighbours(electrode), particles.centre_nm[:, 1])
    for _ in range(ids.size):
        before = lift.copy()
        np.minimum.at(lift, lower, before[upper])
        least = np.full(ids.size, np.inf)
        np.minimum.at(least, ids, lift)
        lift = least[ids]
        if np.array_equal(lift, before):
            break
    return np.asarray(lift)


def _ordered(pairs: Integers, height_nm: Floats) -> tuple[Integers, Integers]:
    """Return the lower and the upper particle of each pair."""
    first, second = pairs.T
    swap = height_nm[first] > height_nm[second]
    return np.where(swap, second, first), np.where(swap, first, second)


def _with_solid_room(electrode: Electrode, macropores: Macropores | None = None) -> Electrode:
    """Fill the domain solid, so that its share is the room; without macropores unless they are given."""
    binder = electrode.carbon_binder
    solid = CarbonBinder(binder.field, 0.0, 1.0, 0.0, 1.0, binder.carbon_share, macropores or no_macropores())
    return replace(electrode, carbon_binder=solid)


def _taller(field: WaveField, stretch: float, ground_nm: float) -> WaveField:
    """Stretch a field along the height, about the foil."""
    waves = field.wavevectors_per_nm / (1.0, stretch, 1.0)
    return WaveField(waves, field.phases_rad + (field.wavevectors_per_nm - waves)[:, 1] * ground_nm)
