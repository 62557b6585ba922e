// "This picture, but…": words that refine a picture, offered where the model of the index fuses both into one code.

import { byId } from "./dom.js";
import { onIndex } from "./indexes.js";

const form = byId("refine");
const field = byId("refine-text");

let fuses = false;
let query = null; // on screen

/** Offers to refine the query's picture, if it has one; ``next`` is on screen now. */
export function offerToRefine(next) {
  query = next;
  field.value = query?.kind === "pair" ? query.text : "";
  show();
}

/** Calls back with the picture and the words; these are empty where they were taken away again. */
export function onRefine(callback) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = field.value.trim();
    if (text || query.kind === "pair") callback(query.file, text);
    else field.focus();
  });
}

function show() {
  form.hidden = !fuses || !query?.file;
}

onIndex(({ columns, model_loaded }) => {
  fuses = model_loaded && "pair" in columns; // only models that fuse build such a column
  show();
});
