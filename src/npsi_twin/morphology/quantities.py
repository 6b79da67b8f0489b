"""What leaves a measurement: numbers that carry their spread, and the statistics that give it to them.

Takes -> gives: maps and counts per slice -> `Measured`; a complete set of them -> `Measurements`.

The model: a map's value is the mean over its columns, its spread their standard deviation. A ratio of counts is taken
over all slices together; its spread is the standard deviation of the same ratio over blocks of consecutive slices,
which contains the structure's own variation between blocks, so that spread / sqrt(n) estimates the ratio's standard
error where blocks are longer than the structure is correlated.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npsi_twin.morphology.collector import BoolArray, HeightMap
from npsi_twin.recipes import MadeBy

Counts = NDArray[np.int64]
Curve = NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """A number that was measured.

    Attributes
    ----------
    value
        The number; NaN when it could not be measured.
    spread
        Standard deviation over columns (maps) or over blocks of slices (ratios); NaN when there is only one.
    n
        How many columns or blocks.
    unit
        Unit; empty for a fraction.
    note
        Definition, or the reason for a NaN.
    """

    value: float
    spread: float
    n: int
    unit: str
    note: str = ""


@dataclass(frozen=True)
class Measurements:
    """Everything that `measure` found.

    Attributes
    ----------
    quantities
        Name -> `Measured`, in a fixed order and always complete.
    thickness_map_nm
        Height of the silicon's top above the foil, (z, x), NaN where there is none.
    inventory_map_um
        Silicon areal inventory g T, um of copper, (z, x).
    profile_distance_nm, profile_normalised
        Mean normalised attenuation against distance to the local foil surface; empty without attenuation or foil.
    made_by
        Provenance.
    curves
        Name -> curve (2 or 4, k), empty where it could not be had: ``two_point_correlation`` (lag in nm, S2),
        ``local_thickness_pore`` and ``local_thickness_ligament`` (upper edge of a class in nm, share of the volume),
        ``attenuation_from_local_foil`` and ``attenuation_from_mean_foil`` (distance in nm, normalised attenuation, its
        standard deviation over blocks of slices, share of columns that reach there) and ``lithium_degeneracy``
        (porosity and lithium per silicon of equal attenuation).
    """

    quantities: Mapping[str, Measured]
    thickness_map_nm: HeightMap
    inventory_map_um: HeightMap
    profile_distance_nm: Curve
    profile_normalised: Curve
    made_by: MadeBy
    curves: Mapping[str, Curve] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "quantities", MappingProxyType(dict(self.quantities)))
        curves = {name: curve.view() for name, curve in self.curves.items()}
        for curve in curves.values():
            curve.flags.writeable = False
        object.__setattr__(self, "curves", MappingProxyType(curves))
        for name in ("thickness_map_nm", "inventory_map_um", "profile_distance_nm", "profile_normalised"):
            view = getattr(self, name).view()
            view.flags.writeable = False
            object.__setattr__(self, name, view)

    def __reduce__(self) -> tuple[Any, ...]:
        maps = (self.thickness_map_nm, self.inventory_map_um, self.profile_distance_nm, self.profile_normalised)
        return Measurements, (dict(self.quantities), *maps, self.made_by, dict(self.curves))

    def __getitem__(self, name: str) -> Measured:
        """Return one quantity by its name."""
        return self.quantities[name]


def missing(unit: str, reason: str) -> Measured:
    """Return the NaN that says why it is one."""
    return Measured(float("nan"), float("nan"), 0, unit, reason)


def of_map(values: NDArray[np.float64], unit: str, note: str, reason: str) -> Measured:
    """Return mean and standard deviation over the columns that have a value."""
    known = values[np.isfinite(values)]
    if known.size == 0:
        return missing(unit, reason)
    return Measured(float(known.mean()), float(known.std()) if known.size > 1 else float("nan"), known.size, unit, note)


def per_slice(mask: BoolArray) -> Counts:
    """Count voxels in every slice, (z,)."""
    return np.asarray(mask.sum(axis=(1, 2)), np.int64)


class Blocks:
    """Consecutive blocks of slices, as equal as whole slices allow.

    Parameters
    ----------
    slices
        Number of slices.
    wanted
        Number of blocks; fewer when there are fewer slices.

    Examples
    --------
    >>> blocks = Blocks(4, 2)
    >>> blocks.ratio(np.array([1, 1, 3, 3]), np.array([8, 8, 8, 8]), "", "example")
    Measured(value=0.25, spread=0.125, n=2, unit='', note='example')
    """

    def __init__(self, slices: int, wanted: int) -> None:
        edges = np.linspace(0, slices, min(wanted, slices) + 1).round().astype(int)
        self.parts = [slice(int(a), int(b)) for a, b in pairwise(edges)]

    def of(self, value: Callable[[slice], float], unit: str, note: str, reason: str) -> Measured:
        """Return a quantity over all slices, with its standard deviation over the blocks where it exists."""
        whole = value(slice(None))
        if not np.isfinite(whole):
            return missing(unit, reason)
        known = [v for v in (value(part) for part in self.parts) if np.isfinite(v)]
        return Measured(whole, float(np.std(known)) if len(known) > 1 else float("nan"), len(known), unit, note)

    def ratio(self, part: Counts, whole: Counts, unit: str, note: str) -> Measured:
        """Return a ratio of counts per slice."""

        def value(block: slice) -> float:
            total = int(whole[block].sum())
            return float(part[block].sum() / total) if total else float("nan")

        return self.of(value, unit, note, f"no voxels: {note}")
