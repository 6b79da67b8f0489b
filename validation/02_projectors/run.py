"""Measure what `README.md` claims of the projectors; run from anywhere, writes beside itself."""

import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from npsi_twin.projectors.analytic import Ellipsoid, Gaussian, Shape, line_integrals, rasterise
from npsi_twin.projectors.astra import AstraProjector
from npsi_twin.projectors.choice import choose_projector
from npsi_twin.projectors.contract import Projector
from npsi_twin.projectors.fourier import FourierProjector
from npsi_twin.projectors.nufft import NufftProjector
from npsi_twin.projectors.rays import RaysProjector
from npsi_twin.scan import ParallelBeam

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent))
sys.path.insert(0, str(FOLDER))
from render import render  # noqa: E402  (the validations' own module, beside this folder)
from speed import row, speed_rows  # noqa: E402  (beside this file)

FIELD_NM = 12800.0
WIDTHS = (64, 128, 256, 512)
MAKERS: dict[str, Callable[[ParallelBeam, int], Projector]] = {
    "fourier": FourierProjector,
    "rays": RaysProjector,
    "nufft": NufftProjector,
    "astra linear": AstraProjector,
    "astra strip": lambda beam, width: AstraProjector(beam, width, kernel="strip"),
    "astra line": lambda beam, width: AstraProjector(beam, width, kernel="line"),
}
ELLIPSOIDS = (
    Ellipsoid((0.13 * FIELD_NM, -0.21 * FIELD_NM, 0.0), (0.2 * FIELD_NM, 0.08 * FIELD_NM, 4000.0), 0.30, 0.4),
    Ellipsoid((-0.2 * FIELD_NM, 0.1 * FIELD_NM, 900.0), (0.1 * FIELD_NM, 0.15 * FIELD_NM, 3000.0), 0.20, -1.0),
    Ellipsoid((0.1 * FIELD_NM, 0.25 * FIELD_NM, -700.0), (0.12 * FIELD_NM, 0.05 * FIELD_NM, 2500.0), 0.15, 2.2),
)
HEIGHTS_NM = (-900.0, -300.0, 300.0, 900.0)
SECTIONS: list[list[Shape]] = [[e for e in (body.section(z) for body in ELLIPSOIDS) if e] for z in HEIGHTS_NM]
GAUSSIANS: list[Shape] = [
    Gaussian((0.11 * FIELD_NM, -0.07 * FIELD_NM), FIELD_NM / 16, 0.3),
    Gaussian((-0.1 * FIELD_NM, 0.03 * FIELD_NM), FIELD_NM / 20, 0.2),
]


def skew_beam(width, views=60):
    """Axis off the middle by part of a pixel, a shift a view, irregular angles, more columns than voxels."""
    rng = np.random.default_rng(5)
    angles = np.sort(rng.uniform(-0.1, np.pi + 0.2, views))
    columns = int(1.1 * width)
    axis = (columns - 1) / 2 + 0.03 * width + 0.317
    return ParallelBeam(angles, columns, FIELD_NM / width, axis, rng.uniform(-0.03, 0.03, views) * width)


def relative(found, exact):
    """Return the relative root-mean-square difference."""
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


def error(make, stack, width):
    """Return a projector's sinograms, their error and the closed form for a stack of slices."""
    beam = skew_beam(width)
    exact = np.stack([line_integrals(shapes, beam) for shapes in stack])
    slab = np.stack([rasterise(shapes, width, beam.pixel_nm) for shapes in stack])
    found = make(beam, width).forward(slab)
    return found, relative(found, exact), exact


def joined(numbers, form="{:.2e}"):
    """Return ``name number`` pairs as text."""
    return "; ".join(f"{name} {form.format(number)}" for name, number in numbers.items())


def algebra():
    """Return the rows on linearity, the transpose and determinism."""
    rng = np.random.default_rng(1)
    width = 256
    beam = skew_beam(width)
    linear, dot, same = {}, {}, {}
    for name, make in MAKERS.items():
        projector = make(beam, width)
        x = rng.random((3, width, width), np.float32)
        y = rng.random((3, beam.views, beam.columns), np.float32)
        forward, adjoint = projector.forward(x), projector.adjoint(y)
        joint = projector.forward(2 * x[:1] - 3 * x[1:2])
        linear[name] = float(np.abs(joint - 2 * forward[:1] + 3 * forward[1:2]).max() / np.abs(joint).max())
        left, right = np.vdot(forward.astype(float), y.astype(float)), np.vdot(x.astype(float), adjoint.astype(float))
        dot[name] = float(abs(left / right - 1))
    for name, backend in (
        ("fourier", "fourier"),
        ("rays", "rays"),
        ("nufft", "nufft"),
        ("astra linear", "astra-cpu"),
    ):
        one, two = (choose_projector(backend, beam, width, threads=threads) for threads in (1, 2))
        pieces = [
            np.concatenate([verb(part[:1]), verb(part[1:])]) for verb, part in ((two.forward, x), (two.adjoint, y))
        ]
        same[name] = all(
            np.array_equal(a, b) and np.array_equal(a, c)
            for a, b, c in zip((one.forward(x), one.adjoint(y)), (two.forward(x), two.adjoint(y)), pieces, strict=True)
        )
    return [
        row("linear", "< 1e-5", joined(linear), max(linear.values()) < 1e-5),
        row("dot-product test", "< 1e-5", joined(dot), max(dot.values()) < 1e-5),
        row(
            "same bytes: 1 and 2 threads, slab cut in two",
            "no bit differs",
            "; ".join(f"{name} {'identical' if fine else 'different'}" for name, fine in same.items()),
            all(same.values()),
        ),
    ]


def closed_forms():
    """Return the rows on ellipsoids, Gaussians and the agreement of the roads, and draw the convergence."""
    rows = []
    errors = {name: [error(make, SECTIONS, width)[1] for width in WIDTHS] for name, make in MAKERS.items()}
    for name, values in errors.items():
        order = float(np.log2(values[0] / values[-1]) / np.log2(WIDTHS[-1] / WIDTHS[0]))
        measured = ", ".join(f"{value:.2e}" for value in values) + f"; order {order:.2f}"
        rows.append(row(f"ellipsoids at 64, 128, 256, 512 voxels, {name}", "order >= 0.9", measured, order >= 0.9))
    smooth_widths = (40, 80, 160)
    smooth = {name: [error(make, [GAUSSIANS], n)[1] for n in smooth_widths] for name, make in MAKERS.items()}
    for name, values in smooth.items():
        order = float(np.log2(values[0] / values[-1]) / 2)
        measured = ", ".join(f"{value:.2e}" for value in values) + f"; order {order:.2f}"
        if name in ("fourier", "nufft"):
            required, passed = "< 2e-5", max(values) < 2e-5
        elif name == "astra line":
            required, passed = "-", None
        else:
            required, passed = "order 2 +- 0.2", abs(order - 2) <= 0.2
        rows.append(row(f"Gaussians at 40, 80, 160 voxels, {name}", required, measured, passed))
    beam = skew_beam(512)
    slab = np.stack([rasterise(shapes, 512, beam.pixel_nm) for shapes in SECTIONS])
    reference = NufftProjector(beam, 512).forward(slab)
    no_worse = errors["fourier"][-1] <= min(errors["nufft"][-1], errors["astra linear"][-1])
    measured = joined({name: errors[name][-1] for name in ("fourier", "nufft", "astra linear")}, "{:.4e}")
    rows.append(row("ellipsoids at 512 voxels, fourier against others", "no larger", measured, no_worse))
    for name in ("fourier", "rays", "astra linear", "astra strip", "astra line"):
        difference = relative(MAKERS[name](beam, 512).forward(slab), reference)
        bound = errors["nufft"][-1] + errors[name][-1]
        rows.append(row(f"nufft against {name}, 512 voxels", f"< {bound:.2e}", f"{difference:.2e}", difference < bound))
    forward, adjoint = rays_against_astra(beam, slab)
    rows.append(row("rays against astra linear, 512 voxels, forward", "< 1e-4", f"{forward:.2e}", forward < 1e-4))
    rows.append(row("the same, adjoint", "-", f"{adjoint:.2e}", None))
    draw(errors)
    return rows


def rays_against_astra(beam, slab):
    """Return how far the two are apart, forward and back."""
    ours, theirs = RaysProjector(beam, 512), AstraProjector(beam, 512)
    expected = theirs.forward(slab)
    return relative(ours.forward(slab), expected), relative(ours.adjoint(expected), theirs.adjoint(expected))


def draw(errors):
    """Draw error against width."""
    figure, axes = plt.subplots(figsize=(5, 3.6), layout="constrained")
    for name, values in errors.items():
        axes.loglog(WIDTHS, values, "o-", label=name)
    axes.loglog(WIDTHS, 1.3 * errors["nufft"][0] * WIDTHS[0] / np.array(WIDTHS), "k:", label="order 1")
    axes.set_xticks(WIDTHS, [str(width) for width in WIDTHS])
    axes.set_yticks([0.002, 0.005, 0.01, 0.02], ["0.2 %", "0.5 %", "1 %", "2 %"])
    axes.minorticks_off()
    axes.set(xlabel="width of the slice (voxels)", ylabel="relative RMS error, ellipsoids")
    axes.legend(frameon=False)
    figure.savefig(FOLDER / "convergence.png", dpi=110, metadata={"Software": None})
    plt.close(figure)


def places():
    """Return the rows on axis, shifts and kept attenuation."""
    width = 256
    beam = skew_beam(width)
    point: list[Shape] = [Gaussian((0.19 * FIELD_NM, -0.08 * FIELD_NM), FIELD_NM / 80, 1.0)]
    image = rasterise(point, width, beam.pixel_nm)[None]
    expected = line_integrals(point, beam)
    step_px = 0.01
    right, left = (line_integrals(point, beam.with_axis(beam.known_axis_px() + d)) for d in (step_px, -step_px))
    slope = (right - left) / (2 * step_px)  # how the closed form answers to a move by one pixel
    places_px, kept = {}, {}
    for name, make in MAKERS.items():
        difference = make(beam, width).forward(image)[0] - expected
        moved = (difference * slope).sum(axis=1) / (slope**2).sum(axis=1)
        places_px[name] = float(np.abs(moved).max())
        found, _, exact = error(make, SECTIONS, width)
        kept[name] = float(np.abs(found.sum(axis=2, dtype=float) / exact.sum(axis=2) - 1).max())
    line_px, line_kept = places_px.pop("astra line"), kept.pop("astra line")
    linear_kept, rays_kept = kept.pop("astra linear"), kept.pop("rays")
    return [
        row(
            "place of a smooth point (pixels, worst view)",
            "Fourier < 0.001, rays and astra < 0.003",
            joined(places_px),
            max(places_px["fourier"], places_px["nufft"]) < 1e-3 and max(places_px.values()) < 3e-3,
        ),
        row("the same, astra line", "-", f"{line_px:.2e}", None),
        row(
            "attenuation kept, worst view",
            "Fourier < 1e-4, strip < 1e-5",
            joined(kept),
            max(kept["fourier"], kept["nufft"]) < 1e-4 and kept["astra strip"] < 1e-5,
        ),
        row("the same, rays, astra linear and line", "-", f"{rays_kept:.2e}; {linear_kept:.2e}; {line_kept:.2e}", None),
    ]


def machine():
    """Return the processor and the cores this process may use."""
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    processor = names[0].partition(":")[2].strip() if names else platform.processor() or platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{processor}, {cores} cores used"


if __name__ == "__main__":
    render(FOLDER, algebra() + closed_forms() + places() + speed_rows(), machine())
