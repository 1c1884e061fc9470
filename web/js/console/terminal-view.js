// A terminal: xterm.js with its add-ons, the gateway's credit, and keys from the extra row.

import { at } from "../shared/place.js";
import { local } from "../shared/storage.js";
import { onThemeChange, themeShown } from "../shared/theme.js";

const SIZES = [9, 10, 11, 12, 13, 14, 15, 16, 18, 20, 22, 24, 28, 32];
const FONT = 'ui-monospace, "SF Mono", "Cascadia Mono", "JetBrains Mono", Menlo, Consolas, "Liberation Mono", "DejaVu Sans Mono", monospace';
const LINE_HEIGHT = 1.15;

const THEMES = {
  dark: {
    background: "#0b0e14", foreground: "#dfe3ec", cursor: "#ffc857", cursorAccent: "#0b0e14", selectionBackground: "#33508f",
    black: "#1c212d", red: "#ff7b84", green: "#6bd498", yellow: "#f0c264", blue: "#82a8ff", magenta: "#d59bf6", cyan: "#62d4dc", white: "#d5dae6",
    brightBlack: "#6f7991", brightRed: "#ffa0a6", brightGreen: "#95e8b6", brightYellow: "#ffdc8f", brightBlue: "#adc6ff", brightMagenta: "#e8c0ff", brightCyan: "#95ebf0", brightWhite: "#ffffff",
  },
  light: {
    background: "#fdfdfe", foreground: "#1b2030", cursor: "#2550c4", cursorAccent: "#ffffff", selectionBackground: "#bcd0fb",
    black: "#1b2030", red: "#b3202c", green: "#12703f", yellow: "#855000", blue: "#2148b8", magenta: "#8230a8", cyan: "#0a6a75", white: "#565e72",
    brightBlack: "#5d667b", brightRed: "#cc3340", brightGreen: "#178a4f", brightYellow: "#9c6200", brightBlue: "#3a66dd", brightMagenta: "#9c46c4", brightCyan: "#10838f", brightWhite: "#2c3348",
  },
};

let scripts = null;

/** xterm.js and its add-ons are plain scripts that leave a global each. */
function loadScripts() {
  scripts ??= (async () => {
    const style = document.createElement("link");
    style.rel = "stylesheet";
    style.href = at("vendor/xterm/xterm.css");
    document.head.append(style);
    const script = (name) =>
      new Promise((resolve, reject) => {
        const element = document.createElement("script");
        element.src = at(`vendor/xterm/${name}.js`);
        element.async = false;
        element.onload = resolve;
        element.onerror = () => reject(new Error(`vendor/xterm/${name}.js could not be loaded`));
        document.head.append(element);
      });
    await Promise.all(["xterm", "addon-fit", "addon-search", "addon-web-links", "addon-unicode11", "addon-webgl"].map(script));
  })();
  return scripts;
}

function fontSize() {
  const size = Number(local.get("font-size"));
  return SIZES.includes(size) ? size : window.innerWidth < 480 ? 12 : 14;
}

/** About how many characters fit, for the `open` message: known before xterm.js is loaded. */
export function estimateSize(container) {
  const size = fontSize();
  const context = document.createElement("canvas").getContext("2d");
  context.font = `${size}px ${FONT}`;
  const width = context.measureText("W").width || size * 0.6;
  const clamp = (value, low, high) => Math.max(low, Math.min(high, Math.floor(value)));
  return {
    columns: clamp((container.clientWidth - 30) / width, 20, 500),
    rows: clamp((container.clientHeight - 16) / (size * 1.2 * LINE_HEIGHT), 5, 300),
  };
}

/** After this long without output the last line is looked at: see `left`. */
const QUIET = 1500;

/**
 * Events: `clipboard` (text that the guest offers), `title` (text), `modifiers`, `search`, `size`, `left` (true
 * when a shell has said its farewell and nothing came after it; false when something did).
 */
export class TerminalView extends EventTarget {
  kind = "terminal";
  #channel;
  #encoder = new TextEncoder();
  #frame = 0;
  #half = "";
  #quiet = 0;
  #left = false;
  #told = "";

  /** Loads xterm.js and opens it in `container`. */
  static async open(container, channel, { readOnly }) {
    await loadScripts();
    return new TerminalView(container, channel, readOnly);
  }

  constructor(container, channel, readOnly) {
    super();
    this.#channel = channel;
    this.readOnly = readOnly;
    this.latched = { control: false, alt: false };
    this.container = container;
    const terminal = new window.Terminal({
      allowProposedApi: true,
      cursorBlink: !matchMedia("(prefers-reduced-motion: reduce)").matches,
      disableStdin: readOnly,
      fontFamily: FONT,
      fontSize: fontSize(),
      lineHeight: LINE_HEIGHT,
      macOptionIsMeta: true,
      minimumContrastRatio: 4.5,
      rightClickSelectsWord: true,
      screenReaderMode: local.get("screen-reader") === "yes",
      scrollback: 10_000,
      theme: THEMES[themeShown()],
    });
    this.terminal = terminal;
    this.fit = new window.FitAddon.FitAddon();
    this.search = new window.SearchAddon.SearchAddon({ highlightLimit: 2000 });
    terminal.loadAddon(this.fit);
    terminal.loadAddon(this.search);
    terminal.loadAddon(new window.Unicode11Addon.Unicode11Addon());
    terminal.unicode.activeVersion = "11";
    terminal.loadAddon(new window.WebLinksAddon.WebLinksAddon((event, address) => {
      // Text in a terminal is the guest's: only the two harmless schemes, and no way back to this page.
      if (/^https?:\/\//i.test(address)) window.open(address, "_blank", "noopener,noreferrer");
    }));
    terminal.open(container);
    this.#useGraphics();
    terminal.onData((text) => this.#type(text));
    terminal.onBinary((text) => this.#channel.send(Uint8Array.from(text, (c) => c.charCodeAt(0) & 0xff)));
    terminal.onTitleChange((title) => this.dispatchEvent(new CustomEvent("title", { detail: title })));
    terminal.onResize(({ cols, rows }) => this.#tell(cols, rows));
    terminal.onSelectionChange(() => this.#copySelection());
    terminal.parser.registerOscHandler(52, (data) => this.#offered(data));
    terminal.attachCustomKeyEventHandler((event) => this.#key(event));
    this.forgetTheme = onThemeChange((theme) => {
      terminal.options.theme = THEMES[theme];
    });
    this.observer = new ResizeObserver(() => this.refit());
    this.observer.observe(container);
    this.fit.fit();
    this.#tell(terminal.cols, terminal.rows);
  }

  /**
   * WebGL where it pays; xterm.js draws with the DOM otherwise, and after the context was lost. Phones and
   * tablets take WebGL contexts away at will and have small screens: there the DOM is the better choice.
   */
  #useGraphics() {
    this.renderer = "dom";
    if (matchMedia("(pointer: coarse)").matches) return;
    try {
      const webgl = new window.WebglAddon.WebglAddon();
      webgl.onContextLoss(() => webgl.dispose());
      this.terminal.loadAddon(webgl);
      this.renderer = "webgl";
    } catch {
      // No WebGL here.
    }
  }

  receive(bytes) {
    // The callback comes once the bytes were parsed and taken into the screen: only then are they consumed.
    this.terminal.write(bytes, () => this.#channel.consumed(bytes.length));
    if (this.#left) this.#setLeft(false);
    clearTimeout(this.#quiet);
    this.#quiet = setTimeout(() => this.#look(), QUIET);
  }

  /**
   * Proxmox VE 9 doesn't tell when a shell ends: the connection stays open and nothing comes any more. What can
   * be seen is bash's own last word, alone on its line, with the cursor on the empty line after it.
   */
  #look() {
    const buffer = this.terminal.buffer.active;
    if (buffer.type !== "normal" || buffer.cursorX !== 0) return;
    const line = buffer.getLine(buffer.baseY + buffer.cursorY - 1)?.translateToString(true).trim();
    if (line === "exit" || line === "logout") this.#setLeft(true);
  }

  #setLeft(left) {
    this.#left = left;
    this.dispatchEvent(new CustomEvent("left", { detail: left }));
  }

  #type(text) {
    // A character beyond the first plane may come in two halves; half of one is no character yet.
    let out = this.#half + text;
    this.#half = "";
    if (/[\ud800-\udbff]$/.test(out)) {
      this.#half = out.slice(-1);
      out = out.slice(0, -1);
      if (out === "") return;
    }
    if (this.latched.control && text.length === 1) {
      const code = text.toUpperCase().charCodeAt(0);
      if (code >= 0x40 && code <= 0x5f) out = String.fromCharCode(code & 0x1f);
      else if (text === " ") out = "\0";
    }
    if (this.latched.alt) out = `\x1b${out}`;
    this.#release();
    this.#channel.send(this.#encoder.encode(out));
  }

  /** A key of the extra row: typed as the terminal would type it in its present modes. */
  sendKey(name) {
    if (this.readOnly) return;
    const sequence = this.#sequence(name);
    if (sequence !== null) this.#type(sequence);
    this.focus();
  }

  #sequence(name) {
    const application = this.terminal.modes.applicationCursorKeysMode;
    const modifier = 1 + (this.latched.alt ? 2 : 0) + (this.latched.control ? 4 : 0);
    const cursor = { ArrowUp: "A", ArrowDown: "B", ArrowRight: "C", ArrowLeft: "D", Home: "H", End: "F" }[name];
    if (cursor) {
      if (modifier > 1) {
        this.#release();
        return `\x1b[1;${modifier}${cursor}`;
      }
      return `\x1b${application ? "O" : "["}${cursor}`;
    }
    const tilde = { Insert: 2, Delete: 3, PageUp: 5, PageDown: 6, F5: 15, F6: 17, F7: 18, F8: 19, F9: 20, F10: 21, F11: 23, F12: 24 }[name];
    if (tilde) return `\x1b[${tilde}~`;
    const simple = { Escape: "\x1b", Tab: "\t", Enter: "\r", F1: "\x1bOP", F2: "\x1bOQ", F3: "\x1bOR", F4: "\x1bOS" }[name];
    return simple ?? (name.length === 1 ? name : null);
  }

  /** Holds or lets go Ctrl or Alt for the next key. */
  toggleModifier(name) {
    if (!(name in this.latched)) return;
    this.latched[name] = !this.latched[name];
    this.dispatchEvent(new CustomEvent("modifiers"));
    this.focus();
  }

  #release() {
    if (!this.latched.control && !this.latched.alt) return;
    this.latched = { control: false, alt: false };
    this.dispatchEvent(new CustomEvent("modifiers"));
  }

  #key(event) {
    if (event.type !== "keydown") return true;
    const key = event.key.toLowerCase();
    const copyKeys = (event.ctrlKey && event.shiftKey) || (event.metaKey && !event.ctrlKey);
    if (copyKeys && key === "c" && this.terminal.hasSelection()) {
      event.preventDefault();
      navigator.clipboard?.writeText(this.terminal.getSelection()).catch(() => {});
      return false;
    }
    if (copyKeys && key === "v") return false; // The browser's own paste event follows.
    if (copyKeys && key === "f") {
      event.preventDefault();
      this.dispatchEvent(new CustomEvent("search"));
      return false;
    }
    return true;
  }

  #copySelection() {
    if (local.get("copy-on-select") !== "yes") return;
    const text = this.terminal.getSelection();
    if (text) navigator.clipboard?.writeText(text).catch(() => {});
  }

  /** OSC 52: a program in the guest offers text to copy. It is shown, never copied behind somebody's back; reading is refused. */
  #offered(data) {
    const content = data.slice(data.indexOf(";") + 1);
    if (content === "?" || content.length > 1_400_000) return true;
    try {
      const raw = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
      this.dispatchEvent(new CustomEvent("clipboard", { detail: new TextDecoder().decode(raw) }));
    } catch {
      // Not base64: nothing was offered.
    }
    return true;
  }

  /** Pastes as the terminal does it: bracketed where the program asked for that. */
  paste(text) {
    if (!this.readOnly) this.terminal.paste(text);
    this.focus();
  }

  selection() {
    return this.terminal.getSelection();
  }

  changeFont(step) {
    const index = SIZES.indexOf(this.terminal.options.fontSize);
    const size = SIZES[Math.max(0, Math.min(SIZES.length - 1, (index < 0 ? 5 : index) + step))];
    this.terminal.options.fontSize = size;
    local.set("font-size", String(size));
    this.refit();
    return size;
  }

  /** Reads new output out to screen readers; costs time per line, so it is asked for. */
  toggleScreenReader() {
    const on = !this.terminal.options.screenReaderMode;
    this.terminal.options.screenReaderMode = on;
    local.set("screen-reader", on ? "yes" : null);
    return on;
  }

  refit() {
    if (this.#frame !== 0) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      if (this.container.clientWidth > 40 && this.container.clientHeight > 20) this.fit.fit();
    });
  }

  #tell(columns, rows) {
    const size = `${columns}x${rows}`;
    if (size === this.#told) return;
    this.#told = size;
    this.#channel.resize(columns, rows);
    this.dispatchEvent(new CustomEvent("size", { detail: { columns, rows } }));
  }

  /** The whole buffer as text, for search tests and for copying everything. */
  text() {
    const buffer = this.terminal.buffer.active;
    const lines = [];
    for (let index = 0; index < buffer.length; index += 1) {
      const line = buffer.getLine(index);
      if (!line) continue;
      const text = line.translateToString(true);
      if (line.isWrapped && lines.length > 0) lines[lines.length - 1] += text;
      else lines.push(text);
    }
    return lines.join("\n").trimEnd();
  }

  focus() {
    this.terminal.focus();
  }

  /** The websocket is gone: what is on the screen stays readable. */
  stop() {
    clearTimeout(this.#quiet);
    this.terminal.options.disableStdin = true;
    this.terminal.options.cursorBlink = false;
    this.#release();
  }

  dispose() {
    this.forgetTheme();
    this.observer.disconnect();
    this.terminal.dispose();
  }
}
