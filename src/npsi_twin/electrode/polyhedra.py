"""Convex polyhedra as lists of half-spaces: exact volume, bounds and the faces that matter.

Facet planes (unit normals, distances from a centre) -> volume, bounding box, face areas. The model: every face is a
big square on its plane, clipped by all the other planes (Sutherland-Hodgman); the volume is the sum of face area
times plane distance over three (divergence theorem), exact to rounding. Many polyhedra lie behind one another in flat
arrays: polyhedron i owns the planes ``start[i]:start[i + 1]``.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

#: Relative difference up to which two planes are one.
_SAME = 1e-12


@dataclass(frozen=True)
class Measures:
    """What `measure_polyhedra` finds; lengths count from each polyhedron's centre.

    Attributes
    ----------
    volume_nm3
        (polyhedra,), nm3; 0 for an empty one.
    lower_nm, upper_nm
        Corners of the bounding boxes, (polyhedra, 3), nm.
    reach_nm
        Distance of the farthest corner, (polyhedra,), nm.
    area_nm2
        Areas of the faces, (planes,), nm2; 0 for a plane that bounds nothing.
    """

    volume_nm3: Floats
    lower_nm: Floats
    upper_nm: Floats
    reach_nm: Floats
    area_nm2: Floats


def measure_polyhedra(normals: Floats, distances_nm: Floats, start: Integers) -> Measures:
    """Measure many convex polyhedra exactly.

    Parameters
    ----------
    normals
        Unit outward normals of all facet planes, (planes, 3).
    distances_nm
        Distance of each plane from its polyhedron's centre along its normal, nm, (planes,).
    start
        First plane of each polyhedron, (polyhedra + 1,).

    Returns
    -------
    Measures
        Volumes, bounds and face areas. A polyhedron that its planes leave open is closed at a far distance.

    Examples
    --------
    >>> cube = np.vstack([np.eye(3), -np.eye(3)])
    >>> found = measure_polyhedra(cube, np.full(6, 0.5), np.array([0, 6]))
    >>> round(float(found.volume_nm3[0]), 9), found.upper_nm[0]
    (1.0, array([0.5, 0.5, 0.5]))
    """
    count = start.size - 1
    found = Measures(
        np.zeros(count), np.zeros((count, 3)), np.zeros((count, 3)), np.zeros(count), np.zeros(distances_nm.size)
    )
    if count:
        _measure(
            normals, distances_nm, start,
            found.volume_nm3, found.lower_nm, found.upper_nm, found.area_nm2, found.reach_nm,
        )  # fmt: skip
    return found


@njit(cache=True, parallel=True)
def _measure(
    normals: Floats,
    distances: Floats,
    start: Integers,
    volume: Floats,
    lower: Floats,
    upper: Floats,
    area: Floats,
    reach: Floats,
) -> None:
    for i in prange(volume.size):
        first, last = start[i], start[i + 1]
        polygon = np.empty((last - first + 8, 3))
        clipped = np.empty_like(polygon)
        side = 16.0 * np.abs(distances[first:last]).max()
        for axis in range(3):
            lower[i, axis], upper[i, axis] = np.inf, -np.inf
        for face in range(first, last):
            corners = _clip_face(normals, distances, first, last, face, side, polygon, clipped)
            if corners < 3:
                continue
            area[face] = _area(polygon, corners, normals[face])
            volume[i] += area[face] * distances[face] / 3.0
            for corner in range(corners):
                square = 0.0
                for axis in range(3):
                    place = polygon[corner, axis]
                    lower[i, axis] = min(lower[i, axis], place)
                    upper[i, axis] = max(upper[i, axis], place)
                    square += place * place
                reach[i] = max(reach[i], np.sqrt(square))
        if not volume[i] > 0.0:
            volume[i], reach[i] = 0.0, 0.0
            lower[i, :], upper[i, :] = 0.0, 0.0


@njit(cache=True)
def _clip_face(
    normals: Floats,
    distances: Floats,
    first: int,
    last: int,
    face: int,
    side: float,
    polygon: Floats,
    clipped: Floats,
) -> int:
    """Leave the corners of one face in ``polygon`` and return how many there are."""
    corners = _lay_square(normals[face], distances[face], side, polygon)
    for other in range(first, last):
        if other == face:
            continue
        nz, ny, nx, distance = normals[other, 0], normals[other, 1], normals[other, 2], distances[other]
        cosine = nz * normals[face, 0] + ny * normals[face, 1] + nx * normals[face, 2]
        if cosine > 1 - _SAME and abs(distance - distances[face]) < _SAME * side:
            # One plane given twice bounds once; rounding would clip the two at random.
            if other < face:
                return 0
            continue
        kept, cut = 0, False
        p = corners - 1
        above_p = nz * polygon[p, 0] + ny * polygon[p, 1] + nx * polygon[p, 2] - distance
        for q in range(corners):
            above_q = nz * polygon[q, 0] + ny * polygon[q, 1] + nx * polygon[q, 2] - distance
            if (above_p <= 0) != (above_q <= 0):
                share = above_p / (above_p - above_q)
                for axis in range(3):
                    clipped[kept, axis] = polygon[p, axis] + share * (polygon[q, axis] - polygon[p, axis])
                kept += 1
            if above_q <= 0:
                for axis in range(3):
                    clipped[kept, axis] = polygon[q, axis]
                kept += 1
            else:
                cut = True
            p, above_p = q, above_q
        if cut:
            corners = kept
            if corners < 3:
                return 0
            for corner in range(corners):
                for axis in range(3):
                    polygon[corner, axis] = clipped[corner, axis]
    return corners


@njit(cache=True)
def _lay_square(normal: Floats, distance: float, side: float, polygon: Floats) -> int:
    """Lay a square of half edge ``side`` on a plane."""
    helper = np.zeros(3)
    helper[np.argmin(np.abs(normal))] = 1.0
    u = np.cross(normal, helper)
    u /= np.sqrt((u * u).sum())
    v = np.cross(normal, u)
    for corner in range(4):
        a = side if corner in (0, 3) else -side
        b = side if corner < 2 else -side
        for axis in range(3):
            polygon[corner, axis] = normal[axis] * distance + a * u[axis] + b * v[axis]
    return 4


@njit(cache=True)
def _area(polygon: Floats, corners: int, normal: Floats) -> float:
    total = 0.0
    for corner in range(1, corners - 1):
        az, ay, ax = polygon[corner] - polygon[0]
        bz, by, bx = polygon[corner + 1] - polygon[0]
        total += normal[0] * (ay * bx - ax * by) + normal[1] * (ax * bz - az * bx) + normal[2] * (az * by - ay * bz)
    return abs(total) / 2.0


def gather(owner: Integers, count: int, *columns: NDArray[Any]) -> tuple[Integers, tuple[NDArray[Any], ...]]:
    """Sort planes by the polyhedron that owns them; return ``start`` and the sorted columns (a stable order)."""
    order = np.argsort(owner, kind="stable")
    start = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=count))]).astype(np.int64)
    return start, tuple(np.ascontiguousarray(column[order]) for column in columns)
