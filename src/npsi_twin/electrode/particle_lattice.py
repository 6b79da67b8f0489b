"""One particle on a lattice: its envelope, its random field and the share of a cell that is silicon.

These compiled kernels serve the level solver (`bicontinuous`) and the rasteriser (`voxelise`), so that both see one
model. A cell of edge h is filled in proportion to signed distances at its centre:

    face share  = ramp(1/2 - (n . x - d) / h)
    edge share  = face share 1 x (cos + (1 - cos) x face share 2)      cos: between the two faces' normals
    solid share = ramp(1/2 + (F - level) / (h |grad F|))               F: exact mean of the field over the cell

with ramp(u) = min(max(u, 0), 1). A plane cut by a cube has the second moment h^2 / 12 at any orientation, as the ramp
has. At an edge the first face's share alone gains h^2 / 12 tan(angle / 2) of volume a length of edge, the product of
both loses h^2 / 12 cot(angle): the weights above cancel the two. Taking the cell's mean F instead of the value at its
centre removes the bias from curvature. So volumes are right to O(h^3) at corners and O(h^4) on the pores' walls. It
holds while h is below about a tenth of the wavelength.
"""

import numpy as np
from numba import njit

from npsi_twin.electrode.waves import Floats, Singles, sum_waves


@njit(cache=True)
def fill_particle_lattice(
    wavevectors: Floats,
    phases: Floats,
    normals: Floats,
    distances: Floats,
    along: Floats,
    height: Floats,
    across: Floats,
    spacing: float,
    field: Singles,
    envelope: Singles,
) -> None:
    """Fill ``field`` (cell means) and ``envelope`` (cell shares) of one particle on a lattice.

    Coordinates count from the particle's centre, nm; ``across`` ascends by ``spacing``. Arrays are (along, height,
    across) and carry a rim of one cell in which only the field is filled. Cells further than 1.5 spacings outside
    stay untouched.
    """
    waves = phases.size
    cos_x, sin_x = np.empty((waves, across.size), np.float32), np.empty((waves, across.size), np.float32)
    cos_y, sin_y = np.empty((height.size, waves)), np.empty((height.size, waves))
    amplitude, cos_z, sin_z = np.empty(waves), np.empty(waves), np.empty(waves)
    c, s = np.empty(waves, np.float32), np.empty(waves, np.float32)
    for w in range(waves):
        shrink = 1.0
        for axis in range(3):
            half = wavevectors[w, axis] * spacing / 2
            if abs(half) > 1e-9:
                shrink *= np.sin(half) / half
        amplitude[w] = np.sqrt(2.0 / waves) * shrink
        for x in range(across.size):
            phase = wavevectors[w, 2] * across[x]
            cos_x[w, x], sin_x[w, x] = np.cos(phase), np.sin(phase)
        for y in range(height.size):
            phase = wavevectors[w, 1] * height[y]
            cos_y[y, w], sin_y[y, w] = np.cos(phase), np.sin(phase)
    for z in range(along.size):
        for w in range(waves):
            phase = wavevectors[w, 0] * along[z] + phases[w]
            cos_z[w], sin_z[w] = amplitude[w] * np.cos(phase), amplitude[w] * np.sin(phase)
        for y in range(height.size):
            start, stop = _row_inside(normals, distances, along[z], height[y], across, spacing)
            if start >= stop:
                continue
            for w in range(waves):
                c[w] = cos_z[w] * cos_y[y, w] - sin_z[w] * sin_y[y, w]
                s[w] = sin_z[w] * cos_y[y, w] + cos_z[w] * sin_y[y, w]
            sum_waves(c, s, cos_x, sin_x, start, stop, field[z, y])
            if 0 < z < along.size - 1 and 0 < y < height.size - 1:
                _fill_envelope_row(
                    normals, distances, along[z], height[y], across, spacing, start, stop, envelope[z, y]
                )


@njit(cache=True)
def _row_inside(
    normals: Floats, distances: Floats, z: float, y: float, across: Floats, spacing: float
) -> tuple[int, int]:
    """Return the range of cells of a row that lie within 1.5 spacings of the polyhedron (with a little slack)."""
    low, high = across[0], across[-1]
    for i in range(distances.size):
        room = distances[i] + 1.51 * spacing - normals[i, 0] * z - normals[i, 1] * y
        slope = normals[i, 2]
        if slope > 1e-12:
            high = min(high, room / slope)
        elif slope < -1e-12:
            low = max(low, room / slope)
        elif room < 0:
            return 0, 0
    start = max(0, int(np.ceil((low - across[0]) / spacing)))
    stop = min(across.size, int(np.floor((high - across[0]) / spacing)) + 1)
    return start, stop


@njit(cache=True)
def _fill_envelope_row(
    normals: Floats,
    distances: Floats,
    z: float,
    y: float,
    across: Floats,
    spacing: float,
    start: int,
    stop: int,
    row: Singles,
) -> None:
    """Fill the shares of a row's cells that lie inside the polyhedron."""
    start, stop = max(start, 1), min(stop, across.size - 1)
    share, places = row[start:stop], across[start:stop]
    share[:] = -np.inf
    for i in range(distances.size):
        constant = normals[i, 0] * z + normals[i, 1] * y - distances[i]
        for x in range(share.size):
            outside = np.float32(constant + normals[i, 2] * places[x])
            share[x] = outside if outside > share[x] else share[x]
    for x in range(share.size):
        if share[x] >= spacing / 2:
            share[x] = 0.0
        elif share[x] <= -spacing / 2:
            share[x] = 1.0
        else:
            share[x] = _surface_share(normals, distances, z, y, places[x], spacing)


@njit(cache=True)
def _surface_share(normals: Floats, distances: Floats, z: float, y: float, x: float, spacing: float) -> float:
    """Return the share of a surface cell inside the two faces nearest to it."""
    nearest, second, face, other = -np.inf, -np.inf, 0, 0
    for i in range(distances.size):
        outside = normals[i, 0] * z + normals[i, 1] * y + normals[i, 2] * x - distances[i]
        if outside > nearest:
            nearest, second, face, other = outside, nearest, i, face
        elif outside > second:
            second, other = outside, i
    inside = min(max(0.5 - nearest / spacing, 0.0), 1.0)
    if second <= -spacing / 2:
        return inside
    cosine = (
        normals[face, 0] * normals[other, 0]
        + normals[face, 1] * normals[other, 1]
        + normals[face, 2] * normals[other, 2]
    )
    return float(inside * max(cosine + (1 - cosine) * (0.5 - second / spacing), 0.0))


@njit(cache=True)
def core_share(normals: Floats, distances: Floats, z: float, y: float, x: float, spacing: float) -> float:
    """Return the share of a cell in a particle's core: a ramp over the plane that it is farthest beyond."""
    outside = -np.inf
    for i in range(distances.size):
        outside = max(outside, normals[i, 0] * z + normals[i, 1] * y + normals[i, 2] * x - distances[i])
    return min(max(0.5 - outside / spacing, 0.0), 1.0)


@njit(cache=True)
def step_of(field: Singles, z: int, y: int, x: int) -> float:
    """Return the change of the field over one cell along its gradient, from central differences."""
    dz = field[z + 1, y, x] - field[z - 1, y, x]
    dy = field[z, y + 1, x] - field[z, y - 1, x]
    dx = field[z, y, x + 1] - field[z, y, x - 1]
    return float(0.5 * np.sqrt(dx * dx + dy * dy + dz * dz))


@njit(cache=True)
def solid_share(above: float, step: float) -> float:
    """Return the share of a cell that is solid, from its field above the level and its `step_of`."""
    if 2 * above >= step:
        return 1.0
    if 2 * above <= -step:
        return 0.0
    return 0.5 + above / step
