"""What varies between training phantoms, and how it is drawn.

TOML text, a base `Specification` -> `Ranges`; `Ranges`, a base, `Seeds` and the number of a specimen or a scan -> a
drawn `Specification`. A range names a field by its dotted path and gives ``low`` and ``high`` (and ``scale = "log"``)
or ``choices``; a path that names a section has choices that are tables of its fields, drawn together.

With u in (0, 1) one coordinate of a point,

    linear: low + u (high - low),    log: low (high / low)^u,    whole numbers: each of low..high alike,

and points are the Sobol sequence shifted digitally by random bits (``draw = "sobol"``), so that a small set already
covers its ranges evenly, or independent (``"plain"``). Point i follows from the root seed, its number and the attempt
alone: a set can grow, and any case can be made again without the others.

References
----------
S. Joe and F. Y. Kuo, SIAM J. Sci. Comput. 30 (2008) 2635, doi:10.1137/070709359 (direction numbers).
J. Tobin et al., "Domain randomization", IROS (2017) 23, doi:10.1109/IROS.2017.8202133.
"""

import difflib
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, TypeGuard

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from npsi_twin.errors import DataError, ParameterError
from npsi_twin.recipes import Recipe
from npsi_twin.seeds import Seeds
from npsi_twin.specification import Specification

Draw = Literal["sobol", "plain"]
Part = Literal["specimen", "scan"]

#: Sections that make a specimen, and those that make its image; the others change neither truth nor image.
_PARTS: dict[Part, tuple[str, ...]] = {"specimen": ("electrode", "ageing"), "scan": ("microscope", "reconstruction")}
_KEYS = ("low", "high", "scale", "choices")
_BITS = 30
_LARGEST_FILE_BYTES = 1_000_000


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
        """Return the value at a coordinate u in (0, 1).

        Examples
        --------
        >>> Range(("a",), 1.0, 100.0, log=True).at(0.5), Range(("a",), 1, 3).at(0.99)
        (10.0, 3)
        """
        if self.choices:
            return self.choices[int(u * len(self.choices))]
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


@dataclass(frozen=True)
class Ranges:
    """Everything that varies, in the order of the file.

    Attributes
    ----------
    ranges
        What varies.
    draw
        How points are laid.
    text
        The file, as it was read.
    """

    ranges: tuple[Range, ...]
    draw: Draw
    text: str

    def of(self, part: Part) -> tuple[Range, ...]:
        """Return the ranges that concern the specimen, or its scan."""
        return tuple(entry for entry in self.ranges if entry.path[0] in _PARTS[part])


def shipped_ranges() -> str:
    """Return the text of the ranges that the package ships."""
    return files("npsi_twin.phantoms").joinpath("ranges.toml").read_text(encoding="utf-8")


def load_ranges(path: Path | None) -> Ranges:
    """Read ranges from a file; those that the package ships when None.

    Raises
    ------
    DataError
        When the file cannot be read.
    ParameterError
        See `parse_ranges`.
    """
    if path is None:
        return parse_ranges(shipped_ranges(), "ranges.toml")
    try:
        if path.stat().st_size > _LARGEST_FILE_BYTES:
            raise ParameterError(f"{path}: larger than 1 MB; ranges are a few kB of TOML.")
        return parse_ranges(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}). Give a TOML file of ranges with --vary.") from None


def parse_ranges(text: str, where: str = "ranges") -> Ranges:
    r"""Read ranges from TOML text.

    Raises
    ------
    ParameterError
        For broken TOML, paths that name no field that varies an image or its truth, ends outside a field's limits or
        in the wrong order, and choices of a wrong type; one line a fault.

    Examples
    --------
    >>> found = parse_ranges("[electrode.silicon]\nporosity_fraction = {low = 0.5, high = 0.7}")
    >>> found.ranges[0].name, found.ranges[0].says()
    ('electrode.silicon.porosity_fraction', '0.5 to 0.7')
    """
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ParameterError(f"{where}: not valid TOML: {error}.") from None
    draw = tree.pop("draw", "sobol")
    faults = []
    if draw not in ("sobol", "plain"):
        faults.append(f"draw = {draw!r}; points are drawn by 'sobol' or 'plain'.")
    ranges = []
    for path, entry in _leaves(tree, ()):
        try:
            ranges.append(_range(path, entry))
        except ParameterError as error:
            faults.append(str(error))
    names = [entry.name for entry in ranges]
    faults += [
        f"{one}: varies beside {other}, which holds it. Give one of them."
        for one in names
        for other in names
        if one.startswith(f"{other}.")
    ]
    faults += [f"{name}: is given twice." for name in sorted(set(names)) if names.count(name) > 1]
    if faults:
        raise ParameterError("\n".join(f"{where}: {fault}" for fault in faults))
    return Ranges(tuple(ranges), draw, text)


def _leaves(tree: Mapping[str, Any], path: tuple[str, ...]) -> list[tuple[tuple[str, ...], Any]]:
    """Return paths and what stands there; a key with dots in quotes is a path too."""
    found: list[tuple[tuple[str, ...], Any]] = []
    for key, value in tree.items():
        here = (*path, *key.split("."))
        if isinstance(value, dict) and value and not set(value) & set(_KEYS):
            found += _leaves(value, here)
        else:
            found.append((here, value))
    return found


def _range(path: tuple[str, ...], entry: Any) -> Range:
    name, (holder, field) = ".".join(path), _find(path)
    if not isinstance(entry, dict) or not set(entry) <= set(_KEYS):
        raise ParameterError(
            f"{name} = {entry!r}: a range is a table of low and high, with scale = 'linear' or 'log', or of choices. "
            f"For a value that stays, give {path[-1]} = {{ choices = [...] }} with one choice."
        )
    check = _checked(holder, field)
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
    name, varying = ".".join(path), [section for sections in _PARTS.values() for section in sections]
    if path[0] not in varying:
        raise ParameterError(
            f"'{name}': only {', '.join(varying)} vary; nothing else changes the image or its truth (the seed of every "
            "case is drawn). Put it into the base specification."
        )
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


def _checked(holder: type[Recipe], field: str) -> Any:
    """Return a function that gives a value as the field keeps it, or says why the field cannot hold it."""
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


def draw_values(ranges: Ranges, part: Part, number: int, attempt: int, *, seeds: Seeds) -> dict[str, Any]:
    r"""Draw what varies of one specimen, or of one scan.

    Parameters
    ----------
    ranges
        What varies.
    part
        ``"specimen"`` for electrode and ageing, ``"scan"`` for microscope and reconstruction.
    number
        Number of the specimen, or of the scan, in its set.
    attempt
        0, and the next for every attempt that came to nothing.
    seeds
        Root of the streams ``"phantom specimen"`` and ``"phantom scan"``.

    Returns
    -------
    dict
        Dotted path -> value.

    Examples
    --------
    >>> found = parse_ranges("[electrode.silicon]\nporosity_fraction = {low = 0.5, high = 0.7}")
    >>> drawn = [draw_values(found, "specimen", i, 0, seeds=Seeds(1)) for i in range(2)]
    >>> [round(values["electrode.silicon.porosity_fraction"], 3) for values in drawn]
    [0.556, 0.656]
    """
    taken = ranges.of(part)
    point = _point(ranges.draw, f"phantom {part}", len(taken), number, attempt, seeds)
    return {entry.name: entry.at(float(u)) for entry, u in zip(taken, point, strict=True)}


def _point(draw: Draw, stream: str, size: int, number: int, attempt: int, seeds: Seeds) -> NDArray[np.float64]:
    """Return a point of the unit cube, each coordinate the middle of one of 2**30 cells."""
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
