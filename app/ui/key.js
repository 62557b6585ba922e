// The dialog that asks for a key. The field is emptied as soon as its value is handed on.

import { byId } from "./dom.js";

const dialog = byId("key");
const field = byId("key-value");
let asking = null; // requests that are refused together share one question

/** The key that was typed, or null when the question was dismissed. */
export function promptForKey(reason) {
  asking ??= ask(reason).finally(() => (asking = null));
  return asking;
}

function ask(reason) {
  byId("key-reason").textContent = reason;
  dialog.returnValue = "";
  dialog.showModal();
  field.focus();
  return new Promise((resolve) => {
    dialog.addEventListener(
      "close",
      () => {
        const given = dialog.returnValue === "given" ? field.value.trim() : null;
        field.value = "";
        resolve(given || null);
      },
      { once: true },
    );
  });
}

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  dialog.close("given");
});
byId("key-cancel").addEventListener("click", () => dialog.close());
