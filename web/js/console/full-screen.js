// Full screen. Where the browser lets us, keys like Ctrl-W, Alt-Tab and Escape then reach the guest too.

import { icon } from "../shared/icons.js";

export function setUpFullScreen(button, changed) {
  if (!document.fullscreenEnabled) {
    button.hidden = true;
    return;
  }
  const label = button.querySelector(".action-label");
  document.addEventListener("fullscreenchange", () => {
    const on = document.fullscreenElement !== null;
    document.body.toggleAttribute("data-full-screen", on);
    button.querySelector("svg")?.replaceWith(icon(on ? "exitFullscreen" : "fullscreen"));
    label.textContent = on ? "Leave full screen" : "Full screen";
    button.title = on ? "Leave full screen (hold Esc)" : "Full screen";
    if (on) navigator.keyboard?.lock?.().catch(() => {});
    else navigator.keyboard?.unlock?.();
    changed();
  });
  button.addEventListener("click", () => {
    if (document.fullscreenElement) document.exitFullscreen();
    else document.documentElement.requestFullscreen().catch(() => {});
  });
}
