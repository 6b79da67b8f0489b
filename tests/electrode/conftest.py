"""Scenes that several tests of the room look at."""

import pytest

from npsi_twin.electrode.build import ElectrodeRecipe, build_electrode
from npsi_twin.electrode.specimen import SpecimenRecipe
from npsi_twin.seeds import Seeds


@pytest.fixture(scope="session")
def block():
    """A block of 5 x 4 um of the paper's electrode."""
    recipe = ElectrodeRecipe(specimen=SpecimenRecipe(shape="block", width_um=5.0, length_um=4.0))
    return build_electrode(recipe, seeds=Seeds(11))


@pytest.fixture(scope="session")
def needle():
    """A needle of 5 um diameter and 3 um length, 400 nm across and 300 nm below the rotation axis."""
    specimen = SpecimenRecipe(width_um=5.0, length_um=3.0, needle_offset_across_um=0.4, needle_offset_height_um=-0.3)
    recipe = ElectrodeRecipe(specimen=specimen)
    return build_electrode(recipe, seeds=Seeds(12))
