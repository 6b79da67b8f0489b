"""Rows for real, already segmented volumes: Berea sandstone and an NMC electrode, measured by `measure`."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from npsi_twin.morphology.measure import Measurements, measure, relabel
from npsi_twin.volumes import Phase, Volume

BEREA = "berea_100_to_300.npz"
NMC = "nmc-1-cal_generatedCBD_bridge.tif"


def data_folder() -> Path:
    """Return the folder of the real data sets."""
    root = Path(__file__).resolve().parents[2]
    return Path(os.environ.get("NPSI_TWIN_REAL_DATA", root.parent / "shared" / "data"))


def rows() -> list[dict[str, Any]]:
    """Measure both volumes; a file that is absent gives a row that says so and passes nothing."""
    folder = data_folder()
    found: list[dict[str, Any]] = []
    for name, measured in ((BEREA, _berea), (NMC, _nmc)):
        if (folder / name).is_file():
            found += measured(folder / name)
        else:
            found.append(
                {"requirement": name, "required": "the file", "measured": "not there; not measured", "passed": None}
            )
    return found


def _berea(path: Path) -> list[dict[str, Any]]:
    with np.load(path) as stored:
        rock = relabel(Volume(stored["im"], 5345.0), {1: Phase.VOID, 0: Phase.SILICON})
    found = measure(rock)
    return [
        _fraction("Berea sandstone (200^3, OpenPNM): porosity", found["porosity_layer"].value, 0.199),
        _report("Berea sandstone: specific surface of the pores", found, "specific_surface_per_um"),
    ]


def _nmc(path: Path) -> list[dict[str, Any]]:
    image = Volume(tifffile.imread(path), 398.0)
    found = measure(relabel(image, {0: Phase.VOID, 1: Phase.SILICON, 2: Phase.CARBON_BINDER}))
    return [
        _fraction(
            "NMC electrode (251 x 301 x 301, NREL): NMC fraction", found["silicon_volume_fraction"].value, 0.4995
        ),
        _report("NMC electrode: specific surface of NMC", found, "specific_surface_per_um"),
    ]


def _fraction(requirement: str, value: float, expected: float) -> dict[str, Any]:
    return {
        "requirement": requirement,
        "required": f"{expected} +- 0.001",
        "measured": f"{value:.5f}",
        "passed": bool(abs(value - expected) <= 0.001),
    }


def _report(requirement: str, found: Measurements, name: str) -> dict[str, Any]:
    number = found[name]
    return {
        "requirement": requirement,
        "required": "reported",
        "measured": f"{number.value:.4g} +- {number.spread:.2g} {number.unit} (sd of {number.n} blocks)",
        "passed": None,
    }
