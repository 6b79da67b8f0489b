"""Measurements, comparisons and scores on disk.

An HDF5 file keeps numbers, maps and curves, a CSV table is for people and spreadsheets, and JSON files keep what the
comparison found and how labels score, with null for what could not be measured.
"""

import csv
import io
import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from npsi_twin.comparison.agreement import Comparison
from npsi_twin.comparison.label_scores import LabelScores
from npsi_twin.comparison.stage_accuracy import StageAccuracy
from npsi_twin.errors import DataError
from npsi_twin.execution.files import written_hdf5
from npsi_twin.morphology.measure import Measured, Measurements
from npsi_twin.recipes import MadeBy
from npsi_twin.storage.hdf5 import OpenFile, open_hdf5
from npsi_twin.storage.units import text
from npsi_twin.volumes import Phase

_ARRAYS = ("thickness_map_nm", "inventory_map_um", "profile_distance_nm", "profile_normalised")
_COLUMNS = ("quantity", "unit", "truth", "truth_spread", "recovered", "recovered_spread", "bias", "n")


def write_measurements(path: Path, measured: Mapping[str, Measurements]) -> None:
    """Write the measurements of several volumes, for example ``{"truth": ..., "recovered": ...}``."""
    with written_hdf5(path, track_order=True) as file:
        for name, measurements in measured.items():
            group = file.create_group(name, track_order=True)
            group.attrs["recipe_digest"] = measurements.made_by.recipe_digest
            for array in _ARRAYS:
                group[array] = getattr(measurements, array)
            curves = group.create_group("curves", track_order=True)
            for curve, points in measurements.curves.items():
                curves[curve] = points
            quantities = group.create_group("quantities", track_order=True)
            for quantity, entry in measurements.quantities.items():
                data = quantities.create_dataset(quantity, data=entry.value)
                data.attrs.update({"spread": entry.spread, "n": entry.n, "unit": entry.unit, "note": entry.note})


def read_measurements(path: Path) -> dict[str, Measurements]:
    """Read what `write_measurements` wrote.

    Raises
    ------
    DataError
        When the file is missing or not of that kind.
    """
    try:
        with open_hdf5(path) as file:
            return {name: _read(file, name) for name in _names(file, "")}
    except DataError as error:
        raise DataError(f"{path}: holds no measurements ({error}). Run `npsi-twin measure` first.") from None


def _names(file: OpenFile, group: str) -> list[str]:
    """Return the names in a group, in the order of writing."""
    found = file.get(group)
    if not isinstance(found, h5py.Group):
        raise DataError(f"{file.path}: has no group /{group}.")
    return list(found)


def _read(file: OpenFile, name: str) -> Measurements:
    quantities = {}
    for quantity in _names(file, f"{name}/quantities"):
        data = file.dataset(f"{name}/quantities/{quantity}")
        facts = data.attrs
        quantities[quantity] = Measured(
            float(data[()]), float(facts["spread"]), int(facts["n"]), text(facts["unit"]), text(facts["note"])
        )
    arrays = {array: _numbers(file, f"{name}/{array}") for array in _ARRAYS}
    curves = {curve: _numbers(file, f"{name}/curves/{curve}") for curve in _names(file, f"{name}/curves")}
    group = file.get(name)
    made_by = MadeBy("measure", text(group.attrs["recipe_digest"]) if group is not None else "")
    return Measurements(quantities, **arrays, made_by=made_by, curves=curves)


def _numbers(file: OpenFile, name: str) -> NDArray[Any]:
    data = file.dataset(name)
    if data.dtype.kind not in "uif":
        raise DataError(f"{file.path}: /{name} is of type {data.dtype}; real numbers are needed.")
    return np.asarray(data[()])


def measurements_csv(comparison: Comparison) -> str:
    """Return the table of a comparison as CSV; what could not be measured is an empty field."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for row in comparison.rows:
        values = (getattr(row, name) for name in _COLUMNS)
        writer.writerow(["" if isinstance(value, float) and math.isnan(value) else value for value in values])
    return text.getvalue()


def comparison_json(
    comparison: Comparison, stage: StageAccuracy | None = None, scores: LabelScores | None = None
) -> str:
    """Return a comparison as JSON text: its rows, and where there is a truth, how well segmentation and stage do.

    Parameters
    ----------
    comparison
        Rows, and the confusion of phases.
    stage
        How well the stage's motion was found, where it is known.
    scores
        What `score_labels` found, where there is a truth.
    """
    tree: dict[str, Any] = {"rows": [asdict(row) for row in comparison.rows], "segmentation_accuracy": None}
    tree["stage_accuracy"] = None if stage is None else asdict(stage)
    accuracy = comparison.accuracy
    if accuracy is not None:
        tree["segmentation_accuracy"] = {
            "dice_silicon": accuracy.dice_silicon,
            "iou_silicon": accuracy.iou_silicon,
            "dice_silicon_layer": accuracy.dice_silicon_layer,
            "iou_silicon_layer": accuracy.iou_silicon_layer,
            "phases": [phase.name.lower() for phase in Phase],
            "confusion_true_by_recovered": accuracy.confusion.tolist(),
            "confusion_layer_true_by_recovered": accuracy.confusion_layer.tolist(),
        }
    tree["label_scores"] = None if scores is None else _scores(scores)
    return json.dumps(without_nan(tree), indent=2, allow_nan=False) + "\n"


def scores_tree(scores: LabelScores) -> dict[str, Any]:
    """Return what `score_labels` found as a tree for JSON, with None for what could not be scored or has no end."""
    accuracy = scores.accuracy
    tree = {
        **_scores(scores),
        "phases": [phase.name.lower() for phase in Phase],
        "confusion_true_by_recovered": None if accuracy is None else accuracy.confusion.tolist(),
        "confusion_layer_true_by_recovered": None if accuracy is None else accuracy.confusion_layer.tolist(),
        "software": scores.made_by.software,
    }
    return dict(without_nan(tree))


def _scores(scores: LabelScores) -> dict[str, Any]:
    """Return quantities and curves; the confusion of phases has a home of its own in either file."""
    curves = {name: getattr(scores, name) for name in ("by_distance", "by_ligament", "by_pore", "particles")}
    return {
        "quantities": {name: asdict(entry) for name, entry in scores.quantities.items()},
        "curves": {
            name: None if curve is None else {key: np.asarray(values).tolist() for key, values in vars(curve).items()}
            for name, curve in curves.items()
        },
        "recipe_digest": scores.made_by.recipe_digest,
    }


def without_nan(tree: Any) -> Any:
    """Return a tree for JSON, with None for what is not finite."""
    if isinstance(tree, dict):
        return {key: without_nan(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [without_nan(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def read_comparison(path: Path) -> dict[str, Any]:
    """Read what `comparison_json` made.

    Raises
    ------
    DataError
        When the file is missing or not of that kind.
    """
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(tree["rows"], list) and "segmentation_accuracy" in tree:
            return dict(tree)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise DataError(f"{path}: holds no comparison. Run `npsi-twin compare` first.")
