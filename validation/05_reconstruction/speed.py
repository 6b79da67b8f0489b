"""Measure what reconstruction costs beside ASTRA, algotom, finufft and TomoPy, in one run, taking turns."""

import importlib.util
import os
import platform
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npsi_twin.plan import iteration_cost, reconstruction_cost
from npsi_twin.projectors.analytic import Ellipse, line_integrals
from npsi_twin.projectors.choice import choose_projector
from npsi_twin.reconstruction.algorithms import fbp
from npsi_twin.reconstruction.filters import closed_form_taps, sirt_fbp_taps
from npsi_twin.reconstruction.iteration import IterationRecipe
from npsi_twin.reconstruction.iterative import cgls, landweber, sirt
from npsi_twin.reconstruction.rings import RingRecipe, default_levels, remove_stripes
from npsi_twin.reconstruction.rotation import RotationAxis
from npsi_twin.reconstruction.route import Plan, ReconstructionRecipe, reconstruct
from npsi_twin.reconstruction.toeplitz import ToeplitzEquations
from npsi_twin.reconstruction.total_variation import total_variation
from npsi_twin.scan import ParallelBeam, Scan

Row = dict[str, str | bool | None]
ROUNDS = int(os.environ.get("NPSI_TWIN_VALIDATION_ROUNDS", "3"))
PIXEL_NM = 1000.0


def row(requirement: str, required: str, measured: str, passed: bool | None) -> Row:
    return {"requirement": requirement, "required": required, "measured": measured, "passed": passed}


def machine() -> str:
    return f"{os.cpu_count()} cores, {platform.machine()}, minimum of {ROUNDS} interleaved rounds"


def least_seconds(works: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Return the shortest time of every work, all taking turns; the first turn of each only warms up."""
    for work in works.values():
        work()
    least = dict.fromkeys(works, np.inf)
    for _ in range(ROUNDS):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            least[name] = min(least[name], time.perf_counter() - start)
    return least


def foam(columns: int) -> list[Ellipse]:
    rng = np.random.default_rng(0)
    radius = 0.42 * columns * PIXEL_NM
    shapes = [Ellipse((0.0, 0.0), (radius, radius), 0.004)]
    for _ in range(60):
        place, size = radius * rng.uniform(-0.6, 0.6, 2), radius * rng.uniform(0.02, 0.08)
        shapes.append(Ellipse((place[0], place[1]), (size, size), 0.006 * rng.choice([-0.5, 1.0])))
    return shapes


def beam_of(columns: int, views: int) -> ParallelBeam:
    return ParallelBeam(np.pi * np.arange(views) / views, columns, PIXEL_NM, (columns - 1) / 2)


def astra_task(name: str, sinogram: NDArray[np.float32], beam: ParallelBeam, kernel: str = "linear") -> tuple[Any, int]:
    import astra

    volume = astra.create_vol_geom(beam.columns, beam.columns)
    rays = astra.create_proj_geom("parallel", 1.0, beam.columns, beam.angles_rad)
    task = astra.astra_dict(name)
    task["ProjectorId"] = astra.create_projector(kernel, rays, volume)
    task["ProjectionDataId"] = astra.data2d.create("-sino", rays, sinogram)
    task["ReconstructionDataId"] = astra.data2d.create("-vol", volume, 0.0)
    return astra.algorithm.create(task), task["ReconstructionDataId"]


def run_astra(tasks: list[tuple[Any, int]], iterations: int = 1) -> list[NDArray[np.float32]]:
    """Run ASTRA's algorithms, one a thread, as many as there are cores."""
    import astra

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda task: astra.algorithm.run(task[0], iterations), tasks))
    return [astra.data2d.get(task[1]) for task in tasks]


def errors_of(image: NDArray[np.floating], truth: NDArray[np.float64]) -> tuple[float, float]:
    """Return the rms error inside 0.45 of the width relative to 0.01 / um, as it is and after the best gain."""
    inside = distance_px(len(image)) < 0.45 * len(image)
    image_in, truth_in = image[inside].astype(np.float64), truth[inside]
    gain = float((image_in * truth_in).sum() / (image_in**2).sum())
    off = [float(np.sqrt(np.mean((factor * image_in - truth_in) ** 2)) / 0.01) for factor in (1.0, gain)]
    return off[0], off[1]


def filtered_backprojection() -> list[Row]:
    columns, views, slices = 512, 601, 32
    beam = beam_of(columns, views)
    sinogram = line_integrals(foam(columns), beam).astype(np.float32)
    slab = np.repeat(sinogram[None], slices, axis=0)
    fourier, nufft = (choose_projector(name, beam, columns) for name in ("fourier", "nufft"))
    few = os.cpu_count() or 1
    tasks = [astra_task("FBP", sinogram, beam) for _ in range(few)] if installed("astra") else []

    def by_algotom() -> list[NDArray[np.float32]]:
        import algotom.rec.reconstruction as algotom

        words = {"ratio": None, "filter_name": None, "gpu": False, "apply_log": False}
        return [algotom.fbp_reconstruction(sinogram, (columns - 1) / 2, angles=beam.angles_rad, **words)]

    # How many times faster is required, slices at once, and the work.
    peers: dict[str, tuple[float, int, Callable[[], Any]]] = {
        "astra": (50, few, lambda: run_astra(tasks)),
        "algotom": (20, 1, by_algotom),
        "finufft": (2, 8, lambda: fbp(slab[:8], nufft)),
    }
    there = {name: peer for name, peer in peers.items() if installed(name)}
    seconds = least_seconds({"ours": lambda: fbp(slab, fourier)} | {name: peer[2] for name, peer in there.items()})
    ours, truth = seconds["ours"] / slices, truth_of(columns)
    error, fitted = errors_of(fbp(slab[:1], fourier)[0], truth)
    rows = []
    for name, (least, at_once, work) in peers.items():
        title = f"FBP, 512 x 512, 601 views, 32 slices, beside {name}"
        required = f"{least:g} times faster, error not larger"
        if name not in there:
            rows.append(row(title, required, f"skipped: {name} is not installed", None))
            continue
        theirs, ratio = errors_of(np.asarray(work()[0]), truth), seconds[name] / at_once / ours
        text = (
            f"{ratio:.1f} times ({1000 * ours:.1f} against {1000 * seconds[name] / at_once:.1f} ms a slice), error "
            f"{error:.4f} against {theirs[0]:.4f}, gain-fitted {fitted:.4f} against {theirs[1]:.4f}"
        )
        rows.append(row(title, required, text, ratio >= least and error <= 1.001 * theirs[0]))
    return rows


def installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


#: Error of TomoPy's padded gridrec and its time a slice beside ours, where TomoPy is not installed: measured with
#: TomoPy 1.15.2 built from source on two cores; gain-fitted error in the second place.
RECORDED_GRIDREC_MS, RECORDED_GRIDREC_ERRORS = 32.6, (0.114, 0.036)


def beside_gridrec() -> list[Row]:
    """FBP beside TomoPy's gridrec, padded to twice the width, whose middle is half a voxel off ours in x and y."""
    columns, views, slices = 512, 601, 32
    beam = beam_of(columns, views)
    sinogram = line_integrals(foam(columns), beam).astype(np.float32)
    slab = np.repeat(sinogram[None], slices, axis=0)
    fourier = choose_projector("fourier", beam, columns)
    ours = errors_of(fbp(slab[:1], fourier)[0], truth_of(columns))
    required = "5 times faster, at most 1/4 of its error and 0.7 gain-fitted"
    title = "FBP, 512 x 512, 601 views, 32 slices, beside TomoPy's gridrec padded to twice the width"
    if not installed("tomopy"):
        seconds = least_seconds({"ours": lambda: fbp(slab, fourier)})["ours"] / slices
        text = (
            f"TomoPy is not installed; recorded {RECORDED_GRIDREC_MS} ms and errors of {RECORDED_GRIDREC_ERRORS[0]} "
            f"({RECORDED_GRIDREC_ERRORS[1]} gain-fitted), now {1000 * seconds:.1f} ms, {ours[0]:.4f} ({ours[1]:.4f})"
        )
        return [row(title, required, text, None)]
    tomopy = quiet_tomopy()
    padded = np.pad(slab, ((0, 0), (0, 0), (columns // 2, columns // 2)), mode="edge")

    def by_tomopy() -> NDArray[np.float32]:
        words = {"algorithm": "gridrec", "filter_name": "ramlak", "sinogram_order": True, "ncore": os.cpu_count()}
        made = tomopy.recon(padded, beam.angles_rad, center=columns - 0.5, **words)
        return np.asarray(made[:, columns // 2 : -columns // 2, columns // 2 : -columns // 2])

    seconds = least_seconds({"ours": lambda: fbp(slab, fourier), "tomopy": by_tomopy})
    theirs = errors_of(by_tomopy()[0] / np.float32(PIXEL_NM / 1000), truth_of(columns, (0.5, -0.5)))
    ratio = seconds["tomopy"] / seconds["ours"]
    text = (
        f"{ratio:.1f} times ({1000 * seconds['ours'] / slices:.1f} against {1000 * seconds['tomopy'] / slices:.1f} ms "
        f"a slice), error {ours[0]:.4f} against {theirs[0]:.4f}, gain-fitted {ours[1]:.4f} against {theirs[1]:.4f}"
    )
    passed = ratio >= 5 and ours[0] <= theirs[0] / 4 and ours[1] <= 0.7 * theirs[1]
    return [row(title, required, text, passed)]


def quiet_tomopy() -> Any:
    """Return TomoPy without its word about parts that were not built."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImportWarning)
        import tomopy
    return tomopy


def distance_px(columns: int) -> NDArray[np.float64]:
    place = np.arange(columns) - (columns - 1) / 2
    return np.asarray(np.hypot(*np.meshgrid(place, place)))


def truth_of(columns: int, middle_px: tuple[float, float] = (0.0, 0.0)) -> NDArray[np.float64]:
    """Return the foam averaged over voxels, 4 x 4 points a voxel, its middle so far (x, y) off that of the voxels."""
    fine = (np.arange(4 * columns) - (4 * columns - 1) / 2) / 4
    x, y = np.meshgrid(*[(fine - middle) * PIXEL_NM for middle in middle_px])
    image = np.zeros(x.shape)
    for shape in foam(columns):
        (cx, cy), (a, b) = shape.centre_nm, shape.semi_axes_nm
        image += shape.attenuation_per_um * (np.hypot((x - cx) / a, (y - cy) / b) < 1)
    return image.reshape(columns, 4, columns, 4).mean(axis=(1, 3))


def sirt_steps() -> list[Row]:
    columns, views, slices = 512, 601, 32
    beam = beam_of(columns, views)
    sinogram = line_integrals(foam(columns), beam).astype(np.float32)
    slab = np.repeat(sinogram[None], slices, axis=0)
    rays, few = choose_projector("rays", beam, columns), os.cpu_count() or 1
    tasks = [astra_task("SIRT", sinogram, beam) for _ in range(few)]
    equations = ToeplitzEquations(choose_projector("fourier", beam, columns))
    volume = np.zeros((columns, columns, slices), np.float32)
    seconds = least_seconds(
        {
            "one": lambda: sirt(slab, rays, IterationRecipe(iterations=1)),
            "three": lambda: sirt(slab, rays, IterationRecipe(iterations=3)),
            "toeplitz": lambda: equations.apply(volume),
            "astra": lambda: run_astra(tasks),
        }
    )
    ours, theirs = (seconds["three"] - seconds["one"]) / 2 / slices, seconds["astra"] / few
    toeplitz = seconds["toeplitz"] / slices
    text = f"{theirs / ours:.0f} times ({1000 * ours:.1f} against {1000 * theirs:.0f} ms a slice)"
    title = "SIRT through rays, one iteration, 512 x 512, 601 views, 32 slices, beside ASTRA CPU"
    rows = [row(title, "40 times faster", text, theirs / ours >= 40)]
    text = f"{theirs / toeplitz:.0f} times ({1000 * toeplitz:.1f} ms a slice)"
    rows.append(row("the normal operator by Toeplitz transforms, the same slices", "report", text, None))
    return rows


def sirt_beside_astra() -> list[Row]:
    """Compare the image after 200 iterations with ASTRA's."""
    columns, views = 256, 301
    beam = beam_of(columns, views)
    sinogram = line_integrals(foam(columns), beam).astype(np.float32)
    theirs_image = run_astra([astra_task("SIRT", sinogram, beam)], 200)[0]
    ours_image = sirt(sinogram[None], choose_projector("rays", beam, columns), IterationRecipe(iterations=200)).values
    off = float(np.sqrt(np.mean((ours_image[0] - theirs_image) ** 2) / np.mean(theirs_image**2)))
    return [row("SIRT, 200 iterations at 256 x 256, 301 views: beside ASTRA's", "1.5 %", f"{off:.2%}", off < 0.015)]


def iterations_planned() -> list[Row]:
    """Compare the time of every iteration with what `plan` predicts; SIRT with the 200 steps of the paper's filters."""
    columns, views, slices = 512, 601, 16
    beam = beam_of(columns, views)
    slab = np.repeat(line_integrals(foam(columns), beam).astype(np.float32)[None], slices, axis=0)
    equations = ToeplitzEquations(choose_projector("fourier", beam, columns))
    rays = choose_projector("rays", beam, columns)
    works: dict[str, tuple[int, Callable[[IterationRecipe], Any]]] = {
        "sirt": (200, lambda steps: sirt(slab, rays, steps)),
        "landweber": (50, lambda steps: landweber(slab, equations, steps)),
        "cgls": (50, lambda steps: cgls(slab, equations, steps)),
        "tv": (50, lambda steps: total_variation(slab, equations, steps, 1e-3)),
    }
    rows = []
    for name, (steps, work) in works.items():
        recipe = ReconstructionRecipe(algorithm=name, iteration=IterationRecipe(iterations=steps))
        predicted = iteration_cost(slices, columns, views, recipe).seconds
        work(IterationRecipe(iterations=1))
        start = time.perf_counter()
        work(recipe.iteration)
        took = time.perf_counter() - start
        text = f"{took:.0f} s ({1000 * took / slices / steps:.1f} ms a slice and step), {predicted:.0f} s predicted"
        title = f"{name}, {steps} iterations, {slices} slices of 512 x 512, 601 views: time, and what `plan` predicts"
        rows.append(row(title, "predicted within 30 %", text, abs(predicted / took - 1) < 0.3))
    return rows


def filters() -> list[Row]:
    columns, views, iterations = 255, 301, 200
    beam = beam_of(columns, views)
    import astra

    volume = astra.create_vol_geom(columns, columns)
    rays = astra.create_proj_geom("parallel", 1.0, columns, beam.angles_rad)
    strip = astra.OpTomo(astra.create_projector("strip", rays, volume))
    image = np.zeros(columns**2, np.float32)

    def step() -> None:
        strip.rmatvec(strip.matvec(image))

    seconds = least_seconds(
        {"ours": lambda: sirt_fbp_taps(beam, iterations, cache=Path(os.devnull) / "none"), "one step": step}
    )
    ratio = iterations * seconds["one step"] / seconds["ours"]
    text = f"{ratio:.0f} times ({seconds['ours']:.2f} against {iterations * seconds['one step']:.0f} s)"
    title = "SIRT-FBP filters, 255 columns, 301 views, 200 iterations, beside 200 steps through ASTRA's strip kernel"
    return [row(title, "20 times faster", text, ratio >= 20)]


def stripes() -> list[Row]:
    title = "stripe removal after Muench, 601 x 512, beside TomoPy's remove_stripe_fw"
    sinograms = np.random.default_rng(0).random((8, 601, 512)).astype(np.float32)
    recipe = RingRecipe(method="muench-tomopy")
    if not installed("tomopy"):
        seconds = least_seconds(
            {name: lambda r=r: remove_stripes(sinograms, r) for name, r in (("fast", recipe), ("ours", RingRecipe()))}
        )
        fast, plain = (f"{seconds[name] / 8 * 1000:.1f} ms" for name in ("fast", "ours"))
        text = f"TomoPy is not installed; {fast} by modes, {plain} by PyWavelets' two-dimensional transforms"
        return [row(title, "1.5 times faster, the same to 1e-5", text, None)]
    tomopy = quiet_tomopy()
    swapped = np.ascontiguousarray(sinograms.transpose(1, 0, 2))
    words = {"level": default_levels(512), "wname": "db5", "sigma": recipe.sigma_cycles, "pad": True}
    seconds = least_seconds(
        {
            "ours": lambda: remove_stripes(sinograms, recipe),
            "tomopy": lambda: tomopy.remove_stripe_fw(swapped.copy(), **words),
        }
    )
    off = np.abs(
        remove_stripes(sinograms, recipe)[0] - tomopy.remove_stripe_fw(swapped.copy(), **words).transpose(1, 0, 2)
    )
    ratio = seconds["tomopy"] / seconds["ours"]
    text = f"{ratio:.1f} times, largest difference {off.max():.1e}"
    return [row(title, "1.5 times faster, the same to 1e-5", text, ratio >= 1.5 and float(off.max()) < 1e-5)]


def scaling() -> list[Row]:
    texts = []
    for columns in (256, 512, 1024, 2048):
        views = int(1.17 * columns)
        projector = choose_projector("fourier", beam_of(columns, views), columns)
        slab = np.zeros((16, views, columns), np.float32)
        seconds = least_seconds({"fbp": lambda p=projector, s=slab: fbp(s, p)})["fbp"] / 16
        texts.append(f"{columns}: {1000 * seconds:.1f} ms")
    return [row("FBP a slice, views 1.17 times the columns, 16 slices at once", "report", ", ".join(texts), None)]


def memory() -> list[Row]:
    """Run 16 rows of full width in a process of their own, read its peak, and compare the time with `plan`'s."""
    command = [sys.executable, str(Path(__file__).resolve())]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    peak, seconds = (float(word) for word in said.split())
    title = "16 rows at 2448 columns and 1201 views, counts to SIRT-FBP"
    took = 2048 / 16 * seconds
    predicted = reconstruction_cost(2048, 2448, 1201, 16, 1, ReconstructionRecipe()).seconds
    text = f"{took / 60:.0f} min from {seconds:.1f} s of 16 rows, {predicted / 60:.0f} min predicted"
    return [
        row(f"{title}: peak memory", "below 6 GiB", f"{peak:.2f} GiB", peak < 6),
        row(f"{title}: time of all 2048 rows", "predicted within 30 %", text, abs(predicted / took - 1) < 0.3),
    ]


def full_width_rows() -> None:
    columns, views = 2448, 1201
    beam = beam_of(columns, views)
    counts = np.full((views, 16, columns), 20_000, np.uint16)
    flats = np.full((10, 16, columns), 30_000, np.uint16)
    scan = Scan(counts, flats, np.zeros((10, 16, columns), np.uint16), beam)
    taps = np.repeat(closed_form_taps(columns, views, 200)[None], views, axis=0).astype(np.float32)
    plan = Plan(RotationAxis(1223.5, 0.0, "given"), taps, "fourier", 0)
    reconstruct(scan.only(range(1)), ReconstructionRecipe(), plan=plan)  # compiled kernels are loaded
    start = time.perf_counter()
    reconstruct(scan, ReconstructionRecipe(), plan=plan)
    seconds = time.perf_counter() - start
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, seconds)


if __name__ == "__main__":
    full_width_rows()
