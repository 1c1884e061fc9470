// Numbers as people read them.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

export function bytes(value) {
  let amount = Number(value) || 0;
  let unit = 0;
  while (amount >= 1024 && unit < UNITS.length - 1) {
    amount /= 1024;
    unit += 1;
  }
  return `${amount >= 100 || unit === 0 ? Math.round(amount) : amount.toFixed(1).replace(/\.0$/, "")} ${UNITS[unit]}`;
}

/** `2.9 / 4 GiB`: the unit once where both have the same. */
export function shareOf(part, whole) {
  const [a, b] = [bytes(part), bytes(whole)];
  const unit = b.split(" ")[1];
  return `${a.endsWith(` ${unit}`) ? a.split(" ")[0] : a} / ${b}`;
}

export function percent(part, whole = 1) {
  if (!(whole > 0)) return 0;
  return Math.max(0, Math.min(100, (100 * (Number(part) || 0)) / whole));
}

export function duration(seconds) {
  const s = Math.floor(Number(seconds) || 0);
  if (s <= 0) return "";
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

export function ago(milliseconds) {
  const s = Math.round(milliseconds / 1000);
  if (s < 3) return "just now";
  return `${duration(s)} ago`;
}

export const plural = (count, one, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;

/** PVE's own names for the consoles, as buttons say them. */
export function consoleName(console, kind) {
  if (console === "vnc") return "Screen";
  if (console === "terminal") return kind === "node" ? "Shell" : kind === "qemu" ? "Serial" : "Terminal";
  const port = /^serial([0-3])$/.exec(console);
  return port ? `Serial ${port[1]}` : console;
}

export const consoleIcon = (console) =>
  console === "vnc" ? "screen" : console.startsWith("serial") ? "serial" : "terminal";
