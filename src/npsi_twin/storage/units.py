"""Units that files state, and the quantities that carry them.

A number from a file is taken only with a unit that the file, the layout's definition or the caller states; an unknown
unit is an error, never a guess. A value outside what X-ray microscopes use is kept, with a named warning, because it
is most often a slip of a factor of a thousand.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from warnings import warn

import numpy as np
from numpy.typing import NDArray

from npsi_twin.errors import DataError, OutOfRangeWarning
from npsi_twin.storage.hdf5 import OpenFile


@dataclass(frozen=True)
class Units:
    """The spellings of a kind of unit, each with its size in ours, and the range that X-ray microscopes use."""

    ours: str
    spellings: Mapping[str, float]
    usual: tuple[float, float]

    def factor(self, unit: str) -> float | None:
        """Return the size of a unit in ours, None where it is not known; capitals and plurals do not matter.

        Examples
        --------
        >>> LENGTH.factor("Micrometres"), LENGTH.factor("furlong")
        (1000.0, None)
        """
        name = unit.strip().lower().replace("metre", "meter")
        return self.spellings.get(name, self.spellings.get(name.removesuffix("s")))


LENGTH = Units(
    "nm",
    {
        "nm": 1.0,
        "nanometer": 1.0,
        "um": 1e3,
        "µm": 1e3,
        "μm": 1e3,
        "micron": 1e3,
        "micrometer": 1e3,
        "mm": 1e6,
        "millimeter": 1e6,
        "cm": 1e7,
        "m": 1e9,
        "meter": 1e9,
        "angstrom": 0.1,
    },
    (5.0, 10_000.0),
)
ENERGY = Units("keV", {"kev": 1.0, "ev": 1e-3, "mev": 1e3, "j": 1 / 1.602176634e-16}, (4.0, 30.0))
#: Of the storage ring; a layout without a unit states a number that only ratios are taken of.
CURRENT = Units("mA", {"ma": 1.0, "milliampere": 1.0, "a": 1e3, "ampere": 1e3, "": 1.0}, (0.0, np.inf))
ANGLE = Units(
    "rad",
    {"deg": np.pi / 180, "degree": np.pi / 180, "°": np.pi / 180, "rad": 1.0, "radian": 1.0, "mrad": 1e-3},
    (-np.inf, np.inf),
)


def text(value: Any) -> str:
    """Return a text that HDF5 gives as bytes, text or an array of one of them.

    Examples
    --------
    >>> text(b"deg"), text(np.array([b"deg"]))
    ('deg', 'deg')
    """
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.ravel()[0]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def quantity(file: OpenFile, name: str, units: Units) -> float | None:
    """Return a positive scalar with a stated unit in ours, or None where the file does not have it.

    Raises
    ------
    DataError
        When the unit is not known or the value is no positive number.
    """
    if not file.has(name):
        return None
    data = file.dataset(name)
    return converted(data[()], text(data.attrs.get("units", "")), units, f"{file.path}: /{name.strip('/')}")


def converted(value: Any, unit: str, units: Units, where: str) -> float:
    """Return a positive number in our unit.

    Examples
    --------
    >>> converted(8000.0, "eV", ENERGY, "energy")
    8.0
    """
    factor = units.factor(unit)
    if factor is None:
        raise DataError(
            f"{where} has the unit '{unit.strip()}'; known are {', '.join(units.spellings)}. "
            "Correct the file's attribute."
        )
    try:
        number = float(np.ravel(value)[0]) * factor
    except (ValueError, TypeError, IndexError):
        number = float("nan")
    if not (np.isfinite(number) and number > 0):
        raise DataError(f"{where} is not a positive number. Correct the file.")
    low, high = units.usual
    if not low <= number <= high:
        warn(
            f"{where} reads {number:.4g} {units.ours}; X-ray microscopes use {low:g} to {high:g} {units.ours}. Check "
            f"its unit ('{unit.strip()}').",
            OutOfRangeWarning,
            stacklevel=3,
        )
    return number


def currents(file: OpenFile, name: str, frames: int) -> NDArray[np.float64] | None:
    """Return the ring's current in every frame, mA, or None where the file does not state it for all of them.

    Raises
    ------
    DataError
        When the unit is not known.
    """
    if not file.has(name) or file.dataset(name).size != frames:
        return None
    data = file.dataset(name)
    unit = text(data.attrs.get("units", ""))
    factor = CURRENT.factor(unit)
    if factor is None:
        raise DataError(
            f"{file.path}: /{name.strip('/')} has the unit '{unit.strip()}'; known are "
            f"{', '.join(spelling for spelling in CURRENT.spellings if spelling)}. Correct the file's attribute."
        )
    values = np.asarray(data[()], np.float64).ravel() * factor
    # A beam that was lost, or a monitor that was off, tells nothing of the light.
    return values if np.all(np.isfinite(values) & (values > 0)) else None


def length_of(words: str) -> tuple[float, str] | None:
    """Split a text such as ``"20.1nm"`` into number and unit, or return None.

    Examples
    --------
    >>> length_of("20.1nm")
    (20.1, 'nm')
    """
    found = re.fullmatch(r"\s*([-+0-9.eE]+)\s*([^\d\s]+)\s*", words)
    try:
        return None if found is None else (float(found[1]), found[2])
    except ValueError:
        return None
