"""Make the site of the guide: its pages, and the reference from the docstrings.

    pip install -e '.[docs]'
    python scripts/make_site.py

It is written into ``site/``; open ``site/index.html``. Any warning is an error, and
every link within the site is followed. ``--external`` asks the network for the others.
"""

from __future__ import annotations

import argparse
import inspect
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import mireg
from mireg.cli import guide, reference

ROOT = Path(__file__).resolve().parents[1]

_SETTINGS = {
    "project": "mireg",
    "author": "The mireg developers",
    "release": mireg.__version__,
    "extensions": [
        "myst_parser",
        "numpydoc",
        "sphinx.ext.autodoc",
        "sphinx_copybutton",
    ],
    "myst_enable_extensions": ["deflist"],
    # What MyST adds to Markdown would take a line that begins with % for a comment.
    "myst_disable_syntax": ["myst_block_break", "myst_line_comment", "myst_target"],
    "myst_heading_anchors": 3,
    "autodoc_member_order": "bysource",
    "autodoc_default_options": {"no-value": True},  # tables fill a page
    "autodoc_typehints": "none",  # the docstrings say the types
    # What is copied of an example are its commands, without prompts.
    "copybutton_prompt_text": r">>> |\.\.\. |\$ ",
    "copybutton_prompt_is_regexp": True,
    # A name in a docstring links to its page, if it has one.
    "default_role": "py:obj",
    "numpydoc_show_class_members": False,
    "numpydoc_xref_param_type": True,
    "numpydoc_xref_aliases": {name: f"mireg.{name}" for name in mireg.__all__},
    "html_theme": "furo",
    "html_title": f"mireg {mireg.__version__}",
    "html_show_copyright": False,
    "html_copy_source": False,
    "html_show_sourcelink": False,
    "html_use_index": False,
    "html_domain_indices": False,
}


# --- the sources ----------------------------------------------------------------------


def write_sources(folder: Path) -> None:
    """Write what Sphinx reads: the pages of the guide, and one that lists them."""
    shutil.copytree(guide.FOLDER / "pictures", folder / "pictures")
    (folder / "index.md").write_text(_with_contents(guide.page("index")), "utf-8")
    for topic in guide.topics():
        text = _python_contents() if topic == "python" else guide.page(topic)
        (folder / f"{topic}.md").write_text(text, "utf-8")
    (folder / "python").mkdir()
    for name, line in _python_names():
        text = f"# mireg.{name}\n\n{_documented(name, line)}\n"
        (folder / f"{_page_of(name)}.md").write_text(text, "utf-8")


def _with_contents(index: str) -> str:
    """Add the tree of pages to the first one, by its own headings."""
    parts = re.split(r"^(.+):\n\n(?=- \[)", index, flags=re.MULTILINE)
    trees = [
        _tree(re.findall(r"\(([\w-]+)\.md\)", listed), caption)
        for caption, listed in zip(parts[1::2], parts[2::2], strict=True)
    ]
    return "\n".join([index, *trees])


def _tree(pages: list[str], caption: str) -> str:
    """List pages for the side bar alone."""
    return "\n".join(
        ["```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```", ""]
    )


def _python_names() -> Iterator[tuple[str, str]]:
    """Give the public names of Python, each with its line."""
    for _, lines in reference.sections(mireg.__doc__ or ""):
        yield from lines


def _python_contents() -> str:
    """List the public names of Python, each with a link to its page."""
    parts = ["# Reference of the Python interface"]
    for heading, lines in reference.sections(mireg.__doc__ or ""):
        parts.append(f"## {heading}")
        parts += [f"[mireg.{n}]({_page_of(n)}.md)\n: {line}." for n, line in lines]
    pages = [_page_of(name) for name, _ in _python_names()]
    return "\n\n".join([*parts, _tree(pages, "Python")])


def _page_of(name: str) -> str:
    """Name the page of a public name; some disks take Check and check for one."""
    kind = "class-" if isinstance(getattr(mireg, name), type) else ""
    return f"python/{kind}{name}"


def _documented(name: str, line: str) -> str:
    """Ask for the docstring of a public name."""
    value = getattr(mireg, name)
    if isinstance(value, type):
        return _directive("autoclass", f"mireg.{name}", ":members:")
    if inspect.isfunction(value):
        return _directive("autofunction", f"mireg.{name}")
    if inspect.ismodule(value):
        # What it takes from other modules is its own only if it says so.
        own = [":imported-members:"] if hasattr(value, "__all__") else []
        return _directive("automodule", f"mireg.{name}", ":members:", *own)
    return f"{line}."


def _directive(name: str, what: str, *options: str) -> str:
    lines = ["```{eval-rst}", f".. {name}:: {what}", *(f"   {o}" for o in options)]
    return "\n".join([*lines, "```"])


# --- its links ------------------------------------------------------------------------


class _Links(HTMLParser):
    """What a page links to, and what can be linked to in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.anchors.add(value)
            if (tag, name) in {
                ("a", "href"),
                ("img", "src"),
                ("link", "href"),
            } and value:
                self.targets.append(value)


def broken_links(site: Path) -> list[str]:
    """List links within the site that lead nowhere."""
    pages = {
        path.resolve(): _Links(path.read_text("utf-8")) for path in site.rglob("*.html")
    }
    broken = []
    for path, page in pages.items():
        for target in page.targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            file = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            there = file.exists()
            if there and parts.fragment and file in pages:
                there = unquote(parts.fragment) in pages[file].anchors
            if not there:
                broken.append(f"{path.relative_to(site.resolve())}: {target}")
    return broken


def number_references(site: Path) -> None:
    """Call references [1], as docstrings do; numpydoc needs them to be unique."""
    for page in (site / "python").glob("*.html"):
        text = page.read_text("utf-8")
        page.write_text(
            re.sub(r"\bR[0-9a-f]{12}-(\d+)\b(?=</span>|\])", r"\1", text), "utf-8"
        )


# --- all ------------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "site")
    parser.add_argument("--external", action="store_true", help="ask the network, too")
    given = parser.parse_args()
    from numpydoc import xref  # noqa: PLC0415, an extra
    from sphinx.application import Sphinx  # noqa: PLC0415, an extra

    xref.DEFAULT_LINKS.clear()  # they lead to what is documented elsewhere

    with tempfile.TemporaryDirectory() as work:
        source = Path(work, "source")
        source.mkdir()
        write_sources(source)
        if given.output.exists():
            shutil.rmtree(given.output)
        for builder in ("html", *(["linkcheck"] if given.external else [])):
            application = Sphinx(
                source,
                None,
                given.output if builder == "html" else Path(work, builder),
                Path(work, "doctrees"),
                builder,
                confoverrides=_SETTINGS,
                status=None,
                warningiserror=True,
            )
            application.config.numpydoc_xref_ignore = "all"  # but the aliases
            application.build()
            if application.statuscode:
                return 1
    number_references(given.output)
    broken = broken_links(given.output)
    for line in broken:
        print(f"broken link: {line}", file=sys.stderr)
    print(f"wrote {given.output / 'index.html'}")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
