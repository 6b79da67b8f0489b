import numpy as np
import pytest

from npsi_twin.errors import IncompatibleError, ParameterError
from npsi_twin.projectors.analytic import Ellipse, line_integrals
from npsi_twin.projectors.choice import choose_projector
from npsi_twin.reconstruction.algorithms import fbp
from npsi_twin.reconstruction.iteration import IterationRecipe
from npsi_twin.reconstruction.iterative import cgls, landweber, sirt
from npsi_twin.reconstruction.normal_equations import ProjectedEquations
from npsi_twin.reconstruction.slices import slice_dots
from npsi_twin.reconstruction.toeplitz import ToeplitzEquations
from npsi_twin.reconstruction.total_variation import total_variation
from npsi_twin.scan import ParallelBeam


def geometry(columns=48, views=60, shift=None, pixel_nm=100.0):
    return ParallelBeam(np.pi * np.arange(views) / views, columns, pixel_nm, (columns - 1) / 2 + 0.3, shift)


@pytest.fixture
def disks():
    """Sinograms (2, view, column) of smooth bodies well inside the field, their beam, and slices' distance map."""
    beam = geometry()
    shapes = [[Ellipse((300.0, -200.0), (1100.0, 900.0), 0.05)], [Ellipse((-500.0, 300.0), (700.0, 700.0), 0.03)]]
    return np.stack([line_integrals(s, beam) for s in shapes]).astype(np.float32), beam


def rms(values):
    return float(np.sqrt(np.mean(np.asarray(values, np.float64) ** 2)))


def blobs(width, count=3):
    """Gaussian blobs of 2 px: band-limited to 1e-4, well inside the field."""
    y, x = np.mgrid[:width, :width] - (width - 1) / 2
    rng = np.random.default_rng(5)
    places = rng.uniform(-width / 6, width / 6, (count, 2))
    return np.stack([np.exp(-((x - a) ** 2 + (y - b) ** 2) / 8) for a, b in places]).astype(np.float32)


@pytest.mark.parametrize("weighting", ["uniform", "ramp"])
def test_the_convolution_is_the_projection_there_and_back(weighting):
    """Two roads to W' H W: blobs whose projections end inside the detector, so that nothing of them is cut.

    The projector is good to 1e-4 each way; the ramp's tails meet the detector's ends and leave 1e-3.
    """
    shift = np.random.default_rng(0).normal(0, 1.5, 60)
    projector = choose_projector("fourier", geometry(shift=shift), 48)
    slab = np.ascontiguousarray(blobs(48).transpose(1, 2, 0))
    far = ProjectedEquations(projector, weighting).apply(slab)
    near = ToeplitzEquations(projector, weighting).apply(slab)
    y, x = np.mgrid[:48, :48] - 23.5
    inside = np.hypot(x, y) < 20
    assert rms((far - near)[inside]) < (3e-4 if weighting == "uniform" else 2e-3) * rms(far[inside])


@pytest.mark.parametrize("width", [31, 32])
def test_the_convolution_is_symmetric_and_not_negative(width):
    equations = ToeplitzEquations(choose_projector("fourier", geometry(), width))
    rng = np.random.default_rng(1)
    a, b = (rng.standard_normal((width, width, 3), np.float32) for _ in range(2))
    there, back = slice_dots(a, equations.apply(b)), slice_dots(equations.apply(a), b)
    power = slice_dots(a, equations.apply(a))
    np.testing.assert_allclose(there, back, atol=1e-5 * power.max())  # float32 sums of a thousand terms
    assert np.all(power > 0)


def test_bound_is_above_every_eigenvalue():
    """A power iteration, which only reaches up to the largest eigenvalue, ends below it, and near it."""
    equations = ToeplitzEquations(choose_projector("fourier", geometry(), 32))
    slab = np.ones((32, 32, 1), np.float32)
    for _ in range(30):
        slab = equations.apply(slab / np.float32(np.sqrt(slice_dots(slab, slab)[0])))
    found = float(np.sqrt(slice_dots(slab, slab)[0]))
    assert 0.4 * equations.bound < found <= equations.bound
    estimated = ProjectedEquations(equations.projector).bound
    assert found < 1.06 * estimated < 1.2 * found


@pytest.mark.parametrize("slices", [1, 5])
def test_slabs_and_threads_give_the_same_bytes(slices):
    rng = np.random.default_rng(2)
    sinograms = rng.standard_normal((20, 60, 48)).astype(np.float32)
    recipe = IterationRecipe(iterations=4, stop_gain=0.02)
    part = slice(3, 3 + slices)

    def same(make):
        whole, alone = make(sinograms, 2), make(sinograms[part], 1)
        np.testing.assert_array_equal(whole.values[part], alone.values)
        np.testing.assert_array_equal(whole.misfit[: len(alone.misfit), part], alone.misfit)
        np.testing.assert_array_equal(whole.steps[part], alone.steps)

    def equations(threads):
        return ToeplitzEquations(choose_projector("fourier", geometry(), 40, threads=threads), threads=threads)

    same(lambda s, threads: sirt(s, choose_projector("rays", geometry(), 40), recipe, threads=threads))
    same(lambda s, threads: landweber(s, equations(threads), recipe))
    same(lambda s, threads: cgls(s, equations(threads), recipe))
    same(lambda s, threads: total_variation(s, equations(threads), recipe, 0.1, threads=threads))


def test_sirt_through_rays_is_sirt_through_astra(disks):
    """Two roads, the same interpolation along rays: single precision and different orders of summation, 20 steps."""
    sinograms, beam = disks
    recipe = IterationRecipe(iterations=20)
    ours = sirt(sinograms, choose_projector("rays", beam, 48), recipe)
    astra = sirt(sinograms, choose_projector("astra-cpu", beam, 48), recipe)
    assert rms(ours.values - astra.values) < 1e-3 * rms(astra.values)
    assert ours.made_by.backend == "rays"


def test_sirt_is_astras_own(disks):
    """The very algorithm, run by ASTRA on ASTRA's own projector, 25 steps: only the order of sums differs."""
    import astra

    _, beam = disks
    centred = ParallelBeam(beam.angles_rad, 48, 1000.0, 23.5)
    measured = line_integrals([Ellipse((3000.0, -2000.0), (11000.0, 9000.0), 0.05)], centred).astype(np.float32)
    volume = astra.create_vol_geom(48, 48)
    rays = astra.create_proj_geom("parallel", 1.0, 48, beam.angles_rad)
    task = astra.astra_dict("SIRT")
    task["ProjectorId"] = astra.create_projector("linear", rays, volume)
    task["ProjectionDataId"] = astra.data2d.create("-sino", rays, measured)
    task["ReconstructionDataId"] = astra.data2d.create("-vol", volume, 0.0)
    algorithm = astra.algorithm.create(task)
    astra.algorithm.run(algorithm, 25)
    theirs = astra.data2d.get(task["ReconstructionDataId"])
    astra.clear()
    ours = sirt(measured[None], choose_projector("astra-cpu", centred, 48), IterationRecipe(iterations=25)).values[0]
    assert rms(ours - theirs) < 1e-4 * rms(theirs)


@pytest.mark.parametrize("method", ["sirt", "landweber", "cgls", "tv"])
def test_a_known_body_comes_back(disks, method):
    """Means over the ellipses' inner parts to 1 %: steps are few, edges ring, both average out inside."""
    sinograms, beam = disks
    fourier = ToeplitzEquations(choose_projector("fourier", beam, 48), "ramp")
    recipe = IterationRecipe(iterations=60)
    made = {
        "sirt": lambda: sirt(sinograms, choose_projector("rays", beam, 48), recipe),
        "landweber": lambda: landweber(sinograms, fourier, recipe),
        "cgls": lambda: cgls(sinograms, fourier, IterationRecipe(iterations=8)),
        "tv": lambda: total_variation(sinograms, fourier, recipe, 1e-4),
    }[method]()
    y, x = (np.mgrid[:48, :48] - 23.5) * 100.0
    inner = np.hypot((x - 300) / 1100, (y + 200) / 900) < 0.6
    assert abs(made.values[0][inner].mean() / 0.05 - 1) < 0.01
    assert made.misfit[-1, 0] < 0.1
    assert made.misfit.shape[1] == 2


def test_misfits_fall_and_are_what_they_say(disks):
    sinograms, beam = disks
    projector = choose_projector("fourier", beam, 48)
    made = landweber(sinograms, ProjectedEquations(projector), IterationRecipe(iterations=15))
    assert np.all(np.diff(made.misfit, axis=0) < 0)
    np.testing.assert_allclose(made.misfit[0], 1, rtol=1e-6)
    last = landweber(sinograms, ProjectedEquations(projector), IterationRecipe(iterations=14))
    left = np.sqrt(
        [rms(s - p) ** 2 / rms(s) ** 2 for s, p in zip(sinograms, projector.forward(last.values), strict=True)]
    )
    # <p, p> - 2 <x, b> + <x, N x> in single precision: 1e-6 of <p, p> under the root.
    np.testing.assert_allclose(made.misfit[14], left, atol=2e-3)


def test_conjugate_gradients_need_fewer_steps(disks):
    """After n steps they are at the best point of the Krylov space that n steps of Landweber lie in."""
    sinograms, beam = disks
    equations = ToeplitzEquations(choose_projector("fourier", beam, 48))
    recipe = IterationRecipe(iterations=10)
    assert np.all(cgls(sinograms, equations, recipe).misfit[9] < landweber(sinograms, equations, recipe).misfit[9])


def test_the_ramp_preconditions(disks):
    """Edges come with the first steps of the ramp and hundreds of plain ones: distance to FBP after ten."""
    sinograms, beam = disks
    projector = choose_projector("fourier", beam, 48)
    target, recipe = fbp(sinograms, projector), IterationRecipe(iterations=10)

    def distance(weighting):
        return rms(landweber(sinograms, ToeplitzEquations(projector, weighting), recipe).values - target)

    assert distance("ramp") < 0.5 * distance("uniform")


def test_constraints_hold(disks):
    sinograms, beam = disks
    recipe = IterationRecipe(iterations=12, non_negative=True, support="disk")
    equations = ToeplitzEquations(choose_projector("fourier", beam, 48))
    outside = np.hypot(*np.meshgrid(*[np.arange(48) - 23.5] * 2)) > 24.3
    for made in (
        sirt(sinograms, choose_projector("rays", beam, 48), recipe),
        landweber(sinograms, equations, recipe),
        total_variation(sinograms, equations, recipe, 1e-4),
    ):
        assert made.values.min() >= 0
        assert np.all(made.values[:, outside] == 0)
    with pytest.raises(ParameterError, match="conjugacy"):
        cgls(sinograms, equations, recipe)
    masked = cgls(sinograms, equations, IterationRecipe(iterations=5, support="disk")).values
    assert np.all(masked[:, outside] == 0)


def test_slices_end_one_by_one(disks):
    """A slice that began at its solution ends at once; the other goes on."""
    sinograms, beam = disks
    projector = choose_projector("rays", beam, 48)
    recipe = IterationRecipe(iterations=40, stop_misfit=0.05)
    made = sirt(sinograms, projector, recipe)
    start = np.stack([made.values[0], np.zeros((48, 48), np.float32)])
    again = sirt(sinograms, projector, recipe, start=start)
    assert again.steps[0] == 0
    assert again.steps[1] == made.steps[1] > 3
    np.testing.assert_array_equal(again.values[0], made.values[0])
    assert np.all(made.misfit[-1] <= 0.05)


def test_total_variation_flattens_noise_and_keeps_steps():
    """A disk in noise: flat to a third of FBP's noise inside, while its mean stays within 2 %."""
    beam = geometry(views=120)
    sinogram = line_integrals([Ellipse((0.0, 0.0), (1500.0, 1500.0), 0.05)], beam)[None].astype(np.float32)
    noisy = sinogram + 0.01 * np.random.default_rng(3).standard_normal(sinogram.shape).astype(np.float32)
    projector = choose_projector("fourier", beam, 48)
    start = fbp(noisy, projector)
    inner = np.hypot(*np.meshgrid(*[(np.arange(48) - 23.5) * 100.0] * 2)) < 1100
    recipe = IterationRecipe(iterations=100)
    noise = start[0][inner].std()
    made = total_variation(noisy, ToeplitzEquations(projector), recipe, 2 * noise, start=start)
    assert made.values[0][inner].std() < noise / 3
    assert abs(made.values[0][inner].mean() / 0.05 - 1) < 0.02


def test_total_variation_of_a_disk_in_closed_form():
    """Denoising (H = ramp) lowers a disk of radius r by strength * perimeter / area = 2 strength / r (r in voxels).

    Exact for the plane (Strong and Chan 2003); on the grid, the edge by forward differences is a little longer or
    shorter than the circle, and W' H W is 1 only to a few per cent: 6 % of the change.
    """
    columns, radius = 96, 24.0
    beam = ParallelBeam(np.pi * np.arange(301) / 301, columns, 1000.0, 47.5)
    sinogram = line_integrals([Ellipse((0.0, 0.0), (radius * 1000, radius * 1000), 1.0)], beam)[None]
    projector = choose_projector("fourier", beam, columns)
    start = fbp(sinogram.astype(np.float32), projector)
    strength = 0.6
    equations = ToeplitzEquations(projector, "ramp")
    made = total_variation(sinogram, equations, IterationRecipe(iterations=200), strength, start=start)
    inner = np.hypot(*np.meshgrid(*[np.arange(columns) - 47.5] * 2)) < 0.7 * radius
    lowered = start[0][inner].mean() - made.values[0][inner].mean()
    assert abs(lowered / (2 * strength / radius) - 1) < 0.06


@pytest.mark.parametrize(("views", "weighting"), [(12, "ramp"), (301, "uniform")])
def test_total_variation_settles_for_few_and_many_views(views, weighting):
    """The step is as large as the envelope of the spectrum lets it be; too large, and 150 steps blow it up."""
    beam = geometry(columns=160, views=views)
    sinogram = line_integrals([Ellipse((0.0, 0.0), (5000.0, 4000.0), 0.05)], beam)[None].astype(np.float32)
    noisy = sinogram + 0.02 * np.random.default_rng(3).standard_normal(sinogram.shape).astype(np.float32)
    projector = choose_projector("fourier", beam, 160)
    equations = ToeplitzEquations(projector, weighting)
    recipe = IterationRecipe(iterations=150, non_negative=True)
    made = total_variation(noisy, equations, recipe, 0.01, start=fbp(noisy, projector))
    assert made.values.max() < 0.2  # a body of 0.05 and the streaks of 12 views
    assert np.all(np.abs(np.diff(made.misfit[-20:, 0])) < 0.01 * made.misfit[-1, 0])


def test_what_cannot_be_is_refused(disks):
    sinograms, beam = disks
    fourier = choose_projector("fourier", beam, 48)
    with pytest.raises(ParameterError, match="ring around zero"):
        sirt(sinograms, fourier, IterationRecipe())
    with pytest.raises(ParameterError, match="band-limited"):
        ToeplitzEquations(choose_projector("rays", beam, 48))
    with pytest.raises(ParameterError, match="'uniform' and 'ramp'"):
        ToeplitzEquations(fourier, "other")
    with pytest.raises(ParameterError, match="must be positive"):
        total_variation(sinograms, ToeplitzEquations(fourier), IterationRecipe(), 0.0)
    with pytest.raises(IncompatibleError, match="start of shape"):
        landweber(sinograms, ToeplitzEquations(fourier), IterationRecipe(), start=np.zeros((1, 48, 48), np.float32))
