"""The site of the guide; that it builds is run in CI, which has what builds it."""

from __future__ import annotations

import html
import re

import make_site
import pytest

import mireg
from mireg.cli import guide


def test_links_that_lead_nowhere_are_found(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "picture.png").touch()
    (tmp_path / "deep" / "b.html").write_text('<h1 id="title">B</h1>')
    (tmp_path / "a.html").write_text(
        '<a href="deep/b.html#title"></a> <a href="#here"></a> <i id="here"></i>'
        '<img src="picture.png"> <a href="https://example.org/x"></a>'
        '<a href="c.html"></a> <a href="deep/b.html#no"></a> <img src="no.png">'
    )
    assert make_site.broken_links(tmp_path) == [
        "a.html: c.html",
        "a.html: deep/b.html#no",
        "a.html: no.png",
    ]


def test_references_are_numbered_as_in_the_docstring(tmp_path):
    page = tmp_path / "python" / "register.html"
    page.parent.mkdir()
    page.write_text("by <a>[R840b3a022d09-2]</a> <span>R840b3a022d09-2</span>")
    make_site.number_references(tmp_path)
    assert page.read_text() == "by <a>[2]</a> <span>2</span>"


def test_every_page_is_in_the_tree_once(tmp_path):
    make_site.write_sources(tmp_path)
    index = (tmp_path / "index.md").read_text("utf-8")
    tree = [name for name in index.splitlines() if name in guide.topics()]
    assert tree == list(guide.topics())
    assert {path.stem for path in tmp_path.glob("*.md")} == {"index", *tree}


def test_every_public_name_has_a_page(tmp_path):
    make_site.write_sources(tmp_path)
    names = set(mireg.__all__) | {"information", "phantom"}
    pages = {path.stem for path in (tmp_path / "python").glob("*.md")}
    assert {page.removeprefix("class-") for page in pages} == names
    assert len({page.lower() for page in pages}) == len(names)  # on any disk
    contents = (tmp_path / "python.md").read_text("utf-8")
    assert all(f"(python/{page}.md)" in contents for page in pages)


def words(text: str) -> set[str]:
    return set(re.findall(r"\w{2,}", text))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Sphinx and its extensions about each other
def test_it_builds_without_a_warning(tmp_path, monkeypatch):
    pytest.importorskip("furo")
    pytest.importorskip("myst_parser")
    monkeypatch.setattr("sys.argv", ["make_site.py", "-o", str(tmp_path / "site")])
    assert make_site.main() == 0
    assert (tmp_path / "site" / "search.html").exists()
    for topic in guide.topics():
        if topic == "python":  # its names have pages of their own
            continue
        page = (tmp_path / "site" / f"{topic}.html").read_text("utf-8")
        text = re.sub("<[^>]*>", " ", re.sub("</?span[^>]*>", "", page))
        said = re.sub(r"\]\([^)]*\)|(?m:^```\w+|^<!--.*-->)", "", guide.page(topic))
        assert words(said) <= words(html.unescape(text)), topic  # nothing is lost
    functions = (tmp_path / "site" / "python" / "resample.html").read_text("utf-8")
    assert 'href="register.html#mireg.register"' in functions  # See Also
