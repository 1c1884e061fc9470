// A menu under a button: arrow keys, Escape, a press outside. On a phone it is a sheet at the bottom.

import { h } from "../shared/dom.js";
import { icon } from "../shared/icons.js";

/**
 * @param items () => list of `{label, short?, small?, checked?, run}` or `{divider}`
 * @param closed called after the menu went away
 */
export function setUpMenu(button, items, closed) {
  let panel = null;

  const entries = () => [...panel.querySelectorAll("button")];

  function close(restore = true) {
    if (!panel) return;
    panel.remove();
    panel = null;
    button.setAttribute("aria-expanded", "false");
    document.removeEventListener("pointerdown", outside, true);
    if (restore) closed?.();
  }

  function outside(event) {
    if (!panel.contains(event.target) && !button.contains(event.target)) close(false);
  }

  function open() {
    panel = h("div", { class: "menu", role: "menu", "aria-label": button.title, data: { testid: `${button.id}-menu` }, onkeydown: move });
    let group = null;
    for (const item of items()) {
      if (item.divider) {
        panel.append(h("p", { class: "menu-head", text: item.divider }));
        group = null;
        continue;
      }
      const choice = item.checked !== undefined;
      const entry = h(
        "button",
        {
          type: "button",
          class: item.small ? "menu-small" : "",
          role: choice ? "menuitemradio" : "menuitem",
          "aria-checked": choice ? String(item.checked) : null,
          "aria-label": item.label,
          tabIndex: -1,
          data: { testid: `item-${item.id ?? item.label.toLowerCase().replace(/[^a-z0-9]+/g, "-")}` },
          onclick: () => {
            close();
            item.run();
          },
        },
        choice ? h("span", { class: "menu-check" }, item.checked ? icon("check", 16) : null) : null,
        item.short ?? item.label,
      );
      if (item.small) {
        group ??= panel.appendChild(h("div", { class: "menu-grid", role: "none" }));
        group.append(entry);
      } else {
        group = null;
        panel.append(entry);
      }
    }
    document.body.append(panel);
    place();
    button.setAttribute("aria-expanded", "true");
    document.addEventListener("pointerdown", outside, true);
    (panel.querySelector('[aria-checked="true"]') ?? entries()[0])?.focus();
  }

  function place() {
    const anchor = button.getBoundingClientRect();
    if (anchor.width === 0 || window.innerWidth < 640) {
      panel.classList.add("sheet");
      return;
    }
    const left = Math.min(anchor.left, window.innerWidth - panel.offsetWidth - 8);
    panel.style.left = `${Math.max(8, left)}px`;
    panel.style.top = `${anchor.bottom + 6}px`;
    panel.style.maxHeight = `${window.innerHeight - anchor.bottom - 14}px`;
  }

  function move(event) {
    const list = entries();
    const index = list.indexOf(document.activeElement);
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    if (step) list[(index + step + list.length) % list.length].focus();
    else if (event.key === "Home") list[0].focus();
    else if (event.key === "End") list[list.length - 1].focus();
    else if (event.key === "Escape" || event.key === "Tab") {
      close(false);
      button.focus();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  button.addEventListener("click", () => (panel ? close() : open()));
  return { close };
}
