// What this page was opened for. A link's token leaves the address bar at once; it works only once anyway.

import { fragment, setFragment } from "../shared/place.js";
import { takeKeyFromFragment } from "../shared/key.js";

/**
 * `{token, open, name, embed}`: `token` from `#t=…` (a one-time link), `open` from `#open=TARGET&console=…`
 * (our own list's way: this page asks for the link itself, with the key of this tab), `name` from
 * `&name=…` (shown until the gateway says it); `embed` from `&embed=1`.
 */
export function takeRequest() {
  takeKeyFromFragment();
  const parameters = fragment();
  const token = parameters.get("t");
  if (token !== null) {
    parameters.delete("t");
    setFragment(parameters);
  }
  const target = parameters.get("open");
  return {
    token: token || null,
    open: target
      ? {
          target,
          console: parameters.get("console") ?? undefined,
          cluster: parameters.get("cluster") ?? undefined,
          readOnly: parameters.get("readOnly") === "1" ? true : undefined,
        }
      : null,
    name: parameters.get("name") ?? "",
    embed: parameters.get("embed") === "1",
  };
}

/** Leaves in the address bar what it takes to open the same console again after a reload. No secret. */
export function rememberRequest({ open, name, embed }) {
  const parameters = new URLSearchParams();
  if (open) {
    parameters.set("open", open.target);
    if (open.console) parameters.set("console", open.console);
    if (open.cluster) parameters.set("cluster", open.cluster);
    if (name) parameters.set("name", name);
    if (open.readOnly) parameters.set("readOnly", "1");
  }
  if (embed) parameters.set("embed", "1");
  setFragment(parameters);
}

export function wasReloaded() {
  return performance.getEntriesByType("navigation")[0]?.type === "reload";
}
