// Every icon of the page: 24 × 24, drawn with strokes in the text's colour.

const NS = "http://www.w3.org/2000/svg";

const PATHS = {
  arrowLeft: "M19 12H5m6-7-7 7 7 7",
  check: "m5 12.5 4.5 4.5L19 7.5",
  chevron: "m7 10 5 5 5-5",
  clipboard: "M9 4h6v3.5H9zM9 5.5H6.5V20h11V5.5H15",
  close: "m6 6 12 12M18 6 6 18",
  copy: "M9 9h10.5v10.5H9zM15 9V4.5H4.5V15H9",
  cpu: "M7 7h10v10H7zM10 3v4m4-4v4m-4 10v4m4-4v4M3 10h4m-4 4h4m10-4h4m-4 4h4",
  down: "M12 5v14m-6-6 6 6 6-6",
  exitFullscreen: "M9 4v5H4m11-5v5h5M9 20v-5H4m11 5v-5h5",
  eye: "M2.5 12S6 5.5 12 5.5 21.5 12 21.5 12 18 18.5 12 18.5 2.5 12 2.5 12Zm9.5 2.8a2.8 2.8 0 1 0 0-5.6 2.8 2.8 0 0 0 0 5.6Z",
  fontDown: "M3 18 8 6l5 12M4.8 14h6.4M16 12h6",
  fontUp: "M3 18 8 6l5 12M4.8 14h6.4M16 12h6m-3-3v6",
  fullscreen: "M4 9V4h5m6 0h5v5M4 15v5h5m6 0h5v-5",
  guest: "M4 5h16v11H4zM9 20h6m-3-4v4",
  key: "M14.5 13.5a5 5 0 1 0-4-4L3 17v4h4v-2.5h2.5V16H12zM16 8h.01",
  keyboard: "M2.5 6.5h19v11h-19zM6 10h.01M9 10h.01M12 10h.01M15 10h.01M18 10h.01M7.5 14h9",
  keys: "M4 4h7v7H4zM13 4h7v7h-7zM4 13h16v7H4z",
  container: "M12 3 4 7v10l8 4 8-4V7zM4 7l8 4 8-4M12 11v10",
  lock: "M6 11h12v9H6zM8.5 11V7.5a3.5 3.5 0 0 1 7 0V11",
  memory: "M3 7h18v9H3zM7 10v3m3.3-3v3m3.4-3v3m3.3-3v3M6 16v3m4-3v3m4-3v3m4-3v3",
  moon: "M20 14.5A8.5 8.5 0 0 1 9.5 4a8.5 8.5 0 1 0 10.5 10.5Z",
  more: "M5 12h.01M12 12h.01M19 12h.01",
  node: "M4 4h16v6.5H4zM4 13.5h16V20H4zM7.5 7.25h.01M7.5 16.75h.01M11 7.25h5m-5 9.5h5",
  out: "M14 4H5v16h9M10 12h11m-4-4 4 4-4 4",
  paste: "M9 4h6v3.5H9zM9 5.5H6.5V20h4M15 5.5h2.5V9M13 12h7.5m-3.75 0v8M15.25 20h3",
  power: "M12 3v8M6.8 6.5a8 8 0 1 0 10.4 0",
  refresh: "M20 12a8 8 0 1 1-2.34-5.66L20 8.7M20 4v4.7h-4.7",
  scale: "M4 4h16v16H4zM8 12V8h4m4 4v4h-4",
  search: "M10.5 17a6.5 6.5 0 1 0 0-13 6.5 6.5 0 0 0 0 13Zm5-1.5L20.5 20.5",
  screen: "M3 5h18v12H3zM8.5 20.5h7",
  serial: "M5 7h14l-2.5 10h-9zM9 10.5h.01M12 10.5h.01M15 10.5h.01M10.5 14h.01M13.5 14h.01",
  sun: "M12 16.5a4.5 4.5 0 1 0 0-9 4.5 4.5 0 0 0 0 9ZM12 2v2m0 16v2M2 12h2m16 0h2M4.9 4.9l1.4 1.4m11.4 11.4 1.4 1.4m0-14.2-1.4 1.4M6.3 17.7l-1.4 1.4",
  terminal: "M3 5h18v14H3zM7 9.5l3 2.5-3 2.5M12.5 15H17",
  auto: "M12 3.5a8.5 8.5 0 1 0 0 17zM12 3.5a8.5 8.5 0 0 1 0 17",
  up: "M12 19V5m-6 6 6-6 6 6",
  viewer: "M4 5h16v11H4zM2.5 19.5h19",
  warning: "M12 4 2.5 20h19zM12 10v4.5m0 2.5h.01",
  gateway: "M5 20V10.5a7 7 0 0 1 14 0V20M3.5 20h17M9.5 20v-8.5a2.5 2.5 0 0 1 5 0V20",
  api: "M8 4H6.5C5 4 5 5 5 6.5v3C5 11 4.5 12 3 12c1.5 0 2 1 2 2.5v3C5 19 5 20 6.5 20H8M16 4h1.5C19 4 19 5 19 6.5v3c0 1.5.5 2.5 2 2.5-1.5 0-2 1-2 2.5v3c0 1.5 0 2.5-1.5 2.5H16",
  worker: "M12 15a3 3 0 1 0 0-6 3 3 0 0 0 0 6ZM12 3v3m0 12v3M3 12h3m12 0h3M5.6 5.6l2.1 2.1m8.6 8.6 2.1 2.1m0-12.8-2.1 2.1M7.7 16.3l-2.1 2.1",
};

/** The icon `name` as an element that screen readers skip. */
export function icon(name, size = 18) {
  const svg = document.createElementNS(NS, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("width", size);
  svg.setAttribute("height", size);
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", `icon icon-${name}`);
  const path = document.createElementNS(NS, "path");
  path.setAttribute("d", PATHS[name] ?? PATHS.more);
  svg.append(path);
  return svg;
}

/** Puts icons into static markup: every element with `data-icon` gets its icon first. */
export function fillIcons(root = document) {
  for (const element of root.querySelectorAll("[data-icon]")) {
    if (element.querySelector(":scope > svg")) continue;
    element.prepend(icon(element.dataset.icon, Number(element.dataset.iconSize ?? 18)));
  }
}

/** The product's mark: a gate in a gate. */
export function logo(size = 28) {
  const svg = document.createElementNS(NS, "svg");
  svg.setAttribute("viewBox", "0 0 32 32");
  svg.setAttribute("width", size);
  svg.setAttribute("height", size);
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", "logo");
  const part = (tag, attributes) => {
    const element = document.createElementNS(NS, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    svg.append(element);
  };
  part("rect", { width: 32, height: 32, rx: 8, class: "logo-ground" });
  part("path", { d: "M8 25V14.5a8 8 0 0 1 16 0V25", class: "logo-wall" });
  part("path", { d: "M12.7 25v-9.6a3.3 3.3 0 0 1 6.6 0V25z", class: "logo-door" });
  part("path", { d: "M6.5 25h19", class: "logo-wall" });
  return svg;
}
