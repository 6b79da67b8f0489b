"""Solid electrolyte interphase: what the electrolyte leaves behind in every cycle.

`Electrode` after swelling, `Condition` -> `Electrode` with SEI. The model: of every charge Q the share 1 - CE reduces
electrolyte instead of silicon and leaves the volume v for each mole of electrons,

    V_SEI per gram of silicon = v (1 - CE) sum Q / (26801 mAh/mol).

A share of it grows inside the particles until their pores are full; the rest grows between them, until it fills the
given share of the room that carbon and binder leave there, and beyond that pushes the layer up. Silicon is not
consumed. SEI is a solid of LiF and Li2CO3 (`npsi_twin.txm.contrast`); electrolyte that dries out is not in it.

References
----------
C. Zhao et al., Nano Energy 52 (2018) 381-390, section 3.2; V. A. Sethuraman et al., arXiv:1201.1429 (side reactions).
"""

from dataclasses import replace
from typing import Literal

import numpy as np

from npsi_twin.cycling.capacity import bare_silicon_nm3, begun
from npsi_twin.cycling.layer import fill_of, raised
from npsi_twin.cycling.protocol import Condition
from npsi_twin.electrode.polyhedra import Floats
from npsi_twin.electrode.scene import Electrode
from npsi_twin.electrode.states import History
from npsi_twin.materials.compounds import MATERIALS
from npsi_twin.recipes import Recipe, parameter
from npsi_twin.seeds import Seeds

#: Faraday constant, mAh/mol.
_FARADAY_MAH_PER_MOL = 96485.33212 / 3.6


class SeiGrowth(Recipe):
    """How much SEI grows, and where."""

    mechanism: Literal["sei-growth"] = "sei-growth"
    coulombic_efficiency: float = parameter(
        0.999, "share of the charge that goes into silicon", source="assumed: 0.99 to 0.9995 in FEC", ge=0.9, le=1
    )
    volume_cm3_per_mol: float = parameter(
        30.0,
        "volume of SEI for each mole of electrons",
        unit="cm3/mol",
        source="assumed: LiF alone gives 9.8",
        ge=5,
        le=60,
    )
    pore_share: float = parameter(
        0.5, "share that grows inside the particles as long as their pores have room", source="assumed", ge=0, le=1
    )
    densest_fraction: float = parameter(
        0.7,
        "share of the room between carbon and binder that SEI can fill before it pushes",
        source="assumed",
        gt=0,
        le=1,
    )
    macropore_um: float = parameter(
        1.5, "distance over which the macropores forget their shape (1/e)", unit="um", source="assumed", ge=0.2, le=10
    )
    clearance_nm: float = parameter(20.0, "smallest gap between particles", unit="nm", source="assumed", ge=0, le=200)

    @property
    def name(self) -> str:
        """Name of the mechanism."""
        return self.mechanism

    def per_silicon(self, history: History) -> Floats:
        """Return the volume of SEI over that of lithium-free silicon after every cycle, (cycles,).

        Examples
        --------
        >>> ones = np.ones(500)
        >>> cell = History(1000.0, 3579.0, ones, ones, ones.copy(), ones)
        >>> round(float(SeiGrowth(coulombic_efficiency=0.995).per_silicon(cell)[-1]) / 2.329, 2)  # cm3 per gram
        2.8
        """
        moles_per_g = (1 - self.coulombic_efficiency) * np.cumsum(history.capacity_mah_per_g) / _FARADAY_MAH_PER_MOL
        return np.asarray(self.volume_cm3_per_mol * moles_per_g * MATERIALS["silicon"].density_g_per_cm3)

    def act(self, electrode: Electrode, condition: Condition, *, seeds: Seeds) -> Electrode:
        """Return the scene with its SEI; the input stays untouched."""
        electrode, history = begun(electrode, condition)
        grown = self.per_silicon(history)
        silicon = bare_silicon_nm3(electrode)
        pores = (1 - electrode.pores.solid_fraction) * electrode.particles.envelope_nm3
        inside = np.minimum(self.pore_share * grown[:, None], (pores / silicon)[None, :])
        before, binder = fill_of(electrode), electrode.carbon_binder
        outside = grown - np.average(inside, axis=1, weights=silicon)
        room = before.binder_room_per_silicon - before.solids_per_silicon
        pushed = np.maximum(outside / self.densest_fraction - room, 0.0)
        rise = 1 + pushed * before.silicon_share
        now = condition.cycle - 1
        share = float(outside[now] / (room + pushed[now])) if room + pushed[now] > 0 else 0.0
        filled = np.where(pores > 0, inside[now] * silicon / np.maximum(pores, 1e-300), 0.0)
        # Carbon and binder are thinned out as their domain grows.
        thinner = before.binder_room_per_silicon / (before.binder_room_per_silicon + pushed[now])
        scene = replace(
            electrode,
            states=replace(electrode.states, sei_pore_share=np.minimum(filled, 1.0)),
            carbon_binder=replace(binder, least_fraction=binder.least_fraction * thinner),
            history=replace(
                history,
                thickness_ratio=history.thickness_ratio * rise,
                packing_fraction=history.packing_fraction / rise,
                filled_ratio=history.filled_ratio * rise,
            ),
        )
        if pushed[now] > 0:
            rise_nm = (rise[now] - 1) * electrode.layer.mean_nm
            scene = raised(scene, rise_nm, pushed[now], self.macropore_um, self.clearance_nm, seeds=seeds)
        return replace(scene, carbon_binder=replace(scene.carbon_binder, sei_room_share=share))
