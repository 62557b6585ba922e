// The panel that shows what was asked: sentence or picture, and its code.

import { pattern } from "./bits.js";
import { byId } from "./dom.js";
import { showBlob, showPicture } from "./lazy.js";
import { remarks } from "./queries.js";
import { offerToRefine } from "./refine.js";

const panel = byId("asked");
const image = byId("asked-image");

export function showAsked(query) {
  document.body.classList.toggle("has-query", query !== null);
  panel.hidden = query === null;
  image.hidden = true;
  byId("asked-code").replaceChildren();
  byId("asked-code-note").textContent = "";
  offerToRefine(query);
  if (query === null) return;
  byId("asked-text").textContent = query.title;
  if (query.file) showBlob(image, query.file).catch(() => {}); // the service says what is wrong with it
  if (query.kind === "item" && query.hit.image_url) showPicture(image, query.hit.image_url);
}

export function showAskedCode(coded) {
  byId("asked-code").replaceChildren(pattern(coded.code));
  byId("asked-code-note").textContent = remarks(coded);
}

/** Where the keyboard goes on when the card that was pressed is gone. */
export function focusAsked() {
  byId("asked-text").focus({ preventScroll: true });
}
