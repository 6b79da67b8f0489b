"""Which projector works here.

Takes a backend's name, a geometry and a width, gives a `Projector`. ``"auto"`` takes the fastest backend that is
present and whose transpose is exact; the projector's `name` records which one that was, for the provenance of products.
"""

from typing import Literal

import numpy as np

from npsi_twin.errors import ParameterError
from npsi_twin.projectors.contract import Projector
from npsi_twin.scan import ParallelBeam

ProjectorName = Literal["auto", "fourier", "rays", "nufft", "cufinufft", "astra-cpu", "astra-cuda"]
#: Projectors that hold a slice as frequencies: no rays to sum over, and a normal operator that is a convolution.
BAND_LIMITED = ("fourier", "nufft", "cufinufft")


def choose_projector(name: ProjectorName, beam: ParallelBeam, width: int, *, threads: int | None = None) -> Projector:
    """Make the projector of the given name.

    Parameters
    ----------
    name
        ``"fourier"`` and ``"rays"`` (this package's own, CPU), ``"nufft"`` (finufft, CPU), ``"astra-cpu"`` (ASTRA,
        linear kernel), ``"cufinufft"`` and ``"astra-cuda"`` (finufft and ASTRA on an NVIDIA GPU), or ``"auto"``, which
        takes ``"fourier"``.
    beam
        Geometry with a known rotation axis.
    width
        Voxels along a side of a slice.
    threads
        Threads to use; every core this process may use when None.

    Returns
    -------
    Projector
        Ready to use; its `name` is never ``"auto"``.

    Raises
    ------
    ParameterError
        The name is none of these.
    MissingBackendError
        The backend is not present.

    Examples
    --------
    >>> import numpy as np
    >>> beam = ParallelBeam(np.linspace(0, 3, 8), columns=20, pixel_nm=50.0, rotation_axis_px=9.5)
    >>> choose_projector("auto", beam, width=20).name
    'fourier'
    """
    match name:
        case "auto" | "fourier":
            from npsi_twin.projectors.fourier import FourierProjector

            return FourierProjector(beam, width, threads=threads)
        case "rays":
            from npsi_twin.projectors.rays import RaysProjector

            return RaysProjector(beam, width, threads=threads)
        case "nufft" | "cufinufft":
            from npsi_twin.projectors.nufft import NufftProjector

            return NufftProjector(beam, width, device="cpu" if name == "nufft" else "cuda", threads=threads)
        case "astra-cpu" | "astra-cuda":
            from npsi_twin.projectors.astra import AstraProjector

            return AstraProjector(beam, width, device="cpu" if name == "astra-cpu" else "cuda", threads=threads)
    raise ParameterError(
        f"projector: got {name!r}; 'auto', 'fourier', 'rays', 'nufft', 'cufinufft', 'astra-cpu' and 'astra-cuda' are "
        "known. Use 'auto' to leave the choice to this machine."
    )


def available_projector(name: ProjectorName) -> str:
    """Return which projector a name becomes on this machine, before there is anything to project.

    Parameters
    ----------
    name
        As for `choose_projector`.

    Returns
    -------
    str
        The projector's name, never ``"auto"``.

    Raises
    ------
    ParameterError
        The name is none of those.
    MissingBackendError
        The backend is not present.

    Examples
    --------
    >>> available_projector("auto")
    'fourier'
    """
    if name in ("auto", "fourier"):  # our own, on any machine: nothing to try
        return "fourier"
    return choose_projector(name, ParallelBeam(np.zeros(1), 1, 1.0, 0.0), 1).name
