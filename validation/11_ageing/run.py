"""What ageing makes of an electrode against the alloy's law and the conservation of silicon (README.md)."""

import resource
import time
from dataclasses import fields
from pathlib import Path
from sys import path

import numpy as np
import porespy

from npsi_twin.cycling.ageing import HYPOTHESES_SHIPPED, AgeingHypothesis, age, hypothesis
from npsi_twin.cycling.capacity import bare_silicon_nm3
from npsi_twin.cycling.lithiation import Lithiation
from npsi_twin.cycling.protocol import CONDITIONS, Condition, condition
from npsi_twin.cycling.swelling import Swelling
from npsi_twin.electrode.build import ElectrodeRecipe, build_electrode
from npsi_twin.electrode.voxelise import voxelise
from npsi_twin.materials.alloy import volume_ratio
from npsi_twin.seeds import Seeds
from npsi_twin.volumes import VoxelGrid

HERE = Path(__file__).resolve().parent
path.insert(0, str(HERE.parent))
from render import render  # noqa: E402  (the validations' own module, beside this folder)

EVEN = Lithiation(depth_gradient=0.0, particle_spread=0.0)


def row(requirement, required, measured, passed):
    return {"requirement": requirement, "required": required, "measured": measured, "passed": passed}


def block(width_um, length_um, seed, height_um=0.0):
    specimen = {"shape": "block", "width_um": width_um, "length_um": length_um, "foil_surface_height_um": height_um}
    return build_electrode(ElectrodeRecipe.model_validate({"specimen": specimen}), seeds=Seeds(seed))


def silicon_nm3(scene, voxel_nm):
    """Return voxelised volumes of all particles' silicon, as it is and without its lithium."""
    particles = scene.particles
    # Bodies that were drawn out are ten times as tall as their places lie apart.
    ends = [particles.centre_nm + particles.lower_nm, particles.centre_nm + particles.upper_nm]
    half = np.ceil(np.abs(ends).max(axis=(0, 1)) / voxel_nm).astype(int) + 1
    whole = scene.specimen.model_copy(
        update={"width_um": 2e-3 * voxel_nm * half[2], "length_um": 2e-3 * voxel_nm * half[0]}
    )
    scene = type(scene)(**{f.name: getattr(scene, f.name) for f in fields(scene)} | {"specimen": whole})
    grid = VoxelGrid(tuple(int(n) for n in 2 * half), voxel_nm)
    sums = np.zeros(2)
    for first in range(0, grid.shape[0], 32):
        slab = voxelise(scene, grid, range(first, min(first + 32, grid.shape[0])))
        ratio = 1 + (volume_ratio(1.0) - 1) * slab.lithium_per_silicon.astype(float)
        sums += slab.silicon_fraction.sum(dtype=float), (slab.silicon_fraction / ratio).sum(dtype=float)
    return sums * voxel_nm**3


def volume_ratios():
    scene, rows = block(2.0, 2.0, 5), []
    before = silicon_nm3(scene, 40.0)[0]
    for capacity, ratio in ((1000.0, 1.773), (1570.0, 2.214), (2000.0, 2.547), (3579.0, 3.768)):
        state = Condition("validation", capacity, 1, capacity, "lithiated", "")
        for accommodation in (0.0, 1.0):
            swelling = AgeingHypothesis("validation", (EVEN, Swelling(accommodation=accommodation)))
            swollen = age(scene, swelling, state, seeds=Seeds(5))
            found = silicon_nm3(swollen, 40.0)[0] / before
            rows.append(
                row(
                    f"voxelised silicon at {capacity:g} mAh/g, accommodation {accommodation:g}",
                    f"{ratio} +- 0.5 %", f"{found:.4f}", bool(abs(found / ratio - 1) <= 5e-3),
                )
            )  # fmt: skip
            porosity = 100 * (1 - swollen.pores.solid_fraction)
            if accommodation == 1 and capacity == 1000:
                off = np.abs(porosity - 29.8).max()
                text = f"{porosity.mean():.2f}, {off:.2f} off at most"
                rows.append(row("pores of a particle at 1000 mAh/g", "29.8 +- 0.7 points", text, bool(off <= 0.7)))
            if accommodation == 1 and capacity == 2000:
                text = f"{porosity.max():.3f} % at most"
                rows.append(row("pores left at 2000 mAh/g", "below 1 %", text, bool(porosity.max() < 1)))
    return rows


def conservation():
    scene = block(2.5, 2.5, 7)
    before, worst, where = silicon_nm3(scene, 60.0)[1], 0.0, ""
    for known in HYPOTHESES_SHIPPED:
        for state in CONDITIONS.values():
            if state.is_pristine or not known.mechanisms or state.cycle > (known.last_cycle or state.cycle):
                continue
            aged = age(scene, known, state.ending("lithiated"), seeds=Seeds(7))
            lost = bare_silicon_nm3(aged)[~aged.states.present].sum()
            off = abs((silicon_nm3(aged, 60.0)[1] + lost) / before - 1)
            if off > worst:
                worst, where = off, f"{known.name}, {state.name}"
    text = f"{100 * worst:.3f} % at most ({where})"
    return [
        row(
            "silicon, voxelised at 60 nm plus declared lost, all hypotheses and states",
            "0.2 %",
            text,
            bool(worst <= 2e-3),
        )
    ]


def seconds_to_voxelise(scene, grid, firsts=range(0, 512, 32)):
    """Return the least time of two for slabs of 32 rows."""
    tries = []
    for _ in range(2):
        started = time.perf_counter()
        for first in firsts:
            voxelise(scene, grid, range(first, first + 32))
        tries.append(time.perf_counter() - started)
    return min(tries)


def speed():
    scene = block(12.8, 12.8, 51, height_um=-6.0)
    state = condition("1000/1556").ending("lithiated")
    age(scene, hypothesis("agglomeration"), condition("2000/1st-lithiation"), seeds=Seeds(51))  # compiles
    started = time.perf_counter()
    aged = age(scene, hypothesis("agglomeration"), state, seeds=Seeds(51))
    ageing = time.perf_counter() - started
    grid = VoxelGrid((512, 512, 512), 25.0)
    whole, part = voxelise(aged, grid, range(192, 256)), voxelise(aged, grid, range(211, 230))
    values = [getattr(whole, f.name) for f in fields(whole)], [getattr(part, f.name) for f in fields(part)]
    pairs = [(w, p) for w, p in zip(*values, strict=True) if isinstance(w, np.ndarray)]
    equal = all(np.array_equal(w[19:38], p) for w, p in pairs)
    del whole, part, values, pairs
    seconds = {}
    for name, made in (("pristine", scene), ("2000/100", None), ("1000/1556", aged)):
        if made is None:
            made = age(scene, hypothesis("agglomeration"), condition(name).ending("lithiated"), seeds=Seeds(51))
        seconds[name] = seconds_to_voxelise(made, grid)
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    # Every other slab, so that both see the layer alike; and the same grid with twice as many particles about it.
    linear = seconds["1000/1556"] / seconds_to_voxelise(aged, grid, range(0, 512, 64))
    far = seconds_to_voxelise(block(25.6, 12.8, 51, height_um=-6.0), grid) / seconds["pristine"]
    started = time.perf_counter()
    porespy.generators.blobs((512, 512, 512), porosity=0.604, blobiness=4, seed=1)
    peer = time.perf_counter() - started
    slowest = max(seconds.values())
    return [
        row("ageing a block of 12.8 x 12.8 um to cycle 1556", "seconds", f"{ageing:.1f} s", bool(ageing <= 60)),
        row("512^3 voxels of 25 nm of an aged scene, slabs of 32 rows", "15 s",
            ", ".join(f"{name} {t:.1f} s" for name, t in seconds.items()), bool(slowest <= 15)),
        row("peak memory", "2 GiB", f"{peak_gib:.2f} GiB", bool(peak_gib <= 2)),
        row("time of all slabs over time of every other one", "2, within 15 %", f"{linear:.2f}",
            bool(abs(linear / 2 - 1) < 0.15)),
        row("time in a block twice as wide, the same voxels", "1, within 15 %", f"{far:.2f}",
            bool(abs(far - 1) < 0.15)),
        row("PoreSpy's blobs on the same box, porosity alone", "-",
            f"{peer:.1f} s: {peer / slowest:.2f} times the slowest aged scene", None),
        row("a slab alone has the bits of the same rows in a larger one", "equal", "equal" if equal else "not", equal),
    ]  # fmt: skip


if __name__ == "__main__":
    # Speed first: its peak memory must not be that of what ran before.
    render(HERE, speed() + volume_ratios() + conservation(), "two cores (EPYC)")
