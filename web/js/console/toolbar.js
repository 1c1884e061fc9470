// The buttons over the console, and what each does to the view.

import { $ } from "../shared/dom.js";
import { problemNotice, toast } from "../shared/notice.js";
import { local } from "../shared/storage.js";
import { openClipboard, openTypeText } from "./dialogs.js";
import { fillExtraKeys } from "./extra-keys.js";
import { setUpFindBar } from "./find-bar.js";
import { setUpFullScreen } from "./full-screen.js";
import { COMBINATIONS } from "./keys.js";
import { setUpMenu } from "./menu.js";
import { onWayOut } from "./way-out.js";
import { setUpSoftKeyboard } from "./soft-keyboard.js";
import { SCALINGS } from "./vnc-view.js";

/** `page`: `{view(), isOpen(), canReconnect(), reconnect(), close()}`. */
export function setUpToolbar(page) {
  const actions = $("#actions");
  const more = $("#more");
  const row = $("#extra-keys");
  let received = "";
  let dialog = null;
  let keyRow = "no";

  const soft = setUpSoftKeyboard($("#soft-keyboard"), () => (page.isOpen() ? page.view() : null));
  const refocus = () => page.view()?.focus();
  const find = setUpFindBar(page.view, (open) => $("#search").setAttribute("aria-expanded", String(open)));
  setUpFullScreen($("#full-screen"), refocus);

  function closeMore() {
    more.setAttribute("aria-expanded", "false");
    actions.removeAttribute("data-open");
  }

  more.addEventListener("click", () => {
    const open = !actions.hasAttribute("data-open");
    actions.toggleAttribute("data-open", open);
    more.setAttribute("aria-expanded", String(open));
    if (open) actions.querySelector("button:not([hidden])")?.focus({ preventScroll: true });
  });
  document.addEventListener("pointerdown", (event) => {
    if (!actions.contains(event.target) && !more.contains(event.target)) closeMore();
  });
  actions.addEventListener("click", closeMore);
  actions.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && actions.hasAttribute("data-open")) {
      closeMore();
      more.focus();
    }
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    const buttons = [...actions.querySelectorAll("button:not([hidden])")];
    const index = buttons.indexOf(document.activeElement);
    buttons[(index + step + buttons.length) % buttons.length]?.focus();
    event.preventDefault();
  });

  const on = (id, run) => $(`#${id}`).addEventListener("click", () => {
    const view = page.view();
    if (view) run(view);
  });

  setUpMenu($("#keys"), () => COMBINATIONS.map((entry) => ({ ...entry, run: () => page.view()?.press(entry.keys) })), refocus);
  setUpMenu($("#scaling"), () => SCALINGS.map(([mode, label]) => ({
    label,
    id: `scaling-${mode}`,
    checked: page.view()?.scaling === mode,
    run: () => page.view()?.setScaling(mode),
  })), refocus);
  on("ctrl-alt-del", (view) => view.press(["Control", "Alt", "Delete"]));
  $("#search").addEventListener("click", () => find.toggle());
  on("font-down", (view) => view.changeFont(-1));
  on("font-up", (view) => view.changeFont(1));
  on("reader", (view) => $("#reader").setAttribute("aria-pressed", String(view.toggleScreenReader())));
  on("type-text", (view) => {
    dialog = openTypeText(view, () => {
      dialog = null;
      refocus();
    });
  });
  on("clipboard", (view) => {
    dialog = openClipboard(view, received, () => {
      dialog = null;
      refocus();
    });
  });
  $("#key-row").addEventListener("click", () => {
    showKeyRow(keyRow === "yes" ? "no" : "yes");
    local.set("key-row", keyRow);
    refocus();
  });
  onWayOut(() => {
    if (more.offsetParent !== null && !actions.hasAttribute("data-open")) more.click();
    [...actions.querySelectorAll("button")].find((button) => button.offsetParent !== null)?.focus();
  });
  $("#reconnect").addEventListener("click", () => page.reconnect());
  $("#disconnect").addEventListener("click", () => page.close());

  function showKeyRow(choice) {
    keyRow = choice;
    update();
  }

  /** Shows the buttons that make sense now. */
  function update() {
    const view = page.view();
    const open = page.isOpen();
    for (const button of actions.querySelectorAll("[data-for]")) {
      const needs = button.dataset.for.split(" ");
      button.hidden = !view
        || (needs.includes("vnc") && view.kind !== "vnc")
        || (needs.includes("terminal") && view.kind !== "terminal")
        || (needs.includes("write") && (view.readOnly || !open));
    }
    actions.querySelector(".separator").hidden = !view;
    if (!open) $("#disconnect").hidden = $("#scaling").hidden = true;
    $("#reconnect").hidden = !page.canReconnect();
    $("#reader").setAttribute("aria-pressed", String(view?.terminal?.options.screenReaderMode === true));
    $("#key-row").setAttribute("aria-pressed", String(keyRow === "yes"));
    row.hidden = !(keyRow === "yes" && open && view && !view.readOnly);
  }

  return {
    update,
    showKeyRow,
    attach(view) {
      received = "";
      fillExtraKeys(row, view, soft);
      view.addEventListener("search", () => find.open());
      view.addEventListener("clipboard", ({ detail }) => {
        received = detail;
        if (dialog?.receive) dialog.receive(detail);
        else if (detail) toast($("#toasts"), problemNotice({ kind: "clipboard", title: "The guest copied text", detail: "Open the clipboard to take it over." }, { mild: true, testid: "clipboard-notice", symbol: "clipboard" }), 5000);
      });
      update();
    },
    ended() {
      find.close();
      dialog?.close();
      closeMore();
      update();
    },
  };
}
