"""Measure what reconstruction does to slices that are known in closed form.

`accuracy` has iterations, alignment and stripe filters by name, `artefacts` simulated scans with everything amiss at
once, `speed` the time and memory beside other packages.

    python run.py                 the whole page
    python run.py gridrec muench  these parts, say in an interpreter that has TomoPy; the others stay as they are
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from npsi_twin.projectors.analytic import DiskBand, Ellipse, line_integrals
from npsi_twin.projectors.choice import choose_projector
from npsi_twin.reconstruction.algorithms import fbp, sirt_fbp
from npsi_twin.reconstruction.alignment import find_rotation_axis
from npsi_twin.reconstruction.filters import sirt_fbp_taps
from npsi_twin.reconstruction.rings import RingRecipe, remove_stripes
from npsi_twin.scan import ParallelBeam

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent))
sys.path.insert(0, str(FOLDER))
import accuracy  # noqa: E402
import artefacts  # noqa: E402
import speed  # noqa: E402
from render import asked_parts, render_parts  # noqa: E402

COPPER_PER_UM = 0.0471
LAYER_SHARE = 0.13
PIXEL_NM = 50.8

Row = dict[str, str | bool | None]


def row(requirement: str, required: str, measured: str, passed: bool | None) -> Row:
    return {"requirement": requirement, "required": required, "measured": measured, "passed": passed}


def places(width: int, pixel_nm: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return x and y of voxel centres, nm."""
    place = (np.arange(width) - (width - 1) / 2) * pixel_nm
    x, y = np.meshgrid(place, place)
    return x, y


def rms(values: NDArray[np.floating]) -> float:
    return float(np.sqrt(np.mean(np.asarray(values, np.float64) ** 2)))


def half_turn_beam(columns: int, views: int, pixel_nm: float, endpoint: bool = True) -> ParallelBeam:
    return ParallelBeam(np.linspace(0, np.pi, views, endpoint=endpoint), columns, pixel_nm, (columns - 1) / 2)


def uniform_disk() -> list[Row]:
    rows = []
    for columns, views in ((128, 201), (256, 401), (512, 801)):
        pixel = 512 / columns * PIXEL_NM
        beam = half_turn_beam(columns, views, pixel)
        disk = Ellipse((700.0, -500.0), (8000.0, 8000.0), COPPER_PER_UM)
        slices = fbp(line_integrals([disk], beam)[None].astype(np.float32), choose_projector("auto", beam, columns))
        x, y = places(columns, pixel)
        inside = np.hypot(x - 700, y + 500) < 8000 - 3 * pixel
        error = float(slices[0][inside].mean(dtype=np.float64)) / COPPER_PER_UM - 1
        text = f"uniform disk of 8 um radius by FBP, {columns} columns of {pixel:.1f} nm: relative error of its mean"
        # The twin's presets have pixels of 25.4 to 101.6 nm; the coarsest grid is there to show the convergence.
        required, passed = ("within 2e-4", abs(error) < 2e-4) if columns >= 256 else ("convergence only", None)
        rows.append(row(text, required, f"{error:+.1e}", passed))
    return rows


def layer_shapes(radius_nm: float) -> list[DiskBand]:
    top = 0.1 * radius_nm
    return [
        DiskBand((0.0, 0.0), radius_nm, (top, np.inf), COPPER_PER_UM),
        DiskBand((0.0, 0.0), radius_nm, (top - 2000, top), LAYER_SHARE * COPPER_PER_UM),
    ]


def read_layer(image: NDArray[np.floating], radius_nm: float) -> tuple[float, float, float]:
    """Return the layer's relative error, the foil's relative error and the layer's normalised attenuation."""
    columns = image.shape[-1]
    x, y = places(columns, PIXEL_NM)
    top, away = 0.1 * radius_nm, 300.0
    inside = np.hypot(x, y) < radius_nm - away
    layer = float(image[inside & (y > top - 2000 + away) & (y < top - away)].mean(dtype=np.float64))
    foil = float(image[inside & (y > top + away)].mean(dtype=np.float64))
    around = (np.hypot(x, y) > radius_nm + away) & (np.hypot(x, y) < columns * PIXEL_NM / 2)
    air = float(image[around].mean(dtype=np.float64))
    return layer / (LAYER_SHARE * COPPER_PER_UM) - 1, foil / COPPER_PER_UM - 1, (layer - air) / (foil - air)


def layer_on_copper(cache: Path) -> list[Row]:
    rows = []
    columns = 512
    beam = half_turn_beam(columns, 1201, PIXEL_NM)
    projector = choose_projector("auto", beam, columns)
    for fill in (0.40, 0.95):
        radius = fill * columns * PIXEL_NM / 2
        sinogram = line_integrals(layer_shapes(radius), beam)[None].astype(np.float32)
        layer, foil, normalised = read_layer(fbp(sinogram, projector)[0], radius)
        where = f"2 um layer of 0.13 on copper, needle fills {fill:.0%}"
        text = f"{layer:+.2%} (foil {foil:+.2%}, normalised {normalised:.4f})"
        rows.append(row(f"{where}: FBP", "layer within 1 %", text, abs(layer) < 0.01))
        for iterations in (100, 200):
            taps = sirt_fbp_taps(beam, iterations, cache=cache)
            layer, foil, normalised = read_layer(sirt_fbp(sinogram, projector, taps)[0], radius)
            text = f"{layer:+.2%} (foil {foil:+.2%}, normalised {normalised:.4f})"
            rows.append(row(f"{where}: SIRT-FBP, {iterations} iterations", "measured", text, None))
    return rows


def sirt_against_filter(cache: Path) -> list[Row]:
    columns, iterations = 129, 200
    beam = half_turn_beam(columns, 181, PIXEL_NM, endpoint=False)
    projector = choose_projector("auto", beam, columns)
    sinogram = line_integrals(layer_shapes(0.8 * columns * PIXEL_NM / 2), beam)[None].astype(np.float32)
    step = np.float32(1 / (beam.views * columns * (PIXEL_NM / 1000) ** 2))
    sirt = np.zeros((1, columns, columns), np.float32)
    for _ in range(iterations):
        sirt += step * projector.adjoint(sinogram - projector.forward(sirt))
    filtered = sirt_fbp(sinogram, projector, sirt_fbp_taps(beam, iterations, cache=cache))
    distance = np.hypot(*places(columns, PIXEL_NM))
    inner, field = (distance < share * columns * PIXEL_NM / 2 for share in (0.5, 1.0))
    off = [rms((filtered - sirt)[0][part]) / rms(sirt[0][part]) for part in (inner, field)]
    offset = float((filtered - sirt)[0][field].mean()) / COPPER_PER_UM
    text = f"{off[0]:.1%} inner half, {off[1]:.1%} whole field, mean offset {offset:+.3f} of copper"
    return [row("SIRT-FBP against 200 true SIRT iterations", "within 3 % rms in the inner half", text, off[0] < 0.03)]


def needle_shapes(radius_nm: float) -> list[DiskBand | Ellipse]:
    rng = np.random.default_rng(3)
    shapes: list[DiskBand | Ellipse] = list(layer_shapes(radius_nm))
    for _ in range(12):
        centre = (radius_nm * rng.uniform(-0.6, 0.6), radius_nm * rng.uniform(-0.7, 0.0))
        size = radius_nm * rng.uniform(0.03, 0.1)
        shapes.append(Ellipse(centre, (size, 0.6 * size), 0.02, float(rng.uniform(0, np.pi))))
    return shapes


def rotation_axis() -> list[Row]:
    rows = []
    columns, views, axis = 256, 361, 130.2
    for fill in (0.40, 0.95):
        shapes = needle_shapes(fill * columns * 100.0 / 2)
        angles = np.pi * np.arange(views) / views
        unaware = ParallelBeam(angles, columns, 100.0)
        clean = line_integrals(shapes, unaware.with_axis(axis))[None]
        error = find_rotation_axis(clean.astype(np.float32), unaware).px - axis
        name = f"rotation axis, needle fills {fill:.0%}"
        rows.append(row(f"{name}: clean", "within 0.1 px", f"{error:+.4f} px", abs(error) < 0.1))
        errors, told = [], []
        for draw in range(10):
            rng = np.random.default_rng(draw)
            moved = ParallelBeam(angles, columns, 100.0, axis, 0.2 * rng.standard_normal(views))
            noise = 0.01 * rng.standard_normal((4, views, columns)) + 0.003 * rng.standard_normal((4, 1, columns))
            found = find_rotation_axis((line_integrals(shapes, moved) + noise).astype(np.float32), unaware)
            errors.append(found.px - axis)
            told.append(found.uncertainty_px)
        text = f"rms {rms(np.array(errors)):.3f} px, largest {np.abs(errors).max():.3f} px, told {np.mean(told):.3f} px"
        passed = rms(np.array(errors)) < 0.1
        rows.append(row(f"{name}: noise, stripes, run-out", "rms within 0.1 px", text, passed))
    return rows


def stripes() -> list[Row]:
    rows = []
    columns = 512
    beam = half_turn_beam(columns, 601, PIXEL_NM, endpoint=False)
    projector = choose_projector("auto", beam, columns)
    pattern = 0.005 * np.random.default_rng(0).standard_normal(columns).astype(np.float32)
    for fill in (0.40, 0.95):
        radius = fill * columns * PIXEL_NM / 2
        sinogram = line_integrals(layer_shapes(radius), beam)[None].astype(np.float32)
        clean, ringed = fbp(sinogram, projector), fbp(sinogram + pattern, projector)
        for levels in (None, 7):
            recipe = RingRecipe(levels=levels)
            harmed = fbp(remove_stripes(sinogram, recipe)[0], projector)
            filtered = fbp(remove_stripes(sinogram + pattern, recipe)[0], projector)
            left = rms(filtered - harmed) / rms(ringed - clean)
            damage = rms(harmed - clean) / rms(ringed - clean)
            layer, _, _ = read_layer(harmed[0], radius)
            text = f"{left:.0%} of the rings left; sample changed by {damage:.2f} of the rings; layer {layer:+.1%}"
            name = "default levels" if levels is None else f"{levels} levels"
            required, passed = ("at most 25 % of the rings", left < 0.25) if levels is None else ("measured", None)
            rows.append(row(f"stripe removal, needle fills {fill:.0%}, {name}", required, text, passed))
    return rows


def two_roads() -> list[Row]:
    columns = 128
    beam = half_turn_beam(columns, 181, 100.0, endpoint=False)
    sinogram = line_integrals(needle_shapes(0.8 * columns * 50.0), beam)[None].astype(np.float32)
    fourier = fbp(sinogram, choose_projector("nufft", beam, columns))[0]
    rays = fbp(sinogram, choose_projector("astra-cpu", beam, columns))[0]
    distance = np.hypot(*places(columns, 100.0))
    inside, field = distance < 0.8 * columns * 50.0, distance < columns * 50.0 - 200
    difference = rms((fourier - rays)[inside]) / rms(fourier[inside])
    mean = float(fourier[field].mean() / rays[field].mean()) - 1
    text = f"{difference:.1%} rms, means {mean:+.1e}"
    passed = difference < 0.08 and abs(mean) < 1e-3
    return [row("FBP through the non-uniform FFT and through ASTRA", "8 % rms, means 1e-3", text, passed)]


def with_cache(measure: Callable[[Path], list[Row]]) -> Callable[[], list[Row]]:
    """Return what measures with a filter cache of its own, empty at first."""

    def work() -> list[Row]:
        with tempfile.TemporaryDirectory() as folder:
            return measure(Path(folder))

    return work


#: What measures each part of the page, in its order.
PARTS: dict[str, Callable[[], list[Row]]] = {
    "disk": uniform_disk,
    "layer": with_cache(layer_on_copper),
    "filter": with_cache(sirt_against_filter),
    "filter-and-sirt": with_cache(accuracy.filter_beside_sirt),
    "total-variation": accuracy.noise_flattened,
    "run-out": accuracy.alignment,
    "stripe-filters": accuracy.stripe_filters,
    "axis": rotation_axis,
    "stripes-and-layer": stripes,
    "artefacts-motion": artefacts.motion,
    "artefacts-stripes": artefacts.stripes,
    "roads": two_roads,
    "fbp": speed.filtered_backprojection,
    "gridrec": speed.beside_gridrec,
    "sirt": speed.sirt_steps,
    "sirt-distance": speed.sirt_beside_astra,
    "plan": speed.iterations_planned,
    "filters": speed.filters,
    "muench": speed.stripes,
    "scaling": speed.scaling,
    "memory": speed.memory,
}


if __name__ == "__main__":
    render_parts(FOLDER, PARTS, asked_parts(PARTS), speed.machine())
