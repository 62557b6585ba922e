// The hits as cards, tie groups bracketed, codes and pictures loaded as they come near the screen.

import { get, itemPath } from "./api.js";
import { distanceBetween, pattern } from "./bits.js";
import { byId, copyOf } from "./dom.js";
import { learn } from "./filters.js";
import { showPicture, whenNear } from "./lazy.js";

const list = byId("hits");

export const shownCount = () => list.childElementCount;

export function clearHits() {
  list.replaceChildren();
}

/** Appends cards; ``answered`` is {index, target, code, query}, what the hits answer; ``on`` what their buttons do. */
export function addHits(hits, answered, on) {
  const first = list.childElementCount;
  for (const hit of hits) {
    learn(hit.metadata);
    list.append(card(hit, answered, on));
  }
  return list.children[first]?.querySelector("button") ?? null;
}

function card(hit, answered, on) {
  const node = copyOf("hit-template");
  const find = (selector) => node.querySelector(selector);
  const caption = hit.text ?? hit.id;
  bracket(node, hit.tie, hit.rank, hit.distance);
  find(".caption").textContent = caption;
  find(".distance").textContent = `distance ${hit.distance}`;
  find(".similarity").textContent = `similarity ${Math.round(hit.similarity * 100)} %`;
  find(".made-from").textContent = hit.presence ? `from ${madeFrom(hit.presence)}` : "";
  find(".made-from").hidden = !hit.presence;
  find(".labels").textContent = Array.isArray(hit.metadata.labels) ? hit.metadata.labels.join(" · ") : "";
  const like = find(".like");
  const isQuery = answered.query.kind === "item" && answered.query.hit.id === hit.id;
  node.classList.toggle("is-query", isQuery);
  like.ariaLabel = describe(hit, caption, isQuery);
  like.title = "Show more like this";
  like.addEventListener("click", () => on.like(hit));
  picture(find(".picture"), hit);
  code(find(".code"), hit, answered, (item, hex) => on.compare(hit, item, hex));
  return node;
}

function bracket(node, tie, rank, distance) {
  if (tie.size < 2) return;
  node.classList.add("tied");
  node.classList.toggle("tie-first", rank === tie.first_rank);
  node.classList.toggle("tie-last", rank === tie.last_rank);
  if (rank === tie.first_rank) {
    node.querySelector(".tie").textContent = `${tie.size.toLocaleString()} tie at distance ${distance}`;
  }
}

function describe(hit, caption, isQuery) {
  const { size } = hit.tie;
  const tied = size > 1 ? `, one of ${size.toLocaleString()} that tie at this distance` : "";
  const self = isQuery ? ", the query itself" : "";
  const origin = hit.presence ? `, from ${madeFrom(hit.presence)}` : "";
  return `${caption}, rank ${hit.rank}, distance ${hit.distance}${tied}${origin}${self}. Show more like this`;
}

/** What the code of a pair hit was made from. */
function madeFrom({ image, text }) {
  if (image && text) return "image and text";
  return image ? "image alone" : "text alone";
}

function picture(frame, hit) {
  const image = frame.querySelector("img");
  const nothing = frame.querySelector(".nothing");
  image.hidden = true;
  nothing.hidden = Boolean(hit.image_url);
  if (!hit.image_url) return;
  whenNear(frame, async () => {
    nothing.hidden = await showPicture(image, hit.image_url);
  });
}

/** Fetches the item's code and shows it against the query's, unless the index was swapped in between. */
function code(button, hit, { index, target, code: asked }, compare) {
  const caption = hit.text ?? hit.id;
  whenNear(button, async () => {
    const item = await get(itemPath(index, hit.id), { quiet: true }).catch(() => null);
    const hex = item?.codes[target]?.find((one) => one.length === asked.length && distanceBetween(one, asked) === hit.distance);
    if (hex === undefined || item === null) {
      button.hidden = true;
      return;
    }
    const bits = pattern(hex, asked);
    button.append(bits);
    button.ariaLabel = `${hit.distance} of ${asked.length * 4} bits differ for ${caption}. Compare the codes`;
    button.addEventListener("click", () => compare(item, hex));
  });
}
