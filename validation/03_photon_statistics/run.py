"""Counting statistics, artefact rates and cost of the simulated camera against what was asked (README.md)."""

import os
import platform
import time
from pathlib import Path
from sys import path

import matplotlib as mpl
import numpy as np
from scipy.stats import chi2, poisson

from npsi_twin.seeds import Seeds
from npsi_twin.txm.beam import BeamRecipe, steady_light
from npsi_twin.txm.detector import DetectorRecipe
from npsi_twin.txm.microscope import MicroscopeRecipe, expose, project, simulation_rows
from npsi_twin.txm.objective import OpticsRecipe
from npsi_twin.txm.recording import count_variance, record_darks, record_flats, record_projections
from npsi_twin.txm.stage import StageRecipe
from npsi_twin.txm.surroundings import SurroundingsRecipe
from npsi_twin.txm.truth import scan_truth

mpl.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).resolve().parent
path.insert(0, str(HERE.parent))
from render import render  # noqa: E402  (the validations' own module, beside this folder)

SEEDS, FRAMES, COLUMNS, LEVELS = Seeds(2018), 50, 4000, 25
ROUNDS = int(os.environ.get("NPSI_TWIN_VALIDATION_ROUNDS", "4"))
EVEN = {
    "columns": COLUMNS,
    "photo_response_spread": 0.0,
    "gain_drift_spread": 0.0,
    "dead_pixel_fraction": 0.0,
    "hot_pixel_fraction": 0.0,
}
CAMERAS = {
    "default (2 x 2, 10 bits)": DetectorRecipe(**EVEN, flat_electrons=38_000.0),
    "unbinned, no dark signal, 14 bits": DetectorRecipe(
        **EVEN, binning=1, dark_electrons=0.0, bit_depth=14, camera_units_per_electron=1.0, flat_electrons=9900.0
    ),
    "bright scintillator (g = 2), 16 bits": DetectorRecipe(
        **EVEN,
        binning=1,
        bit_depth=16,
        electrons_per_photon=2.0,
        camera_units_per_electron=0.5,
        full_well_electrons=1e5,
        flat_electrons=9e4,
    ),
}


def transfer_curve(detector):
    """Signal, mean and variance above the dark level at every level of light, 5 units to nearly the full well."""
    full = detector.camera_units_per_electron * detector.flat_electrons
    signals = np.geomspace(5.0, full, LEVELS)
    dark = detector.camera_units_per_electron * detector.binning**2 * detector.dark_electrons
    floor = detector.binning**2 * detector.offset_units + dark
    means, variances = [], []
    for row, signal in enumerate(signals):
        transmission = np.full((FRAMES, 1, COLUMNS), signal / full, np.float32)
        light = steady_light(np.ones((1, COLUMNS)), FRAMES)
        counts = record_projections(transmission, light, detector, range(row, row + 1), seeds=SEEDS).astype(float)
        means.append(counts.mean() - floor)
        variances.append(counts.var(ddof=1))
    return signals, np.array(means), np.array(variances)


def error_of_variance(signals, detector):
    """Relative standard error of a variance from all draws: sqrt((2 + excess kurtosis) / n).

    Fourth over squared second cumulant of Poisson photons times Poisson electrons is (1 + 7 g + 6 g^2 + g^3) /
    (g (1 + g)^2) a photon; the noise without light is normal and dilutes it.
    """
    g = detector.electrons_per_photon
    photons = signals / (detector.camera_units_per_electron * g)
    excess = (1 + 7 * g + 6 * g**2 + g**3) / (g * (1 + g) ** 2 * photons)
    law = count_variance(signals, detector)
    excess *= (1 - count_variance(np.zeros(1), detector) / law) ** 2
    return np.sqrt((2 + excess) / (FRAMES * COLUMNS))


def judge(name, detector, curve):
    """Rows of the table for one camera, and its deviations in standard errors."""
    signals, means, variances = curve
    n = FRAMES * COLUMNS
    law = count_variance(signals, detector)
    of_mean = (means - signals) / np.sqrt(law / n)
    error = error_of_variance(signals, detector)
    of_variance = (variances / law - 1) / error
    p = chi2.sf(np.sum(of_variance**2), LEVELS)
    p = 2 * min(p, 1 - p)
    slope, offset = np.polyfit(means, variances, 1, w=1 / (law * error))
    expected = detector.camera_units_per_electron * (1 + detector.electrons_per_photon)
    decades = np.log10(signals[-1] / signals[0])
    worst = np.abs(of_variance).argmax()
    rows = [
        (
            "variance, largest deviation",
            "< 4.5 standard errors",
            f"{np.abs(of_variance).max():.2f} over {decades:.1f} decades",
            np.abs(of_variance).max() < 4.5,
        ),
        ("variance, chi squared", "p > 0.001", f"p = {p:.3f}", p > 0.001),
        (
            "variance, worst ratio to the law",
            "report",
            f"{(variances / law)[worst]:.4f} (standard error {error[worst]:.4f})",
            None,
        ),
        (
            "mean, largest deviation",
            "< 4.5 standard errors",
            f"{np.abs(of_mean).max():.2f}",
            np.abs(of_mean).max() < 4.5,
        ),
        (
            "slope K (1 + g) from the curve",
            f"{expected:.4f} within 0.5 %",
            f"{slope:.4f} (axis cut {offset:.3f}, law {count_variance(np.array(0.0), detector):.3f})",
            abs(slope / expected - 1) < 0.005,
        ),
        (
            "the same law without g would be off by",
            "> 10 standard errors at full light",
            f"{(1 - 1 / (1 + detector.electrons_per_photon)) / error[-1]:.0f}",
            (1 - 1 / (1 + detector.electrons_per_photon)) / error[-1] > 10,
        ),
    ]
    table = [
        {
            "requirement": f"{name}: {what}",
            "required": need,
            "measured": got,
            "passed": None if ok is None else bool(ok),
        }
        for what, need, got, ok in rows
    ]
    return table, of_variance


def whole_instrument():
    """Look for the law in flats of the default microscope, all artefacts on: mean over pixels of variance / law."""
    detector = MicroscopeRecipe().detector.model_copy(update={"flat_frames": 400})
    light = np.broadcast_to(np.linspace(0.3, 1.0, detector.columns), (8, detector.columns))
    lit = steady_light(light, detector.flat_frames)
    flats = record_flats(lit, steady_light(light, 0), detector, range(8), seeds=SEEDS).astype(float)
    gain = detector.camera_units_per_electron
    signal = flats.mean(axis=0) - detector.binning**2 * (detector.offset_units + gain * detector.dark_electrons)
    good = np.abs(signal / (gain * detector.flat_electrons * light) - 1) < 0.1  # neither dead nor hot
    ratio = (flats.var(axis=0, ddof=1) / count_variance(signal, detector))[good]
    error = np.sqrt(2.01 / (detector.flat_frames - 1) / ratio.size)  # excess kurtosis 7 / 8000 photons and more
    return {
        "requirement": f"flats of the default camera with all artefacts, {ratio.size} good pixels: variance / law",
        "required": "1 within 4.5 standard errors",
        "measured": f"{ratio.mean():.4f} ± {error:.4f}",
        "passed": bool(abs(ratio.mean() - 1) < 4.5 * error),
    }


def row(requirement, required, measured, passed):
    return {"requirement": requirement, "required": required, "measured": measured, "passed": bool(passed)}


def distribution():
    """Hold whole distributions of counts against Poisson's, mean by mean: darks of a camera that adds nothing else."""
    p_values = {}
    for mean in (0.5, 3.0, 9.9, 10.1, 30.0, 1000.0, 30_000.0):
        detector = DetectorRecipe(
            **EVEN | {"columns": 4000},
            binning=1,
            bit_depth=16,
            camera_units_per_electron=1.0,
            read_noise_electrons=0.0,
            offset_units=0.0,
            full_well_electrons=65_000.0,
            dark_electrons=mean,
            dark_frames=250,
        )
        counts = record_darks(detector, range(1), seeds=SEEDS).ravel()
        exact = poisson(float(np.float32(mean)))
        edges = np.unique(exact.ppf(np.linspace(0, 1, 102)[1:-1]))
        expected = np.diff(np.concatenate([[0], exact.cdf(edges), [1]])) * counts.size
        found = np.bincount(np.searchsorted(edges, counts), minlength=expected.size)
        kept = expected > 100
        p = chi2.sf(np.sum((found - expected)[kept] ** 2 / expected[kept]), kept.sum() - 1)
        p_values[mean] = 2 * min(p, 1 - p)
    text = ", ".join(f"{mean:g}: {p:.2f}" for mean, p in p_values.items())
    worst = min(p_values.values())
    return row(
        "a million counts against Poisson's distribution, chi squared, at means of", "p > 0.001", text, worst > 1e-3
    )


def noise_power():
    """Look for structure in the noise: power spectrum of differences of flats, in rings of frequency."""
    detector = DetectorRecipe(**EVEN | {"columns": 256}, rows=256, flat_frames=65)
    light = np.ones((256, 256))
    frames = steady_light(light, detector.flat_frames)
    flats = record_flats(frames, steady_light(light, 0), detector, range(256), seeds=SEEDS).astype(float)
    noise = (flats[1:] - flats[:-1])[::2] / np.sqrt(2)
    power = (np.abs(np.fft.rfft2(noise)) ** 2).mean(axis=0)[:, 1:-1] / 256**2
    frequency = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.rfftfreq(256)[1:-1])
    rings = np.minimum((frequency * 20).astype(int), 11)
    law = float(count_variance(np.array(800.0), detector))
    deviations = []
    for ring in range(12):
        values = power[rings == ring] / law
        deviations.append((values.mean() - 1) * np.sqrt(values.size * len(noise)))  # an exponential draw each
    worst = float(np.abs(deviations).max())
    return row(
        "noise power of open-beam flats in 12 rings of frequency, over the law's variance",
        "1 within 4.5 standard errors: white",
        f"largest deviation {worst:.2f} standard errors, mean {power.mean() / law:.4f}",
        worst < 4.5,
    )


def rates():
    """Return the rows on what artefacts were asked for and came."""
    microscope = MicroscopeRecipe(
        detector=DetectorRecipe(
            rows=64,
            columns=1000,
            drifting_pixel_fraction=2e-3,
            dead_pixel_fraction=1e-3,
            hot_pixel_fraction=1e-3,
            zinger_fraction=1e-5,
        ),
        stage=StageRecipe(views=1201, drift_across_nm=300.0, systematic_along_nm=25.0, angle_error_deg=0.01),
        beam=BeamRecipe(structure_contrast=0.05, structure_shake_um=0.1),
    )
    truth = scan_truth(microscope, range(64), seeds=SEEDS)
    pixels, exposures = 64 * 1000, 64 * 1000 * 1201
    rows = []
    for name, found, asked, draws in (
        ("dead pixels", truth.dead.sum(), 1e-3, pixels),
        ("hot pixels", truth.hot.sum(), 1e-3, pixels),
        ("drifting pixels", truth.drifting.sum(), 2e-3, pixels),
        ("zingers", len(truth.zingers), 1e-5, exposures),
    ):
        error = np.sqrt(asked * draws)
        passed = bool(abs(found - asked * draws) < 4.5 * error)
        rows.append(
            row(f"{name} among {draws:.3g}", f"{asked * draws:.0f} ± {error:.0f} (x 4.5)", str(int(found)), passed)
        )
    time_axis = np.linspace(0, 1, 1201)
    pixel = microscope.detector.pixel_nm
    slope, _ = np.polyfit(time_axis, truth.column_shift_px * pixel, 1)
    across = (truth.column_shift_px * pixel - 300.0 * time_axis).std()
    bearing = 2 * np.mean(truth.row_shift_px * pixel * np.cos(2 * truth.told_angles_rad))
    angles = np.rad2deg(truth.angles_rad - truth.told_angles_rad).std()
    shake = truth.structure_shift_px.std() * pixel / 1000
    for name, found, asked, error in (
        ("drift over the scan from a straight line, nm", slope, 300.0, 15 * np.sqrt(12 / 1201)),
        ("random run-out, nm", across, 15.0, 15 / np.sqrt(2402)),
        ("systematic run-out along the axis, nm", bearing, 25.0, 15 * np.sqrt(2 / 1201)),
        ("angle errors, degrees", angles, 0.01, 0.01 / np.sqrt(2402)),
        ("shake of the condenser, um", shake, 0.1, 0.1 / np.sqrt(4804)),
    ):
        passed = bool(abs(found - asked) < 4.5 * error)
        rows.append(row(name, f"{asked:g} ± {error:.2g} (x 4.5)", f"{found:.4g}", passed))
    return rows


#: Every artefact but the fly scan, whose projections are several to a view.
EVERYTHING = {
    "optics": OpticsRecipe(
        central_stop_fraction=0.2,
        condenser_na_mrad=1.2,
        condenser_inner_fraction=0.3,
        defocus_um=5.0,
        depth_um=15.0,
        relative_bandwidth=1e-4,
        delta_over_beta=43.0,
        stray_fraction=0.05,
    ),
    "beam": BeamRecipe(
        structure_contrast=0.03, structure_shake_um=0.2, structure_drift_um=0.5, lifetime_h=8.0, top_up_s=60.0
    ),
    "detector": DetectorRecipe(
        drifting_pixel_fraction=1e-3, zinger_fraction=1e-5, flat_sets_between=1, flat_frames_after=20
    ),
    "stage": StageRecipe(
        axis_tilt_deg=0.05,
        systematic_across_nm=25.0,
        systematic_along_nm=25.0,
        wobble_urad=0.2,
        drift_across_nm=100.0,
        drift_along_nm=100.0,
        drift_settling=0.3,
        damage_across_nm=30.0,
        damage_along_nm=30.0,
        angle_error_deg=0.005,
        blocked_from_deg=20.0,
        blocked_to_deg=22.0,
    ),
    "surroundings": SurroundingsRecipe(capillary_radius_um=40.0, capillary_wall_um=5.0),
    "allow_truncation": True,
}


def cost():
    """Return the rows on the time of a scan over that of its own projection: the default's slab of 40 rows."""
    across = np.arange(800) - 399.5
    disk = np.hypot(across[:, None], across) < 300
    foam = (0.02 * disk * (np.random.default_rng(0).random((800, 800)) > 0.5)).astype(np.float32)
    batch, rows = np.broadcast_to(foam, (16, 800, 800)), range(60, 100)
    flying = EVERYTHING["stage"].model_copy(update={"fly_scan_fraction": 0.5, "fly_scan_samples": 2})
    microscopes = {
        "defaults": MicroscopeRecipe(),
        "every artefact on": MicroscopeRecipe(**EVERYTHING),
        "every artefact and a fly scan of 2 projections a view": MicroscopeRecipe(**EVERYTHING | {"stage": flying}),
    }
    best = {name: np.full((2, 2), np.inf) for name in microscopes}
    for _ in range(ROUNDS):
        for name, microscope in microscopes.items():
            lines = np.empty((len(simulation_rows(microscope, rows)), 1201, 800), np.float32)
            clocks = [(time.perf_counter(), time.process_time())]
            for start in range(0, len(lines), 16):
                lines[start : start + 16], taken = project(batch, microscope, seeds=SEEDS)
            clocks.append((time.perf_counter(), time.process_time()))
            expose(lines, microscope, rows, seeds=SEEDS, projector=taken)
            clocks.append((time.perf_counter(), time.process_time()))
            best[name] = np.minimum(best[name], np.diff(clocks, axis=0))
    result = []
    for name, ((wall_project, cpu_project), (wall_expose, cpu_expose)) in best.items():
        ratio = 1 + wall_expose / wall_project
        measured = (
            f"{ratio:.2f} (projection {wall_project:.2f} s, image and counts {wall_expose:.2f} s; by processor time "
            f"{1 + cpu_expose / cpu_project:.2f}; shortest of {ROUNDS} rounds)"
        )
        result.append(row(f"scan of 40 rows over its own projection, {name}", "at most 2", measured, bool(ratio <= 2)))
    return result


def draw(curves, deviations):
    """Write photon_transfer.png."""
    figure, (top, below) = plt.subplots(2, 1, figsize=(6.4, 6.0), sharex=True, height_ratios=(3, 1))
    for (name, (signals, means, variances)), deviation in zip(curves.items(), deviations, strict=True):
        points = top.loglog(means, variances, "o", ms=4, label=name)[0]
        top.loglog(signals, count_variance(signals, CAMERAS[name]), "-", lw=1, color=points.get_color())
        below.semilogx(signals, deviation, "o", ms=4, color=points.get_color())
    top.set_ylabel("variance / camera units$^2$")
    top.legend(frameon=False)
    below.axhspan(-2, 2, color="0.92")
    below.set(xlabel="signal above dark / camera units", ylabel="deviation /\nstandard errors", ylim=(-5, 5))
    figure.tight_layout()
    figure.savefig(HERE / "photon_transfer.png", dpi=110, metadata={"Software": None})


def main():
    curves = {name: transfer_curve(detector) for name, detector in CAMERAS.items()}
    judged = [judge(name, CAMERAS[name], curve) for name, curve in curves.items()]
    draw(curves, [deviation for _, deviation in judged])
    table = [line for lines, _ in judged for line in lines]
    table += [whole_instrument(), distribution(), noise_power(), *rates(), *cost()]
    render(HERE, table, machine=f"{platform.processor() or platform.machine()}, 2 cores used")


if __name__ == "__main__":
    main()
