"""A whole set of phantoms in a folder: resumable, the same bytes for any number of workers.

`PhantomRecipe`, `Ranges`, a base `Specification`, `Seeds` -> a folder:

* the files of every case, see `layouts`, and ``cases/CASE/`` with ``specification.toml`` (for ``npsi-twin run``),
  ``case.json`` (seeds, what was drawn, truth in numbers, SHA-256 of every file) and, where asked, ``scan.h5``;
* ``manifest.jsonl``, a line a case, in order; ``splits.json``; ``README.md``;
* ``phantoms.toml``, ``ranges.toml`` and ``base.toml``: the request, from which the set can be made again.

A case is there whole or not at all: its record is renamed into place after its files. One that is no longer as it was
written is set aside in ``aside-1/`` and made again. The split goes by specimen, and so do the workers' tasks, so that
scans of one specimen are never on two sides.
"""

import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any

from npsi_twin.costs import Costs, StageCost, check_resources, slabs_within
from npsi_twin.errors import DataError, ParameterError
from npsi_twin.execution import (
    ExecutionRecipe,
    Executor,
    Progress,
    RunFolder,
    code_sha256,
    file_sha256,
    in_order,
    open_run,
    opened_executor,
    silent,
    write_text_whole,
)
from npsi_twin.execution.files import told_when_full
from npsi_twin.phantoms.case import SpecimenMaker
from npsi_twin.phantoms.data_card import data_card
from npsi_twin.phantoms.draws import PhantomRecipe, case_name, draw_specimen, phantom_base, split_of
from npsi_twin.phantoms.layouts import CASES, NNUNET_FOLDER, Split, check_layout
from npsi_twin.phantoms.ranges import Ranges, load_ranges
from npsi_twin.plan import plan_twin
from npsi_twin.projectors.choice import available_projector
from npsi_twin.provenance import finish, remember
from npsi_twin.seeds import Seeds
from npsi_twin.specification import Specification, load_specification, parse_values, to_toml
from npsi_twin.stages import truth_grid
from npsi_twin.storage.nnunet import check_nnunet, dataset_json
from npsi_twin.toml_files import read_toml

MANIFEST, SPLITS, CARD = "manifest.jsonl", "splits.json", "README.md"
RECIPE, RANGES, BASE = "phantoms.toml", "ranges.toml", "base.toml"
_STAGE = "phantoms"
#: What a line of the manifest tells of a case.
_TOLD = ("case", "specimen", "scan", "split", "seed", "scan_seed", "files")
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
    threads: int | None = None,
    scheduler: str | None = None,
    max_memory: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
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
        Worker processes; the files are the same for any number, but for ``run.json`` and the crate.
    threads
        Threads of each worker; its share of this machine when None.
    scheduler
        Address of a Dask scheduler whose workers make the specimens instead, ``"tcp://host:8786"``.
    max_memory
        Memory of all workers together, such as ``"8GiB"``, that decides the height of slabs, which is a part of `base`.
    resume
        Go on with a set of the same request, or with a larger count.
    overwrite
        Start anew in a folder that holds a set.
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
        When a case comes out with other bytes than its line in the manifest has.
    ResourceError, IncompleteError
        When memory, disk or the folder is not to be had, or holds a set of another request.
    """
    recipe, ranges = recipe or PhantomRecipe(), ranges or load_ranges(None)
    asked = base or phantom_base()
    check_layout(recipe.layout)
    available_projector(asked.execution.projector)

    def costs(execution: ExecutionRecipe) -> Costs:
        return _costs(recipe, asked.model_copy(update={"execution": execution}), recipe.count, workers)

    base = asked.model_copy(update={"execution": slabs_within(asked.execution, max_memory, costs)})
    there = len(list(folder.glob(f"{CASES}/*/case.json"))) if resume else 0
    left = _costs(recipe, base, max(0, recipe.count - there), workers)
    check_resources(left, folder, scheduler=scheduler, overwrite=overwrite)
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
    with (
        opened_executor(workers, threads=threads, scheduler=scheduler, progress=progress) as executor,
        open_run(
            folder,
            request=request,
            resume=resume,
            overwrite=overwrite,
            break_lock=break_lock,
            owns=(CASES, NNUNET_FOLDER, MANIFEST),
            progress=progress,
        ) as run,
    ):
        _check_count(run, recipe)
        run.state |= {"count": recipe.count, "seed": seeds.root}
        for kept in run.reopen(_STAGE):
            progress(f"kept {kept}, which this set did not write", 0, 1)
        # What a process that was killed was working on.
        for leftover in folder.glob(".making-*"):
            shutil.rmtree(leftover)
        write_text_whole(folder / RECIPE, to_toml(recipe))
        write_text_whole(folder / RANGES, ranges.text)
        write_text_whole(folder / BASE, to_toml(base))
        remember(run, asked=(RECIPE, RANGES, BASE))
        maker = SpecimenMaker(recipe, ranges, base, seeds, folder.absolute())
        records = _make_cases(folder, maker, executor, progress)
        nnunet = [f"{NNUNET_FOLDER}/dataset.json"] if recipe.layout == "nnunet" else []
        perhaps = [f"{NNUNET_FOLDER}/splits_final.json"] if recipe.layout == "nnunet" else []
        with run.stage(_STAGE, MANIFEST, SPLITS, CARD, *nnunet, sometimes=perhaps):
            facts = _describe(folder, recipe, ranges, seeds, records)
        finish(run, parts=_files_of_cases(folder))
    return facts


def asked_phantoms(folder: Path) -> tuple[PhantomRecipe, Ranges, Specification]:
    """Return what a set was asked for, from the files that it keeps of it.

    Raises
    ------
    DataError, ParameterError
        When one of them is missing or was broken.
    """
    tree = read_toml(folder / RECIPE, "the file that `npsi-twin phantoms` wrote")
    recipe = parse_values(PhantomRecipe(), tree, "phantoms")
    return recipe, load_ranges(folder / RANGES), load_specification(folder / BASE)


def _costs(recipe: PhantomRecipe, base: Specification, count: int, workers: int) -> Costs:
    """Return what so many cases will cost: every worker walks a road of its own, and leaves image and labels."""
    one = plan_twin(base)
    kept: float = math.prod(truth_grid(base).shape) * _BYTES_A_VOXEL
    kept += one.only("scan").disk_bytes if recipe.keep_projections else 0
    disk = count * kept + min(workers, count) * one.disk_bytes
    return Costs([StageCost("phantoms", count * one.seconds, workers * one.memory_bytes, disk)], workers)


def _check_count(run: RunFolder, recipe: PhantomRecipe) -> None:
    before = int(run.state.get("count", 0))
    if before > recipe.count:
        raise ParameterError(
            f"{run.path}: holds a set of {before} cases, and --resume asks for {recipe.count}; a set only grows. Give "
            f"--count {before} or more, or another --out."
        )


def _make_cases(folder: Path, maker: SpecimenMaker, executor: Executor, progress: Progress) -> list[dict[str, Any]]:
    """Make what is missing, and write a line into the manifest for every case in turn."""
    recipe, listed = maker.recipe, _listed(folder)
    numbers = range(recipe.specimens)
    found = {
        name: _record(folder, name, listed.get(name), progress)
        for number in numbers
        for name, _ in _names(recipe, number)
    }
    missing = {
        number: tuple(scan for name, scan in _names(recipe, number) if found[name] is None) for number in numbers
    }
    tasks = [(number, scans) for number, scans in missing.items() if scans]
    made = in_order(executor, maker, tasks, stage="specimens", progress=progress)
    records = []
    with told_when_full(folder / MANIFEST), (folder / MANIFEST).open("a", encoding="utf-8") as manifest:
        for number, scans in missing.items():
            if scans:
                next(made)
            for name, _ in _names(recipe, number):
                record = found[name] or _record(folder, name, listed.get(name), progress)
                if record is None:
                    raise DataError(
                        f"{folder / CASES / name}: was made, and is not here as it was written. Workers on other "
                        "machines must see the folder of the set under the same path; go on with --resume."
                    )
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
                    os.fsync(manifest.fileno())
                records.append(record)
    return records


def _names(recipe: PhantomRecipe, number: int) -> Iterator[tuple[str, int]]:
    first = number * recipe.scans_per_specimen
    for scan in range(min(recipe.scans_per_specimen, recipe.count - first)):
        yield case_name(number, scan), scan


def _record(folder: Path, name: str, line: str | None, progress: Progress) -> dict[str, Any] | None:
    """Return the record of a case that is whole and as it was written, by its line in the manifest where it has one.

    None for a case that is to be made; what is left of it is set aside where it was changed, else removed.
    """
    own, place = folder / CASES / name, f"{CASES}/{name}"
    record: dict[str, Any] = {}
    broken = False
    try:
        record = dict(json.loads((own / "case.json").read_text(encoding="utf-8")))
        broken = not record.keys() >= set(_TOLD)
        files = dict(record["files"]) if line is None else dict(json.loads(line)["files"])
    except FileNotFoundError:
        files = {} if line is None else dict(json.loads(line)["files"])
    except (OSError, ValueError, TypeError, KeyError):
        broken, files = True, {}
    for file in files:
        if Path(file).is_absolute() or ".." in Path(file).parts:
            raise DataError(f"{own}: names {file!r} as a file of its own, which lies outside the set. Do not trust it.")
    changed = [file for file, digest in files.items() if _is_other(folder / file, digest)]
    if record and not broken and not changed and all((folder / file).is_file() for file in files):
        return record
    if broken or changed:
        outside = [file for file in changed if not Path(file).is_relative_to(place)]
        kept = _set_aside(folder, [place, *outside])
        progress(f"kept {kept}: {name} is not as it was written, and is made again", 0, 1)
    # What is left of an incomplete case is unchanged, and will be written again.
    shutil.rmtree(own, ignore_errors=True)
    return None


def _is_other(path: Path, digest: str) -> bool:
    return path.is_file() and file_sha256(path) != digest


def _set_aside(folder: Path, places: Sequence[str]) -> str:
    """Move files and folders of a set out of the way, where they are not lost; return the folder that keeps them."""
    kept = next(
        name for name in map("aside-{}".format, count(1)) if not any((folder / name / p).exists() for p in places)
    )
    for place in places:
        if (folder / place).exists():
            (folder / kept / place).parent.mkdir(parents=True, exist_ok=True)
            (folder / place).rename(folder / kept / place)
    return kept


def _line(folder: Path, record: dict[str, Any]) -> str:
    kept = {key: record[key] for key in _TOLD}
    own = f"{CASES}/{record['case']}/case.json"
    return json.dumps(kept | {"files": {**record["files"], own: file_sha256(folder / own)}})


def _files_of_cases(folder: Path) -> Mapping[str, str]:
    """Return name -> SHA-256 of the files of all cases."""
    return {file: digest for line in _listed(folder).values() for file, digest in json.loads(line)["files"].items()}


def _listed(folder: Path) -> dict[str, str]:
    """Return the manifest's lines by case; one that was cut short by a kill is taken away."""
    path = folder / MANIFEST
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        write_text_whole(path, whole)
    try:
        found = {str(json.loads(line)["case"]): line for line in whole.splitlines()}
        if all(isinstance(json.loads(line)["files"], dict) for line in found.values()):
            return found
        raise ValueError("a line without its files")
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
