// News for the page that embeds this one: `{type: "sallyport", event, …}`. Nothing in it is secret.

const embedded = window.parent !== window;
// Where the browser names the embedding page, only that page gets the news.
const origin = window.location.ancestorOrigins?.[0];
const target = origin && origin !== "null" ? origin : "*";

export function tellParent(event, facts = {}) {
  if (embedded) window.parent.postMessage({ type: "sallyport", event, ...facts }, target);
}
