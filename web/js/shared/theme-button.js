// The button that switches between light, dark and the system's choice.

import { cycleTheme, onThemeChange, themeLabel } from "./theme.js";
import { icon } from "./icons.js";

export function setUpThemeButton(button) {
  const label = document.createElement("span");
  label.className = "action-label";
  const show = () => {
    const { icon: name, text } = themeLabel();
    label.textContent = text;
    button.replaceChildren(icon(name), ...(button.classList.contains("square") ? [] : [label]));
    button.setAttribute("aria-label", text);
    button.title = text;
  };
  button.addEventListener("click", cycleTheme);
  onThemeChange(show);
  show();
}
