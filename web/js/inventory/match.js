// Which nodes and guests fit the filters, and in which order guests come. Pure functions.

const words = (text) => text.toLowerCase().split(/\s+/).filter(Boolean);

function fits(search, fields, tags) {
  return words(search).every((word) => {
    if (word.startsWith("tag:")) return word === "tag:" || tags.some((tag) => tag.toLowerCase() === word.slice(4));
    return fields.some((field) => field.toLowerCase().includes(word));
  });
}

export function nodeFits(node, filters) {
  if (filters.kind !== "all" && filters.kind !== "node") return false;
  if (filters.status === "running" && node.status !== "online") return false;
  if (filters.status === "stopped" && node.status === "online") return false;
  return fits(filters.search, [node.node, `node/${node.node}`, node.status ?? ""], []);
}

export function guestFits(guest, filters) {
  if (filters.kind !== "all" && filters.kind !== guest.type) return false;
  if (filters.status === "running" && guest.status !== "running") return false;
  if (filters.status === "stopped" && guest.status === "running") return false;
  const tags = guest.tags ?? [];
  const fields = [guest.name ?? "", String(guest.vmid), `${guest.type}/${guest.vmid}`, guest.node ?? "", guest.status ?? "", ...tags];
  return fits(filters.search, fields, tags);
}

const number = (value) => Number(value) || 0;

const KEYS = {
  name: (guest) => guest.name ?? "",
  vmid: (guest) => number(guest.vmid),
  node: (guest) => guest.node ?? "",
  status: (guest) => (guest.status === "running" ? "0" : `1${guest.status ?? ""}`),
  cpu: (guest) => (guest.status === "running" ? number(guest.cpu) : -1),
  mem: (guest) => (guest.status === "running" && guest.maxmem > 0 ? number(guest.mem) / guest.maxmem : -1),
  uptime: (guest) => number(guest.uptime),
};

const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });

/** A copy in the order asked for; equals come by id, so that rows don't dance. */
export function sorted(guests, { sort, descending }) {
  const key = KEYS[sort] ?? KEYS.vmid;
  const sign = descending ? -1 : 1;
  return [...guests].sort((a, b) => {
    const [x, y] = [key(a), key(b)];
    const order = typeof x === "string" ? collator.compare(x, y) : x - y;
    return order !== 0 ? sign * order : number(a.vmid) - number(b.vmid);
  });
}
