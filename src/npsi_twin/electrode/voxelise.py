"""Turn any slab of a scene into truth at any voxel size.

`Electrode`, `VoxelGrid`, a range of rows -> `Composition`: volume fractions, labels and particle numbers. The model:
every voxel holds shares of foil, particle envelopes, the carbon-binder domain (the rest below the layer's top) and
open space; an envelope's share holds silicon, bismuth and pore, the domain's share holds solids in the local
proportion. Where two claims meet, the foil goes before particles and particles before the domain. Shares are partial
volumes (see `particle_lattice`); voxels above a twelfth of the pore network's wavelength are sub-sampled, so that
unresolved np-Si has the right mean. Volumes converge at third order in the voxel.

Rows are independent: a slab has the same bits alone as in the whole volume, for any number of threads.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from npsi_twin.electrode.bicontinuous import core_volume_ratio
from npsi_twin.electrode.rasterise import GridAxes, SceneArrays, Shares, rasterise
from npsi_twin.electrode.scene import Electrode
from npsi_twin.electrode.waves import Floats, on_lattice
from npsi_twin.errors import IncompatibleError
from npsi_twin.materials import alloy
from npsi_twin.recipes import MadeBy
from npsi_twin.volumes import FloatArray, VoxelGrid

#: Samples per wavelength of the pore network; coarser voxels are cut into sub-voxels.
_SAMPLES_PER_WAVELENGTH = 12
#: Porosity below which a particle counts as dense.
_CLOSED_POROSITY = 0.01
#: Cells, and rows of cells at a time, in which the room between particles is measured.
ROOM_CELL_NM, _ROOM_ROWS = 100.0, 32


@dataclass(frozen=True)
class Composition:
    """Truth of a slab: what fills each voxel. Arrays are (z, y, x), read-only; fractions are of the voxel's volume.

    Attributes
    ----------
    phase
        `npsi_twin.volumes.Phase` labels: the domain with the largest share of the voxel (foil, envelope, carbon-
        binder domain, open space; ties in this order); in an envelope, whichever of silicon and void fills more of
        it, or UNRESOLVED_SILICON where the smaller of mean pore and mean ligament, or most of the silicon's pieces,
        are below two voxels. Bismuth counts as silicon here, being solid of the particle. SEI where it fills most of
        an envelope, or more of the carbon-binder domain than carbon and binder do.
    void_fraction, silicon_fraction, carbon_binder_fraction, current_collector_fraction, bismuth_fraction, sei_fraction
        Volumes per voxel volume; they add up to one. Silicon is the LixSi alloy; carbon-binder its solids.
    lithium_per_silicon
        x in LixSi of the voxel's silicon; 0 where there is none. Lithium-free silicon is ``silicon_fraction`` over the
        alloy's volume ratio at x, in every voxel, whatever mixes in it.
    particle_id
        Number of the particle whose envelope has the largest share of the voxel, pores included; 0 elsewhere.
    voxel_nm
        Edge of a voxel, nm.
    first_row
        Row of the grid at index 0 along z.
    carbon_share
        Carbon's share of the carbon-binder solids' volume; polyimide is the rest.
    made_by
        Provenance.
    """

    phase: NDArray[np.uint8]
    void_fraction: FloatArray
    silicon_fraction: FloatArray
    lithium_per_silicon: FloatArray
    carbon_binder_fraction: FloatArray
    current_collector_fraction: FloatArray
    bismuth_fraction: FloatArray
    sei_fraction: FloatArray
    particle_id: NDArray[np.int32]
    voxel_nm: float
    first_row: int
    carbon_share: float
    made_by: MadeBy

    def __post_init__(self) -> None:
        for value in vars(self).values():
            if isinstance(value, np.ndarray):
                value.flags.writeable = False


def voxelise(electrode: Electrode, grid: VoxelGrid, rows: range) -> Composition:
    """Compute the composition of some rows of a voxel grid.

    Parameters
    ----------
    electrode
        The scene.
    grid
        Voxels about the rotation axis; may be wider and higher than the specimen, not longer.
    rows
        Which rows (z) to compute, step 1.

    Returns
    -------
    Composition
        Arrays of shape (rows, ny, nx).

    Raises
    ------
    IncompatibleError
        If rows lie outside the grid, or the grid is longer along the rotation axis than the scene.

    Examples
    --------
    >>> from npsi_twin.electrode.build import ElectrodeRecipe, build_electrode
    >>> from npsi_twin.electrode.specimen import SpecimenRecipe
    >>> from npsi_twin.seeds import Seeds
    >>> small = ElectrodeRecipe(specimen=SpecimenRecipe(width_um=4.0, length_um=3.0))
    >>> electrode = build_electrode(small, seeds=Seeds(1))
    >>> slab = voxelise(electrode, VoxelGrid((30, 44, 44), 100.0), range(10, 12))
    >>> slab.phase.shape, bool((slab.silicon_fraction + slab.void_fraction <= 1).all())
    ((2, 44, 44), True)
    """
    _check(electrode, grid, rows)
    shares = _shares(electrode, grid, rows, _sub_samples(electrode, grid))
    return Composition(
        phase=shares.phase,
        void_fraction=shares.void,
        silicon_fraction=shares.silicon,
        lithium_per_silicon=shares.excess / np.float32(alloy.volume_ratio(1.0) - 1),
        carbon_binder_fraction=shares.carbon_binder,
        current_collector_fraction=shares.current_collector,
        bismuth_fraction=shares.bismuth,
        sei_fraction=shares.sei,
        particle_id=shares.particle_id,
        voxel_nm=grid.voxel_nm,
        first_row=rows.start,
        carbon_share=electrode.carbon_binder.carbon_share,
        made_by=MadeBy("voxelise", electrode.made_by.recipe_digest, electrode.made_by.root_seed),
    )


def specimen_grid(electrode: Electrode, voxel_nm: float) -> VoxelGrid:
    """Return the smallest grid that holds the specimen's solids above the foil's surface, and all of a needle.

    The voxel is shrunk a little where the length is not a whole number of voxels.
    """
    specimen = electrode.specimen
    rows = math.ceil(1e3 * specimen.length_um / voxel_nm - 1e-9)
    voxel_nm = 1e3 * specimen.length_um / rows
    width = math.ceil(2e3 * specimen.reach_um / voxel_nm - 1e-9)
    tallest = 5 * (electrode.foil.sd_nm + electrode.layer.sd_nm) + electrode.layer.mean_nm
    height = 2 * math.ceil((abs(electrode.foil.mean_nm) + tallest) / voxel_nm)
    return VoxelGrid((rows, width if specimen.shape == "needle" else height, width), voxel_nm)


class Room(NamedTuple):
    """The carbon-binder domain of a specimen in cells of `ROOM_CELL_NM`.

    Attributes
    ----------
    modulation, macropore_field
        Values of the two fields of `CarbonBinder` in n cells, (n,); the second is zero where there is none.
    volume_nm3
        Volume of the domain in each cell, (n,), nm3.
    silicon_nm3
        Volume that the specimen's silicon has without its lithium, nm3.
    """

    modulation: Floats
    macropore_field: Floats
    volume_nm3: Floats
    silicon_nm3: float


def room_between_particles(scene: Electrode, *, even: bool = False) -> Room:
    """Sample the carbon-binder domain of the specimen, and add up its silicon.

    Cells of 100 nm in 50 nm sub-cells are enough: partial volumes are kept, and the fields are smooth over a cell.

    Parameters
    ----------
    scene
        A scene whose domain between particles is filled solid, so that its carbon-binder fraction is the domain itself.
    even
        Take every particle's silicon as spread evenly over its envelope: right but for cut particles, and much faster.
    """
    if even:
        broken, clumped = np.ones(scene.particles.count), np.zeros(scene.particles.count)
        scene = replace(scene, states=replace(scene.states, fragmented_share=broken, clump_solid_fraction=clumped))
    grid, binder = specimen_grid(scene, ROOM_CELL_NM), scene.carbon_binder
    modulation, macropore, volume, silicon = [], [], [], 0.0
    for first in range(0, grid.shape[0], _ROOM_ROWS):
        rows = range(first, min(first + _ROOM_ROWS, grid.shape[0]))
        slab = _shares(scene, grid, rows, sub=2, as_drawn=True)
        silicon += float((slab.silicon / (1 + slab.excess)).sum(dtype=np.float64))
        cells = slab.carbon_binder > 0
        axes = grid.along_nm[rows.start : rows.stop], grid.height_nm, grid.across_nm
        modulation.append(on_lattice(binder.field, *axes)[cells].astype(np.float64))
        macropore.append(on_lattice(binder.macropores.field, *axes)[cells].astype(np.float64))
        volume.append(slab.carbon_binder[cells].astype(np.float64))
    cell_nm3 = grid.voxel_nm**3
    return Room(
        np.concatenate(modulation), np.concatenate(macropore), np.concatenate(volume) * cell_nm3, silicon * cell_nm3
    )


def _shares(electrode: Electrode, grid: VoxelGrid, rows: range, sub: int, as_drawn: bool = False) -> Shares:
    """Rasterise some rows, each voxel cut into ``sub`` cubed.

    The silicon's volume ratio is that of its lithium; ``as_drawn``, that at which the scene draws it, which lags behind
    between lithiation and swelling.
    """
    shape = (len(rows), grid.shape[1], grid.shape[2])
    shares = Shares(
        phase=np.zeros(shape, np.uint8),
        void=np.zeros(shape, np.float32),
        silicon=np.zeros(shape, np.float32),
        excess=np.zeros(shape, np.float32),
        carbon_binder=np.zeros(shape, np.float32),
        sei=np.zeros(shape, np.float32),
        current_collector=np.zeros(shape, np.float32),
        bismuth=np.zeros(shape, np.float32),
        particle_id=np.zeros(shape, np.int32),
    )
    if len(rows):
        scene = SceneArrays(*map(_read_only, _scene_arrays(electrode, as_drawn)))
        axes = GridAxes(*map(_read_only, _axes(electrode, grid, rows)))
        rasterise(scene, axes, sub, _read_only(_is_unresolved(electrode, grid)), shares)
    return shares


def _read_only(value: Any) -> Any:
    """Return an array as one through which nothing is written; anything else as it is.

    Numba compiles for half a minute for every mixture of such arrays and others: a scene's own are read-only, until
    they are sent to another process.
    """
    if not isinstance(value, np.ndarray):
        return value
    view = value.view()
    view.flags.writeable = False
    return view


def _check(electrode: Electrode, grid: VoxelGrid, rows: range) -> None:
    if rows.step != 1 or rows.start < 0 or rows.stop > grid.shape[0]:
        raise IncompatibleError(
            f"voxelise: rows {rows.start} to {rows.stop} (step {rows.step}) of a grid of {grid.shape[0]} rows; rows "
            "must lie "
            "in the grid and follow one another. Ask for a range within it."
        )
    length_um, built_um = grid.shape[0] * grid.voxel_nm / 1e3, electrode.specimen.length_um
    if length_um > built_um * (1 + 1e-9):
        raise IncompatibleError(
            f"voxelise: the grid is {length_um:g} um long along the rotation axis, the electrode is built over "
            f"{built_um:g} um; "
            "beyond its end nothing is known. Use fewer rows, or build with a larger specimen.length_um."
        )


def _sub_samples(electrode: Electrode, grid: VoxelGrid) -> int:
    shortest_nm = float(electrode.pores.wavelength_nm.min(initial=np.inf))
    return max(1, math.ceil(grid.voxel_nm * _SAMPLES_PER_WAVELENGTH / shortest_nm - 1e-9))


def _is_unresolved(electrode: Electrode, grid: VoxelGrid) -> NDArray[np.bool_]:
    """Say for each particle (particles,) whether its network is below two voxels; closed pores leave plain silicon."""
    pore, ligament, states = electrode.pores.mean_pore_nm, electrode.pores.mean_ligament_nm, electrode.states
    fine = (np.minimum(pore, ligament) < 2 * grid.voxel_nm) & (pore > _CLOSED_POROSITY * (pore + ligament))
    broken = (states.fragmented_share > 0.5) & (states.fragment_nm < 2 * grid.voxel_nm)
    return np.asarray(fine | (broken & (electrode.pores.solid_fraction < 1 - _CLOSED_POROSITY)))


def _scene_arrays(electrode: Electrode, as_drawn: bool) -> SceneArrays:
    particles, pores, beads, binder = electrode.particles, electrode.pores, electrode.bismuth, electrode.carbon_binder
    states, macropores = electrode.states, binder.macropores
    ratio = particles.silicon_volume_ratio if as_drawn else alloy.volume_ratios(particles.lithium_per_silicon)
    return SceneArrays(
        particles.centre_nm, particles.lower_nm, particles.upper_nm, particles.facet_normals,
        particles.facet_distances_nm, particles.core_distances_nm, particles.facet_start,
        ratio, ratio * core_volume_ratio(particles),
        states.present, states.fragmented_share, states.clump_solid_fraction, states.sei_pore_share,
        pores.wavevectors_per_nm, pores.phases_rad, pores.levels, pores.solid_fraction,
        beads.places_nm, beads.start, beads.radius_nm,
        binder.field.wavevectors_per_nm, binder.field.phases_rad, binder.level_fraction, binder.contrast,
        binder.least_fraction, binder.most_fraction, binder.sei_room_share,
        macropores.field.wavevectors_per_nm, macropores.field.phases_rad, macropores.level, macropores.slope_per_nm,
    )  # fmt: skip


def _axes(electrode: Electrode, grid: VoxelGrid, rows: range) -> GridAxes:
    along = np.ascontiguousarray(grid.along_nm[rows.start : rows.stop])
    height, across, voxel = grid.height_nm, grid.across_nm, grid.voxel_nm
    foil_top = electrode.foil.on_rows(along, across, voxel)
    thickness = electrode.layer.on_rows(along, across, voxel)
    bottom, torn = foil_top, np.zeros(foil_top.shape, bool)
    if electrode.islands is not None:
        columns = electrode.islands.on_rows(along, across)
        bottom, torn = foil_top + columns.gap_nm, columns.lost | columns.cracked
    inside: Floats = electrode.specimen.share(height, across, voxel)
    foil_bottom = electrode.foil.mean_nm - electrode.foil_thickness_nm
    return GridAxes(
        rows.start, grid.shape[0], along, height, across, voxel, foil_top, bottom, bottom + thickness, torn,
        foil_bottom, inside,
    )  # fmt: skip
