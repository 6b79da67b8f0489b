"""One measurement for truth and for what was recovered from it.

Takes -> gives: labels, and attenuation where there is any -> `Measurements`, an ordered table of `Measured` numbers,
each with its spread, and the maps and curves behind them.

The model: the bias of a quantity is the difference of two calls of `measure` with one recipe, on truth and on
recovered. `regions` says what the **layer** and the **particles** are in which it is taken. Heights, fractions, chords
and levels are put together here; topology, correlation, transport, bodies, contact and lithium have homes of their own.

What cannot be measured is NaN with its reason in `note`; it is never 0 and never an exception. Silicon is what is
labelled SILICON or UNRESOLVED_SILICON; solids are silicon, CARBON_BINDER and SEI.

Spread: of mapped quantities the standard deviation over columns; of ratios the standard deviation over blocks of
slices.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from npsi_twin.errors import IncompatibleError, ParameterError
from npsi_twin.morphology.attenuation_state import lithium_quantities, texture_quantities
from npsi_twin.morphology.body_shapes import body_quantities
from npsi_twin.morphology.collector import HeightMap, level_surface
from npsi_twin.morphology.correlation import correlation_quantities
from npsi_twin.morphology.foil_contact import contact_quantities
from npsi_twin.morphology.measurement_recipe import MeasurementRecipe
from npsi_twin.morphology.porosity import fraction_quantities, particle_quantities, thickness_quantities
from npsi_twin.morphology.profiles import AttenuationProfile, attenuation_profile
from npsi_twin.morphology.quantities import Curve, Measured, Measurements, missing, of_map
from npsi_twin.morphology.regions import find_regions
from npsi_twin.morphology.thickness import SILICON, SOLIDS, FoilSurface, foil_surface, thickness_map
from npsi_twin.morphology.topology import topology_quantities
from npsi_twin.morphology.transport import transport_quantities
from npsi_twin.recipes import MadeBy
from npsi_twin.volumes import Phase, Volume

__all__ = ["Measured", "MeasurementRecipe", "Measurements", "measure", "relabel"]


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
    regions = find_regions(labels, foil, recipe)
    profile, reason = _profile(labels, attenuation, foil, silicon_nm, recipe)
    found = (
        _heights(labels, foil, silicon_nm, recipe)
        | fraction_quantities(regions, recipe)
        | particle_quantities(regions, recipe)
    )
    found |= topology_quantities(regions) | contact_quantities(regions, recipe) | transport_quantities(regions, recipe)
    found |= _attenuations(profile, reason, recipe)
    found |= texture_quantities(regions, labels, attenuation, reason, recipe)
    found |= body_quantities(regions, attenuation, profile, reason, recipe)
    lithium, line = lithium_quantities(regions, attenuation, profile, reason, recipe)
    correlation, s2 = correlation_quantities(regions, recipe)
    thickness, distributions = thickness_quantities(regions, recipe)
    mean_foil, levelled = _from_mean_foil(labels, attenuation, foil, profile, reason, recipe)
    found |= lithium | correlation | thickness | mean_foil
    curves = {
        "two_point_correlation": s2,
        "lithium_degeneracy": line,
        "attenuation_from_local_foil": np.empty((4, 0)) if profile is None else profile.curve(recipe.blocks),
        "attenuation_from_mean_foil": levelled,
    }
    nothing = np.full(silicon_nm.shape, np.nan)
    return Measurements(
        {name: found[name] for name in _ORDER},
        silicon_nm,
        nothing if profile is None else profile.inventory_map_um(recipe.foil_guard_nm),
        np.empty(0) if profile is None else profile.distance_nm,
        np.empty(0) if profile is None else profile.normalised,
        MadeBy("measure", recipe.digest()),
        curves | distributions,
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
    "porosity_macropores",
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
    "pore_chord_along_nm",
    "pore_chord_upwards_nm",
    "pore_chord_across_nm",
    "ligament_chord_along_nm",
    "ligament_chord_upwards_nm",
    "ligament_chord_across_nm",
    "euler_density_per_um3",
    "silicon_largest_body_share",
    "pore_largest_body_share",
    "silicon_on_foil_share",
    "solids_on_foil_share",
    "pores_on_foil_share",
    "pores_open_share",
    "correlation_length_nm",
    "specific_surface_from_s2_per_um",
    "tortuosity_pores",
    "tortuosity_silicon",
    "particle_size_um",
    "particle_aspect",
    "particle_sphericity",
    "agglomerate_size_um",
    "agglomerate_aspect",
    "agglomerate_sphericity",
    "agglomerated_share",
    "core_shell_index",
    "foil_contact_share",
    "detached_share",
    "foil_gap_um",
    "normalised_attenuation_plateau_mean_foil",
    "normalised_attenuation_particles",
    "lithium_per_silicon",
    "porosity_without_lithium",
    "porosity_with_full_lithium",
    "texture_per_um",
    "texture_over_noise",
)

_NO_FOIL = "no current collector in the labels"
_NO_LAYER = "no layer: no silicon above the current collector"


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


def _from_mean_foil(
    labels: Volume,
    attenuation: Volume | None,
    foil: FoilSurface,
    local: AttenuationProfile | None,
    why: str,
    recipe: MeasurementRecipe,
) -> tuple[dict[str, Measured], Curve]:
    """Average the attenuation at equal distance from the plane through the foil's surface, as a flat section would."""
    name = "normalised_attenuation_plateau_mean_foil"
    if attenuation is None or local is None:
        return {name: missing("", why)}, np.empty((4, 0))
    _, plane_nm, _ = level_surface(foil.height_nm, foil.voxel_nm)
    if not np.isfinite(plane_nm).all():
        return {name: missing("", "too few columns with a foil to lay a plane through")}, np.empty((4, 0))
    row = np.rint(labels.values.shape[1] / 2 - plane_nm / foil.voxel_nm).astype(foil.row.dtype)
    flat = attenuation_profile(
        labels,
        attenuation,
        replace(foil, row=np.where(foil.valid, row, foil.row)),
        local.layer_top_nm,
        foil_band_nm=recipe.foil_band_nm,
        air_gap_nm=recipe.air_gap_nm,
    )
    low, high = recipe.plateau_band_nm
    levelled = replace(flat, foil_per_um=local.foil_per_um, air_per_um=local.air_per_um)
    note = f"foil 1, air 0; {low:g} to {high:g} nm above the plane through the foil's surface"
    # of a bare foil the band holds air, and its 0 would be no layer's
    band = levelled.plateau_map(low, high)
    found = of_map(band, "", note, "no foil or no air in view") if local.layer_top_nm else missing("", _NO_LAYER)
    return {name: found}, levelled.curve(recipe.blocks)


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
        why = f"no voxels between {low:g} and {high:g} nm above the foil" if profile.layer_top_nm else _NO_LAYER
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
        )
        if profile.layer_top_nm
        else missing("", why),
        "silicon_areal_inventory_um": of_map(
            profile.inventory_map_um(recipe.foil_guard_nm),
            "um",
            "integral of the normalised attenuation, um of foil",
            why,
        ),
    }
