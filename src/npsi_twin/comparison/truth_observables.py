"""What the truth shows of one state: the numbers that `targets` asks for, those that no image gives among them.

`Electrode`, its voxelised `Composition`, attenuation and `Measurements` -> `StateObservables`. Thickness, attenuation
and inventory are those of `measured_observables`, which sees labels and attenuation only. The rest needs to know the
particles:

* **bodies** are agglomerates and particles alone. A body's **core-shell index** is the attenuation of the deepest third
  of its voxels over that of the shallowest third, depth being the distance to the nearest voxel that is not the
  body's; voxels next to such a one, which may be shared, are left out. The index of a state adds up all bodies.
* the **shadow** of agglomerates are the columns that hold one: the shadow ratio is the lithium-free silicon of single
  particles within 1 um of the foil there over that elsewhere, per column.
* the **underside** is the lowest voxel above the foil that belongs to a particle.

Sizes and shares of bodies and fragments are integrals over the scene's particles, margins of the specimen included.
Everything else holds inside the voxelised block; bodies must be several voxels wide.

References
----------
C. Zhao et al., Nano Energy 52 (2018) 381-390, sections 3.2.2, 3.3.2 and 3.4.1.
"""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from npsi_twin.comparison.measured_observables import observe_measured
from npsi_twin.comparison.targets import StateObservables
from npsi_twin.cycling.capacity import bare_silicon_nm3
from npsi_twin.electrode.scene import Electrode
from npsi_twin.electrode.voxelise import Composition
from npsi_twin.errors import IncompatibleError
from npsi_twin.materials import alloy
from npsi_twin.morphology.measure import Measurements
from npsi_twin.morphology.thickness import FoilSurface, foil_surface
from npsi_twin.volumes import FloatArray, Volume

#: Heights above the foil within which silicon lies in the shadow of an agglomerate; the paper: "near the foil".
SHADOW_NM = 1000.0
#: Voxels that a third of a body must have.
_FEWEST_VOXELS = 10


def observe(
    electrode: Electrode,
    composition: Composition,
    attenuation_per_um: FloatArray,
    measured: Measurements,
) -> StateObservables:
    """Look at one state of the electrode.

    Parameters
    ----------
    electrode
        The scene.
    composition
        The scene voxelised, or a part of it that reaches from the foil to the air above the layer.
    attenuation_per_um
        Its attenuation, 1/um, (z, y, x).
    measured
        What `measure` found in its labels and its attenuation.

    Returns
    -------
    StateObservables
        NaN where there is nothing to see.

    Raises
    ------
    IncompatibleError
        If attenuation and composition differ in shape.

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
    >>> electrode = build_electrode(small, seeds=Seeds(1))
    >>> slab = voxelise(electrode, VoxelGrid((20, 60, 27), 150.0), range(20))
    >>> attenuation = contrast(slab, 8.0)
    >>> measured = measure(Volume(slab.phase, 150.0), Volume(attenuation, 150.0))
    >>> seen = observe(electrode, slab, attenuation, measured)
    >>> seen.agglomerated_share, seen.whole_share, seen.shadow_ratio, round(seen.core_shell_index, 1)
    (0.0, 1.0, 1.0, 1.0)
    """
    if attenuation_per_um.shape != composition.phase.shape:
        raise IncompatibleError(
            f"observe: the attenuation is {attenuation_per_um.shape}, the composition {composition.phase.shape}; both "
            "must lie on the same voxels. Use `contrast` of this composition."
        )
    foil = foil_surface(Volume(composition.phase, composition.voxel_nm))
    history = electrode.history
    return replace(
        observe_measured(measured),
        **_bodies(electrode),
        core_shell_index=_core_shell_index(electrode, composition, attenuation_per_um),
        shadow_ratio=_shadow_ratio(electrode, composition, foil),
        lift_off_um=_lift_off_um(composition, foil),
        life_cycles=math.nan if history is None else history.life_cycles,
        recorded_cycles=math.nan if history is None else float(history.cycles.size),
    )


def _bodies(electrode: Electrode) -> dict[str, float]:
    """Return size of bodies, welded share and share of whole silicon among the particles that are still there."""
    particles, states = electrode.particles, electrode.states
    there = states.present
    silicon = np.where(there, bare_silicon_nm3(electrode), 0.0)
    if not silicon.any():
        return {"agglomerate_um": math.nan, "agglomerated_share": math.nan, "whole_share": math.nan}
    volume = np.bincount(states.agglomerate, np.where(there, particles.envelope_nm3, 0.0), particles.count)
    mean_nm3 = float((volume**2).sum() / volume.sum())
    return {
        "agglomerate_um": 1e-3 * (6 / math.pi * mean_nm3) ** (1 / 3),
        "agglomerated_share": float(silicon[states.members > 1].sum() / silicon.sum()),
        "whole_share": 1 - float(np.average(states.fragmented_share, weights=silicon)),
    }


def _core_shell_index(electrode: Electrode, composition: Composition, attenuation_per_um: FloatArray) -> float:
    """Return the attenuation of the bodies' deepest third over that of their shallowest."""
    number = np.concatenate([[0], electrode.states.agglomerate + 1])[composition.particle_id]
    number[composition.current_collector_fraction > 0] = 0
    inner = outer = 0.0
    boxes = ndimage.find_objects(number)
    for body in np.unique(number[number > 0]):
        # A voxel around the box, so that its sides count as outside where the volume goes on.
        wider = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in boxes[body - 1])
        depth = ndimage.distance_transform_edt(number[wider] == body)
        whole = depth > 1
        if np.count_nonzero(whole) < 3 * _FEWEST_VOXELS:
            continue
        values, depths = attenuation_per_um[wider][whole].astype(np.float64), depth[whole]
        third = depths.size // 3
        order = np.argsort(depths, kind="stable")
        outer, inner = outer + values[order[:third]].sum(), inner + values[order[-third:]].sum()
    return float(inner / outer) if outer > 0 else math.nan


def _shadow_ratio(electrode: Electrode, composition: Composition, foil: FoilSurface) -> float:
    """Return the silicon of single particles at the foil, beneath agglomerates over elsewhere."""
    welded = np.concatenate([[False], electrode.states.members > 1])[composition.particle_id]
    beneath = welded.any(axis=1) & foil.valid
    elsewhere = ~welded.any(axis=1) & foil.valid
    if not beneath.any():
        return 1.0 if np.any(composition.particle_id) else math.nan
    bare = composition.silicon_fraction / (1 + (alloy.volume_ratio(1.0) - 1) * composition.lithium_per_silicon)
    single = np.where(_band(foil, composition, SHADOW_NM) & ~welded, bare, 0.0).sum(axis=1)
    if not elsewhere.any() or not single[elsewhere].any():
        return math.nan
    return float(single[beneath].mean() / single[elsewhere].mean())


def _band(foil: FoilSurface, composition: Composition, height_nm: float) -> NDArray[np.bool_]:
    """Return the voxels up to a height above the local foil surface, (z, y, x)."""
    above = foil.row[:, None, :] - np.arange(composition.phase.shape[1])[None, :, None]
    return np.asarray((above > 0) & (above * composition.voxel_nm <= height_nm) & foil.valid[:, None, :])


def _lift_off_um(composition: Composition, foil: FoilSurface) -> float:
    """Return the mean height of the silicon's underside above the local foil surface, um."""
    height = composition.phase.shape[1]
    particle = (composition.particle_id > 0) & _band(foil, composition, math.inf)
    held = particle.any(axis=1)
    if not held.any():
        return math.nan
    lowest = height - 1 - particle[:, ::-1].argmax(axis=1)
    return float((foil.row - 1 - lowest)[held].mean()) * composition.voxel_nm / 1e3
