// A node's card and a guest's row. Each is built once and then updated, so that focus survives a refresh.

import { h, replace, setText } from "../shared/dom.js";
import { icon } from "../shared/icons.js";
import { at } from "../shared/place.js";
import { consoleIcon, consoleName, duration, percent, shareOf } from "../shared/format.js";

/** The link that opens a console in its own tab. The page behind it asks the gateway for the one-time link. */
function consoleLink(target, console, kind, name, cluster) {
  const parameters = new URLSearchParams({ open: target, console, name });
  if (cluster) parameters.set("cluster", cluster);
  const label = consoleName(console, kind);
  return h(
    "a",
    {
      class: "button",
      href: `${at("console.html")}#${parameters}`,
      // The new tab shares this tab's session storage, where the API key is, only with an opener.
      target: "_blank",
      rel: "opener",
      "aria-label": `${label} of ${name}`,
      title: `Open ${console} of ${target}`,
      data: { testid: `open-${target}-${console}`, target, console },
    },
    icon(consoleIcon(console), 16),
    label,
  );
}

class Consoles {
  #shown = "";

  constructor() {
    this.element = h("div", { class: "consoles" });
  }

  update(target, consoles, kind, name, cluster) {
    const now = JSON.stringify([target, consoles, name]);
    if (now === this.#shown) return;
    this.#shown = now;
    replace(this.element, consoles.map((console) => consoleLink(target, console, kind, name, cluster)));
  }
}

class Gauge {
  constructor(label) {
    this.value = h("b");
    this.bar = h("i");
    this.meter = h("div", { class: "meter", role: "meter", "aria-label": label, "aria-valuemin": 0, "aria-valuemax": 100 }, this.bar);
    this.what = h("span", { text: label });
    this.element = h("div", { class: "gauge" }, h("span", {}, this.what, this.value), this.meter);
  }

  update(share, text, what) {
    setText(this.value, text);
    if (what !== undefined) setText(this.what, what);
    this.bar.style.width = `${share}%`;
    this.meter.setAttribute("aria-valuenow", String(Math.round(share)));
    this.meter.setAttribute("aria-valuetext", `${text} ${what ?? ""}`.trim());
    this.meter.classList.toggle("high", share >= 75 && share < 90);
    this.meter.classList.toggle("full", share >= 90);
  }
}

const cores = (count) => (count > 0 ? `${count} CPU${count === 1 ? "" : "s"}` : "CPU");
const round = (share) => `${share >= 10 || share === 0 ? Math.round(share) : share.toFixed(1)} %`;

function updateMemory(gauge, { mem, maxmem }) {
  const share = percent(mem, maxmem);
  gauge.update(share, round(share), shareOf(mem, maxmem));
}

export class NodeCard {
  constructor(cluster) {
    this.cluster = cluster;
    this.name = h("h3");
    this.state = h("span", { class: "badge" });
    this.cpu = new Gauge("CPU");
    this.mem = new Gauge("Memory");
    this.gauges = h("div", { class: "gauges" }, this.cpu.element, this.mem.element);
    this.uptime = h("span", { class: "faint" });
    this.consoles = new Consoles();
    this.element = h(
      "article",
      { class: "node", data: { testid: "node" } },
      h("div", { class: "node-head" }, icon("node", 20), this.name, this.state),
      this.gauges,
      h("div", { class: "node-foot" }, this.uptime, this.consoles.element),
    );
  }

  update(node) {
    const online = node.status === "online";
    setText(this.name, String(node.node));
    this.element.dataset.target = `node/${node.node}`;
    this.state.className = `badge ${online ? "good" : node.status === "offline" ? "poor" : "fair"}`;
    setText(this.state, node.status ?? "unknown");
    this.element.classList.toggle("off", !online);
    this.gauges.hidden = !online;
    this.cpu.update(percent(node.cpu), round(percent(node.cpu)), cores(node.maxcpu));
    updateMemory(this.mem, node);
    setText(this.uptime, online && node.uptime > 0 ? `up ${duration(node.uptime)}` : "");
    this.consoles.update(`node/${node.node}`, online ? (node.consoles ?? ["terminal", "vnc"]) : [], "node", node.node, this.cluster);
  }
}

/** The same tag has the same colour everywhere. */
function hue(tag) {
  let hash = 7;
  for (const character of tag) hash = (hash * 31 + character.codePointAt(0)) % 360;
  return hash;
}

export class GuestRow {
  #tags = "";

  constructor(cluster, tagPicked) {
    this.cluster = cluster;
    this.tagPicked = tagPicked;
    this.kind = h("span", { class: "kind" });
    this.dot = h("span", { class: "dot" });
    this.name = h("b");
    this.id = h("small");
    this.node = h("span");
    this.tags = h("div", { class: "tags" });
    this.cpu = new Gauge("CPU");
    this.mem = new Gauge("Memory");
    this.uptime = h("span", { class: "faint" });
    this.consoles = new Consoles();
    const cell = (column, ...children) => h("td", { class: `col-${column}`, role: "cell" }, children);
    this.tagCell = cell("tags", this.tags);
    this.element = h(
      "tr",
      { class: "guest", role: "row", data: { testid: "guest" } },
      cell("who", h("div", { class: "who" }, this.kind, h("div", {}, this.name, this.id))),
      cell("node", this.node),
      this.tagCell,
      cell("cpu", this.cpu.element),
      cell("mem", this.mem.element),
      cell("uptime", this.uptime),
      cell("consoles", this.consoles.element),
    );
  }

  update(guest) {
    const running = guest.status === "running";
    const target = `${guest.type}/${guest.vmid}`;
    const name = guest.name || target;
    this.element.dataset.target = target;
    this.element.dataset.status = guest.status ?? "unknown";
    this.element.classList.toggle("off", !running);
    if (this.kind.dataset.type !== guest.type) {
      this.kind.dataset.type = guest.type;
      replace(this.kind, icon(guest.type === "lxc" ? "container" : "guest", 19), this.dot);
      this.kind.title = guest.type === "lxc" ? "Container" : "Virtual machine";
    }
    this.dot.className = `dot ${running ? "good" : guest.status === "stopped" ? "hollow" : "fair"}`;
    setText(this.name, name);
    setText(this.id, [target, guest.template ? "template" : (guest.status ?? "unknown")].join(" · "));
    setText(this.node, guest.node ?? "");
    this.#updateTags(guest.tags ?? []);
    this.cpu.element.hidden = this.mem.element.hidden = !running;
    this.cpu.update(percent(guest.cpu), round(percent(guest.cpu)), cores(guest.maxcpu));
    updateMemory(this.mem, guest);
    setText(this.uptime, running ? duration(guest.uptime) : "");
    this.consoles.update(target, guest.template ? [] : (guest.consoles ?? []), guest.type, name, this.cluster);
  }

  #updateTags(tags) {
    const now = tags.join("\n");
    if (now === this.#tags) return;
    this.#tags = now;
    replace(this.tags, tags.map((tag) => {
      const button = h("button", { class: "tag", type: "button", text: tag, "aria-label": `Show only tag ${tag}`, onclick: () => this.tagPicked(tag) });
      button.style.setProperty("--hue", String(hue(tag)));
      return button;
    }));
  }
}
