"""Photon transfer curves of the simulated camera against the law (README.md)."""

from pathlib import Path
from sys import path

import matplotlib as mpl
import numpy as np
from scipy.stats import chi2

from npsi_twin.seeds import Seeds
from npsi_twin.txm.detector import DetectorRecipe, count_variance, record_flats, record_projections
from npsi_twin.txm.microscope import MicroscopeRecipe

mpl.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).resolve().parent
path.insert(0, str(HERE.parent))
from render import render  # noqa: E402  (the validations' own module, beside this folder)

SEEDS, FRAMES, COLUMNS, LEVELS = Seeds(2018), 50, 4000, 25
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
        transmission = np.full((FRAMES, 1, COLUMNS), signal / full, np.float64)
        counts = record_projections(
            transmission, np.ones((1, COLUMNS)), detector, range(row, row + 1), seeds=SEEDS
        ).astype(float)
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
    flats = record_flats(light, detector, range(8), seeds=SEEDS).astype(float)
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
    render(HERE, [row for table, _ in judged for row in table] + [whole_instrument()])


if __name__ == "__main__":
    main()
