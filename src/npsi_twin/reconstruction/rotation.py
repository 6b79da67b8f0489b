"""What every way to find the rotation axis shares: the axis, misfits over trial axes, windows and weights.

A misfit here is a trigonometric polynomial of the trial axis c, because moving an axis turns the phases of a mirrored
transform and nothing else,

    E(c) = A + 2 Re sum over frequencies of C exp(-4 pi i frequency c),

so that one transform a row gives it for all axes, and Newton's method its minimum to rounding error. `alignment` and
`opposite_views` fill in A and C.
"""

from dataclasses import dataclass, field

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from npsi_twin.errors import NotConvergedError
from npsi_twin.volumes import FloatArray

#: Trial axes a pixel in the coarse search; the metric's period is at least two pixels, so Newton starts in its valley.
_TRIALS_A_PIXEL = 8


@dataclass(frozen=True)
class AxisSearch:
    """What was looked at to find an axis, for a picture.

    Attributes
    ----------
    trials_px
        Columns tried, (trial,).
    misfit
        How badly each fits, in the method's own units, (trial,); least at the axis.
    """

    trials_px: NDArray[np.float64]
    misfit: NDArray[np.float64]

    def __post_init__(self) -> None:
        for name in ("trials_px", "misfit"):
            frozen = getattr(self, name).view()
            frozen.flags.writeable = False
            object.__setattr__(self, name, frozen)


@dataclass(frozen=True)
class RotationAxis:
    """Where the rotation axis lies on the detector.

    Attributes
    ----------
    px
        Column coordinate; 0 is the centre of the first column.
    uncertainty_px
        One standard deviation, from how much the frequencies disagree; 0 where the axis was given. It knows photon
        noise; stripes and run-out of the stage can make the scatter about twice as large.
    method
        ``"fourier-wedge"``, ``"opposite-views"`` or ``"entropy"`` where found, ``"given"`` where told.
    search
        What was tried, where it was found.
    """

    px: float
    uncertainty_px: float
    method: str
    search: AxisSearch | None = field(default=None, compare=False, repr=False)


def is_truncated(line_integrals: FloatArray) -> bool:
    """Tell whether the sample reaches out of the field: an outermost fiftieth holds more than a tenth of the mean.

    Examples
    --------
    >>> import numpy as np
    >>> is_truncated(np.ones((1, 10, 100), np.float32))
    True
    """
    columns = line_integrals.shape[-1]
    margin = max(1, columns // 50)
    mean = line_integrals.mean(axis=(0, 1), dtype=np.float64)
    outside = max(float(mean[:margin].mean()), float(mean[-margin:].mean()))
    return outside > 0.1 * max(float(mean.mean()), 0.0)


@dataclass(frozen=True)
class AxisMisfit:
    """A misfit that is a trigonometric polynomial of the trial axis c.

    ``constant + 2 Re sum(cross * exp(-4 pi i frequency * c))``, for example the energy outside the double wedge.

    Attributes
    ----------
    constant
        What does not depend on the axis.
    cross
        Coefficients, (frequency,).
    frequency
        Cycles a pixel, (frequency,), steps of 1 / padded.
    padded
        Length of the transforms.
    """

    constant: float
    cross: NDArray[np.complex128]
    frequency: NDArray[np.float64]
    padded: int

    def derivatives(self, px: float) -> tuple[float, float, float]:
        """Return the energy and its first and second derivative at a trial axis."""
        rate = -4j * np.pi * self.frequency
        term = self.cross * np.exp(rate * px)
        return (
            self.constant + 2 * float(term.real.sum()),
            2 * float((rate * term).real.sum()),
            2 * float((rate**2 * term).real.sum()),
        )

    def search(self, low: float, high: float) -> AxisSearch:
        """Return the energy at evenly spaced trial axes between two columns."""
        # Trial c = j / trials: the phase -4 pi k c / padded is a plain FFT of length trials * padded / 2.
        length = _TRIALS_A_PIXEL * self.padded // 2
        energy = self.constant + 2 * scipy.fft.fft(self.cross, length).real
        trials = np.arange(int(low * _TRIALS_A_PIXEL), int(high * _TRIALS_A_PIXEL) + 1)
        return AxisSearch(trials / _TRIALS_A_PIXEL, np.asarray(energy[trials], np.float64))

    def found(self, columns: int, method: str) -> RotationAxis:
        """Return the axis in the middle four fifths of a detector of this width."""
        low, high = 0.1 * columns, 0.9 * columns
        px = self.minimum(low, high)
        return RotationAxis(px, self.uncertainty_px(px), method, self.search(low, high))

    def minimum(self, low: float, high: float) -> float:
        """Return the trial axis of least energy between two columns.

        Raises
        ------
        NotConvergedError
            No trial stands out, or the best is the first or the last of them; says which columns were tried.
        """
        search = self.search(low, high)
        trials, searched = search.trials_px, search.misfit
        best = int(searched.argmin())
        # An axis that means something stands out of the other trials; 0.9 is passed by noise alone.
        if not searched[best] < 0.9 * np.median(searched):
            raise NotConvergedError(
                f"rotation axis: the best of {trials.size} trial axes (column {trials[best]:g}) between columns "
                f"{low:g} and {high:g} fits no better than the others, so these rows show too little of a sample. Take "
                "other rows, or give rotation_axis_px."
            )
        if best in (0, trials.size - 1):
            raise NotConvergedError(
                f"rotation axis: between columns {low:g} and {high:g} the trial axes fit better towards column "
                f"{trials[best]:g}, the last that was tried; the axis lies beyond it, perhaps outside the detector. "
                "Centre the sample, or give rotation_axis_px."
            )
        px = float(trials[best])
        start = px
        for _ in range(20):
            _, slope, curvature = self.derivatives(px)
            if curvature <= 0 or abs(px - start) > 1:
                return float(start)
            px -= slope / curvature
            if abs(slope / curvature) < 1e-6:
                break
        return float(px)

    def uncertainty_px(self, px: float) -> float:
        """Return the standard deviation of the minimum, from how much the frequencies disagree about it.

        At the minimum the slopes of all frequencies add up to zero. Taken as independent, each is its own estimate of
        its variance (the sandwich estimator); padding to twice the width makes neighbours equal, hence the factor 2.
        """
        rate = -4j * np.pi * self.frequency
        slopes = 2 * (rate * self.cross * np.exp(rate * px)).real
        curvature = self.derivatives(px)[2]
        return float(np.sqrt(2 * (slopes**2).sum()) / curvature) if curvature > 0 else float("inf")


def signal_share(lines: NDArray[np.complex128]) -> NDArray[np.float64]:
    """Return, for every frequency, the share of its power that is not white noise (the level of the top tenth)."""
    power = (np.abs(lines) ** 2).mean(axis=0)
    noise = np.median(power[-max(1, power.size // 10) :])
    return np.asarray(np.clip(1 - noise / np.maximum(power, np.finfo(float).tiny), 0, None), np.float64)


def taper(columns: int) -> NDArray[np.float64]:
    """Return 1 for every column, falling to 0 over a sixteenth of the field at either side.

    Examples
    --------
    >>> taper(8)[:3].round(2)
    array([0.15, 0.85, 1.  ])
    """
    width = max(2, columns // 16)
    rise = 0.5 - 0.5 * np.cos(np.pi * (np.arange(width) + 0.5) / width)
    window = np.ones(columns)
    window[:width] = rise
    window[-width:] = rise[::-1]
    return window
