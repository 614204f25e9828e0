from __future__ import annotations

from pilotfish.pages.html import bullets, document, table


def test_texts_are_escaped_and_parts_are_not():
    page = document("<a>", ["<p>x</p>", "", bullets(["<b> & c"])])
    assert "<title>&lt;a&gt;</title>" in page
    assert "<p>x</p>\n<ul><li>&lt;b&gt; &amp; c</li></ul>" in page


def test_the_page_follows_the_reader_and_the_printer():
    page = document("t", [])
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page
    assert "<script" not in page


def test_a_table_has_a_head_where_a_column_has_a_name():
    assert table(["", ""], [["a", "1 < 2"]]) == (
        '<div class="scroll" tabindex="0"><table><tbody><tr><td>a</td><td>1 &lt; 2</td></tr></tbody></table></div>'
    )
    assert "<thead><tr><th>n</th><td></td></tr></thead>" in table(["n", ""], [])
