// What the page does by itself: it follows the events, lets ages grow, and keeps the focus where a person left it.
(() => {
  "use strict";

  const body = document.body;
  const dialog = document.getElementById("opened");
  const opened = document.getElementById("opened-body");
  const told = document.getElementById("told");
  const trouble = document.getElementById("trouble");
  const live = document.getElementById("live");
  const ahead = Number(body.dataset.now) - Date.now(); // of the server's clock

  // --- ages ---

  const span = (seconds) => { // as span() in app/web/words.py
    if (seconds < 120) return `${Math.round(seconds)} s`;
    const minutes = Math.floor(seconds / 60);
    if (minutes < 120) return `${minutes} min`;
    const hours = Math.floor(minutes / 60);
    if (hours < 48) return `${hours} h` + (minutes % 60 ? ` ${minutes % 60} min` : "");
    return `${Math.floor(hours / 24)} d` + (hours % 24 ? ` ${hours % 24} h` : "");
  };

  const grow = () => {
    const now = Date.now() + ahead;
    for (const each of document.querySelectorAll("[data-since]")) {
      const words = span(Math.max(0, (now - Number(each.dataset.since)) / 1000));
      if (each.textContent !== words) each.textContent = words;
    }
  };
  setInterval(grow, 1000);

  // --- what happens ---

  const waiting = new Set();
  let soon = null;
  const renew = (...parts) => { // each part asks for itself anew, once for many events
    parts.forEach((part) => waiting.add(part));
    soon = soon || setTimeout(() => {
      const now = [...waiting];
      waiting.clear();
      soon = null;
      now.forEach((part) => htmx.trigger(body, `console:${part}`));
    }, 150);
  };

  const say = (words) => { told.textContent = words; };

  const passed = ({ data }) => {
    const { stuck, looked_at: lookedAt, state } = JSON.parse(data);
    const looked = document.getElementById("looked");
    if (looked) looked.dataset.since = lookedAt;
    if (state !== body.dataset.state || !looked) {
      body.dataset.state = state;
      renew("summary", "sessions");
    }
    if (stuck !== Number(body.dataset.stuck)) {
      body.dataset.stuck = stuck;
      document.title = `${stuck} stuck · Clawmend`;
      say(stuck === 0 ? "Nothing is stuck" : stuck === 1 ? "1 session is stuck" : `${stuck} sessions are stuck`);
    }
  };

  let source = null;
  const follow = () => {
    if (source) return;
    source = new EventSource("/console/events");
    const standing = (word, words) => {
      live.dataset.live = word;
      live.querySelector(".words").textContent = words;
    };
    let lost = false;
    source.onopen = () => {
      standing("yes", "live");
      if (lost) renew("summary", "sessions", "repairs");
      lost = false;
    };
    source.onerror = () => {
      lost = true;
      standing("no", "not live: connecting again");
      if (source && source.readyState === EventSource.CLOSED) { // refused: perhaps the login has ended
        source = null;
        renew("summary");
        setTimeout(follow, 5000);
      }
    };
    source.addEventListener("pass", passed);
    source.addEventListener("finding", () => renew("summary", "sessions", "opened"));
    source.addEventListener("repair", () => renew("summary", "sessions", "repairs", "opened"));
    source.addEventListener("reset", () => renew("summary", "sessions", "repairs", "opened"));
    source.addEventListener("bye", () => location.assign("/"));
  };

  document.addEventListener("visibilitychange", () => { // a browser has six connections to a host, for all its tabs
    if (document.hidden && source) {
      source.close();
      source = null;
    } else if (!document.hidden && !source) {
      follow();
      renew("summary", "sessions", "repairs", "opened");
    }
  });

  // --- what is opened ---

  let opener = null;

  const show = () => {
    if (!dialog.open) {
      opener = document.activeElement && document.activeElement.id;
      dialog.showModal();
    }
  };

  dialog.addEventListener("close", () => {
    opened.replaceChildren();
    const back = (opener && document.getElementById(opener)) || document.getElementById("sessions-title");
    back.focus();
  });
  dialog.addEventListener("click", (event) => { // beside it
    if (event.target === dialog) dialog.close();
  });

  const saidOf = () => opened.querySelector(".said");

  let losing = null; // the part that is replaced while the focus is in it

  const keepFocus = () => {
    const heading = losing && document.getElementById(losing === opened.id ? "opened-title" : `${losing}-title`);
    if (heading && document.activeElement === body) heading.focus();
    losing = null;
  };

  const cameByItself = ({ triggeringEvent }) => Boolean(triggeringEvent && triggeringEvent.type.startsWith("console:"));

  // The part of the page that a person has acted on, and not one that came by itself.
  body.addEventListener("htmx:afterSwap", (event) => {
    const { target, requestConfig } = event.detail;
    keepFocus();
    if (target !== opened && !(target && target.classList.contains("said"))) return;
    if (cameByItself(requestConfig)) return;
    const fresh = !dialog.open;
    show();
    const said = saidOf();
    if (said && said.textContent.trim() && requestConfig.verb === "post") {
      said.focus();
    } else if (fresh || !opened.contains(document.activeElement)) {
      document.getElementById("opened-title").focus();
    }
    opened.scrollTop = 0;
  });

  // --- what comes by itself, and is not to get into a person's way ---

  let pressed = false;
  document.addEventListener("pointerdown", () => { pressed = true; }, true);
  for (const over of ["pointerup", "pointercancel"]) {
    document.addEventListener(over, () => setTimeout(() => { pressed = false; }), true);
  }

  const shown = new Map(); // what each part has brought last, by the part's id

  const inTheWay = ({ target, xhr }) => {
    if (target === opened) return !dialog.open;
    if (pressed) { // a click is lost when what it began on goes away
      renew(target.id);
      return true;
    }
    return shown.get(target.id) === xhr.responseText;
  };

  // --- what goes wrong on the way ---

  const complain = (words) => {
    const said = dialog.open && saidOf();
    const place = said || trouble;
    const note = document.createElement("p");
    note.textContent = words;
    place.replaceChildren(note);
    place.classList.add("note", "bad");
    place.hidden = false;
  };

  body.addEventListener("htmx:beforeSwap", (event) => {
    const { xhr } = event.detail;
    trouble.hidden = true;
    const before = event.detail.target;
    if (xhr.status === 401) { // the login has ended
      event.detail.shouldSwap = false;
      location.assign("/");
    } else if (!(xhr.getResponseHeader("content-type") || "").startsWith("text/html")) {
      event.detail.shouldSwap = false;
      complain(`Something went wrong inside Clawmend (${xhr.status}); its log has the details.`);
    } else if (cameByItself(event.detail.requestConfig) && xhr.status === 200 && inTheWay(event.detail)) {
      event.detail.shouldSwap = false;
    } else if (xhr.status >= 400 && event.detail.requestConfig.verb === "get" && !dialog.open) {
      event.detail.target = trouble;
      event.detail.swapOverride = "innerHTML";
      trouble.hidden = false;
    } else {
      shown.set(before.id, xhr.responseText);
      losing = before.contains(document.activeElement) ? before.id : null;
    }
  });
  body.addEventListener("htmx:sendError", () => complain("Clawmend does not answer. Is it running? This page tries again by itself."));

  if (opened.firstElementChild) { // the address names a session
    dialog.removeAttribute("open");
    show();
    document.getElementById("opened-title").focus();
  }
  follow();
})();
