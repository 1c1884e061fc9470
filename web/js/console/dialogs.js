// The two dialogs of a console: "paste as text" and the clipboard.

import { h, setText } from "../shared/dom.js";
import { icon } from "../shared/icons.js";
import { local } from "../shared/storage.js";
import { plural } from "../shared/format.js";
import { layoutNames } from "./layouts.js";

function dialog(title, testid, body, closed) {
  const close = h("button", { type: "button", class: "button plain square", "aria-label": "Close", onclick: () => element.dismiss() }, icon("close", 18));
  const head = h("h2", { text: title, id: `${testid}-title` });
  const element = h("dialog", { "aria-labelledby": head.id, data: { testid } }, h("div", { class: "dialog-head" }, head, close), body);
  element.addEventListener("close", () => {
    element.remove();
    closed?.();
  });
  // Gone at once: the event above comes a moment later, when another dialog may be open already.
  element.dismiss = () => {
    element.close();
    element.remove();
  };
  // A press on the backdrop closes; the dialog's own box doesn't count.
  element.addEventListener("pointerdown", (event) => {
    if (event.target === element) element.dismiss();
  });
  // Keys typed here are not for the console underneath.
  element.addEventListener("keydown", (event) => event.stopPropagation());
  document.body.append(element);
  element.showModal();
  return element;
}

const RATES = [
  ["12", "Slow (12 characters/s): installers, boot menus"],
  ["40", "Normal (40 characters/s)"],
  ["160", "Fast (160 characters/s)"],
];

/** Types a text into the console. Terminals take it at once, screens key by key. */
export function openTypeText(view, closed) {
  const text = h("textarea", { class: "input", "aria-label": "Text to type", spellcheck: "false", autocapitalize: "none", data: { testid: "type-text-input" }, oninput: count });
  const warning = h("p", { class: "hint", role: "status", "aria-live": "polite" });
  const layout = h("select", { class: "input", data: { testid: "type-text-layout" }, onchange: count }, layoutNames.map(([value, name]) => h("option", { value, text: name })));
  const rate = h("select", { class: "input", data: { testid: "type-text-rate" } }, RATES.map(([value, name]) => h("option", { value, text: name })));
  layout.value = local.get("layout") ?? "us";
  rate.value = local.get("rate") ?? "40";
  const bar = h("i");
  const meter = h("div", { class: "meter", role: "progressbar", "aria-label": "Typed", "aria-valuemin": 0, "aria-valuemax": 100 }, bar);
  const typed = h("span", { class: "hint", data: { testid: "type-text-progress" } });
  const progress = h("div", { class: "field", hidden: true }, meter, typed);
  const go = h("button", { type: "submit", class: "button primary", text: "Type it", data: { testid: "type-text-go" } });
  const cancel = h("button", { type: "button", class: "button", text: "Cancel", data: { testid: "type-text-cancel" }, onclick: () => element.dismiss() });
  const aborter = new AbortController();
  const screen = view.kind === "vnc";

  const body = h(
    "form",
    { class: "dialog-body", onsubmit: start },
    h("p", {
      class: "hint",
      text: screen
        ? "The text is typed key by key, so it reaches login prompts and installers that have no clipboard."
        : "The text is pasted as it is; programs that know bracketed paste are told so.",
    }),
    text,
    screen ? h("label", { class: "field" }, h("span", { text: "Keyboard layout of the guest" }), layout) : null,
    screen ? h("label", { class: "field" }, h("span", { text: "Speed" }), rate) : null,
    warning,
    progress,
    h("div", { class: "dialog-actions" }, cancel, go),
  );
  const element = dialog("Paste as text", "type-text-dialog", body, () => {
    aborter.abort();
    closed();
  });
  text.focus();

  function count() {
    const missing = screen ? view.missing(text.value, layout.value) : 0;
    setText(warning, missing > 0 ? `${plural(missing, "character is", "characters are")} not on this keyboard and may not arrive.` : "");
  }

  async function start(event) {
    event.preventDefault();
    if (text.value === "") return;
    if (!screen) {
      element.dismiss();
      view.paste(text.value);
      return;
    }
    local.set("layout", layout.value);
    local.set("rate", rate.value);
    go.disabled = text.disabled = layout.disabled = rate.disabled = true;
    progress.hidden = false;
    const show = (done, all) => {
      const share = Math.round((100 * done) / Math.max(1, all));
      bar.style.width = `${share}%`;
      meter.setAttribute("aria-valuenow", String(share));
      setText(typed, `${done} of ${all} typed`);
    };
    await view.type(text.value, { layout: layout.value, rate: Number(rate.value), signal: aborter.signal, progress: show });
    if (!aborter.signal.aborted) element.dismiss();
  }

  return { close: () => element.dismiss() };
}

/** The clipboard, both ways. `received`: what the guest offered last. */
export function openClipboard(view, received, closed) {
  const screen = view.kind === "vnc";
  const from = h("textarea", {
    class: "input",
    "aria-label": "From the guest",
    readonly: true,
    spellcheck: "false",
    data: { testid: "clipboard-from" },
    placeholder: screen ? "Nothing yet. What is copied in the guest appears here." : "Nothing yet. Select text in the terminal, or copy in a program there.",
  });
  const to = h("textarea", { class: "input", "aria-label": "To the guest", spellcheck: "false", data: { testid: "clipboard-to" } });
  from.value = (screen ? "" : view.selection()) || received;
  from.style.minHeight = to.style.minHeight = "5.5rem";
  const said = h("span", { class: "hint", role: "status", "aria-live": "polite" });
  const copy = h("button", {
    type: "button",
    class: "button",
    data: { testid: "clipboard-copy" },
    onclick: async () => {
      try {
        await navigator.clipboard.writeText(from.value);
        setText(said, "Copied.");
      } catch {
        from.select();
        setText(said, document.execCommand("copy") ? "Copied." : "The browser refused; the text is selected, copy it with the keyboard.");
      }
    },
  }, icon("copy", 16), "Copy to this device");
  const read = h("button", {
    type: "button",
    class: "button",
    onclick: async () => {
      try {
        to.value = await navigator.clipboard.readText();
      } catch {
        setText(said, "The browser refused; paste into the field with the keyboard.");
        to.focus();
      }
    },
  }, icon("paste", 16), "Take from this device");
  const send = h("button", {
    type: "button",
    class: "button primary",
    text: screen ? "Send to the guest" : "Paste into the terminal",
    disabled: view.readOnly,
    data: { testid: "clipboard-send" },
    onclick: () => {
      if (screen) {
        view.offerClipboard(to.value);
        setText(said, "Sent. Paste it in the guest.");
      } else {
        element.dismiss();
        view.paste(to.value);
      }
    },
  });
  const always = h("input", { type: "checkbox", checked: local.get("copy-on-select") === "yes", onchange: () => local.set("copy-on-select", always.checked ? "yes" : null) });
  const body = h(
    "div",
    { class: "dialog-body" },
    h("label", { class: "field" }, h("span", { text: "From the guest" }), from),
    h("div", { class: "dialog-actions" }, said, copy),
    screen ? null : h("label", { class: "check" }, always, "Copy whatever I select in the terminal"),
    h("label", { class: "field" }, h("span", { text: "To the guest" }), to),
    h("div", { class: "dialog-actions" }, read, send),
    screen ? h("p", { class: "hint", text: "The guest needs a clipboard agent for this, e.g. spice-vdagent with a VNC clipboard. Without one, use “Paste as text”." }) : null,
  );
  const element = dialog("Clipboard", "clipboard-dialog", body, closed);
  return {
    close: () => element.dismiss(),
    receive: (text) => {
      from.value = text;
    },
  };
}
