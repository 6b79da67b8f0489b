"""Blocked diffusion: dense bodies take lithium from the outside and keep a poorer core.

`Electrode` after swelling, `Condition` -> `Electrode` with cores. The model: within the time t of a charge lithium
reaches the depth L = sqrt(D t) beneath the free faces of a dense body: an agglomerate, or a particle whose pores are
closed. Faces shared with another member let nothing in. Below that depth silicon holds a given share of the shell's
lithium. A body's silicon and its lithium stay what they were, so that the shell takes what the core cannot; a shell
that is full leaves the rest to the core.

Open particles have no core: electrolyte fills their pores, and ligaments are thin.

References
----------
C. Zhao et al., Nano Energy 52 (2018) 381-390, section 3.3.2 (attenuation higher in the middle of agglomerates);
J. Xie et al., Mater. Chem. Phys. 120 (2010) 421 (diffusivity of lithium in silicon films).
"""

import math
from dataclasses import replace
from typing import Literal

import numpy as np
from scipy.optimize import brentq

from npsi_twin.cycling.capacity import FULL_CAPACITY_MAH_PER_G
from npsi_twin.cycling.protocol import Condition
from npsi_twin.electrode.bicontinuous import solve_levels
from npsi_twin.electrode.polyhedra import measure_polyhedra
from npsi_twin.electrode.repacking import shared_faces
from npsi_twin.electrode.scene import Electrode
from npsi_twin.errors import IncompatibleError
from npsi_twin.materials import alloy
from npsi_twin.recipes import Recipe, parameter
from npsi_twin.seeds import Seeds

#: Porosity below which a single particle is a dense body.
_CLOSED_POROSITY = 0.05


class BlockedDiffusion(Recipe):
    """How deep lithium reaches into a dense body."""

    mechanism: Literal["blocked-diffusion"] = "blocked-diffusion"
    diffusivity_cm2_per_s: float = parameter(
        1e-12, "D of lithium in dense silicon", unit="cm2/s", source="inferred: 1e-14 to 1e-10 in the literature",
        ge=1e-16, le=1e-8,
    )  # fmt: skip
    charge_hours: float = parameter(
        1.0,
        "t: time of a charge",
        unit="h",
        source="inferred: 1 C after ten cycles (Zhao 2018, section 2.2)",
        gt=0,
        le=100,
    )
    core_share: float = parameter(
        0.2, "lithium of the core over that of the shell", source="assumed: 0 is an unreacted core", ge=0, le=1
    )

    @property
    def name(self) -> str:
        """Name of the mechanism."""
        return self.mechanism

    @property
    def depth_nm(self) -> float:
        """How deep lithium reaches, nm.

        Examples
        --------
        >>> round(BlockedDiffusion(diffusivity_cm2_per_s=1e-12, charge_hours=1.0).depth_nm)
        600
        """
        return 1e7 * math.sqrt(self.diffusivity_cm2_per_s * 3600 * self.charge_hours)

    def act(self, electrode: Electrode, condition: Condition, *, seeds: Seeds) -> Electrode:
        """Return the scene with cores in its dense bodies; the input stays untouched.

        Raises
        ------
        IncompatibleError
            If there are cores already, or lithium has not swollen the silicon yet.
        """
        particles, states, pores = electrode.particles, electrode.states, electrode.pores
        ratio = alloy.volume_ratios(particles.lithium_per_silicon)
        if np.isfinite(particles.core_distances_nm).any() or not np.allclose(ratio, particles.silicon_volume_ratio):
            raise IncompatibleError(
                "blocked-diffusion: the scene has cores already, or lithium that has not swollen its silicon yet. Let "
                "it act once, after swelling."
            )
        dense = (states.members > 1) | (1 - pores.solid_fraction < _CLOSED_POROSITY)
        dense &= particles.lithium_per_silicon > 0
        planes = particles.facet_distances_nm - self.depth_nm * ~shared_faces(particles, states.agglomerate)
        owner = np.repeat(np.arange(particles.count), np.diff(particles.facet_start))
        core = measure_polyhedra(particles.facet_normals, planes, particles.facet_start).volume_nm3
        share = np.where(dense, core / particles.envelope_nm3, 0.0)
        dense &= share > 0
        if not dense.any():
            return electrode
        most = electrode.history.full_capacity_mah_per_g if electrode.history else FULL_CAPACITY_MAH_PER_G
        lithium, inner = particles.lithium_per_silicon.copy(), np.zeros(particles.count)
        for i in np.nonzero(dense)[0]:
            lithium[i], inner[i] = self._split(lithium[i], share[i], alloy.lithium_per_silicon(most))
        split = replace(
            particles,
            lithium_per_silicon=lithium,
            silicon_volume_ratio=alloy.volume_ratios(lithium),
            core_lithium_per_silicon=inner,
            core_distances_nm=np.where(dense[owner], planes, -np.inf),
        )
        # In a body that was drawn out, the level bounds clumps of a density of their own.
        density = np.where(states.clump_solid_fraction > 0, states.clump_solid_fraction, 1.0)
        share = pores.solid_fraction / density
        solved = solve_levels(replace(pores, solid_fraction=share), split, 1 - share, dense)
        return replace(
            electrode, particles=split, pores=replace(solved, solid_fraction=solved.solid_fraction * density)
        )

    def _split(self, mean: float, core: float, most: float) -> tuple[float, float]:
        """Return lithium of shell and core whose silicon and lithium, at one solid share, add up to the mean's."""
        gain = alloy.volume_ratio(1.0) - 1

        def excess(shell: float) -> float:
            return core / (1 + gain * self.core_share * shell) + (1 - core) / (1 + gain * shell) - 1 / (1 + gain * mean)

        if excess(max(most, mean)) < 0:
            shell = float(brentq(excess, mean, max(most, mean), xtol=1e-12)) if self.core_share < 1 else mean
            return shell, self.core_share * shell
        shell = max(most, mean)
        inverse = (1 / (1 + gain * mean) - (1 - core) / (1 + gain * shell)) / core
        return shell, max((1 / inverse - 1) / gain, 0.0)
