"""The few ways the package says no.

Every message has four parts: where, what it got (with its unit); what is allowed; why, in physical words; what to do.
The command line maps the classes to exit codes: 2 for a wrong request, 3 for data that cannot be used, 4 for a missing
resource, 5 for something that is not complete. One warning says that a model is used out of its range;
`collected_warnings` takes it into a record.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


class ParameterError(ValueError):
    """A value in a request lies outside what it may be."""


class IncompatibleError(ValueError):
    """Two things that are each fine do not fit together (shapes, voxel sizes, units)."""


class DataError(OSError):
    """A file or an array that came from outside cannot be used as it is."""


class MissingBackendError(ImportError):
    """A chosen backend (a library or a GPU) is not there."""


class ResourceError(OSError):
    """Memory, disk space or a lock is not to be had."""


class NotConvergedError(RuntimeError):
    """An iterative solution ended before it met its tolerance."""


class IncompleteError(RuntimeError):
    """A run folder does not hold a complete result."""


class OutOfRangeWarning(UserWarning):
    """A result was computed outside the range in which its model is valid."""


@contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """Collect what models say of their range, so that it goes into a record and not past it.

    Examples
    --------
    >>> with collected_warnings() as said:
    ...     warnings.warn("too thin", OutOfRangeWarning)
    >>> said
    ['too thin']
    """
    said: list[str] = []
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", OutOfRangeWarning)
        yield said
    said += [str(warning.message) for warning in told]
