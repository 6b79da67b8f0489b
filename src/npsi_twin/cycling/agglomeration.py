"""Agglomeration: swollen particles that are pressed together weld.

`Electrode` after swelling, `Condition`, `Seeds` -> `Electrode` with agglomerates. The model: with phi the envelopes'
share of the layer at the end of a charge (the history's, so that the accommodation that sets the thickness also sets
the contact), neighbours touch with the probability

    p = [(phi - phi_c) / (1 - phi_c)]_+,

weld where they touch in the first lithiation, and in every later cycle with p / N_a: after N cycles the share of welded
contacts is 1 - (1 - p_1) exp(-sum p_n / N_a). Agglomerates grow by whole contacts, in one order for all cycles, up to a
largest number of members. Members' pores close in part, members are drawn together until they share faces (their
necks), and what they leave behind is macropores. Touching particles brace the layer: its height rises by the factor
1 + arching p_1, and sinks back as the arches collapse.

What the paper's story asks of it: envelopes fill 0.55 of the layer, 0.68 at 1000 mAh/g, 0.73 at 1570 and 0.76 at 2000
(accommodation 0, which the thickness needs). Agglomerates at 2000 and none by cycling at 1000 need phi_c between 0.68
and 0.76. A rule on the solid share inside particles never fires at accommodation 0, where that share stays 0.396.

References
----------
C. Zhao et al., Nano Energy 52 (2018) 381-390, section 3.3.2; H. S. Karki et al., Nano Lett. 13 (2013) 3587 (welding of
silicon by lithium); M. Smoluchowski, Z. Phys. Chem. 92 (1917) 129 (growth of agglomerates by contact).
"""

from dataclasses import replace
from typing import Literal

import numpy as np

from npsi_twin.cycling.capacity import begun
from npsi_twin.cycling.layer import body_centres, fill_of, filled, neighbours, raised, with_macropores
from npsi_twin.cycling.protocol import Condition
from npsi_twin.electrode.bicontinuous import swollen_pore_networks
from npsi_twin.electrode.polyhedra import Floats, Integers
from npsi_twin.electrode.repacking import repack
from npsi_twin.electrode.scene import Electrode
from npsi_twin.electrode.states import History
from npsi_twin.errors import IncompatibleError
from npsi_twin.recipes import Recipe, parameter
from npsi_twin.seeds import Seeds


class Agglomeration(Recipe):
    """When particles weld, and what that does to them and to the layer."""

    mechanism: Literal["agglomeration"] = "agglomeration"
    contact_fraction: float = parameter(
        0.715, "phi_c: envelopes' share of the layer from which on particles touch",
        source="assumed: between random loose and dense packing of faceted grains", ge=0.5, le=0.8,
    )  # fmt: skip
    weld_cycles: float = parameter(
        20.0, "N_a: cycles of contact that weld two neighbours", unit="cycles", source="assumed", ge=1, le=10_000
    )
    largest_members: int = parameter(
        12, "most particles in an agglomerate", source="assumed: those within a few micrometres", ge=1, le=1000
    )
    closing: float = parameter(
        0.34,
        "share of a member's pores that close",
        source="inferred: ratio of the lives; 1 is a dense body",
        ge=0,
        le=1,
    )
    arching: float = parameter(
        5.3, "rise of the layer's height over the probability of contact in the first lithiation",
        source="assumed: no published value", ge=0, le=20,
    )  # fmt: skip
    collapse_cycles: float = parameter(
        30.0, "cycles in which arches collapse to 1/e", unit="cycles", source="assumed", ge=1, le=10_000
    )
    macropore_um: float = parameter(
        1.0, "distance over which the macropores forget their shape (1/e)", unit="um", source="assumed", ge=0.2, le=10
    )
    clearance_nm: float = parameter(
        20.0, "smallest gap between particles of different agglomerates", unit="nm", source="assumed", ge=0, le=200
    )

    @property
    def name(self) -> str:
        """Name of the mechanism and of its random stream."""
        return self.mechanism

    def contact_probability(self, packing_fraction: Floats) -> Floats:
        """Return the probability that neighbours touch where envelopes fill a share of the layer.

        Examples
        --------
        >>> Agglomeration(contact_fraction=0.7).contact_probability(np.array([0.68, 0.76])).round(2)
        array([0. , 0.2])
        """
        return np.maximum(0.0, (packing_fraction - self.contact_fraction) / (1 - self.contact_fraction))

    def welded_share(self, history: History) -> Floats:
        """Return the expected share of contacts that have welded, (cycles,)."""
        contact = np.minimum(self.contact_probability(history.packing_fraction), 1 - 1e-12)
        hazard = np.concatenate([-np.log1p(-contact[:1]), contact[1:] / self.weld_cycles])
        return np.asarray(-np.expm1(-np.cumsum(hazard)))

    def act(self, electrode: Electrode, condition: Condition, *, seeds: Seeds) -> Electrode:
        """Return the scene with its agglomerates; the input stays untouched.

        Raises
        ------
        IncompatibleError
            If the scene has not swollen: nothing says how tightly it is packed.
        """
        electrode, history = begun(electrode, condition)
        if not history.packing_fraction.any():
            raise IncompatibleError(
                "agglomeration: the history holds no packing; envelopes touch because they have swollen. Let swelling "
                "act before."
            )
        agglomerate, weld_cycle = self._bodies(electrode, history, condition.cycle, seeds)
        states = replace(electrode.states, agglomerate=agglomerate, weld_cycle=weld_cycle)
        welded = self._drawn_together(replace(electrode, states=states), seeds)
        contact = float(self.contact_probability(history.packing_fraction)[0])
        rise = 1 + self.arching * contact * np.exp(-(history.cycles - 1) / self.collapse_cycles)
        history = replace(
            history,
            thickness_ratio=history.thickness_ratio * rise,
            packing_fraction=history.packing_fraction / rise,
        )
        welded = replace(welded, history=history)
        rise_nm = (rise[condition.cycle - 1] - 1) * electrode.layer.mean_nm
        return (
            raised(welded, rise_nm, 0.0, self.macropore_um, self.clearance_nm, seeds=seeds) if rise_nm > 0 else welded
        )

    def _bodies(self, electrode: Electrode, history: History, cycle: int, seeds: Seeds) -> tuple[Integers, Floats]:
        """Return each particle's agglomerate after ``cycle``, and the cycle of its first weld."""
        count, pairs = electrode.particles.count, neighbours(electrode)
        # Each pair draws its own: who else stands near moves nobody's fate.
        fate = np.array([seeds.stream(self.name, int(i), int(j)).random() for i, j in pairs])
        # The contact welds in the first cycle in which the welded share passes its fate.
        welds = np.searchsorted(self.welded_share(history), fate) + 1.0
        root, members, first = np.arange(count), np.ones(count, int), np.full(count, np.inf)
        body = root.copy()
        for bond in np.argsort(welds, kind="stable"):
            if welds[bond] > history.cycles.size:
                break
            i, j = (_root(root, particle) for particle in pairs[bond])
            if i == j or members[i] + members[j] > self.largest_members:
                continue
            root[max(i, j)], members[min(i, j)] = min(i, j), members[i] + members[j]
            first[pairs[bond]] = np.minimum(first[pairs[bond]], welds[bond])
            if welds[bond] <= cycle:
                body = root.copy()
        return np.array([_root(body, particle) for particle in range(count)], np.int64), first

    def _drawn_together(self, electrode: Electrode, seeds: Seeds) -> Electrode:
        """Close members' pores in part, and draw members together until they share faces."""
        particles, pores, states = electrode.particles, electrode.pores, electrode.states
        porosity = 1 - pores.solid_fraction
        dense = porosity * (1 - self.closing)
        states = replace(states, loose_solid_fraction=1 - porosity, welded_solid_fraction=1 - dense)
        electrode = replace(electrode, states=states)
        member = states.members > 1
        if not member.any():
            return electrode
        porosity = np.where(member, dense, porosity)
        envelope = particles.envelope_nm3 * pores.solid_fraction / (1 - porosity)
        ids, size = states.agglomerate, particles.count
        shrink = np.cbrt(
            np.bincount(ids, envelope, size) / np.maximum(np.bincount(ids, particles.envelope_nm3, size), 1e-300)
        )[ids]
        middle, before = body_centres(electrode), fill_of(electrode)
        centre = middle + shrink[:, None] * (particles.centre_nm - middle)
        packed = repack(particles, centre, envelope, electrode.foil, electrode.layer, self.clearance_nm, ids)
        pores = swollen_pore_networks(pores, packed, np.cbrt(envelope / particles.envelope_nm3), porosity)
        drawn = replace(electrode, particles=packed, pores=pores)
        # What members leave behind is open: carbon and binder keep their room.
        return filled(with_macropores(drawn, self.macropore_um, seeds=seeds), before)


def _root(parents: Integers, particle: int) -> int:
    while parents[particle] != particle:
        particle = int(parents[particle])
    return particle
