// The gateway's control plane, as far as the page uses it.

import { at } from "./place.js";
import { apiKey } from "./key.js";

/** A refusal in the gateway's own words (`application/problem+json`), or one of ours where it gave none. */
export class Problem extends Error {
  constructor({ kind, title, status = 0, detail = "", remedy = "", field = "" }) {
    super(title);
    this.kind = kind;
    this.title = title;
    this.status = status;
    this.detail = detail;
    this.remedy = remedy;
    this.field = field;
  }

  /** From the `error` of a cluster in the inventory, or from a response's body. */
  static from(body, status = 0) {
    const kind = typeof body?.type === "string" && body.type.includes("#") ? body.type.split("#").pop() : "error";
    const text = (value) => (typeof value === "string" ? value : "");
    return new Problem({
      kind,
      title: text(body?.title) || `The gateway answered ${status}`,
      status: Number(body?.status) || status,
      detail: text(body?.detail),
      remedy: text(body?.remedy),
      field: text(body?.field),
    });
  }
}

const TIMEOUT = 20_000;

async function call(method, path, body) {
  const headers = { Accept: "application/json" };
  const key = apiKey();
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(at(path), {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      credentials: "same-origin",
      redirect: "error",
      referrerPolicy: "no-referrer",
      signal: AbortSignal.timeout(TIMEOUT),
    });
  } catch (error) {
    const slow = error?.name === "TimeoutError";
    throw new Problem({
      kind: slow ? "gateway-slow" : "gateway-unreachable",
      title: slow ? "The gateway did not answer in time" : "The gateway can’t be reached",
      detail: slow
        ? `No answer within ${TIMEOUT / 1000} seconds.`
        : navigator.onLine
          ? "The request did not get through."
          : "This device is offline.",
      remedy: "Check the network and that the gateway is running. The page keeps trying.",
    });
  }
  if (response.status === 204) return null;
  let parsed;
  try {
    parsed = await response.json();
  } catch {
    throw new Problem({
      kind: "not-json",
      title: `Something other than the gateway answered (${response.status})`,
      status: response.status,
      detail: "The answer was not JSON.",
      remedy: "If there is a proxy in front, check that it passes v1/ on to the gateway.",
    });
  }
  if (!response.ok) throw Problem.from(parsed, response.status);
  return parsed;
}

export const api = {
  inventory: () => call("GET", "v1/inventory"),
  /** Makes a one-time link: `{target, console, cluster?, readOnly?}`. */
  createConsole: (request) => call("POST", "v1/consoles", request),
  console: (id) => call("GET", `v1/consoles/${encodeURIComponent(id)}`),
  /** Whether the gateway answers at all; needs no key. */
  async alive() {
    try {
      const response = await fetch(at("healthz"), { cache: "no-store", signal: AbortSignal.timeout(4000) });
      return response.ok;
    } catch {
      return false;
    }
  },
};
