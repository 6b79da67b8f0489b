"""What cycling writes on a scene: the states of its particles, its islands, and what the cell went through.

`npsi_twin.cycling` writes these records, `voxelise` reads the first two. A pristine scene carries them at rest
(`pristine_states`), without islands and without a history. Nothing is computed here but look-ups:

- a particle may have left the field, be cut off from charge, belong to an agglomerate, hold fragments below any
  resolution, or have pores filled by SEI;
- the plane of the foil is shared out among the particles, every column to the nearest one; all columns of an
  agglomerate are an island, which may stand off the foil, be torn from its neighbours, or be gone.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from npsi_twin.electrode.polyhedra import Floats, Integers

Flags = NDArray[np.bool_]

#: Neighbours among which the nearest particle of another island is looked for.
_NEIGHBOURS = 12


@dataclass(frozen=True)
class ParticleStates:
    """States of the particles; every array is (particles,).

    Attributes
    ----------
    present
        False where the particle has left the field with its island.
    active
        False where it has lost contact and takes part in no charge.
    most_lithium_per_silicon
        Largest x in LixSi that it ever held.
    agglomerate
        Number of its agglomerate: the smallest index among its members, its own where it is alone.
    fragmented_share
        Share of its silicon in fragments below any resolution, spread evenly over the envelope.
    fragment_nm
        Mean size of its pieces of silicon, nm; infinity until it breaks.
    sei_pore_share
        Share of its pores that SEI fills.
    weld_cycle
        Cycle in which it first touches a neighbour for good; infinity: never.
    loose_solid_fraction, welded_solid_fraction
        Silicon over envelope before and after, drawn out or not; 0 as long as nothing welds and nothing is drawn out.
    clump_solid_fraction
        Silicon over the volume of the clumps in which a body that was drawn out holds it; 0: it was not.
    """

    present: Flags
    active: Flags
    most_lithium_per_silicon: Floats
    agglomerate: Integers
    fragmented_share: Floats
    fragment_nm: Floats
    sei_pore_share: Floats
    weld_cycle: Floats
    loose_solid_fraction: Floats
    welded_solid_fraction: Floats
    clump_solid_fraction: Floats

    def __post_init__(self) -> None:
        for array in vars(self).values():
            array.flags.writeable = False

    @property
    def members(self) -> Integers:
        """Number of particles in each particle's agglomerate, (particles,)."""
        return np.asarray(np.bincount(self.agglomerate, minlength=self.agglomerate.size)[self.agglomerate], np.int64)


def pristine_states(count: int) -> ParticleStates:
    """Return the states of particles that were never cycled.

    Examples
    --------
    >>> pristine_states(3).members
    array([1, 1, 1])
    """
    return ParticleStates(
        present=np.ones(count, bool),
        active=np.ones(count, bool),
        most_lithium_per_silicon=np.zeros(count),
        agglomerate=np.arange(count),
        fragmented_share=np.zeros(count),
        fragment_nm=np.full(count, np.inf),
        sei_pore_share=np.zeros(count),
        weld_cycle=np.full(count, np.inf),
        loose_solid_fraction=np.zeros(count),
        welded_solid_fraction=np.zeros(count),
        clump_solid_fraction=np.zeros(count),
    )


class Columns(NamedTuple):
    """Islands over a lattice of columns (along, across)."""

    gap_nm: Floats
    lost: Flags
    cracked: Flags


@dataclass(frozen=True)
class Islands:
    """The plane of the foil, shared out among the particles.

    Attributes
    ----------
    places_nm
        Places of the particles along and across, (particles, 2), nm.
    island
        Number of each particle's island, (particles,).
    gap_nm
        Height of its island above the foil's surface, (particles,), nm.
    lost
        Whether its island has left the field, (particles,).
    crack_nm
        Width of the cracks round islands that stand off the foil or have lost a neighbour, nm.
    """

    places_nm: Floats
    island: Integers
    gap_nm: Floats
    lost: Flags
    crack_nm: float

    def __post_init__(self) -> None:
        for array in (self.places_nm, self.island, self.gap_nm, self.lost):
            array.flags.writeable = False

    def on_rows(self, along_nm: Floats, across_nm: Floats) -> Columns:
        """Return gap, loss and cracks of the columns (along, across); each column is looked up by its own place."""
        points = np.stack(np.meshgrid(along_nm, across_nm, indexing="ij"), axis=-1).reshape(-1, 2)
        count = min(_NEIGHBOURS, len(self.places_nm))
        found = cKDTree(self.places_nm).query(points, k=np.arange(1, count + 1))
        distance, index = np.asarray(found[0]), np.asarray(found[1])
        shape, owner = (along_nm.size, across_nm.size), index[:, 0]
        # The first neighbour of another island; where there is none, the owner itself, far away.
        other = (self.island[index] != self.island[owner][:, None]).argmax(axis=1)
        rows = np.arange(len(points))
        neighbour = index[rows, other]
        apart = np.hypot(*(self.places_nm[neighbour] - self.places_nm[owner]).T)
        with np.errstate(divide="ignore", invalid="ignore"):
            to_border = (distance[rows, other] ** 2 - distance[:, 0] ** 2) / (2 * apart)
        loose = (self.gap_nm[owner] != self.gap_nm[neighbour]) | (self.lost[owner] != self.lost[neighbour])
        cracked = (other > 0) & loose & (to_border < self.crack_nm / 2)
        return Columns(
            self.gap_nm[owner].reshape(shape), self.lost[owner].reshape(shape), np.asarray(cracked).reshape(shape)
        )


@dataclass(frozen=True)
class History:
    """What the cell went through; every array is (cycles,), cycle n at index n - 1.

    Attributes
    ----------
    cut_off_mah_per_g
        Charge of every cycle, as long as the silicon can hold it, mAh per gram of all silicon.
    full_capacity_mah_per_g
        What silicon that takes part can hold, mAh/g.
    thickness_ratio
        T/T0 of what is still attached, at the end of charge.
    packing_fraction
        Volume of all envelopes over that of the layer, at the end of charge.
    active_fraction
        Silicon that is attached and in contact over all silicon.
    filled_ratio
        T/T0 without the open space of arches and macropores.
    pristine_height_nm
        Mean height of the layer before the first cycle, nm.
    charged_fraction
        Share of the silicon among which the charge of the present cycle is divided.
    """

    cut_off_mah_per_g: float
    full_capacity_mah_per_g: float
    thickness_ratio: Floats
    packing_fraction: Floats
    active_fraction: Floats
    filled_ratio: Floats
    pristine_height_nm: float = math.nan
    charged_fraction: float = 1.0

    def __post_init__(self) -> None:
        for array in (self.thickness_ratio, self.packing_fraction, self.active_fraction, self.filled_ratio):
            array.flags.writeable = False

    @property
    def cycles(self) -> Integers:
        """Cycle numbers, from 1."""
        return np.arange(1, self.active_fraction.size + 1)

    @property
    def capacity_mah_per_g(self) -> Floats:
        """Charge of each cycle, mAh per gram of all silicon: the cut-off, until less than that can be held."""
        return np.minimum(self.cut_off_mah_per_g, self.full_capacity_mah_per_g * self.active_fraction)

    @property
    def life_cycles(self) -> float:
        """Cycle after which the cut-off is no longer reached; infinity where the record ends before.

        Examples
        --------
        >>> History(2000.0, 3000.0, np.ones(3), np.ones(3), np.array([1.0, 0.7, 0.6]), np.ones(3)).life_cycles
        2.0
        """
        failed = self.capacity_mah_per_g < self.cut_off_mah_per_g
        return float(failed.argmax()) if failed.any() else float("inf")
