// Posters of what is in sight. They need the token, so they are fetched; what was scrolled past is not.

import { ask, segment } from "./api.js";

const AT_ONCE = 4;
const KEPT = 400;

const made = new Map();
const wanted = new Map();
let running = 0;

const observer = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting) wanted.set(target, target.dataset.poster);
      else wanted.delete(target);
    }
    pump();
  },
  { rootMargin: "300px" },
);

/** Shows an asset's poster in an image once that comes into sight. */
export function showPoster(image, { name, generation }) {
  const key = `${name}\n${generation}`;
  image.dataset.poster = key;
  if (made.has(key)) return put(image, key);
  observer.observe(image);
}

function pump() {
  while (running < AT_ONCE && wanted.size > 0) {
    // The last that came into sight is what is looked at.
    const [image, key] = [...wanted].at(-1);
    wanted.delete(image);
    observer.unobserve(image);
    running += 1;
    fetched(key)
      .then(() => put(image, key))
      // Without it the card has its film strip.
      .catch(() => undefined)
      .finally(() => {
        running -= 1;
        pump();
      });
  }
}

async function fetched(key) {
  if (made.has(key)) return;
  const answer = await ask(`v1/assets/${segment(key.split("\n")[0])}/poster`, { cache: "default" });
  made.set(key, URL.createObjectURL(await answer.blob()));
  if (made.size <= KEPT) return;
  const [oldest, url] = made.entries().next().value;
  made.delete(oldest);
  URL.revokeObjectURL(url);
}

function put(image, key) {
  if (image.dataset.poster !== key) return;
  image.src = made.get(key);
  image.decode().then(
    () => image.classList.add("seen"),
    () => undefined,
  );
}
