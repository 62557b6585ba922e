// What can be asked with: a sentence, an image file, both together, a stored item. Each becomes a code once; the service then
// searches by that code, so that paging, radius, filters and direction never encode it again.

import { get, itemPath, post } from "./api.js";

export const textQuery = (text) => ({ kind: "text", text, title: `“${text}”` });
export const imageQuery = (file) => ({ kind: "image", file, title: nameOf(file) });
export const pairQuery = (file, text) => ({ kind: "pair", file, text, title: `${nameOf(file)}, but “${text}”` });
export const itemQuery = (hit) => ({
  kind: "item",
  hit,
  title: `More like “${hit.text ?? hit.id}”`,
});

const nameOf = (file) => file.name || "The pasted image";

/** The query's code in a column: {column, code, fingerprint, encoded?}. */
export async function codeOf(query, column, info, signal) {
  if (query.kind === "item") {
    const item = await get(itemPath(info.name, query.hit.id), { signal });
    return { column, code: item.codes[column][0], fingerprint: info.model.fingerprint };
  }
  const encoded = await encode(query, info.name, signal);
  return { column, code: encoded.codes[0], fingerprint: encoded.fingerprint, encoded };
}

function encode(query, index, signal) {
  if (query.kind === "text") return post("/v1/encode/text", { query: query.text, index }, { signal });
  const form = new FormData();
  form.append("file", query.file);
  form.append("index", index);
  if (query.kind === "pair") form.append("text", query.text);
  return post(`/v1/encode/${query.kind}`, form, { signal });
}

/** What the service's answer to the encoding says beside the code. */
export function remarks({ code, encoded }) {
  const said = [`${code.length * 4} bits`];
  if (encoded?.near_zero_bits[0]) said.push(`${encoded.near_zero_bits[0]} near zero`);
  if (encoded) said.push(`encoded in ${encoded.took_ms.total.toFixed(1)} ms`);
  if (encoded?.truncated_tokens[0]) said.push(`too long: ${encoded.truncated_tokens[0]} tokens were left out`);
  return said.join(" · ");
}
