from __future__ import annotations

import pytest

from pilotfish.pages.elements import Html, element, fragment


def test_whatever_is_no_html_is_escaped() -> None:
    built = element("p", "<b>", element("b", "&"), None, 3, ["'", Html("<br>")], title='"x"', hidden=True, id=None)
    assert built == '<p title="&quot;x&quot;" hidden>&lt;b&gt;<b>&amp;</b>3&#x27;<br></p>'
    assert fragment("a\0b") == "a\ufffdb"


def test_html_joined_with_text_is_text_again() -> None:
    assert element("p", element("b", "x") + "<i>") == "<p>&lt;b&gt;x&lt;/b&gt;&lt;i&gt;</p>"


@pytest.mark.parametrize(
    "address", ["javascript:alert(1)", "//evil.example", "/\\evil.example", "https://evil.example", "", " /x", "data:x"]
)
def test_an_address_leads_to_the_same_site(address: str) -> None:
    with pytest.raises(ValueError, match="no path of this site"):
        element("a", "x", href=address)
    assert element("a", "x", href="/a?b=1") == '<a href="/a?b=1">x</a>'


@pytest.mark.parametrize("name", ["onclick", "style", "onLoad"])
def test_code_cannot_be_inline(name: str) -> None:
    with pytest.raises(ValueError, match="inline"):
        element("p", **{name: "x"})
