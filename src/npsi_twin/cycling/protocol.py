"""The conditions under which electrodes are scanned, by name.

`CONDITIONS` is the typed table of Zhao et al. 2018, section 2.2; ``"<capacity>/<cycle>"``, for example ``"1500/20"``,
names any other constant-capacity cycling, its first lithiation at the same capacity. Every condition is a separate
cell. Cells of the 1000 mAh/g series saw 1570 mAh/g in their first lithiation, so that their silicon remembers more than
they now hold. Capacities are charge capacities per gram of np-Si (the mass basis is inferred; the
paper does not state it). `ageing` turns a pristine scene into the scene of a condition.

References
----------
C. Zhao et al., Nano Energy 52 (2018) 381-390.
"""

import re
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from npsi_twin.errors import ParameterError
from npsi_twin.materials import alloy


@dataclass(frozen=True)
class Condition:
    """One scanned electrode.

    Attributes
    ----------
    name
        The key in `CONDITIONS`.
    capacity_mah_per_g
        Constant charge capacity of the cycling, mAh/g; 0 for the pristine electrode.
    cycle
        Number of the last cycle; 0 for the pristine electrode.
    first_lithiation_mah_per_g
        Capacity of the very first lithiation, mAh/g.
    end_state
        What the cell was in when it was opened; "unknown" where the paper does not say.
    source
        Section of the paper, and what was read between its lines.
    """

    name: str
    capacity_mah_per_g: float
    cycle: int
    first_lithiation_mah_per_g: float
    end_state: Literal["pristine", "lithiated", "delithiated", "unknown"]
    source: str

    @property
    def is_pristine(self) -> bool:
        """True where no current ever flowed."""
        return self.cycle == 0

    def ending(self, end_state: Literal["lithiated", "delithiated"]) -> "Condition":
        """Return the same cycling, opened in the given state; a pristine cell stays what it is.

        Examples
        --------
        >>> condition("2000/100").ending("delithiated").end_state
        'delithiated'
        """
        return self if self.is_pristine else replace(self, end_state=end_state)


#: What a mole of silicon holds at most, as a capacity.
_LARGEST_MAH_PER_G = alloy.LARGEST_LITHIUM_PER_SILICON * alloy.CAPACITY_PER_LITHIUM_MAH_PER_G
_STATED = "Zhao 2018, section 2.2: stated"
_STATED_BUT_STATE = "Zhao 2018, section 2.2: stated, but for the state of charge"
_FIRST_INFERRED = "; first lithiation inferred to be at the cycling capacity"
_TABLE = (
    Condition("pristine", 0.0, 0, 0.0, "pristine", _STATED),
    Condition("1000/2nd-lithiation", 1000.0, 2, 1570.0, "lithiated", _STATED),
    Condition("1000/500", 1000.0, 500, 1570.0, "unknown", _STATED_BUT_STATE),
    Condition("1000/1556", 1000.0, 1556, 1570.0, "unknown", _STATED_BUT_STATE),
    Condition("2000/1st-lithiation", 2000.0, 1, 2000.0, "lithiated", _STATED),
    Condition("2000/100", 2000.0, 100, 2000.0, "unknown", _STATED_BUT_STATE + _FIRST_INFERRED),
    Condition("2000/460", 2000.0, 460, 2000.0, "unknown", _STATED_BUT_STATE + _FIRST_INFERRED),
)
#: The paper's seven conditions by name.
CONDITIONS = MappingProxyType({condition.name: condition for condition in _TABLE})


def condition(name: str) -> Condition:
    """Return one of the paper's conditions, or any ``"<capacity in mAh/g>/<cycle>"``.

    Raises
    ------
    ParameterError
        If the name is neither.

    Examples
    --------
    >>> condition("1000/2nd-lithiation").first_lithiation_mah_per_g
    1570.0
    >>> condition("1500/20").cycle
    20
    """
    if name in CONDITIONS:
        return CONDITIONS[name]
    other = re.fullmatch(r"(\d{1,4}(?:\.\d+)?)/(\d{1,5})", name)
    if other is None or int(other[2]) < 1 or not 0 < float(other[1]) <= _LARGEST_MAH_PER_G:
        raise ParameterError(
            f"condition: got {name!r}; allowed are {', '.join(CONDITIONS)}, the electrodes that the paper scanned, or "
            f"'<capacity>/<cycle>' with up to {_LARGEST_MAH_PER_G:.0f} mAh/g and from cycle 1, for example '1500/20'. "
            "Choose one."
        )
    capacity = float(other[1])
    return Condition(name, capacity, int(other[2]), capacity, "unknown", "any constant-capacity cycling")
