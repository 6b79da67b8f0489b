"""What the generator makes against what was asked of it (README.md)."""

import resource
import time
from dataclasses import fields, replace
from pathlib import Path
from sys import path

import matplotlib as mpl
import numpy as np

from npsi_twin.electrode.build import ElectrodeRecipe, build_electrode
from npsi_twin.electrode.heights import solid_heights
from npsi_twin.electrode.states import pristine_states
from npsi_twin.electrode.voxelise import specimen_grid, voxelise
from npsi_twin.seeds import Seeds
from npsi_twin.volumes import Phase, VoxelGrid

mpl.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).resolve().parent
path.insert(0, str(HERE.parent))
from render import render  # noqa: E402  (the validations' own module, beside this folder)

FIELD_SEEDS, PORE_SEEDS = range(12), range(3)
FRACTIONS = ("void", "silicon", "carbon_binder", "current_collector", "bismuth")


def row(requirement, required, measured, passed):
    return {"requirement": requirement, "required": required, "measured": measured, "passed": passed}


def block(width_um, length_um, seed, **changes):
    specimen = {"shape": "block", "width_um": width_um, "length_um": length_um}
    return build_electrode(ElectrodeRecipe.model_validate({"specimen": specimen, **changes}), seeds=Seeds(seed))


def slabs(scene, grid, rows=64):
    for first in range(0, grid.shape[0], rows):
        yield voxelise(scene, grid, range(first, min(first + rows, grid.shape[0])))


def totals(scene, grid):
    """Return the mean fractions of a grid, in the order of FRACTIONS."""
    sums = np.zeros(len(FRACTIONS))
    for slab in slabs(scene, grid):
        sums += [getattr(slab, f"{name}_fraction").sum(dtype=float) for name in FRACTIONS]
    return sums / np.prod(grid.shape, dtype=float)


def made_porosity(scene, grid):
    """Return 1 - silicon / envelope; with its levels below any field the same scene's particles are solid."""
    solid = replace(scene, pores=replace(scene.pores, levels=np.full(scene.particles.count, -100.0)))
    return 1 - totals(scene, grid)[1] / totals(solid, grid)[1]


def field_statistics(seed):
    """Return one field's porosity, mean and sd of the tops of all solids and of silicon, solids' ratio and outline."""
    scene = block(20.0, 20.0, seed)
    grid = specimen_grid(scene, 50.0)
    heights = [solid_heights(slab, scene, grid) for slab in slabs(scene, grid)]
    solids = np.concatenate([h.all_solids_nm.ravel() for h in heights]) / 1e3
    silicon = np.concatenate([h.silicon_nm.ravel() for h in heights]) / 1e3
    mean = totals(scene, grid)
    ratio = mean[2] / mean[1] / ElectrodeRecipe().slurry.carbon_binder_per_silicon
    layer = np.nanmean(scene.layer.on_rows(grid.along_nm, grid.across_nm, 50.0)) / 1e3
    porosity = 100 * made_porosity(scene, grid)
    tops = (np.nanmean(solids), np.nanstd(solids), np.nanmean(silicon), np.nanstd(silicon))
    return porosity, *tops, ratio, layer


def over_fields():
    porosity, height, sd, silicon_height, silicon_sd, ratio, layer = np.array(
        [field_statistics(seed) for seed in FIELD_SEEDS]
    ).T
    worst = np.abs(porosity - 60.4).max()
    off = np.abs(ratio - 1).max()
    return [
        row(
            f"porosity of the particles, {len(porosity)} fields of 20 x 20 um", "60.4 +- 0.5 points in each",
            f"{porosity.mean():.2f} +- {porosity.std(ddof=1):.2f} (sd between fields); {worst:.2f} off at most",
            bool(worst <= 0.5),
        ),
        row(
            "mean height of all solids", "2.0 um +- 5 % on average",
            f"{height.mean():.3f} um; between fields +- {height.std(ddof=1):.3f} um (sd)",
            bool(abs(height.mean() / 2.0 - 1) <= 0.05),
        ),
        row(
            "standard deviation of the local height of all solids", "0.5 um +- 20 % on average",
            f"{sd.mean():.3f} um; between fields +- {sd.std(ddof=1):.3f} um (sd)",
            bool(abs(sd.mean() / 0.5 - 1) <= 0.2),
        ),
        row(
            "height of the layer's outline (pores at the top closed)", "-",
            f"{layer.mean():.3f} um; between fields +- {layer.std(ddof=1):.3f} um (sd)", None,
        ),
        row(
            "height of the silicon's top where there is silicon", "-",
            f"{silicon_height.mean():.3f} um, local sd {silicon_sd.mean():.3f} um", None,
        ),
        row(
            "carbon-binder over silicon volume against 60:25:15 by weight", "within 2 % in each field",
            f"{100 * off:.2f} % off at most", bool(off <= 0.02),
        ),
    ]  # fmt: skip


def crofton(scene, grid):
    """Return (pore voxels, silicon voxels, neighbour pairs, changing pairs) inside particles."""
    counts = np.zeros(4)
    for slab in slabs(scene, grid):
        silicon, particle = slab.phase == Phase.SILICON, slab.particle_id
        counts[:2] += ((particle > 0) & ~silicon).sum(), ((particle > 0) & silicon).sum()
        for axis in range(3):
            one = tuple(slice(None, -1) if a == axis else slice(None) for a in range(3))
            other = tuple(slice(1, None) if a == axis else slice(None) for a in range(3))
            same = (particle[one] > 0) & (particle[one] == particle[other])
            counts[2:] += same.sum(), (same & (silicon[one] != silicon[other])).sum()
    return counts


def pore_sizes():
    pores, ligaments = [], []
    for seed in PORE_SEEDS:
        scene = block(20.0, 20.0, seed)
        grid = specimen_grid(scene, 25.0)
        pore, silicon, pairs, changes = crofton(scene, grid)
        surface_per_nm = 2 * changes / (pairs * grid.voxel_nm)
        pores.append(4 * pore / (pore + silicon) / surface_per_nm)
        ligaments.append(4 * silicon / (pore + silicon) / surface_per_nm)
    recipe = ElectrodeRecipe().silicon
    return [
        row(
            f"mean pore by Crofton's counting, {len(pores)} fields", "400 nm +- 10 %",
            f"{np.mean(pores):.1f} +- {np.std(pores, ddof=1):.1f} nm (sd)", bool(abs(np.mean(pores) / 400 - 1) <= 0.1),
        ),
        row(
            "mean ligament by Crofton's counting", f"- (theory {recipe.mean_ligament_nm:.0f} nm)",
            f"{np.mean(ligaments):.1f} +- {np.std(ligaments, ddof=1):.1f} nm (sd)", None,
        ),
        row("wavelength of the pore network", "-", f"{recipe.wavelength_nm:.1f} nm", None),
    ]  # fmt: skip


def single_particles():
    """Put particles one by one into an empty scene and weigh their silicon."""
    scene = block(6.0, 6.0, 21)
    particles, pores = scene.particles, scene.pores
    bare = replace(scene, foil=replace(scene.foil, mean_nm=-2900.0, sd_nm=0.0), foil_thickness_nm=0.0)
    errors = []
    for chosen in range(24):
        facets = slice(particles.facet_start[chosen], particles.facet_start[chosen + 1])
        one = slice(chosen, chosen + 1)
        alone = replace(
            particles,
            centre_nm=np.zeros((1, 3)),
            facet_normals=particles.facet_normals[facets].copy(),
            facet_distances_nm=particles.facet_distances_nm[facets].copy(),
            facet_start=np.array([0, facets.stop - facets.start]),
            **{
                n: getattr(particles, n)[one].copy()
                for n in (
                    "lower_nm",
                    "upper_nm",
                    "envelope_nm3",
                    "lithium_per_silicon",
                    "silicon_volume_ratio",
                    "core_lithium_per_silicon",
                )
            },
            core_distances_nm=particles.core_distances_nm[facets].copy(),
        )
        network = replace(
            pores,
            wavevectors_per_nm=pores.wavevectors_per_nm[one].copy(),
            phases_rad=pores.phases_rad[one].copy(),
            levels=pores.levels[one].copy(),
            solid_fraction=pores.solid_fraction[one].copy(),
        )
        beads = replace(scene.bismuth, start=np.zeros(2, np.int64))
        grid = VoxelGrid((240, 240, 240), 12.5)
        only = replace(bare, particles=alone, pores=network, bismuth=beads, states=pristine_states(1))
        silicon = totals(only, grid)[1] * 3000.0**3
        errors.append(silicon / (0.396 * float(alone.envelope_nm3[0])) - 1)
    worst = np.abs(errors).max()
    measured = f"{100 * worst:.3f} % at most, {100 * np.std(errors):.3f} % sd"
    return [row("silicon of single particles, 24 at 12.5 nm", "0.1 %", measured, bool(worst <= 1e-3))]


def resolution():
    worst = 0.0
    for seed in (31, 32, 33):
        scene = block(5.0, 4.0, seed)
        coarse = VoxelGrid((160, 240, 200), 25.0)
        worst = max(worst, np.abs(totals(scene, coarse) - totals(scene, coarse.refined(2))).max())
    measured = f"{100 * worst:.4f} points at most, 3 scenes"
    return [row("volume fractions at 25 nm against 12.5 nm", "0.02 points", measured, bool(worst <= 2e-4))]


def tunable_porosity():
    rows = []
    for porosity in (0.3, 0.45, 0.7, 0.8):
        scene = block(8.0, 8.0, 41, silicon={"porosity_fraction": porosity})
        found = made_porosity(scene, specimen_grid(scene, 50.0))
        off = abs(found - porosity)
        measured = f"{100 * found:.2f} %"
        rows.append(row(f"porosity asked {100 * porosity:g} %", "+- 0.5 points", measured, bool(off <= 5e-3)))
    return rows


def slabs_and_speed():
    scene = block(12.8, 12.8, 51)
    grid = VoxelGrid((512, 512, 512), 25.0)
    whole, part = voxelise(scene, grid, range(192, 256)), voxelise(scene, grid, range(211, 230))
    values = {f.name: (getattr(whole, f.name), getattr(part, f.name)) for f in fields(whole)}
    arrays = {name: pair for name, pair in values.items() if isinstance(pair[0], np.ndarray)}
    equal = all(np.array_equal(w[19:38], p) for w, p in arrays.values())
    started = time.perf_counter()
    for _ in slabs(scene, grid):
        pass
    seconds = time.perf_counter() - started
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return [
        row("a slab alone has the bits of the same rows in a larger one", "equal", "equal" if equal else "not", equal),
        row("512^3 voxels of 25 nm in slabs of 64 rows", "15 s", f"{seconds:.1f} s", bool(seconds <= 15)),
        row("peak memory of this validation", "2 GiB", f"{peak_gib:.2f} GiB", bool(peak_gib <= 2)),
    ]


def picture():
    specimen = {"shape": "block", "width_um": 12.0, "length_um": 2.0, "foil_surface_height_um": -1.5}
    scene = build_electrode(ElectrodeRecipe.model_validate({"specimen": specimen}), seeds=Seeds(1))
    grid = VoxelGrid((1, 160, 480), 25.0)
    truth = voxelise(scene, grid, range(1))
    shades = truth.silicon_fraction + 2 * truth.current_collector_fraction + 0.12 * truth.carbon_binder_fraction
    figure, axes = plt.subplots(figsize=(9, 3.4), layout="constrained")
    half_um = (6.0, 2.0)
    axes.imshow(shades[0], cmap="gray", vmax=1.6, extent=(-half_um[0], half_um[0], -half_um[1], half_um[1]))
    axes.set(xlabel="across / um", ylabel="height above the rotation axis / um")
    figure.savefig(HERE / "slice.png", dpi=110)


if __name__ == "__main__":
    picture()
    # Speed first: its peak memory must not be that of what ran before.
    rows = slabs_and_speed() + over_fields() + pore_sizes() + single_particles() + resolution() + tunable_porosity()
    render(HERE, rows, "two cores (EPYC), shared")
