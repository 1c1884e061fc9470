// The inventory page: asks for the key once, then shows what there is and keeps it fresh.

import { $, h, replace, setText } from "../shared/dom.js";
import { fillIcons, icon, logo } from "../shared/icons.js";
import { setUpThemeButton } from "../shared/theme-button.js";
import { api, Problem } from "../shared/api.js";
import { apiKey, forgetAPIKey, setAPIKey, takeKeyFromFragment } from "../shared/key.js";
import { problemNotice } from "../shared/notice.js";
import { ago, plural } from "../shared/format.js";
import { signIn } from "./sign-in.js";
import { createFilters } from "./filters.js";
import { ClusterView } from "./cluster-view.js";

const REFRESH = 10_000;

const main = $("#main");
const freshness = $("#freshness");
const buttons = { refresh: $("#refresh"), signOut: $("#sign-out") };

let clusters = new Map();
let page = null;
let inventory = null;
let loadedAt = 0;
let timer = 0;
let loading = false;

$("#brand").prepend(logo());
fillIcons();
setUpThemeButton($("#theme"));

function showSignIn(problem) {
  clearTimeout(timer);
  page = null;
  inventory = null;
  clusters = new Map();
  for (const element of [freshness, buttons.refresh, buttons.signOut]) element.hidden = true;
  replace(main, signIn(problem, (key) => {
    setAPIKey(key);
    start();
  }));
  main.querySelector("input")?.focus();
}

function start() {
  for (const element of [buttons.refresh, buttons.signOut]) element.hidden = false;
  const filters = createFilters(() => render());
  const banner = h("div", { "aria-live": "polite" });
  const list = h("div", { class: "page-list", "aria-busy": "true" });
  list.style.display = "contents";
  replace(list, h("div", { class: "skeleton" }), h("div", { class: "skeleton" }));
  page = { filters, banner, list };
  replace(main, h("div", { class: "page", data: { testid: "inventory" } }, banner, filters.element, list));
  banner.hidden = true;
  load();
}

async function load() {
  clearTimeout(timer);
  if (loading || !page) return;
  loading = true;
  const mine = page;
  try {
    const answer = await api.inventory();
    if (page !== mine) return;
    inventory = { clusters: Array.isArray(answer?.clusters) ? answer.clusters : [] };
    loadedAt = Date.now();
    mine.banner.hidden = true;
    replace(mine.banner);
    render();
  } catch (problem) {
    if (page !== mine) return;
    if (!(problem instanceof Problem)) throw problem;
    if (problem.status === 401) {
      forgetAPIKey();
      showSignIn(problem);
      return;
    }
    mine.banner.hidden = false;
    replace(mine.banner, problemNotice(problem, { mild: inventory !== null }));
    if (inventory === null) replace(mine.list, h("div", { class: "empty" }, icon("warning", 32), h("p", { text: "Nothing to show yet." })));
  } finally {
    loading = false;
    showFreshness();
    if (page) timer = setTimeout(() => (document.hidden ? undefined : load()), REFRESH);
  }
}

function render() {
  if (!page || !inventory) return;
  const { filters, list } = page;
  list.removeAttribute("aria-busy");
  const several = inventory.clusters.length > 1;
  const wanted = [];
  let shown = 0;
  let all = 0;
  filters.setCounts(inventory.clusters);
  for (const cluster of inventory.clusters) {
    let view = clusters.get(cluster.name);
    if (!view) {
      view = new ClusterView(cluster.name, (sort) => filters.setSort(sort), (tag) => filters.setSearch(`tag:${tag}`));
      clusters.set(cluster.name, view);
    }
    const counts = view.update(cluster, filters.state, several);
    shown += counts.shown;
    all += counts.all;
    if (counts.shown > 0 || cluster.error || !filters.active) wanted.push(view.element);
  }
  if (inventory.clusters.length === 0) {
    wanted.push(empty("No cluster is configured", "Add a cluster to the gateway’s configuration and it appears here."));
  } else if (shown === 0 && all > 0) {
    const clear = h("button", { class: "button", type: "button", text: "Clear the filters", onclick: () => filters.clear() });
    wanted.push(empty("Nothing matches", "No node or guest fits the search and the filters.", clear));
  }
  // Elements that stay are left where they are: focus and scrolling survive a refresh.
  for (const child of [...list.children]) if (!wanted.includes(child)) child.remove();
  wanted.forEach((element, index) => {
    if (list.children[index] !== element) list.insertBefore(element, list.children[index] ?? null);
  });
  filters.announce(`${plural(shown, "entry", "entries")} shown of ${all}`);
}

function empty(title, text, action) {
  return h("div", { class: "empty", data: { testid: "empty" } }, icon("search", 32), h("strong", { text: title }), h("p", { text }), action);
}

function showFreshness() {
  freshness.hidden = loadedAt === 0 || !page;
  const age = Date.now() - loadedAt;
  freshness.classList.toggle("old", age > 3 * REFRESH);
  setText(freshness, `Updated ${ago(age)}`);
}

setInterval(showFreshness, 2000);
buttons.refresh.addEventListener("click", load);
buttons.signOut.addEventListener("click", () => {
  forgetAPIKey();
  showSignIn(null);
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && page && Date.now() - loadedAt > REFRESH) load();
});
window.addEventListener("hashchange", () => {
  if (takeKeyFromFragment()) start();
});
document.addEventListener("keydown", (event) => {
  if (!page || event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement;
  if (event.key === "/" && !typing) {
    event.preventDefault();
    page.filters.focus();
  }
});

takeKeyFromFragment();
if (apiKey()) start();
else showSignIn(null);
