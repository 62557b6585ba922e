// The queries of this page in the browser's history. A sentence is in the address's fragment, which is never sent.

const PREFIX = "#q=";
const LOADED = performance.timeOrigin; // steps taken before a reload outlive it, their queries do not
const queries = [];
let position = -1;

export function remember(query) {
  step(query, query.kind === "text" ? PREFIX + encodeURIComponent(query.text) : "/");
}

/** A step to the start. */
export function rememberStart() {
  step(null, "/");
}

/** Calls back with the query that Back or Forward led to: null for the start, undefined for one before a reload. */
export function onReturn(callback) {
  addEventListener("popstate", ({ state }) => {
    const known = state?.loaded === LOADED;
    position = known ? state.position : -1;
    callback(known ? queries[position] : undefined);
  });
}

/** The sentence that the address came with. */
export function sentenceInAddress() {
  if (!location.hash.startsWith(PREFIX)) return "";
  try {
    return decodeURIComponent(location.hash.slice(PREFIX.length)).trim();
  } catch {
    return "";
  }
}

function step(query, address) {
  queries.length = position + 1;
  position = queries.push(query) - 1;
  history.pushState({ loaded: LOADED, position }, "", address);
}
