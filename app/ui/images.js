// Ways an image comes in: picked, pasted, dropped.

import { byId } from "./dom.js";

const picker = byId("file");
const veil = byId("drop");

/** Calls back with the image, or with null for files that are none. */
export function onImage(callback) {
  const take = (files) => callback([...files].find(({ type }) => type.startsWith("image/")) ?? null);

  picker.addEventListener("change", () => {
    if (picker.files.length) take(picker.files);
    picker.value = ""; // so that the same file can be picked again
  });
  addEventListener("paste", ({ clipboardData }) => {
    if (clipboardData?.files.length) take(clipboardData.files);
  });
  addEventListener("dragover", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    veil.hidden = false;
  });
  addEventListener("dragleave", ({ relatedTarget }) => {
    if (relatedTarget === null) veil.hidden = true;
  });
  addEventListener("drop", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    veil.hidden = true;
    take(event.dataTransfer.files);
  });
}

const holdsFiles = ({ dataTransfer }) => dataTransfer?.types.includes("Files");
