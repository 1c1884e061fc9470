// The form that asks for the API key.

import { h } from "../shared/dom.js";
import { logo } from "../shared/icons.js";
import { problemNotice } from "../shared/notice.js";

export function signIn(problem, accepted) {
  const input = h("input", {
    class: "input",
    type: "password",
    id: "api-key",
    autocomplete: "off",
    autocapitalize: "none",
    spellcheck: "false",
    required: true,
    "aria-describedby": "api-key-hint",
    data: { testid: "api-key" },
  });
  const form = h(
    "form",
    {
      class: "sign-in-card",
      data: { testid: "sign-in" },
      onsubmit: (event) => {
        event.preventDefault();
        const key = input.value.trim();
        if (key !== "") accepted(key);
      },
    },
    logo(44),
    h("h1", { text: "Open your consoles" }),
    h("p", { class: "hint", id: "api-key-hint", text: "Enter an API key of this gateway. It is kept for this tab only and sent nowhere else." }),
    problem ? h("div", { role: "alert" }, problemNotice(problem)) : null,
    h("label", { class: "field" }, h("span", { text: "API key" }), input),
    h("button", { class: "button primary", type: "submit", text: "Continue", data: { testid: "sign-in-button" } }),
  );
  return h("div", { class: "sign-in" }, form);
}
