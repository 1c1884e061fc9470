// The websocket to the gateway, as the viewer protocol has it: an `open` message, progress as JSON text, then
// console bytes as binary. Gives out events and never shows anything itself.

import { viewerURL } from "../shared/place.js";

const PROTOCOL = "sallyport.v1";
/** Longer input goes out in pieces: the gateway bounds a viewer's frame. */
const PIECE = 16 * 1024;
/** With more than this waiting in the browser, further pieces wait here, so that a paste can't hide a Ctrl-C for long. */
const WAITING = 256 * 1024;
const PING_EVERY = 2000;
/** The websocket must be up by then. */
const OPEN_WITHIN = 20_000;
/** After its `ended` the gateway closes; one that doesn't is left. */
const CLOSE_WITHIN = 3000;

/**
 * Events (CustomEvent, `detail` in brackets): `stage` (frame), `ready` (frame), `bytes` (Uint8Array), `notice`
 * (frame), `roundtrip` (milliseconds, or null where an answer is overdue), `ended` (frame), `closed`
 * ({code, reason, opened}): the last one, always.
 */
export class Channel extends EventTarget {
  #socket;
  #opened = false;
  #ready = false;
  #queue = [];
  #queueTimer = 0;
  #pingTimer = 0;
  #pingId = 0;
  #pings = new Map();
  #received = 0;
  #acknowledged = 0;
  #consumed = 0;
  #ackTimer = 0;
  #deadline = 0;

  /** Connects and presents the link. `size`: a terminal's columns and rows. */
  constructor(token, size) {
    super();
    const socket = new WebSocket(viewerURL(), PROTOCOL);
    this.#socket = socket;
    socket.binaryType = "arraybuffer";
    this.#deadline = setTimeout(() => socket.close(), OPEN_WITHIN);
    socket.onopen = () => {
      clearTimeout(this.#deadline);
      this.#opened = true;
      this.#text({ type: "open", token, columns: size.columns, rows: size.rows, acks: true, notices: true });
    };
    socket.onmessage = ({ data }) => {
      if (typeof data === "string") this.#frame(data);
      else this.#bytes(new Uint8Array(data));
    };
    socket.onclose = ({ code, reason }) => {
      this.#stop();
      this.#emit("closed", { code, reason, opened: this.#opened });
    };
  }

  get received() {
    return this.#received;
  }

  #emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  #frame(data) {
    let frame;
    try {
      frame = JSON.parse(data);
    } catch {
      return;
    }
    switch (frame?.type) {
      case "stage":
        this.#emit("stage", frame);
        break;
      case "ready":
        this.#ready = true;
        this.#pingTimer = setInterval(() => this.#ping(), PING_EVERY);
        this.#emit("ready", frame);
        this.#ping();
        break;
      case "pong":
        this.#pong(frame.id);
        break;
      case "notice":
        this.#emit("notice", frame);
        break;
      case "ended":
        this.#emit("ended", frame);
        this.#deadline = setTimeout(() => this.#socket.close(), CLOSE_WITHIN);
        break;
      default:
        // A later gateway may say more; what isn't understood is not an error.
        break;
    }
  }

  #bytes(bytes) {
    if (!this.#ready) return;
    this.#received += bytes.length;
    this.#emit("bytes", bytes);
  }

  #text(message) {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  /** Sends console bytes: RFB or terminal input. In order, in bounded pieces. */
  send(bytes) {
    if (!this.#ready || bytes.length === 0) return;
    for (let at = 0; at < bytes.length; at += PIECE) {
      // Copied: noVNC reuses its buffer as soon as this returns.
      this.#queue.push(bytes.slice(at, at + PIECE));
    }
    this.#flush();
  }

  #flush() {
    clearTimeout(this.#queueTimer);
    const socket = this.#socket;
    if (socket.readyState !== WebSocket.OPEN) {
      this.#queue.length = 0;
      return;
    }
    while (this.#queue.length > 0 && socket.bufferedAmount < WAITING) socket.send(this.#queue.shift());
    if (this.#queue.length > 0) this.#queueTimer = setTimeout(() => this.#flush(), 10);
  }

  /** Bytes that wait on this side. */
  get pending() {
    return this.#queue.reduce((sum, piece) => sum + piece.length, this.#socket.bufferedAmount);
  }

  resize(columns, rows) {
    if (this.#ready) this.#text({ type: "resize", columns, rows });
  }

  /** The terminal has drawn `count` more bytes. Told to the gateway as a running total, in batches. */
  consumed(count) {
    this.#consumed += count;
    if (this.#consumed - this.#acknowledged >= 16 * 1024) this.#acknowledge();
    else if (this.#ackTimer === 0) this.#ackTimer = setTimeout(() => this.#acknowledge(), 40);
  }

  #acknowledge() {
    clearTimeout(this.#ackTimer);
    this.#ackTimer = 0;
    if (this.#consumed === this.#acknowledged) return;
    this.#acknowledged = this.#consumed;
    this.#text({ type: "ack", bytes: this.#consumed });
  }

  #ping() {
    const now = performance.now();
    const oldest = this.#pings.values().next().value;
    if (oldest !== undefined && now - oldest > 3 * PING_EVERY) this.#emit("roundtrip", null);
    if (this.#pings.size >= 8) return;
    this.#pingId += 1;
    this.#pings.set(this.#pingId, now);
    this.#text({ type: "ping", id: this.#pingId });
  }

  #pong(id) {
    const sent = this.#pings.get(id);
    if (sent === undefined) return;
    for (const earlier of [...this.#pings.keys()]) if (earlier <= id) this.#pings.delete(earlier);
    this.#emit("roundtrip", performance.now() - sent);
  }

  #stop() {
    clearTimeout(this.#deadline);
    clearInterval(this.#pingTimer);
    clearTimeout(this.#ackTimer);
    clearTimeout(this.#queueTimer);
    this.#queue.length = 0;
  }

  close() {
    this.#stop();
    this.#socket.close(1000, "viewer closed the console");
  }
}
