"""How the layer sits on its foil: contact, detached area and gap.

Regions of a label volume -> three quantities. The model, column by column above the foil: silicon is in **contact**
where its voxel lies on the foil; a column is **detached** where particles stand above it and open space, wide enough
for the closing ball, lies between them and the foil. That space counts downwards from the lowest voxel of the closed
particles, so that a pore at the foil that the ball does not enter is no gap. The smallest gap that is seen is therefore
about the ball's radius.
"""

import numpy as np

from npsi_twin.morphology.measurement_recipe import MeasurementRecipe
from npsi_twin.morphology.quantities import Measured, missing, of_map
from npsi_twin.morphology.regions import Regions, unresolved

_UNITS = {"foil_contact_share": "", "detached_share": "", "foil_gap_um": "um"}


def contact_quantities(regions: Regions, recipe: MeasurementRecipe) -> dict[str, Measured]:
    """Measure contact, detached area and gap of a layer on its foil."""
    if not regions.has_foil:
        return {name: missing(unit, "no current collector in the labels") for name, unit in _UNITS.items()}
    columns = regions.foil.valid
    covered = columns & regions.layer.any(axis=1)
    touching = (regions.silicon & regions.first_above_foil).any(axis=1)
    found = {
        "foil_contact_share": of_map(
            np.where(columns, touching, np.nan), "", "share of columns whose voxel on the foil is silicon", ""
        )
    }
    reason = unresolved(regions, recipe) if covered.any() else "no silicon above the current collector"
    if reason:
        return found | {name: missing(_UNITS[name], reason) for name in ("detached_share", "foil_gap_um")}
    held = covered & regions.particles.any(axis=1)
    height = regions.values.shape[1]
    lowest = regions.rows.start + height - 1 - regions.particles[:, ::-1].argmax(axis=1)
    gap = np.where(held, (regions.foil.row - 1 - lowest) * regions.voxel_nm / 1000, np.nan)
    detached = gap > 0
    return found | {
        "detached_share": of_map(
            np.where(held, detached, np.nan), "", "share of covered columns with open space under the particles", ""
        ),
        "foil_gap_um": of_map(
            np.where(detached, gap, np.nan), "um", "height of that space, detached columns", "no column is detached"
        ),
    }
