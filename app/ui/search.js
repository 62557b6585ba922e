// The search: one query on screen, its code, its pages.

import { post, Refused } from "./api.js";
import { focusAsked, showAsked, showAskedCode } from "./asked.js";
import { compare } from "./compare.js";
import { adaptTo, columnsFor, direction } from "./direction.js";
import { byId } from "./dom.js";
import { filter } from "./filters.js";
import { currentInfo, readIndex } from "./indexes.js";
import { complain, hush, note, summary, tell } from "./messages.js";
import { codeOf, itemQuery } from "./queries.js";
import { radius } from "./radius.js";
import { addHits, clearHits, shownCount } from "./results.js";
import { remember } from "./trail.js";

const PAGE_SIZE = 24;
const area = byId("results");
const more = byId("more");

let query = null; // on screen
let coded = null; // its code, until the query, its column or the model changes
let cursor = null; // where the next page starts
let running = null; // AbortController of the search under way

export const currentQuery = () => query;

/** Asks something new. */
export function ask(next) {
  remember(next);
  show(next);
}

/** Shows a query without a new step in the history; null is the start. */
export function show(next) {
  running?.abort();
  query = next;
  coded = cursor = null;
  hush();
  tell("");
  clearHits();
  more.hidden = true;
  adaptTo(query, currentInfo());
  showAsked(query);
  if (query === null) return;
  scrollTo({ top: 0 });
  if (query.kind === "item") focusAsked();
  search();
}

/** Asks the query on screen again, with the options as they are now. */
export async function search({ message = "" } = {}) {
  if (query === null) return;
  hush();
  note(message);
  await run(null);
}

async function run(page) {
  running?.abort();
  const mine = (running = new AbortController());
  area.setAttribute("aria-busy", "true");
  tell("Searching…");
  try {
    await answer(page, mine.signal);
  } catch (error) {
    if (mine !== running || error.name === "AbortError") return;
    if (page === null) clearHits(); // what is on screen would pass for the answer
    more.hidden = true;
    complain(error);
  } finally {
    if (mine === running) area.removeAttribute("aria-busy");
  }
}

async function answer(page, signal) {
  const limit = radius(); // as it was asked with, however the slider moves meanwhile
  let found;
  try {
    found = await find(page, limit, signal);
  } catch (error) {
    if (error.code === "cursor_expired") {
      note("The index changed meanwhile, so the results start over.");
      page = null;
    } else if (error.code !== "model_index_mismatch") throw error;
    await readIndex(signal); // the code on hand may be of the model before
    coded = null;
    found = await find(page, limit, signal);
  }
  signal.throwIfAborted();
  display(found, page !== null, limit);
  if (found.index.generation !== currentInfo().generation) await readIndex(signal);
}

async function find(page, limit, signal) {
  const [asks, target] = columnsFor(query);
  if (coded?.column !== asks) {
    const fresh = await codeOf(query, asks, currentInfo(), signal);
    signal.throwIfAborted(); // it may be the code of a query that is gone
    coded = fresh;
    showAskedCode(coded);
  }
  const options = { index: currentInfo().name, target, limit: PAGE_SIZE, fingerprint: coded.fingerprint };
  if (limit !== null) options.radius = limit;
  if (filter() !== null) options.filter = filter();
  if (page !== null) options.cursor = page;
  return post("/v1/search/code", { codes: [coded.code], ...options }, { signal });
}

function display(found, isNextPage, limit) {
  if (!isNextPage) clearHits();
  const [, target] = columnsFor(query);
  const answered = { index: found.index.name, target, code: coded.code, query };
  const like = (hit) => ask(itemQuery(hit));
  const first = addHits(found.hits, answered, {
    like,
    compare: (hit, item, hex) => compare(hit, item, hex, answered.code, () => like(hit)),
  });
  if (isNextPage) first?.focus();
  cursor = found.next_cursor;
  more.hidden = cursor === null;
  tell(summary(found, shownCount(), limit, query.kind === "pair" ? "pair" : direction()));
}

more.addEventListener("click", () => {
  hush();
  run(cursor);
});

export function noImage() {
  complain(new Refused("That is not an image; use a JPEG, PNG, WebP, GIF, BMP or TIFF file.", { title: "Not an image." }));
}
