"""Fractions, surfaces and sizes of pores and ligaments, in the layer and inside the particles.

Regions of a label volume -> quantities, from the counts of `pore_space` and the maps of `local_thickness`. Ratios are
taken over all slices, their spread over blocks of slices.
"""

import numpy as np
from numpy.typing import NDArray

from npsi_twin.morphology import pore_space
from npsi_twin.morphology.local_thickness import thickness_quantity
from npsi_twin.morphology.measurement_recipe import MeasurementRecipe
from npsi_twin.morphology.quantities import Curve, Measured, missing, per_slice
from npsi_twin.morphology.regions import ONE_PHASE, Regions, unresolved
from npsi_twin.volumes import Phase

_WHY_NAN = "no voxels of the region, or no silicon surface in it"
_AXES = {"along": 0, "upwards": 1, "across": 2}
_PARTICLE_UNITS = {
    "porosity_particles": "",
    "porosity_macropores": "",
    "specific_surface_particles_per_um": "1/um",
    "pore_size_nm": "nm",
    "ligament_size_nm": "nm",
    **{f"{phase}_chord_{axis}_nm": "nm" for phase in ("pore", "ligament") for axis in _AXES},
}


def fraction_quantities(regions: Regions, recipe: MeasurementRecipe) -> dict[str, Measured]:
    """Measure what is a ratio of counts in the layer: fractions and surface."""
    blocks, layer, note = regions.blocks, regions.layer, regions.note
    volume, silicon = per_slice(layer), per_slice(regions.silicon & layer)
    crossings = pore_space.count_crossings(
        regions.silicon, layer, regions.voxel_nm, directions=recipe.crofton_directions
    )
    # as for the surface from S2: what bounds a region that one phase fills is not looked at, so 0 would say nothing
    one_phase = int(silicon.sum()) in (0, int(volume.sum()))
    return {
        "silicon_volume_fraction": blocks.ratio(silicon, volume, "", note),
        "porosity_layer": blocks.ratio(volume - silicon, volume, "", f"not silicon; {note}"),
        "solids_volume_fraction": blocks.ratio(per_slice(regions.solids & layer), volume, "", note)
        if np.any(regions.values == Phase.CARBON_BINDER)
        else missing("", "labels hold no carbon-binder"),
        "specific_surface_per_um": blocks.of(
            crossings.specific_surface_per_um, "1/um", f"silicon against all else, Crofton; {note}", _WHY_NAN
        )
        if not one_phase
        else missing("1/um", ONE_PHASE),
    }


def particle_quantities(regions: Regions, recipe: MeasurementRecipe) -> dict[str, Measured]:
    """Measure porosity, surface and mean chords inside the particles, and the share of the layer outside them.

    Dense particles have no pores, and the internal surface of 0 that goes with it; both are numbers.
    """
    if reason := unresolved(regions, recipe):
        return {name: missing(unit, reason) for name, unit in _PARTICLE_UNITS.items()}
    blocks, closed = regions.blocks, regions.particles
    silicon = regions.silicon & closed
    volume, solid = per_slice(closed), per_slice(silicon)
    layer, outside = per_slice(regions.layer), per_slice(regions.layer & ~closed)
    crossings = pore_space.count_crossings(silicon, closed, regions.voxel_nm, directions=recipe.crofton_directions)

    def share(amount: NDArray[np.int64], part: slice) -> float:
        inside = int(volume[part].sum())
        return float(amount[part].sum() / inside) if inside else float("nan")

    def chord(amount: NDArray[np.int64], part: slice) -> float:
        size = pore_space.mean_chord_nm(share(amount, part), crossings.specific_surface_per_um(part))
        return size if size > 0 else float("nan")

    def chord_along(amount: NDArray[np.int64], axis: int, part: slice) -> float:
        size = crossings.chord_nm(axis, share(amount, part), part)
        return size if size > 0 else float("nan")

    region = f"particles: silicon closed by a ball of {recipe.closing_radius_nm:g} nm"
    found = {
        "porosity_particles": blocks.ratio(volume - solid, volume, "", region),
        "porosity_macropores": blocks.ratio(outside, layer, "", f"share of the layer outside the {region}"),
        "specific_surface_particles_per_um": blocks.of(
            crossings.specific_surface_per_um, "1/um", f"internal surface, Crofton; {region}", _WHY_NAN
        ),
    }
    for name, words, amount in (("pore", "pores", volume - solid), ("ligament", "silicon", solid)):
        found[f"{name}_size_nm"] = blocks.of(
            lambda part, amount=amount: chord(amount, part),  # type: ignore[misc]
            "nm",
            f"mean chord 4 V/S of the {words}; {region}",
            _WHY_NAN,
        )
        for axis, number in _AXES.items():
            found[f"{name}_chord_{axis}_nm"] = blocks.of(
                lambda part, amount=amount, number=number: chord_along(amount, number, part),  # type: ignore[misc]
                "nm",
                f"mean chord of the {words} {axis}; {region}",
                _WHY_NAN,
            )
    return found


def thickness_quantities(regions: Regions, recipe: MeasurementRecipe) -> tuple[dict[str, Measured], dict[str, Curve]]:
    """Map local thickness in a central crop, volume-weighted; a ball's diameter, not a chord."""
    edge = round(recipe.local_thickness_crop_nm / regions.voxel_nm)
    crop = tuple(slice(max(0, (n - edge) // 2), max(0, (n - edge) // 2) + edge) for n in regions.layer.shape)
    phases = {"pore": regions.particles & ~regions.silicon, "ligament": regions.silicon}
    found: dict[str, Measured] = {}
    curves = {}
    for name, mask in phases.items():
        key = f"local_thickness_{name}"
        reason = "not asked for (local_thickness_crop_nm = 0)" if edge == 0 else ""
        if name == "pore" and not reason:
            reason = unresolved(regions, recipe)
        if reason:
            found[f"{key}_nm"], curves[key] = missing("nm", reason), np.empty((2, 0))
            continue
        part = np.ascontiguousarray(mask[crop])
        words = "the layer" if part.shape == mask.shape else f"central {recipe.local_thickness_crop_nm:g} nm"
        note = f"largest ball that fits, volume-weighted; {words}"
        found[f"{key}_nm"], curves[key] = thickness_quantity(part, regions.voxel_nm, note)
    return found, curves
