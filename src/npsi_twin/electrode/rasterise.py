"""Compiled kernels of `voxelise`: particles, then foil, carbon-binder domain and labels, in chunks of rows.

Chunks of rows run in parallel; inside a chunk particles are added in the order of their numbers. No value depends on
which chunk computes it: every voxel's field is summed from its own coordinates, in one order.
"""

from typing import NamedTuple

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from npsi_twin.electrode.particle_lattice import core_share, fill_particle_lattice, solid_share, step_of
from npsi_twin.electrode.waves import Floats, Singles, across_tables, fill_row_weights, sum_waves
from npsi_twin.volumes import Phase

#: Rows that one thread computes at a time: enough to hide the rim of one cell on both sides.
_ROWS_PER_CHUNK = 16

_VOID, _SILICON, _CARBON_BINDER = int(Phase.VOID), int(Phase.SILICON), int(Phase.CARBON_BINDER)
_CURRENT_COLLECTOR, _UNRESOLVED, _SEI = int(Phase.CURRENT_COLLECTOR), int(Phase.UNRESOLVED_SILICON), int(Phase.SEI)


class SceneArrays(NamedTuple):
    """The scene as the kernels read it.

    See `Particles`, `PoreNetworks`, `ParticleStates`, `BismuthBeads` and `CarbonBinder`; ratios are volumes of silicon
    as drawn over lithium-free volumes, of shells and cores.
    """

    centre: Floats
    lower: Floats
    upper: Floats
    facet_normals: Floats
    facet_distances: Floats
    core_distances: Floats
    facet_start: NDArray[np.int64]
    ratio: Floats
    core_ratio: Floats
    present: NDArray[np.bool_]
    fragmented: Floats
    clump: Floats
    sei_pore_share: Floats
    wavevectors: Floats
    phases: Floats
    levels: Floats
    solid_fraction: Floats
    beads: Floats
    bead_start: NDArray[np.int64]
    bead_radius: float
    binder_wavevectors: Floats
    binder_phases: Floats
    binder_level: float
    binder_contrast: float
    binder_least: float
    binder_most: float
    sei_room_share: float
    macropore_wavevectors: Floats
    macropore_phases: Floats
    macropore_level: float
    macropore_slope_per_nm: float


class GridAxes(NamedTuple):
    """Voxel centres of some rows of a grid, the surfaces over them and the specimen's outline."""

    first_row: int
    rows: int
    along: Floats
    height: Floats
    across: Floats
    voxel: float
    foil_top: Floats
    layer_bottom: Floats
    layer_top: Floats
    torn: NDArray[np.bool_]
    foil_bottom: float
    inside: Floats


class Shares(NamedTuple):
    """Output arrays (z, y, x), zero on entry; ``excess`` is the silicon's volume ratio less one."""

    phase: NDArray[np.uint8]
    void: NDArray[np.float32]
    silicon: NDArray[np.float32]
    excess: NDArray[np.float32]
    carbon_binder: NDArray[np.float32]
    sei: NDArray[np.float32]
    current_collector: NDArray[np.float32]
    bismuth: NDArray[np.float32]
    particle_id: NDArray[np.int32]


@njit(cache=True, parallel=True)
def rasterise(scene: SceneArrays, axes: GridAxes, sub: int, unresolved: NDArray[np.bool_], out: Shares) -> None:
    """Fill ``out`` for all rows of ``axes``, each voxel cut into ``sub`` cubed for the pore networks.

    ``unresolved`` (particles,) says whose pore network is below the voxels.
    """
    rows = axes.along.size
    binder = across_tables(scene.binder_wavevectors, axes.across)
    macropores = across_tables(scene.macropore_wavevectors, axes.across)
    for chunk in prange((rows + _ROWS_PER_CHUNK - 1) // _ROWS_PER_CHUNK):
        first = chunk * _ROWS_PER_CHUNK
        last = min(first + _ROWS_PER_CHUNK, rows)
        # Share of envelopes so far, and the largest share of one particle.
        taken = np.zeros((last - first, axes.height.size, axes.across.size), np.float32)
        largest = np.zeros_like(taken)
        for particle in range(scene.levels.size):
            if scene.present[particle]:
                _add_particle(scene, axes, sub, particle, first, last, taken, largest, out)
        for z in range(first, last):
            _compose_slice(scene, axes, unresolved, z, taken[z - first], binder, macropores, out)


@njit(cache=True)
def _overlap(centres: Floats, low: float, high: float, half: float) -> tuple[int, int]:
    """Return the index range of voxels (ascending or descending centres) that reach into [low, high]."""
    start = 0
    while start < centres.size and not (low - half < centres[start] < high + half):
        start += 1
    stop = start
    while stop < centres.size and low - half < centres[stop] < high + half:
        stop += 1
    return start, stop


@njit(cache=True)
def _sub_centres(start: int, stop: int, count: int, sign: float, origin: float, voxel: float, sub: int) -> Floats:
    """Return the centres of the sub-voxels of voxels start to stop, from ``origin``, with a rim of one on each side.

    A centre depends on its index in the whole grid alone, so that the rim of one chunk has the bits of the next.
    """
    middle = (count * sub - 1) / 2
    out = np.empty((stop - start) * sub + 2)
    for i in range(out.size):
        out[i] = sign * ((start * sub - 1 + i - middle) * (voxel / sub)) - origin
    return out


@njit(cache=True)
def _add_particle(
    scene: SceneArrays,
    axes: GridAxes,
    sub: int,
    particle: int,
    first: int,
    last: int,
    taken: Singles,
    largest: Singles,
    out: Shares,
) -> None:
    """Add one particle's envelope, silicon and bismuth to a chunk of rows."""
    centre, lower, upper = scene.centre[particle], scene.lower[particle], scene.upper[particle]
    half = axes.voxel / 2
    if not centre[0] + lower[0] - half < axes.along[last - 1] or not axes.along[first] < centre[0] + upper[0] + half:
        return
    z0, z1 = _overlap(axes.along[first:last], centre[0] + lower[0], centre[0] + upper[0], half)
    y0, y1 = _overlap(axes.height, centre[1] + lower[1], centre[1] + upper[1], half)
    x0, x1 = _overlap(axes.across, centre[2] + lower[2], centre[2] + upper[2], half)
    if z0 >= z1 or y0 >= y1 or x0 >= x1:
        return
    cell = axes.voxel / sub
    row = axes.first_row + first
    along = _sub_centres(row + z0, row + z1, axes.rows, 1.0, centre[0], axes.voxel, sub)
    height = _sub_centres(y0, y1, axes.height.size, -1.0, centre[1], axes.voxel, sub)
    across = _sub_centres(x0, x1, axes.across.size, 1.0, centre[2], axes.voxel, sub)
    field = np.zeros((along.size, height.size, across.size), np.float32)
    envelope = np.zeros((along.size, height.size, across.size), np.float32)
    facets = slice(scene.facet_start[particle], scene.facet_start[particle + 1])
    normals, distances = scene.facet_normals[facets], scene.facet_distances[facets]
    clump = scene.clump[particle]
    # Silicon in fragments spread evenly needs no pore network.
    waves = 0 if scene.fragmented[particle] == 1 and clump == 0 else scene.phases.shape[1]
    fill_particle_lattice(
        scene.wavevectors[particle, :waves], scene.phases[particle, :waves],
        normals, distances, along, height, across, cell, field, envelope,
    )  # fmt: skip
    shape = (z1 - z0, y1 - y0, x1 - x0)
    whole, solid, bare = np.zeros(shape, np.float32), np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    core = scene.core_distances[facets]
    has_core = core.max() > -np.inf
    shell_weight, core_weight = 1 / scene.ratio[particle], 1 / scene.core_ratio[particle]
    broken, even, level = scene.fragmented[particle], scene.solid_fraction[particle], scene.levels[particle]
    weight = np.float32(1.0 / sub**3)
    for z in range(1, along.size - 1):
        for y in range(1, height.size - 1):
            for x in range(1, across.size - 1):
                inside = envelope[z, y, x]
                if inside > 0:
                    share = solid_share(field[z, y, x] - level, step_of(field, z, y, x))
                    share = clump * share if clump > 0 else share + broken * (even - share)
                    at = ((z - 1) // sub, (y - 1) // sub, (x - 1) // sub)
                    silicon = weight * inside * np.float32(share)
                    whole[at] += weight * inside
                    solid[at] += silicon
                    per_silicon = shell_weight
                    if has_core:
                        held = core_share(normals, core, along[z], height[y], across[x], cell)
                        per_silicon += held * (core_weight - shell_weight)
                    bare[at] += silicon * np.float32(per_silicon)
    beads = np.zeros(shape, np.float32)
    for bead in range(scene.bead_start[particle], scene.bead_start[particle + 1]):
        _add_bead(scene.beads[bead], scene.bead_radius, along, height, across, cell, sub, beads)
    filled = np.float32(scene.sei_pore_share[particle])
    # Attributes of a named tuple count references atomically, at more cost than all else in these loops.
    foil_top, foil_bottom, heights, voxel = axes.foil_top, axes.foil_bottom, axes.height, axes.voxel
    out_silicon, out_bare, out_bismuth, out_sei, owner = out.silicon, out.excess, out.bismuth, out.sei, out.particle_id
    for z in range(shape[0]):
        for y in range(shape[1]):
            for x in range(shape[2]):
                if whole[z, y, x] > 0:
                    at = (first + z0 + z, y0 + y, x0 + x)
                    foil = _foil_share(foil_top[at[0], at[2]], foil_bottom, heights[at[1]], voxel)
                    room = max(1.0 - foil - taken[z0 + z, at[1], at[2]], 0.0)
                    kept = np.float32(min(1.0, room / whole[z, y, x]))
                    taken[z0 + z, at[1], at[2]] += kept * whole[z, y, x]
                    out_silicon[at] += kept * solid[z, y, x]
                    # Lithium-free silicon for now; `_write_row` turns it into the ratio.
                    out_bare[at] += kept * bare[z, y, x]
                    bead = min(beads[z, y, x], whole[z, y, x] - solid[z, y, x])
                    out_bismuth[at] += kept * bead
                    out_sei[at] += kept * filled * (whole[z, y, x] - solid[z, y, x] - bead)
                    if kept * whole[z, y, x] > largest[z0 + z, at[1], at[2]]:
                        largest[z0 + z, at[1], at[2]] = kept * whole[z, y, x]
                        owner[at] = particle + 1


@njit(cache=True)
def _add_bead(
    place: Floats, radius: float, along: Floats, height: Floats, across: Floats, cell: float, sub: int, beads: Singles
) -> None:
    """Add the share of a sphere to voxels; the cell's mean distance takes the bias of curvature away."""
    reach = radius + 2 * cell
    weight = np.float32(1.0 / sub**3)
    for z in range(1, along.size - 1):
        if abs(along[z] - place[0]) > reach:
            continue
        for y in range(1, height.size - 1):
            if abs(height[y] - place[1]) > reach:
                continue
            for x in range(1, across.size - 1):
                dz, dy, dx = along[z] - place[0], height[y] - place[1], across[x] - place[2]
                distance = np.sqrt(dz * dz + dy * dy + dx * dx)
                if distance > reach:
                    continue
                mean_distance = distance + cell * cell / (12 * max(distance, cell / 2))
                share = min(max(0.5 + (radius - mean_distance) / cell, 0.0), 1.0)
                beads[(z - 1) // sub, (y - 1) // sub, (x - 1) // sub] += weight * np.float32(share)


@njit(cache=True)
def _ramp(value: float) -> float:
    return min(max(0.5 + value, 0.0), 1.0)


@njit(cache=True)
def _foil_share(foil_top: float, foil_bottom: float, height: float, voxel: float) -> float:
    """Return a voxel's share of foil."""
    return max(_ramp((foil_top - height) / voxel) - _ramp((foil_bottom - height) / voxel), 0.0)


@njit(cache=True)
def _room_share(layer_bottom: float, layer_top: float, height: float, voxel: float) -> float:
    """Return a voxel's share of the room between the layer's bottom and its top."""
    return _ramp((layer_top - height) / voxel) - _ramp((layer_bottom - height) / voxel)


@njit(cache=True)
def _compose_slice(
    scene: SceneArrays,
    axes: GridAxes,
    unresolved: NDArray[np.bool_],
    z: int,
    taken: Singles,
    binder: tuple[Singles, Singles],
    macropores: tuple[Singles, Singles],
    out: Shares,
) -> None:
    """Turn the shares of one slice into fractions and labels."""
    waves, width = scene.binder_phases.size, axes.across.size
    c, s = np.empty(waves, np.float32), np.empty(waves, np.float32)
    modulation, domain = np.zeros(width, np.float32), np.empty(width)
    foil_top, layer_top, layer_bottom, torn = axes.foil_top[z], axes.layer_top[z], axes.layer_bottom[z], axes.torn[z]
    for y in range(axes.height.size):
        height, inside = axes.height[y], axes.inside[y]
        reached = _fill_domain(inside, taken[y], foil_top, layer_bottom, layer_top, torn, height, axes.voxel, domain)
        if reached:
            _open_macropores(scene, axes, z, y, macropores, domain)
            fill_row_weights(scene.binder_wavevectors, scene.binder_phases, axes.along[z], height, c, s)
            _sum_where(domain, c, s, binder, modulation)
        solids = (scene.binder_level, scene.binder_contrast, scene.binder_least, scene.binder_most)
        _write_row(
            inside, taken[y], domain, modulation, foil_top, layer_top, axes.foil_bottom, height, axes.voxel, solids,
            scene.sei_room_share, unresolved, scene.clump, out.phase[z, y], out.void[z, y], out.silicon[z, y],
            out.excess[z, y], out.carbon_binder[z, y], out.sei[z, y], out.current_collector[z, y], out.bismuth[z, y],
            out.particle_id[z, y],
        )  # fmt: skip


@njit(cache=True)
def _fill_domain(
    inside: Singles,
    taken: Singles,
    foil_top: Floats,
    layer_bottom: Floats,
    layer_top: Floats,
    torn: NDArray[np.bool_],
    height: float,
    voxel: float,
    domain: Floats,
) -> bool:
    """Fill a row's shares of the room that particles leave in the layer; say whether the specimen has any of it."""
    found, half = False, voxel / 2
    for x in range(domain.size):
        domain[x] = 0.0
        if foil_top[x] - half < height < layer_top[x] + half:
            room = 0.0 if torn[x] else _room_share(layer_bottom[x], layer_top[x], height, voxel)
            domain[x] = max(room - taken[x], 0.0)
            found = found or (domain[x] > 0 and inside[x] > 0)
    return found


@njit(cache=True)
def _open_macropores(
    scene: SceneArrays, axes: GridAxes, z: int, y: int, tables: tuple[Singles, Singles], domain: Floats
) -> None:
    """Take the macropores' shares out of a row of the domain; a voxel's share is a ramp over a web's wall."""
    waves = scene.macropore_phases.size
    if waves == 0:
        return
    c, s, field = np.empty(waves, np.float32), np.empty(waves, np.float32), np.zeros(domain.size, np.float32)
    fill_row_weights(scene.macropore_wavevectors, scene.macropore_phases, axes.along[z], axes.height[y], c, s)
    _sum_where(domain, c, s, tables, field)
    step = scene.macropore_slope_per_nm * axes.voxel
    for x in range(domain.size):
        domain[x] *= _ramp((scene.macropore_level - abs(field[x])) / step)


@njit(cache=True)
def _sum_where(domain: Floats, c: Singles, s: Singles, tables: tuple[Singles, Singles], out: Singles) -> None:
    """Add up waves in the runs of a row where there is domain; macropores and particles leave few in a raised layer."""
    start = 0
    while start < domain.size:
        if domain[start] <= 0:
            start += 1
            continue
        stop = start + 1
        while stop < domain.size and domain[stop] > 0:
            stop += 1
        sum_waves(c, s, tables[0], tables[1], start, stop, out)
        start = stop


@njit(cache=True)
def _write_row(
    inside: Singles,
    taken: Singles,
    domain: Floats,
    modulation: Singles,
    foil_top: Floats,
    layer_top: Floats,
    foil_bottom: float,
    height: float,
    voxel: float,
    solids: tuple[float, float, float, float],
    sei_room_share: float,
    unresolved: NDArray[np.bool_],
    clump: Floats,
    phase: NDArray[np.uint8],
    void: Singles,
    silicon: Singles,
    excess: Singles,
    carbon_binder: Singles,
    sei: Singles,
    current_collector: Singles,
    bismuth: Singles,
    particle_id: NDArray[np.int32],
) -> None:
    """Write the fractions and the labels of one row of voxels."""
    level, contrast, least, most = solids
    for x in range(inside.size):
        if inside[x] == 0 or (taken[x] == 0 and height >= layer_top[x] + voxel / 2):
            # Nothing of the specimen.
            void[x] = 1.0
            if particle_id[x] > 0:
                silicon[x] = excess[x] = bismuth[x] = sei[x] = 0.0
                particle_id[x] = 0
            continue
        share = 0.0
        if domain[x] > 0:
            share = min(max(level * (1.0 + contrast * modulation[x]), least), most)
        foil = _foil_share(foil_top[x], foil_bottom, height, voxel)
        in_room, in_pores, plain, bare = domain[x] * (1.0 - share) * sei_room_share, sei[x], silicon[x], excess[x]
        excess[x] = plain / bare - np.float32(1.0) if bare > 0 else 0.0
        silicon[x] = inside[x] * plain
        bismuth[x] *= inside[x]
        current_collector[x] = inside[x] * foil
        carbon_binder[x] = inside[x] * domain[x] * share
        sei[x] = inside[x] * (in_pores + in_room)
        filled = np.float64(silicon[x]) + bismuth[x] + current_collector[x] + carbon_binder[x] + sei[x]
        void[x] = max(1.0 - filled, 0.0)
        owner = particle_id[x] - 1
        blurred, density = (unresolved[owner], clump[owner]) if owner >= 0 else (False, 0.0)
        phase[x], owned = _label(
            inside[x], foil, taken[x], domain[x], share, in_room, in_pores, plain, bismuth[x], blurred, density
        )
        if not owned:
            particle_id[x] = 0


@njit(cache=True)
def _label(
    inside: float,
    foil: float,
    envelope: float,
    domain: float,
    solids: float,
    sei: float,
    in_pores: float,
    silicon: float,
    bismuth: float,
    unresolved: bool,
    clump: float,
) -> tuple[int, bool]:
    """Return the label of a voxel, and whether a particle owns it."""
    open_space = 1.0 - inside * (foil + envelope + domain)
    if foil > 0 and inside * foil >= max(inside * envelope, inside * domain, open_space):
        return _CURRENT_COLLECTOR, False
    if envelope > 0 and inside * envelope >= max(inside * domain, open_space):
        solid = silicon + bismuth / max(inside, 1e-9)
        drawn_out = clump > 0
        if unresolved and not drawn_out:
            return _UNRESOLVED, True
        if 2 * solid > envelope * (clump if drawn_out else 1.0):
            return (_UNRESOLVED if unresolved else _SILICON), True
        return (_SEI if 2 * in_pores > envelope else _VOID), True
    if domain > 0 and inside * domain >= open_space:
        return (_SEI if sei > domain * solids else _CARBON_BINDER), False
    return _VOID, False
