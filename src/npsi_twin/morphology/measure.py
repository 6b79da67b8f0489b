"""One measurement for truth and for what was recovered from it.

Takes -> gives: labels, and attenuation where there is any -> `Measurements`, an ordered table of `Measured` numbers,
each with its spread, and the maps and curves behind them.

The model: the bias of a quantity is the difference of two calls of `measure` with one recipe, on truth and on
recovered. The region called **layer** lies between the foil's local surface and the top of the silicon, column by
column; the region called **particles** is the silicon of the layer closed by a ball (`pore_space.closed_envelope`), so
that pores inside np-Si count and gaps between particles do not. In labels without a foil the layer is the whole
volume.

What cannot be measured is NaN with its reason in `note`; it is never 0 and never an exception. Silicon is what is
labelled SILICON or UNRESOLVED_SILICON; solids are silicon, CARBON_BINDER and SEI.

Spread: of mapped quantities the standard deviation over columns; of ratios the standard deviation over blocks of
slices.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from npsi_twin.errors import IncompatibleError, ParameterError
from npsi_twin.morphology import pore_space
from npsi_twin.morphology.collector import BoolArray, HeightMap
from npsi_twin.morphology.profiles import AttenuationProfile, attenuation_profile
from npsi_twin.morphology.quantities import Blocks, Measured, Measurements, missing, of_map, per_slice
from npsi_twin.morphology.thickness import SILICON, SOLIDS, FoilSurface, foil_surface, layer_voxels, thickness_map
from npsi_twin.recipes import MadeBy, Recipe, parameter
from npsi_twin.volumes import Phase, Volume

__all__ = ["Measured", "MeasurementRecipe", "Measurements", "measure", "relabel"]


def _ascending(band: tuple[float, float]) -> tuple[float, float]:
    if not 0 <= band[0] < band[1]:
        raise ValueError(f"a band reaches from a smaller to a larger distance of at least 0; got {band}")
    return band


Band = Annotated[tuple[float, float], Field(strict=False), AfterValidator(_ascending)]


class MeasurementRecipe(Recipe):
    """How to measure. Lengths are in nm, so that truth on finer voxels is measured alike."""

    edge_margin_nm: float = parameter(
        1000.0,
        "columns closer than this to the lateral end of the foil, where the needle was cut, are left out",
        unit="nm",
        source="assumed (half a layer's thickness)",
        ge=0.0,
        le=1e5,
    )
    minimum_run_nm: float = parameter(
        100.0, "a shorter vertical run of the layer's phase is no surface", unit="nm", source="assumed", ge=0.0, le=1e4
    )
    closing_radius_nm: float = parameter(
        200.0,
        "radius of the ball that closes the silicon into particles",
        unit="nm",
        source="inferred (half the stated mean pore; wider balls fill gaps between particles)",
        ge=0.0,
        le=1e7,
    )
    foil_guard_nm: float = parameter(
        150.0,
        "width of the band at the foil whose attenuation is not trusted",
        unit="nm",
        source="assumed (2.5 standard deviations of the blur at 50 nm voxels)",
        ge=0.0,
        le=5000.0,
    )
    foil_band_nm: Band = parameter(
        (300.0, 2000.0),
        "depths below the foil's surface between which the foil's attenuation is taken",
        unit="nm",
        source="assumed (below the blur, above where beam hardening or truncation would bend the level)",
    )
    plateau_band_nm: Band = parameter(
        (300.0, 1100.0),
        "distances from the foil over which the normalised attenuation's plateau is averaged",
        unit="nm",
        source="inferred (Zhao 2018: layer 2.0 +- 0.5 um; up to two standard deviations below its top)",
    )
    air_gap_nm: float = parameter(
        500.0,
        "distance from the layer's top to the voxels that are taken for air",
        unit="nm",
        source="assumed",
        ge=0.0,
        le=1e5,
    )
    crofton_directions: Literal[3, 13] = parameter(
        13, "directions in which the surface is counted", source="inferred (unbiased to 1-2 %)"
    )
    blocks: int = parameter(8, "blocks of slices that give a ratio its spread", source="assumed", ge=2, le=1000)
    local_thickness_crop_nm: float = parameter(
        0.0,
        "edge of the central crop of the layer in which local thickness is mapped; 0 leaves it out",
        unit="nm",
        source="assumed (10 s for 200 voxels)",
        ge=0.0,
        le=1e6,
    )


def relabel(labels: Volume, meaning: Mapping[int, Phase]) -> Volume:
    """Translate somebody's labels into phases.

    Parameters
    ----------
    labels
        Integer or bool volume.
    meaning
        Label -> phase for every label that occurs.

    Raises
    ------
    ParameterError
        A label of the volume has no meaning.

    Examples
    --------
    >>> rock = Volume(np.array([[[True, False]]]), 5345.0)
    >>> relabel(rock, {1: Phase.VOID, 0: Phase.SILICON}).values.tolist()
    [[[0, 1]]]
    """
    values = np.asarray(labels.values)
    present = np.unique(values)
    if values.dtype.kind not in "bui":
        raise ParameterError(
            f"label meaning: the volume holds {values.dtype} numbers; labels are whole numbers. Give a label volume."
        )
    unknown = [label.item() for label in present if label.item() not in meaning]
    if unknown:
        more = f" and {len(unknown) - 8} more" if len(unknown) > 8 else ""
        raise ParameterError(
            f"label meaning: the volume holds {unknown[:8]}{more}, the meaning covers {sorted(meaning)}; every label "
            f"that occurs needs a phase. Add, for example, {unknown[0]}=void."
        )
    phases = np.zeros(values.shape, np.uint8)
    for label in present:
        phases[values == label] = meaning[label.item()]
    return Volume(phases, labels.voxel_nm)


def measure(labels: Volume, attenuation: Volume | None = None, recipe: MeasurementRecipe | None = None) -> Measurements:
    """Measure a label volume, true or recovered, and the attenuation that belongs to it.

    Parameters
    ----------
    labels
        Phases (z, y, x), values of `npsi_twin.volumes.Phase`; see `relabel` for other labels.
    attenuation
        Attenuation in 1/um on the same voxels, or None.
    recipe
        How to measure; the default recipe when None.

    Returns
    -------
    Measurements
        The same names for every input; what could not be measured is NaN with its reason.

    Raises
    ------
    IncompatibleError
        Labels and attenuation do not lie on the same voxels, or the labels are no phases.

    Examples
    --------
    >>> values = np.zeros((8, 40, 40), np.uint8)
    >>> values[:, 30:] = Phase.CURRENT_COLLECTOR
    >>> values[:, 10:30, ::2] = Phase.SILICON
    >>> found = measure(Volume(values, 50.0))
    >>> found["thickness_silicon_um"].value, found["porosity_layer"].value
    (1.0, 0.0)
    >>> found["normalised_attenuation_plateau"].note
    'no attenuation volume was given'
    """
    recipe = MeasurementRecipe() if recipe is None else recipe
    if attenuation is not None and labels.grid != attenuation.grid:
        raise IncompatibleError(
            f"measure: labels are {labels.values.shape} of {labels.voxel_nm:g} nm, attenuation is "
            f"{attenuation.values.shape} of "
            f"{attenuation.voxel_nm:g} nm; both must lie on the same voxels. Segment or voxelise at the "
            f"attenuation's grid."
        )
    labels = _checked(labels)
    foil = foil_surface(labels, edge_margin_nm=recipe.edge_margin_nm)
    silicon_nm = thickness_map(labels, SILICON, foil, minimum_run_nm=recipe.minimum_run_nm)
    found = _heights(labels, foil, silicon_nm, recipe)
    found |= _ratios(labels, foil, recipe)
    profile, reason = _profile(labels, attenuation, foil, silicon_nm, recipe)
    found |= _attenuations(profile, reason, recipe)
    nothing = np.full(silicon_nm.shape, np.nan)
    return Measurements(
        {name: found[name] for name in _ORDER},
        silicon_nm,
        nothing if profile is None else profile.inventory_map_um(recipe.foil_guard_nm),
        np.empty(0) if profile is None else profile.distance_nm,
        np.empty(0) if profile is None else profile.normalised,
        MadeBy("measure", recipe.digest()),
    )


_ORDER = (
    "thickness_silicon_um",
    "thickness_solids_um",
    "silicon_coverage",
    "foil_roughness_um",
    "silicon_volume_fraction",
    "solids_volume_fraction",
    "porosity_layer",
    "porosity_particles",
    "specific_surface_per_um",
    "specific_surface_particles_per_um",
    "pore_size_nm",
    "ligament_size_nm",
    "local_thickness_pore_nm",
    "local_thickness_ligament_nm",
    "foil_attenuation_per_um",
    "air_attenuation_per_um",
    "normalised_attenuation_plateau",
    "silicon_areal_inventory_um",
)

_NO_FOIL = "no current collector in the labels"


def _checked(labels: Volume) -> Volume:
    values = np.asarray(labels.values)
    if values.dtype.kind not in "bui" or (values.size and (values.min() < 0 or values.max() > max(Phase))):
        raise IncompatibleError(
            f"measure: the labels are {values.dtype} between {values.min()} and {values.max()}; whole numbers "
            f"from 0 to {int(max(Phase))} (npsi_twin.volumes.Phase) are needed. Translate other labels with `relabel`."
        )
    return Volume(values.astype(np.uint8, copy=False), labels.voxel_nm)


def _heights(
    labels: Volume, foil: FoilSurface, silicon_nm: HeightMap, recipe: MeasurementRecipe
) -> dict[str, Measured]:
    columns = int(np.count_nonzero(foil.valid))
    no_layer = "no silicon above the current collector" if columns else _NO_FOIL
    if not columns:
        solids, coverage, roughness = (missing(unit, _NO_FOIL) for unit in ("um", "", "um"))
    else:
        covered = np.where(foil.valid, np.isfinite(silicon_nm), np.nan)
        coverage = of_map(covered, "", "share of columns with silicon above the foil", _NO_FOIL)
        roughness = Measured(foil.roughness_nm / 1000, float("nan"), columns, "um", "sd of the surface about its plane")
        if np.any(labels.values == Phase.CARBON_BINDER):
            top = thickness_map(labels, SOLIDS, foil, minimum_run_nm=recipe.minimum_run_nm)
            solids = of_map(top / 1000, "um", "top of all solids above the local foil surface", "no solids on the foil")
        else:
            solids = missing("um", "labels hold no carbon-binder")
    return {
        "thickness_silicon_um": of_map(
            silicon_nm / 1000, "um", "top of the silicon above the local foil surface, covered columns", no_layer
        ),
        "thickness_solids_um": solids,
        "silicon_coverage": coverage,
        "foil_roughness_um": roughness,
    }


def _ratios(labels: Volume, foil: FoilSurface, recipe: MeasurementRecipe) -> dict[str, Measured]:
    """Measure what is a ratio of counts: fractions, surfaces, chords."""
    values, region, space, note = _layer(labels, foil, recipe)
    silicon = np.isin(values, SILICON)
    solids = np.isin(values, SOLIDS)
    blocks = Blocks(values.shape[0], recipe.blocks)
    volume = per_slice(region)
    of_silicon = per_slice(silicon & region)
    found = {
        "silicon_volume_fraction": blocks.ratio(of_silicon, volume, "", note),
        "porosity_layer": blocks.ratio(volume - of_silicon, volume, "", f"not silicon; {note}"),
        "solids_volume_fraction": blocks.ratio(per_slice(solids & region), volume, "", note)
        if np.any(values == Phase.CARBON_BINDER)
        else missing("", "labels hold no carbon-binder"),
    }
    layer = pore_space.count_crossings(silicon, region, labels.voxel_nm, directions=recipe.crofton_directions)
    found["specific_surface_per_um"] = blocks.of(
        layer.specific_surface_per_um, "1/um", f"silicon against all else, Crofton; {note}", _WHY_NAN
    )
    closed = pore_space.closed_envelope(silicon & space, recipe.closing_radius_nm, labels.voxel_nm, beyond=~space)
    found |= _inside_particles(silicon & closed, closed, blocks, labels.voxel_nm, recipe)
    found |= _local_thickness(silicon, closed, labels.voxel_nm, recipe)
    return found


_WHY_NAN = "no voxels of the region, or no silicon surface in it"
_PARTICLE_UNITS = {
    "porosity_particles": "",
    "specific_surface_particles_per_um": "1/um",
    "pore_size_nm": "nm",
    "ligament_size_nm": "nm",
}


def _layer(
    labels: Volume, foil: FoilSurface, recipe: MeasurementRecipe
) -> tuple[NDArray[np.uint8], BoolArray, BoolArray, str]:
    """Return labels, layer and all space above the foil, cropped to the layer's rows, and the layer's name."""
    values = np.asarray(labels.values, np.uint8)
    region = layer_voxels(labels, foil, minimum_run_nm=recipe.minimum_run_nm)
    if not foil.valid.any():
        return values, region, region, f"whole volume ({_NO_FOIL})"
    space = (np.arange(values.shape[1])[None, :, None] < foil.row[:, None, :]) & foil.valid[:, None, :]
    occupied = np.flatnonzero(region.any(axis=(0, 2)))
    above = int(np.ceil(2 * recipe.closing_radius_nm / labels.voxel_nm)) + 1  # room for the closing above the layer
    rows = slice(max(0, int(occupied[0]) - above), int(occupied[-1]) + 1) if occupied.size else slice(0, 1)
    return values[:, rows], region[:, rows], space[:, rows], "layer between foil and top of the silicon"


def _inside_particles(
    silicon: BoolArray, closed: BoolArray, blocks: Blocks, voxel_nm: float, recipe: MeasurementRecipe
) -> dict[str, Measured]:
    if recipe.closing_radius_nm < voxel_nm:
        reason = f"the closing radius of {recipe.closing_radius_nm:g} nm is below one voxel ({voxel_nm:g} nm)"
        return {name: missing(unit, reason) for name, unit in _PARTICLE_UNITS.items()}
    volume, solid = per_slice(closed), per_slice(silicon)
    crossings = pore_space.count_crossings(silicon, closed, voxel_nm, directions=recipe.crofton_directions)

    def chord(amount: NDArray[np.int64], part: slice) -> float:
        inside = int(volume[part].sum())
        fraction = float(amount[part].sum() / inside) if inside else float("nan")
        size = pore_space.mean_chord_nm(fraction, crossings.specific_surface_per_um(part))
        return size if size > 0 else float("nan")

    region = f"particles: silicon closed by a ball of {recipe.closing_radius_nm:g} nm"
    return {
        "porosity_particles": blocks.ratio(volume - solid, volume, "", region),
        "specific_surface_particles_per_um": blocks.of(
            crossings.specific_surface_per_um, "1/um", f"internal surface, Crofton; {region}", _WHY_NAN
        ),
        "pore_size_nm": blocks.of(
            lambda part: chord(volume - solid, part), "nm", f"mean chord 4 V/S of the pores; {region}", _WHY_NAN
        ),
        "ligament_size_nm": blocks.of(
            lambda part: chord(solid, part), "nm", f"mean chord 4 V/S of the silicon; {region}", _WHY_NAN
        ),
    }


def _local_thickness(
    silicon: BoolArray, closed: BoolArray, voxel_nm: float, recipe: MeasurementRecipe
) -> dict[str, Measured]:
    """Map local thickness in a central crop, volume-weighted; a ball's diameter, not a chord."""
    edge = round(recipe.local_thickness_crop_nm / voxel_nm)
    found = {}
    crop = tuple(slice(max(0, (n - edge) // 2), max(0, (n - edge) // 2) + edge) for n in silicon.shape)
    phases = {"pore": closed & ~silicon, "ligament": silicon}
    for name, mask in phases.items():
        if edge == 0:
            found[f"local_thickness_{name}_nm"] = missing("nm", "not asked for (local_thickness_crop_nm = 0)")
            continue
        diameter = pore_space.local_thickness_nm(np.ascontiguousarray(mask[crop]), voxel_nm)
        note = f"largest ball that fits, volume-weighted; central {recipe.local_thickness_crop_nm:g} nm"
        known = np.where((diameter > 0) & np.isfinite(diameter), diameter, np.nan)
        found[f"local_thickness_{name}_nm"] = of_map(known, "nm", note, "phase absent, or nothing but it, in the crop")
    return found


def _profile(
    labels: Volume, attenuation: Volume | None, foil: FoilSurface, silicon_nm: HeightMap, recipe: MeasurementRecipe
) -> tuple[AttenuationProfile | None, str]:
    """Return the attenuation's profile, or the reason why there is none."""
    if attenuation is None:
        return None, "no attenuation volume was given"
    if not foil.valid.any():
        return None, _NO_FOIL
    known = silicon_nm[np.isfinite(silicon_nm)]
    # one column in a hundred may carry a speck; the margin is the blur's, not the layer's
    top_nm = float(np.quantile(known, 0.99)) + 2 * labels.voxel_nm if known.size else 0.0
    return attenuation_profile(
        labels, attenuation, foil, top_nm, foil_band_nm=recipe.foil_band_nm, air_gap_nm=recipe.air_gap_nm
    ), ""


def _attenuations(profile: AttenuationProfile | None, reason: str, recipe: MeasurementRecipe) -> dict[str, Measured]:
    if profile is None:
        units = {
            "foil_attenuation_per_um": "1/um",
            "air_attenuation_per_um": "1/um",
            "silicon_areal_inventory_um": "um",
        }
        names = (*units, "normalised_attenuation_plateau")
        return {name: missing(units.get(name, ""), reason) for name in names}
    low, high = recipe.plateau_band_nm
    if not np.isfinite(profile.foil_per_um):
        why = "no foil between the depths of foil_band_nm"
    elif not np.isfinite(profile.air_per_um):
        why = "no air in view above the layer"
    else:
        why = f"no voxels between {low:g} and {high:g} nm above the foil" if profile.layer_top_nm else "no layer"
    columns = int(np.count_nonzero(np.isfinite(profile.columns_per_um).any(axis=0)))
    return {
        "foil_attenuation_per_um": Measured(
            profile.foil_per_um, profile.foil_spread_per_um, columns, "1/um", "columns' means over foil_band_nm"
        )
        if np.isfinite(profile.foil_per_um)
        else missing("1/um", why),
        "air_attenuation_per_um": Measured(profile.air_per_um, float("nan"), columns, "1/um", "above the layer")
        if np.isfinite(profile.air_per_um)
        else missing("1/um", "no air in view above the layer"),
        "normalised_attenuation_plateau": of_map(
            profile.plateau_map(low, high),
            "",
            f"foil 1, air 0; {low:g} to {high:g} nm above the local foil surface",
            why,
        ),
        "silicon_areal_inventory_um": of_map(
            profile.inventory_map_um(recipe.foil_guard_nm),
            "um",
            "integral of the normalised attenuation, um of foil",
            why,
        ),
    }
