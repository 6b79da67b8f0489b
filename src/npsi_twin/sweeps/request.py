"""What a sweep asks for: a base, what varies, how the points are laid, how far the twins go and what is recorded.

TOML text -> `Sweep`, checked against the specification before anything runs; `sweep_text` writes it back so that a
sweep's folder can be made again from itself.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from npsi_twin.errors import ParameterError
from npsi_twin.morphology.measure import measure
from npsi_twin.recipes import Recipe, parameter
from npsi_twin.specification import (
    Specification,
    load_specification,
    parse_values,
    preset_specification,
    toml_value,
)
from npsi_twin.toml_files import parse_toml, read_toml_text
from npsi_twin.variations import Range, checked, leaves, range_of, with_values
from npsi_twin.volumes import Volume

Design = Literal["grid", "list", "latin-hypercube", "sobol", "saltelli", "morris"]
Until = Literal["build", "scan", "reconstruct", "segment", "measure", "compare", "report"]

BASE = "base.toml"
#: Fields that a sweep sets itself, and how to ask for it.
_OWN = {"seed": "give replicates = N, and a seed for the sweep", "name": "give it to the base specification"}
_SECTIONS = ("base", "vary", "list", "preset", "specification")


class SweepRecipe(Recipe):
    """How points are laid, how often each is made, how far its twins go, and what is kept of them."""

    design: Design = parameter("grid", "how points are laid; saltelli and morris need the extra sensitivity")
    points: int = parameter(
        16, "points; base samples for saltelli, trajectories for morris", source="assumed", ge=1, le=100_000
    )
    replicates: int = parameter(1, "twins of every point, with other seeds", source="assumed", ge=1, le=10_000)
    seeds: Literal["common", "own"] = parameter(
        "common", "whether a replicate has the same seed at every point, or every twin its own", source="assumed"
    )
    seed: int = parameter(42, "root of the design and of every twin's seed", ge=0)
    until: Until = parameter("compare", "last stage of every twin; before measure, the truth alone is measured")
    record: Annotated[tuple[str, ...], Field(strict=False)] = parameter(
        (), "quantities in the table; every one when empty"
    )
    keep: bool = parameter(False, "whether the folder of every twin is kept", source="assumed: its record is enough")


@dataclass(frozen=True)
class Sweep:
    """A sweep, ready to be made.

    Attributes
    ----------
    recipe
        How.
    base
        What does not vary.
    ranges
        What varies, in the order of the file; for a grid each is a range of choices.
    rows
        The points of a list: dotted path -> value.
    """

    recipe: SweepRecipe
    base: Specification
    ranges: tuple[Range, ...]
    rows: tuple[Mapping[str, Any], ...] = ()

    @property
    def varied(self) -> tuple[str, ...]:
        """Names of the fields that vary."""
        return tuple(
            dict.fromkeys([*(entry.name for entry in self.ranges), *(name for row in self.rows for name in row)])
        )


def template() -> str:
    """Return the text of an example."""
    return files("npsi_twin.sweeps").joinpath("template.toml").read_text(encoding="utf-8")


def load_sweep(path: Path) -> Sweep:
    """Read a sweep from a file; a specification that it names is looked for beside it.

    Raises
    ------
    DataError
        When the file cannot be read.
    ParameterError
        See `parse_sweep`.
    """
    text = read_toml_text(path, "a TOML file, for example from `npsi-twin sweep --template`")
    return parse_sweep(text, str(path), beside=path.parent)


def parse_sweep(text: str, where: str = "sweep", *, beside: Path = Path()) -> Sweep:
    r"""Read a sweep from TOML text.

    Parameters
    ----------
    text
        See `template`.
    where
        What messages call it.
    beside
        Folder in which a named specification is looked for.

    Raises
    ------
    ParameterError
        For broken TOML, fields that are none, values that may not be, and parts that do not fit the design; one line a
        fault.

    Examples
    --------
    >>> sweep = parse_sweep("until = 'build'\n[vary]\nmicroscope.stage.views = {choices = [61, 121]}")
    >>> sweep.varied, sweep.ranges[0].says()
    (('microscope.stage.views',), 'one of 61, 121')
    """
    tree = parse_toml(text, where)
    try:
        return _sweep(tree, beside)
    except ParameterError as error:
        raise ParameterError("\n".join(f"{where}: {line}" for line in str(error).splitlines())) from None


def _sweep(tree: dict[str, Any], beside: Path) -> Sweep:
    parts = {name: tree.pop(name) for name in _SECTIONS if name in tree}
    for name in tree:
        if name not in SweepRecipe.model_fields:
            known = [*_SECTIONS, *SweepRecipe.model_fields]
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean '{near[0]}'?" if near else f"known here: {', '.join(known)}."
            raise ParameterError(f"'{name}' is not a field; {hint}")
    recipe = parse_values(SweepRecipe(), tree, "sweep")
    for name, kind in (("base", dict), ("vary", dict), ("list", list), ("preset", str), ("specification", str)):
        if not isinstance(parts.get(name, kind()), kind):
            raise ParameterError(f"{name}: got {parts[name]!r}; see `npsi-twin sweep --template`.")
    _check_names(recipe)
    base, faults = _base(parts, beside), []
    ranges, rows = [], []
    for path, entry in leaves(parts.get("vary", {})):
        try:
            ranges.append(_range(path, entry, recipe.design))
        except ParameterError as error:
            faults.append(str(error))
    for number, row in enumerate(parts.get("list", []), start=1):
        try:
            rows.append(_checked_values(row))
        except ParameterError as error:
            faults.append(f"list, point {number}: {error}")
    names = [entry.name for entry in ranges]
    faults += [
        f"{one}: varies beside {other}, which holds it. Give one of them."
        for one in names
        for other in names
        if one.startswith(f"{other}.")
    ]
    faults += [f"{name}: is given twice." for name in sorted(set(names)) if names.count(name) > 1]
    if recipe.design == "list" and (ranges or not rows):
        faults.append("design = 'list': points are the tables [[list]], at least one, and [vary] is for other designs.")
    if recipe.design != "list" and (rows or (not ranges and not faults)):
        faults.append(
            f"design = '{recipe.design}': what varies are the tables below [vary], at least one, and [[list]] is for "
            "design = 'list'."
        )
    if faults:
        raise ParameterError("\n".join(faults))
    return Sweep(recipe, base, tuple(ranges), tuple(rows))


def _base(parts: Mapping[str, Any], beside: Path) -> Specification:
    if "preset" in parts and "specification" in parts:
        raise ParameterError("got both preset and specification; give one of them.")
    if "specification" in parts:
        base = load_specification(beside / parts["specification"])
    else:
        base = preset_specification(parts.get("preset", "demo"))
    return with_values(base, _checked_values(parts.get("base", {})))


def _checked_values(tree: Any) -> dict[str, Any]:
    """Return dotted path -> value of a table of fields."""
    if not isinstance(tree, dict):
        raise ParameterError(f"got {tree!r}; a table of fields is needed.")
    values = {}
    for name, value in _fields(tree):
        _check_free(name)
        values[name] = checked(tuple(name.split(".")))(name, value)
    return values


def _fields(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found = []
    for key, value in tree.items():
        here = f"{prefix}{key}"
        found += _fields(value, f"{here}.") if isinstance(value, dict) else [(here, value)]
    return found


def _check_free(name: str) -> None:
    if name in _OWN:
        raise ParameterError(f"{name}: is not for [vary], [base] or [[list]]; {_OWN[name]}.")


def _range(path: tuple[str, ...], entry: Any, design: Design) -> Range:
    name = ".".join(path)
    _check_free(name)
    steps = None
    if isinstance(entry, dict) and "steps" in entry:
        entry = dict(entry)
        steps = entry.pop("steps")
        if design != "grid" or "choices" in entry:
            raise ParameterError(f"{name}: steps = {steps!r} is for a grid, and for low and high.")
        if isinstance(steps, bool) or not isinstance(steps, int) or not 1 < steps <= 10_000:
            raise ParameterError(f"{name}: steps = {steps!r}; a whole number from 2 to 10000 is needed, ends included.")
    found = range_of(path, entry)
    if design == "grid" and not found.choices:
        if steps is None:
            raise ParameterError(f"{name}: low and high in a grid need steps, for example steps = 5; or give choices.")
        levels = dict.fromkeys(found.at(k / (steps - 1)) for k in range(steps))
        return Range(path, choices=tuple(levels))
    return found


def _check_names(recipe: SweepRecipe) -> None:
    if recipe.record:
        known = list(measure(Volume(np.zeros((2, 4, 4), np.uint8), 50.0)).quantities)
        if unknown := [name for name in recipe.record if name not in known]:
            raise ParameterError(f"record: {', '.join(unknown)} is not measured; known are {', '.join(known)}.")


def sweep_text(sweep: Sweep) -> str:
    r"""Write a sweep as TOML that reads back to it, beside a `BASE` that holds its base.

    Examples
    --------
    >>> text = sweep_text(parse_sweep("[vary]\nmicroscope.stage.views = {low = 61, high = 121, steps = 2}"))
    >>> text.splitlines()[-1]
    '"microscope.stage.views" = { choices = [61, 121] }'
    """
    recipe = sweep.recipe
    lines = [f"{name} = {toml_value(getattr(recipe, name))}" for name in type(recipe).model_fields]
    lines.append(f'specification = "{BASE}"')
    if sweep.ranges:
        lines += ["", "[vary]", *(f'"{entry.name}" = {_entry(entry)}' for entry in sweep.ranges)]
    for row in sweep.rows:
        lines += ["", "[[list]]", *(f'"{name}" = {toml_value(value)}' for name, value in row.items())]
    return "\n".join(lines) + "\n"


def _entry(entry: Range) -> str:
    if entry.choices:
        return f"{{ choices = {toml_value(entry.choices)} }}"
    scale = ', scale = "log"' if entry.log else ""
    return f"{{ low = {toml_value(entry.low)}, high = {toml_value(entry.high)}{scale} }}"
