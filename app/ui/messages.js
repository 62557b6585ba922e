// The page's three voices: what was found (polite), what changed meanwhile (polite), what went wrong (at once).

import { Refused } from "./api.js";
import { byId } from "./dom.js";

const problem = byId("problem");
const notice = byId("notice");

export function tell(text) {
  byId("status").textContent = text;
}

export function note(text) {
  notice.textContent = text;
  notice.hidden = text === "";
}

export function complain(error) {
  if (!(error instanceof Refused)) console.error(error);
  byId("problem-title").textContent = error.title ?? "";
  byId("problem-detail").textContent = error instanceof Refused ? error.message : "The page failed; its console has the reason.";
  problem.hidden = false;
  tell("");
}

export function hush() {
  problem.hidden = true;
  note("");
}

/** Runs what was asked for in the sheet, which says itself what went wrong there. */
export async function attempt(action) {
  const place = byId("about-problem");
  place.hidden = true;
  try {
    await action();
  } catch (error) {
    place.textContent = error.message;
    place.hidden = false;
  }
}

const WAYS = {
  text_to_image: "text → image",
  image_to_text: "image → text",
  same: "same kind",
  pair: "image and words → items",
};

/** The sentence under the query: how many, of how many, in what time; ``way`` is a direction or that of a pair. */
export function summary(answer, shown, radius, way) {
  const total = answer.total_within_radius;
  const within = radius === null ? "" : ` within distance ${radius}`;
  const took = `${WAYS[way]} · searched in ${answer.took_ms.total.toFixed(1)} ms`;
  if (!shown) return `Nothing found${within}${radius === null ? "" : ", look farther"} · ${took}`;
  if (total === undefined) return `The ${shown.toLocaleString()} nearest · ${took}`;
  if (shown === total) return `Exactly ${total.toLocaleString()}${within} · ${took}`;
  const reach = answer.truncated ? " (more than the pages hold)" : "";
  return `${shown.toLocaleString()} of exactly ${total.toLocaleString()}${within}${reach} · ${took}`;
}
