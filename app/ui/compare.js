// The dialog that sets a result's code beside the query's.

import { pattern } from "./bits.js";
import { byId, closable, facts } from "./dom.js";
import { showPicture } from "./lazy.js";

const dialog = byId("compare");
let like = () => {};

closable(dialog);
byId("compare-like").addEventListener("click", () => {
  dialog.close();
  like();
});

/** Opens on a hit, its stored item, its code and the code that it was found with. */
export function compare(hit, item, hex, asked, onLike) {
  like = onLike;
  byId("compare-title").textContent = hit.text ?? hit.id;
  const tied = hit.tie.size > 1 ? `, ${hit.tie.size.toLocaleString()} tie at this distance` : "";
  byId("compare-figures").textContent =
    `Rank ${hit.rank}: ${hit.distance} of ${asked.length * 4} bits differ, similarity ${(hit.similarity * 100).toFixed(1)} %${tied}.`;
  byId("compare-query").replaceChildren(pattern(asked), hexLine(asked));
  byId("compare-hit").replaceChildren(pattern(hex, asked), hexLine(hex));
  byId("compare-metadata").replaceChildren(...facts([["id", item.id], ...Object.entries(item.metadata).map(readable)]));
  const image = byId("compare-image");
  image.hidden = true;
  if (hit.image_url) showPicture(image, hit.image_url);
  dialog.showModal();
}

function hexLine(hex) {
  const line = document.createElement("code");
  line.textContent = hex;
  return line;
}

function readable([name, value]) {
  if (Array.isArray(value)) return [name, value.join(", ")];
  return [name, typeof value === "object" && value !== null ? JSON.stringify(value) : String(value ?? "")];
}
