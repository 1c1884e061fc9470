// Light, dark, or what the system says. `data-theme` on the root element is what the style sheets look at.

import { local } from "./storage.js";

const dark = window.matchMedia("(prefers-color-scheme: dark)");
const listeners = new Set();

/** `auto`, `light` or `dark`: what was chosen. */
export function themeChoice() {
  const choice = local.get("theme");
  return choice === "light" || choice === "dark" ? choice : "auto";
}

/** `light` or `dark`: what is shown. */
export function themeShown() {
  const choice = themeChoice();
  if (choice !== "auto") return choice;
  return dark.matches ? "dark" : "light";
}

/** Calls `listener` with `light` or `dark` at every change; the answer ends that. */
export function onThemeChange(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

function apply() {
  const shown = themeShown();
  document.documentElement.dataset.theme = shown;
  for (const listener of listeners) listener(shown);
}

/** Switches to the other look; the third press returns to the system's. */
export function cycleTheme() {
  const system = dark.matches ? "dark" : "light";
  const other = system === "dark" ? "light" : "dark";
  const choice = themeChoice();
  local.set("theme", choice === "auto" ? other : choice === other ? system : null);
  apply();
}

/** What the toggle should show and say now. */
export function themeLabel() {
  const choice = themeChoice();
  return {
    icon: choice === "auto" ? "auto" : choice === "dark" ? "moon" : "sun",
    text: choice === "auto" ? "Theme: as the system" : choice === "dark" ? "Theme: dark" : "Theme: light",
  };
}

dark.addEventListener("change", apply);
window.addEventListener("storage", (event) => {
  if (event.key === "sallyport.theme") apply();
});
apply();
