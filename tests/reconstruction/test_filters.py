import numpy as np
import pytest

from npsi_twin.errors import ParameterError
from npsi_twin.reconstruction.filters import default_cache, ramp_taps, sirt_fbp_taps
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
    response = np.fft.rfft(np.roll(taps.mean(axis=0), -(columns // 2))).real
    nu = np.fft.rfftfreq(columns)[1:]
    gain = np.minimum(1 / (np.pi * columns * nu), 1)
    closed = np.pi / views * nu * (1 - (1 - gain) ** n)
    # The convolution picture fails at the grid's edge, a fraction of about 1 / columns of its area: 1.5 %.
    assert np.abs(response[1:] - closed).max() < 0.03 * closed.max()


def test_sirt_taps_do_not_depend_on_pixel_axis_or_threads():
    taps = sirt_fbp_taps(beam_of(), 6, threads=1)
    np.testing.assert_array_equal(sirt_fbp_taps(beam_of().with_axis(3.3), 6, threads=2), taps)
    np.testing.assert_allclose(sirt_fbp_taps(beam_of(pixel_nm=500.0), 6), 4 * taps, rtol=1e-6)


def test_cache_is_used_and_keyed_by_geometry(tmp_path, monkeypatch):
    taps = sirt_fbp_taps(beam_of(), 5, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    monkeypatch.setattr("npsi_twin.reconstruction.filters._landweber_taps", None)
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
