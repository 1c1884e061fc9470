// Which keys type a character on the guest's keyboard. A graphical console takes keys, not characters: QEMU
// presses the key that a keysym stands for and leaves Shift to us.

const CODES = [
  "Backquote Digit1 Digit2 Digit3 Digit4 Digit5 Digit6 Digit7 Digit8 Digit9 Digit0 Minus Equal",
  "KeyQ KeyW KeyE KeyR KeyT KeyY KeyU KeyI KeyO KeyP BracketLeft BracketRight",
  "KeyA KeyS KeyD KeyF KeyG KeyH KeyJ KeyK KeyL Semicolon Quote Backslash",
  "IntlBackslash KeyZ KeyX KeyC KeyV KeyB KeyN KeyM Comma Period Slash",
].map((row) => row.split(" "));

// Rows as above, without and with Shift; a space where a key types nothing. `altgr`: character → key.
// `dead`: characters whose key waits for the next one; a space after it makes it appear.
const LAYOUTS = {
  us: {
    name: "US English",
    plain: ["`1234567890-=", "qwertyuiop[]", "asdfghjkl;'\\", " zxcvbnm,./"],
    shift: ["~!@#$%^&*()_+", "QWERTYUIOP{}", "ASDFGHJKL:\"|", " ZXCVBNM<>?"],
    altgr: {},
    dead: "",
  },
  gb: {
    name: "British English",
    plain: ["`1234567890-=", "qwertyuiop[]", "asdfghjkl;'#", "\\zxcvbnm,./"],
    shift: ["¬!\"£$%^&*()_+", "QWERTYUIOP{}", "ASDFGHJKL:@~", "|ZXCVBNM<>?"],
    altgr: { "€": "Digit4" },
    dead: "",
  },
  de: {
    name: "German",
    plain: ["^1234567890ß´", "qwertzuiopü+", "asdfghjklöä#", "<yxcvbnm,.-"],
    shift: ["°!\"§$%&/()=?`", "QWERTZUIOPÜ*", "ASDFGHJKLÖÄ'", ">YXCVBNM;:_"],
    altgr: {
      "²": "Digit2", "³": "Digit3", "{": "Digit7", "[": "Digit8", "]": "Digit9", "}": "Digit0", "\\": "Minus",
      "@": "KeyQ", "€": "KeyE", "~": "BracketRight", "|": "IntlBackslash", "µ": "KeyM",
    },
    dead: "^´`",
  },
  fr: {
    name: "French",
    plain: ["²&é\"'(-è_çà)=", "azertyuiop $", "qsdfghjklmù*", "<wxcvbn,;:!"],
    shift: [" 1234567890°+", "AZERTYUIOP £", "QSDFGHJKLM%µ", ">WXCVBN?./§"],
    altgr: {
      "~": "Digit2", "#": "Digit3", "{": "Digit4", "[": "Digit5", "|": "Digit6", "`": "Digit7", "\\": "Digit8",
      "^": "Digit9", "@": "Digit0", "]": "Minus", "}": "Equal", "€": "KeyE",
    },
    dead: "",
  },
};

export const layoutNames = Object.entries(LAYOUTS).map(([id, { name }]) => [id, name]);

const SHIFT = [0xffe1, "ShiftLeft"];
const ALTGR = [0xfe03, "AltRight"];
const SPACE = [0x20, "Space"];
const CONTROL = { "\n": [0xff0d, "Enter"], "\t": [0xff09, "Tab"], "\b": [0xff08, "Backspace"], " ": SPACE, "\u00a0": SPACE };

const maps = new Map();

function map(id) {
  if (maps.has(id)) return maps.get(id);
  const layout = LAYOUTS[id] ?? LAYOUTS.us;
  const out = new Map();
  const add = (rows, hold) =>
    rows.forEach((row, r) => [...row].forEach((character, k) => {
      if (character !== " " && !out.has(character)) out.set(character, { code: CODES[r][k], hold });
    }));
  add(layout.plain, null);
  add(layout.shift, SHIFT);
  for (const [character, code] of Object.entries(layout.altgr)) {
    if (!out.has(character)) out.set(character, { code, hold: ALTGR });
  }
  maps.set(id, { keys: out, dead: layout.dead });
  return maps.get(id);
}

/**
 * The key events that type `text`: one array of `[keysym, code, down]` per character, and how many characters
 * the keyboard lacks (they are sent as bare keysyms, which some guests understand).
 * `keysymOf`: code point → keysym.
 */
export function strokes(text, layout, keysymOf) {
  const { keys, dead } = map(layout);
  let missing = 0;
  const press = ([keysym, code]) => [[keysym, code, true], [keysym, code, false]];
  const out = [];
  for (const character of text.replace(/\r\n?/g, "\n")) {
    const control = CONTROL[character];
    if (control) {
      out.push(press(control));
      continue;
    }
    const point = character.codePointAt(0);
    if (point < 0x20 || point === 0x7f) {
      missing += 1;
      continue;
    }
    const keysym = keysymOf(point);
    const key = keys.get(character);
    if (!key) {
      missing += 1;
      out.push(press([keysym, ""]));
      continue;
    }
    const events = press([keysym, key.code]);
    if (key.hold) {
      events.unshift([...key.hold, true]);
      events.push([...key.hold, false]);
    }
    if (dead.includes(character)) events.push(...press(SPACE));
    out.push(events);
  }
  return { strokes: out, missing };
}
