// The radius slider, off until its box is ticked.

import { byId } from "./dom.js";

const PAUSE_MS = 120;
const slider = byId("radius");
const box = byId("radius-on");
const value = byId("radius-value");

/** The largest distance that is wanted, or null. */
export const radius = () => (box.checked ? Number(slider.value) : null);

/** Sets the slider's range to the index's bits. */
export function setBits(bits) {
  if (slider.max !== String(bits)) {
    slider.max = bits;
    slider.value = Math.round(bits / 4);
  }
  tell();
}

/** Calls back with the slider still moving: a search by code is quick. */
export function onRadius(callback) {
  let waiting = 0;
  box.addEventListener("change", () => {
    slider.disabled = !box.checked;
    tell();
    callback();
  });
  slider.addEventListener("input", () => {
    tell();
    clearTimeout(waiting);
    waiting = setTimeout(callback, PAUSE_MS);
  });
}

function tell() {
  value.textContent = box.checked ? `${slider.value} of ${slider.max}` : "any";
  slider.setAttribute("aria-valuetext", `${slider.value} of ${slider.max} bits`);
}
