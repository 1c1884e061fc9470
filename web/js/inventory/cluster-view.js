// One cluster: its nodes as cards, its guests as rows, or why it can't be shown. Updated in place.

import { h, setText } from "../shared/dom.js";
import { icon } from "../shared/icons.js";
import { Problem } from "../shared/api.js";
import { problemNotice } from "../shared/notice.js";
import { plural } from "../shared/format.js";
import { guestFits, nodeFits, sorted } from "./match.js";
import { NodeCard, GuestRow } from "./entries.js";

const COLUMNS = [
  ["who", "Guest", "name"],
  ["node", "Node", "node"],
  ["tags", "Tags", null],
  ["cpu", "CPU", "cpu"],
  ["mem", "Memory", "mem"],
  ["uptime", "Uptime", "uptime"],
  ["consoles", "Consoles", null],
];

/** Puts `elements` into `parent` in this order and moves only what is out of place. */
function arrange(parent, elements) {
  const wanted = new Set(elements);
  for (const child of [...parent.children]) if (!wanted.has(child)) child.remove();
  elements.forEach((element, index) => {
    if (parent.children[index] !== element) parent.insertBefore(element, parent.children[index] ?? null);
  });
}

export class ClusterView {
  #nodes = new Map();
  #guests = new Map();
  #heads = new Map();
  #tagPicked;

  constructor(name, sortPicked, tagPicked) {
    this.name = name;
    this.#tagPicked = tagPicked;
    const id = `cluster-${name.replace(/[^A-Za-z0-9_-]/g, "-")}`;
    this.title = h("h2", { id, text: name });
    this.facts = h("p");
    this.error = h("div", { hidden: true, "aria-live": "polite" });
    this.nodes = h("div", { class: "nodes" });
    this.body = h("tbody", { role: "rowgroup" });
    const heads = COLUMNS.map(([column, label, sort]) => {
      const cell = h(
        "th",
        { scope: "col", class: `col-${column}`, role: "columnheader" },
        sort
          ? h("button", { type: "button", onclick: () => sortPicked(sort), data: { testid: `sort-${sort}` } }, label, icon("chevron", 14))
          : h("span", { class: column === "consoles" ? "visually-hidden" : "" }, label),
      );
      if (sort) this.#heads.set(sort, cell);
      return cell;
    });
    this.table = h(
      "div",
      { class: "guests" },
      h("table", { role: "table", "aria-labelledby": id }, h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, heads)), this.body),
    );
    this.element = h(
      "section",
      { class: "cluster", "aria-labelledby": id, data: { testid: "cluster", cluster: name } },
      h("div", { class: "cluster-head" }, this.title, this.facts),
      this.error,
      this.nodes,
      this.table,
    );
  }

  /** Shows `cluster` as far as it fits the filters; answers how much that was. */
  update(cluster, filters, several) {
    const allNodes = cluster.nodes ?? [];
    const allGuests = cluster.guests ?? [];
    const scope = several ? cluster.name : null;
    this.#showError(cluster.error);
    setText(this.facts, [
      cluster.version ? `Proxmox VE ${cluster.version}` : "",
      allNodes.length > 0 ? plural(allNodes.length, "node") : "",
      allGuests.length > 0 ? plural(allGuests.length, "guest") : "",
    ].filter(Boolean).join(" · "));

    const nodes = allNodes.filter((node) => nodeFits(node, filters));
    nodes.sort((a, b) => String(a.node).localeCompare(String(b.node), undefined, { numeric: true }));
    arrange(this.nodes, this.#views(this.#nodes, nodes, (node) => node.node, () => new NodeCard(scope)));
    this.nodes.hidden = nodes.length === 0;

    const guests = sorted(allGuests.filter((guest) => guestFits(guest, filters)), filters);
    const make = () => new GuestRow(scope, this.#tagPicked);
    arrange(this.body, this.#views(this.#guests, guests, (guest) => `${guest.type}/${guest.vmid}`, make));
    this.table.hidden = guests.length === 0;
    for (const [sort, head] of this.#heads) {
      if (sort === filters.sort) head.setAttribute("aria-sort", filters.descending ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    }
    return { shown: nodes.length + guests.length, all: allNodes.length + allGuests.length };
  }

  #views(known, values, key, make) {
    const keep = new Map();
    const elements = values.map((value) => {
      const view = known.get(key(value)) ?? make();
      view.update(value);
      keep.set(key(value), view);
      return view.element;
    });
    known.clear();
    for (const [name, view] of keep) known.set(name, view);
    return elements;
  }

  #showError(error) {
    this.error.hidden = !error;
    const text = error ? JSON.stringify(error) : "";
    if (this.errorText === text) return;
    this.errorText = text;
    this.error.replaceChildren();
    if (error) this.error.append(problemNotice(Problem.from(error, error.status), { testid: "cluster-error" }));
  }
}
