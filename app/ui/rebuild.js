// Rebuilds: started, followed while they run, cancelled. A running one is found again after a reload.

import { get, post } from "./api.js";
import { byId, counted, make } from "./dom.js";
import { currentInfo, onIndex } from "./indexes.js";
import { attempt } from "./messages.js";

const POLL_MS = 500;
const form = byId("rebuild");
const section = byId("job");
const cancel = byId("job-cancel");
const state = byId("job-state");
const inHeader = byId("serving-job");

let done = async () => {};
let followed = null; // id of the job on screen
let asked = null; // the key that makes one rebuild of a request sent twice

/** Calls back when a rebuild has swapped. */
export function watchJobs(callback) {
  done = callback;
}

const isFinal = ({ state }) => ["done", "failed", "cancelled"].includes(state);

async function start() {
  const info = currentInfo();
  const wanted = { reuse: byId("rebuild-reuse").checked, dry_run: byId("rebuild-dry").checked };
  const model = byId("rebuild-model").value;
  const bits = Number(byId("rebuild-bits").value);
  if (model && model !== info.model.name) wanted.model = model;
  if (bits && bits !== info.bits) wanted.bits = bits;
  asked ??= String(crypto.getRandomValues(new BigUint64Array(1))[0]);
  const headers = { "Content-Type": "application/json", "Idempotency-Key": asked };
  const job = await post(`/v1/indexes/${info.name}/rebuild`, wanted, { headers });
  asked = null;
  attempt(() => follow(job, wanted.dry_run)); // its end is not awaited: the form is free before
}

async function follow(job, isDry = false) {
  followed = job.id;
  while (true) {
    show(job, isDry);
    if (isFinal(job)) break;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    job = await get(`/v1/jobs/${job.id}`, { quiet: true }).catch(() => job); // a lost answer is asked for again
    if (followed !== job.id) return;
  }
  if (job.state === "done" && !isDry && job.index === currentInfo().name) await done();
}

function show(job, isDry) {
  const running = !isFinal(job);
  const holdsFocus = [form, section].some((part) => part.contains(document.activeElement));
  section.hidden = false;
  cancel.hidden = !running;
  form.hidden = running;
  inHeader.hidden = !running;
  if (holdsFocus) (running ? cancel : state).focus(); // what was pressed may be hidden now
  for (const bar of [byId("job-progress"), inHeader]) {
    if (job.total) bar.value = job.done / job.total;
    else bar.removeAttribute("value"); // the plan is not made yet
  }
  say(state, headline(job, isDry));
  byId("job-figures").textContent = figures(job);
  showSkipped(job.skipped);
}

function headline(job, isDry) {
  const name = isDry ? "Dry run" : "Rebuild";
  const said = { queued: "is waiting", running: "is running", done: "is done", failed: "has failed", cancelled: "was cancelled" };
  return `${name} of ${job.index} ${said[job.state]}${job.error ? `: ${job.error}` : ""}`;
}

function figures({ done: items, total, rate, eta_s: left }) {
  const said = total ? [`${items.toLocaleString()} of ${counted(total, "item")}`] : ["planning"];
  if (rate) said.push(`${rate.toFixed(rate < 10 ? 1 : 0)} a second`);
  if (left) said.push(`about ${left < 90 ? counted(Math.ceil(left), "second") : counted(Math.round(left / 60), "minute")} left`);
  return said.join(" · ");
}

function showSkipped(skipped) {
  const details = byId("job-skipped");
  details.hidden = !skipped.length;
  details.querySelector("summary").textContent = `${counted(skipped.length, "item")} left out`;
  details.querySelector("ul").replaceChildren(...skipped.map(({ id, reason }) => make("li", {}, `${id}: ${reason}`)));
}

/** Changes a live region only when it has news, so that a screen reader does not repeat itself. */
function say(region, text) {
  if (region.textContent !== text) region.textContent = text;
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(start);
});
form.addEventListener("change", () => (asked = null));
cancel.addEventListener("click", () =>
  attempt(async () => {
    await post(`/v1/jobs/${followed}/cancel`, {});
  }),
);
onIndex(async ({ name }) => {
  const { jobs } = await get("/v1/jobs", { quiet: true }).catch(() => ({ jobs: [] }));
  const running = jobs.find((job) => job.index === name && !isFinal(job));
  if (running && running.id !== followed) attempt(() => follow(running));
});
