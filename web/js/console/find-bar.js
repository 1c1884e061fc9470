// The search bar of a terminal.

import { $, setText } from "../shared/dom.js";
import { themeShown } from "../shared/theme.js";

const COLOURS = {
  light: { matchBackground: "#ffe9a8", matchBorder: "#e0b840", activeMatchBackground: "#ffb938", activeMatchBorder: "#9a5b00" },
  dark: { matchBackground: "#5c4a16", matchBorder: "#8a7022", activeMatchBackground: "#b98a1e", activeMatchBorder: "#ffd672" },
};

export function setUpFindBar(getView, toggled) {
  const bar = $("#find");
  const text = $("#find-text");
  const count = $("#find-count");
  const matchCase = $("#find-case");
  let listening = null;

  function options(incremental) {
    const colours = COLOURS[themeShown()];
    return {
      caseSensitive: matchCase.getAttribute("aria-pressed") === "true",
      incremental,
      decorations: { ...colours, matchOverviewRuler: colours.matchBorder, activeMatchColorOverviewRuler: colours.activeMatchBorder },
    };
  }

  function find(backwards = false, incremental = false) {
    const view = getView();
    if (view?.kind !== "terminal") return;
    if (listening !== view) {
      listening = view;
      view.search.onDidChangeResults(({ resultIndex, resultCount }) => {
        if (text.value === "") setText(count, "");
        else setText(count, resultCount === 0 ? "No match" : resultIndex < 0 ? `${resultCount}+ matches` : `${resultIndex + 1} of ${resultCount}`);
      });
    }
    if (text.value === "") {
      view.search.clearDecorations();
      setText(count, "");
      return;
    }
    const found = backwards ? view.search.findPrevious(text.value, options(false)) : view.search.findNext(text.value, options(incremental));
    if (!found) setText(count, "No match");
  }

  function open() {
    bar.hidden = false;
    toggled(true);
    const selected = getView()?.selection?.();
    if (selected && !selected.includes("\n")) text.value = selected;
    text.select();
    if (text.value) find();
  }

  function close() {
    if (bar.hidden) return;
    bar.hidden = true;
    toggled(false);
    getView()?.search?.clearDecorations();
    getView()?.focus();
  }

  bar.addEventListener("submit", (event) => {
    event.preventDefault();
    find();
  });
  text.addEventListener("input", () => find(false, true));
  bar.addEventListener("keydown", (event) => {
    event.stopPropagation();
    if (event.key === "Escape") close();
    else if (event.key === "Enter" && event.shiftKey) {
      event.preventDefault();
      find(true);
    }
  });
  matchCase.addEventListener("click", () => {
    matchCase.setAttribute("aria-pressed", String(matchCase.getAttribute("aria-pressed") !== "true"));
    find(false, true);
  });
  $("#find-previous").addEventListener("click", () => find(true));
  $("#find-close").addEventListener("click", close);
  return { toggle: () => (bar.hidden ? open() : close()), open, close };
}
