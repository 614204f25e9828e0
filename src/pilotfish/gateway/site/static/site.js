// Keeps the overview's figures up to date. Only texts are set, never markup; without it the page is as it was loaded.
"use strict";
(() => {
  const state = document.querySelector("[data-state]");
  const say = (text) => { if (state && state.textContent !== text) state.textContent = text; };
  const events = new EventSource("/events");
  events.onmessage = (event) => {
    const figures = JSON.parse(event.data);
    for (const place of document.querySelectorAll("[data-figure]")) {
      const text = figures[place.dataset.figure];
      if (typeof text === "string" && place.textContent !== text) place.textContent = text;
    }
    say("Live");
  };
  events.onerror = () => say(events.readyState === EventSource.CLOSED ? "Not live: reload the page" : "Connecting again");
})();
