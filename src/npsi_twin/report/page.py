"""The report: one HTML file that needs no network, with its pictures inside.

`write_page` fills the template ``page.html`` beside this file; every text is escaped, so a sample name cannot carry
markup, and nothing in it depends on the clock, so equal runs give equal pages.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import jinja2


@dataclass(frozen=True)
class Picture:
    """A PNG on disk with a title and a caption."""

    path: Path
    title: str
    caption: str

    @property
    def data_uri(self) -> str:
        """The picture as a data URI."""
        return "data:image/png;base64," + base64.b64encode(self.path.read_bytes()).decode("ascii")


@dataclass(frozen=True)
class Table:
    """A table: its title, what to know about it, header and rows of text."""

    title: str
    note: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def write_page(
    path: Path,
    *,
    title: str,
    summary: Sequence[str],
    sections: Sequence[Picture | Table],
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
        Pictures and tables, in order.
    provenance
        Name -> text: seed, versions, backends, hashes.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(files(__package__).joinpath("page.html").read_text(encoding="utf-8"))
    text = template.render(title=title, summary=summary, sections=sections, provenance=provenance)
    path.write_text(text, encoding="utf-8")
