"""A page on many pairs: a table, the worst first, how each figure is distributed.

It holds all it shows and opens by a double click. Whatever comes from outside goes in
as data, as `document` says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .. import __version__
from .document import asset, document, text

#: Columns that stand first on the page: what is to be done, and why.
_FIRST = ("id", "verdict", "reasons", "message", "decision")


def index(
    title: str,
    rows: Sequence[Mapping[str, Any]],
    columns: Mapping[str, Mapping[str, Any]],
    *,
    pictures: Mapping[str, str] | None = None,
    links: Mapping[str, str] | None = None,
) -> str:
    """Make the page.

    Parameters
    ----------
    title : str
        What the pairs are.
    rows : sequence of mapping
        A mapping for each pair: values by column, ``id``, ``verdict``, ``decision`` and
        ``outlier_in`` among them; None for what is not known.
    columns : mapping of str to mapping
        ``about``, ``unit`` and ``figure`` (whether its distribution is shown) of each
        column.
    pictures : mapping of str to str, optional
        A small picture of a pair as data URL, by id.
    links : mapping of str to str, optional
        Page of a pair, seen from this one, by id.

    Returns
    -------
    str
        An HTML document.

    Examples
    --------
    >>> rows = [{"id": "<b>", "verdict": "right", "decision": None, "outlier_in": None}]
    >>> column = {"about": "Name", "unit": "", "figure": False}
    >>> page = index("Two", rows, {"id": column})
    >>> "<b>" in page, page.startswith("<!DOCTYPE html>")
    (False, True)
    """
    pictures = dict(pictures or {})
    # Those that are not among the first are equal, and stay in their order.
    names = sorted(columns, key=lambda name: (*_FIRST, name).index(name))
    data = {
        "columns": [{"name": name, **columns[name]} for name in names],
        "rows": [[_plain(row.get(name)) for name in names] for row in rows],
        "pictured": list(pictures),
        "links": dict(links or {}),
        "version": __version__,
    }
    body = asset("index.html").replace("TITLE", text(title))
    return document(
        title,
        body=body,
        style=asset("index.css"),
        script=asset("index.js"),
        data=data,
        later=pictures,
    )


def _plain(value: Any) -> Any:
    """Give a value to JSON, which has no NaN; digits that nobody reads are left out."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
