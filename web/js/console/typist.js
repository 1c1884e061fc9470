// Types a text key by key at a steady rate: a guest's keyboard buffer is small, and too fast loses letters.

const TICK = 20;

/**
 * Sends every stroke through `sendKey(keysym, code, down)`.
 * @param rate characters per second
 * @param pending bytes still waiting on this side; typing waits while there are many
 * @param progress called with the count done
 * @returns the count typed; less than all when `signal` was aborted
 */
export async function typeStrokes(strokes, { sendKey, rate, signal, pending, progress }) {
  let done = 0;
  let credit = 1;
  let last = performance.now();
  while (done < strokes.length && !signal.aborted) {
    if (pending() < 4096) {
      for (; credit >= 1 && done < strokes.length; credit -= 1, done += 1) {
        for (const [keysym, code, down] of strokes[done]) sendKey(keysym, code, down);
      }
      progress(done);
    }
    await new Promise((resolve) => setTimeout(resolve, TICK));
    const now = performance.now();
    // A tab in the background ticks once a second: it must not catch up in one burst.
    credit = Math.min(credit + ((now - last) * rate) / 1000, Math.max(1, rate / 10));
    last = now;
  }
  return done;
}
