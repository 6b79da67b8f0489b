"""What the seed paper printed: every quantitative statement as a typed, cited record.

Takes -> gives: `zhao2018.toml` beside this file -> `Paper`, with its `Published` records and the `ValidationTarget`s
that follow from them.

A record keeps how its number may be read: a printed value, an inequality, a direction without a number, or a number
that only a figure holds, which was not available. Nothing is filled in: what the paper does not print has the value
None.

References
----------
C. Zhao et al., Nano Energy 52 (2018) 381-390.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Literal, cast

from npsi_twin.errors import DataError, ParameterError

Relation = Literal["eq", "approx", "gt", "ge", "lt", "range", "upto"]
HowRead = Literal["stated", "stated_approx", "bound", "qualitative", "figure_only"]
Value = float | str | tuple[float | str, ...] | Mapping[str, float] | None

_EMPTY: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Published:
    """One statement of the paper.

    Attributes
    ----------
    id
        Name of the record.
    value
        Number, text, list or named numbers in `unit`; None where the paper prints none.
    spread
        Standard deviation as printed, in `unit`; None where none is printed.
    relation
        Relation of the true quantity to `value`.
    unit
        Unit, as the paper uses it.
    section, figure
        Where it stands.
    origin
        ``"text"``, ``"caption"`` or ``"abstract"``.
    how_read
        What kind of statement it is.
    condition
        ``mode`` (mAh/g), ``cycle``, ``soc`` where it holds for one state only.
    note
        The paper's words, and what was taken from them.
    n
        Over how many independent values `spread` was taken; None where the paper does not say.
    """

    id: str
    value: Value
    spread: float | None
    relation: Relation
    unit: str
    section: str
    figure: str
    origin: Literal["text", "caption", "abstract"]
    how_read: HowRead
    condition: Mapping[str, Any] = field(default_factory=lambda: _EMPTY)
    note: str = ""
    n: int | None = None

    def number(self) -> float:
        """Return the value as a number, or say that it is none.

        Raises
        ------
        ParameterError
            The paper prints no single number here.
        """
        if isinstance(self.value, int | float):
            return float(self.value)
        raise ParameterError(
            f"published record {self.id!r}: its value is {self.value!r}; a single number is needed, and the "
            f"paper prints none "
            f"here ({self.how_read}). Choose a record with a value, or compare by its relation only."
        )

    def text(self) -> str:
        """Return value, spread, relation and unit as one would print them."""
        signs = {"eq": "", "approx": "~", "gt": "> ", "ge": ">= ", "lt": "< ", "upto": "up to ", "range": ""}
        if self.value is None:
            return "no number printed"
        value = f"{self.value:g}" if isinstance(self.value, int | float) else str(self.value)
        spread = f" +- {self.spread:g}" if self.spread is not None else ""
        return f"{signs[self.relation]}{value}{spread} {self.unit}".strip()


@dataclass(frozen=True)
class ValidationTarget:
    """What a comparison may demand of the twin, derived from records.

    Attributes
    ----------
    id, expression
        Name, and what is to be computed.
    kind
        ``"value"`` (inside low to high), ``"lower_bound"`` or ``"ordering"``.
    value, low, high
        Number and its limits; None where there are none.
    from_records
        Ids of the records it rests on.
    note
        Remarks.
    """

    id: str
    expression: str
    kind: Literal["value", "lower_bound", "ordering"]
    value: float | None = None
    low: float | None = None
    high: float | None = None
    from_records: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Paper:
    """A paper's records and the targets that follow from them.

    Attributes
    ----------
    citation, doi
        How to cite it.
    doi_verified
        False while nobody has resolved the DOI.
    records, targets
        By id, in the order of the paper.
    """

    citation: str
    doi: str
    doi_verified: bool
    records: Mapping[str, Published]
    targets: Mapping[str, ValidationTarget]

    def __getitem__(self, record: str) -> Published:
        """Return one record by its id."""
        return self.records[record]


@cache
def zhao2018() -> Paper:
    """Return the seed paper's published measurements.

    Raises
    ------
    DataError
        The file that is shipped with the package is damaged.

    Examples
    --------
    >>> paper = zhao2018()
    >>> paper["pristine_thickness"].text()
    '2 +- 0.5 um'
    >>> paper["thick_1000_500"].how_read, paper["thick_1000_500"].relation
    ('bound', 'gt')
    """
    with files("npsi_twin.comparison").joinpath("zhao2018.toml").open("rb") as stream:
        tree = tomllib.load(stream)
    records = {r["id"]: _record(r) for r in tree["record"]}
    targets = {t["id"]: _target(t) for t in tree["target"]}
    if len(records) != len(tree["record"]) or len(targets) != len(tree["target"]):
        raise DataError(
            "zhao2018.toml: an id occurs twice; every record and target needs its own. Reinstall the package, "
            "whose file was damaged."
        )
    paper = tree["paper"]
    return Paper(
        paper["citation"], paper["doi"], paper["doi_verified"], MappingProxyType(records), MappingProxyType(targets)
    )


def _record(table: dict[str, Any]) -> Published:
    value = table.get("value")
    if isinstance(value, list):
        value = tuple(value)
    elif isinstance(value, dict):
        value = MappingProxyType(value)
    return Published(
        id=table["id"],
        value=cast(Value, value),
        spread=table.get("spread"),
        relation=table["relation"],
        unit=table.get("unit", ""),
        section=table["section"],
        figure=str(table.get("figure", "")),
        origin=table["origin"],
        how_read=table["how_read"],
        condition=MappingProxyType(table.get("condition", {})),
        note=table.get("note", ""),
        n=table.get("n"),
    )


def _target(table: dict[str, Any]) -> ValidationTarget:
    return ValidationTarget(
        id=table["id"],
        expression=table["expression"],
        kind=table["kind"],
        value=table.get("value"),
        low=table.get("low"),
        high=table.get("high"),
        from_records=tuple(table.get("from", ())),
        note=table.get("note", ""),
    )
