"""The one table of a sweep: a row a twin, in the order of the design, and what its columns mean.

Twins and their records -> ``sweep.csv`` (and Parquet), ``columns.csv``. What a twin has not is an empty field.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from npsi_twin.errors import MissingBackendError
from npsi_twin.morphology.measure import measure
from npsi_twin.recipes import describe
from npsi_twin.sweeps.designs import Twin
from npsi_twin.sweeps.request import Sweep
from npsi_twin.volumes import Volume

#: Of a quantity, where truth and recovered are compared; and its meaning.
_COMPARED = {
    "truth": "in the truth",
    "truth_spread": "its standard deviation over columns or blocks, in the truth",
    "recovered": "in the recovered volume",
    "recovered_spread": "its standard deviation over columns or blocks, in the recovered volume",
    "bias": "recovered less truth",
}
_TRUE = ("truth", "truth_spread")
ACCURACY = {
    "dice_silicon": "Dice of the silicon, 1 where truth and recovered agree",
    "iou_silicon": "intersection of true and recovered silicon over their union",
    "dice_silicon_layer": "Dice of the silicon within the layer",
    "iou_silicon_layer": "intersection over union of the silicon within the layer",
}
_FACTS = {
    "key": "name of the row and of its files in twins/",
    "point": "number of the point in the design",
    "replicate": "number of the twin at that point",
    "seed": "root of the twin's random numbers",
    "status": "made; failed: the twin cannot be; missing: this machine could not make it",
    "reason": "why not",
    "warnings": "how often a model says that it is used out of its range; see the record",
}


def compares(sweep: Sweep) -> bool:
    """Tell whether the twins go far enough to have something recovered."""
    return sweep.recipe.until in ("measure", "compare", "report")


def columns(sweep: Sweep) -> list[tuple[str, str, str]]:
    """Return name, unit and meaning of every column, in order."""
    fields = {leaf.path: leaf for leaf in describe(sweep.base)}
    known = measure(Volume(np.zeros((2, 4, 4), np.uint8), 50.0)).quantities
    found = [(name, "", meaning) for name, meaning in _FACTS.items()]
    after_seed = list(_FACTS).index("seed") + 1
    found[after_seed:after_seed] = [
        (name, fields[name].unit, fields[name].description) if name in fields else (name, "", "section, as a table")
        for name in sweep.varied
    ]
    for quantity in sweep.recipe.record or tuple(known):
        for part in _COMPARED if compares(sweep) else _TRUE:
            found.append((f"{quantity}_{part}", known[quantity].unit, f"{quantity} {_COMPARED[part]}"))
    if sweep.recipe.until in ("compare", "report"):
        found += [(name, "", meaning) for name, meaning in ACCURACY.items()]
    return found


def table_row(twin: Twin, record: Mapping[str, Any] | None, missing: str) -> dict[str, Any]:
    """Return a row; ``missing`` says why there is no record."""
    record = record or {"status": "missing", "reason": missing, "warnings": [], "quantities": {}, "accuracy": {}}
    row: dict[str, Any] = {
        "key": twin.key,
        "point": twin.point,
        "replicate": twin.replicate,
        "seed": twin.seed,
        **{name: _cell(value) for name, value in twin.values.items()},
        "status": record["status"],
        "reason": record["reason"],
        "warnings": len(record["warnings"]),
    }
    for quantity, entry in record["quantities"].items():
        row |= {f"{quantity}_{part}": entry.get(part) for part in _COMPARED}
    return row | dict(record["accuracy"])


def _cell(value: Any) -> Any:
    return value if isinstance(value, str | int | float | None) else json.dumps(value)


def table_csv(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as CSV; numbers read back to the very same."""
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def columns_csv(sweep: Sweep) -> str:
    """Return what the columns mean as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([("column", "unit", "meaning"), *columns(sweep)])
    return text.getvalue()


def check_parquet() -> None:
    """Refuse Parquet where nothing can write it.

    Raises
    ------
    MissingBackendError
        When pyarrow is not installed.
    """
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise MissingBackendError(
            "--parquet needs pyarrow, which is not installed. Install it with `pip install 'npsi-twin[parquet]'`, or "
            "use sweep.csv."
        ) from None


def write_parquet(path: Path, names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the table as Parquet; a column that holds texts and numbers holds texts."""
    import pyarrow
    from pyarrow import parquet

    table = {name: [row.get(name) for row in rows] for name in names}
    for name, cells in table.items():
        if any(isinstance(cell, str) for cell in cells):
            table[name] = [None if cell is None else str(cell) for cell in cells]
    parquet.write_table(pyarrow.table(table), path)
