// Which index is asked, and what the service says about it.

import { get, Refused } from "./api.js";
import { byId } from "./dom.js";
import { setFields } from "./filters.js";
import { setBits } from "./radius.js";

const RETRY_MS = 1000;
const select = byId("index");
const followers = [];

let info = null;

/** The chosen index in full, as GET /v1/indexes/{name} gives it. */
export const currentInfo = () => info;

/** Calls back with the index whenever it was read. */
export function onIndex(callback) {
  followers.push(callback);
}

/** Finds the indexes, waiting until the service has opened them, and reads the first. */
export async function connect(wait) {
  for (;;) {
    const { indexes, refused } = await get("/v1/indexes");
    if (indexes.length) {
      select.replaceChildren(...indexes.map(({ name }) => new Option(name)));
      byId("index-choice").hidden = indexes.length === 1;
      await readIndex();
      return refused;
    }
    if (refused.length) throw notServed(refused);
    const opening = await get("/readyz").then(() => null, (error) => error);
    if (opening === null) {
      throw new Refused("Build one with `crossbit index build`, then start the service again.", { title: "There is no index yet." });
    }
    wait(opening);
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}

export async function readIndex(signal) {
  const name = select.value;
  const read = await get(`/v1/indexes/${name}`, { signal });
  if (name !== select.value) return;
  info = read;
  setBits(info.bits);
  setFields(info.fields);
  byId("serving").textContent = `${info.name} · ${info.items.toLocaleString()} items · generation ${info.generation}`;
  byId("about-open").disabled = false;
  for (const follow of followers) follow(info);
}

export function notServed(refused) {
  const details = refused.map(({ name, detail }) => `${name}: ${detail}`).join(" ");
  return new Refused(details, { title: refused.length === 1 ? "An index is not served." : "Indexes are not served." });
}
