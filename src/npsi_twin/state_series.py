"""The paper's seven states under one hypothesis: played, voxelised, measured in the truth and drawn.

`StateSeriesRecipe`, `Seeds` -> a `PlayedState` for each condition of `npsi_twin.cycling.protocol`, and from them five
figures (the truth's version of the paper's Figs 2C, 3 and 4) and a table. Every condition is a specimen of its own,
with a seed of its own and, where asked, a loading of its own:

    loading l = exp(s n - s^2 / 2),  s^2 = ln(1 + cv^2),     mean height and its spread -> l times the recipe's,

drawn again outside `LOADINGS`, since a much thinner layer holds no particle. Truth is measured by the same `measure` as
anything recovered; nothing here is an image.
"""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from npsi_twin.comparison.targets import StateObservables, judge
from npsi_twin.comparison.truth_observables import observe
from npsi_twin.cycling.ageing import AgeingRecipe, age
from npsi_twin.cycling.protocol import CONDITIONS
from npsi_twin.electrode.build import ElectrodeRecipe, build_electrode
from npsi_twin.electrode.scene import Electrode
from npsi_twin.electrode.specimen import SpecimenRecipe
from npsi_twin.electrode.states import History
from npsi_twin.electrode.voxelise import Composition, voxelise
from npsi_twin.execution import (
    Executor,
    InProcess,
    Progress,
    code_sha256,
    in_order,
    open_run,
    opened_executor,
    silent,
    write_text_whole,
    written_whole,
)
from npsi_twin.morphology.measure import MeasurementRecipe, Measurements, measure
from npsi_twin.provenance import finish, remember
from npsi_twin.recipes import Recipe, parameter
from npsi_twin.report.state_figures import (
    CapacityCurve,
    attenuation_profiles_figure,
    capacity_figure,
    sections_figure,
    seven_states_figure,
    thickness_bars_figure,
)
from npsi_twin.report.state_picture import StatePicture, StatePictureRecipe, picture_state
from npsi_twin.seeds import Seeds
from npsi_twin.specification import parse_values, to_toml
from npsi_twin.toml_files import read_toml
from npsi_twin.txm.contrast import contrast
from npsi_twin.volumes import FloatArray, Volume, VoxelGrid

RECIPE = "states.toml"
_FIGURES, _TABLES = ("seven_states", "sections", "thickness", "attenuation", "capacity"), ("states", "targets")
FILES = (*(f"{name}.png" for name in _FIGURES), *(f"{name}.csv" for name in _TABLES))
#: Smallest and largest loading that is drawn, over the mean.
LOADINGS = (0.6, 1.8)
#: How far a view reaches beyond the layer: `measure` takes foil from 0.3 to 2 um below, air from 0.5 um above.
_BELOW_NM, _ABOVE_NM = 2300.0, 1200.0
#: Voxels that are computed at a time.
_VOXELS_AT_ONCE = 1 << 22
#: A block's sides are true cuts through foil and layer: no column has to be left out.
_WHOLE_BLOCK = MeasurementRecipe(edge_margin_nm=0.0)
_BLOCK = ElectrodeRecipe(specimen=SpecimenRecipe(shape="block", width_um=12.0, length_um=12.0))


class StateSeriesRecipe(Recipe):
    """Which hypothesis is played on which electrode, and how its states are seen."""

    hypothesis: str = parameter("agglomeration", "ageing hypothesis, by name", source="Zhao 2018: the paper's own")
    conditions: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] = parameter(
        tuple(CONDITIONS), "which of the paper's states, by name", source="Zhao 2018, section 2.2: stated"
    )
    end_state: Literal["lithiated", "delithiated"] = parameter(
        "lithiated", "state in which cycled cells are opened", source="stated for first lithiations; assumed after"
    )
    loading_variation: float = parameter(
        0.0, "coefficient of variation of the layer's height between cells", source="assumed: 0.1 to 0.3", ge=0, le=0.5
    )
    electrode: ElectrodeRecipe = parameter(_BLOCK, "what is built, before any loading")
    voxel_nm: float = parameter(80.0, "edge of a voxel", unit="nm", source="assumed: for pictures", ge=10, le=500)
    energy_kev: float = parameter(8.0, "photon energy", unit="keV", source="Zhao 2018, section 2.4", ge=2, le=50)
    picture: StatePictureRecipe = parameter(
        StatePictureRecipe(measurement=_WHOLE_BLOCK), "how states are measured and pictured"
    )

    @model_validator(mode="after")
    def _describes_every_state(self) -> "StateSeriesRecipe":
        unknown = [name for name in self.conditions if name not in CONDITIONS]
        if unknown or len(set(self.conditions)) < len(self.conditions):
            raise ValueError(
                f"conditions = {list(self.conditions)}: each of {', '.join(CONDITIONS)} may be there once, since a "
                "condition's place among them gives its specimen its seeds"
            )
        for name in self.conditions:
            AgeingRecipe(condition=name, end_state=self.end_state, hypothesis=self.hypothesis)
        return self


@dataclass(frozen=True)
class StateTruth:
    """What a scene looks like, voxel by voxel, from the foil to the air above.

    Attributes
    ----------
    composition, attenuation_per_um
        Arrays (z, y, x); rows that hold only foil or only air are left out.
    measured
        What `measure` finds in them.
    """

    composition: Composition
    attenuation_per_um: FloatArray
    measured: Measurements


@dataclass(frozen=True)
class PlayedState:
    """One of the seven states.

    Attributes
    ----------
    condition
        Its name.
    picture
        Ready to be drawn.
    observables
        What the truth shows.
    history
        What the cell went through; None for the pristine one.
    """

    condition: str
    picture: StatePicture
    observables: StateObservables
    history: History | None


def draw_loading(variation: float, *, seeds: Seeds) -> float:
    """Draw the loading of a specimen, relative to the mean.

    Parameters
    ----------
    variation
        Coefficient of variation, 0 to 0.5; 0 gives 1.
    seeds
        Root of the stream ``"loading"``.

    Examples
    --------
    >>> draw_loading(0.0, seeds=Seeds(1)), round(draw_loading(0.2, seeds=Seeds(1)), 2)
    (1.0, 0.87)
    """
    width, rng = math.sqrt(math.log1p(variation**2)), seeds.stream("loading")
    while not LOADINGS[0] <= (loading := float(np.exp(width * rng.normal() - width**2 / 2))) <= LOADINGS[1]:
        pass
    return loading


def own_seeds(condition: str, *, seeds: Seeds) -> Seeds:
    """Return the seeds of the specimen that is scanned in a condition."""
    number = list(CONDITIONS).index(condition)
    return Seeds(int(seeds.stream("specimen", number).integers(1 << 32)))


def build_specimen(recipe: ElectrodeRecipe, loading: float, *, seeds: Seeds) -> Electrode:
    """Build a pristine specimen whose layer is as many times higher, and as many times rougher, as its loading."""
    layer = recipe.layer
    higher = {"mean_height_um": loading * layer.mean_height_um, "height_sd_um": loading * layer.height_sd_um}
    loaded = recipe.model_copy(update={"layer": layer.model_copy(update=higher)})
    return build_electrode(loaded, seeds=seeds)


def view_state(electrode: Electrode, voxel_nm: float, energy_kev: float, recipe: MeasurementRecipe) -> StateTruth:
    """Voxelise a block from the foil to the air above its layer, and measure it.

    Parameters
    ----------
    electrode
        The scene; a block.
    voxel_nm
        Edge of a voxel, nm; shrunk a little where the block's length is not a whole number of voxels.
    energy_kev
        Photon energy, keV.
    recipe
        How to measure.
    """
    specimen = electrode.specimen
    rows = math.ceil(1e3 * specimen.length_um / voxel_nm - 1e-9)
    voxel_nm = 1e3 * specimen.length_um / rows
    width = max(1, math.floor(1e3 * specimen.width_um / voxel_nm + 1e-9))
    top_nm, bottom_nm = _extent_nm(electrode, VoxelGrid((rows, 1, width), voxel_nm))
    half = math.ceil(max(abs(top_nm), abs(bottom_nm)) / voxel_nm)
    grid = VoxelGrid((rows, 2 * half, width), voxel_nm)
    shown = slice(half - math.ceil(top_nm / voxel_nm), half - math.floor(bottom_nm / voxel_nm))
    step = max(1, _VOXELS_AT_ONCE // (grid.shape[1] * width))
    slabs = [voxelise(electrode, grid, range(z, min(z + step, rows))) for z in range(0, rows, step)]
    composition = _joined(slabs, shown)
    attenuation = contrast(composition, energy_kev)
    measured = measure(Volume(composition.phase, voxel_nm), Volume(attenuation, voxel_nm), recipe)
    return StateTruth(composition, attenuation, measured)


def _extent_nm(electrode: Electrode, columns: VoxelGrid) -> tuple[float, float]:
    """Return the heights between which a state is seen, nm, above the rotation axis."""
    along, across = columns.along_nm, columns.across_nm
    foil = electrode.foil.on_rows(along, across, columns.voxel_nm)
    top = foil + electrode.layer.on_rows(along, across, columns.voxel_nm)
    if electrode.islands is not None:
        top = top + electrode.islands.on_rows(along, across).gap_nm
    return float(top.max()) + _ABOVE_NM, float(foil.min()) - _BELOW_NM


def _joined(slabs: Sequence[Composition], shown: slice) -> Composition:
    """Put slabs together, and keep the heights that are shown."""
    arrays: dict[str, Any] = {
        field.name: np.concatenate([getattr(slab, field.name)[:, shown] for slab in slabs])
        for field in fields(Composition)
        if isinstance(getattr(slabs[0], field.name), np.ndarray)
    }
    return replace(slabs[0], **arrays)


def make_states(
    recipe: StateSeriesRecipe | None,
    folder: Path,
    *,
    seeds: Seeds,
    workers: int = 1,
    threads: int | None = None,
    scheduler: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    break_lock: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Play the states and keep figures, tables and request in a folder of their own.

    Parameters
    ----------
    recipe, seeds, progress
        As for `play_states`.
    folder
        Where everything goes; see `write_states`.
    workers
        Worker processes, a state each; the files are the same for any number, but for ``run.json`` and the crate.
    threads
        Threads of each worker; its share of this machine when None.
    scheduler
        Address of a Dask scheduler whose workers play the states instead, ``"tcp://host:8786"``.
    resume
        Keep finished files; a series that was interrupted is played anew.
    overwrite
        Start anew in a folder that holds states.
    break_lock
        Take the folder from a process of another machine that left its lock behind.

    Returns
    -------
    dict
        ``folder`` and ``files``.

    Raises
    ------
    ParameterError, NotConvergedError
        See `play_states`.
    ResourceError, IncompleteError
        When the folder is not to be had, or holds states of another request.
    """
    recipe = StateSeriesRecipe() if recipe is None else recipe
    request = {
        "states": recipe.digest(), "seed": seeds.root, "version": version("npsi-twin"), "code": code_sha256(),
    }  # fmt: skip
    with (
        opened_executor(workers, threads=threads, scheduler=scheduler, progress=progress) as executor,
        open_run(
            folder,
            request=request,
            resume=resume,
            overwrite=overwrite,
            break_lock=break_lock,
            progress=progress,
        ) as run,
    ):
        run.state["seed"] = seeds.root
        write_text_whole(folder / RECIPE, to_toml(recipe))
        remember(run, asked=(RECIPE,))
        if not run.has("states"):
            for kept in run.reopen("states"):
                progress(f"kept {kept}, which these states did not write", 0, 1)
            with run.stage("states", *FILES):
                write_states(play_states(recipe, seeds=seeds, executor=executor, progress=progress), folder)
        finish(run)
    return {"folder": str(folder), "files": [str(folder / name) for name in FILES]}


def asked_states(folder: Path) -> StateSeriesRecipe:
    """Return what the states of a folder were asked for.

    Raises
    ------
    DataError, ParameterError
        When the file that says it is missing or was broken.
    """
    return parse_values(
        StateSeriesRecipe(), read_toml(folder / RECIPE, "the file that `npsi-twin states` wrote"), "states"
    )


def play_states(
    recipe: StateSeriesRecipe | None = None,
    *,
    seeds: Seeds,
    executor: Executor | None = None,
    progress: Progress = silent,
) -> tuple[PlayedState, ...]:
    """Play the paper's seven states, or some of them.

    Parameters
    ----------
    recipe
        What is played; the default recipe when None.
    seeds
        Root of the specimens' seeds.
    executor
        Who plays them; this process when None.
    progress
        Who to tell how far it has come.

    Returns
    -------
    tuple of PlayedState
        In the order of the recipe.

    Raises
    ------
    ParameterError, NotConvergedError
        If a specimen cannot be built, or does not pack once it has swollen.
    """
    recipe = StateSeriesRecipe() if recipe is None else recipe
    play, names = partial(_played, recipe, seeds), recipe.conditions
    return tuple(in_order(executor or InProcess(), play, names, stage="states", progress=progress))


def _played(recipe: StateSeriesRecipe, seeds: Seeds, name: str) -> PlayedState:
    own = own_seeds(name, seeds=seeds)
    pristine = build_specimen(recipe.electrode, draw_loading(recipe.loading_variation, seeds=own), seeds=own)
    ageing = AgeingRecipe(condition=name, end_state=recipe.end_state, hypothesis=recipe.hypothesis)
    electrode = age(pristine, ageing.how(), ageing.what(), seeds=own)
    truth = view_state(electrode, recipe.voxel_nm, recipe.energy_kev, recipe.picture.measurement)
    seen = observe(electrode, truth.composition, truth.attenuation_per_um, truth.measured)
    picture = picture_state(name, truth.composition, truth.attenuation_per_um, truth.measured, recipe.picture)
    return PlayedState(name, picture, seen, electrode.history)


def capacity_curves(histories: Mapping[str, History]) -> tuple[CapacityCurve, ...]:
    """Return the capacity of the longest-cycled cell of every series, by conditions' names."""
    longest: dict[float, str] = {}
    for name in histories:
        series = CONDITIONS[name].capacity_mah_per_g
        if series not in longest or CONDITIONS[name].cycle > CONDITIONS[longest[series]].cycle:
            longest[series] = name
    return tuple(
        CapacityCurve(
            f"{series:g} mAh/g",
            histories[name].cycles,
            histories[name].capacity_mah_per_g,
            histories[name].life_cycles if math.isfinite(histories[name].life_cycles) else None,
        )
        for series, name in sorted(longest.items())
    )


def write_states(states: Sequence[PlayedState], folder: Path, *, dots_per_inch: int = 150) -> tuple[Path, ...]:
    """Draw the five figures and write ``states.csv`` and ``targets.csv``.

    Parameters
    ----------
    states
        From `play_states`.
    folder
        Where they go; made where it is missing, files of the same names are replaced.
    dots_per_inch
        Resolution of the figures.

    Returns
    -------
    tuple of Path
        What was written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures = [state.picture for state in states]
    figures = (
        seven_states_figure(pictures),
        sections_figure(pictures),
        thickness_bars_figure(pictures),
        attenuation_profiles_figure(pictures),
        capacity_figure(capacity_curves({s.condition: s.history for s in states if s.history})),
    )
    written = []
    for name, figure in zip(_FIGURES, figures, strict=True):
        written.append(folder / f"{name}.png")
        with written_whole(written[-1]) as temporary:
            figure.savefig(temporary, format="png", dpi=dots_per_inch, metadata={"Software": None})
    table = {state.condition: state.observables for state in states}
    seen = [{"condition": name} | asdict(row) for name, row in table.items()]
    verdicts = [
        {"target": name, "expression": found.target.expression, "found": found.text, "verdict": found.verdict}
        for name, found in judge(table).items()
    ]
    for name, rows in zip(_TABLES, (seen, verdicts), strict=True):
        written.append(folder / f"{name}.csv")
        with written_whole(written[-1]) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    return tuple(written)
