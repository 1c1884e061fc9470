// Search, filters and order: what the person wants to see of the inventory.

import { h, setText } from "../shared/dom.js";
import { icon } from "../shared/icons.js";
import { local } from "../shared/storage.js";

const KINDS = [
  ["all", "All"],
  ["node", "Nodes"],
  ["qemu", "VMs"],
  ["lxc", "Containers"],
];
const STATES = [
  ["any", "Any"],
  ["running", "Running"],
  ["stopped", "Stopped"],
];
export const SORTS = [
  ["name", "Name"],
  ["vmid", "ID"],
  ["node", "Node"],
  ["status", "State"],
  ["cpu", "CPU"],
  ["mem", "Memory"],
  ["uptime", "Uptime"],
];

function segments(label, choices, chosen, picked) {
  const counts = new Map();
  const buttons = choices.map(([value, text]) => {
    const count = h("small");
    counts.set(value, count);
    return h("button", {
      type: "button",
      "aria-pressed": String(value === chosen()),
      data: { value, testid: `filter-${value}` },
      onclick: () => picked(value),
    }, text, count);
  });
  const element = h("div", { class: "segments", role: "group", "aria-label": label }, buttons);
  const show = () => {
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.value === chosen()));
  };
  return { element, counts, show };
}

export function createFilters(changed) {
  const [column, direction] = (local.get("sort") ?? "vmid ascending").split(" ");
  const state = {
    search: "",
    kind: "all",
    status: "any",
    sort: SORTS.some(([value]) => value === column) ? column : "vmid",
    descending: direction === "descending",
  };
  const kinds = segments("Kind", KINDS, () => state.kind, (value) => update({ kind: value }));
  const states = segments("State", STATES, () => state.status, (value) => update({ status: value }));
  const input = h("input", {
    class: "input",
    type: "search",
    placeholder: "Search name, ID, node, tag:…",
    "aria-label": "Search nodes and guests",
    autocomplete: "off",
    spellcheck: "false",
    data: { testid: "search" },
    oninput: () => update({ search: input.value }),
    onkeydown: (event) => {
      if (event.key !== "Escape") return;
      if (input.value === "") input.blur();
      input.value = "";
      update({ search: "" });
    },
  });
  const order = h("select", {
    class: "input",
    onchange: () => update({ sort: order.value, descending: NUMERIC.has(order.value) }),
  }, SORTS.map(([value, text]) => h("option", { value, text: `By ${/^[A-Z]+$/.test(text) ? text : text.toLowerCase()}` })));
  const status = h("p", { class: "visually-hidden", role: "status", "aria-live": "polite" });
  const element = h(
    "div",
    { class: "filters", role: "search" },
    h("div", { class: "search" }, icon("search"), input, h("kbd", { text: "/" })),
    kinds.element,
    states.element,
    h("label", { class: "sort" }, h("span", { class: "visually-hidden", text: "Sort by" }), order),
    status,
  );
  order.value = state.sort;

  function update(changes) {
    Object.assign(state, changes);
    order.value = state.sort;
    local.set("sort", `${state.sort} ${state.descending ? "descending" : "ascending"}`);
    kinds.show();
    states.show();
    changed();
  }

  return {
    element,
    state,
    get active() {
      return state.search.trim() !== "" || state.kind !== "all" || state.status !== "any";
    },
    focus: () => input.select(),
    setSearch(text) {
      input.value = text;
      update({ search: text });
    },
    /** A press on a column's head: the same one again turns the order round. */
    setSort(sort) {
      update(state.sort === sort ? { descending: !state.descending } : { sort, descending: NUMERIC.has(sort) });
    },
    clear() {
      input.value = "";
      update({ search: "", kind: "all", status: "any" });
    },
    setCounts(clusters) {
      const counts = { node: 0, qemu: 0, lxc: 0 };
      for (const cluster of clusters) {
        counts.node += cluster.nodes?.length ?? 0;
        for (const guest of cluster.guests ?? []) if (guest.type in counts) counts[guest.type] += 1;
      }
      for (const [kind, count] of Object.entries(counts)) setText(kinds.counts.get(kind), String(count));
    },
    announce: (text) => setText(status, text),
  };
}

const NUMERIC = new Set(["cpu", "mem", "uptime"]);
