// Building DOM without innerHTML: text stays text, whatever a guest is called.

/**
 * Makes an element. `props` may hold attributes, `on…` listeners, `class`, `data` (dataset), `text`, and
 * properties that must be set as such (`value`, `checked`, `disabled`, `hidden`).
 */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "class") element.className = value;
    else if (name === "text") element.textContent = value;
    else if (name === "data") Object.assign(element.dataset, value);
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (PROPERTIES.has(name)) element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  append(element, children);
  return element;
}

const PROPERTIES = new Set(["value", "checked", "disabled", "hidden", "tabIndex"]);

export function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
}

export function replace(element, ...children) {
  element.replaceChildren();
  append(element, children);
  return element;
}

/** Text with the parts between backticks as code: how the gateway's remedies name commands. */
export function prose(text) {
  return text.split("`").map((part, index, all) => (index % 2 === 1 && index < all.length - 1 ? h("code", { text: part }) : part));
}

/** Sets text only where it differs: a live region isn't read out again, a selection isn't lost. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export const $ = (selector, root = document) => root.querySelector(selector);
