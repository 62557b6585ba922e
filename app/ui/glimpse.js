// The start: a few items from a random place of the index, so that there is something to look at and to ask for.

import { post } from "./api.js";
import { byId, make } from "./dom.js";
import { showPicture, whenNear } from "./lazy.js";

const section = byId("glimpse");
const ITEMS = 12;
const EXAMPLES = 4;
const LONGEST_EXAMPLE = 32;

let latest = 0; // number of the newest wish: what comes for an older one is too late

/** Shows items near a random code; ``on`` is {like, ask}, what pressing an item or an example does. */
export async function showGlimpse(info, on) {
  const mine = ++latest;
  const bytes = crypto.getRandomValues(new Uint8Array(info.bits / 8));
  const code = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  const target = "image" in info.columns ? "image" : "text";
  const { hits } = await post("/v1/search/code", { codes: [code], index: info.name, target, limit: ITEMS });
  if (mine !== latest) return;
  byId("glimpse-items").replaceChildren(...hits.map((hit) => item(hit, on.like)));
  const sentences = hits.map(({ text }) => text).filter((text) => text && text.length <= LONGEST_EXAMPLE);
  byId("examples").replaceChildren(make("span", {}, "Try"), ...sentences.slice(0, EXAMPLES).map((text) => example(text, on.ask)));
  byId("examples").hidden = sentences.length === 0 || !info.model_loaded;
  section.hidden = hits.length === 0;
}

export function hideGlimpse() {
  latest += 1;
  section.hidden = true;
}

function item(hit, like) {
  const caption = hit.text ?? hit.id;
  const image = make("img", { alt: "", hidden: true });
  const button = make("button", { type: "button", title: caption, ariaLabel: `${caption}. Show more like this` }, image);
  if (hit.image_url) whenNear(button, () => showPicture(image, hit.image_url));
  else button.append(caption);
  button.addEventListener("click", () => like(hit));
  return make("li", {}, button);
}

function example(text, ask) {
  const button = make("button", { type: "button", textContent: text });
  button.addEventListener("click", () => ask(text));
  return button;
}
