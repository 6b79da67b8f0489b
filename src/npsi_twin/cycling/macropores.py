"""Macropores: open space that cycling leaves between the particles.

`Electrode` after swelling, `Condition`, `Seeds` -> a taller `Electrode`. The model: the first lithiation pushes
particles apart and the space stays open; breathing ratchets the loose ones further apart, cycle by cycle,

    T -> T [1 + first_rise (<J_first> - 1)] [1 + l cycle_rise (1 - exp(-(N - 1) / N_v))],

with J_first the silicon's volume ratio in the first lithiation and l the share of silicon that has welded to nothing by
then: welded particles move together. Nothing fills the space, so that attenuation falls as 1 / T. It opens between
particles as long as they are whole, and between their fragments as well once they have broken: with the broken share f
of the silicon above one half, a rise R lifts the particles by R^(1 - f) and draws out layer and envelopes by R^f, in
which clumps of fragments stay as dense as the particles were. A layer of some two particles could not stand eight times
as high otherwise: its bodies would part into some at the foil and some at the top. Neither rise has a published value;
Zhao 2018 gives the thickness after 500 cycles that they must explain, and finds no particles then.

References
----------
C. Zhao et al., Nano Energy 52 (2018) 381-390, section 3.2.1; Z. Tranchot et al., IMLB 2016 (dilatometry of silicon
composites: irreversible growth that goes on over cycles).
"""

from dataclasses import replace
from typing import Literal

import numpy as np

from npsi_twin.cycling.capacity import bare_silicon_nm3, begun
from npsi_twin.cycling.layer import dilated, raised
from npsi_twin.cycling.protocol import Condition
from npsi_twin.electrode.polyhedra import Floats, Integers
from npsi_twin.electrode.scene import Electrode
from npsi_twin.materials import alloy
from npsi_twin.recipes import Recipe, parameter
from npsi_twin.seeds import Seeds

#: Share of the silicon in fragments from which on space opens between them too.
_BROKEN = 0.5


class Macropores(Recipe):
    """How much open space the first lithiation and the cycles after it leave."""

    mechanism: Literal["macropores"] = "macropores"
    first_rise: float = parameter(
        0.0,
        "rise of the layer in the first lithiation over the silicon's growth, relative",
        source="assumed",
        ge=0,
        le=2,
    )
    cycle_rise: float = parameter(
        7.5, "rise of a layer of loose particles in the long run, relative",
        source="inferred: more than eight times the thickness after 500 cycles (Zhao 2018, section 3.2.1)", ge=0, le=30,
    )  # fmt: skip
    rise_cycles: float = parameter(
        150.0, "N_v: cycles of that rise to 1 - 1/e", unit="cycles", source="assumed", ge=1, le=10_000
    )
    macropore_um: float = parameter(
        1.5, "distance over which the macropores forget their shape (1/e)", unit="um", source="assumed", ge=0.2, le=10
    )
    clump_um: float = parameter(
        0.8, "distance from clump to clump of fragments in bodies that were drawn out", unit="um", source="assumed",
        ge=0.2, le=10,
    )  # fmt: skip
    clearance_nm: float = parameter(20.0, "smallest gap between particles", unit="nm", source="assumed", ge=0, le=200)

    @property
    def name(self) -> str:
        """Name of the mechanism."""
        return self.mechanism

    def rise(self, cycles: Floats | Integers, first_volume_ratio: float, loose_share: Floats | float) -> Floats:
        """Return the factor on the layer's height after some cycles.

        Examples
        --------
        >>> Macropores(cycle_rise=8.0, rise_cycles=100.0).rise(np.array([1.0, 101.0]), 2.2, 0.5).round(3)
        array([1.   , 3.528])
        """
        opened = 1 - np.exp(-(np.asarray(cycles, float) - 1) / self.rise_cycles)
        return (1 + self.first_rise * (first_volume_ratio - 1)) * (1 + loose_share * self.cycle_rise * opened)

    def act(self, electrode: Electrode, condition: Condition, *, seeds: Seeds) -> Electrode:
        """Return the scene with a taller layer; the input stays untouched."""
        electrode, history = begun(electrode, condition)
        silicon = bare_silicon_nm3(electrode)
        first = alloy.volume_ratio(alloy.lithium_per_silicon(condition.first_lithiation_mah_per_g))
        order = np.argsort(electrode.states.weld_cycle)
        welded = np.concatenate([[0.0], np.cumsum(silicon[order]) / silicon.sum()])
        loose = 1 - welded[np.searchsorted(electrode.states.weld_cycle[order], history.cycles, side="right")]
        rise = self.rise(history.cycles, first, loose)
        now = rise[condition.cycle - 1]
        if now == 1:
            return electrode
        history = replace(
            history,
            thickness_ratio=history.thickness_ratio * rise,
            packing_fraction=history.packing_fraction / rise,
        )
        broken = float(np.average(electrode.states.fragmented_share, weights=silicon))
        within = now**broken if broken > _BROKEN else 1.0
        between = now / within
        rise_nm = (between - 1) * electrode.layer.mean_nm
        higher = replace(electrode, history=history)
        higher = raised(higher, rise_nm, 0.0, self.macropore_um, self.clearance_nm, seeds=seeds)
        return dilated(higher, within, self.clump_um) if within > 1 else higher
