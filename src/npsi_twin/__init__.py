"""npsi-twin: a digital twin of nanoporous-silicon electrodes under a transmission X-ray microscope.

The road: `build_electrode` makes an analytic scene, `voxelise` turns any slab of it into exact truth, `acquire` scans
it in a simulated microscope, `reconstruct` turns counts (real or simulated) into attenuation, `segment` and `measure`
turn that into numbers, and `compare` holds them against the truth and the published measurements. `run_twin` walks it
all.
"""
