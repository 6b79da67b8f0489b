"""What labels and attenuation show of one state: the numbers that `targets` asks for, as far as an image holds them.

`Measurements` -> `StateObservables`. True and recovered labels are read by this one definition, so that the difference
of two readings is what microscope, reconstruction and threshold did, and nothing else:

* the **layer's attenuation** is the inventory over the thickness, both summed over columns that hold silicon;
* **near the foil** is from the guard of `measure` up to half a micrometre above it, by the local surface;
* the **underside** is where open space under the closed silicon ends,

      lift-off = detached share * mean gap of detached columns,

  0 where no column is detached. `truth_observables` has it by the particles' own outlines;
* **bodies** are those that `measure` finds in the closed silicon.

NaN is what no image holds: which particle a voxel belonged to (shadow, fragments), and the cell's life, which its own
record of capacities tells: who has that record puts it in, ``replace(seen, life_cycles=..., recorded_cycles=...)``.

Holds where `Measurements` hold: bodies and undersides need voxels smaller than the ball that closes the silicon.
"""

import math

import numpy as np

from npsi_twin.comparison.targets import StateObservables
from npsi_twin.morphology.measure import Measurements

#: Heights between which attenuation is near the foil: from the guard of `measure`.
NEAR_FOIL_NM = (150.0, 650.0)


def observe_measured(measured: Measurements) -> StateObservables:
    """Read one state from what was measured in its labels and its attenuation.

    Parameters
    ----------
    measured
        What `measure` found, in true or in recovered labels.

    Returns
    -------
    StateObservables
        NaN where there is nothing to see, where it was not measured, and for what no image holds.

    Examples
    --------
    A layer of 2 um, a fifth as attenuating as its foil:

    >>> from npsi_twin.morphology.measure import measure
    >>> from npsi_twin.volumes import Phase, Volume
    >>> labels = np.zeros((4, 160, 20), np.uint8)
    >>> labels[:, 100:], labels[:, 60:100] = Phase.CURRENT_COLLECTOR, Phase.SILICON
    >>> attenuation = np.array([0.0, 0.01, 0.0, 0.05], np.float32)[labels]
    >>> seen = observe_measured(measure(Volume(labels, 50.0), Volume(attenuation, 50.0)))
    >>> seen.thickness_field_um, round(seen.normalised_attenuation, 4), seen.lift_off_um
    (2.0, 0.2, 0.0)
    """
    thickness, coverage = measured["thickness_silicon_um"], measured["silicon_coverage"].value
    covered = np.isfinite(measured.thickness_map_nm)
    layer_um = float(measured.thickness_map_nm[covered].sum()) / 1e3
    return StateObservables(
        thickness_field_um=0.0 if coverage == 0 else thickness.value * coverage,
        thickness_covered_um=thickness.value,
        thickness_sd_um=thickness.spread,
        normalised_attenuation=float(measured.inventory_map_um[covered].sum()) / layer_um if layer_um else math.nan,
        near_foil_attenuation=_near_foil(measured),
        inventory_um=measured["silicon_areal_inventory_um"].value,
        agglomerate_um=measured["agglomerate_size_um"].value,
        agglomerated_share=measured["agglomerated_share"].value,
        core_shell_index=measured["core_shell_index"].value,
        lift_off_um=_lift_off_um(measured),
    )


def _near_foil(measured: Measurements) -> float:
    distance, grey = measured.profile_distance_nm, measured.profile_normalised
    band = grey[(distance >= NEAR_FOIL_NM[0]) & (distance <= NEAR_FOIL_NM[1])]
    # Where nothing is left, the level of air is a little above the empty band's.
    return float(np.maximum(0.0, band.mean())) if band.size else math.nan


def _lift_off_um(measured: Measurements) -> float:
    detached = measured["detached_share"].value
    # Without a detached column the mean gap of such columns is NaN, and the silicon lies on the foil.
    return 0.0 if detached == 0 else detached * measured["foil_gap_um"].value
