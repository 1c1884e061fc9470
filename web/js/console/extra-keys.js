// The row of keys that a phone's keyboard lacks. Modifiers stay down until used (terminal) or pressed again (screen).

import { h } from "../shared/dom.js";
import { icon } from "../shared/icons.js";

const MODIFIERS = {
  terminal: [["control", "Ctrl"], ["alt", "Alt"]],
  vnc: [["control", "Ctrl"], ["alt", "Alt"], ["shift", "Shift"], ["super", "Win"]],
};

const KEYS = {
  terminal: [
    ["Escape", "Esc"], ["Tab", "Tab"], "modifiers", ["ArrowUp", "up"], ["ArrowDown", "down"], ["ArrowLeft", "left"], ["ArrowRight", "right"],
    ["|", "|"], ["/", "/"], ["-", "-"], ["~", "~"], ["Home", "Home"], ["End", "End"], ["PageUp", "PgUp"], ["PageDown", "PgDn"], ["Delete", "Del"],
  ],
  vnc: [
    "keyboard", ["Escape", "Esc"], ["Tab", "Tab"], "modifiers", ["Enter", "Enter"], ["ArrowUp", "up"], ["ArrowDown", "down"], ["ArrowLeft", "left"], ["ArrowRight", "right"],
    ["Backspace", "⌫"], ["Delete", "Del"], ["Home", "Home"], ["End", "End"], ["PageUp", "PgUp"], ["PageDown", "PgDn"], ["F1", "F1"], ["F2", "F2"], ["F8", "F8"], ["F10", "F10"], ["F12", "F12"], "pan",
  ],
};

const ARROWS = { up: "up", down: "down", left: "arrowLeft", right: "arrowLeft" };

/** Fills `row` for `view`. `softKeyboard`: shows or hides the phone's keyboard (screens only). */
export function fillExtraKeys(row, view, softKeyboard) {
  const keep = (event) => event.preventDefault(); // The console keeps the focus, and the phone its keyboard.
  const key = (label, props, content = label) =>
    h("button", { type: "button", class: "key", "aria-label": label, onpointerdown: keep, onmousedown: keep, ...props }, content);
  const modifiers = MODIFIERS[view.kind].map(([name, label]) =>
    key(label, { "aria-pressed": "false", data: { testid: `hold-${name}`, modifier: name }, onclick: () => view.toggleModifier(name) }));
  const pan = key("Move the view", { "aria-pressed": "false", onclick: () => view.togglePan?.() }, "Pan");
  const buttons = KEYS[view.kind].map((entry) => {
    if (entry === "modifiers") return modifiers;
    if (entry === "keyboard") return softKeyboard ? key("Keyboard", { onclick: () => softKeyboard.toggle() }, icon("keyboard", 20)) : null;
    if (entry === "pan") return pan;
    const [name, label] = entry;
    const arrow = ARROWS[label];
    const button = key(name, { data: { testid: `key-${name}` }, onclick: () => view.sendKey(name) }, arrow ? icon(arrow, 18) : label);
    if (label === "right") button.classList.add("flip");
    return button;
  });
  row.replaceChildren(...buttons.flat().filter(Boolean));
  const show = () => {
    for (const button of modifiers) button.setAttribute("aria-pressed", String(view.latched[button.dataset.modifier]));
    pan.hidden = !view.rfb?.clipViewport;
    pan.setAttribute("aria-pressed", String(Boolean(view.rfb?.dragViewport)));
  };
  view.addEventListener("modifiers", show);
  show();
}
