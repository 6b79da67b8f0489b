"""Where measurements are taken: the layer, the space above the foil and the particles in it.

Labels and their foil -> `Regions`, cropped to the rows of the layer. **layer** lies between the foil's local surface
and the top of the silicon, column by column; **particles** are the silicon closed by a ball, so that pores inside np-Si
count and gaps between particles do not. In labels without a foil the layer is the whole volume.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npsi_twin.morphology.collector import BoolArray
from npsi_twin.morphology.measurement_recipe import MeasurementRecipe
from npsi_twin.morphology.pore_space import closed_envelope
from npsi_twin.morphology.quantities import Blocks
from npsi_twin.morphology.thickness import SILICON, SOLIDS, FoilSurface, above_foil, is_one_of, top_rows
from npsi_twin.volumes import Volume

#: Why a region that one phase fills, or that is empty, has no surface.
ONE_PHASE = "one phase only, hence no surface"


@dataclass(frozen=True)
class Regions:
    """The parts of a label volume, all cropped to the same rows.

    Attributes
    ----------
    values
        Labels, uint8 (z, y, x).
    silicon, solids
        Voxels of silicon, and of any solid of a layer, wherever they lie; bool (z, y, x).
    layer, space
        The layer; all columns above the foil. Both the whole volume without a foil.
    particles
        Silicon of the space, closed by the recipe's ball.
    foil
        Surface of the foil in the uncropped labels.
    rows
        The rows that were kept.
    blocks
        Blocks of slices that give a ratio its spread.
    voxel_nm
        Edge of a voxel, nm.
    note
        What the layer is, for the table.
    """

    values: NDArray[np.uint8]
    silicon: BoolArray
    solids: BoolArray
    layer: BoolArray
    space: BoolArray
    particles: BoolArray
    foil: FoilSurface
    rows: slice
    blocks: Blocks
    voxel_nm: float
    note: str

    @property
    def has_foil(self) -> bool:
        """Whether the labels hold a foil."""
        return bool(self.foil.valid.any())

    @property
    def first_above_foil(self) -> BoolArray:
        """The voxel of every column that lies on the foil, bool (z, y, x)."""
        y = np.arange(self.rows.start, self.rows.start + self.values.shape[1])[None, :, None]
        return np.asarray((y == self.foil.row[:, None, :] - 1) & self.foil.valid[:, None, :])


def find_regions(labels: Volume, foil: FoilSurface, recipe: MeasurementRecipe) -> Regions:
    """Cut a label volume to its layer and find the particles in it.

    Parameters
    ----------
    labels
        Phases, uint8 (z, y, x).
    foil
        Their foil.
    recipe
        How to measure.
    """
    whole = np.asarray(labels.values, np.uint8)
    if foil.valid.any():
        top = top_rows(labels, SILICON, foil, minimum_run_nm=recipe.minimum_run_nm)
        above = int(np.ceil(2 * recipe.closing_radius_nm / labels.voxel_nm)) + 1  # room for the closing over the layer
        held = top < foil.row
        rows = slice(max(0, int(top[held].min()) - above), int(foil.row[held].max())) if held.any() else slice(0, 1)
        layer, space = above_foil(foil, rows, top), above_foil(foil, rows)
        note = "layer between foil and top of the silicon"
    else:
        rows, note = slice(0, whole.shape[1]), "whole volume (no current collector in the labels)"
        layer = space = np.ones(whole.shape, np.bool_)
    values = np.ascontiguousarray(whole[:, rows])
    silicon = is_one_of(values, SILICON)
    particles = closed_envelope(silicon & space, recipe.closing_radius_nm, labels.voxel_nm, beyond=~space)
    blocks = Blocks(values.shape[0], recipe.blocks)
    solids = is_one_of(values, SOLIDS)
    return Regions(values, silicon, solids, layer, space, particles, foil, rows, blocks, labels.voxel_nm, note)


def unresolved(regions: Regions, recipe: MeasurementRecipe) -> str:
    """Return the reason why voxels are too coarse to close silicon into particles; empty where they are not."""
    if recipe.closing_radius_nm >= regions.voxel_nm:
        return ""
    return f"the closing radius of {recipe.closing_radius_nm:g} nm is below one voxel ({regions.voxel_nm:g} nm)"
