"""The form that asks for the admin key."""

from __future__ import annotations

from collections.abc import Mapping

from pilotfish.gateway.site import security
from pilotfish.gateway.site.page import Page
from pilotfish.pages.elements import Child, element


def login(sent: Mapping[str, str], *, has_failed: bool = False) -> Page:
    """The page; `sent` is the query, or the form that came without the right key."""
    goal = security.local_path(sent.get("next", "/"))
    warning = element("p", "That is not the admin key.", role="alert", id="wrong") if has_failed else None
    parts: tuple[Child, ...] = (
        warning,
        element(
            "form",
            element("input", type="hidden", name="next", value=goal),
            element("label", "Admin key", for_="key"),
            element(
                "input",
                type="password",
                name="key",
                id="key",
                required=True,
                autocomplete="current-password",
                aria_describedby="wrong" if has_failed else None,
            ),
            element("button", "Sign in", type="submit"),
            method="post",
            action="/login",
        ),
        element(
            "p",
            "It is the one of the environment, or made by ",
            element("code", "pilotfish keys admin"),
            ". A session lasts eight hours and ends with the gateway.",
            class_="soft",
        ),
    )
    return Page(path="/login", title="Sign in", parts=parts, status=401 if has_failed else 200)
