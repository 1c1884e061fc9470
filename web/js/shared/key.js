// The API key: asked for once, kept for this tab, sent nowhere but to this gateway.

import { session } from "./storage.js";
import { fragment, setFragment } from "./place.js";

let inMemory = null;

export function apiKey() {
  return inMemory ?? session.get("key");
}

export function setAPIKey(key) {
  inMemory = key;
  session.set("key", key);
}

export function forgetAPIKey() {
  inMemory = null;
  session.set("key", null);
}

/** Takes `#key=…` once and removes it from the address bar. */
export function takeKeyFromFragment() {
  const parameters = fragment();
  const key = parameters.get("key");
  if (key === null) return false;
  parameters.delete("key");
  setFragment(parameters);
  if (key !== "") setAPIKey(key);
  return key !== "";
}
