"""Draws of a set of phantoms: which specimens it has, which scans of each, and which part of the set they belong to.

`PhantomRecipe`, `Ranges`, a base `Specification`, `Seeds` and a number -> `DrawnSpecimen`: numbers only, nothing is
built. A draw whose parts do not fit together is drawn again, and says why.

A specimen's seed makes the electrode and its first scan, so that ``npsi-twin run specification.toml`` repeats that
case; later scans of the same specimen have seeds of their own, and so noise and motion of their own. Specimen s belongs
to the part of the set in which the fractional part of s (sqrt(5) - 1) / 2 falls: every stretch of that sequence is
spread evenly, so that each part has its share at any size of the set.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import model_validator

from npsi_twin.errors import NotConvergedError, ParameterError
from npsi_twin.phantoms.layouts import Layout, Split
from npsi_twin.phantoms.ranges import Ranges, draw_values
from npsi_twin.recipes import Recipe, parameter
from npsi_twin.seeds import Seeds
from npsi_twin.specification import Specification, parse_specification
from npsi_twin.variations import with_values

Licence = Literal["CC-BY-4.0", "CC0-1.0"]
_GOLDEN = (math.sqrt(5) - 1) / 2


class PhantomRecipe(Recipe):
    """How many phantoms, how they are split, and what is written of each."""

    count: int = parameter(16, "cases", source="assumed: a first set", ge=1, le=100_000)
    scans_per_specimen: int = parameter(
        1, "scans of every specimen, each by a microscope of its own", source="assumed", ge=1, le=100
    )
    attempts: int = parameter(
        10, "draws of a specimen, or of a scan, before the set is given up", source="assumed", ge=1, le=1000
    )
    train_fraction: float = parameter(0.7, "share of the specimens to train on", source="assumed", ge=0, le=1)
    validation_fraction: float = parameter(
        0.15, "share of the specimens to validate with; the rest is the test", source="assumed", ge=0, le=1
    )
    layout: Layout = parameter("nnunet", "for whom image and labels are written")
    keep_projections: bool = parameter(False, "whether every case keeps its scan (Data Exchange)", source="assumed")
    licence: Licence = parameter("CC-BY-4.0", "licence of the set, by its SPDX name")

    @model_validator(mode="after")
    def _parts_of_a_whole(self) -> "PhantomRecipe":
        if self.train_fraction + self.validation_fraction > 1 + 1e-9:
            raise ValueError(
                f"train_fraction = {self.train_fraction:g} and validation_fraction = {self.validation_fraction:g} are "
                "more than the whole; their sum is at most 1, and what is left is the test"
            )
        return self

    @property
    def specimens(self) -> int:
        """Number of specimens; the last may have fewer scans."""
        return math.ceil(self.count / self.scans_per_specimen)


@dataclass(frozen=True)
class DrawnScan:
    """One case, before it is made.

    Attributes
    ----------
    name
        Of the case.
    attempt, seed
        The draw that was taken, and the root of the scan's random numbers.
    specification
        Resolved, with the specimen's seed.
    values
        What was drawn for the scan, by dotted path.
    refused
        Draws that did not fit, in plain words.
    """

    name: str
    attempt: int
    seed: int
    specification: Specification
    values: Mapping[str, Any]
    refused: tuple[str, ...]


@dataclass(frozen=True)
class DrawnSpecimen:
    """One specimen and all its scans, before they are made.

    Attributes
    ----------
    number, attempt, seed
        Its place in the set, the draw that was taken, and the root of its random numbers.
    split
        Which part of the set it belongs to, with all its scans.
    values
        What was drawn for it, by dotted path.
    scans
        Its cases.
    refused
        Draws that came to nothing, in plain words.
    """

    number: int
    attempt: int
    seed: int
    split: Split
    values: Mapping[str, Any]
    scans: tuple[DrawnScan, ...]
    refused: tuple[str, ...]


def phantom_base() -> Specification:
    """Return the specification whose fields the shipped ranges vary: 128 voxels of 50.8 nm along every edge.

    Examples
    --------
    >>> from npsi_twin.stages import truth_grid
    >>> truth_grid(phantom_base())
    VoxelGrid(shape=(128, 128, 128), voxel_nm=50.8)
    """
    return parse_specification(
        """
        name = "phantom"
        [electrode.specimen]
        width_um = 5.6
        length_um = 7.9
        foil_surface_height_um = -1.6
        needle_offset_across_um = 0.3
        needle_offset_height_um = -0.2
        [microscope.detector]
        rows = 128
        columns = 144
        [microscope.stage]
        views = 361
        [reconstruction]
        width_px = 128
        """,
        "phantom base",
    )


def split_of(number: int, recipe: PhantomRecipe) -> Split:
    """Return the part of the set that a specimen belongs to, which never changes as the set grows.

    Examples
    --------
    >>> parts = [split_of(number, PhantomRecipe()) for number in range(100)]
    >>> [parts.count(part) for part in ("train", "validation", "test")]
    [70, 15, 15]
    """
    place = number * _GOLDEN % 1.0
    if place < recipe.train_fraction:
        return "train"
    return "validation" if place < recipe.train_fraction + recipe.validation_fraction else "test"


def case_name(specimen: int, scan: int) -> str:
    """Return the name of a case."""
    return f"np-si_specimen-{specimen:05d}_scan-{scan:02d}"


def draw_specimen(
    recipe: PhantomRecipe, ranges: Ranges, base: Specification, number: int, *, seeds: Seeds, first: int = 0
) -> DrawnSpecimen:
    """Draw a specimen and its scans.

    Parameters
    ----------
    recipe, ranges, base
        The set, what varies in it, and what does not.
    number
        Of the specimen.
    seeds
        Root of the set.
    first
        Attempts before this one came to nothing.

    Raises
    ------
    NotConvergedError
        When no draw gives a specification whose parts fit together.
    """
    refused: list[str] = []
    for attempt in range(first, recipe.attempts):
        values = draw_values(ranges, "specimen", number, attempt, seeds=seeds)
        seed = int(seeds.stream("phantom seed", number, attempt).integers(1 << 32))
        try:
            specimen = with_values(base, values).model_copy(update={"seed": seed})
            scans = tuple(
                draw_scan(recipe, ranges, specimen, number, scan, seeds=seeds)
                for scan in range(recipe.scans_per_specimen)
            )
        except (ParameterError, NotConvergedError) as error:
            refused.append(f"attempt {attempt}: {error}")
            continue
        return DrawnSpecimen(number, attempt, seed, split_of(number, recipe), values, scans, tuple(refused))
    raise NotConvergedError(given_up(f"specimen {number}", recipe, refused))


def given_up(what: str, recipe: PhantomRecipe, refused: Sequence[str]) -> str:
    """Return why a set is given up."""
    last = refused[-1] if refused else "none was left"
    return (
        f"phantoms: {what} came to nothing in {recipe.attempts} draws, the last for this reason: {last} Narrow the "
        "ranges, change the base specification, or allow more attempts."
    )


def draw_scan(
    recipe: PhantomRecipe,
    ranges: Ranges,
    specimen: Specification,
    number: int,
    scan: int,
    *,
    seeds: Seeds,
    first: int = 0,
) -> DrawnScan:
    """Draw a scan of a specimen.

    Parameters
    ----------
    recipe, ranges, seeds, first
        As for `draw_specimen`.
    specimen
        Its specification, whose electrode, ageing and seed stay.
    number, scan
        Of the specimen, and of the scan among its scans.

    Raises
    ------
    NotConvergedError
        When no draw fits the specimen.
    """
    case = number * recipe.scans_per_specimen + scan
    refused: list[str] = []
    for attempt in range(first, recipe.attempts):
        values = draw_values(ranges, "scan", case, attempt, seeds=seeds)
        try:
            drawn = with_values(specimen, values).model_copy(update={"name": case_name(number, scan)})
        except ParameterError as error:
            refused.append(f"scan attempt {attempt}: {error}")
            continue
        # The first scan shares the specimen's seed, so that one specification repeats the case.
        seed = specimen.seed if scan == 0 else int(seeds.stream("phantom scan seed", case).integers(1 << 32))
        return DrawnScan(drawn.name, attempt, seed, drawn, values, tuple(refused))
    raise NotConvergedError(given_up(f"scan {scan} of specimen {number}", recipe, refused))
