// One attempt at a console, from link to ending. The page shows what it says and starts another after it.

import { Channel } from "./channel.js";
import { TerminalView, estimateSize } from "./terminal-view.js";
import { VNCView } from "./vnc-view.js";
import { fromClose, fromFrame, own } from "./endings.js";
import { api } from "../shared/api.js";

/**
 * Events (CustomEvent, `detail` in brackets): `stage` (name), `ready` (frame), `view` (the view), `open`,
 * `notice` (frame), `roundtrip` (milliseconds or null), `identity`
 * ({target, console, readOnly, name}), `ended` (ending): once, last.
 */
export class Session extends EventTarget {
  #channel;
  #container;
  #early = [];
  #ending = null;
  #over = false;
  view = null;
  ready = null;

  constructor(token, container) {
    super();
    this.#container = container;
    const channel = new Channel(token, estimateSize(container));
    this.#channel = channel;
    const on = (name, run) => channel.addEventListener(name, ({ detail }) => run(detail));
    on("stage", (frame) => {
      this.#identify(frame);
      this.#emit("stage", String(frame.stage));
    });
    on("ready", (frame) => this.#becomeReady(frame));
    on("bytes", (bytes) => (this.view ? this.view.receive(bytes) : this.#early.push(bytes)));
    on("notice", (frame) => this.#emit("notice", frame));
    on("roundtrip", (time) => this.#emit("roundtrip", time));
    on("ended", (frame) => {
      this.#identify(frame);
      this.#ending ??= fromFrame(frame);
    });
    on("closed", (close) => this.#closed(close));
  }

  get bytesReceived() {
    return this.#channel.received;
  }

  #emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  /** Any frame may say which console this is: with that, a console that never opened can be tried again. */
  #identify({ target, console, readOnly, name }) {
    if (typeof target === "string" && target !== "") this.#emit("identity", { target, console, readOnly, name });
  }

  async #becomeReady(frame) {
    this.ready = { target: "", console: "terminal", readOnly: false, ...frame };
    this.#identify(this.ready);
    this.#emit("ready", this.ready);
    const readOnly = this.ready.readOnly === true;
    const Kind = this.ready.console === "vnc" ? VNCView : TerminalView;
    try {
      if (Kind === VNCView) this.#emit("stage", "screen");
      const view = await Kind.open(this.#container, this.#channel, { readOnly });
      if (this.#over) {
        view.stop();
        view.dispose();
        return;
      }
      this.view = view;
      if (Kind === VNCView) {
        view.addEventListener("connected", () => this.#emit("open"));
        view.addEventListener("failed", ({ detail }) => this.#giveUp(own("page-failed", detail, "Reconnect; if it happens again, tell whoever runs this gateway.")));
      }
      this.#emit("view", view);
      for (const bytes of this.#early.splice(0)) view.receive(bytes);
      if (Kind === TerminalView) {
        view.focus();
        this.#emit("open");
      }
    } catch (error) {
      this.#giveUp(own("page-failed", `A part of this page could not be loaded or started: ${error.message}.`, "Reload the page. If it stays so, the gateway’s web assets are incomplete (make deps).", [String(error)]));
    }
  }

  #giveUp(ending) {
    this.#ending ??= ending;
    this.#channel.close();
  }

  async #closed({ code, reason, opened }) {
    if (this.#over) return;
    this.#over = true;
    this.view?.stop(code, reason);
    if (!this.#ending) {
      const alive = code >= 4000 ? true : await api.alive();
      this.#ending = fromClose({ code, reason, opened, alive, online: navigator.onLine });
    }
    this.#emit("ended", this.#ending);
  }

  /** The person closes the console. */
  close() {
    this.#giveUp(own("viewer-left", "You closed this console."));
  }

  /** Takes the view off the page. No event follows. */
  discard() {
    this.#over = true;
    this.#channel.close();
    this.view?.stop();
    this.view?.dispose();
  }
}
