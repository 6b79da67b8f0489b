"""The stages of the road that take whole volumes, on files: each reads what the one before it wrote.

`segment_reconstruction` (segmentation.h5) sees nothing of the truth, `measure_run` (measurements.csv, measurements.h5)
asks the same of both, and `compare_run` (comparison.json) holds them against each other and the published numbers. A
volume, or one way of scoring it, is the task of an executor: a foil, a histogram or a connected body does not end where
a slab does.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from npsi_twin.comparison.agreement import compare
from npsi_twin.comparison.label_scores import PARTS, LabelScores, Part, joined, score_labels
from npsi_twin.execution import Executor, InProcess, Progress, RunFolder, write_text_whole, written_whole
from npsi_twin.morphology.measure import MeasurementRecipe, Measurements, measure
from npsi_twin.morphology.segmentation import SegmentationMethod, SegmentationRecipe, chosen_method, segment
from npsi_twin.morphology.segmentation_recipe import BUILT_IN
from npsi_twin.specification import Specification
from npsi_twin.stages import RECONSTRUCTION, SCAN_TRUTH, TRUTH
from npsi_twin.storage.measurements import comparison_json, measurements_csv, read_measurements, write_measurements
from npsi_twin.storage.own_labels import open_truth, true_volume
from npsi_twin.storage.stage_motion import compare_motion
from npsi_twin.storage.volumes import read_volume, write_volume

SEGMENTATION = "segmentation.h5"
MEASUREMENTS, MEASURED_MAPS, COMPARISON = "measurements.csv", "measurements.h5", "comparison.json"


def _segmented(recipe: SegmentationRecipe, method: SegmentationMethod | None, folder: Path) -> dict[str, float]:
    """Segment the reconstruction in a run's folder; return what is told of it."""
    segmentation = segment(read_volume(folder / RECONSTRUCTION), recipe, method=method)
    threshold = float(np.mean(segmentation.threshold_per_um))
    told = {"threshold_per_um": threshold} if np.isfinite(threshold) else {}  # some methods have none
    with written_whole(folder / SEGMENTATION) as path:
        write_volume(path, "phase", segmentation.labels, **told)
    return told


def segment_reconstruction(
    run: RunFolder,
    specification: Specification,
    *,
    executor: Executor,
    progress: Progress,
    beside: Callable[[], None] = lambda: None,
) -> None:
    """Segment the reconstruction of a run, whole: its foil and its histogram are those of all slices.

    Parameters
    ----------
    run, specification
        The run, and what was asked for.
    executor, progress
        Who does it, and whom to tell when it is done.
    beside
        Called once it is begun: begins what other workers may do meanwhile.
    """
    with run.stage("segment", SEGMENTATION, inputs=(RECONSTRUCTION,)) as facts:
        recipe = specification.segmentation
        # A method of one's own was registered in this process; a forest's file is read here, and its trees are sent.
        who = executor if recipe.method in BUILT_IN else InProcess()
        forest = chosen_method(recipe) if recipe.method == "forest" else None
        progress("segment", 0, 1)
        segmenting = who.begun(partial(_segmented, recipe, forest), run.path)
        beside()
        facts |= segmenting()
        progress("segment", 1, 1)


def begin_measuring(
    folder: Path, recipe: MeasurementRecipe, which: Literal["truth", "recovered"], executor: Executor
) -> Callable[[], Measurements]:
    """Begin to measure the truth or what was recovered; what is given back waits for it."""
    return executor.begun(partial(_measured, folder, recipe), which)


def _measured(folder: Path, recipe: MeasurementRecipe, which: Literal["truth", "recovered"]) -> Measurements:
    """Measure the truth or what was recovered."""
    if which == "truth":
        truth = folder / TRUTH
        return measure(read_volume(truth, "phase"), read_volume(truth, "attenuation_per_um"), recipe)
    # Somebody else's program may have written these, under other names.
    return measure(read_volume(folder / SEGMENTATION), read_volume(folder / RECONSTRUCTION), recipe)


def measure_run(
    run: RunFolder,
    specification: Specification,
    *,
    executor: Executor,
    progress: Progress,
    truth: Callable[[], Measurements] | None = None,
    beside: Callable[[], None] = lambda: None,
) -> dict[str, Measurements]:
    """Measure truth and recovered volume with the same call and write both.

    Parameters
    ----------
    run, specification
        The run, and what was asked for.
    executor, progress
        Who measures, a volume a task, and whom to tell how many are done.
    truth
        Waits for what the truth measures, where that is begun already.
    beside
        Called once both are begun: begins what other workers may do meanwhile.

    Returns
    -------
    dict
        ``"recovered"``, and ``"truth"`` where there is one.
    """
    truth_file = (TRUTH,) if (run.path / TRUTH).is_file() else ()
    with run.stage("measure", MEASUREMENTS, MEASURED_MAPS, inputs=(RECONSTRUCTION, SEGMENTATION, *truth_file)):
        if truth_file and truth is None:
            truth = begin_measuring(run.path, specification.measurement, "truth", executor)
        waiting = {} if truth is None else {"truth": truth}
        waiting["recovered"] = begin_measuring(run.path, specification.measurement, "recovered", executor)
        beside()
        measured = {}
        for done, (name, result) in enumerate(waiting.items()):
            progress("measure", done, len(waiting))
            measured[name] = result()
        progress("measure", len(waiting), len(waiting))
        with written_whole(run.path / MEASURED_MAPS) as path:
            write_measurements(path, measured)
        write_text_whole(
            run.path / MEASUREMENTS, measurements_csv(compare(measured.get("truth"), measured["recovered"]))
        )
    return measured


def _scored(folder: Path, part: Part) -> LabelScores:
    """Score the labels of a run in one way, reading of the truth what that needs."""
    truth = open_truth(folder)
    return score_labels(
        read_volume(truth.path, "phase"),
        read_volume(folder / SEGMENTATION),
        silicon_fraction=true_volume(truth, "silicon_fraction") if part == "overlaps" else None,
        particle_id=true_volume(truth, "particle_id") if part == "sizes" else None,
        parts=[part],
    )


def begin_scores(folder: Path, executor: Executor) -> list[Callable[[], LabelScores]]:
    """Begin to score the labels, one way of scoring a task; what is given back waits for each, in order of `PARTS`."""
    # The longest first, so that nobody waits for it at the end.
    return [executor.begun(partial(_scored, folder), part) for part in PARTS[::-1]][::-1]


def compare_run(
    run: RunFolder,
    specification: Specification,
    *,
    executor: Executor,
    progress: Progress,
    scores: Sequence[Callable[[], LabelScores]] = (),
) -> None:
    """Hold the recovered numbers against the truth and the published ones of that state; write what came out.

    Parameters
    ----------
    run, specification
        The run, and what was asked for.
    executor, progress
        Who scores the labels, one way of scoring a task, and whom to tell how many are done.
    scores
        Wait for the scores of the labels, where those are begun already.
    """
    motion = (RECONSTRUCTION, SCAN_TRUTH) if (run.path / SCAN_TRUTH).is_file() else ()
    with run.stage("compare", COMPARISON, inputs=(MEASURED_MAPS, SEGMENTATION, *motion)):
        measured = read_measurements(run.path / MEASURED_MAPS)
        together = None
        if (run.path / TRUTH).is_file():
            begun = scores or begin_scores(run.path, executor)
            found = []
            for done, part in enumerate(begun):
                progress("compare", done, len(begun))
                found.append(part())
            progress("compare", len(begun), len(begun))
            together = joined(found)
        ageing = specification.ageing
        # A cycled cell opened without its lithium is none that the paper speaks of.
        published = ageing.condition == "pristine" or ageing.end_state == "lithiated"
        state = ageing.condition if published else None
        accuracy = None if together is None else together.accuracy
        comparison = compare(measured.get("truth"), measured["recovered"], accuracy=accuracy, state=state)
        stage = compare_motion(run.path / RECONSTRUCTION, run.path / SCAN_TRUTH) if motion else None
        write_text_whole(run.path / COMPARISON, comparison_json(comparison, stage, together))
