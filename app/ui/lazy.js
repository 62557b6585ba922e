// Work that waits until its element is nearly on screen, and pictures loaded that way.

import { send } from "./api.js";

const tasks = new WeakMap();
const observer = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      observer.unobserve(target);
      tasks.get(target)();
    }
  },
  { rootMargin: "200px" },
);

export function whenNear(node, task) {
  tasks.set(node, task);
  observer.observe(node);
}

/** Shows the picture at a path of the service. Fetched, because an <img> cannot send the key. */
export async function showPicture(image, path) {
  try {
    const answer = await send(path, { quiet: true });
    await showBlob(image, await answer.blob());
    return true;
  } catch {
    image.hidden = true; // the caption says what it would show
    return false;
  }
}

/** Shows a picture that is at hand; throws where the browser cannot draw it. */
export async function showBlob(image, blob) {
  const url = URL.createObjectURL(blob);
  image.src = url;
  try {
    await image.decode();
    image.hidden = false;
  } finally {
    URL.revokeObjectURL(url);
  }
}
