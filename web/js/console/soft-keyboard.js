// A phone's own keyboard for a graphical console: a hidden field takes what is typed and hands it on as keys.

const PAD = "\u00a0".repeat(24);

export function setUpSoftKeyboard(field, getView) {
  const reset = () => {
    field.value = PAD;
    field.setSelectionRange(PAD.length, PAD.length);
  };
  field.addEventListener("focus", reset);
  field.addEventListener("input", (event) => {
    const view = getView();
    if (!view || event.isComposing) return;
    // The difference to the padding is what was typed; a shorter field means Backspace.
    const value = field.value;
    let same = 0;
    while (same < value.length && same < PAD.length && value[same] === PAD[same]) same += 1;
    for (let i = same; i < PAD.length; i += 1) view.press(["Backspace"]);
    for (const character of value.slice(same)) view.sendKey(character === "\n" ? "Enter" : character);
    reset();
  });
  field.addEventListener("compositionend", () => field.dispatchEvent(new InputEvent("input")));
  field.addEventListener("keydown", (event) => {
    const view = getView();
    const name = { Enter: "Enter", Tab: "Tab", Escape: "Escape", ArrowLeft: "ArrowLeft", ArrowRight: "ArrowRight", ArrowUp: "ArrowUp", ArrowDown: "ArrowDown" }[event.key];
    if (!view || !name || event.isComposing) return;
    event.preventDefault();
    view.press([name]);
  });
  return {
    toggle() {
      if (document.activeElement === field) field.blur();
      else field.focus();
    },
  };
}
