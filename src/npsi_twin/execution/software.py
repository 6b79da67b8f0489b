"""What software and machine a run was made with: for readers of ``run.json``, and for what may be gone on with."""

import platform
import socket
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from npsi_twin.threads import available_cpus

_PACKAGES = ("npsi-twin", "numpy", "scipy", "numba", "finufft", "astra-toolbox", "scikit-image", "h5py", "xraydb")


def host_facts() -> dict[str, Any]:
    """Return what a reader of ``run.json`` needs to know of machine and software."""
    return {
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "processors": available_cpus(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _PACKAGES},
    }


@cache
def code_sha256() -> str:
    """Return the SHA-256 of this package's source: two versions of one number differ in it.

    Examples
    --------
    >>> len(code_sha256())
    64
    """
    package = Path(__file__).parents[1]
    digest = sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(f"{path.relative_to(package).as_posix()}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
