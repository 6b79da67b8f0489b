"""TOML from outside, read so that a broken or hostile text gives one clear error and takes no time.

`read_toml` takes a file, `parse_toml` a text; both give the tree of tables. What a specification never needs is
refused before or after the parser sees it: files beyond 1 MB, tables nested deeper than 32, whole numbers beyond 128
bits (a seed needs no more, and a floating-point number cannot hold all of them).

References
----------
TOML 1.0, https://toml.io/en/v1.0.0.
"""

import tomllib
from pathlib import Path
from typing import Any

from npsi_twin.errors import DataError, ParameterError

LARGEST_BYTES = 1_000_000
_DEEPEST = 32
_LARGEST_NUMBER = 2**128
#: Dots in a line: the parser takes time that grows with the square of the parts of a key.
_MOST_DOTS = 1000


def read_toml(path: Path, purpose: str) -> dict[str, Any]:
    """Read a file of TOML.

    Parameters
    ----------
    path
        The file, UTF-8 with or without a byte order mark.
    purpose
        What it should be, for messages: ``"a TOML file, for example from `npsi-twin init`"``.

    Raises
    ------
    DataError
        When it cannot be read.
    ParameterError
        When it is no file, too large, or no TOML.
    """
    return parse_toml(read_toml_text(path, purpose), str(path))


def read_toml_text(path: Path, purpose: str) -> str:
    """Return the text of a file of TOML; see `read_toml`."""
    try:
        if path.exists() and not path.is_file():
            raise ParameterError(f"{path}: is no file. Give {purpose}.")
        if path.stat().st_size > LARGEST_BYTES:
            raise ParameterError(f"{path}: larger than 1 MB; a few kB of TOML are needed. Give {purpose}.")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: cannot be read ({error}); TOML is UTF-8. Give {purpose}.") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error}). Give {purpose}.") from None


def parse_toml(text: str, where: str) -> dict[str, Any]:
    r"""Return the tree of a TOML text.

    Parameters
    ----------
    text
        The text.
    where
        Name of it, for messages.

    Raises
    ------
    ParameterError
        For what is no TOML, or nothing that a person wrote.

    Examples
    --------
    >>> parse_toml("[microscope]\nenergy_kev = 8", "study.toml")
    {'microscope': {'energy_kev': 8}}
    """
    if len(text) > LARGEST_BYTES or any(line.count(".") > _MOST_DOTS for line in text.splitlines()):
        raise ParameterError(f"{where}: longer than 1 MB, or a line with more than {_MOST_DOTS} dots. Shorten it.")
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ParameterError(f"{where}: not valid TOML: {error}.") from None
    except RecursionError:
        raise _too_deep(where) from None
    except ValueError as error:  # Python's own limit on the digits of a whole number
        raise ParameterError(f"{where}: holds a number that cannot be read ({error}). Shorten it.") from None
    _refuse_what_nobody_wrote(tree, where)
    return tree


def _too_deep(where: str) -> ParameterError:
    return ParameterError(f"{where}: nested deeper than {_DEEPEST} tables; a specification has five. Flatten it.")


def _refuse_what_nobody_wrote(tree: dict[str, Any], where: str) -> None:
    left: list[tuple[Any, int]] = [(tree, 0)]
    while left:
        value, depth = left.pop()
        if depth > _DEEPEST:
            raise _too_deep(where)
        if isinstance(value, dict | list):
            left += [(inner, depth + 1) for inner in (value.values() if isinstance(value, dict) else value)]
        elif isinstance(value, int) and abs(value) > _LARGEST_NUMBER:
            raise ParameterError(f"{where}: holds a whole number of {value.bit_length()} bits; 128 are the most.")
