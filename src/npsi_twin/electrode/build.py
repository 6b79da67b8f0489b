"""Build the scene: the analytic, resolution-independent description of a pristine electrode.

`ElectrodeRecipe`, `Seeds` -> `Electrode`. The order: foil and layer surfaces, powder between them, a pore network in
every particle, bismuth where asked, carbon and binder in the room that is left. Nothing here knows a voxel size;
`voxelise` turns any slab of the scene into truth at any resolution, and `cycling` turns one scene into another.
"""

from dataclasses import replace

from npsi_twin.electrode.bicontinuous import SiliconRecipe, build_pore_networks
from npsi_twin.electrode.binder import CarbonBinder, SlurryRecipe, draw_modulation, fill_carbon_binder
from npsi_twin.electrode.bismuth import BismuthRecipe, build_bismuth
from npsi_twin.electrode.powder import PowderRecipe, build_powder
from npsi_twin.electrode.scene import Electrode
from npsi_twin.electrode.specimen import SpecimenRecipe
from npsi_twin.electrode.states import pristine_states
from npsi_twin.electrode.surfaces import FoilRecipe, LayerRecipe, build_surfaces
from npsi_twin.electrode.voxelise import room_between_particles
from npsi_twin.recipes import MadeBy, Recipe, parameter
from npsi_twin.seeds import Seeds


class ElectrodeRecipe(Recipe):
    """A pristine electrode after Zhao et al., Nano Energy 52 (2018) 381-390."""

    silicon: SiliconRecipe = parameter(SiliconRecipe(), "pore network inside the particles")
    powder: PowderRecipe = parameter(PowderRecipe(), "sizes, shapes and packing of the particles")
    foil: FoilRecipe = parameter(FoilRecipe(), "copper current collector")
    layer: LayerRecipe = parameter(LayerRecipe(), "height of all solids above the foil")
    slurry: SlurryRecipe = parameter(SlurryRecipe(), "weights of silicon, carbon and polyimide")
    bismuth: BismuthRecipe = parameter(BismuthRecipe(), "residue of the dealloying")
    specimen: SpecimenRecipe = parameter(SpecimenRecipe(), "what is cut out and scanned")


def build_electrode(recipe: ElectrodeRecipe, *, seeds: Seeds) -> Electrode:
    """Build the scene of a pristine electrode.

    Parameters
    ----------
    recipe
        What to build.
    seeds
        Root of every random number in it.

    Returns
    -------
    Electrode
        The scene; the same recipe and seed give the same bits.

    Raises
    ------
    ParameterError
        If the asked numbers do not fit together physically (packing, solids between particles, beads in pores).

    Notes
    -----
    Carbon and polyimide follow the slurry's weights against the silicon inside the specimen, so that the
    ratio holds for what is scanned, whatever its size.

    Examples
    --------
    >>> from npsi_twin.electrode.specimen import SpecimenRecipe
    >>> small = ElectrodeRecipe(specimen=SpecimenRecipe(width_um=4.0, length_um=3.0))
    >>> electrode = build_electrode(small, seeds=Seeds(1))
    >>> electrode.particles.count == electrode.pores.levels.size > 10
    True
    """
    foil, layer = build_surfaces(recipe.foil, recipe.layer, 1e3 * recipe.specimen.foil_surface_height_um, seeds=seeds)
    region = recipe.specimen.region(margin_nm=1e3 * recipe.powder.largest_diameter_um)
    particles = build_powder(recipe.powder, foil, layer, region, seeds=seeds)
    pores = build_pore_networks(recipe.silicon, particles, seeds=seeds)
    field = draw_modulation(recipe.slurry, seeds=seeds)
    scene = Electrode(
        specimen=recipe.specimen,
        foil=foil,
        foil_thickness_nm=1e3 * recipe.foil.thickness_um,
        layer=layer,
        particles=particles,
        pores=pores,
        bismuth=build_bismuth(recipe.bismuth, particles, pores, seeds=seeds),
        carbon_binder=CarbonBinder(field, 0.0, 1.0, 0.0, 1.0, recipe.slurry.carbon_share),
        states=pristine_states(particles.count),
        envelope_fraction=recipe.powder.envelope_fraction,
        made_by=MadeBy("build_electrode", recipe.digest(), seeds.root),
    )
    room = room_between_particles(scene)
    filled = fill_carbon_binder(recipe.slurry, field, room.modulation, room.volume_nm3, room.silicon_nm3)
    return replace(scene, carbon_binder=filled)
