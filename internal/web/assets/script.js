// Liveness: at an event the page is fetched again, and what differs is put in
// place. Without it the page is the same, but for the reloading.
"use strict";
(() => {
  const live = document.getElementById("live");
  const announcement = document.getElementById("announcement");
  let fetching = false, again = false, stale = false, timer;
  let rested = 0; // the time from which on the page may be fetched again

  function say(text, state) {
    live.hidden = false;
    live.textContent = text;
    live.className = state;
  }

  // unknown shows that the worker's health is not known.
  function unknown() {
    const health = document.getElementById("worker-health");
    health.className = "state unverified";
    health.textContent = "◌ not known";
  }

  async function refresh() {
    if (document.hidden) { stale = true; return; }
    if (fetching) { again = true; return; }
    clearTimeout(timer);
    const began = performance.now();
    if (began < rested) { timer = setTimeout(refresh, rested - began); return; }
    fetching = true;
    try {
      const response = await fetch(location.href, { cache: "no-store" });
      const type = response.headers.get("Content-Type") || "";
      // A refusal is no page. One without its database is.
      if (type.startsWith("text/html")) put(new DOMParser().parseFromString(await response.text(), "text/html"));
    } catch {
      // The connection of the events tells, and is made anew by the browser.
    }
    fetching = false;
    // A page that takes its time, of very many providers, is asked for less often.
    rested = performance.now() + 3 * (performance.now() - began);
    timer = setTimeout(refresh, 1000 * (Number(document.getElementById("main").dataset.refresh) || 60));
    if (again) { again = false; refresh(); }
  }

  // put replaces the sections that differ, and keeps focus, scroll and what is
  // being typed.
  function put(page) {
    const main = document.getElementById("main"), next = page.getElementById("main");
    if (!next) return;
    const before = { summary: main.dataset.summary, alert: main.dataset.alert };
    const focus = document.activeElement, id = focus && main.contains(focus) ? focus.id : "";
    const typed = document.getElementById("q"), scroll = [scrollX, scrollY];
    const text = typed && typed.value !== typed.defaultValue ? typed.value : null;
    const caret = typed && id === "q" ? [typed.selectionStart, typed.selectionEnd] : null;
    const chosen = document.getElementById("state");
    const choice = chosen && id === "state" ? chosen.value : null;

    const here = new Map([...main.children].map((section) => [section.id, section]));
    const kept = [...next.children].map((section) => {
      const old = here.get(section.id);
      return old && old.outerHTML === section.outerHTML ? old : document.importNode(section, true);
    });
    if (kept.length !== main.children.length || kept.some((section, i) => section !== main.children[i])) {
      if (kept.length === main.children.length) {
        kept.forEach((section, i) => { if (section !== main.children[i]) main.children[i].replaceWith(section); });
      } else {
        main.replaceChildren(...kept);
      }
      const q = document.getElementById("q"), state = document.getElementById("state");
      if (q && text !== null) q.value = text;
      if (state && choice !== null) state.value = choice;
      if (id) document.getElementById(id)?.focus({ preventScroll: true });
      if (q && caret && document.activeElement === q) q.setSelectionRange(...caret);
      scrollTo(...scroll);
    }
    const health = page.getElementById("worker-health");
    if (health) document.getElementById("worker-health").replaceWith(document.importNode(health, true));
    Object.assign(main.dataset, next.dataset);
    document.title = page.title;
    const asOf = page.getElementById("as-of");
    if (asOf) document.getElementById("as-of").replaceChildren(...asOf.childNodes);
    if (next.dataset.alert && next.dataset.alert !== before.alert) announcement.textContent = next.dataset.alert + ". " + next.dataset.summary;
    else if (next.dataset.summary !== before.summary) announcement.textContent = next.dataset.summary;
  }

  const events = new EventSource("events");
  events.addEventListener("open", () => { say("Live updates", "on"); refresh(); });
  events.addEventListener("change", refresh);
  events.addEventListener("error", () => {
    if (events.readyState === EventSource.CLOSED) {
      say("Live updates are off", "off"); // the page is fetched from time to time all the same
      refresh();
    } else {
      say("Disconnected, retrying", "off");
      unknown();
    }
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && stale) { stale = false; refresh(); }
  });
})();
