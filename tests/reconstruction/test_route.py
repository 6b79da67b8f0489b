import numpy as np
import pytest

from npsi_twin.errors import IncompatibleError, MissingBackendError, ParameterError
from npsi_twin.projectors.choice import choose_projector
from npsi_twin.reconstruction.algorithms import fbp
from npsi_twin.reconstruction.correction_recipe import CorrectionRecipe
from npsi_twin.reconstruction.iteration import IterationRecipe
from npsi_twin.reconstruction.reprojection import AlignmentRecipe
from npsi_twin.reconstruction.rings import RingRecipe
from npsi_twin.reconstruction.rotation import RotationAxis
from npsi_twin.reconstruction.route import ReconstructionRecipe, prepare, reconstruct
from npsi_twin.scan import Scan

PLAIN = ReconstructionRecipe(algorithm="fbp", rings=RingRecipe(method="none"))
QUICK = ReconstructionRecipe(sirt_iterations=8)


def rows_of(scan, start, stop):
    rows = slice(start, stop)
    return Scan(
        scan.projections[:, rows], scan.flats[:, rows], scan.darks[:, rows], scan.beam, first_row=scan.first_row + start
    )


@pytest.fixture
def four_rows(needle, counts):
    integrals, beam = needle(columns=96, views=120, axis=45.3, fill=0.7)
    scale = np.array([1.0, 0.9, 0.7, 1.2], np.float32)[:, None, None]
    return counts(scale * integrals, beam, first_row=10)


def test_counts_to_attenuation_finding_the_axis(needle, counts):
    integrals, beam = needle(columns=128, views=181, axis=60.8, fill=0.7)
    made = reconstruct(counts(integrals, beam), PLAIN)
    assert abs(made.axis.px - 60.8) < 0.05
    reference = fbp(integrals, choose_projector("nufft", beam, 128))
    # 0.02 pixels of axis error at the sharp edges of the sample.
    assert np.abs(made.volume.values - reference).max() < 0.02 * reference.max()
    assert made.volume.voxel_nm == beam.pixel_nm
    assert made.made_by.backend == "fourier"
    assert made.made_by.recipe_digest == PLAIN.digest()
    assert not made.volume.values.flags.writeable


@pytest.mark.parametrize("recipe", [PLAIN, QUICK], ids=["fbp", "sirt-fbp"])
def test_slabs_and_threads_give_the_same_bytes(four_rows, recipe):
    plan = prepare(four_rows, recipe, axis=45.3)
    whole = reconstruct(four_rows, recipe, plan=plan, threads=1)
    np.testing.assert_array_equal(
        reconstruct(four_rows, recipe, plan=plan, threads=2).volume.values, whole.volume.values
    )
    # Slices ride in pairs through one transform, so slabs that begin at even rows are cut without a trace.
    halves = [reconstruct(rows_of(four_rows, *rows), recipe, plan=plan) for rows in ((0, 2), (2, 4))]
    np.testing.assert_array_equal(np.concatenate([h.volume.values for h in halves]), whole.volume.values)
    np.testing.assert_array_equal(np.concatenate([h.removed_rms for h in halves]), whole.removed_rms)
    assert [h.first_row for h in halves] == [10, 12]
    alone = reconstruct(rows_of(four_rows, 1, 2), recipe, plan=plan)
    np.testing.assert_allclose(alone.volume.values[0], whole.volume.values[1], atol=1e-5 * whole.volume.values.max())


def test_input_is_untouched(four_rows):
    before = four_rows.projections.copy()
    reconstruct(four_rows, QUICK, axis=45.3)
    np.testing.assert_array_equal(four_rows.projections, before)


@pytest.mark.parametrize(
    "changed",
    [
        {"algorithm": "fbp"},
        {"sirt_iterations": 9},
        {"rotation_axis_px": 44.0},
        {"field_edges": "extend"},
        {"width_px": 64},
        {"route": "astra-cpu"},
        {"rings": RingRecipe(method="none")},
        {"axis_method": "opposite-views"},
        {"alignment": AlignmentRecipe(method="reprojection", iterations=2)},
        {"corrections": CorrectionRecipe(air_columns_px=3)},
        {"corrections": CorrectionRecipe(bad_fraction_limit=0.5, gain_tolerance=0.001, outlier_sigmas=1.0)},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_every_parameter_matters(four_rows, changed):
    noisy = Scan(
        four_rows.projections,
        four_rows.flats * (1 + 0.01 * np.random.default_rng(0).standard_normal(four_rows.flats.shape)),
        four_rows.darks,
        four_rows.beam,
    )
    usual = reconstruct(noisy, QUICK).volume.values
    other = reconstruct(noisy, QUICK.model_copy(update=changed)).volume.values
    assert usual.shape != other.shape or not np.array_equal(usual, other)


@pytest.mark.parametrize(
    ("algorithm", "changed"),
    [
        ("sirt", {"iterations": 4}),
        ("sirt", {"non_negative": True}),
        ("sirt", {"support": "disk"}),
        ("landweber", {"weighting": "ramp"}),
        ("cgls", {"stop_misfit": 0.9}),
        ("landweber", {"stop_gain": 0.9}),
        ("tv", {"iterations": 4}),
    ],
)
def test_every_parameter_of_an_iteration_matters(four_rows, algorithm, changed):
    usual = PLAIN.model_copy(update={"algorithm": algorithm, "iteration": IterationRecipe(iterations=3)})
    other = usual.model_copy(update={"iteration": usual.iteration.model_copy(update=changed)})
    first, second = (reconstruct(four_rows, recipe, axis=45.3) for recipe in (usual, other))
    assert not np.array_equal(first.volume.values, second.volume.values)
    assert first.misfit.shape == (3, 4)
    assert first.made_by.backend == ("rays" if algorithm == "sirt" else "fourier")


def test_strength_of_the_variation_matters(four_rows):
    usual = PLAIN.model_copy(update={"algorithm": "tv", "iteration": IterationRecipe(iterations=10)})
    strong = usual.model_copy(update={"tv_strength_per_um": 0.1})
    rough = [np.abs(np.diff(reconstruct(four_rows, r, axis=45.3).volume.values)).mean() for r in (usual, strong)]
    assert rough[1] < rough[0]


@pytest.mark.parametrize("algorithm", ["cgls", "tv"])
def test_iterations_see_a_cut_sample_whole(needle, counts, algorithm):
    """Slices are made wider, not data: without the room, what lies outside piles up in a bright rim of the field."""
    integrals, beam = needle(columns=128, views=181, fill=0.95)
    narrow = type(beam)(beam.angles_rad, 96, beam.pixel_nm, 47.5)
    scan = counts(integrals[:, :, 16:112], narrow)
    steps = IterationRecipe(iterations=8)
    recipe = PLAIN.model_copy(update={"algorithm": algorithm, "iteration": steps, "tv_strength_per_um": 1e-5})
    truth = fbp(integrals, choose_projector("nufft", beam, 96))[0]
    made = reconstruct(scan, recipe, axis=47.5).volume.values[0]
    cut = reconstruct(scan, recipe.model_copy(update={"field_edges": "zero"}), axis=47.5).volume.values[0]
    assert made.shape == (96, 96)
    rim = np.hypot(*np.meshgrid(*[np.arange(96) - 47.5] * 2))
    rim = (rim > 38) & (rim < 46)
    assert np.abs(made - truth)[rim].max() < 0.7 * np.abs(cut - truth)[rim].max()


def test_sirt_of_a_band_limited_route_is_refused(four_rows):
    recipe = PLAIN.model_copy(update={"algorithm": "sirt", "route": "fourier"})
    with pytest.raises(ParameterError, match="sums over rays"):
        prepare(four_rows, recipe, axis=45.3)


def test_run_out_found_sharpens_the_slice(needle, counts):
    run_out = 1.5 * np.random.default_rng(4).standard_normal(181)
    moved, known = needle(columns=96, views=181, axis=47.5, fill=0.7, shift_px=run_out)
    still, beam = needle(columns=96, views=181, axis=47.5, fill=0.7)
    unaware = type(beam)(beam.angles_rad, 96, beam.pixel_nm)
    scan = counts(moved, unaware)
    aligned = PLAIN.model_copy(update={"alignment": AlignmentRecipe(method="reprojection")})
    truth = fbp(still, choose_projector("fourier", beam, 96))
    off = [np.abs(reconstruct(scan, r, axis=47.5).volume.values - truth).mean() for r in (aligned, PLAIN)]
    assert off[0] < 0.3 * off[1]
    assert known.columns == 96


def test_what_stripe_removal_took_is_a_picture(four_rows):
    recipe = PLAIN.model_copy(update={"rings": RingRecipe()})
    made = reconstruct(four_rows, recipe, axis=45.3)
    assert made.removed_mean.shape == (4, 96)
    assert np.abs(made.removed_mean).max() > 0
    assert not np.any(reconstruct(four_rows, PLAIN, axis=45.3).removed_mean)


def test_route_is_recorded(four_rows):
    assert prepare(four_rows, PLAIN, axis=45.3).projector == "fourier"
    for route in ("fourier", "nufft", "astra-cpu"):
        named = PLAIN.model_copy(update={"route": route})
        assert prepare(four_rows, named, axis=45.3).projector == route
    rays = PLAIN.model_copy(update={"route": "astra"})
    assert prepare(four_rows, rays, axis=45.3).projector in {"astra-cpu", "astra-cuda"}


def test_a_missing_gpu_is_told(four_rows):
    import astra

    if astra.use_cuda():
        pytest.skip("there is a GPU here")
    with pytest.raises(MissingBackendError):
        prepare(four_rows, PLAIN.model_copy(update={"route": "astra-cuda"}), axis=45.3)


def test_a_cut_sample_is_extended(needle, counts):
    integrals, beam = needle(columns=128, views=181, fill=0.95)
    narrow = type(beam)(beam.angles_rad, 96, beam.pixel_nm, 47.5)
    scan = counts(integrals[:, :, 16:112], narrow)
    assert prepare(scan, PLAIN, axis=47.5).extension_px == 48
    truth = fbp(integrals, choose_projector("nufft", beam, 96))
    extended = reconstruct(scan, PLAIN, axis=47.5).volume.values
    cut = reconstruct(scan, PLAIN.model_copy(update={"field_edges": "zero"}), axis=47.5).volume.values
    place = np.hypot(*np.meshgrid(*[np.arange(96) - 47.5] * 2))
    # Near the edge of the field, inside it: the step of a cut sinogram makes a bright rim, the extension does not.
    rim = (place > 40) & (place < 47)
    assert np.abs((extended - truth)[0][rim]).max() < 0.5 * np.abs((cut - truth)[0][rim]).max()


def test_axis_has_one_source_at_a_time(four_rows):
    plan = prepare(four_rows, PLAIN, axis=RotationAxis(45.3, 0.1, "elsewhere"))
    assert plan.axis.method == "elsewhere"
    told = PLAIN.model_copy(update={"rotation_axis_px": 45.3})
    assert prepare(four_rows, told).axis == RotationAxis(45.3, 0.0, "given")
    with pytest.raises(ParameterError, match="both a plan and an axis"):
        reconstruct(four_rows, PLAIN, plan=plan, axis=45.3)
    with pytest.raises(ParameterError, match="columns 0 to 95"):
        prepare(four_rows, PLAIN, axis=96.5)


def test_a_plan_of_another_scan_is_refused(four_rows, needle, counts):
    plan = prepare(four_rows, QUICK, axis=45.3)
    with pytest.raises(IncompatibleError, match="by fbp"):
        reconstruct(four_rows, PLAIN, plan=plan)
    integrals, beam = needle(columns=96, views=60)
    with pytest.raises(IncompatibleError, match="60 views"):
        reconstruct(counts(integrals, beam), QUICK, plan=plan)


def test_recipes_survive_a_round_trip():
    recipe = ReconstructionRecipe(algorithm="fbp", rings=RingRecipe(levels=3))
    assert ReconstructionRecipe.model_validate(recipe.model_dump()) == recipe
    assert hash(recipe) == hash(ReconstructionRecipe.model_validate_json(recipe.model_dump_json()))


def test_real_tooth_without_help(tooth):
    made = reconstruct(tooth, PLAIN.model_copy(update={"rings": RingRecipe()}))
    assert abs(made.axis.px - 295.6) < 0.5
    assert made.volume.values.shape == (2, 640, 640)
    assert np.all(np.isfinite(made.volume.values))
    assert made.counts.bad_pixels == made.counts.clipped == 0
