"""One specimen of a set of phantoms, made: built, scanned and reconstructed, as often as the set asks.

`SpecimenMaker` and a number -> the cases of that specimen on disk. The road is the one that `run_twin` walks, stage by
stage; what a case keeps of it is the reconstruction as the image, the truth's phases as the labels, the truth's
numbers, and how to make it again. What cannot be packed, scanned or reconstructed is drawn again, as often as the
recipe allows, and the record says so.
"""

import json
import math
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from npsi_twin import stages
from npsi_twin.electrode.scene import Electrode
from npsi_twin.errors import DataError, IncompatibleError, NotConvergedError, ParameterError, collected_warnings
from npsi_twin.execution import InProcess, RunFolder, file_sha256, flush_to_disk, open_run, silent
from npsi_twin.execution.files import told_when_full
from npsi_twin.morphology.measure import measure
from npsi_twin.phantoms.draws import DrawnScan, DrawnSpecimen, PhantomRecipe, draw_scan, draw_specimen, given_up
from npsi_twin.phantoms.layouts import CASES, write_pair
from npsi_twin.phantoms.ranges import Ranges
from npsi_twin.seeds import Seeds
from npsi_twin.specification import Specification, to_toml
from npsi_twin.storage.formats import open_scan
from npsi_twin.storage.volumes import PHASE_NAMES, open_volume, read_volume

#: Why a draw cannot be made; anything else is a fault that is not drawn away.
_CAME_TO_NOTHING = (ParameterError, IncompatibleError, NotConvergedError, DataError)


@dataclass(frozen=True)
class SpecimenMaker:
    """Makes specimens by number; a worker process gets one.

    Attributes
    ----------
    recipe, ranges, base, seeds
        As for `draw_specimen`.
    folder
        Of the set.
    """

    recipe: PhantomRecipe
    ranges: Ranges
    base: Specification
    seeds: Seeds
    folder: Path

    def __call__(self, task: tuple[int, tuple[int, ...]]) -> None:
        """Make some scans of a specimen."""
        number, wanted = task
        with collected_warnings() as said:
            drawn, electrode = self._built(number)
        for place in wanted:
            self._make(drawn, place, electrode, said)

    def _built(self, number: int) -> tuple[DrawnSpecimen, Electrode]:
        """Draw a specimen until one can be built and aged."""
        refused: list[str] = []
        first = 0
        while first < self.recipe.attempts:
            drawn = draw_specimen(self.recipe, self.ranges, self.base, number, seeds=self.seeds, first=first)
            refused += drawn.refused
            try:
                electrode = stages.make_electrode(drawn.scans[0].specification)
            except _CAME_TO_NOTHING as error:
                refused.append(f"attempt {drawn.attempt}: {error}")
                first = drawn.attempt + 1
                continue
            return replace(drawn, refused=tuple(refused)), electrode
        raise NotConvergedError(given_up(f"specimen {number}", self.recipe, refused))

    def _make(self, drawn: DrawnSpecimen, place: int, electrode: Electrode, said: list[str]) -> None:
        """Make one case; a scan that cannot be taken or reconstructed is drawn again."""
        refused, first = list(drawn.refused), 0
        while first < self.recipe.attempts:
            scan = drawn.scans[place]
            if first:
                again = (self.recipe, self.ranges, scan.specification, drawn.number, place)
                scan = draw_scan(*again, seeds=self.seeds, first=first)
            refused += scan.refused
            with tempfile.TemporaryDirectory(prefix=".making-", dir=self.folder) as temporary:
                work, tree = Path(temporary) / "run", Path(temporary) / "set"
                (tree / CASES / scan.name).mkdir(parents=True)
                try:
                    with collected_warnings() as told:
                        facts = _walk(work, scan, electrode)
                except _CAME_TO_NOTHING as error:
                    refused.append(f"scan attempt {scan.attempt}: {error}")
                    first = scan.attempt + 1
                    continue
                self._write(work, tree, drawn, scan, facts | {"refused": refused, "warnings": [*said, *told]}, place)
                publish(tree, self.folder, scan.name)
                return
        raise NotConvergedError(given_up(f"scan {place} of specimen {drawn.number}", self.recipe, refused))

    def _write(
        self, work: Path, tree: Path, drawn: DrawnSpecimen, scan: DrawnScan, facts: dict[str, Any], place: int
    ) -> None:
        """Write the files of a case, and its record."""
        own = tree / CASES / scan.name
        image, labels = open_volume(work / stages.RECONSTRUCTION), open_volume(work / stages.TRUTH, "phase")
        write_pair(image, labels, tree, scan.name, self.recipe.layout, drawn.split)
        if self.recipe.keep_projections:
            (work / stages.SCAN).rename(own / stages.SCAN)
        (own / "specification.toml").write_text(to_toml(scan.specification), encoding="utf-8")
        record = {
            "case": scan.name,
            "specimen": drawn.number,
            "scan": place,
            "split": drawn.split,
            "seed": drawn.seed,
            "scan_seed": scan.seed,
            "attempts": [drawn.attempt, scan.attempt],
            "drawn": {**drawn.values, **scan.values},
            "licence": self.recipe.licence,
            "made_by": f"npsi-twin {version('npsi-twin')}",
            **facts,
            "files": {path.relative_to(tree).as_posix(): file_sha256(path) for path in _files(tree)},
        }
        (own / "case.json").write_text(json.dumps(record, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _files(tree: Path) -> Iterator[Path]:
    yield from sorted(path for path in tree.rglob("*") if path.is_file())


def _walk(work: Path, scan: DrawnScan, electrode: Electrode) -> dict[str, Any]:
    """Scan and reconstruct a specimen in a folder of its own; return what is to be known of truth and image."""
    specification = scan.specification.model_copy(update={"seed": scan.seed})
    with open_run(work, request={}) as run:
        stages.build(run, specification, electrode, executor=InProcess(), progress=silent)
        stages.scan(run, specification, electrode, executor=InProcess(), progress=silent)
        found = _reconstruct(run, specification)
    phase = read_volume(work / stages.TRUTH, "phase")
    measured = measure(phase, read_volume(work / stages.TRUTH, "attenuation_per_um"), specification.measurement)
    counts = np.bincount(phase.values.astype(np.uint8).ravel(), minlength=len(PHASE_NAMES))
    return {
        "shape": list(phase.values.shape),
        "voxel_nm": phase.voxel_nm,
        "reconstruction": found,
        "voxels_of_phase": {name: int(counts[label]) for label, name in PHASE_NAMES.items()},
        "truth": {name: _finite(asdict(entry)) for name, entry in measured.quantities.items()},
    }


def _reconstruct(run: RunFolder, specification: Specification) -> dict[str, Any]:
    scan_file = open_scan(run.path / stages.SCAN)
    plan = stages.plan_reconstruction_of(scan_file, specification.reconstruction, silent)
    stages.reconstruct_scan(
        run,
        scan_file,
        specification.reconstruction,
        plan,
        execution=specification.execution,
        executor=InProcess(),
        progress=silent,
    )
    kept = ("projector", "rotation_axis_px", "rotation_axis_uncertainty_px", "unit")
    return {key: run.state["stages"]["reconstruct"][key] for key in kept}


def _finite(entry: dict[str, Any]) -> dict[str, Any]:
    """Return a measured number with None for what could not be measured; its note says why."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in entry.items()
    }


def publish(tree: Path, folder: Path, case: str) -> None:
    """Bring the files of a case to their places; its own folder, which holds its record, comes last and at once.

    Everything is on disk before the record has its place: after a power cut a case is whole or not there.
    """
    own = Path(CASES) / case
    with told_when_full(folder / own):
        touched = {folder / CASES}
        for path in _files(tree):
            flush_to_disk(path)
            place = path.relative_to(tree)
            if not place.is_relative_to(own):
                (folder / place).parent.mkdir(parents=True, exist_ok=True)
                path.replace(folder / place)
                touched.add((folder / place).parent)
        for path in (tree / own).rglob("*"):
            if path.is_dir():
                flush_to_disk(path)
        flush_to_disk(tree / own)
        (folder / CASES).mkdir(exist_ok=True)
        for parent in sorted(touched):
            flush_to_disk(parent)
        (tree / own).rename(folder / own)
        flush_to_disk(folder / CASES)
