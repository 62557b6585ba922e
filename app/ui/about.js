// The sheet about the index: facts, how well its codes use their bits, its generations, the key.

import { enterKey, forgetKey, get, holdsKey, post } from "./api.js";
import { byId, closable, facts, make } from "./dom.js";
import { currentInfo, onIndex, readIndex } from "./indexes.js";
import { attempt } from "./messages.js";
import { watchJobs } from "./rebuild.js";

const sheet = byId("about");
const HEADS = ["Column", "Items", "Codes", "Distinct", "Ones per bit", "Dead bits", "Largest bucket"];

let swapped = () => {};

/** Calls back when another generation was made to serve here. */
export function onSwap(callback) {
  swapped = callback;
  watchJobs(async () => {
    await readIndex();
    callback(`Generation ${currentInfo().generation} serves now.`);
  });
}

function tellFacts(info) {
  byId("about-title").textContent = `Index ${info.name}`;
  byId("about-facts").replaceChildren(
    ...facts([
      ["generation", `${info.generation}, made ${new Date(info.created).toLocaleString([], { dateStyle: "medium", timeStyle: "short" })}`],
      ["items", info.items.toLocaleString()],
      ["source", `${info.source} (${info.texts} text of each item)`],
      ["pairs", tellPairs(info.columns.pair?.presence)],
      ["code length", `${info.bits} bits, made on ${info.device_kind}`],
      ["model", `${info.model.name}${info.model_loaded ? "" : " (not loaded: stored codes can be searched, nothing can be encoded)"}`],
      ["fingerprint", make("code", {}, info.model.fingerprint)],
    ]),
  );
}

function tellPairs(counts) {
  if (!counts) return null;
  const [both, image, text] = [counts.image_and_text, counts.image_only, counts.text_only].map((count) => count.toLocaleString());
  return `${both} of image and text, ${image} of an image alone, ${text} of a text alone`;
}

function tellCodes(info) {
  const percent = (share) => `${(share * 100).toFixed(share > 0.999 && share < 1 ? 2 : 1)} %`;
  const head = make("tr", {}, ...HEADS.map((text) => make("th", { scope: "col" }, text)));
  const rows = Object.entries(info.columns).map(([name, { items, codes, distinct, diagnostics }]) => {
    const cells = [
      items.toLocaleString(),
      codes.toLocaleString(),
      `${distinct.toLocaleString()} (${percent(diagnostics.distinct_ratio)})`,
      `${percent(diagnostics.balance_min)} to ${percent(diagnostics.balance_max)}`,
      diagnostics.dead_bits,
      diagnostics.largest_bucket.toLocaleString(),
    ];
    return make("tr", {}, make("th", { scope: "row" }, name), ...cells.map((text) => make("td", {}, String(text))));
  });
  byId("about-codes").replaceChildren(make("thead", {}, head), make("tbody", {}, ...rows));
}

function tellGenerations(info) {
  byId("generations").replaceChildren(...info.generations.toReversed().map((number) => generation(number, info)));
}

function generation(number, info) {
  if (number === info.generation) return make("li", {}, make("strong", {}, `Generation ${number}`), " serves");
  const button = make("button", { type: "button" }, `Roll ${number < info.generation ? "back" : "forward"} to it`);
  button.ariaLabel = `${button.textContent}: generation ${number}`;
  button.addEventListener("click", () => attempt(() => activate(number)));
  return make("li", {}, `Generation ${number} `, button);
}

async function activate(number) {
  await post(`/v1/indexes/${currentInfo().name}/rollback`, { generation: number });
  await readIndex();
  byId("about-title").focus();
  swapped(`Generation ${number} serves again.`);
}

async function offerModels() {
  const { available } = await get("/v1/models");
  const info = currentInfo();
  const names = [...new Set([info.model.name, ...available])];
  byId("rebuild-model").replaceChildren(...names.map((name) => new Option(name)));
  byId("rebuild-bits").value = info.bits;
}

function tellKey() {
  byId("key-state").textContent = holdsKey() ? "A key is in the memory of this page." : "No key is in use.";
  byId("key-forget").hidden = !holdsKey();
}

closable(sheet);
byId("about-open").addEventListener("click", () => {
  sheet.showModal();
  sheet.scrollTop = 0;
  tellKey();
  attempt(offerModels);
});
byId("key-enter").addEventListener("click", async () => {
  await enterKey("Whoever runs this service can give you one.");
  tellKey();
});
byId("key-forget").addEventListener("click", () => {
  forgetKey();
  tellKey();
  byId("key-enter").focus();
});
for (const tellIt of [tellFacts, tellCodes, tellGenerations]) onIndex(tellIt);
