"""The conditions under which the paper scanned its electrodes, by name.

Nothing is computed here: `CONDITIONS` is the typed table of Zhao et al. 2018, section 2.2. Every condition is a
separate cell. Cells of the 1000 mAh/g series saw 1570 mAh/g in their first lithiation, so that their silicon
remembers more than they now hold. Capacities are charge capacities per gram of np-Si (the mass basis is inferred; the
paper does not state it). `ageing` turns a pristine scene into the scene of a condition.

References
----------
C. Zhao et al., Nano Energy 52 (2018) 381-390.
"""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from npsi_twin.errors import ParameterError


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
    end_state: Literal["pristine", "lithiated", "unknown"]
    source: str

    @property
    def is_pristine(self) -> bool:
        """True where no current ever flowed."""
        return self.cycle == 0


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
    """Return one of the paper's conditions.

    Raises
    ------
    ParameterError
        If there is no such condition.

    Examples
    --------
    >>> condition("1000/2nd-lithiation").first_lithiation_mah_per_g
    1570.0
    """
    if name not in CONDITIONS:
        raise ParameterError(
            f"condition: got {name!r}; allowed are {', '.join(CONDITIONS)}, the electrodes that the paper scanned. "
            "Choose one."
        )
    return CONDITIONS[name]
