// A screen: noVNC on our channel, and what the page adds to it (scaling, combinations, typing, held keys).

import { at } from "../shared/place.js";
import { local } from "../shared/storage.js";
import { KEYS } from "./keys.js";
import { strokes } from "./layouts.js";
import { RFBChannel } from "./rfb-channel.js";
import { typeStrokes } from "./typist.js";

export const SCALINGS = [
  ["fit", "Fit to window"],
  ["native", "Original size"],
  ["remote", "Resize the guest’s screen"],
];

const touch = matchMedia("(pointer: coarse)");

/** Events: `clipboard` (text), `size` ({width, height}), `connected`, `failed` (sentence), `modifiers`, `bell`. */
export class VNCView extends EventTarget {
  kind = "vnc";
  #channel;
  #wire;
  #keysymOf;
  #stopped = false;

  static async open(container, channel, { readOnly }) {
    const [{ default: RFB }, { default: keysymdef }] = await Promise.all([
      import(at("vendor/novnc/core/rfb.js")),
      import(at("vendor/novnc/core/input/keysymdef.js")),
    ]);
    return new VNCView(container, channel, readOnly, RFB, (point) => keysymdef.lookup(point));
  }

  constructor(container, channel, readOnly, RFB, keysymOf) {
    super();
    this.readOnly = readOnly;
    this.container = container;
    this.latched = { control: false, alt: false, shift: false, super: false };
    this.connected = false;
    this.#channel = channel;
    this.#keysymOf = keysymOf;
    this.#wire = new RFBChannel(channel);
    const rfb = new RFB(container, this.#wire, { shared: true });
    this.rfb = rfb;
    rfb.background = "transparent";
    rfb.viewOnly = readOnly;
    rfb.showDotCursor = true;
    rfb.qualityLevel = 7;
    this.setScaling(local.get("scaling") ?? "fit");
    rfb.addEventListener("connect", () => {
      this.connected = true;
      this.dispatchEvent(new CustomEvent("connected"));
      this.focus();
    });
    rfb.addEventListener("disconnect", ({ detail }) => {
      this.connected = false;
      if (!this.#stopped && !detail.clean) this.#fail("noVNC could not go on with what the console sent.");
    });
    rfb.addEventListener("securityfailure", ({ detail }) => this.#fail(`The console refused: ${detail.reason ?? `status ${detail.status}`}.`));
    rfb.addEventListener("credentialsrequired", () => this.#fail("The console asked for a password, which the gateway should have given."));
    rfb.addEventListener("clipboard", ({ detail }) => this.dispatchEvent(new CustomEvent("clipboard", { detail: detail.text })));
    rfb.addEventListener("bell", () => this.dispatchEvent(new CustomEvent("bell")));
    this.#wire.attached();
  }

  #fail(sentence) {
    if (this.#stopped) return;
    this.dispatchEvent(new CustomEvent("failed", { detail: sentence }));
  }

  receive(bytes) {
    this.#wire.receive(bytes);
  }

  get canvas() {
    return this.container.querySelector("canvas");
  }

  setScaling(mode) {
    const known = SCALINGS.some(([value]) => value === mode) ? mode : "fit";
    this.scaling = known;
    local.set("scaling", known);
    this.rfb.scaleViewport = known !== "native";
    this.rfb.resizeSession = known === "remote" && !this.readOnly;
    // A finger can't use scroll bars, since its touches go to the guest: the view is clipped and dragged instead.
    this.rfb.clipViewport = known === "native" && touch.matches;
    if (known !== "native") this.rfb.dragViewport = false;
    this.dispatchEvent(new CustomEvent("modifiers"));
  }

  /** Whether the next drag moves the view and not the guest's pointer; only in the original size by touch. */
  togglePan() {
    this.rfb.dragViewport = !this.rfb.dragViewport;
    this.dispatchEvent(new CustomEvent("modifiers"));
  }

  /** Presses the named keys together. */
  press(names) {
    const keys = names.map((name) => KEYS[name]).filter(Boolean);
    for (const [keysym, code] of keys) this.rfb.sendKey(keysym, code, true);
    for (const [keysym, code] of keys.reverse()) this.rfb.sendKey(keysym, code, false);
    this.focus();
  }

  sendKey(name) {
    if (KEYS[name]) this.press([name]);
    else this.typeCharacter(name);
  }

  /** One character now, e.g. from a phone's keyboard. */
  typeCharacter(character) {
    for (const events of strokes(character, local.get("layout") ?? "us", this.#keysymOf).strokes) {
      for (const [keysym, code, down] of events) this.rfb.sendKey(keysym, code, down);
    }
  }

  /** Holds a modifier down until the next call lets it go. */
  toggleModifier(name) {
    const key = { control: "Control", alt: "Alt", shift: "Shift", super: "Super" }[name];
    if (!key || this.readOnly) return;
    this.latched[name] = !this.latched[name];
    this.rfb.sendKey(...KEYS[key], this.latched[name]);
    this.dispatchEvent(new CustomEvent("modifiers"));
    this.focus();
  }

  /** How many characters of `text` the keyboard `layout` lacks. */
  missing(text, layout) {
    return strokes(text, layout, this.#keysymOf).missing;
  }

  /** Types `text`; see `typeStrokes`. */
  type(text, { layout, rate, signal, progress }) {
    const all = strokes(text, layout, this.#keysymOf).strokes;
    return typeStrokes(all, {
      rate,
      signal,
      progress: (done) => progress(done, all.length),
      pending: () => this.#channel.pending,
      sendKey: (keysym, code, down) => this.rfb.sendKey(keysym, code, down),
    });
  }

  /** Puts text on the guest's clipboard, where its VNC server has one. */
  offerClipboard(text) {
    this.rfb.clipboardPasteFrom(text);
  }

  focus() {
    // Taking the focus from the field behind a phone's keyboard would hide that keyboard.
    if (document.activeElement?.dataset?.softKeyboard !== undefined) return;
    this.rfb.focus({ preventScroll: true });
  }

  /** The websocket is gone. The last picture stays as a still. */
  stop(code = 1000, reason = "") {
    if (this.#stopped) return;
    this.#stopped = true;
    const canvas = this.canvas;
    if (canvas && canvas.width > 0) {
      const still = document.createElement("canvas");
      still.width = canvas.width;
      still.height = canvas.height;
      still.className = "still";
      still.getContext("2d").drawImage(canvas, 0, 0);
      this.still = still;
    }
    this.#wire.closed(code, reason);
    if (this.still) this.container.append(this.still);
  }

  dispose() {
    this.still?.remove();
  }
}
