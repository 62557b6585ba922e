// The direction switch: which column asks, and which one is searched.

import { byId } from "./dom.js";

const group = byId("direction");
const radios = [...group.querySelectorAll("input")];
const ARROWS = { text_to_image: ["text", "image"], image_to_text: ["image", "text"] };
const USUAL = { text: "text_to_image", image: "image_to_text", pair: "same", item: "same" };

let prefersSame = false; // chosen by hand, so it outlives the query

export const direction = () => radios.find((radio) => radio.checked).value;

/** [column that asks, column that is searched] for a query in the chosen direction. */
export function columnsFor(query, chosen = direction()) {
  if (chosen !== "same") return ARROWS[chosen];
  const column = query.kind === "item" ? (query.hit.image_url ? "image" : "text") : query.kind;
  return [column, column];
}

/** Offers the directions that this query and this index have, and turns to the query's own where the chosen one is not. */
export function adaptTo(query, info) {
  for (const radio of radios) radio.disabled = Boolean(query) && !isPossible(radio.value, query, info);
  if (!query) return;
  const wanted = query.direction ?? (prefersSame && query.kind !== "item" ? "same" : USUAL[query.kind]);
  const open = radios.filter((radio) => !radio.disabled);
  const radio = open.find(({ value }) => value === wanted) ?? open[0];
  if (radio) radio.checked = true;
}

export function onDirection(callback) {
  group.addEventListener("change", () => {
    prefersSame = direction() === "same";
    callback(direction());
  });
}

function isPossible(value, query, info) {
  const [asks, target] = columnsFor(query, value);
  if (!(target in info.columns)) return false;
  if (query.kind !== "item") return query.kind === asks;
  return asks === "image" ? Boolean(query.hit.image_url) : query.hit.text !== undefined;
}
