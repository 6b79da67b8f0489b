"""What later stages of a walk want, begun as soon as what it reads is there, so that no worker stands idle.

Stages follow one another, and most end with fewer tasks than there are workers: the last slab of the scan, the axis,
one volume that is segmented. Beside them `Ahead` begins

    the scan's last slab   the truth's measurement
    the segmentation       the truth from all around, and the scan's picture
    the measurements       the scores of the labels, and the slices
    the comparison         what was recovered, from all around

Nothing of it is recorded before its own stage, which does what was not begun.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from npsi_twin.analysis import begin_measuring, begin_scores
from npsi_twin.comparison.label_scores import LabelScores
from npsi_twin.execution import Executor, InProcess
from npsi_twin.morphology.measure import Measurements
from npsi_twin.specification import Specification
from npsi_twin.stages import TRUTH

if TYPE_CHECKING:
    from npsi_twin.report.run_page import Drawn


class Ahead:
    """Tasks of later stages of one walk.

    Parameters
    ----------
    folder
        The run folder.
    specification
        What was asked for.
    executor
        Who does the tasks.
    asked
        Stages that the walk is to do; nothing is begun for another.

    Attributes
    ----------
    truth
        Waits for what the truth measures; None where that is not begun.
    scores
        Wait for the scores of the labels, one way of scoring each; empty where they are not begun.
    drawn
        Wait for parts of the page, by name.
    """

    def __init__(self, folder: Path, specification: Specification, executor: Executor, asked: Sequence[str]) -> None:
        self.truth: Callable[[], Measurements] | None = None
        self.scores: Sequence[Callable[[], LabelScores]] = ()
        self.drawn: dict[str, Callable[[], Drawn]] = {}
        self._folder, self._specification, self._executor = folder, specification, executor
        # One process does one thing after the other, in any order: then in that of the stages, whose times it keeps.
        self._asked = () if isinstance(executor, InProcess) else asked

    def measure_truth(self) -> None:
        """Begin to measure the truth."""
        if "measure" in self._asked and self._has_truth and self.truth is None:
            self.truth = begin_measuring(self._folder, self._specification.measurement, "truth", self._executor)

    def draw_what_is_there(self) -> None:
        """Begin to draw the truth from all around, as soon as it is measured, and the scan."""
        self.measure_truth()
        if "report" in self._asked and self.truth is not None:
            self.draw({"truth": self.truth()}, "truth")
        self.draw({}, "scan")

    def score_and_draw(self) -> None:
        """Begin what wants labels and no measurements."""
        if "compare" in self._asked and self._has_truth:
            self.scores = begin_scores(self._folder, self._executor)
        self.draw({}, "slices")

    def draw(self, measured: Mapping[str, Measurements], *parts: str) -> None:
        """Begin to draw parts of the page that are not begun yet."""
        if "report" not in self._asked:
            return
        # With matplotlib it takes a second to import, in which workers have something else to do.
        from npsi_twin.report.run_page import begin_part

        for part in (part for part in parts if part not in self.drawn):
            self.drawn[part] = begin_part(part, self._folder, self._specification, measured, {}, self._executor)

    @property
    def _has_truth(self) -> bool:
        return (self._folder / TRUTH).is_file()
