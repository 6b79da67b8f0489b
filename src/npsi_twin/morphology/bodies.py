"""Particles and agglomerates: which voxels of the closed silicon belong to which body.

Takes -> gives: the particles' closed envelope and the silicon in it -> `Bodies`, two numberings of its voxels.

The model. Depth is the distance to the nearest voxel outside the envelope. Every voxel belongs to the maximum of depth
that the steepest ascent from it leads to (a watershed). Two such basins are one **particle** when the neck between them
is as wide as they are: its depth is at least ``split_ratio`` times that of the shallower maximum. The necks are visited
from the widest to the narrowest. Particles make one **agglomerate** when they touch: where their envelopes meet,
silicon meets silicon on at least ``contact_share`` of the border. A cut through one np-Si particle of 60 % porosity has
silicon on both sides over about a third of it; particles that lie side by side touch in points.

Holds where particles are several closing radii wide. Sizes of particles that the needle's or the volume's faces cut
are not theirs; `body_shapes` leaves those out.

References
----------
F. Meyer, Signal Process. 38 (1994) 113, doi:10.1016/0165-1684(94)90060-4 (topographic distance and watershed).
J. T. Gostick, Phys. Rev. E 96 (2017) 023307, doi:10.1103/PhysRevE.96.023307 (false maxima between wide necks).
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from npsi_twin.errors import IncompatibleError, ParameterError
from npsi_twin.morphology.collector import BoolArray
from npsi_twin.morphology.distance import squared_distance
from npsi_twin.morphology.slabs import over_slabs
from npsi_twin.volumes import FloatArray

Numbers = NDArray[np.int32]


@dataclass(frozen=True)
class Bodies:
    """Particles in an envelope, and the agglomerates that they make.

    Attributes
    ----------
    particle
        Number of the particle of every voxel, from 1, int32 (z, y, x); 0 outside the envelope.
    agglomerate
        Number of each particle's agglomerate, from 1; its first entry, for 0, is 0. Shape (particles + 1,).
    voxel_nm
        Edge of a voxel, nm.
    """

    particle: Numbers
    agglomerate: Numbers
    voxel_nm: float

    def __post_init__(self) -> None:
        self.particle.flags.writeable = False
        self.agglomerate.flags.writeable = False

    @property
    def count(self) -> int:
        """Number of particles."""
        return self.agglomerate.size - 1


def find_bodies(
    envelope: BoolArray, silicon: BoolArray, voxel_nm: float, *, split_ratio: float = 0.8, contact_share: float = 0.2
) -> Bodies:
    """Split an envelope into particles and join those that touch to agglomerates.

    Parameters
    ----------
    envelope
        Closed silicon, bool (z, y, x).
    silicon
        Silicon, bool, same shape.
    voxel_nm
        Edge of a voxel, nm.
    split_ratio
        A neck of at least this share of the narrower body's depth does not part two bodies, above 0, at most 1.
    contact_share
        Share of the border of two particles on which silicon must meet silicon for one agglomerate, 0 to 1.

    Raises
    ------
    IncompatibleError
        Shapes differ, or more than 2^31 voxels.
    ParameterError
        A share out of its range.

    Examples
    --------
    Two balls that overlap a little are two particles in one agglomerate:

    >>> z, y, x = np.indices((24, 24, 44)) - np.array([11.5, 11.5, 21.5])[:, None, None, None]
    >>> balls = z**2 + y**2 + (np.abs(x) - 9) ** 2 < 100
    >>> bodies = find_bodies(balls, balls, 50.0)
    >>> bodies.count, bodies.agglomerate.tolist()
    (2, [0, 1, 1])
    """
    if envelope.shape != silicon.shape or envelope.size >= 2**31:
        raise IncompatibleError(
            f"find_bodies: the envelope is {envelope.shape}, the silicon {silicon.shape}; both must cover the same "
            "voxels, fewer than 2^31. Crop them alike."
        )
    if not (0 < split_ratio <= 1 and 0 <= contact_share <= 1):
        raise ParameterError(
            f"find_bodies: got split_ratio {split_ratio:g} and contact_share {contact_share:g}; above 0 to 1, and 0 to "
            "1, are allowed, since both are shares. Give, for example, 0.8 and 0.2."
        )
    if not envelope.any():
        return Bodies(np.zeros(envelope.shape, np.int32), np.zeros(1, np.int32), voxel_nm)
    if envelope.all():  # no outside, hence no depth: one body
        return Bodies(np.ones(envelope.shape, np.int32), np.array([0, 1], np.int32), voxel_nm)
    basin = np.empty(envelope.shape, np.int32)
    squared = squared_distance(envelope)
    peaks = _climb(squared, basin)
    lower, upper, here, there = _meetings(basin)
    neck = np.minimum(squared.ravel()[here], squared.ravel()[there])
    del squared, here, there
    order = np.argsort(-neck, kind="stable")
    particle_of = _merge(peaks, lower[order], upper[order], neck[order], split_ratio**2)
    _, renumbered = np.unique(particle_of[1:], return_inverse=True)
    number = np.concatenate([[0], renumbered + 1]).astype(np.int32)
    for image in basin:
        image[:] = number[image]
    return Bodies(basin, _agglomerates(basin, silicon, int(number.max()), contact_share), voxel_nm)


def _agglomerates(particle: Numbers, silicon: BoolArray, count: int, contact_share: float) -> Numbers:
    """Return the number of each particle's group of particles that touch."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    lower, upper, here, there = _meetings(particle)
    touches = silicon.ravel()[here] & silicon.ravel()[there]
    pair, index = np.unique(lower * np.int64(count + 1) + upper, return_inverse=True)
    border = np.bincount(index.ravel(), minlength=pair.size)
    touching = np.bincount(index.ravel(), touches, pair.size)
    joined = pair[(touching > 0) & (touching >= contact_share * border)]
    links = coo_array((np.ones(joined.size), (joined // (count + 1), joined % (count + 1))), (count + 1, count + 1))
    _, group = connected_components(links, directed=False)  # the outside, 0, has no link: its group comes first
    return np.asarray(group, np.int32)


def _climb(squared: FloatArray, basin: Numbers) -> FloatArray:
    """Fill in the basins of steepest ascent, from 1 in the order of their maxima; return their squared depths.

    Of equally steep ways the first is taken. A voxel without a deeper neighbour is a maximum; on a plateau there are
    several, which `_merge` joins.
    """
    over_slabs(lambda a, b: _look_up(squared, basin, a, b), squared.shape[0])
    return _number(squared.ravel(), basin.ravel())


@njit(cache=True, nogil=True)
def _look_up(squared: FloatArray, leads: Numbers, first: int, beyond: int) -> None:
    """Write, for every voxel, where the steepest ascent leads next, as -1 - place; 0 outside the envelope."""
    nz, ny, nx = squared.shape
    for z in range(first, beyond):
        for y in range(ny):
            for x in range(nx):
                here, depth = squared[z, y, x], np.sqrt(squared[z, y, x])
                leads[z, y, x] = 0
                if here == 0:
                    continue
                target, steepest = (z * ny + y) * nx + x, np.float32(0)
                for n in range(27):
                    dz, dy, dx = n // 9 - 1, n // 3 % 3 - 1, n % 3 - 1
                    w, v, u = z + dz, y + dy, x + dx
                    if w < 0 or w >= nz or v < 0 or v >= ny or u < 0 or u >= nx or squared[w, v, u] <= here:
                        continue
                    rise = (np.sqrt(squared[w, v, u]) - depth) / np.sqrt(np.float32(dz * dz + dy * dy + dx * dx))
                    if rise > steepest:
                        target, steepest = (w * ny + v) * nx + u, rise
                leads[z, y, x] = -1 - target


@njit(cache=True, nogil=True)
def _number(squared: FloatArray, leads: Numbers) -> FloatArray:
    """Replace where the voxels lead by the number of the maximum at the end; return the maxima's squared depths."""
    count = 0
    for here in range(leads.size):
        count += leads[here] == -1 - here
    peaks = np.zeros(count + 1, np.float32)
    count = 0
    for here in range(leads.size):
        if leads[here] == -1 - here:
            count += 1
            leads[here] = count
            peaks[count] = squared[here]
    for here in range(leads.size):
        top = here
        while leads[top] < 0:
            top = -1 - leads[top]
        number, step = leads[top], here
        while leads[step] < 0:
            following = -1 - leads[step]
            leads[step] = number
            step = following
    return peaks


@njit(cache=True, nogil=True)
def _meetings(numbers: Numbers) -> tuple[Numbers, Numbers, Numbers, Numbers]:
    """Return the lesser and greater number, and the flat places, of all face neighbours with different numbers."""
    nz, ny, nx = numbers.shape
    lower, upper, here, there = np.empty((4, 0), np.int32)
    for counting in (True, False):
        count = 0
        for z in range(nz):
            for y in range(ny):
                for x in range(nx):
                    a = numbers[z, y, x]
                    if a == 0:
                        continue
                    for axis in range(3):
                        w, v, u = z + (axis == 0), y + (axis == 1), x + (axis == 2)
                        if w >= nz or v >= ny or u >= nx:
                            continue
                        b = numbers[w, v, u]
                        if b == 0 or b == a:
                            continue
                        if not counting:
                            lower[count], upper[count] = min(a, b), max(a, b)
                            here[count], there[count] = (z * ny + y) * nx + x, (w * ny + v) * nx + u
                        count += 1
        if counting:
            lower, upper, here, there = np.empty((4, count), np.int32)
    return lower, upper, here, there


@njit(cache=True, nogil=True)
def _merge(peaks: FloatArray, lower: Numbers, upper: Numbers, neck: FloatArray, squared_ratio: float) -> Numbers:
    """Join basins over necks that part nothing; return each basin's representative. Necks come widest first."""
    parent, deepest = np.arange(peaks.size).astype(np.int32), peaks.copy()
    for k in range(neck.size):
        a, b = lower[k], upper[k]
        while parent[a] != a:
            parent[a] = parent[parent[a]]
            a = parent[a]
        while parent[b] != b:
            parent[b] = parent[parent[b]]
            b = parent[b]
        if a != b and neck[k] >= squared_ratio * min(deepest[a], deepest[b]):
            first, second = min(a, b), max(a, b)
            parent[second] = first
            deepest[first] = max(deepest[first], deepest[second])
    for k in range(parent.size):
        top = parent[k]
        while parent[top] != top:
            top = parent[top]
        parent[k] = top
    return parent
