"""Fields of a specification that vary: named by a dotted path, checked like a file, drawn from a unit cube.

TOML's tables -> `Range`; a range and a coordinate u in [0, 1] -> a value; a base `Specification` and values by dotted
path -> the specification that has them. With u one coordinate of a point,

    linear: low + u (high - low),    log: low (high / low)^u,    whole numbers: each of low..high alike.

Sets of phantoms and sweeps share this; which sections vary, and how their points are laid, is theirs.

References
----------
S. Joe and F. Y. Kuo, SIAM J. Sci. Comput. 30 (2008) 2635, doi:10.1137/070709359 (direction numbers).
"""

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeGuard

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from npsi_twin.errors import ParameterError
from npsi_twin.recipes import Recipe
from npsi_twin.seeds import Seeds
from npsi_twin.specification import Specification

Draw = Literal["sobol", "plain"]
_KEYS = ("low", "high", "scale", "choices")
_BITS = 30


@dataclass(frozen=True)
class Range:
    """What one field, or one section, may be.

    Attributes
    ----------
    path
        Where it stands in a specification, for example ``("electrode", "silicon", "porosity_fraction")``.
    low, high
        Ends of a range of numbers, both possible; whole numbers where the field holds whole numbers.
    log
        Whether the logarithm is drawn evenly.
    choices
        What is chosen from, each alike; empty for a range of numbers.
    """

    path: tuple[str, ...]
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    choices: tuple[Any, ...] = ()

    @property
    def name(self) -> str:
        """The dotted path."""
        return ".".join(self.path)

    def at(self, u: float) -> Any:
        """Return the value at a coordinate u in [0, 1].

        Examples
        --------
        >>> Range(("a",), 1.0, 100.0, log=True).at(0.5), Range(("a",), 1, 3).at(0.99)
        (10.0, 3)
        """
        if self.choices:
            return self.choices[min(int(u * len(self.choices)), len(self.choices) - 1)]
        if isinstance(self.low, int):
            # Every whole number owns one step of the scale, its end ones included.
            drawn = math.floor(_between(self.low - 0.5, self.high + 0.5, u, log=self.log) + 0.5)
            return min(max(drawn, self.low), int(self.high))
        return min(max(_between(self.low, self.high, u, log=self.log), self.low), self.high)

    def says(self) -> str:
        """Return the range for people."""
        if self.choices:
            return "one of " + ", ".join(_plain(choice) for choice in self.choices)
        return f"{self.low:g} to {self.high:g}" + (", evenly in the logarithm" if self.log else "")


def _between(low: float, high: float, u: float, *, log: bool) -> float:
    return low * (high / low) ** u if log else low + u * (high - low)


def _plain(choice: Any) -> str:
    if isinstance(choice, Mapping):
        return "(" + ", ".join(f"{key} = {value}" for key, value in choice.items()) + ")"
    return str(choice)


def leaves(tree: Mapping[str, Any], path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    """Return paths and what stands there; a key with dots in quotes is a path too."""
    found: list[tuple[tuple[str, ...], Any]] = []
    for key, value in tree.items():
        here = (*path, *key.split("."))
        if isinstance(value, dict) and value and not set(value) & set(_KEYS):
            found += leaves(value, here)
        else:
            found.append((here, value))
    return found


def range_of(path: tuple[str, ...], entry: Any) -> Range:
    """Return the range that a table states: low and high, with scale, or choices.

    Raises
    ------
    ParameterError
        For a path that names no field, ends outside its limits or in the wrong order, and choices of a wrong type.

    Examples
    --------
    >>> range_of(("electrode", "silicon", "porosity_fraction"), {"low": 0.5, "high": 0.7}).says()
    '0.5 to 0.7'
    """
    name, check = ".".join(path), checked(path)
    if not isinstance(entry, dict) or not set(entry) <= set(_KEYS):
        raise ParameterError(
            f"{name} = {entry!r}: a range is a table of low and high, with scale = 'linear' or 'log', or of choices. "
            f"For a value that stays, give {path[-1]} = {{ choices = [...] }} with one choice."
        )
    if "choices" in entry:
        choices = entry["choices"]
        if len(entry) > 1 or not isinstance(choices, list) or not choices:
            raise ParameterError(f"{name}: choices are a list of at least one value, without low, high or scale.")
        return Range(path, choices=tuple(check(name, choice) for choice in choices))
    low, high, scale = entry.get("low"), entry.get("high"), entry.get("scale", "linear")
    if not _is_number(low) or not _is_number(high):
        raise ParameterError(f"{name}: low = {low!r}, high = {high!r}; two finite numbers are needed, or choices.")
    if low > high:
        raise ParameterError(f"{name}: low = {low!r} is larger than high = {high!r}. Exchange them.")
    if scale not in ("linear", "log") or (scale == "log" and low <= 0):
        raise ParameterError(
            f"{name}: scale = {scale!r} from {low!r}; 'linear' is for any numbers, 'log' for numbers above 0."
        )
    ends = check(name, low), check(name, high)
    if not all(_is_number(end) for end in ends):
        raise ParameterError(f"{name}: holds no number. Give choices.")
    return Range(path, *ends, log=scale == "log")


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _find(path: Sequence[str]) -> tuple[type[Recipe], str]:
    """Return the recipe that holds a field, and the field's name."""
    name = ".".join(path)
    holder: type[Recipe] = Specification
    for number, key in enumerate(path):
        known = holder.model_fields
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean '{near[0]}'?" if near else f"known here: {', '.join(known)}."
            raise ParameterError(f"'{name}' is not a field; {hint}")
        if number == len(path) - 1:
            return holder, key
        inner = known[key].annotation
        if not (isinstance(inner, type) and issubclass(inner, Recipe)):
            raise ParameterError(f"'{name}' is not a field; {'.'.join(path[: number + 1])} has no parts.")
        holder = inner
    raise AssertionError("a path has at least one part")


def checked(path: Sequence[str]) -> Callable[[str, Any], Any]:
    """Return a function that gives a value as a field keeps it, or says why the field cannot hold it.

    Raises
    ------
    ParameterError
        When the path names no field.
    """
    holder, field = _find(path)
    info = holder.model_fields[field]
    kind: Any = info.annotation
    section = isinstance(kind, type) and issubclass(kind, BaseModel)
    limited: Any = Annotated[(kind, *info.metadata)] if info.metadata else kind
    adapter: TypeAdapter[Any] | None = (
        None if section else TypeAdapter(limited, config=ConfigDict(strict=True, allow_inf_nan=False))
    )
    unit = (info.json_schema_extra or {}).get("unit", "") if isinstance(info.json_schema_extra, dict) else ""

    def check(name: str, value: Any) -> Any:
        try:
            if adapter is not None:
                return adapter.validate_python(value)
            if not isinstance(value, dict):
                raise ParameterError(f"{name}: is a section; its choices are tables of its fields. Got {value!r}.")
            kind.model_validate(value)
        except ValidationError as error:
            found = error.errors()[0]
            where = ".".join(str(part) for part in (name, *found["loc"]))
            given = f"{found['input']!r} {unit}".rstrip()
            raise ParameterError(f"{where} = {given}: {found['msg'].removeprefix('Value error, ')}.") from None
        return value

    return check


def unit_point(draw: Draw, stream: str, size: int, number: int, attempt: int, *, seeds: Seeds) -> NDArray[np.float64]:
    """Return a point of the unit cube, each coordinate the middle of one of 2**30 cells.

    Parameters
    ----------
    draw
        ``"sobol"`` for the Sobol sequence shifted digitally by random bits, ``"plain"`` for independent points.
    stream
        Name of the stream of `Seeds` that draws.
    size
        Coordinates.
    number
        Of the point; it follows from its number alone, so that a set can grow.
    attempt
        0, and the next for another sequence.
    seeds
        Root of the stream.
    """
    if size == 0:
        return np.empty(0)
    if draw == "plain":
        cells = seeds.stream(stream, attempt, number).integers(1 << _BITS, size=size)
    else:
        from scipy.stats.qmc import Sobol

        bare = Sobol(size, scramble=False, bits=_BITS).fast_forward(number).random(1)[0] if number else np.zeros(size)
        # Shifted by the same random bits throughout, the sequence keeps its evenness and loses its origin.
        shift = seeds.stream(stream, attempt).integers(1 << _BITS, size=size)
        cells = np.bitwise_xor((bare * (1 << _BITS)).astype(np.int64), shift)
    return np.asarray((cells + 0.5) / (1 << _BITS), np.float64)


def with_values(base: Specification, values: Mapping[str, Any]) -> Specification:
    """Return a specification with some values changed, by dotted path.

    Raises
    ------
    ParameterError
        When they do not fit together; one line a fault.

    Examples
    --------
    >>> with_values(Specification(), {"microscope.stage.views": 181}).microscope.stage.views
    181
    """
    tree = base.model_dump()
    for name, value in values.items():
        *path, field = name.split(".")
        holder = tree
        for key in path:
            holder = holder[key]
        # A section's choice is a whole state: what it leaves out is as the recipe has it.
        holder[field] = value
    try:
        return Specification.model_validate(tree)
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}".lstrip(": ") for fault in error.errors())
        raise ParameterError("\n".join(faults)) from None
