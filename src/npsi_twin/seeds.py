"""One root integer -> named, independent random generators.

A stream is keyed by (root seed, stage name, index...), so adding a stage shifts nobody's numbers, and results do not
depend on slabs, threads, workers or order: whoever works on particle 17 or detector row 203 asks for that stream.

References
----------
J. K. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC11 (2011), doi:10.1145/2063384.2063405 (Philox).
"""

import hashlib
from dataclasses import dataclass

import numpy as np

from npsi_twin.errors import ParameterError


@dataclass(frozen=True)
class Seeds:
    """The root of every random number in a run.

    Parameters
    ----------
    root
        Any non-negative integer.

    Examples
    --------
    >>> seeds = Seeds(42)
    >>> a = seeds.stream("particles", 3).random()
    >>> a == seeds.stream("particles", 3).random() != seeds.stream("particles", 4).random()
    True
    """

    root: int

    def __post_init__(self) -> None:
        if isinstance(self.root, bool) or not isinstance(self.root, int) or self.root < 0:
            raise ParameterError(f"seed: got {self.root!r}; a non-negative integer is needed. Give, for example, 42.")

    def stream(self, stage: str, *index: int) -> np.random.Generator:
        """Return the generator of one named stream; the same arguments always give the same numbers.

        Parameters
        ----------
        stage
            Name of the process that draws, for example ``"photons"``.
        *index
            Non-negative integers that tell its independent parts apart: particle number, detector row, view.
        """
        name = int.from_bytes(hashlib.sha256(stage.encode()).digest()[:8], "big")
        sequence = np.random.SeedSequence(self.root, spawn_key=(name, *index))
        return np.random.Generator(np.random.Philox(sequence))
