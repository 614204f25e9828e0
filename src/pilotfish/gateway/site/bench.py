"""The bench: a request typed in, what each model and specialist says to it side by side, and what would be done.

The page that comes back from a click is kept nowhere: only what the calls cost is.
"""

from __future__ import annotations

from collections.abc import Mapping

from pilotfish.core.errors import RequestError
from pilotfish.core.receipt import REASONS, TIERS
from pilotfish.gateway.bench import Heard, Ran, Run
from pilotfish.gateway.site import requests, words
from pilotfish.gateway.site.page import Page, Seen, form
from pilotfish.gateway.site.tables import Column, Table
from pilotfish.models.base import Model
from pilotfish.pages.elements import Child, Html, element
from pilotfish.routing.cascade import local_name

PATH = "/bench"
MAX_BYTES = 1 << 20
"""Of the form: `MOST_CHARACTERS` twice, as the worst of them are written in one."""

MOST_CHARACTERS = 40_000
_CHOSEN = "use:"
_DAY_S = 86400
_TIES = "One click is one call of each model chosen, at its price. Specialists run here, and cost nothing."


def page(seen: Seen, n: int = requests.ON_A_PAGE) -> Page:
    """The form, and the newest `n` calls."""
    return _page(seen, _form(seen, {}), n=n)


def read(sent: Mapping[str, str]) -> tuple[str, str, list[str]]:
    """System prompt, request and chosen models of a form. Raises `RequestError` where there is no request."""
    system, text = (sent.get(name, "").replace("\r\n", "\n") for name in ("system", "text"))
    if not text.strip():
        raise RequestError("There is no request to ask with.", param="text", hint="Type one.")
    if len(system) > MOST_CHARACTERS or len(text) > MOST_CHARACTERS:
        raise RequestError(f"A text is longer than {MOST_CHARACTERS:,} characters.", param="text", status=413)
    return system.strip() and system, text, [name.removeprefix(_CHOSEN) for name in sent if name.startswith(_CHOSEN)]


def answered(seen: Seen, sent: Mapping[str, str], run: Run) -> Page:
    """The page after a click."""
    usd, n_unknown = run.usd
    n_calls = sum(heard.call is not None for heard in run.heard)
    cost = f"{_n_calls(n_calls)}, {words.money(usd)}" + (f" and {n_unknown:,} of unknown cost" if n_unknown else "")
    parts: tuple[Child, ...] = (
        element("h2", "What the gateway would do"),
        _policy(run),
        element("h2", "What each says"),
        element("p", f"This click: {cost}. Nothing of it is traffic: it teaches and certifies nothing.", class_="soft"),
        element("div", [_model(seen, item, run) for item in run.heard], map(_specialist, run.ran), class_="pair bench"),
        element("h2", "Ask again"),
        _form(seen, sent),
    )
    return _page(seen, *parts)


def refused(seen: Seen, sent: Mapping[str, str], error: RequestError) -> Page:
    """The form again, with why nothing was asked."""
    alert = element("p", f"Nothing was asked. {error}", role="alert")
    return _page(seen, alert, _form(seen, sent), status=error.status)


def _page(seen: Seen, *parts: Child, status: int = 200, n: int = requests.ON_A_PAGE) -> Page:
    table = _calls(seen, n)
    n_today, usd, n_unknown = seen.running.by_hand.spent(seen.now_s // _DAY_S * _DAY_S)
    unknown = f", {n_unknown:,} of them of unknown cost" if n_unknown else ""
    spent = element("p", f"Today (UTC): {_n_calls(n_today)} for {words.money(usd)}{unknown}.", class_="soft")
    return Page(path=PATH, title="Bench", parts=(*parts, table.html(PATH), spent), tables=(table,), status=status)


def _form(seen: Seen, sent: Mapping[str, str]) -> Html:
    models = list(seen.running.answerers.names.models.values())
    if not seen.is_admin:
        return element(
            "section",
            element("p", element("a", "Sign in", href="/login?next=/bench"), " with the admin key to ask. ", _TIES),
            element("ul", [element("li", _named(seen, model)) for model in models]),
        )
    boxes = [
        element(
            "label",
            element(
                "input",
                type="checkbox",
                name=_CHOSEN + model.card.name,
                value="1",
                checked=not sent or _CHOSEN + model.card.name in sent,
                class_="box",
            ),
            " ",
            _named(seen, model),
        )
        for model in models
    ]
    return form(
        PATH,
        seen,
        element("label", "System prompt (may be empty)", for_="system"),
        element("textarea", _first_line(sent, "system"), name="system", id="system", rows=3, maxlength=MOST_CHARACTERS),
        element("label", "Request", for_="text"),
        element(
            "textarea",
            _first_line(sent, "text"),
            name="text",
            id="text",
            rows=6,
            required=True,
            maxlength=MOST_CHARACTERS,
        ),
        element("fieldset", element("legend", "Models to ask"), boxes),
        element("p", _TIES),
        element("button", "Ask", type="submit"),
    )


def _first_line(sent: Mapping[str, str], name: str) -> str:
    """A browser drops one line break at the beginning of a text area."""
    return "\n" + sent.get(name, "")


def _named(seen: Seen, model: Model) -> str:
    card = model.card
    price = card.price
    cost = "its price is unknown"
    if price is not None:
        cost = f"${price.input_usd_per_mtok:g} in and ${price.output_usd_per_mtok:g} out per million tokens"
    kind = "the large model, " if card.name == seen.running.answerers.names.own.model else ""
    return f"{card.name} ({kind}{'on your own machines, ' if card.is_local else ''}{cost})"


def _policy(run: Run) -> list[Child]:
    turn, decision = run.turn, run.turn.decision
    if run.missing:
        parts: list[Child] = [
            element(
                "p",
                f"A route is in force that would ask {run.missing} first. Choose it too to see what comes of it.",
                class_="claim",
            )
        ]
    else:
        who = f"{run.answers} would answer." if run.answers else "It would be refused."
        parts = [element("p", who, class_="claim"), element("p", f"{decision.reason}: {REASONS[decision.reason]}.")]
    live = turn.live
    task = f"Task: {live.record.name}, mode {turn.mode}." if live is not None else "No known task."
    parts.append(element("p", task, f" Privacy: {turn.privacy.note}." if turn.privacy.note else None))
    if turn.routing is not None and turn.routing.choice is not None:
        parts.append(element("p", f"The route: {turn.routing.note}."))
    return parts


def _model(seen: Seen, heard: Heard, run: Run) -> Html:
    name, call, said = heard.model.card.name, heard.call, heard.said
    facts: list[tuple[str, str]] = []
    if call is not None:
        facts.append(("Took", words.duration(call.latency_s)))
    if call is not None and said is not None:
        facts += [
            ("Cost", _cost(heard)),
            ("Tokens", f"{words.count(call.prompt_tokens)} in, {words.count(call.completion_tokens)} out"),
            ("Mean log-probability", _confidence(heard)),
        ]
        if said.tries:
            facts.append(("Server", f"{said.server}, tries: {said.tries}"))
    kind = "the large model" if name == seen.running.answerers.names.own.model else "another model"
    answer = heard.text if heard.text is not None else "(no plain text)"
    return _card(name, kind, answer if said is not None else None, heard.error, facts, is_chosen=name == run.answers)


def _cost(heard: Heard) -> str:
    if heard.call is not None and heard.call.cost_usd is not None:
        return words.money(heard.call.cost_usd)
    return f"unknown: {'no price is stated' if heard.model.card.price is None else 'its server counts no tokens'}"


def _confidence(heard: Heard) -> str:
    mean = heard.mean_logprob
    return "its server tells none" if mean is None else f"{mean:.4f} (0 is certain)"


def _specialist(ran: Ran) -> Html:
    said, live = ran.prediction, ran.live
    facts: list[tuple[str, str]] = []
    if said is not None:
        gates = live.policy.gates.first if said.tier == 1 and live.policy.gates.first else live.policy.gates
        has_gates = live.certificate is not None
        scores = (("Certainty", said.certainty, gates.min_certainty), ("Scope", said.scope, gates.min_scope))
        facts = [("Took", f"{words.duration(said.local_s)}, {TIERS[said.tier]}"), ("Cost", f"{words.money(0.0)}")]
        facts += [
            (name, words.score(score) + (f", at least {words.score(needed)} needed" if has_gates else ""))
            for name, score, needed in scores
        ]
    why = ran.error
    if ran.reason is not None and said is None:
        why = f"{ran.reason}: {REASONS[ran.reason]}"
    elif said is not None:
        passes = "both passed" if ran.reason == "certified" else ran.reason
        facts.append(("Gates", passes or "no certificate, so there are none"))
    kind = f"specialist of {'this' if ran.is_own else 'another'} task, mode {live.mode}"
    is_chosen = ran.is_own and ran.reason == "certified" and live.mode == "serve"
    name = local_name(live.record.name)
    return _card(name, kind, said.answer if said is not None else None, why, facts, is_chosen=is_chosen)


def _card(
    name: str, kind: str, answer: str | None, error: str, facts: list[tuple[str, str]], *, is_chosen: bool
) -> Html:
    said: Child = element("p", element("strong", "No answer: "), error)
    if answer is not None:
        said = element("pre", answer, tabindex=0, role="group", aria_label=f"Answer of {name}")
    listed = [element("div", element("dt", key), element("dd", value)) for key, value in facts]
    return element(
        "section",
        element("h3", name),
        element("p", kind, " - would answer" if is_chosen else None, class_="soft"),
        said,
        element("dl", listed, class_="facts") if listed else None,
    )


def _n_calls(n: int) -> str:
    return f"{n:,} call{'' if n == 1 else 's'}"


def _calls(seen: Seen, n: int) -> Table:
    rows = [
        {
            "time": words.moment(call.time_s),
            "run_id": call.run_id,
            "model": call.model,
            "status": call.status,
            "error": call.error or None,
            "prompt_tokens": call.prompt_tokens,
            "completion_tokens": call.completion_tokens,
            "cost_usd": call.cost_usd,
            "latency_s": call.latency_s,
        }
        for call in seen.running.by_hand.calls(n)
    ]
    columns = (
        Column(key="time", head="Time (UTC)"),
        Column(key="model", head="Model"),
        Column(key="status", head="HTTP status", show=lambda status: status or "no end"),
        Column(key="cost_usd", head="Cost", show=words.money, is_number=True),
        Column(key="latency_s", head="Took", show=words.duration, is_number=True),
    )
    return Table(name="calls", caption="Calls from the bench", columns=columns, rows=rows, none="None yet.")
