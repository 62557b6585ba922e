// Calls to the service that serves this page, and to nobody else. The key lives in this module and nowhere longer.

import { promptForKey } from "./key.js";

let key = null;

/** An answer of the service that is a problem, or no answer at all. */
export class Refused extends Error {
  constructor(detail, { title = "", code = "" } = {}) {
    super(detail);
    this.title = title;
    this.code = code;
  }
}

export const holdsKey = () => key !== null;

export function forgetKey() {
  key = null;
}

/** Asks for a key; whether one was given. */
export async function enterKey(reason) {
  const given = await promptForKey(reason);
  if (given !== null) key = given;
  return given !== null;
}

/** The answer to a request. Where a key is wanted, asks for it and tries again; a quiet call does not ask. */
export async function send(path, { quiet = false, ...options } = {}) {
  for (;;) {
    const used = key;
    const answer = await reach(path, used, options);
    if (answer.ok) return answer;
    const refused = await refusal(answer);
    if (quiet || !wantsKey(refused)) throw refused;
    const reason = used === null ? "Whoever runs it can give you one." : refused.message;
    if (used === key && !(await enterKey(reason))) throw refused;
  }
}

export const get = async (path, options) => (await send(path, options)).json();

export async function post(path, body, options = {}) {
  const isForm = body instanceof FormData;
  const headers = isForm ? {} : { "Content-Type": "application/json" };
  const answer = await send(path, { method: "POST", headers, body: isForm ? body : JSON.stringify(body), ...options });
  return answer.json();
}

export const itemPath = (index, id) => `/v1/indexes/${index}/items/${encodeURIComponent(id)}`;

async function reach(path, used, options) {
  const headers = { ...options.headers, ...(used === null ? {} : { Authorization: `Bearer ${used}` }) };
  try {
    return await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("The service cannot be reached. Is it still running?", { title: "No answer." });
  }
}

async function refusal(answer) {
  const body = await answer.json().catch(() => null);
  return new Refused(sentence(body?.detail ?? `the service answered ${answer.status}`), {
    title: body?.title ? `${body.title}.` : "",
    code: body?.code,
  });
}

const sentence = (detail) => detail.charAt(0).toUpperCase() + detail.slice(1);
const wantsKey = ({ code }) => code === "unauthorized" || code === "forbidden";
