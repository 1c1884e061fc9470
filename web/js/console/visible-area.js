// A phone's keyboard covers part of the page without making it smaller in some browsers: the page then takes
// just the part that can be seen.

export function fitVisibleArea() {
  const view = window.visualViewport;
  if (!view) return;
  const fit = () => {
    // Zoomed by two fingers: that is meant, and not a keyboard.
    if (view.scale > 1.01) return;
    document.documentElement.style.setProperty("--view-height", `${view.height}px`);
    document.documentElement.style.setProperty("--view-top", `${view.offsetTop}px`);
  };
  view.addEventListener("resize", fit);
  view.addEventListener("scroll", fit);
  fit();
}
