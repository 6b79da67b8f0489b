"""Addresses that no Dask scheduler answers at: said at once where they are none, and never with a traceback."""

import socket
import subprocess
import sys

import pytest

pytest.importorskip("distributed")

ASK = """
import sys
from npsi_twin.execution import executors, opened_executor
executors._SECONDS_TO_CONNECT = 1
for address in sys.argv[1:]:
    try:
        with opened_executor(scheduler=address):
            pass
    except Exception as error:
        print(type(error).__name__, error, flush=True)
"""


def test_what_is_no_address_and_what_answers_nothing_is_told_without_a_traceback():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        free = closed.getsockname()[1]
    with socket.create_server(("127.0.0.1", 0)) as mute:
        wrong = ("foo", "nonsense://here:1", "tcp://here:8786:9")
        unanswered = [f"tcp://127.0.0.1:{port}" for port in (free, mute.getsockname()[1])]
        # A client that was not closed speaks when the process ends, so this needs one of its own.
        arguments = [sys.executable, "-c", ASK, *wrong, *unanswered]
        ended = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=120)
    told = ended.stdout.splitlines()
    expected = [
        *(f"ParameterError --scheduler: got {address!r}, which is no address" for address in wrong),
        *(f"ResourceError --scheduler: no Dask scheduler answers at {address}" for address in unanswered),
    ]
    assert [line[: len(begin)] for line, begin in zip(told, expected, strict=True)] == expected
    assert "Traceback" not in ended.stderr
    assert "Exception ignored" not in ended.stderr
