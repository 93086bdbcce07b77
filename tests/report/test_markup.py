"""Strings to HTML."""

from __future__ import annotations

import json
import re

import pytest

from famcli.report.markup import json_block, lines_block, numbers_of, table, text

NASTY = ["</script><script>alert(1)</script>", "<!-- <script>", "a\u2028b", "'\"&", "odd \udcff byte", "\x00\x1b"]


@pytest.mark.parametrize("value", NASTY)
def test_json_block_gives_back_what_was_put_in(value: str) -> None:
    """Any string survives the block, and none can end it, open a comment, or fail to be encoded."""
    block = json_block("data", {"x": value})
    content = block.removeprefix('<script type="application/json" id="data">').removesuffix("</script>\n")
    assert json.loads(content) == {"x": value}
    assert not re.search("[<>&\u2028\u2029]", content)
    content.encode("ascii")


def test_json_block_refuses_what_json_has_not() -> None:
    """NaN, which no browser would read, is an error here and not on the page."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_block("data", float("nan"))


def test_text() -> None:
    """Text is escaped for elements and attributes; what HTML cannot hold is the replacement character."""
    assert text("<b a='1' c=\"2\">&") == "&lt;b a=&#x27;1&#x27; c=&quot;2&quot;&gt;&amp;"
    assert text("a\udcff\x00b") == "a\ufffd\ufffdb"
    assert text("keeps\ttabs\nand ü") == "keeps\ttabs\nand ü"
    assert text(3) == "3"


def test_table() -> None:
    """A table has a caption, column heads and row heads, and its box can be scrolled with the keyboard."""
    made = table(["a", "b"], [("x", "1")], "things < others", name="t")
    assert '<div class="wide" role="region" tabindex="0" aria-label="things &lt; others"><table id="t">' in made
    assert "<caption>things &lt; others</caption>" in made
    assert '<th scope="col">a</th><th scope="col" class="number">b</th>' in made
    assert '<tr><th scope="row">x</th><td class="number">1</td></tr>' in made


def test_table_with_a_short_row() -> None:
    """A row with a cell too few is a mistake, not a crooked table."""
    with pytest.raises(ValueError, match="argument 2"):
        table(["a", "b", "c"], [("x", "1")])


def test_other_blocks() -> None:
    """A chart's numbers are folded below it; lines stay lines."""
    assert numbers_of("Chart", ["a"], [("x",)]).startswith("<details><summary>Numbers of this chart</summary>")
    assert lines_block("p-0", ["QQ== -", "- -"]) == '<script type="text/plain" id="p-0">QQ== -\n- -</script>\n'
