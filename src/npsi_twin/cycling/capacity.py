"""Capacity under a fixed cut-off: what the cell went through, and laws by which silicon stops taking part.

A condition -> the `History` that mechanisms write on; `DepthFatigue`, `ContactLoss` -> particles cut off from charge.
With a the active fraction, Q_c the cut-off, Q_p what active silicon can hold, every active gram takes Q_c / a, and the
cell fails, suddenly, when a Q_p < Q_c. Two laws of loss:

    depth fatigue    da/dN = -k (q / a)^m,  q = Q_c / Q_p:    a^(m+1) = 1 - (m + 1) k q^m N
    contact loss     a = exp(-l N), the same for every cut-off.

The first is the null hypothesis: with one exponent from 1.5 upwards it gives the ratio of lives that the paper explains
by agglomeration. Silicon that drops out stays where it is and holds no lithium; who drops out is drawn at random.
Detachment is a loss of another kind (`delamination`).

References
----------
C. Zhao et al., Nano Energy 52 (2018) 381-390, section 3.1 (lives);
S. S. Manson, NACA Report 1170 (1954) (fatigue: life falls with a power of the amplitude).
"""

from dataclasses import replace
from typing import Literal, cast

import numpy as np

from npsi_twin.cycling.protocol import Condition
from npsi_twin.electrode.bicontinuous import core_volume_ratio
from npsi_twin.electrode.polyhedra import Floats, Integers, measure_polyhedra
from npsi_twin.electrode.scene import Electrode
from npsi_twin.electrode.states import History
from npsi_twin.recipes import Recipe, parameter
from npsi_twin.seeds import Seeds

#: Cycles that a history covers at least.
HORIZON_CYCLES = 2000
#: Li15Si4, mAh/g.
FULL_CAPACITY_MAH_PER_G = 3579.0


def begun(electrode: Electrode, condition: Condition) -> tuple[Electrode, History]:
    """Return the scene with a history, and the history; a scene that has one already keeps it.

    A new history covers the condition's cycle and at least `HORIZON_CYCLES`, all silicon active, the layer as it was.
    """
    if electrode.history is None:
        electrode = with_history(electrode, condition, FULL_CAPACITY_MAH_PER_G)
    return electrode, cast(History, electrode.history)


def with_history(
    electrode: Electrode, condition: Condition, full_capacity_mah_per_g: float, charged_fraction: float = 1.0
) -> Electrode:
    """Return the scene of a cell to which nothing has happened yet, with its empty history."""
    ones = np.ones(max(condition.cycle, HORIZON_CYCLES))
    history = History(
        cut_off_mah_per_g=condition.capacity_mah_per_g,
        full_capacity_mah_per_g=full_capacity_mah_per_g,
        thickness_ratio=ones,
        packing_fraction=np.zeros(ones.size),
        active_fraction=ones.copy(),
        filled_ratio=ones.copy(),
        pristine_height_nm=electrode.layer.mean_nm,
        charged_fraction=charged_fraction,
    )
    return replace(electrode, history=history)


def bare_silicon_nm3(electrode: Electrode) -> Floats:
    """Return the lithium-free volume of each particle's silicon, (particles,), nm3, integrated on its own field."""
    particles, weighed = electrode.particles, electrode.particles.envelope_nm3
    if np.isfinite(particles.core_distances_nm).any():
        # Silicon in a core has swollen less, and there is more of it in the same volume.
        planes = np.where(np.isfinite(particles.core_distances_nm), particles.core_distances_nm, -1.0)
        core_nm3 = measure_polyhedra(particles.facet_normals, planes, particles.facet_start).volume_nm3
        weighed = weighed + core_nm3 * (1 / core_volume_ratio(particles) - 1)
    return np.asarray(electrode.pores.solid_fraction * weighed / particles.silicon_volume_ratio)


class DepthFatigue(Recipe):
    """Silicon drops out the faster the deeper it is charged; the null hypothesis."""

    mechanism: Literal["depth-fatigue"] = "depth-fatigue"
    rate_per_cycle: float = parameter(
        2.0e-3,
        "k: share lost in a cycle at full depth",
        source="inferred: life of 435 cycles at 2000 mAh/g",
        gt=0,
        le=1,
    )
    exponent: float = parameter(
        2.0, "m: power with which the depth of charge counts", source="inferred: ratio of the paper's lives", ge=0, le=6
    )

    @property
    def name(self) -> str:
        """Name of the mechanism and of its random stream."""
        return self.mechanism

    def active(self, cycles: Floats | Integers, depth: float) -> Floats:
        """Return the active fraction after some cycles at a depth of charge q = Q_c / Q_p.

        Examples
        --------
        >>> DepthFatigue(exponent=0.0, rate_per_cycle=0.001).active(np.array([1.0, 100.0]), 0.5)
        array([0.999, 0.9  ])
        """
        left = 1 - (self.exponent + 1) * self.rate_per_cycle * depth**self.exponent * np.asarray(cycles, float)
        return np.asarray(np.maximum(left, 0.0) ** (1 / (self.exponent + 1)))

    def act(self, electrode: Electrode, condition: Condition, *, seeds: Seeds) -> Electrode:
        """Return the scene with some particles cut off from charge; the input stays untouched."""
        electrode, history = begun(electrode, condition)
        depth = history.cut_off_mah_per_g / history.full_capacity_mah_per_g
        return _with_loss(electrode, self.active(history.cycles, depth), condition, self.name, seeds)


class ContactLoss(Recipe):
    """Particles lose contact at a rate that does not depend on the charge."""

    mechanism: Literal["contact-loss"] = "contact-loss"
    rate_per_cycle: float = parameter(
        8.0e-4, "l: share of the active silicon lost in a cycle", source="assumed", gt=0, le=0.1
    )

    @property
    def name(self) -> str:
        """Name of the mechanism and of its random stream."""
        return self.mechanism

    def act(self, electrode: Electrode, condition: Condition, *, seeds: Seeds) -> Electrode:
        """Return the scene with some particles cut off from charge; the input stays untouched."""
        electrode, history = begun(electrode, condition)
        return _with_loss(electrode, np.exp(-self.rate_per_cycle * history.cycles), condition, self.name, seeds)


def _with_loss(electrode: Electrode, active: Floats, condition: Condition, name: str, seeds: Seeds) -> Electrode:
    """Cut particles off, in an order of their own, until the law's share of the silicon is left."""
    _, history = begun(electrode, condition)
    silicon, states = bare_silicon_nm3(electrode), electrode.states
    order = np.argsort([seeds.stream(name, i).random() for i in range(silicon.size)], kind="stable")
    # A particle drops out when the middle of its silicon has: the lost share is right to half a particle.
    lost_at = (np.cumsum(silicon[order]) - silicon[order] / 2) / silicon.sum()
    out = np.zeros(silicon.size, bool)
    out[order] = lost_at <= 1 - active[condition.cycle - 1]
    return replace(
        electrode,
        states=replace(states, active=states.active & ~out),
        history=replace(history, active_fraction=history.active_fraction * active),
    )
