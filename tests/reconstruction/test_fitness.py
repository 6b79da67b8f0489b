"""Whether a scan is fit for reconstruction: the views that a slice needs."""

import warnings

import numpy as np
import pytest

from npsi_twin.errors import OutOfRangeWarning
from npsi_twin.reconstruction.fitness import judge_views
from npsi_twin.reconstruction.rings import RingRecipe
from npsi_twin.reconstruction.route import ReconstructionRecipe, prepare
from npsi_twin.scan import ParallelBeam
from npsi_twin.seeds import Seeds
from npsi_twin.specification import parse_specification, preset_specification
from npsi_twin.stages import make_electrode
from npsi_twin.txm.microscope import told_beam

PLAIN = ReconstructionRecipe(algorithm="fbp", rings=RingRecipe(method="none"))


def beam(views, turn=np.pi):
    return ParallelBeam(turn * np.arange(views) / views, columns=100, pixel_nm=50.0)


@pytest.mark.parametrize(
    ("given", "width", "told"),
    [
        (beam(157), None, "157 directions .* pi/2 x 100 = 158 sample"),  # 157.08 are needed
        (beam(158), None, None),
        (beam(314, 2 * np.pi), None, "157 directions"),  # the second half of the turn sees the first mirrored
        (beam(313, 2 * np.pi), None, None),  # and lies between its views where their number is odd
        (beam(100), 64, "pi/2 x 64 = 101 sample"),
        (beam(101), 64, None),
        (beam(101), 200, "pi/2 x 100 = 158 sample"),  # beyond the detector's field there is nothing to sample
    ],
)
def test_views_are_too_few_below_half_pi_times_the_width(given, width, told):
    if told is None:
        judge_views(given, width)
        return
    with pytest.warns(OutOfRangeWarning, match=f"few views: .*{told}"):
        judge_views(given, width)


def test_a_reconstruction_says_so_and_a_twin_before_its_scan(needle, counts):
    integrals, few = needle(columns=96, views=40, axis=47.5)
    with pytest.warns(OutOfRangeWarning, match="few views: 40 directions .* = 151 sample"):
        prepare(counts(integrals, few), PLAIN)
    with pytest.warns(OutOfRangeWarning, match="few views: 120 directions .* = 202 sample"):
        make_electrode(preset_specification("tiny"))


def test_the_demo_has_views_enough_and_the_published_scan_has_not():
    """1201 views, the last the first mirrored, sample 764 of 2448 columns: the paper's own limit, said aloud."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        judge_views(told_beam(parse_specification("").microscope, seeds=Seeds(1)))
    with pytest.warns(OutOfRangeWarning, match="two pixels are resolved within 764 pixels around the axis"):
        judge_views(told_beam(preset_specification("zhao2018").microscope, seeds=Seeds(1)))
