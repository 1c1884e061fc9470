// What lies over the console while it is not there: how far the connection is, or why it ended.

import { h, prose, replace } from "../shared/dom.js";
import { icon } from "../shared/icons.js";
import { HOPS, look } from "./endings.js";

const HOP_NAMES = { viewer: "This browser", gateway: "Gateway", api: "Proxmox API", worker: "Console worker", guest: "Guest" };

/**
 * The way of the bytes. `at`: the hop in question; `mode`: `busy` (working on it) or a tone of an ending;
 * `skipped`: a hop before it that was never asked.
 */
function path(at, mode, skipped) {
  const index = HOPS.indexOf(at);
  const steps = HOPS.map((hop, i) => {
    const state = hop === skipped ? "beyond" : i < index ? "passed" : i === index ? mode : "beyond";
    const mark = state === "passed" ? "check" : state === "bad" ? "close" : state === "warn" ? "warning" : null;
    const says = { passed: "reached", busy: "in progress", bad: "failed here", warn: "ended here", calm: "ended here", beyond: "not reached" }[state];
    return h(
      "li",
      { class: `hop ${state}`, data: { hop, state, testid: `hop-${hop}` } },
      h("span", { class: "hop-icon" }, icon(hop, 20), mark ? h("span", { class: "hop-mark" }, icon(mark, 12)) : null),
      h("span", { class: "hop-name", text: HOP_NAMES[hop] }),
      h("span", { class: "visually-hidden", text: says }),
    );
  });
  return h("ol", { class: "path", "aria-label": "Way of the connection", data: { testid: "hop-path" } }, steps);
}

const STAGES = {
  link: ["gateway", "Asking the gateway for a link"],
  gateway: ["gateway", "Connecting to the gateway"],
  minting: ["api", "Asking Proxmox VE for the console"],
  dialling: ["worker", "Connecting to the node"],
  login: ["worker", "Logging in to the console"],
  screen: ["guest", "Waiting for the screen"],
};

export function showStage(cover, stage) {
  const [hop, text] = STAGES[stage] ?? ["gateway", stage];
  cover.hidden = false;
  replace(
    cover,
    h("section", { class: "card connecting", data: { testid: "stage", stage } }, path(hop, "busy"), h("p", { class: "connecting-text" }, h("span", { class: "spinner", "aria-hidden": "true" }), text, "…")),
  );
}

export function hideCover(cover) {
  cover.hidden = true;
  replace(cover);
}

/**
 * Why it ended, and at which stage. `actions`: `{reconnect?, hide?, home?, keyForm?}`: callbacks or null.
 */
export function showEnding(cover, ending, stage, actions) {
  const { title, tone } = look(ending);
  const symbol = { calm: "power", warn: "warning", bad: "warning" }[tone];
  const facts = [ending.kind, ending.code >= 4000 ? String(ending.code) : ""].filter(Boolean).join(" · ");
  const card = h(
    "section",
    { class: `card ended ${tone}`, role: "alertdialog", "aria-labelledby": "ended-title", "aria-describedby": "ended-sentence", data: { testid: "ended", kind: ending.kind, hop: ending.hop } },
    h("header", {}, h("span", { class: "ended-symbol" }, icon(symbol, 22)), h("h2", { id: "ended-title", text: title, data: { testid: "ended-title" } })),
    // Proxmox VE refuses a guest's console before it starts a worker for it.
    path(ending.hop, tone, ending.hop === "guest" && stage === "minting" ? "worker" : null),
    h("p", { class: "ended-sentence", id: "ended-sentence", data: { testid: "ended-sentence" } }, prose(ending.sentence)),
    ending.remedy ? h("p", { class: "ended-remedy", data: { testid: "ended-remedy" } }, h("b", { text: "What to do: " }), prose(ending.remedy)) : null,
    ending.details.length > 0
      ? h("details", { open: ending.details.length <= 4 }, h("summary", { text: "Details" }), h("pre", { text: ending.details.join("\n"), data: { testid: "ended-details" } }))
      : null,
    actions.keyForm ?? null,
    h(
      "footer",
      {},
      h("code", { class: "ended-kind", text: facts, title: "Kind and close code", data: { testid: "ended-kind" } }),
      actions.hide ? h("button", { type: "button", class: "button plain", text: "Show the screen", onclick: actions.hide, data: { testid: "ended-hide" } }) : null,
      actions.home ? h("a", { class: "button", href: actions.home, data: { testid: "ended-home" } }, "Back to the list") : null,
      actions.reconnect ? h("button", { type: "button", class: "button primary", onclick: actions.reconnect, data: { testid: "ended-reconnect" } }, icon("refresh", 16), "Reconnect") : null,
    ),
  );
  cover.hidden = false;
  replace(cover, card);
  (card.querySelector(".key-form input, .primary") ?? card.querySelector(".button"))?.focus({ preventScroll: true });
}
