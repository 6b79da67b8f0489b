"""Measure iterations, alignment and stripe filters against closed forms and the truth."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from speed import Row, beam_of, foam, row, truth_of

from npsi_twin.comparison.resolution import shell_correlation
from npsi_twin.projectors.analytic import Ellipse, line_integrals
from npsi_twin.projectors.choice import choose_projector
from npsi_twin.reconstruction.algorithms import fbp, sirt_fbp
from npsi_twin.reconstruction.alignment import find_rotation_axis
from npsi_twin.reconstruction.filters import sirt_fbp_taps
from npsi_twin.reconstruction.iteration import IterationRecipe
from npsi_twin.reconstruction.iterative import sirt
from npsi_twin.reconstruction.reprojection import AlignmentRecipe, align_views
from npsi_twin.reconstruction.rings import RingRecipe, remove_stripes
from npsi_twin.reconstruction.toeplitz import ToeplitzEquations
from npsi_twin.reconstruction.total_variation import total_variation
from npsi_twin.scan import ParallelBeam
from npsi_twin.volumes import Volume

PHOTONS = 2000.0


def rms(values: NDArray[np.floating]) -> float:
    return float(np.sqrt(np.mean(np.asarray(values, np.float64) ** 2)))


def distance(columns: int) -> NDArray[np.float64]:
    place = np.arange(columns) - (columns - 1) / 2
    return np.asarray(np.hypot(*np.meshgrid(place, place)))


def counted(lines: NDArray[np.floating], seed: int) -> NDArray[np.float32]:
    counts = np.random.default_rng(seed).poisson(PHOTONS * np.exp(-lines))
    return np.asarray(-np.log(np.maximum(counts, 1) / PHOTONS), np.float32)


def filter_beside_sirt(cache: Path) -> list[Row]:
    rows, columns = [], 256
    field = distance(columns) < columns / 2 - 1
    for views, share in ((301, 0.5), (64, 0.25)):
        beam = beam_of(columns, views)
        clean = line_integrals(foam(columns), beam)[None].astype(np.float32)
        rays, fourier = (choose_projector(name, beam, columns) for name in ("rays", "fourier"))
        taps = sirt_fbp_taps(beam, 200, cache=cache)
        for name, lines in (("clean", clean), (f"{PHOTONS:.0f} photons", counted(clean, 0))):
            steps = sirt(lines, rays, IterationRecipe(iterations=200)).values[0]

            def off(image: NDArray[np.float32], steps: NDArray[np.float32] = steps) -> float:
                return rms((image - steps)[field]) / rms(steps[field])

            made = sirt_fbp(lines, fourier, taps)[0]
            ramp, filtered = off(fbp(lines, fourier)[0]), off(made)
            offset = float((made - steps)[field].mean()) / 0.01
            text = f"{filtered:.3f} against Ram-Lak's {ramp:.3f}: {filtered / ramp:.2f}; mean off by {offset:+.4f}"
            required, passed = (f"at most {share:g} of Ram-Lak's", filtered <= share * ramp)
            if name == "clean":
                required, passed = "closer than Ram-Lak", filtered < ramp
            title = f"SIRT-FBP beside SIRT-200, {views} views of {columns}, {name}: relative difference"
            rows.append(row(title, required, text, passed))
    return rows


def noise_flattened() -> list[Row]:
    columns, views = 256, 301
    beam = beam_of(columns, views)
    noisy = counted(line_integrals(foam(columns), beam)[None], 1)
    projector = choose_projector("fourier", beam, columns)
    start, truth = fbp(noisy, projector), truth_of(columns)
    recipe = IterationRecipe(iterations=100, non_negative=True)
    made = total_variation(noisy, ToeplitzEquations(projector), recipe, 0.003, start=start)
    field = distance(columns) < 0.45 * columns
    before, after = rms((start[0] - truth)[field]) / 0.01, rms((made.values[0] - truth)[field]) / 0.01
    text = f"{after:.3f} against FBP's {before:.3f}"
    title = f"total variation, {views} views of {columns}, {PHOTONS:.0f} photons: error against the truth"
    return [row(title, "below half of FBP's", text, after < before / 2)]


def bodies(columns: int, fill: float) -> list[Ellipse]:
    rng, radius = np.random.default_rng(3), fill * columns * 500.0
    shapes = [Ellipse((0.0, 0.1 * radius), (0.95 * radius, 0.8 * radius), 0.004)]
    for _ in range(15):
        place, size = radius * rng.uniform(-0.55, 0.55, 2), radius * rng.uniform(0.03, 0.12)
        shapes.append(Ellipse((place[0], place[1]), (size, 0.6 * size), 0.006, float(rng.uniform(0, np.pi))))
    return shapes


def alignment() -> list[Row]:
    rows, columns = [], 256
    for views, fill in ((361, 0.5), (361, 0.9)):
        rng = np.random.default_rng(7)
        run_out = rng.standard_normal(views)
        still = replace(beam_of(columns, views), rotation_axis_px=129.3)
        moved = replace(still, column_shift_px=run_out)
        lines = np.repeat(line_integrals(bodies(columns, fill), moved)[None], 4, axis=0)
        lines = counted(lines, 2) + (0.003 * rng.standard_normal((4, 1, columns))).astype(np.float32)
        found = align_views(lines, still, AlignmentRecipe(method="reprojection")).column_shift_px
        basis = np.linalg.qr(np.stack([np.ones(views), np.cos(still.angles_rad), np.sin(still.angles_rad)], 1))[0]
        told = run_out - basis @ (basis.T @ run_out)
        text = f"{rms(found - told):.3f} px left of {rms(told):.2f} px"
        title = f"run-out of 1 px rms by reprojection, field filled to {fill:.0%}, noise and stripes"
        rows.append(row(title, "0.3 px rms", text, rms(found - told) < 0.3))
    for method, views, turn in (("opposite-views", 361, 2.0), ("entropy", 361, 1.0)):
        beam = ParallelBeam(turn * np.pi * np.arange(views) / views, columns, 1000.0, 129.3)
        errors = []
        for draw in range(5):
            lines = counted(np.repeat(line_integrals(bodies(columns, 0.8), beam)[None], 4, axis=0), draw)
            errors.append(find_rotation_axis(lines, replace(beam, rotation_axis_px=None), method).px - 129.3)
        required, passed = ("report", None) if method == "entropy" else ("within 0.1 px", rms(np.array(errors)) < 0.1)
        turns = "a full turn, 361 views (none opposite another)" if turn == 2 else "half a turn"
        title = f"rotation axis by {method}, {turns}, {PHOTONS:.0f} photons"
        rows.append(row(title, required, f"rms {rms(np.array(errors)):.3f} px", passed))
    return rows


def stripe_filters() -> list[Row]:
    rows, columns, views = [], 512, 601
    beam = beam_of(columns, views)
    clean = counted(line_integrals(bodies(columns, 0.7), beam)[None], 4)
    pattern = 0.02 * np.random.default_rng(5).standard_normal(columns).astype(np.float32)
    projector = choose_projector("fourier", beam, columns)
    air = (distance(columns) > 0.4 * columns) & (distance(columns) < 0.48 * columns)
    fine = (np.arange(2 * columns) - (2 * columns - 1) / 2) * 500.0
    x, y = np.meshgrid(fine, fine)
    truth = np.zeros(x.shape)
    for shape in bodies(columns, 0.7):
        c, s = np.cos(shape.rotation_rad), np.sin(shape.rotation_rad)
        u, v = x - shape.centre_nm[0], y - shape.centre_nm[1]
        ellipse = np.hypot((u * c + v * s) / shape.semi_axes_nm[0], (v * c - u * s) / shape.semi_axes_nm[1]) < 1
        truth += shape.attenuation_per_um * ellipse
    truth = truth.reshape(columns, 2, columns, 2).mean(axis=(1, 3))

    def correlation(image: NDArray[np.float32]) -> float:
        curve = shell_correlation(Volume(image[None], 1000.0), Volume(truth[None].astype(np.float32), 1000.0))
        return curve.mean(0.25)

    before, untouched = fbp(clean + pattern, projector)[0], fbp(clean, projector)[0]
    base = correlation(untouched)
    for method in ("muench", "muench-tomopy", "titarenko", "sorting", "filtering", "large", "all"):
        recipe = RingRecipe(method=method)
        striped, plain = (fbp(remove_stripes(lines, recipe)[0], projector)[0] for lines in (clean + pattern, clean))
        energy = rms((before - untouched)[air]) ** 2 / max(rms((striped - plain)[air]) ** 2, 1e-30)
        after = correlation(striped)
        around = f"with rings {correlation(before):.4f}, without {base:.4f}"
        text = f"energy down {energy:.0f} times; correlation {after:.4f} ({around})"
        title = f"stripe removal by {method}, column errors of 2 %: rings in the air, correlation with the truth"
        required, passed = ("report", None)
        if method == "muench":
            required, passed = "ten times, at most 5 % lost", energy >= 10 and after >= 0.95 * base
        rows.append(row(title, required, text, passed))
    return rows
