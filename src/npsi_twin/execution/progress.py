"""Someone to tell how far a stage has come."""

from typing import Protocol


class Progress(Protocol):
    """Someone to tell how far a stage has come."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Take note that ``done`` of ``total`` steps of a stage are finished."""
        ...


def silent(stage: str, done: int, total: int) -> None:
    """Tell nobody."""
