// A problem, as a person wants to read it: what, why, what to do.

import { h, prose } from "./dom.js";
import { icon } from "./icons.js";

export function problemNotice(problem, { mild = false, actions = [], testid = "problem", symbol = "warning" } = {}) {
  return h(
    "div",
    { class: `notice${mild ? " fair" : ""}`, data: { testid, kind: problem.kind } },
    icon(symbol, 20),
    h(
      "div",
      {},
      h("strong", { text: problem.title }),
      problem.detail ? h("p", {}, prose(problem.detail)) : null,
      problem.remedy ? h("p", { class: "remedy" }, prose(problem.remedy)) : null,
      actions.length > 0 ? h("p", { class: "notice-actions" }, actions) : null,
    ),
  );
}

/** Shows a notice at the bottom of the window for a while. */
export function toast(area, element, milliseconds = 9000) {
  const close = h("button", {
    class: "button plain square",
    type: "button",
    "aria-label": "Dismiss",
    onclick: () => element.remove(),
  }, icon("close", 16));
  close.style.marginInlineStart = "auto";
  element.append(close);
  area.append(element);
  if (Number.isFinite(milliseconds)) setTimeout(() => element.remove(), milliseconds);
}
