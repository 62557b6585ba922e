// The page of Crossbit: asks the service that serves it, and nobody else.

const PAGE_SIZE = 24;
const byId = (id) => document.getElementById(id);
const [form, query, file, index, target, radius] = ["search", "query", "file", "index", "target", "radius"].map(byId);
const [results, more, statusLine, problem] = ["results", "more", "status", "problem"].map(byId);

let asked = null; // the query on screen: {kind: "text", text} | {kind: "image", file} | {kind: "item", hit}
let cursor = null; // where its next page starts
let running = null; // AbortController of the request under way
let askedImage = null; // object URL of the image that was asked with

class Refused extends Error {}

async function call(path, options) {
  const answer = await fetch(path, options);
  const body = await answer.json().catch(() => null);
  if (!answer.ok) throw new Refused(body?.detail ?? `The service answered ${answer.status}.`);
  return body;
}

function json(path, body, signal) {
  return call(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal });
}

function request(page, signal) {
  const options = { index: index.value, target: target.value, limit: PAGE_SIZE };
  if (radius.value !== "") options.radius = Number(radius.value);
  if (page) options.cursor = page;
  if (asked.kind === "text") return json("/v1/search/text", { query: asked.text, ...options }, signal);
  if (asked.kind === "item") {
    const column = asked.hit.image_url ? "image" : "text";
    return json("/v1/search/item", { item_id: asked.hit.id, column, ...options }, signal);
  }
  const body = new FormData();
  body.append("file", asked.file);
  for (const [name, value] of Object.entries(options)) body.append(name, value);
  return call("/v1/search/image", { method: "POST", body, signal });
}

async function search(page = null) {
  running?.abort();
  const mine = (running = new AbortController());
  problem.hidden = true;
  results.setAttribute("aria-busy", "true");
  statusLine.textContent = "Searching…";
  try {
    const answer = await request(page, mine.signal);
    if (mine === running) show(answer, page !== null);
  } catch (error) {
    if (mine !== running || error.name === "AbortError") return;
    if (!page) results.replaceChildren(); // what is on screen would pass for the answer
    more.hidden = true;
    refuse(error);
  } finally {
    if (mine === running) results.removeAttribute("aria-busy");
  }
}

function ask(next) {
  asked = next;
  URL.revokeObjectURL(askedImage);
  askedImage = next.kind === "image" ? URL.createObjectURL(next.file) : null;
  const picture = byId("asked-image");
  const source = askedImage ?? (next.kind === "item" ? next.hit.image_url : null);
  picture.hidden = !source;
  if (source) picture.src = source;
  else picture.removeAttribute("src");
  byId("asked-text").textContent = {
    text: () => `Results for “${next.text}”`,
    image: () => `Results for ${next.file.name || "the pasted image"}`,
    item: () => `More like “${next.hit.text ?? next.hit.id}”`,
  }[next.kind]();
  byId("examples").hidden = true;
  byId("asked").hidden = false;
  scrollTo({ top: 0 });
  search();
}

function show(answer, isNextPage) {
  const first = results.childElementCount;
  const hits = answer.hits.filter(({ id }) => asked.kind !== "item" || id !== asked.hit.id).map(card);
  if (isNextPage) results.append(...hits);
  else results.replaceChildren(...hits);
  if (isNextPage && hits.length) results.children[first].querySelector("button").focus();
  cursor = answer.next_cursor;
  more.hidden = cursor === null;
  const shown = results.childElementCount;
  const within = answer.total_within_radius === undefined ? "" : ` within distance ${radius.value}`;
  const all = within && !more.hidden ? ` of ${answer.total_within_radius.toLocaleString()}` : "";
  const { total, encode } = answer.took_ms;
  const encoding = encode ? ` (${encode.toFixed(1)} ms to encode)` : "";
  const cut = answer.truncated_tokens ? ` The text was too long: ${answer.truncated_tokens} tokens were left out.` : "";
  statusLine.textContent = shown
    ? `${shown.toLocaleString()}${all} ${shown === 1 ? "result" : "results"}${within} in ${total.toFixed(1)} ms${encoding}.${cut}`
    : `Nothing found${within}.${cut}`;
}

function card(hit) {
  const node = byId("hit").content.cloneNode(true);
  const find = (selector) => node.querySelector(selector);
  const caption = hit.text ?? hit.id;
  const picture = find("img");
  if (hit.image_url) picture.src = hit.image_url;
  picture.hidden = !hit.image_url;
  find(".nothing").hidden = Boolean(hit.image_url);
  find(".caption").textContent = caption;
  find(".distance").textContent = `distance ${hit.distance}`;
  find(".similarity").textContent = `${Math.round(hit.similarity * 100)} %`;
  find("meter").value = hit.similarity;
  find(".labels").textContent = Array.isArray(hit.metadata.labels) ? hit.metadata.labels.join(" · ") : "";
  const button = find("button");
  const tied = hit.tie.size > 1 ? `, tied with ${hit.tie.size - 1} more` : "";
  button.title = `Rank ${hit.rank}${tied}. Show more like this.`;
  button.setAttribute("aria-label", `${caption}, distance ${hit.distance}, rank ${hit.rank}${tied}. Show more like this.`);
  button.addEventListener("click", () => ask({ kind: "item", hit }));
  return node;
}

function refuse(error) {
  problem.textContent = error instanceof Refused ? error.message : "The service cannot be reached. Is it still running?";
  problem.hidden = false;
  statusLine.textContent = "";
}

function askWithImage(files) {
  const image = [...files].find((candidate) => candidate.type.startsWith("image/"));
  if (image) ask({ kind: "image", file: image });
  else refuse(new Refused("That is not an image; drop a JPEG, PNG, WebP, GIF, BMP or TIFF file."));
}

function clear() {
  running?.abort();
  asked = cursor = null;
  results.replaceChildren();
  byId("asked").hidden = more.hidden = problem.hidden = true;
  byId("examples").hidden = false;
  statusLine.textContent = "";
  query.value = "";
  query.focus();
}

async function connect() {
  const { indexes, refused } = await call("/v1/indexes");
  if (!indexes.length && !refused.length) {
    throw new Refused("There is no index yet. Build one with `crossbit index build`, then start the service again.");
  }
  index.replaceChildren(...indexes.map(({ name }) => new Option(name)));
  const describe = () => {
    const chosen = indexes.find(({ name }) => name === index.value);
    const items = Math.max(...Object.values(chosen.columns)).toLocaleString();
    byId("serving").textContent = `${items} items · model ${chosen.model.name}, ${chosen.bits} bits, ${chosen.model.fingerprint.slice(0, 8)} · generation ${chosen.generation}`;
    byId("bits").textContent = chosen.bits;
    radius.max = chosen.bits;
  };
  index.addEventListener("change", describe);
  if (indexes.length) describe();
  if (refused.length) {
    refuse(new Refused(refused.map(({ name, detail }) => `Index ${name} is not served: ${detail}`).join(" ")));
  }
}

function hasFiles(event) {
  return event.dataTransfer?.types.includes("Files");
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const text = query.value.trim();
  if (text) ask({ kind: "text", text });
  else query.focus();
});
file.addEventListener("change", () => {
  if (file.files.length) askWithImage(file.files);
  file.value = ""; // so that the same file can be picked again
});
for (const control of [index, target, radius]) {
  control.addEventListener("change", () => {
    if (asked?.kind === "item" && control === index) clear(); // items of one index mean nothing in another
    else if (asked && radius.reportValidity()) search();
  });
}
byId("examples").addEventListener("click", ({ target: { dataset } }) => {
  if (!dataset.query) return;
  query.value = dataset.query;
  form.requestSubmit();
});
byId("asked-image").addEventListener("error", ({ target: picture }) => {
  picture.hidden = true;
});
more.addEventListener("click", () => search(cursor));
byId("clear").addEventListener("click", clear);
addEventListener("paste", (event) => {
  if (event.clipboardData?.files.length) askWithImage(event.clipboardData.files);
});
addEventListener("dragover", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  byId("drop").hidden = false;
});
addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) byId("drop").hidden = true;
});
addEventListener("drop", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  byId("drop").hidden = true;
  askWithImage(event.dataTransfer.files);
});

connect().catch(refuse);
