// Keeps a new task's progress up to date, and copies its code. Only texts and numbers are set, never markup; without it
// the page is as it was loaded.
"use strict";
(() => {
  const place = document.querySelector("[data-new-task]");
  if (place) {
    const bar = place.querySelector("[data-bar]");
    const stage = place.querySelector("[data-stage]");
    const events = new EventSource(place.dataset.events);
    events.onmessage = (event) => {
      const told = JSON.parse(event.data)[place.dataset.newTask];
      if (!told || told.state !== place.dataset.was) { events.close(); location.reload(); return; }
      if (stage.textContent !== told.stage) stage.textContent = told.stage;
      if (told.total > 0) { bar.max = told.total; bar.value = told.done; } else { bar.removeAttribute("value"); }
    };
  }
  for (const button of document.querySelectorAll("[data-copy]")) {
    if (!navigator.clipboard) continue;
    button.hidden = false;
    const name = button.textContent;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = name; }, 2000);
    });
  }
})();
