// Where this page is: every address is derived from it, so that any path prefix works.

/** The folder the page was loaded from, with the slash at its end. */
export const base = new URL(".", window.location.href.split("#")[0]);

/** The address of something in that folder. */
export const at = (path) => new URL(path, base).href;

/** The viewer websocket in that folder. */
export function viewerURL() {
  const url = new URL("v1/viewer", base);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url.href;
}

/** The fragment as parameters. */
export function fragment() {
  return new URLSearchParams(window.location.hash.slice(1));
}

/** Rewrites the fragment without a new entry in the history: secrets leave the address bar this way. */
export function setFragment(parameters) {
  const text = parameters.toString();
  window.history.replaceState(null, "", window.location.pathname + window.location.search + (text ? `#${text}` : ""));
}
