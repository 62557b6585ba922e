// Wires the page together.

import { onSwap } from "./about.js";
import { adaptTo, columnsFor, onDirection } from "./direction.js";
import { byId } from "./dom.js";
import { onFilter } from "./filters.js";
import { hideGlimpse, showGlimpse } from "./glimpse.js";
import { onImage } from "./images.js";
import { connect, currentInfo, notServed, readIndex } from "./indexes.js";
import { complain, hush, tell } from "./messages.js";
import { imageQuery, itemQuery, pairQuery, textQuery } from "./queries.js";
import { onRadius } from "./radius.js";
import { onRefine } from "./refine.js";
import { ask, currentQuery, noImage, search, show } from "./search.js";
import { onReturn, rememberStart, sentenceInAddress } from "./trail.js";

const field = byId("query");
const HINTS = {
  text_to_image: "Type a sentence, or drop, paste or pick an image.",
  image_to_text: "Drop, paste or pick an image to find the captions that fit it.",
  same: "Sentences find captions, images find images.",
};

async function start(query) {
  if (!currentInfo()) await boot();
  if (!currentInfo()) return; // the page says why
  hideGlimpse();
  ask(query);
}

function askText(text) {
  field.value = text;
  start(textQuery(text));
}

function glimpse() {
  return showGlimpse(currentInfo(), { like: (hit) => start(itemQuery(hit)), ask: askText });
}

/** Goes to a query of the history, or to the start. */
function go(query) {
  field.value = query?.kind === "text" ? query.text : "";
  if (query) hideGlimpse();
  else if (currentInfo()) glimpse().catch(complain);
  show(query);
}

function leave() {
  rememberStart();
  go(null);
}

byId("search").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = field.value.trim();
  if (text) start(textQuery(text));
  else field.focus();
});
onImage((file) => {
  if (!file) return noImage();
  field.value = "";
  start(imageQuery(file));
});
onRefine((file, text) => start(text ? pairQuery(file, text) : imageQuery(file)));
onDirection((chosen) => {
  byId("hint").textContent = HINTS[chosen];
  if (currentQuery()) currentQuery().direction = chosen;
  search();
});
onRadius(search);
onFilter(search);
onReturn((query) => {
  if (query !== undefined) return go(query);
  const sentence = sentenceInAddress();
  go(sentence ? textQuery(sentence) : null);
});
onSwap((message) => search({ message }));

byId("index").addEventListener("change", async () => {
  hush();
  try {
    await readIndex();
    if (currentQuery()?.kind === "item") leave(); // items of one index mean nothing in another
    else if (currentQuery()) show(currentQuery());
    else await glimpse();
  } catch (error) {
    complain(error);
  }
});
byId("clear").addEventListener("click", () => {
  leave();
  field.focus();
});
byId("glimpse-again").addEventListener("click", () => glimpse().catch(complain));
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // an address with #results would be a step in the history
  byId("results").focus();
});
addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.target.closest("input, select, textarea, dialog")) return;
  event.preventDefault();
  field.focus();
});

let booting = null;

function boot() {
  booting ??= open().finally(() => (booting = null));
  return booting;
}

async function open() {
  byId("again").hidden = true;
  hush();
  try {
    const refused = await connect((opening) => tell(opening.message));
    tell("");
    adaptTo(null, currentInfo());
    if (refused.length) complain(notServed(refused));
    const sentence = sentenceInAddress();
    if (sentence) go(textQuery(sentence));
    else await glimpse();
  } catch (error) {
    byId("serving").textContent = "Not connected";
    byId("again").hidden = currentInfo() !== null;
    complain(error);
  }
}

byId("again").addEventListener("click", boot);
await boot();
