// Why a console ended, where the gateway's own words don't say it all: headings by kind, and what can be made
// out from a close code when no `ended` frame came.

/** Who can end a console, from the person to the guest, in the order the bytes travel. */
export const HOPS = ["viewer", "gateway", "api", "worker", "guest"];

// kind: [close code, heading, tone, hop]. The codes are the gateway's and fixed.
const KINDS = {
  "viewer-left": [4000, "Console closed", "calm", "viewer"],
  "viewer-lost": [4001, "Connection to this browser lost", "bad", "viewer"],
  "guest-not-running": [4100, "The guest isn’t running", "warn", "guest"],
  "guest-stopped": [4101, "The guest stopped", "calm", "guest"],
  "guest-not-found": [4102, "No such guest", "bad", "api"],
  "no-serial-port": [4103, "No serial port", "warn", "guest"],
  "no-such-console": [4104, "No such console", "warn", "api"],
  "permission-denied": [4200, "Permission denied", "bad", "api"],
  "ticket-rejected": [4201, "Login ticket rejected", "bad", "api"],
  "login-failed": [4202, "Login failed", "bad", "api"],
  "token-unsupported": [4203, "API token not accepted here", "bad", "api"],
  "second-factor-needed": [4204, "Second factor needed", "bad", "api"],
  "api-unreachable": [4300, "Proxmox VE can’t be reached", "bad", "api"],
  "api-error": [4301, "Proxmox VE refused", "bad", "api"],
  "tls-untrusted": [4302, "Certificate not trusted", "bad", "api"],
  "node-unreachable": [4303, "The node can’t be reached", "bad", "api"],
  "worker-timeout": [4400, "The console worker didn’t answer", "bad", "worker"],
  "worker-exited": [4401, "The console worker ended", "warn", "worker"],
  "ports-exhausted": [4402, "No free console port", "bad", "worker"],
  "protocol-violation": [4500, "Unexpected data from the console", "bad", "worker"],
  "viewer-violation": [4501, "Unexpected data from this browser", "bad", "viewer"],
  "slow-viewer": [4600, "This browser couldn’t keep up", "warn", "viewer"],
  idle: [4601, "Closed after inactivity", "calm", "gateway"],
  "max-duration": [4602, "Time limit reached", "calm", "gateway"],
  "server-shutdown": [4603, "The gateway is shutting down", "warn", "gateway"],
  "closed-by-operator": [4604, "Closed by an operator", "calm", "gateway"],
  "too-many-sessions": [4605, "Too many consoles are open", "warn", "gateway"],
  "link-unknown": [4700, "This link isn’t valid", "warn", "gateway"],
  "link-used": [4701, "This link was already used", "warn", "gateway"],
  "link-expired": [4702, "This link has expired", "warn", "gateway"],
  "origin-refused": [4703, "This page’s address isn’t allowed", "bad", "gateway"],
  // The page's own: what it notices itself.
  "gateway-lost": [1006, "Connection to the gateway lost", "bad", "gateway"],
  "gateway-unreachable": [0, "The gateway can’t be reached", "bad", "gateway"],
  "link-missing": [0, "No console link", "warn", "viewer"],
  "link-spent": [0, "This page was reloaded", "warn", "viewer"],
  "page-failed": [0, "This page can’t show the console", "bad", "viewer"],
};

const BY_CODE = new Map(Object.entries(KINDS).filter(([, [code]]) => code > 0).map(([kind, [code]]) => [code, kind]));

/** The heading and tone (`calm`, `warn`, `bad`) of an ending. */
export function look(ending) {
  const [, title = "The console ended", tone = "bad"] = KINDS[ending.kind] ?? [];
  return { title: ending.title || title, tone };
}

/** An ending from the gateway's `ended` frame; whatever is missing is filled in. */
export function fromFrame(frame) {
  const text = (value) => (typeof value === "string" ? value : "");
  const known = KINDS[frame.kind];
  return {
    hop: HOPS.includes(frame.hop) ? frame.hop : (known?.[3] ?? "gateway"),
    kind: text(frame.kind) || "unknown",
    sentence: text(frame.sentence) || (known ? `${known[1]}.` : "The console ended."),
    remedy: text(frame.remedy),
    details: Array.isArray(frame.details) ? frame.details.map(String) : [],
    code: Number(frame.code) || known?.[0] || 0,
  };
}

/** An ending of this page's own making. */
export function own(kind, sentence, remedy = "", details = []) {
  const [code, , , hop] = KINDS[kind] ?? [0, "", "", "viewer"];
  return { hop, kind, sentence, remedy, details, code };
}

/** An ending from a websocket close. `opened`: the websocket was up; `alive`: the gateway answers to HTTP now. */
export function fromClose({ code, reason, opened, alive, online }) {
  const kind = BY_CODE.get(code);
  if (kind && code >= 4000) {
    const sentence = reason.startsWith(`${kind}: `) ? reason.slice(kind.length + 2) : reason;
    return { ...own(kind, sentence || `${KINDS[kind][1]}.`), code };
  }
  const details = [`websocket close code ${code}${reason ? `, “${reason}”` : ""}`];
  if (code === 1001 || code === 1012) {
    return { ...own("server-shutdown", "The gateway went away or is restarting.", "Try again in a moment.", details), code };
  }
  if (code === 1008 || code === 1002 || code === 1003 || code === 1007 || code === 1009) {
    return {
      ...own("viewer-violation", "The gateway did not accept what this page sent.", "Reload the page; if it stays so, page and gateway may be of different versions.", details),
      code,
    };
  }
  if (!opened && alive) {
    return {
      ...own(
        "gateway-lost",
        "The gateway is up, but it or a proxy in front of it refused the websocket.",
        "If there is a proxy, check that it passes websocket upgrades for v1/viewer and that the gateway’s public address is the one in the address bar.",
        details,
      ),
      title: "The websocket was refused",
      code,
    };
  }
  if (!online) {
    return { ...own("gateway-lost", "This device is offline.", "Check the network, then reconnect.", details), hop: "viewer", code };
  }
  if (alive) {
    return {
      ...own(
        "gateway-lost",
        "The connection was cut on its way between this browser and the gateway, which itself is up.",
        "Reconnect. If it happens again after about the same time, a proxy in between closes quiet or long connections.",
        details,
      ),
      code,
    };
  }
  return {
    ...own(
      opened ? "gateway-lost" : "gateway-unreachable",
      opened ? "The gateway was lost: the connection broke and it does not answer any more." : "The gateway does not answer.",
      "Check the network and that the gateway is running, then try again.",
      details,
    ),
    code,
  };
}

/** An ending from a control-plane refusal: no link could be made. */
export function fromProblem(problem) {
  return {
    hop: problem.kind === "gateway-unreachable" ? "gateway" : (KINDS[problem.kind]?.[3] ?? "gateway"),
    kind: problem.kind,
    title: problem.title,
    sentence: problem.detail || problem.title,
    remedy: problem.remedy,
    details: problem.status ? [`HTTP ${problem.status}`] : [],
    code: problem.status,
  };
}
