// The few things that every module does with the document.

export const byId = (id) => document.getElementById(id);

/** A new element; properties are set as they are, children are nodes or text. */
export function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

/** The first element of a fresh copy of a template. */
export function copyOf(templateId) {
  return byId(templateId).content.firstElementChild.cloneNode(true);
}

/** Terms and descriptions for a <dl>; entries without a value are left out. */
export function facts(entries) {
  return entries
    .filter(([, value]) => value !== null && value !== undefined && value !== "")
    .flatMap(([term, value]) => [make("dt", {}, term), make("dd", {}, value)]);
}

/** Closes the dialog by its cross, and by a click beside it. */
export function closable(dialog) {
  dialog.querySelector(".close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
}

export const counted = (count, noun) => `${count.toLocaleString()} ${noun}${count === 1 ? "" : "s"}`;
