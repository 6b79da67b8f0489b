"""Carbon black and polyimide: a sub-resolution fraction field between the particles.

`SlurryRecipe`, the scene's silicon and the room between its particles, `Seeds` -> `CarbonBinder`. The model: 40 nm
carbon black and polyimide are never resolved, so that the domain between particles, from the foil up to the layer's
top, carries only the volume share of their solids,

    c(x) = clip(c0 (1 + contrast g(x)), least, most),   g: a smooth unit Gaussian field,

with c0 solved so that the solids' volumes follow the slurry's weights. Carbon and polyimide are mixed in one proportion
everywhere. It holds while features of the domain are below the voxel; pores inside particles stay empty.
"""

import dataclasses
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import brentq

from npsi_twin.electrode.waves import Floats, WaveField, smooth_waves
from npsi_twin.errors import ParameterError
from npsi_twin.materials.compounds import MATERIALS
from npsi_twin.recipes import Recipe, parameter
from npsi_twin.seeds import Seeds

#: Waves of the modulation; it varies slowly and needs few.
_WAVES = 64


class SlurryRecipe(Recipe):
    """Weights of the slurry's solids, and how evenly carbon and binder are spread."""

    silicon_weight_parts: float = parameter(
        60.0, "weight of silicon in the slurry", unit="parts", source="Zhao 2018, section 2.1: stated", gt=0, le=100
    )
    carbon_weight_parts: float = parameter(
        25.0,
        "weight of acetylene black in the slurry",
        unit="parts",
        source="Zhao 2018, section 2.1: stated",
        ge=0,
        lt=100,
    )
    polyimide_weight_parts: float = parameter(
        15.0, "weight of polyimide in the slurry (weighed as its precursor)", unit="parts",
        source="Zhao 2018, section 2.1: stated", ge=0, lt=100,
    )  # fmt: skip
    contrast: float = parameter(
        0.3, "standard deviation of the local solid share over its mean", source="assumed", ge=0, le=1
    )
    correlation_length_nm: float = parameter(
        600.0, "distance over which the solid share varies (1/e)", unit="nm", source="assumed", ge=100, le=20000
    )
    least_fraction: float = parameter(0.1, "smallest solid share between particles", source="assumed", ge=0.0, le=0.9)
    most_fraction: float = parameter(0.95, "largest solid share between particles", source="assumed", gt=0.05, le=1.0)

    @property
    def carbon_binder_per_silicon(self) -> float:
        """Volume of carbon and polyimide solids over the volume of silicon."""
        carbon, polyimide, silicon = self._volumes()
        return (carbon + polyimide) / silicon

    @property
    def carbon_share(self) -> float:
        """Carbon's share of the carbon-binder solids' volume."""
        carbon, polyimide, _ = self._volumes()
        return carbon / (carbon + polyimide) if carbon + polyimide > 0 else 0.0

    def _volumes(self) -> tuple[float, float, float]:
        return (
            self.carbon_weight_parts / MATERIALS["acetylene_black"].density_g_per_cm3,
            self.polyimide_weight_parts / MATERIALS["polyimide"].density_g_per_cm3,
            self.silicon_weight_parts / MATERIALS["silicon"].density_g_per_cm3,
        )


@dataclass(frozen=True)
class Macropores:
    """Open space between the particles, where a smooth field lies further from zero than a level.

    What is left round the field's zeros are webs, and they hang together however thin they get.

    Attributes
    ----------
    field
        Unit-variance field; without waves there are no macropores.
    level
        Open where the field's magnitude is above.
    slope_per_nm
        Root mean square gradient of the field, 1/nm.
    """

    field: WaveField
    level: float
    slope_per_nm: float


def no_macropores() -> Macropores:
    """Return the macropores of a layer that has none."""
    return Macropores(WaveField(np.empty((0, 3)), np.empty(0)), np.inf, 1.0)


@dataclass(frozen=True)
class CarbonBinder:
    """The share of solids between the particles.

    Attributes
    ----------
    field
        Unit-variance modulation.
    contrast
        Its weight.
    level_fraction
        Solid share where the modulation is zero.
    least_fraction, most_fraction
        Limits of the solid share.
    carbon_share
        Carbon's share of the solids' volume.
    macropores
        Where the domain is open space.
    sei_room_share
        Share of the room that carbon and binder leave in their domain that SEI fills.
    """

    field: WaveField
    contrast: float
    level_fraction: float
    least_fraction: float
    most_fraction: float
    carbon_share: float
    macropores: Macropores = dataclasses.field(default_factory=no_macropores)
    sei_room_share: float = 0.0

    def share(self, modulation: Floats) -> Floats:
        """Return the solid share for values of the modulation field."""
        plain = self.level_fraction * (1 + self.contrast * modulation)
        return np.clip(plain, self.least_fraction, self.most_fraction)


def draw_modulation(recipe: SlurryRecipe, *, seeds: Seeds) -> WaveField:
    """Draw the field that modulates the solid share."""
    return smooth_waves(seeds.stream("carbon-binder"), _WAVES, recipe.correlation_length_nm)


def fill_carbon_binder(
    recipe: SlurryRecipe, field: WaveField, modulation: Floats, room_nm3: Floats, silicon_nm3: float
) -> CarbonBinder:
    """Solve the solid share so that carbon and polyimide follow the slurry's weights.

    Parameters
    ----------
    recipe
        The slurry.
    field
        Modulation field, from `draw_modulation`.
    modulation, room_nm3
        Samples of the modulation in the room between particles and the volume each stands for, nm3, shape (n,).
    silicon_nm3
        Volume of silicon that shares the specimen with this room, nm3.

    Returns
    -------
    CarbonBinder
        With ``sum(share * room) = carbon_binder_per_silicon * silicon``.

    Raises
    ------
    ParameterError
        If the solids do not fit into the room, or if the least share already holds more than there is.
    """
    wanted = recipe.carbon_binder_per_silicon * silicon_nm3
    if recipe.least_fraction >= recipe.most_fraction:
        raise ParameterError(
            f"slurry: least_fraction = {recipe.least_fraction:g} is not below most_fraction = "
            f"{recipe.most_fraction:g}; the "
            "solid share between particles varies between them. Widen the range."
        )

    binder = CarbonBinder(field, recipe.contrast, 0.0, recipe.least_fraction, recipe.most_fraction, recipe.carbon_share)
    solved = solve_solids(binder, modulation, room_nm3, wanted) if silicon_nm3 > 0 else None
    if solved is None:
        mean = wanted / float(room_nm3.sum()) if room_nm3.sum() > 0 else float("inf")
        raise ParameterError(
            f"slurry: carbon and polyimide would fill {mean:.3f} of the room between particles; allowed "
            f"{recipe.least_fraction:g} to {recipe.most_fraction:g} (least_fraction, most_fraction), since their "
            "volume "
            "follows from the silicon's by weight. Change powder.envelope_fraction, silicon.porosity_fraction, the "
            "weights "
            "or the limits."
        )
    return solved


def solve_solids(binder: CarbonBinder, modulation: Floats, room_nm3: Floats, solids_nm3: float) -> CarbonBinder | None:
    """Solve the solid share so that carbon and polyimide have a given volume; None where the room cannot hold it.

    Parameters
    ----------
    binder
        Field, contrast and limits; its own level does not matter.
    modulation, room_nm3
        Samples of the room between particles, as in `fill_carbon_binder`.
    solids_nm3
        The solids' volume, nm3.
    """

    def excess(level: float) -> float:
        return float((replace(binder, level_fraction=level).share(modulation) * room_nm3).sum()) - solids_nm3

    # Beyond this level the unclipped share is at the limit wherever the modulation lets it.
    limit = 4 * binder.most_fraction
    if excess(0.0) > 0 or excess(limit) < 0:
        return None
    return replace(binder, level_fraction=float(brentq(excess, 0.0, limit, xtol=1e-9)))
