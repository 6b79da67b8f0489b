"""What the attenuation tells about the silicon beyond its shape: lithium, and texture below the resolution.

Labels' regions, an attenuation volume and the levels of foil and air -> quantities.

**Lithium.** Particles of porosity p, whose silicon holds x lithium per silicon, have the normalised attenuation

    g = (1 - p) s / (1 + v x)

with s the attenuation of dense silicon over the foil's and 1 + v x the alloy's volume ratio; lithium itself attenuates
less than 1.5 % of what silicon does. One number g fixes one combination only: the value given is x for the porosity
*that the labels show*, and with it go the porosity that particles without lithium would need for the same g and that of
Li3.75Si, and the whole line of (p, x). A negative x says that the labels show too much porosity, or too little
attenuation went missing. Fractures, carbon and binder in the particles enter g too.

**Texture.** In cubes that are labelled silicon throughout the attenuation varies by its noise and by structure that the
labels do not resolve; in cubes of air by its noise alone. The excess of the variances, both means over cubes, is the
structure's; the blurred flank of a surface beside a cube counts as structure. Where there is no excess the texture
is unknown, not 0.

Holds where noise in air and in the layer are alike, as in a reconstruction of weakly absorbing specimens.

References
----------
M. N. Obrovac et al., J. Electrochem. Soc. 154 (2007) A849, doi:10.1149/1.2752985 (volume of the alloy).
"""

import numpy as np
from numpy.typing import NDArray

from npsi_twin.morphology.collector import BoolArray
from npsi_twin.morphology.measurement_recipe import MeasurementRecipe
from npsi_twin.morphology.profiles import AttenuationProfile
from npsi_twin.morphology.quantities import Curve, Measured, missing, per_slice
from npsi_twin.morphology.regions import Regions
from npsi_twin.volumes import Phase, Volume

#: Lithium per silicon of the fully charged alloy, Li15Si4.
FULL_LITHIUM = 3.75

_LITHIUM_UNITS = {
    "normalised_attenuation_particles": "",
    "lithium_per_silicon": "",
    "porosity_without_lithium": "",
    "porosity_with_full_lithium": "",
}
_TEXTURE_UNITS = {"texture_per_um": "1/um", "texture_over_noise": ""}


def lithium_quantities(
    regions: Regions,
    attenuation: Volume | None,
    profile: AttenuationProfile | None,
    why: str,
    recipe: MeasurementRecipe,
) -> tuple[dict[str, Measured], Curve]:
    """Infer the lithium in the particles, with what is degenerate with it; and the curve (2, k): porosity, x."""
    nothing = np.empty((2, 0))
    if profile is None or attenuation is None:
        return {name: missing(unit, why) for name, unit in _LITHIUM_UNITS.items()}, nothing
    if not (np.isfinite(profile.foil_per_um) and np.isfinite(profile.air_per_um)):
        reason = "no foil or no air in view to normalise with"
        return {name: missing(unit, reason) for name, unit in _LITHIUM_UNITS.items()}, nothing
    inside = regions.particles & _above_guard(regions, recipe)
    values = np.asarray(attenuation.values)[:, regions.rows]
    total = np.array([np.where(inside[z], values[z], 0.0).sum(dtype=np.float64) for z in range(len(values))])
    voxels, silicon = per_slice(inside), per_slice(inside & regions.silicon)

    def solid_share(part: slice) -> float:
        return float(silicon[part].sum() / max(1, voxels[part].sum()))

    def grey(part: slice) -> float:
        count = int(voxels[part].sum())
        return float(profile.normalise(np.asarray(total[part].sum() / count))) if count else float("nan")

    def lithium(part: slice) -> float:
        g = grey(part)
        ratio = solid_share(part) * recipe.silicon_over_foil / g if g > 0 else float("nan")
        return (ratio - 1) / recipe.volume_per_lithium

    def porosity(x: float, part: slice) -> float:
        return 1 - grey(part) * (1 + recipe.volume_per_lithium * x) / recipe.silicon_over_foil

    empty = "no particles beyond foil_guard_nm above the foil"
    dark = f"{empty}, or they attenuate no more than air"
    shown = 1 - solid_share(slice(None))
    bare, full = porosity(0.0, slice(None)), porosity(FULL_LITHIUM, slice(None))
    same = f"at the labels' porosity {shown:.3f}; the same attenuation: x = 0 at {bare:.3f}, x = 3.75 at {full:.3f}"
    of = regions.blocks.of
    found = {
        "normalised_attenuation_particles": of(grey, "", "mean inside the particles; foil 1, air 0", empty),
        "lithium_per_silicon": of(lithium, "", same, dark),
        "porosity_without_lithium": of(
            lambda part: porosity(0.0, part), "", "of particles that attenuate so without lithium", empty
        ),
        "porosity_with_full_lithium": of(
            lambda part: porosity(FULL_LITHIUM, part), "", "of particles of Li3.75Si that attenuate so", empty
        ),
    }
    if not np.isfinite(bare):
        return found, nothing
    x = np.linspace(0, FULL_LITHIUM, 16)
    line = np.array([porosity(float(at), slice(None)) for at in x])
    return found, np.stack([line, x])[:, line >= 0]


def texture_quantities(
    regions: Regions, labels: Volume, attenuation: Volume | None, why: str, recipe: MeasurementRecipe
) -> dict[str, Measured]:
    """Compare the attenuation's local variance in particles with that in air."""
    window = max(2, round(recipe.texture_window_nm / regions.voxel_nm))
    reason = why
    if attenuation is not None and not regions.has_foil:
        reason = "no current collector in the labels"
    elif attenuation is not None and min(labels.values.shape) < window:
        reason = f"the volume is narrower than a cube of {window} voxels"
    if attenuation is None or reason:
        return {name: missing(unit, reason) for name, unit in _TEXTURE_UNITS.items()}
    values = np.asarray(attenuation.values)
    inside = _local_variances(values[:, regions.rows], regions.silicon & _above_guard(regions, recipe), window)
    air = _air(regions, labels, recipe)
    outside = _local_variances(values[:, : air.shape[1]], air, window)
    if inside.size == 0 or outside.size == 0:
        place = "in silicon" if inside.size == 0 else "in air above the layer"
        return {
            name: missing(unit, f"no cube of {window} voxels lies wholly {place}")
            for name, unit in _TEXTURE_UNITS.items()
        }
    here, noise = float(inside.mean()), float(outside.mean())
    spread = float(np.sqrt(inside).std()) if inside.size > 1 else float("nan")
    words = f"local sd in cubes of {window} voxels of silicon"
    # at and below the noise there is no saying how little texture there is; 0 is known where nothing is noisy
    known = here > noise or here == noise == 0
    return {
        "texture_per_um": Measured(
            float(np.sqrt(here - noise)), spread, inside.size, "1/um", f"{words}, air's noise taken off"
        )
        if known
        else missing("1/um", f"{words} is not above the noise in air"),
        "texture_over_noise": Measured(
            float(np.sqrt(here / noise)), float("nan"), inside.size, "", f"{words}, over that in air"
        )
        if noise > 0
        else missing("", "air has no noise"),
    }


def _above_guard(regions: Regions, recipe: MeasurementRecipe) -> BoolArray:
    """Return the voxels beyond the guard above the foil."""
    y = np.arange(regions.rows.start, regions.rows.start + regions.values.shape[1])[:, None]
    found = np.empty(regions.space.shape, np.bool_)
    for z, row in enumerate(regions.foil.row):
        found[z] = regions.space[z] & ((row - y - 0.5) * regions.voxel_nm > recipe.foil_guard_nm)
    return found


def _air(regions: Regions, labels: Volume, recipe: MeasurementRecipe) -> BoolArray:
    """Return the void above the layer's highest point by at least the recipe's gap; the rows (y) below it left out."""
    values = np.asarray(labels.values)
    occupied = np.flatnonzero(regions.layer.any(axis=(0, 2)))
    top = regions.rows.start + (int(occupied[0]) if occupied.size else regions.values.shape[1])
    end = max(0, top - int(np.ceil(recipe.air_gap_nm / regions.voxel_nm)))
    return np.asarray((values[:, :end] == Phase.VOID) & regions.foil.valid[:, None, :])


def _local_variances(values: NDArray[np.generic], inside: BoolArray, window: int) -> NDArray[np.float64]:
    """Return the variances of the cubes of a regular tiling that lie wholly inside a mask."""
    nz, ny, nx = (n // window for n in inside.shape)
    tiled = (window, ny, window, nx, window)
    found = [np.empty(0)]
    for first in range(0, nz * window, window):  # one layer of cubes at a time: air may fill half of the volume
        kept = (slice(first, first + window), slice(0, ny * window), slice(0, nx * window))
        whole = inside[kept].reshape(tiled).all(axis=(0, 2, 4))
        cubes = np.asarray(values[kept]).reshape(tiled).transpose(1, 3, 0, 2, 4)[whole]
        found.append(cubes.reshape(-1, window**3).astype(np.float64).var(axis=1, ddof=1))
    return np.concatenate(found)
