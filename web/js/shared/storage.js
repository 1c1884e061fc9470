// Storage that may be forbidden (a frame in somebody's portal, a private window): then nothing is remembered.

function guarded(area) {
  return {
    get(name) {
      try {
        return window[area].getItem(`sallyport.${name}`);
      } catch {
        return null;
      }
    },
    set(name, value) {
      try {
        if (value === null) window[area].removeItem(`sallyport.${name}`);
        else window[area].setItem(`sallyport.${name}`, value);
      } catch {
        // Not remembered, and nothing else is lost.
      }
    },
  };
}

/** For this tab only: the API key lives here. */
export const session = guarded("sessionStorage");
/** For this browser: theme, font size, sort order. */
export const local = guarded("localStorage");
