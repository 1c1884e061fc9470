// The console page: gets a link, runs a session, and shows what it says.

import { $, h, setText } from "../shared/dom.js";
import { fillIcons, icon, logo } from "../shared/icons.js";
import { setUpThemeButton } from "../shared/theme-button.js";
import { api, Problem } from "../shared/api.js";
import { apiKey, forgetAPIKey, setAPIKey } from "../shared/key.js";
import { problemNotice, toast } from "../shared/notice.js";
import { consoleName, duration } from "../shared/format.js";
import { local } from "../shared/storage.js";
import { fitVisibleArea } from "./visible-area.js";
import { rememberRequest, takeRequest, wasReloaded } from "./request.js";
import { Session } from "./session.js";
import { fromProblem, look, own } from "./endings.js";
import { hideCover, showEnding, showStage } from "./cover.js";
import { tellParent } from "./parent.js";
import { setUpToolbar } from "./toolbar.js";

const elements = {
  body: document.body,
  container: $("#console"),
  cover: $("#cover"),
  name: $("#name"),
  place: $("#place"),
  state: $("#state"),
  roundtrip: $("#roundtrip"),
  readOnly: $("#read-only"),
  toasts: $("#toasts"),
};

// The list opened this tab as its child for the sake of the key; nothing else is wanted of it.
window.opener = null;

let request = takeRequest();
let session = null;
let phase = "starting";
let stage = "";
let ending = null;
let roundTrip = null;
let created = null;
/** Counts the attempts: whatever comes late from an earlier one is dropped. */
let attempt = 0;

$("#home").append(logo(26));
fillIcons();
fitVisibleArea();
setUpThemeButton($("#theme"));
const toolbar = setUpToolbar({
  view: () => session?.view ?? null,
  isOpen: () => phase === "open",
  canReconnect,
  reconnect: begin,
  close: () => session?.close(),
});

function canReconnect() {
  return Boolean(request.open && apiKey());
}

const STATES = {
  starting: ["Starting", ""],
  connecting: ["Connecting", "fair"],
  open: ["Connected", "good"],
  ended: ["Ended", "poor"],
};

function setPhase(next) {
  phase = next;
  elements.body.dataset.phase = next;
  const [text, tone] = STATES[next];
  elements.state.className = `badge ${tone}`;
  elements.state.querySelector(".dot").className = `dot ${tone}`;
  setText(elements.state.querySelector("span"), text);
  toolbar.update();
}

function setStage(next) {
  stage = next;
  showStage(elements.cover, next);
}

function showIdentity() {
  const ready = session?.ready;
  const asked = request.open;
  const target = ready?.target ?? asked?.target ?? "";
  const kind = target.split(":").pop().split("/")[0];
  const name = ready?.name || request.name || target || "Console";
  const which = ready?.console ?? asked?.console;
  setText(elements.name, name);
  setText(elements.place, [
    target && target !== name ? target : "",
    ready?.node && kind !== "node" ? ready.node : "",
    which ? consoleName(which, kind) : "",
  ].filter(Boolean).join(" · "));
  elements.readOnly.hidden = ready?.readOnly !== true;
  document.title = `${phase === "ended" ? "⏹ " : ""}${name}${which ? ` · ${consoleName(which, kind)}` : ""} – Sallyport`;
}

/** The one-time token: from the link that opened the page, else asked for with this tab's key. */
async function takeToken() {
  const { token } = request;
  if (token) {
    request.token = null;
    return token;
  }
  if (!request.open) {
    throw wasReloaded()
      ? own("link-spent", "A console link works once, and this page has used it.", "Ask for a new link where you got this one.")
      : own("link-missing", "This address holds no console link.", "Open a console from the list, or ask for a link.");
  }
  if (!apiKey()) throw own("link-missing", "This tab has no API key to ask for a new link with.", "Enter an API key, or ask for a new link.");
  setStage("link");
  try {
    created = await api.createConsole(request.open);
    return created.token;
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    if (problem.status === 401) forgetAPIKey();
    throw fromProblem(problem);
  }
}

async function begin() {
  attempt += 1;
  const mine = attempt;
  session?.discard();
  session = null;
  ending = null;
  created = null;
  stage = "";
  showRoundTrip(undefined);
  elements.container.replaceChildren();
  elements.toasts.replaceChildren();
  setPhase("connecting");
  showIdentity();
  let token;
  try {
    token = await takeToken();
  } catch (reason) {
    if (mine === attempt) end(reason.kind ? reason : own("page-failed", String(reason)));
    return;
  }
  if (mine !== attempt) return;
  setStage("gateway");
  run(new Session(token, elements.container));
}

function run(now) {
  session = now;
  const on = (name, handle) => now.addEventListener(name, ({ detail }) => {
    if (session === now) handle(detail);
  });
  on("stage", setStage);
  on("identity", ({ target, console, readOnly, name }) => {
    request.open ??= { target, console, readOnly: readOnly === true ? true : undefined };
    request.name = name || request.name;
    if (apiKey()) rememberRequest(request);
    showIdentity();
  });
  on("view", (view) => {
    toolbar.attach(view);
    view.addEventListener("left", ({ detail }) => session === now && showLeft(detail));
  });
  on("open", () => {
    setPhase("open");
    hideCover(elements.cover);
    now.view.focus();
    const { session: id, target, console, node, readOnly } = now.ready;
    tellParent("open", { session: id, target, console, node, readOnly });
  });
  on("notice", warn);
  on("roundtrip", showRoundTrip);
  on("ended", end);
}

function warn(notice) {
  const time = duration(notice.seconds) || "a moment";
  const says = {
    "idle-warning": ["No activity", `This console closes in ${time} unless you use it.`],
    "max-duration-warning": ["Time limit", `This console closes in ${time}.`],
  }[notice.kind];
  if (!says) return;
  toast(elements.toasts, problemNotice({ kind: notice.kind, title: says[0], detail: says[1] }, { mild: true, testid: "notice" }));
}

/** A hint, not an ending: only a node's shell is gone for good when it was left. */
function showLeft(left) {
  elements.toasts.querySelector('[data-testid="shell-left"]')?.remove();
  if (!left || !(session?.ready?.target ?? "").includes("node/")) return;
  const again = canReconnect() ? [h("button", { type: "button", class: "button", onclick: begin }, icon("refresh", 16), "Reconnect")] : [];
  toast(elements.toasts, problemNotice({
    kind: "shell-left",
    title: "The shell seems to have ended",
    detail: "Proxmox VE keeps the connection open after it, so nothing more will come.",
    remedy: canReconnect() ? "" : "Ask for a new link to start another one.",
  }, { mild: true, testid: "shell-left", symbol: "power", actions: again }), Infinity);
}

function end(reason) {
  ending = reason;
  setPhase("ended");
  elements.toasts.replaceChildren();
  const tone = { calm: "", warn: "fair", bad: "poor" }[look(reason).tone];
  elements.state.className = `badge ${tone}`;
  elements.state.querySelector(".dot").className = `dot ${tone}`;
  showIdentity();
  showRoundTrip(undefined);
  toolbar.ended();
  const hasKey = Boolean(apiKey());
  const linkGone = !canReconnect() && reason.kind.startsWith("link-");
  if (!canReconnect() && !linkGone && !reason.remedy) reason.remedy = "Ask for a new link to open it again: a link works once.";
  showEnding(elements.cover, reason, stage, {
    reconnect: canReconnect() ? begin : null,
    hide: session?.view?.kind === "terminal" || session?.view?.still ? () => hideCover(elements.cover) : null,
    home: hasKey && !request.embed ? "./" : null,
    keyForm: request.open && !hasKey && !request.embed ? keyForm() : null,
  });
  tellParent("ended", { hop: reason.hop, kind: reason.kind, sentence: reason.sentence, remedy: reason.remedy, code: reason.code });
}

function keyForm() {
  const input = h("input", { class: "input", type: "password", autocomplete: "off", "aria-label": "API key", placeholder: "API key", required: true, data: { testid: "api-key" } });
  return h(
    "form",
    {
      class: "key-form",
      onsubmit: (event) => {
        event.preventDefault();
        setAPIKey(input.value.trim());
        begin();
      },
    },
    input,
    h("button", { class: "button", type: "submit" }, icon("key", 16), "Use key"),
  );
}

function showRoundTrip(time) {
  roundTrip = time ?? null;
  elements.roundtrip.hidden = time === undefined;
  if (time === undefined) return;
  const tone = time === null ? "lost" : time < 80 ? "good" : time < 250 ? "fair" : "poor";
  elements.roundtrip.dataset.tone = tone;
  setText(elements.roundtrip.querySelector("span"), time === null ? "no answer" : `${time < 1 ? "<1" : Math.round(time)} ms`);
}

window.addEventListener("hashchange", () => {
  const next = takeRequest();
  if (!next.token && !next.open) return;
  request = next;
  begin();
});
elements.container.addEventListener("pointerup", () => session?.view?.focus());

/** For tests and for the curious; holds no secret. */
window.sallyport = {
  get phase() { return phase; },
  get stage() { return stage; },
  get ending() { return ending; },
  get ready() { return session?.ready ?? null; },
  get view() { return session?.view ?? null; },
  get terminal() { return session?.view?.terminal ?? null; },
  get rfb() { return session?.view?.rfb ?? null; },
  get roundTrip() { return roundTrip; },
  get bytesReceived() { return session?.bytesReceived ?? 0; },
  /** The control plane's id of the console, where this page asked for the link. */
  get id() { return created?.id ?? session?.ready?.session ?? null; },
  text: () => session?.view?.text?.() ?? "",
  look: () => (ending ? look(ending) : null),
};

elements.body.toggleAttribute("data-embed", request.embed);
toolbar.showKeyRow(local.get("key-row") ?? (matchMedia("(pointer: coarse)").matches ? "yes" : "no"));
begin();
