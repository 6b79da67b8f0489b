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
    clump = scene.clump[particle]
    # Silicon in fragments spread evenly needs no pore network.
    waves = 0 if scene.fragmented[particle] == 1 and clump == 0 else scene.phases.shape[1]
    fill_particle_lattice(
        scene.wavevectors[particle, :waves], scene.phases[particle, :waves],
        scene.facet_normals[facets], scene.facet_distances[facets], along, height, across, cell, field, envelope,
    )  # fmt: skip
    shape = (z1 - z0, y1 - y0, x1 - x0)
    whole, solid, bare = np.zeros(shape, np.float32), np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    core = scene.core_distances[facets]
    has_core = core.max() > -np.inf
    shell_weight, core_weight = 1 / scene.ratio[particle], 1 / scene.core_ratio[particle]
    broken, even = scene.fragmented[particle], scene.solid_fraction[particle]
    weight = np.float32(1.0 / sub**3)
    for z in range(1, along.size - 1):
        for y in range(1, height.size - 1):
            for x in range(1, across.size - 1):
                inside = envelope[z, y, x]
                if inside > 0:
                    share = solid_share(field[z, y, x] - scene.levels[particle], step_of(field, z, y, x))
                    share = clump * share if clump > 0 else share + broken * (even - share)
                    at = ((z - 1) // sub, (y - 1) // sub, (x - 1) // sub)
                    silicon = weight * inside * np.float32(share)
                    whole[at] += weight * inside
                    solid[at] += silicon
                    per_silicon = shell_weight
                    if has_core:
                        held = core_share(scene.facet_normals[facets], core, along[z], height[y], across[x], cell)
                        per_silicon += held * (core_weight - shell_weight)
                    bare[at] += silicon * np.float32(per_silicon)
    beads = np.zeros(shape, np.float32)
    for bead in range(scene.bead_start[particle], scene.bead_start[particle + 1]):
        _add_bead(scene.beads[bead], scene.bead_radius, along, height, across, cell, sub, beads)
    filled = np.float32(scene.sei_pore_share[particle])
    for z in range(shape[0]):
        for y in range(shape[1]):
            for x in range(shape[2]):
                if whole[z, y, x] > 0:
                    at = (first + z0 + z, y0 + y, x0 + x)
                    foil, _ = _foil_and_domain(axes, at[0], at[1], at[2])
                    room = max(1.0 - foil - taken[z0 + z, at[1], at[2]], 0.0)
                    kept = np.float32(min(1.0, room / whole[z, y, x]))
                    taken[z0 + z, at[1], at[2]] += kept * whole[z, y, x]
                    out.silicon[at] += kept * solid[z, y, x]
                    # Lithium-free silicon for now; `_write_voxel` turns it into the ratio.
                    out.excess[at] += kept * bare[z, y, x]
                    bead = min(beads[z, y, x], whole[z, y, x] - solid[z, y, x])
                    out.bismuth[at] += kept * bead
                    out.sei[at] += kept * filled * (whole[z, y, x] - solid[z, y, x] - bead)
                    if kept * whole[z, y, x] > largest[z0 + z, at[1], at[2]]:
                        largest[z0 + z, at[1], at[2]] = kept * whole[z, y, x]
                        out.particle_id[at] = particle + 1


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
def _foil_and_domain(axes: GridAxes, z: int, y: int, x: int) -> tuple[float, float]:
    """Return the voxel's shares of foil and of the room between the layer's bottom and its top."""
    below_foil_top = _ramp((axes.foil_top[z, x] - axes.height[y]) / axes.voxel)
    foil = max(below_foil_top - _ramp((axes.foil_bottom - axes.height[y]) / axes.voxel), 0.0)
    if axes.torn[z, x]:
        return foil, 0.0
    below_bottom = _ramp((axes.layer_bottom[z, x] - axes.height[y]) / axes.voxel)
    return foil, _ramp((axes.layer_top[z, x] - axes.height[y]) / axes.voxel) - below_bottom


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
    waves, width, half = scene.binder_phases.size, axes.across.size, axes.voxel / 2
    c, s = np.empty(waves, np.float32), np.empty(waves, np.float32)
    modulation, domain = np.zeros(width, np.float32), np.empty(width)
    foil_top, layer_top = axes.foil_top[z], axes.layer_top[z]
    for y in range(axes.height.size):
        height, any_domain = axes.height[y], False
        for x in range(width):
            domain[x] = 0.0
            if foil_top[x] - half < height < layer_top[x] + half:
                _, room = _foil_and_domain(axes, z, y, x)
                domain[x] = max(room - taken[y, x], 0.0)
                any_domain = any_domain or (domain[x] > 0 and axes.inside[y, x] > 0)
        if any_domain:
            fill_row_weights(scene.binder_wavevectors, scene.binder_phases, axes.along[z], height, c, s)
            sum_waves(c, s, binder[0], binder[1], 0, width, modulation)
            _open_macropores(scene, axes, z, y, macropores, domain)
        for x in range(width):
            inside = axes.inside[y, x]
            if inside == 0 or (taken[y, x] == 0 and height >= layer_top[x] + half):
                _write_open_space(z, y, x, out)
                continue
            solids = 0.0
            if domain[x] > 0:
                plain = scene.binder_level * (1.0 + scene.binder_contrast * modulation[x])
                solids = min(max(plain, scene.binder_least), scene.binder_most)
            foil, _ = _foil_and_domain(axes, z, y, x)
            sei = domain[x] * (1.0 - solids) * scene.sei_room_share
            _write_voxel(inside, foil, taken[y, x], domain[x], solids, sei, unresolved, scene.clump, z, y, x, out)


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
    sum_waves(c, s, tables[0], tables[1], 0, domain.size, field)
    step = scene.macropore_slope_per_nm * axes.voxel
    for x in range(domain.size):
        domain[x] *= _ramp((scene.macropore_level - abs(field[x])) / step)


@njit(cache=True)
def _write_open_space(z: int, y: int, x: int, out: Shares) -> None:
    """Write a voxel that holds nothing of the specimen."""
    out.void[z, y, x] = 1.0
    if out.particle_id[z, y, x] > 0:
        out.silicon[z, y, x] = out.excess[z, y, x] = out.bismuth[z, y, x] = out.sei[z, y, x] = 0.0
        out.particle_id[z, y, x] = 0


@njit(cache=True)
def _write_voxel(
    inside: float,
    foil: float,
    envelope: float,
    domain: float,
    solids: float,
    sei: float,
    unresolved: NDArray[np.bool_],
    clump: Floats,
    z: int,
    y: int,
    x: int,
    out: Shares,
) -> None:
    """Write the fractions and the label of one voxel."""
    silicon, bare = out.silicon[z, y, x], out.excess[z, y, x]
    out.excess[z, y, x] = silicon / bare - np.float32(1.0) if bare > 0 else 0.0
    in_pores = out.sei[z, y, x]
    out.silicon[z, y, x] = inside * silicon
    out.bismuth[z, y, x] *= inside
    out.current_collector[z, y, x] = inside * foil
    out.carbon_binder[z, y, x] = inside * domain * solids
    out.sei[z, y, x] = inside * (in_pores + sei)
    filled = (
        np.float64(out.silicon[z, y, x]) + out.bismuth[z, y, x] + out.current_collector[z, y, x]
        + out.carbon_binder[z, y, x] + out.sei[z, y, x]
    )  # fmt: skip
    out.void[z, y, x] = max(1.0 - filled, 0.0)
    open_space = 1.0 - inside * (foil + envelope + domain)
    phase = _VOID
    if foil > 0 and inside * foil >= max(inside * envelope, inside * domain, open_space):
        phase = _CURRENT_COLLECTOR
    elif envelope > 0 and inside * envelope >= max(inside * domain, open_space):
        solid = silicon + out.bismuth[z, y, x] / max(inside, 1e-9)
        particle = out.particle_id[z, y, x] - 1
        drawn_out = clump[particle] > 0
        if unresolved[particle] and not drawn_out:
            phase = _UNRESOLVED
        elif 2 * solid > envelope * (clump[particle] if drawn_out else 1.0):
            phase = _UNRESOLVED if unresolved[particle] else _SILICON
        elif 2 * in_pores > envelope:
            phase = _SEI
        out.phase[z, y, x] = phase
        return
    elif domain > 0 and inside * domain >= open_space:
        phase = _SEI if sei > domain * solids else _CARBON_BINDER
    out.particle_id[z, y, x] = 0
    out.phase[z, y, x] = phase
