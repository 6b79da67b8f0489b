"""How the work is cut and put together: the part of a specification that decides nothing of the physics."""

from typing import Literal

from npsi_twin.projectors.choice import ProjectorName
from npsi_twin.recipes import Recipe, parameter

#: Arrays up to this size are copied from their shards into one file; larger ones stay where they are.
_LARGEST_COPY_BYTES = 2**31


class ExecutionRecipe(Recipe):
    """How the work is cut, and who projects. Both are part of the specification; the number of workers is not."""

    slab_rows: int = parameter(
        40,
        "detector rows a slab",
        unit="rows",
        source="assumed: few enough for memory, many for their halo",
        ge=1,
        le=4096,
    )
    keep_transmission: bool = parameter(
        False,
        "whether the scan's truth keeps the noise-free transmission, which is twice as large as the counts",
        source="assumed: counts are what a beamline has",
    )
    projector: ProjectorName = parameter(
        "auto",
        "who projects the simulated scan: fourier and rays (our own), nufft, astra-cpu; cufinufft, astra-cuda on a GPU",
        source="assumed: auto takes fourier",
    )
    assembly: Literal["auto", "virtual", "copy"] = parameter(
        "auto",
        "how files are made of slabs: copied, or virtual data sets over NAME.shards/; auto copies up to 2 GiB",
        source="assumed: one file is easier to move, and a copy of a full scan costs its disk twice for a while",
    )

    def virtual(self, array_bytes: float) -> bool:
        """Tell whether a file of arrays of this size refers to its shards.

        Examples
        --------
        >>> ExecutionRecipe().virtual(1e9), ExecutionRecipe().virtual(49e9)
        (False, True)
        """
        return self.assembly == "virtual" or (self.assembly == "auto" and array_bytes > _LARGEST_COPY_BYTES)
