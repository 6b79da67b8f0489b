"""The report: one HTML file that needs no network, with its pictures and volumes inside.

`write_page` fills the template ``page.html`` with ``page.css`` and ``page.js``, all beside this file. Every text is
escaped, so a sample name cannot carry markup, and the page's own policy lets the browser load nothing and run no
script but the one whose hash it states. Nothing in it depends on the clock, so equal runs give equal pages.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import ClassVar

import jinja2


@dataclass(frozen=True)
class Picture:
    """A PNG on disk with a title and a caption."""

    kind: ClassVar[str] = "picture"
    path: Path
    title: str
    caption: str

    @property
    def data_uri(self) -> str:
        """The picture as a data URI."""
        return "data:image/png;base64," + base64.b64encode(self.path.read_bytes()).decode("ascii")


@dataclass(frozen=True)
class Table:
    """A table: its title, what to know about it, header and rows of text. In a browser it sorts by any column."""

    kind: ClassVar[str] = "table"
    title: str
    note: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class SliceViewer:
    """Volumes to be cut in three directions.

    Attributes
    ----------
    title, caption
        What is shown, and how coarsely.
    facts
        JSON that tells the script what the bytes mean; see `npsi_twin.report.slice_viewer`.
    data
        The volumes, deflated, base64.
    still
        What stands in its place on paper and where no script runs.
    """

    kind: ClassVar[str] = "viewer"
    title: str
    caption: str
    facts: str
    data: str
    still: Picture


@dataclass(frozen=True)
class ColourBar:
    """What colours mean: a strip of them as a data URI, numbers at equal distances along it, and what they count."""

    strip: str
    ticks: Sequence[str]
    label: str


@dataclass(frozen=True)
class Turntable:
    """Bodies seen from all around.

    Attributes
    ----------
    title, caption
        What is shown.
    angles_deg
        Azimuth of every frame.
    frames
        Name of a body -> its frames as data URIs, one an angle.
    colours
        What the colours mean; None where they mean nothing.
    """

    kind: ClassVar[str] = "turntable"
    title: str
    caption: str
    angles_deg: Sequence[float]
    frames: Mapping[str, Sequence[str]]
    colours: ColourBar | None = None


Section = Picture | Table | SliceViewer | Turntable


def write_page(
    path: Path,
    *,
    title: str,
    summary: Sequence[str],
    sections: Sequence[Section],
    provenance: Mapping[str, str],
) -> None:
    """Write the page.

    Parameters
    ----------
    path
        File to write.
    title
        Heading.
    summary
        Paragraphs that tell what was made and what came out.
    sections
        Pictures, tables, viewers and turntables, in order.
    provenance
        Name -> text: seed, versions, backends, hashes.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    html, style, script = (_beside(name) for name in ("page.html", "page.css", "page.js"))
    text = environment.from_string(html).render(
        title=title,
        summary=summary,
        sections=sections,
        provenance=provenance,
        style=style,
        script=script,
        policy=f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}",
    )
    path.write_text(text, encoding="utf-8")


def _beside(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Return the hash by which a content security policy knows an element's text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"
