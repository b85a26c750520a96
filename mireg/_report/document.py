"""One HTML file that needs nothing else, and runs nothing but its own script.

Whatever comes from outside (names of files, texts of headers, notes) goes in as data:
as JSON that the script reads, or escaped. A Content-Security-Policy in the file lets
run only the script and the style whose hashes it names, and lets nothing be loaded.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: What every page ends with.
_FOOT = (
    "mireg is research software, not a medical device. Nothing in it has been checked "
    "for treatment."
)


def document(
    title: str,
    *,
    body: str,
    style: str,
    script: str,
    data: Mapping[str, Any],
    later: Mapping[str, Any] | None = None,
) -> str:
    """Make a self-contained HTML document.

    Parameters
    ----------
    title : str
        Plain text; it is escaped.
    body : str
        Markup of our own. Text from outside must have gone through `text`.
    style, script : str
        Of our own; they are the only ones that a browser will apply and run.
    data : mapping
        What the script reads from the element ``data``, as JSON: plain Python values
        with finite numbers.
    later : mapping, optional
        The same in the element ``later``, which stands behind the script: what is large
        and need not be there when the script begins. A browser shows the page before
        it has read this.

    Returns
    -------
    str
        A whole document.

    Examples
    --------
    >>> page = document("A < B", body="", style="", script="", data={"x": "</script>"})
    >>> "<title>A &lt; B</title>" in page, page.count("</script>")
    (True, 2)
    """
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src '{_hash(script)}'",
            f"style-src '{_hash(style)}'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            # No string becomes markup or code, by mistake or else.
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{text(title)}</title>\n<style>{style}</style>\n</head>\n"
        f'<body>\n{body}\n<footer><p class="note">{_FOOT}</p></footer>\n'
        f"{_element('data', data)}"
        f"<script>{script}</script>\n{_element('later', later)}</body>\n</html>\n"
    )


def asset(name: str) -> str:
    """Read a part of a page that is shipped beside this module."""
    return Path(__file__).with_name(name).read_text("utf-8")


def text(words: str) -> str:
    """Escape text for markup, in or out of quotes."""
    # A path of bytes that are no UTF-8 has lone surrogates, which no file can hold.
    return html.escape(_writable(words), quote=True)


def data_url(kind: str, content: bytes) -> str:
    """Put the content of a file, of a MIME type, into an address."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _element(name: str, data: Mapping[str, Any] | None) -> str:
    """Put data into an element that a script reads; nothing of nothing."""
    if data is None:
        return ""
    return f'<script type="application/json" id="{name}">{_json(data)}</script>\n'


def _writable(words: str) -> str:
    """Show as escapes what no file of UTF-8 can hold."""
    return words.encode("utf-8", "backslashreplace").decode()


def _json(data: Mapping[str, Any]) -> str:
    """Write data so that no browser finds markup in it."""
    written = json.dumps(data, allow_nan=False, separators=(",", ":"))
    for letter in "<>&":
        written = written.replace(letter, f"\\u{ord(letter):04x}")
    return written


def _hash(inline: str) -> str:
    """Name an inline script or style as a Content-Security-Policy does."""
    return (
        f"sha256-{base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()}"
    )
