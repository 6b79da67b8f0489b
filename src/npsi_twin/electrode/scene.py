"""The scene: what an electrode is before any voxel size is chosen.

`build` makes it, `npsi_twin.cycling` turns one into another, `voxelise` turns slabs of it into truth.
"""

from dataclasses import dataclass

from npsi_twin.electrode.bicontinuous import PoreNetworks
from npsi_twin.electrode.binder import CarbonBinder
from npsi_twin.electrode.bismuth import BismuthBeads
from npsi_twin.electrode.powder import Particles
from npsi_twin.electrode.specimen import SpecimenRecipe
from npsi_twin.electrode.states import History, Islands, ParticleStates
from npsi_twin.electrode.surfaces import HeightMap
from npsi_twin.recipes import MadeBy


@dataclass(frozen=True)
class Electrode:
    """An electrode as an analytic scene; positions are (along, height, across) about the rotation axis, nm.

    Attributes
    ----------
    specimen
        What is cut out of the scene.
    foil
        Height of the foil's surface.
    foil_thickness_nm
        From the foil's mean surface down, nm.
    layer
        Height of all solids above the local foil surface.
    particles
        Places, envelopes and lithium of the particles.
    pores
        The pore network of every particle.
    bismuth
        Beads in the pores.
    carbon_binder
        Solids and macropores between the particles.
    states
        What cycling wrote on the particles.
    envelope_fraction
        Volume of all pristine envelopes over that of the pristine layer, in the whole of what was built.
    made_by
        Provenance.
    islands
        How the plane of the foil is shared out among the particles; None while the layer is whole.
    history
        What the cell went through; None for a cell that was never cycled.
    """

    specimen: SpecimenRecipe
    foil: HeightMap
    foil_thickness_nm: float
    layer: HeightMap
    particles: Particles
    pores: PoreNetworks
    bismuth: BismuthBeads
    carbon_binder: CarbonBinder
    states: ParticleStates
    envelope_fraction: float
    made_by: MadeBy
    islands: Islands | None = None
    history: History | None = None
