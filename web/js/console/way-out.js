// A console takes every key, Tab too. Ctrl, Alt and Shift pressed together and let go lead back to the buttons.

const MODIFIERS = new Set(["Control", "Alt", "Shift", "Meta", "AltGraph"]);

export function onWayOut(run) {
  let armed = false;
  // In the capturing phase: the console's own handlers stop these events.
  window.addEventListener("keydown", (event) => {
    armed = MODIFIERS.has(event.key) && event.ctrlKey && event.altKey && event.shiftKey;
  }, true);
  window.addEventListener("keyup", (event) => {
    if (!armed || !MODIFIERS.has(event.key)) return;
    armed = false;
    run();
  }, true);
}
