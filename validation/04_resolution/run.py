"""Measure what the microscope resolves, in single images and in three dimensions, and what an inverse crime hides."""

import sys
import tempfile
from pathlib import Path

import matplotlib as mpl
import numpy as np
from scipy.ndimage import gaussian_filter

from npsi_twin.projectors.analytic import Ellipse, line_integrals, rasterise
from npsi_twin.projectors.choice import choose_projector
from npsi_twin.reconstruction.algorithms import fbp
from npsi_twin.reconstruction.route import ReconstructionRecipe, prepare, reconstruct
from npsi_twin.scan import ParallelBeam
from npsi_twin.seeds import Seeds
from npsi_twin.txm.microscope import acquire, expose, simulation_grid, simulation_rows, stage_truth
from npsi_twin.txm.objective import objective_transfer
from npsi_twin.txm.optics import gaussian_mtf
from npsi_twin.txm.presets import aps_32_id_c_2018

mpl.use("Agg")
import matplotlib.pyplot as plt

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent))
from render import render  # noqa: E402  (the validations' own module, beside this folder)

SEEDS = Seeds(2018)
PERIODS_NM = (80.0, 120.0, 200.0, 300.0)
PIXEL_NM = 25.4


def row(requirement, required, measured, passed):
    return {
        "requirement": requirement,
        "required": required,
        "measured": measured,
        "passed": None if passed is None else bool(passed),
    }


def instrument(rows, columns, *, views=1, halo_rows=64, still=True):
    """Return the paper's instrument with a smaller detector."""
    paper = aps_32_id_c_2018()
    stage = {"views": views, "axis_offset_px": 0.0}
    if still:
        stage |= {"run_out_across_nm": 0.0, "run_out_along_nm": 0.0}
    return paper.model_copy(
        update={
            "detector": paper.detector.model_copy(update={"rows": rows, "columns": columns}),
            "stage": paper.stage.model_copy(update=stage),
            "halo_rows": halo_rows,
        }
    )


def lens(frequency_per_nm, microscope):
    """Return the transfer of zone plate, scintillator and lens; the pixel's comes on top, by direction."""
    blur = microscope.detector.blur_fwhm_px * microscope.detector.camera_pixel_nm
    frequency = np.asarray(frequency_per_nm)
    return objective_transfer(frequency, microscope.optics, microscope.energy_kev) * gaussian_mtf(frequency, blur)


def transmission_of(coverage, microscope):
    """Image a mask of half transmission, given as covered area of every fine pixel, without noise."""
    rows = range(microscope.detector.rows)
    lines = -np.log(1 - 0.5 * coverage).astype(np.float32)[:, None]
    image = expose(lines, microscope, rows, seeds=SEEDS, projector="mask").transmission[0]
    return 2 * (1 - image.astype(float))


def slanted_edge():
    """Return frequencies, the modulation transfer from an edge that leans by a column in ten rows, and theory."""
    microscope = instrument(100, 384)
    grid = simulation_grid(microscope)
    fine_rows = len(simulation_rows(microscope, range(100)))
    along = (np.arange(fine_rows) + 0.5 - fine_rows / 2) * grid.voxel_nm
    place = (grid.across_nm - 0.1 * along[:, None]) / grid.voxel_nm
    # The area of a fine pixel on one side of the edge: the mean over its rows of a ramp over its width.
    parts = (np.arange(10) - 4.5) / 10
    image = transmission_of(np.mean([np.clip(place + 0.5 - 0.1 * part, 0, 1) for part in parts], axis=0), microscope)
    # Distances from the edge lie on a lattice of a tenth of a pixel: rows are joined without any binning error.
    lattice = (2 * np.arange(384) - 383) * 10 - (2 * np.arange(100)[:, None] - 99)
    kept = np.abs(lattice) < 3460
    bins = (lattice[kept] - lattice[kept].min()) // 2
    edge = np.bincount(bins, image[kept]) / np.bincount(bins)
    lean = np.arctan(0.1)
    step = 0.1 * PIXEL_NM * np.cos(lean)
    spread = np.gradient(edge)
    transfer = np.abs(np.fft.rfft(spread * np.hanning(spread.size)))
    frequency = np.fft.rfftfreq(spread.size, step)
    transfer[1:] /= np.sinc(2 * frequency[1:] * step)  # what the central difference takes away
    pixel = np.sinc(frequency * PIXEL_NM * np.cos(lean)) * np.sinc(frequency * PIXEL_NM * np.sin(lean))
    return frequency, transfer / transfer[0], lens(frequency, microscope) * pixel


def siemens_star(spokes=48):
    """Return periods and modulation transfer of a star's spokes, from the harmonic of its circles."""
    microscope = instrument(224, 224, halo_rows=64)
    grid = simulation_grid(microscope)
    fine_rows = len(simulation_rows(microscope, range(224)))
    along = (np.arange(fine_rows) + 0.5 - fine_rows / 2) * grid.voxel_nm
    sub = (np.arange(4) - 1.5) / 4 * grid.voxel_nm
    coverage = np.zeros((fine_rows, grid.across_nm.size))
    for y in sub:
        for x in sub:
            angle = np.arctan2((along + y)[:, None], grid.across_nm + x)
            coverage += 0.5 + 0.5 * np.cos(spokes * angle)
    image = transmission_of(coverage / 16, microscope)
    place = (np.arange(224) - 111.5) * PIXEL_NM
    y, x = place[:, None], place
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    found, theory = [], []
    for period in PERIODS_NM:
        r = spokes * period / (2 * np.pi)
        ring = np.abs(radius - r) < 1.5 * PIXEL_NM
        # Each pixel of the ring has its own frequency; the contrast is fitted with the expected one as its shape.
        local = spokes / (2 * np.pi * radius[ring])
        # A spoke runs along the radius: its wave vector is tangential, the pixel a box in rows and columns.
        pixel = np.sinc(local * PIXEL_NM * np.sin(angle[ring])) * np.sinc(local * PIXEL_NM * np.cos(angle[ring]))
        shape = lens(local, microscope) * pixel * np.cos(spokes * angle[ring])
        measured = image[ring] - 0.5
        found.append(2 * (measured @ shape) / (shape @ shape))
        theory.append(float(lens(1 / period, microscope)))
    return np.array(found), np.array(theory)


def modulation():
    """Return the rows on modulation transfer, and draw it."""
    frequency, edge, expected = slanted_edge()
    star, _ = siemens_star()
    rows = []
    for period, ratio in zip(PERIODS_NM, star, strict=True):
        measured, law = (float(np.interp(1 / period, frequency, curve)) for curve in (edge, expected))
        error = measured / law - 1
        text = f"slanted edge, {period:g} nm: modulation transfer"
        rows.append(row(text, f"{law:.4f} within 2 %", f"{measured:.4f} ({error:+.2%})", abs(error) < 0.02))
        text = f"Siemens star, {period:g} nm: contrast over theory"
        rows.append(row(text, "1 within 2 %", f"{ratio:.4f}", abs(ratio - 1) < 0.02))
    return rows, (frequency, edge, expected)


def foam(shape, voxel_nm, rng):
    """Return half-filled random foam of pores of about 400 nm in a needle on the axis, values 0 to 1."""
    field = gaussian_filter(rng.standard_normal(shape).astype(np.float32), 120.0 / voxel_nm, mode="wrap")
    field /= field.std()
    solid = np.clip(0.5 + 2.0 * field * 120.0 / voxel_nm / 2, 0, 1)  # a face a voxel wide
    place = (np.arange(shape[1]) - (shape[1] - 1) / 2) * voxel_nm
    return solid * (np.hypot(place[:, None], place) < 0.42 * shape[1] * voxel_nm)


def shell_correlation(a, b):
    """Return shell frequencies per nm, correlation of two volumes in shells, and the number of samples in each."""
    taper = np.hanning(a.shape[0])[:, None, None]
    first, second = (np.fft.fftn(volume * taper) for volume in (a, b))
    axes = [np.fft.fftfreq(n, PIXEL_NM) for n in a.shape]
    frequency = np.sqrt(axes[0][:, None, None] ** 2 + axes[1][:, None] ** 2 + axes[2] ** 2)
    step = 1 / (a.shape[1] * PIXEL_NM) * 2
    shells = (frequency / step + 0.5).astype(int).ravel()
    cross = np.bincount(shells, (first * second.conj()).real.ravel())
    powers = np.bincount(shells, np.abs(first.ravel()) ** 2) * np.bincount(shells, np.abs(second.ravel()) ** 2)
    kept = np.arange(cross.size) * step < 0.5 / PIXEL_NM
    return (np.arange(cross.size) * step)[kept], (cross / np.sqrt(powers))[kept], np.bincount(shells)[kept]


def resolution_nm(frequency, correlation, threshold):
    """Return the period at which the correlation first falls below its threshold, by linear interpolation."""
    below = np.flatnonzero(correlation[1:] < threshold[1:]) + 1
    if below.size == 0:
        return 2 * PIXEL_NM
    i = below[0]
    high, low = correlation[i - 1] - threshold[i - 1], correlation[i] - threshold[i]
    return float(1 / (frequency[i - 1] + (frequency[i] - frequency[i - 1]) * high / (high - low)))


def half_bit(samples, redundancy):
    """Return van Heel and Schatz' half-bit threshold for shells of so many samples, of which a part is independent."""
    root = np.sqrt(np.maximum(samples * redundancy, 4) / 2)
    return (0.2071 + 1.9102 / root) / (1.2071 + 0.9102 / root)


def shells(cache):
    """Return the rows on resolution in three dimensions, and the curves."""
    rows, columns = 32, 192
    recipe = ReconstructionRecipe(sirt_iterations=200)
    table, curves = [], {}
    for name, still in (("with run-out of 15 nm", False), ("without run-out", True)):
        microscope = instrument(rows, columns, views=1201, halo_rows=16, still=still)
        grid = simulation_grid(microscope)
        solid = foam(grid.shape, grid.voxel_nm, np.random.default_rng(4))
        attenuation_per_um = (0.0151 * solid).astype(np.float32)
        volumes = []
        for seeds in (Seeds(1), Seeds(2)):
            scan = acquire(attenuation_per_um, microscope, range(rows), seeds=seeds).scan
            axis = stage_truth(microscope, seeds=seeds).rotation_axis_px
            plan = prepare(scan, recipe, axis=axis, cache=cache)
            volumes.append(reconstruct(scan, recipe, plan=plan).volume.values.astype(float))
        inner = solid[32:-32].reshape(rows, 2, columns, 2, columns, 2).mean(axis=(1, 3, 5)) * 0.0151
        across = np.arange(columns) - (columns - 1) / 2
        mask = 1 / (1 + np.exp((np.hypot(across[:, None], across) - 0.40 * columns) / 2))
        means = [(volume * mask).sum() / (rows * mask.sum()) for volume in (*volumes, inner)]
        first, second, truth = ((volume - mean) * mask for volume, mean in zip((*volumes, inner), means, strict=True))
        frequency, between, samples = shell_correlation(first, second)
        _, against_truth, _ = shell_correlation(first + second, truth)
        # A sample is independent where mask and taper leave their power: half of them by the real volume's symmetry.
        threshold = half_bit(samples / 2, float((mask**2).mean()) * 3 / 8)
        by_scans = resolution_nm(frequency, between, threshold)
        by_truth = resolution_nm(frequency, against_truth, np.full(frequency.size, 0.5))
        curves[name] = (frequency, between, threshold, against_truth)
        table.append(
            row(
                f"paper's settings, two scans {name}: period at the half-bit threshold",
                "report (the paper: sub-60 nm resolution)",
                f"{by_scans:.0f} nm, half-period {by_scans / 2:.0f} nm",
                None,
            )
        )
        table.append(
            row(
                f"the same, both scans together against the truth, correlation 0.5, {name}",
                "report",
                f"{by_truth:.0f} nm, half-period {by_truth / 2:.0f} nm",
                None,
            )
        )
    return table, curves


def pores(rng, field_nm):
    """Return a disk of silicon with round pores that do not touch, as shapes with closed-form line integrals."""
    radius = 0.42 * field_nm
    shapes, places = [Ellipse((0.0, 0.0), (radius, radius), 0.0151)], []
    while len(places) < 60:
        r = rng.uniform(0.006, 0.03) * field_nm
        x, y = rng.uniform(-radius, radius, 2)
        fits = np.hypot(x, y) + r < radius - 50 and all(np.hypot(x - a, y - b) > r + c + 30 for a, b, c in places)
        if fits:
            places.append((x, y, r))
            shapes.append(Ellipse((x, y), (r, r), -0.0151))
    return shapes


def inverse_crime(width=192, views=451):
    """Return the rows on reconstructions from data that share grid and projector with them, or do not."""
    field_nm = width * 50.8
    rng = np.random.default_rng(8)
    shapes = pores(rng, field_nm)
    beam = ParallelBeam(np.arange(views) * np.pi / views, width, 50.8, (width - 1) / 2)
    truth = rasterise(shapes, width, 50.8)
    projector = choose_projector("fourier", beam, width)

    def averaged(factor, name):
        """Simulate on a finer grid and average transmissions over pixels, as the microscope does."""
        fine = rasterise(shapes, width * factor, 50.8 / factor)[None].astype(np.float32)
        lines = choose_projector(name, beam.refined(factor), width * factor).forward(fine)[0].astype(float)
        return -np.log(np.exp(-lines).reshape(views, width, factor).mean(axis=2))

    exact = line_integrals(shapes, beam.refined(4))
    exact = -np.log(np.exp(-exact).reshape(views, width, 4).mean(axis=2))
    data = {
        "same grid, same projector (the crime)": projector.forward(truth[None].astype(np.float32))[0],
        "same grid, other projector (ASTRA linear)": choose_projector("astra-cpu", beam, width).forward(
            truth[None].astype(np.float32)
        )[0],
        "grid twice as fine (the twin's default)": averaged(2, "fourier"),
        "grid three times as fine": averaged(3, "fourier"),
        "closed form": exact,
    }
    place = (np.arange(width) - (width - 1) / 2) / width
    inside = np.hypot(place[:, None], place) < 0.40
    noise = rng.standard_normal((views, width))
    errors = {}
    for name, lines in data.items():
        noisy = np.asarray(lines) + noise * np.sqrt(1.31 / 8000 * np.exp(np.asarray(lines, float)))
        errors[name] = []
        for sinogram in (lines, noisy):
            image = fbp(np.asarray(sinogram, np.float32)[None], projector)[0]
            errors[name].append(float(np.sqrt(np.mean((image - truth)[inside] ** 2)) / 0.0151))
    honest, honest_noisy = errors["closed form"]
    crime, crime_noisy = errors["same grid, same projector (the crime)"]
    default, _ = errors["grid twice as fine (the twin's default)"]
    rows = [
        row(f"error of FBP over silicon, {name}", "report", f"{clean:.4f}; with photon noise {noisy:.4f}", None)
        for name, (clean, noisy) in errors.items()
    ]
    rows += [
        row(
            "error of the closed form's over the crime's: what the crime hides",
            "above 1.2 without noise",
            f"{honest / crime:.2f}; with photon noise {honest_noisy / crime_noisy:.3f}",
            honest / crime > 1.2,
        ),
        row(
            "error from the twin's default grid over the closed form's",
            "1 within 5 %",
            f"{default / honest:.3f}",
            abs(default / honest - 1) < 0.05,
        ),
    ]
    return rows


def draw(edge, curves):
    """Write resolution.png: modulation transfer, and correlation in shells."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.0, 3.6), layout="constrained")
    frequency, measured, expected = edge
    shown = frequency < 1 / 55
    left.plot(1000 * frequency[shown], expected[shown], "k-", lw=1, label="theory")
    left.plot(1000 * frequency[shown], measured[shown], ".", ms=4, label="slanted edge")
    left.set(xlabel="frequency / periods per um", ylabel="modulation transfer", ylim=(0, 1.05))
    left.legend(frameon=False)
    for name, (frequency, between, _, truth) in curves.items():
        line = right.plot(1000 * frequency, between, "-", label=f"two scans, {name}")[0]
        right.plot(1000 * frequency, truth, ":", color=line.get_color(), label="against the truth")
    right.plot(1000 * frequency, next(iter(curves.values()))[2], "k--", lw=0.8, label="half bit")
    right.set(xlabel="frequency / periods per um", ylabel="shell correlation", ylim=(-0.1, 1.05))
    right.legend(frameon=False, fontsize=7)
    figure.savefig(FOLDER / "resolution.png", dpi=110, metadata={"Software": None})
    plt.close(figure)


def main():
    rows, edge = modulation()
    with tempfile.TemporaryDirectory() as cache:
        table, curves = shells(Path(cache))
    draw(edge, curves)
    render(FOLDER, rows + table + inverse_crime())


if __name__ == "__main__":
    main()
