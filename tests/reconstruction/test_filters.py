import numpy as np
import pytest

from npsi_twin.errors import ParameterError
from npsi_twin.projectors.choice import choose_projector
from npsi_twin.reconstruction.algorithms import sirt_fbp
from npsi_twin.reconstruction.filters import default_cache, ramp_taps, response_polynomial, sirt_fbp_taps
from npsi_twin.scan import ParallelBeam


def beam_of(columns=32, views=48, pixel_nm=1000.0):
    return ParallelBeam(np.pi * np.arange(views) / views, columns, pixel_nm)


def test_ramp_in_frequency_is_the_absolute_value():
    # The series sum h[n] exp(-2 pi i nu n) is |nu| exactly; cut at n = 2000 its tail is at most 2 / (pi**2 2000).
    taps = ramp_taps(2001, 1000.0)
    nu = np.linspace(0.0, 0.5, 41)
    distance = np.arange(-2000, 2001)
    response = np.array([(taps * np.cos(2 * np.pi * n * distance)).sum() for n in nu])
    np.testing.assert_allclose(response, nu, atol=1.1e-4)


def test_ramp_scales_with_the_pixel():
    np.testing.assert_allclose(ramp_taps(9, 50.0), ramp_taps(9, 1000.0) * 400, rtol=1e-12)
    assert ramp_taps(9, 50.0).size == 17


def test_sirt_taps_follow_their_closed_form():
    """W'W is nearly a convolution with views / (pi |nu|), so n Landweber steps have a filter in closed form."""
    columns, views, n = 65, 96, 40
    taps = sirt_fbp_taps(beam_of(columns, views), n)
    response = np.fft.rfft(np.roll(taps.mean(axis=0), -(columns - 1))).real
    nu = np.fft.rfftfreq(2 * columns - 1)[1:]
    gain = np.minimum(1 / (np.pi * columns * nu), 1)
    closed = np.pi / views * nu * (1 - (1 - gain) ** n)
    # Views are dense up to 96 / (65 pi) cycles a pixel, nearly all; the picture fails at the grid's edge: 1.5 %.
    assert np.abs(response[1:] - closed).max() < 0.03 * closed.max()


@pytest.mark.parametrize("n", [1, 7, 40])
def test_the_polynomial_takes_the_steps(n):
    """Two roads: n Landweber steps one by one, and the series, where taps are the impulse response alone."""
    columns, views = 41, 60
    beam = ParallelBeam(np.pi * np.arange(views) / views, columns, 1000.0, (columns - 1) / 2)
    operator = choose_projector("nufft", beam, columns)
    alpha = np.float32(1 / (views * columns))
    estimate = np.zeros((1, columns, columns), np.float32)
    estimate[0, columns // 2, columns // 2] = 1
    total = estimate.copy()
    for _ in range(n - 1):
        estimate = estimate - alpha * operator.adjoint(operator.forward(estimate))
        total += estimate
    expected = alpha * operator.forward(total)[0, :, columns // 2 - 4 : columns // 2 + 5]
    taps = sirt_fbp_taps(beam_of(columns, views), n)[:, columns - 5 : columns + 4]
    # The sum is adjusted by what the tails lack: about 1 / (2 pi**2 distance) of the ramp, spread over 16 taps.
    np.testing.assert_allclose(taps, expected, atol=0.01 * expected.max())


@pytest.mark.parametrize("n", [1, 9, 10, 200, 1000])
def test_the_polynomial_is_short_and_exact(n):
    s = np.concatenate([np.linspace(0.01, 1, 200), np.geomspace(1e-6, 1, 200)])
    coefficients = response_polynomial(n)
    value = np.polynomial.chebyshev.chebval(2 * s / 1.5 - 1, coefficients)
    np.testing.assert_allclose(value, (1 - (1 - s) ** n) / s, atol=2e-6 * n + 1e-9)
    assert coefficients.size < 16 + 6 * np.sqrt(n)


def test_sirt_taps_leave_no_constant_offset(needle):
    """Against the very Landweber steps, on a needle that fills most of the field: taps cut at half the field's width
    leave 2.5 % of the foil. What remains is what the field's edge does to the steps, some 4e-3."""
    sinograms, beam = needle(columns=65, views=120, fill=0.9)
    projector = choose_projector("fourier", beam, 65)
    step = np.float32(1 / (beam.views * 65 * (beam.pixel_nm / 1000) ** 2))
    steps = np.zeros((1, 65, 65), np.float32)
    for _ in range(60):
        steps += step * projector.adjoint(sinograms - projector.forward(steps))
    filtered = sirt_fbp(sinograms, projector, sirt_fbp_taps(beam, 60))
    inside = np.hypot(*np.meshgrid(*[np.arange(65) - 32] * 2)) < 31
    assert abs(float((filtered - steps)[0][inside].mean())) < 6e-3 * 0.0471


def test_sirt_taps_do_not_depend_on_pixel_axis_or_threads():
    taps = sirt_fbp_taps(beam_of(), 6, threads=1)
    np.testing.assert_array_equal(sirt_fbp_taps(beam_of().with_axis(3.3), 6, threads=2), taps)
    np.testing.assert_allclose(sirt_fbp_taps(beam_of(pixel_nm=500.0), 6), 4 * taps, rtol=1e-6)


def test_cache_is_used_and_keyed_by_geometry(tmp_path, monkeypatch):
    taps = sirt_fbp_taps(beam_of(), 5, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    monkeypatch.setattr("npsi_twin.reconstruction.filters._impulse_taps", None)
    np.testing.assert_array_equal(sirt_fbp_taps(beam_of(), 5, cache=tmp_path), taps)
    for other in (
        lambda: sirt_fbp_taps(beam_of(), 6, cache=tmp_path),
        lambda: sirt_fbp_taps(beam_of(columns=34), 5, cache=tmp_path),
        lambda: sirt_fbp_taps(ParallelBeam(beam_of().angles_rad + 1e-6, 32, 1000.0), 5, cache=tmp_path),
        lambda: sirt_fbp_taps(beam_of(), 5, cache=tmp_path, projector="astra-cpu"),
    ):
        with pytest.raises(TypeError):  # would have to compute, and cannot
            other()


@pytest.mark.parametrize("damage", ["cut", "flipped", "text", "empty"])
def test_a_damaged_cache_file_is_computed_again(tmp_path, damage):
    taps = sirt_fbp_taps(beam_of(), 5, cache=tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes(
        {
            "cut": whole[:middle],
            "flipped": whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :],
            "text": b"not a zip",
            "empty": b"",
        }[damage]
    )
    np.testing.assert_array_equal(sirt_fbp_taps(beam_of(), 5, cache=tmp_path), taps)
    assert path.read_bytes()[:2] == b"PK"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path):
    in_the_way = tmp_path / "file"
    in_the_way.write_text("not a folder")
    taps = sirt_fbp_taps(beam_of(), 5, cache=in_the_way / "cache")
    np.testing.assert_array_equal(taps, sirt_fbp_taps(beam_of(), 5, cache=tmp_path / "good"))


def test_default_cache_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("NPSI_TWIN_CACHE", str(tmp_path / "told"))
    assert default_cache() == tmp_path / "told"
    monkeypatch.delenv("NPSI_TWIN_CACHE")
    assert "npsi-twin" in default_cache().parts


def test_no_iterations_are_refused():
    with pytest.raises(ParameterError, match="at least 1"):
        sirt_fbp_taps(beam_of(), 0)
