"""npsi-twin: a digital twin of nanoporous-silicon electrodes under a transmission X-ray microscope.

The road: `build_electrode` makes an analytic scene, `voxelise` turns any slab of it into exact truth, `acquire` scans
it in a simulated microscope, `reconstruct` turns counts (real or simulated) into attenuation, `segment` and `measure`
turn that into numbers, and `compare` holds them against the truth and the published measurements. `run_twin` walks it
all. These names can be imported from here; each is loaded when it is first asked for.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "Seeds": "seeds",
    "VoxelGrid": "volumes",
    "Phase": "volumes",
    "build_electrode": "electrode.build",
    "voxelise": "electrode.voxelise",
    "acquire": "txm.microscope",
    "reconstruct": "reconstruction.route",
    "segment": "morphology.segmentation",
    "measure": "morphology.measure",
    "compare": "comparison.agreement",
    "Specification": "specification",
    "preset_specification": "specification",
    "load_specification": "specification",
    "run_twin": "twin",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Load one of the package's names when it is first asked for, so that importing the package stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module 'npsi_twin' has no attribute {name!r}")
    return getattr(import_module(f"npsi_twin.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
