// What noVNC takes for its websocket: the console bytes of our channel and nothing else of it.

/**
 * noVNC looks for these very properties on the object it is given (`core/websock.js`), so they are plain
 * fields. Bytes that come before noVNC is attached wait here.
 */
export class RFBChannel {
  #channel;
  #early = [];
  #attached = false;

  constructor(channel) {
    this.#channel = channel;
    this.binaryType = "arraybuffer";
    this.protocol = "binary";
    this.readyState = "open";
    this.onopen = null;
    this.onmessage = null;
    this.onclose = null;
    this.onerror = null;
    this.send = (data) => this.#channel.send(data instanceof Uint8Array ? data : new Uint8Array(data));
    this.close = () => {
      if (this.readyState !== "open") return;
      this.readyState = "closing";
      this.#channel.close();
    };
  }

  receive(bytes) {
    if (!this.#attached) {
      this.#early.push(bytes);
      return;
    }
    this.onmessage?.({ data: bytes });
  }

  /** noVNC has its handlers in place. */
  attached() {
    this.#attached = true;
    for (const bytes of this.#early.splice(0)) this.onmessage?.({ data: bytes });
  }

  /** The websocket is gone. */
  closed(code, reason) {
    if (this.readyState === "closed") return;
    this.readyState = "closed";
    this.onclose?.({ code, reason });
  }
}
