"""Pulverisation: ligaments above the critical size break until no image resolves them.

`Electrode`, `Condition` -> `Electrode` with fragments. The model: ligaments of a mean chord l, lognormally spread,
break where they exceed the critical size L_c; of their silicon the share 1 - exp(-N / N_p) has become fragments after N
cycles, so that the mean piece of such silicon shrinks as

    d_N = d_min + (l - d_min) exp(-N / N_p).

Fragments stay in their particle, spread evenly over its envelope: its silicon is conserved and its texture fades. They
stay in contact (polyimide holds them), so that no capacity is lost. It holds where voxels are coarser than the
fragments; silicon in particles that never took lithium does not break.

References
----------
X. H. Liu et al., ACS Nano 6 (2012) 1522, doi:10.1021/nn204476h (150 nm in crystalline particles);
C. Zhao et al., Nano Energy 52 (2018) 381-390, section 3.4.1 (particles lost to view by cycle 500 and 100).
"""

import math
from dataclasses import replace
from typing import Literal

import numpy as np
from scipy.special import ndtr

from npsi_twin.cycling.protocol import Condition
from npsi_twin.electrode.scene import Electrode
from npsi_twin.recipes import Recipe, parameter
from npsi_twin.seeds import Seeds


class Pulverisation(Recipe):
    """Which ligaments break, how fast and into what."""

    mechanism: Literal["pulverisation"] = "pulverisation"
    critical_size_nm: float = parameter(
        150.0,
        "L_c: ligaments above it break",
        unit="nm",
        source="stated for crystalline silicon (Liu 2012)",
        ge=50,
        le=2000,
    )
    ligament_spread: float = parameter(
        0.3, "standard deviation of the logarithm of ligament sizes", source="assumed", ge=0.01, le=1
    )
    break_cycles: float = parameter(
        50.0, "N_p: cycles in which broken silicon reaches 1 - 1/e", unit="cycles",
        source="inferred: 20 to 200, particles lost to view by cycle 100", ge=1, le=10_000,
    )  # fmt: skip
    fragment_nm: float = parameter(
        20.0, "d_min: size of the fragments in the end", unit="nm", source="assumed: 10 to 40", ge=5, le=40
    )

    @property
    def name(self) -> str:
        """Name of the mechanism."""
        return self.mechanism

    def act(self, electrode: Electrode, condition: Condition, *, seeds: Seeds) -> Electrode:
        """Return the scene with its fragments; the input stays untouched."""
        states, particles = electrode.states, electrode.particles
        ligament = electrode.pores.mean_ligament_nm / np.cbrt(particles.silicon_volume_ratio)
        above = ndtr(np.log(np.minimum(ligament, 1e9) / self.critical_size_nm) / self.ligament_spread)
        whole = math.exp(-condition.cycle / self.break_cycles)
        cycled = states.most_lithium_per_silicon > 0
        share = np.where(cycled, above * (1 - whole), 0.0)
        piece = np.where(cycled & (share > 0), self.fragment_nm + (ligament - self.fragment_nm) * whole, np.inf)
        return replace(
            electrode,
            states=replace(
                states,
                fragmented_share=np.maximum(states.fragmented_share, share),
                fragment_nm=np.minimum(states.fragment_nm, piece),
            ),
        )
