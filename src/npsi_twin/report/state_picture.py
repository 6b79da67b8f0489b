"""What the figures show of one state of the electrode: a 3-D picture, two sections, a profile's spread.

Voxelised electrode, its attenuation and its `Measurements` -> `StatePicture`, small enough to keep one for every
state. The model: normalised attenuation is (a - a_air) / (a_foil - a_air) with both levels as `measure` found them.

* The section parallel to the foil lies `section_height_nm` above the **plane** fitted to the foil's surface, as in the
  paper, whose section is flat; distances of the profile count from the **local** surface, as in `measure`.
* The section perpendicular to the foil is the middle slice.
* The spread of the profile is the standard deviation of its mean over blocks of slices, as for every ratio of
  `measure`.

Holds wherever the foil lies at the bottom and air above the layer is in view. A state that has lost its layer has
pictures like any other; its missing numbers stay NaN.

References
----------
C. Zhao et al., Nano Energy 52 (2018) 381-390, figures 3 and 4.
"""

from dataclasses import dataclass

import numpy as np

from npsi_twin.errors import IncompatibleError
from npsi_twin.morphology.collector import HeightMap, level_surface
from npsi_twin.morphology.measure import MeasurementRecipe, Measurements
from npsi_twin.morphology.profiles import attenuation_profile
from npsi_twin.morphology.quantities import Blocks, Curve
from npsi_twin.morphology.thickness import foil_surface
from npsi_twin.recipes import MadeBy, Recipe, parameter
from npsi_twin.report.rendering import Bodies, Composed, Rendering, RenderingRecipe, bodies, picture_axes, render
from npsi_twin.volumes import FloatArray, Phase, Volume

#: Left, right, bottom and top.
Edges = tuple[float, float, float, float]


class StatePictureRecipe(Recipe):
    """How a state is pictured; one recipe for all states of a figure."""

    rendering: RenderingRecipe = parameter(RenderingRecipe(), "camera, light and surface of the 3-D picture")
    section_height_nm: float = parameter(
        972.0,
        "height above the foil's plane of the section parallel to it",
        unit="nm",
        source="Zhao 2018, figure 4: stated",
        ge=0,
        le=1e5,
    )
    foil_depth_nm: float = parameter(
        1500.0, "how much of the foil is shown below its plane", unit="nm", source="assumed", gt=0, le=1e5
    )
    measurement: MeasurementRecipe = parameter(MeasurementRecipe(), "how the state was measured")


@dataclass(frozen=True)
class Section:
    """A flat cut through a state.

    Attributes
    ----------
    normalised_attenuation
        Foil 1, air 0, float32 (rows, columns); NaN outside the volume, here as below.
    foil_share
        Share of it that is foil, float32 (rows, columns).
    extent_um
        Left, right, bottom and top edge, um. Across the electrode from its middle; vertically along the rotation axis
        (parallel section) or above the foil's mean surface (perpendicular section).
    """

    normalised_attenuation: FloatArray
    foil_share: FloatArray
    extent_um: Edges

    def __post_init__(self) -> None:
        self.normalised_attenuation.flags.writeable = False
        self.foil_share.flags.writeable = False


@dataclass(frozen=True)
class StatePicture:
    """One state, ready to be drawn.

    Attributes
    ----------
    name
        Name of the condition, for example ``"1000/2nd-lithiation"``; what stands before the slash names the series.
    measured
        What `measure` found.
    rendering
        3-D picture.
    rendering_extent_um
        Left, right, bottom and top edge of the 3-D picture, um; the origin is where the middle of the foil's surface
        appears, so that pictures of several states share a frame.
    parallel, perpendicular
        Sections parallel (at `section_height_um` above its plane) and perpendicular to the foil.
    section_height_um
        Height of the parallel section.
    profile_spread
        Standard deviation over blocks of slices at `measured.profile_distance_nm`; NaN with fewer than two blocks.
    made_by
        Provenance.
    """

    name: str
    measured: Measurements
    rendering: Rendering
    rendering_extent_um: Edges
    parallel: Section
    perpendicular: Section
    section_height_um: float
    profile_spread: Curve
    made_by: MadeBy

    def __post_init__(self) -> None:
        self.profile_spread.flags.writeable = False


def picture_state(
    name: str,
    composition: Composed,
    attenuation_per_um: FloatArray,
    measured: Measurements,
    recipe: StatePictureRecipe | None = None,
) -> StatePicture:
    """Picture one state.

    Parameters
    ----------
    name
        Name of the condition.
    composition
        The voxelised state, all rows of its grid.
    attenuation_per_um
        Its attenuation, 1/um, (z, y, x).
    measured
        What `measure` found in these labels and this attenuation, by ``recipe.measurement``.
    recipe
        How to picture; the default recipe when None.

    Returns
    -------
    StatePicture
        See there.

    Raises
    ------
    IncompatibleError
        Labels and attenuation differ in shape, or the foil or the air could not be measured.

    Examples
    --------
    >>> from npsi_twin.electrode.build import ElectrodeRecipe, build_electrode
    >>> from npsi_twin.electrode.specimen import SpecimenRecipe
    >>> from npsi_twin.electrode.voxelise import voxelise
    >>> from npsi_twin.morphology.measure import measure
    >>> from npsi_twin.seeds import Seeds
    >>> from npsi_twin.txm.contrast import contrast
    >>> from npsi_twin.volumes import VoxelGrid
    >>> small = ElectrodeRecipe(specimen=SpecimenRecipe(shape="block", width_um=4.0, length_um=3.0))
    >>> slab = voxelise(build_electrode(small, seeds=Seeds(1)), VoxelGrid((16, 80, 40), 150.0), range(16))
    >>> attenuation = contrast(slab, 8.0)
    >>> measured = measure(Volume(slab.phase, 150.0), Volume(attenuation, 150.0))
    >>> picture = picture_state("pristine", slab, attenuation, measured)
    >>> picture.parallel.normalised_attenuation.shape, picture.section_height_um
    ((16, 40), 0.972)
    """
    recipe = StatePictureRecipe() if recipe is None else recipe
    voxel, labels = composition.voxel_nm, Volume(composition.phase, composition.voxel_nm)
    if attenuation_per_um.shape != composition.phase.shape:
        raise IncompatibleError(
            f"picture of {name!r}: the attenuation is {attenuation_per_um.shape}, the composition "
            f"{composition.phase.shape}; both must lie on the same voxels. Use `contrast` of this composition."
        )
    normalised = _normalised(name, attenuation_per_um, measured)
    foil = foil_surface(labels)
    _, plane_nm, _ = level_surface(foil.height_nm, voxel)
    # Index of the row in which a height lies; the first row's centre is half the volume above the rotation axis.
    plane_row = (composition.phase.shape[1] - 1) / 2 - plane_nm / voxel
    shown = _shown_rows(composition, float(plane_row.mean()), recipe.foil_depth_nm)
    seen = bodies(composition, normalised)
    rendering = render(_cut(seen, shown), recipe.rendering)
    middle_row = (shown.start + shown.stop - 1) / 2
    return StatePicture(
        name=name,
        measured=measured,
        rendering=rendering,
        rendering_extent_um=_extent(rendering, recipe.rendering, voxel * (float(plane_row.mean()) - middle_row)),
        parallel=_parallel(composition, normalised, plane_row - recipe.section_height_nm / voxel),
        perpendicular=_perpendicular(composition, normalised, shown, float(plane_row.mean())),
        section_height_um=recipe.section_height_nm / 1000,
        profile_spread=_profile_spread(labels, attenuation_per_um, measured, recipe.measurement),
        made_by=MadeBy("picture_state", recipe.digest()),
    )


def _normalised(name: str, attenuation_per_um: FloatArray, measured: Measurements) -> FloatArray:
    foil, air = measured["foil_attenuation_per_um"], measured["air_attenuation_per_um"]
    for level, what in ((foil, "foil"), (air, "air above the layer")):
        if not np.isfinite(level.value):
            raise IncompatibleError(
                f"picture of {name!r}: the attenuation of the {what} was not measured ({level.note}); both are needed "
                "because colours are attenuation between air (0) and foil (1). Voxelise a grid that reaches deeper "
                "into the foil and further above the layer."
            )
    return np.asarray((attenuation_per_um - air.value) / (foil.value - air.value), np.float32)


def _shown_rows(composition: Composed, plane_row: float, foil_depth_nm: float) -> range:
    """Return the rows from the uppermost silicon, and a little air, to some depth of the foil."""
    height = composition.phase.shape[1]
    solid = np.isin(composition.phase, (Phase.SILICON, Phase.UNRESOLVED_SILICON, Phase.CURRENT_COLLECTOR))
    first = int(np.argmax(solid.any(axis=(0, 2)))) - 4
    return range(max(first, 0), min(round(plane_row + foil_depth_nm / composition.voxel_nm) + 1, height))


def _cut(whole: Bodies, rows: range) -> Bodies:
    part = np.s_[:, rows.start : rows.stop]
    return Bodies(
        whole.silicon[part], whole.foil[part], whole.light_solids[part], whole.normalised_attenuation[part],
        whole.voxel_nm,
    )  # fmt: skip


def _extent(rendering: Rendering, recipe: RenderingRecipe, foil_below_nm: float) -> Edges:
    """Return the picture's edges, um, from the point that lies ``foil_below_nm`` below the volume's middle."""
    _, up = picture_axes(recipe)
    foil_nm = float(up[1]) * foil_below_nm
    rows, columns = rendering.body.shape
    left, top, sample = rendering.left_nm, rendering.top_nm - foil_nm, rendering.sample_nm
    return left / 1000, (left + columns * sample) / 1000, (top - rows * sample) / 1000, top / 1000


def _parallel(composition: Composed, normalised: FloatArray, row: HeightMap) -> Section:
    """Interpolate between rows on a surface given by its row index, (z, x)."""
    height = normalised.shape[1]
    below = np.clip(np.floor(row).astype(np.intp), 0, max(height - 2, 0))
    inside, share = (row >= 0) & (row <= height - 1), row - below

    def on_surface(volume: FloatArray) -> FloatArray:
        upper, lower = (
            np.take_along_axis(volume, np.minimum(below + k, height - 1)[:, None, :], axis=1)[:, 0] for k in (0, 1)
        )
        return np.where(inside, (1 - share) * upper + share * lower, np.nan).astype(np.float32)

    values, foil = on_surface(normalised), on_surface(composition.current_collector_fraction)
    along, across = (n * composition.voxel_nm / 2000 for n in values.shape)
    return Section(values, foil, (-across, across, -along, along))


def _perpendicular(composition: Composed, normalised: FloatArray, rows: range, plane_row: float) -> Section:
    middle = np.s_[normalised.shape[0] // 2, rows.start : rows.stop]
    voxel_um = composition.voxel_nm / 1000
    across = normalised.shape[2] * voxel_um / 2
    top, bottom = (plane_row - rows.start + 0.5) * voxel_um, (plane_row - rows.stop + 0.5) * voxel_um
    foil = composition.current_collector_fraction[middle].copy()
    return Section(normalised[middle].copy(), foil, (-across, across, bottom, top))


def _profile_spread(
    labels: Volume, attenuation_per_um: FloatArray, measured: Measurements, recipe: MeasurementRecipe
) -> Curve:
    """Return the standard deviation over blocks of slices at the distances of the measured profile, (k,)."""
    distance = measured.profile_distance_nm
    profile = attenuation_profile(
        labels,
        Volume(attenuation_per_um, labels.voxel_nm),
        foil_surface(labels, edge_margin_nm=recipe.edge_margin_nm),
        float(distance[-1]),
        foil_band_nm=recipe.foil_band_nm,
        air_gap_nm=recipe.air_gap_nm,
    )
    parts = Blocks(labels.values.shape[0], recipe.blocks).parts
    curves = np.full((len(parts), distance.size), np.nan)
    for curve, part in zip(curves, parts, strict=True):
        columns = profile.columns_per_um[: distance.size, part]
        known = np.isfinite(columns)
        count = known.sum(axis=(1, 2))
        total = np.where(known, columns, 0).sum(axis=(1, 2), dtype=np.float64)
        curve[:] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    scale = measured["foil_attenuation_per_um"].value - measured["air_attenuation_per_um"].value
    whole = np.isfinite(curves).all(axis=0) & (len(parts) > 1)
    return np.asarray(np.where(whole, np.where(whole, curves, 0.0).std(axis=0), np.nan) / scale)
