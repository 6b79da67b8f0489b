"""The data card of a set of phantoms: what it holds, how it was made, what it may be used for.

Records of all cases -> Markdown. Every number is counted from the records, none is told.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from npsi_twin.phantoms.draws import PhantomRecipe
from npsi_twin.phantoms.layouts import NNUNET_FOLDER, Layout
from npsi_twin.phantoms.ranges import Ranges
from npsi_twin.storage.volumes import PHASE_NAMES

_LICENCES = {
    "CC-BY-4.0": "https://creativecommons.org/licenses/by/4.0/",
    "CC0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
}
_FILES: dict[Layout, str] = {
    "nnunet": f"`{NNUNET_FOLDER}/` is a data set of nnU-Net v2: `imagesTr/CASE_0000.tif`, `labelsTr/CASE.tif`, the "
    "test in `imagesTs` and `labelsTs`, the voxel's edges in nm (z, y, x) in `CASE.json`. Training and validation are "
    "both in `imagesTr`; copy `splits_final.json` into the folder of preprocessed data to train by this split.",
    "tiff": "`cases/CASE/image.tif` and `labels.tif`: ImageJ TIFF with voxel size and unit.",
    "ome-zarr": "`cases/CASE/image.zarr`: OME-Zarr 0.5 with the labels in `labels/phase`.",
    "hdf5": "`cases/CASE/case.h5`: `attenuation_per_um` (image) and `phase` (labels), voxel size in `voxel_nm`.",
    "npz": "`cases/CASE/case.npz`: `attenuation_per_um` (image), `phase` (labels) and `voxel_nm`.",
}
#: Truth that says most about a specimen, of what every `case.json` holds.
_TOLD = ("porosity_layer", "thickness_silicon_um", "pore_size_nm", "ligament_size_nm", "specific_surface_per_um")


def data_card(
    recipe: PhantomRecipe,
    ranges: Ranges,
    root_seed: int,
    records: Sequence[Mapping[str, Any]],
    splits: Mapping[str, Sequence[str]],
) -> str:
    """Return the README of a set.

    Parameters
    ----------
    recipe, ranges, root_seed
        What was asked for.
    records
        ``case.json`` of every case.
    splits
        Part of the set -> its cases.
    """
    made_by = f"npsi-twin {version('npsi-twin')}"
    specimens = {part: len({record["specimen"] for record in records if record["split"] == part}) for part in splits}
    lines = [
        "# Training phantoms of nanoporous-silicon electrodes",
        "",
        f"Simulated: {len(records)} volumes of {sum(specimens.values())} computed electrodes, each "
        "scanned in a simulated transmission X-ray microscope and reconstructed, with the true phase of every voxel. "
        "Nothing here was measured.",
        "",
        f"Licence: {recipe.licence} ({_LICENCES[recipe.licence]}). Made by {made_by}, root seed {root_seed}.",
        "",
        "## Files",
        "",
        _FILES[recipe.layout],
        "",
        "`cases/CASE/specification.toml` is everything that was asked for, resolved; `case.json` holds seeds, the "
        "values drawn, the truth in numbers and the SHA-256 of every file. For scan 00 of a specimen, `npsi-twin run "
        "specification.toml` repeats the case; later scans draw from `scan_seed`. "
        + ("`scan.h5` is the scan (Data Exchange). " if recipe.keep_projections else "")
        + "`manifest.jsonl` lists all cases with their hashes; `phantoms.toml`, `ranges.toml` and `base.toml` say what "
        "was asked for, what varied and what did not.",
        "",
        "Images are attenuation in 1/um, arrays (z, y, x), z along the rotation axis, foil at the bottom of a slice.",
        "",
        "## Split",
        "",
        "By specimen, never by slice: all scans of a specimen are in one part.",
        "",
        *_table(
            ("part", "specimens", "cases"), [(part, specimens[part], len(names)) for part, names in splits.items()]
        ),
        "",
        "## Labels",
        "",
        *_phases(records),
        "",
        "## Truth",
        "",
        *_truth(records),
        "",
        "## What varies",
        "",
        *_varied(recipe, ranges, records),
        "",
        "## Limits",
        "",
        *_limits(records),
    ]
    return "\n".join(lines) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    return [f"| {' | '.join(map(str, row))} |" for row in (head, ["---"] * len(head), *rows)]


def _phases(records: Sequence[Mapping[str, Any]]) -> list[str]:
    total: Counter[str] = Counter()
    holders: Counter[str] = Counter()
    for record in records:
        total.update(record["voxels_of_phase"])
        holders.update(name for name, voxels in record["voxels_of_phase"].items() if voxels)
    every = sum(total.values())
    rows = [
        (label, name, f"{total[name] / every:.2%}", f"{holders[name]} of {len(records)}")
        for label, name in PHASE_NAMES.items()
    ]
    return _table(("label", "phase", "voxels", "cases that hold it"), rows)


def _truth(records: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = []
    for name in _TOLD:
        entries = [record["truth"][name] for record in records]
        values = [entry["value"] for entry in entries if entry["value"] is not None]
        ends = f"{min(values):.4g} to {max(values):.4g}" if values else "could not be measured"
        rows.append((name, entries[0]["unit"], ends, len(values)))
    sizes = sorted({(tuple(record["shape"]), record["voxel_nm"]) for record in records})
    shapes = "; ".join(f"{' x '.join(map(str, shape))} voxels of {voxel:g} nm" for shape, voxel in sizes)
    return [f"Volumes: {shapes}.", "", *_table(("quantity", "unit", "range", "cases"), rows)]


def _varied(recipe: PhantomRecipe, ranges: Ranges, records: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = [(f"`{entry.name}`", part, entry.says()) for part in ("specimen", "scan") for entry in ranges.of(part)]
    refused = [(record["case"], text) for record in records for text in record["refused"]]
    how = "a digitally shifted Sobol sequence" if ranges.draw == "sobol" else "independent draws"
    lines = [
        f"Points of {how}; {recipe.scans_per_specimen} scan(s) of every specimen. What did not fit together or did not "
        f"pack was drawn again: {len(refused)} draw(s).",
        "",
        *_table(("field", "of", "range"), rows),
    ]
    return lines + (["", *(f"- {case}, {' '.join(text.split())}" for case, text in refused)] if refused else [])


def _limits(records: Sequence[Mapping[str, Any]]) -> list[str]:
    warned: Counter[str] = Counter(text for record in records for text in record["warnings"])
    lines = [
        "- A network that is right here is right about this simulation; try it on a real scan before you trust it.",
        "- Labels are of the voxel's prevailing phase; a voxel at a border is mixed in truth.",
    ]
    told = sum(1 for record in records if record["warnings"])
    return [
        *lines,
        f"- {told} case(s) left a model's range, {len(warned)} ways in all; `warnings` in `case.json` says how.",
    ]
