"""A whole set of phantoms in a folder: resumable, the same bytes for any number of workers.

`PhantomRecipe`, `Ranges`, a base `Specification`, `Seeds` -> a folder:

* the files of every case, see `layouts`, and ``cases/CASE/`` with ``specification.toml`` (for ``npsi-twin run``),
  ``case.json`` (seeds, what was drawn, truth in numbers, SHA-256 of every file) and, where asked, ``scan.h5``;
* ``manifest.jsonl``, a line a case, in order; ``splits.json``; ``ranges.toml`` and ``base.toml``; ``README.md``.

A case is there whole or not at all: its record is renamed into place after its files. The split goes by specimen, and
so do the workers' tasks, so that scans of one specimen are never on two sides.
"""

import json
import math
import shutil
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from npsi_twin.errors import DataError, ParameterError
from npsi_twin.execution import (
    Progress,
    RunFolder,
    code_sha256,
    file_sha256,
    map_slabs,
    open_run,
    silent,
    write_text_whole,
)
from npsi_twin.phantoms.case import SpecimenMaker
from npsi_twin.phantoms.data_card import data_card
from npsi_twin.phantoms.draws import PhantomRecipe, case_name, draw_specimen, phantom_base, split_of
from npsi_twin.phantoms.layouts import CASES, NNUNET_FOLDER, Split, check_layout
from npsi_twin.phantoms.ranges import Ranges, load_ranges
from npsi_twin.plan import Costs, StageCost, check_resources, plan_twin
from npsi_twin.projectors.choice import available_projector
from npsi_twin.provenance import remember
from npsi_twin.seeds import Seeds
from npsi_twin.specification import Specification, to_toml
from npsi_twin.stages import truth_grid
from npsi_twin.storage.nnunet import check_nnunet, dataset_json

MANIFEST, SPLITS, CARD = "manifest.jsonl", "splits.json", "README.md"
_PARTS: tuple[Split, ...] = ("train", "validation", "test")
#: Bytes of a voxel in the files of a case: image and label.
_BYTES_A_VOXEL = 5


def make_phantoms(
    folder: Path,
    recipe: PhantomRecipe | None = None,
    ranges: Ranges | None = None,
    base: Specification | None = None,
    *,
    seeds: Seeds,
    workers: int = 1,
    resume: bool = False,
    break_lock: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Make a set of labelled volumes to train on.

    Parameters
    ----------
    folder
        Where the set goes.
    recipe
        How many, split how, written how; the default recipe when None.
    ranges
        What varies; what the package ships when None.
    base
        What does not; `phantom_base` when None.
    seeds
        Root of the set. A case follows from it and its number alone.
    workers
        Worker processes; the files are the same for any number, but for ``run.json``.
    resume
        Go on with a set of the same request, or with a larger count.
    break_lock
        Take the folder from a process of another machine that left its lock behind.
    progress
        Who to tell how far it has come.

    Returns
    -------
    dict
        ``folder``, ``cases``, the number in every part, ``drawn_again``, and for nnU-Net ``dataset``.

    Raises
    ------
    ParameterError, NotConvergedError
        When ranges and base do not fit together, before anything is written; the latter also when a specimen does not
        pack in as many draws as are allowed.
    DataError
        When a file of a finished case was changed.
    ResourceError, IncompleteError
        When memory, disk or the folder is not to be had, or holds a set of another request.
    """
    recipe, ranges = recipe or PhantomRecipe(), ranges or load_ranges(None)
    base = base or phantom_base()
    check_layout(recipe.layout)
    available_projector(base.execution.projector)
    check_resources(_costs(recipe, base, workers), folder)
    drawn = [draw_specimen(recipe, ranges, base, number, seeds=seeds) for number in range(recipe.specimens)]
    if recipe.layout == "nnunet" and all(specimen.split == "test" for specimen in drawn):
        raise ParameterError(
            "phantoms: every specimen falls to the test, and nnU-Net needs cases to train on. Raise train_fraction."
        )
    request = {
        "ranges": ranges.text,
        "base": base.digest(),
        "recipe": recipe.model_copy(update={"count": 1}).digest(),
        "seed": seeds.root,
        "version": version("npsi-twin"),
        "code": code_sha256(),
    }
    with open_run(folder, request=request, resume=resume, break_lock=break_lock) as run:
        _check_count(run, recipe)
        run.state |= {"count": recipe.count}
        run.save()
        # What a process that was killed was working on.
        for leftover in folder.glob(".making-*"):
            shutil.rmtree(leftover)
        write_text_whole(folder / "ranges.toml", ranges.text)
        write_text_whole(folder / "base.toml", to_toml(base))
        run.state["seed"] = seeds.root
        remember(run, asked=("ranges.toml", "base.toml"))
        records = _make_cases(folder, SpecimenMaker(recipe, ranges, base, seeds, folder), workers, progress)
        facts = _describe(folder, recipe, ranges, seeds, records)
        run.complete()
    return facts


def _costs(recipe: PhantomRecipe, base: Specification, workers: int) -> Costs:
    """Return what the set will cost: every worker walks a road of its own, and leaves image and labels."""
    one = plan_twin(base)
    kept: float = math.prod(truth_grid(base).shape) * _BYTES_A_VOXEL
    kept += one.only("scan").disk_bytes if recipe.keep_projections else 0
    disk = recipe.count * kept + workers * one.disk_bytes
    return Costs([StageCost("phantoms", recipe.count * one.seconds, workers * one.memory_bytes, disk)], workers)


def _check_count(run: RunFolder, recipe: PhantomRecipe) -> None:
    before = int(run.state.get("count", 0))
    if before > recipe.count:
        raise ParameterError(
            f"{run.path}: holds a set of {before} cases, and --resume asks for {recipe.count}; a set only grows. Give "
            f"--count {before} or more, or another --out."
        )


def _make_cases(folder: Path, maker: SpecimenMaker, workers: int, progress: Progress) -> list[dict[str, Any]]:
    """Make what is missing, and write a line into the manifest for every case in turn."""
    recipe = maker.recipe
    missing = {
        number: tuple(scan for name, scan in _names(recipe, number) if _record(folder, name) is None)
        for number in range(recipe.specimens)
    }
    tasks = [(number, scans) for number, scans in missing.items() if scans]
    made = map_slabs(maker, tasks, workers=workers, stage="specimens", progress=progress)
    listed = _listed(folder)
    records = []
    with (folder / MANIFEST).open("a", encoding="utf-8") as manifest:
        for number, scans in missing.items():
            if scans:
                next(made)
            for name, _ in _names(recipe, number):
                record = _record(folder, name)
                if record is None:
                    raise DataError(f"{folder / CASES / name}: vanished after it was written. Go on with --resume.")
                line = _line(folder, record)
                if listed.get(name, line) != line:
                    raise DataError(
                        f"{folder / CASES / name}: was made again and differs from its line in {MANIFEST}; the "
                        "software or the machine gives other bytes than the one that began. Make a new set with "
                        "another --out."
                    )
                if name not in listed:
                    manifest.write(line + "\n")
                    manifest.flush()
                records.append(record)
    return records


def _names(recipe: PhantomRecipe, number: int) -> Iterator[tuple[str, int]]:
    first = number * recipe.scans_per_specimen
    for scan in range(min(recipe.scans_per_specimen, recipe.count - first)):
        yield case_name(number, scan), scan


def _record(folder: Path, name: str) -> dict[str, Any] | None:
    """Return the record of a case that is whole; None where it, or a file of it, is missing.

    Raises
    ------
    DataError
        When a file of it is not as it was written.
    """
    own = folder / CASES / name
    try:
        record = json.loads((own / "case.json").read_text(encoding="utf-8"))
        files = {folder / place: digest for place, digest in record["files"].items()}
    except FileNotFoundError:
        record, files = {}, {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{own / 'case.json'}: cannot be read ({error}). Remove {own} to have it made again.") from None
    for path, digest in files.items():
        if path.is_file() and file_sha256(path) != digest:
            raise DataError(f"{path}: is not as it was written. Remove it to have its case made again, then --resume.")
    if record and all(path.is_file() for path in files):
        return dict(record)
    # What is left of an incomplete case is unchanged, and will be written again.
    shutil.rmtree(own, ignore_errors=True)
    return None


def _line(folder: Path, record: dict[str, Any]) -> str:
    kept = {key: record[key] for key in ("case", "specimen", "scan", "split", "seed", "scan_seed", "files")}
    own = f"{CASES}/{record['case']}/case.json"
    return json.dumps(kept | {"files": {**record["files"], own: file_sha256(folder / own)}})


def _listed(folder: Path) -> dict[str, str]:
    """Return the manifest's lines by case; one that was cut short by a kill is taken away."""
    path = folder / MANIFEST
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        write_text_whole(path, whole)
    try:
        return {str(json.loads(line)["case"]): line for line in whole.splitlines()}
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path}: cannot be read ({error}). Remove it, and go on with --resume.") from None


def _describe(
    folder: Path, recipe: PhantomRecipe, ranges: Ranges, seeds: Seeds, records: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Write what concerns the set as a whole: split, nnU-Net's own files, data card."""
    splits: dict[str, list[str]] = {part: [] for part in _PARTS}
    for record in records:
        splits[split_of(record["specimen"], recipe)].append(record["case"])
    write_text_whole(folder / SPLITS, json.dumps(splits, indent=2) + "\n")
    facts: dict[str, Any] = {
        "folder": str(folder),
        "cases": len(records),
        **{part: len(cases) for part, cases in splits.items()},
        "drawn_again": sum(len(record["refused"]) for record in records),
    }
    if recipe.layout == "nnunet":
        facts["dataset"] = _finish_nnunet(folder / NNUNET_FOLDER, splits, recipe)
    write_text_whole(folder / CARD, data_card(recipe, ranges, seeds.root, records, splits))
    return facts


def _finish_nnunet(dataset: Path, splits: dict[str, list[str]], recipe: PhantomRecipe) -> str:
    training = len(splits["train"]) + len(splits["validation"])
    text = dataset_json(
        "np-Si phantoms",
        training=training,
        licence=recipe.licence,
        description="simulated TXM attenuation in 1/um of nanoporous-silicon electrodes, with true phases",
    )
    write_text_whole(dataset / "dataset.json", text)
    if splits["train"] and splits["validation"]:
        fold = [{"train": splits["train"], "val": splits["validation"]}]
        write_text_whole(dataset / "splits_final.json", json.dumps(fold, indent=2) + "\n")
    check_nnunet(dataset)
    return str(dataset)
