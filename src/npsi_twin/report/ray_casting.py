"""Rays through a volume: where they meet a surface, and the light there.

`Volumes`, `View` -> four pictures, filled in place. The model is that of `rendering`, in voxels: positions are (z, y,
x) indices, a surface is where the field crosses one half. Rays go in steps of half a voxel and leap over empty blocks;
the crossing is then halved to 1/500 of a voxel. Every sample is computed alone, so the rows may be shared out
between threads. A part thinner than a step may be missed; the smoothed fields that `rendering` makes have none.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from npsi_twin.volumes import FloatArray

Floats = NDArray[np.float64]

#: What a sample of the picture shows.
BACKGROUND, SILICON, FOIL = 0, 1, 2
#: Edge of the blocks of which empty ones are leapt over, voxels.
BLOCK = 4
#: Steps along a ray, voxels: towards the surface, and for light and haze.
_STEP, _LIGHT_STEP = 0.5, 1.0


class Volumes(NamedTuple):
    """Volumes in a rim of nothing, (z, y, x).

    `field`: smoothed share of the body that has more; `foil`: that of the foil; `weighted` over `weight`: attenuation
    of silicon; `haze`: share of light solids; `free`: how far a ray may leap from anywhere in a block, voxels.
    """

    field: FloatArray
    foil: FloatArray
    weighted: FloatArray
    weight: FloatArray
    haze: FloatArray
    free: NDArray[np.uint8]


class View(NamedTuple):
    """Camera and light in voxels.

    `right`, `up`, `towards` (the camera): unit vectors (z, y, x); `sample`: distance of two samples; `sky`, `lamp`:
    directions (n, 3); `sky_share`, `sky_reach`: of the light, and how far bodies hide it; `haze`: opacity per voxel.
    """

    right: Floats
    up: Floats
    towards: Floats
    sample: float
    sky: Floats
    lamp: Floats
    sky_share: float
    sky_reach: float
    haze: float


@njit(cache=True)
def _at(values: FloatArray, z: float, y: float, x: float) -> float:
    """Interpolate linearly between voxel centres; 0 outside."""
    nz, ny, nx = values.shape
    if not (0 <= z <= nz - 1 and 0 <= y <= ny - 1 and 0 <= x <= nx - 1):
        return 0.0
    k, j, i = min(int(z), nz - 2), min(int(y), ny - 2), min(int(x), nx - 2)
    c, b, a = z - k, y - j, x - i
    low = (values[k, j, i] * (1 - a) + values[k, j, i + 1] * a) * (1 - b) + (
        values[k, j + 1, i] * (1 - a) + values[k, j + 1, i + 1] * a
    ) * b
    high = (values[k + 1, j, i] * (1 - a) + values[k + 1, j, i + 1] * a) * (1 - b) + (
        values[k + 1, j + 1, i] * (1 - a) + values[k + 1, j + 1, i + 1] * a
    ) * b
    return float(low * (1 - c) + high * c)


@njit(cache=True)
def _inside(shape: tuple[int, int, int], start: Floats, direction: Floats) -> tuple[float, float]:
    """Return where a ray enters and leaves the volume; the second is smaller if it never does."""
    enters, leaves = -np.inf, np.inf
    for axis in range(3):
        last = shape[axis] - 1.0
        if abs(direction[axis]) < 1e-12:
            if not 0 <= start[axis] <= last:
                return 0.0, -1.0
        else:
            a, b = -start[axis] / direction[axis], (last - start[axis]) / direction[axis]
            enters, leaves = max(enters, min(a, b)), min(leaves, max(a, b))
    return enters, leaves


@njit(cache=True)
def _leap(free: NDArray[np.uint8], z: float, y: float, x: float) -> int:
    """Return how far a ray may leap from a point, voxels."""
    k = min(max(int(z), 0) // BLOCK, free.shape[0] - 1)
    j = min(max(int(y), 0) // BLOCK, free.shape[1] - 1)
    i = min(max(int(x), 0) // BLOCK, free.shape[2] - 1)
    return int(free[k, j, i])


@njit(cache=True)
def _meets(volumes: Volumes, start: Floats, direction: Floats, end: float) -> float:
    """Return the distance up to end at which a ray first meets a surface, or -1 when it meets none."""
    t = 0.0
    while t <= end:
        z, y, x = start[0] + t * direction[0], start[1] + t * direction[1], start[2] + t * direction[2]
        leap = _leap(volumes.free, z, y, x)
        if leap == 0 and _at(volumes.field, z, y, x) >= 0.5:
            return t
        t += max(leap, _STEP)
    return -1.0


@njit(cache=True)
def _is_free(volumes: Volumes, start: Floats, direction: Floats, end: float) -> bool:
    """Say whether light comes through up to end; the nearest voxel decides."""
    field, t = volumes.field, 0.0
    nz, ny, nx = field.shape
    while t <= end:
        z, y, x = start[0] + t * direction[0], start[1] + t * direction[1], start[2] + t * direction[2]
        leap = _leap(volumes.free, z, y, x)
        if leap == 0:
            k, j, i = int(z + 0.5), int(y + 0.5), int(x + 0.5)
            if 0 <= k < nz and 0 <= j < ny and 0 <= i < nx and field[k, j, i] >= 0.5:
                return False
        t += max(leap, _LIGHT_STEP)
    return True


@njit(cache=True)
def _refined(field: FloatArray, start: Floats, direction: Floats, outside: float, inside: float) -> float:
    """Halve the interval in which the field crosses one half."""
    for _ in range(8):
        t = (outside + inside) / 2
        if _at(field, start[0] + t * direction[0], start[1] + t * direction[1], start[2] + t * direction[2]) >= 0.5:
            inside = t
        else:
            outside = t
    return inside


@njit(cache=True)
def _depth_at(field: FloatArray, z: float, y: float, x: float) -> float:
    """Return a measure of depth under the surface: the logit undoes the S-shape of a smoothed edge.

    The plain field saturates one voxel away from a sharp edge, and its gradient would lean towards the axes.
    """
    share = min(max(_at(field, z, y, x), 0.02), 0.98)
    return math.log(share / (1 - share))


@njit(cache=True)
def _normal(field: FloatArray, p: Floats, towards: Floats) -> Floats:
    """Return the unit vector out of the body at a point of its surface."""
    n = np.empty(3)
    n[0] = _depth_at(field, p[0] - 1, p[1], p[2]) - _depth_at(field, p[0] + 1, p[1], p[2])
    n[1] = _depth_at(field, p[0], p[1] - 1, p[2]) - _depth_at(field, p[0], p[1] + 1, p[2])
    n[2] = _depth_at(field, p[0], p[1], p[2] - 1) - _depth_at(field, p[0], p[1], p[2] + 1)
    length = math.sqrt(n[0] ** 2 + n[1] ** 2 + n[2] ** 2)
    return n / length if length > 0 else towards


@njit(cache=True)
def _lit(volumes: Volumes, view: View, p: Floats, n: Floats) -> float:
    """Return the light at a point of a surface with normal n."""
    # One voxel off the surface: the nearest voxel's centre, 0.87 away at most, then lies outside of a flat body.
    start = p + n
    seen, whole = 0.0, 0.0
    for k in range(view.sky.shape[0]):
        d = view.sky[k]
        facing = n[0] * d[0] + n[1] * d[1] + n[2] * d[2]
        if facing > 0:
            whole += facing
            if _is_free(volumes, start, d, view.sky_reach):
                seen += facing
    direct = 0.0
    for k in range(view.lamp.shape[0]):
        d = view.lamp[k]
        facing = n[0] * d[0] + n[1] * d[1] + n[2] * d[2]
        if facing > 0:
            _, end = _inside(volumes.field.shape, start, d)
            if _is_free(volumes, start, d, end):
                direct += facing
    return float(view.sky_share * seen / whole + (1 - view.sky_share) * direct / view.lamp.shape[0])


@njit(cache=True)
def _depth(haze: FloatArray, start: Floats, direction: Floats, end: float) -> float:
    """Return the integral of light solids along a ray, voxels."""
    depth, t = 0.0, 0.5 * _LIGHT_STEP
    while t < end:
        z, y, x = start[0] + t * direction[0], start[1] + t * direction[1], start[2] + t * direction[2]
        depth += _LIGHT_STEP * _at(haze, z, y, x)
        t += _LIGHT_STEP
    return depth


@njit(cache=True, parallel=True)
def cast(
    volumes: Volumes,
    view: View,
    body: NDArray[np.uint8],
    light: FloatArray,
    attenuation: FloatArray,
    haze: FloatArray,
) -> None:
    """Fill a picture (v, u), row 0 at the top, its middle where the middle of the volume appears."""
    rows, columns = body.shape
    field = volumes.field
    middle = np.array([(field.shape[0] - 1) / 2, (field.shape[1] - 1) / 2, (field.shape[2] - 1) / 2])
    direction = -view.towards
    for v in prange(rows):
        for u in range(columns):
            across, above = (u + 0.5 - columns / 2) * view.sample, (rows / 2 - v - 0.5) * view.sample
            through = middle + across * view.right + above * view.up
            begin, end = _inside(field.shape, through, direction)
            if end <= begin:
                continue
            start, length = through + begin * direction, end - begin
            t = _meets(volumes, start, direction, length)
            if view.haze > 0:
                haze[v, u] = 1 - math.exp(-view.haze * _depth(volumes.haze, start, direction, length if t < 0 else t))
            if t < 0:
                continue
            t = _refined(field, start, direction, max(t - _STEP, 0.0), t)
            p = start + t * direction
            n = _normal(field, p, view.towards)
            light[v, u] = _lit(volumes, view, p, n)
            if _at(volumes.foil, p[0], p[1], p[2]) >= _at(field, p[0], p[1], p[2]):
                body[v, u] = FOIL
                attenuation[v, u] = 1.0
                continue
            body[v, u] = SILICON
            weight = _at(volumes.weight, p[0], p[1], p[2])
            attenuation[v, u] = _at(volumes.weighted, p[0], p[1], p[2]) / weight
