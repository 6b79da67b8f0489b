"""The rows on time and memory: side by side in one process, the shortest of interleaved rounds, slabs in processes."""

import importlib.util
import json
import math
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numba import njit

from npsi_twin.plan import plan_twin, projection_cost
from npsi_twin.projectors.astra import AstraProjector
from npsi_twin.projectors.fourier import FourierProjector
from npsi_twin.projectors.lane_fft import PAIR, plan_for, transform
from npsi_twin.projectors.lanes import LANES, aligned
from npsi_twin.projectors.nufft import NufftProjector
from npsi_twin.projectors.rays import RaysProjector
from npsi_twin.scan import ParallelBeam
from npsi_twin.specification import preset_specification

WIDTH, VIEWS, SLICES, SLICES_ASTRA = 512, 601, 32, 4
MEMORY_GIB = 6
ROUNDS = int(os.environ.get("NPSI_TWIN_VALIDATION_ROUNDS", "5"))


def row(requirement, required, measured, passed):
    """Return one row of the result table."""
    return {
        "requirement": requirement,
        "required": required,
        "measured": measured,
        "passed": passed if passed is None else bool(passed),
    }


def even_beam(width, views):
    """Even angles over half a turn, the axis in the middle."""
    return ParallelBeam(np.arange(views) * np.pi / views, width, 25.4, (width - 1) / 2)


def speed_rows():
    """Return all rows on time and memory."""
    best = times()
    return [*fourier_rows(best), *rays_rows(best), tomopy_row(best), scaling(), *slabs()]


def times(rounds=ROUNDS):
    """Return ms a slice of every call by (verb, who), the shortest of interleaved rounds."""
    beam = even_beam(WIDTH, VIEWS)
    slab = np.random.default_rng(3).random((SLICES, WIDTH, WIDTH), np.float32)
    lag = np.arange(1 - WIDTH, WIDTH)
    taps = np.where(lag == 0, 0.25, np.where(lag % 2 == 1, -1 / (np.pi * np.where(lag == 0, 1, lag)) ** 2, 0.0))
    makers = {"fourier": FourierProjector, "rays": RaysProjector, "nufft": NufftProjector, "astra": AstraProjector}
    made = {name: make(beam, WIDTH) for name, make in makers.items()}
    sinograms = made["fourier"].forward(slab)
    slab_last, sinograms_last = (np.ascontiguousarray(array.transpose(1, 2, 0)) for array in (slab, sinograms))
    calls = {}
    for name, p in made.items():
        n = SLICES_ASTRA if name == "astra" else SLICES
        calls["forward", name] = (lambda p=p, n=n: p.forward(slab[:n]), n)
        calls["adjoint", name] = (lambda p=p, n=n: p.adjoint(sinograms[:n]), n)
        calls["filtered adjoint", name] = (lambda p=p, n=n: p.filtered_adjoint(sinograms[:n], taps), n)
    for name in ("fourier", "rays"):
        p = made[name]
        calls["forward", f"{name} last"] = (lambda p=p: p.forward_slices_last(slab_last), SLICES)
        calls["adjoint", f"{name} last"] = (lambda p=p: p.adjoint_slices_last(sinograms_last), SLICES)
    rays = made["rays"]
    calls["backproject", "rays"] = (lambda: rays.backproject(sinograms), SLICES)
    calls["backproject", "rays last"] = (lambda: rays.backproject_slices_last(sinograms_last), SLICES)
    calls["transforms alone", "fourier last"] = (transforms_alone(made["fourier"]), SLICES)
    if importlib.util.find_spec("tomopy"):
        import tomopy

        project = {"pad": False, "sinogram_order": True, "ncore": made["fourier"].threads}
        angles = beam.angles_rad
        calls["forward", "tomopy"] = (lambda: tomopy.project(slab[:SLICES_ASTRA], angles, **project), SLICES_ASTRA)
    best = dict.fromkeys(calls, np.inf)
    for turn in range(rounds + 1):
        for key, (call, n) in calls.items():
            if key[1] in ("astra", "tomopy") and turn == 0:
                continue  # the first turn makes plans and buffers; these keep none
            start = time.perf_counter()
            call()
            if turn:
                best[key] = min(best[key], 1e3 * (time.perf_counter() - start) / n)
    return best


@njit(nogil=True)
def _transform_again(count, first, second, plan):
    for _ in range(count):
        transform(first, second, plan, 0, LANES)


def transforms_alone(projector):
    """Return a call that makes the transforms of `FourierProjector.forward`, for as many slices, and nothing else."""
    across, along = (plan_for(length) for length in projector.lengths)
    rows, views = -(-projector.width // 2), -(-projector.beam.views // 2)
    batches = SLICES // LANES
    work = ((batches * (rows + across.length // 2 + 1), across), (batches * views, along))
    longest = max(projector.lengths) * PAIR
    buffers = [(aligned(longest), aligned(longest)) for _ in range(projector.threads)]
    for pair in buffers:
        for buffer in pair:
            buffer[:] = 0  # and stays 0: a transform takes as long for any numbers

    def share(buffer_pair):
        for count, plan in work:
            _transform_again(-(-count // projector.threads), *buffer_pair, plan)

    def call():
        with ThreadPoolExecutor(projector.threads) as pool:
            list(pool.map(share, buffers))

    return call


def fourier_rows(best):
    """Return the rows on the Fourier projector against ASTRA and finufft, and on its own transforms."""
    rows = []
    for verb, who, least in (
        ("forward", "fourier last", 150),
        ("forward", "fourier", 50),
        ("adjoint", "fourier last", 80),
        ("adjoint", "fourier", None),
        ("filtered adjoint", "fourier", None),
    ):
        ours, finufft, astra = best[verb, who], best[verb, "nufft"], best[verb, "astra"]
        measured = (
            f"{ours:.2f}; astra linear {astra:.0f}, nufft {finufft:.1f}; "
            f"ratios {astra / ours:.0f} and {finufft / ours:.1f}"
        )
        required = "> 2 x nufft" if least is None else f"> {least} x astra, > 2 x nufft"
        passed = astra / ours > (least or 0) and finufft / ours > 2
        shape = "(y, x, z)" if who.endswith("last") else "(z, y, x)"
        rows.append(row(f"fourier {verb}, {shape}, ms a slice", required, measured, passed))
    share = best["transforms alone", "fourier last"] / best["forward", "fourier last"]
    rows.append(row("share of fourier forward, (y, x, z), that is its FFTs", "-", f"{share:.0%}", None))
    return rows


def rays_rows(best):
    """Return the rows on pairs of ray operators: forward, and either way back."""
    astra = best["forward", "astra"] + best["adjoint", "astra"]
    rows = []
    for who, shape in (("rays last", "(y, x, z)"), ("rays", "(z, y, x)")):
        for back in ("adjoint", "backproject"):
            forth_ms, back_ms = best["forward", who], best[back, who]
            ratio = astra / (forth_ms + back_ms)
            measured = f"{forth_ms:.1f} + {back_ms:.1f}; astra linear {astra:.0f}; ratio {ratio:.0f}"
            rows.append(row(f"rays forward + {back}, {shape}, ms a slice", "> 25 x astra", measured, ratio > 25))
    return rows


def tomopy_row(best):
    """Return the row on TomoPy's projector, where it is installed."""
    name = "fourier forward, (z, y, x), against TomoPy `project`"
    if ("forward", "tomopy") not in best:
        return row(name, "-", "TomoPy is not installed here", None)
    ratio = best["forward", "tomopy"] / best["forward", "fourier"]
    measured = f"{best['forward', 'fourier']:.2f}; tomopy {best['forward', 'tomopy']:.0f} ms a slice; ratio {ratio:.0f}"
    return row(name, "> 50 x", measured, ratio > 50)


def scaling(widths=(256, 512, 1024, 2048), slices=16, rounds=ROUNDS):
    """Return the row on how the time of a slice grows with its width, views growing as well.

    Narrow slices are projected so often in a row that all widths take about as long: other work hits them alike.
    """
    projectors = [FourierProjector(even_beam(width, round(VIEWS * width / WIDTH)), width) for width in widths]
    volumes = [np.random.default_rng(4).random((width, width, slices), np.float32) for width in widths]
    best = [np.inf] * len(widths)
    for _ in range(rounds):
        for i, (projector, volume) in enumerate(zip(projectors, volumes, strict=True)):
            times = (widths[-1] // widths[i]) ** 2
            start = time.perf_counter()
            for _ in range(times):
                projector.forward_slices_last(volume)
            best[i] = min(best[i], 1e3 * (time.perf_counter() - start) / (times * slices))
    allowed = (widths[-1] / widths[0]) ** 2 * math.log(widths[-1]) / math.log(widths[0])
    factor = best[-1] / best[0]
    exponent = math.log(factor) / math.log(widths[-1] / widths[0])
    measured = ", ".join(f"{value:.2f}" for value in best) + f" ms; factor {factor:.0f}, N^{exponent:.2f}"
    name = ", ".join(str(width) for width in widths)
    required = f"N^2 log N: factor < {allowed:.0f}"
    return row(f"fourier forward, (y, x, z), {name} voxels", required, measured, factor < allowed)


def walk(what):
    """Return what `slab.py` measures in a process of its own."""
    command = [sys.executable, str(Path(__file__).resolve().parent / "slab.py"), what]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def slabs():
    """Return the rows on the memory that slabs of full width take, and on what `plan` says of them."""
    slab = walk("scan")
    seconds, peak = slab["seconds"], max(slab["gib"].values())
    what = "16 rows x 2448 columns x 1201 views"
    parts = "; ".join(f"{part} {value:.0f} s" for part, value in seconds.items())
    peaks = ", ".join(f"{value:.2f} after {part}" for part, value in slab["gib"].items())
    rows = [
        row(
            f"scan of {what}, supersampling 2: peak of the process",
            f"< {MEMORY_GIB} GiB",
            f"{peaks}; {parts}",
            peak < MEMORY_GIB,
        )
    ]
    for verb in ("adjoint", "filtered_adjoint"):
        found = walk(verb)
        measured = f"{found['gib']:.2f}; {found['seconds']:.1f} s"
        name = f"{verb.replace('_', ' ')} of {what}: peak of the process"
        rows.append(row(name, f"< {MEMORY_GIB} GiB", measured, found["gib"] < MEMORY_GIB))
    specification = preset_specification("zhao2018")
    detector = specification.microscope.detector
    plan = plan_twin(specification).only("scan")
    pairs = {
        "memory, GiB": (plan.memory_bytes / 2**30, peak),
        "projection of that slab, s": (
            slab["slices"] * projection_cost(2 * detector.columns, specification.microscope.stage.views)[0],
            seconds["project"],
        ),
        "scan of all 2048 rows, s": (plan.seconds, sum(seconds.values()) * detector.rows / slab["rows"]),
    }
    for name, (expected, found) in pairs.items():
        measured = f"{expected:.3g} for {found:.3g}, {expected / found - 1:+.0%}"
        rows.append(row(f"`plan` of the full scan: {name}", "within 30 %", measured, abs(expected / found - 1) < 0.3))
    return rows
