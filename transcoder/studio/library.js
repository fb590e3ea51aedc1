// The library: where videos are dropped, what goes on, and all that can be watched.

import { activity } from "./activity.js";
import { Unreachable, json, reason, segment, service } from "./api.js";
import { announce, arrange, button, h, icon, named, write } from "./dom.js";
import { viewOf } from "./jobs.js";
import { showPoster } from "./posters.js";
import { age, bytes, clock, moment, several, span, summary, together } from "./words.js";

const FIRST_PAGE = 48;
const PAGE = 200;
/** So many cards are made at once; the next ones when one has scrolled near to the last. */
const CARDS = 60;

const names = new Intl.Collator("en", { numeric: true });
const ORDERS = {
  newest: (a, b) => Date.parse(b.created) - Date.parse(a.created) || (a.name < b.name ? -1 : 1),
  name: (a, b) => names.compare(a.name, b.name),
};

/** All assets, in summary. It tells of `change`, and of `removed` with the name. */
export class Assets extends EventTarget {
  #byName = new Map();
  isWhole = false;
  problem = undefined;
  #loads = 0;
  #found = new Set();

  get all() {
    return [...this.#byName.values()];
  }

  get size() {
    return this.#byName.size;
  }

  has(name) {
    return this.#byName.has(name);
  }

  /** Asks for all of them, page by page. */
  async load() {
    const mine = (this.#loads += 1);
    this.#found = new Set();
    this.isWhole = false;
    this.problem = undefined;
    try {
      let after;
      do {
        const query = new URLSearchParams({ limit: after === undefined ? FIRST_PAGE : PAGE });
        if (after !== undefined) query.set("after", after);
        const page = await json(`v1/assets?${query}`);
        if (mine !== this.#loads) return;
        for (const asset of page.assets.map(summary)) this.#keep(asset);
        after = page.next ?? undefined;
        this.#changed();
      } while (after !== undefined);
      for (const name of this.#byName.keys()) if (!this.#found.has(name)) this.#byName.delete(name);
      this.isWhole = true;
    } catch (error) {
      if (mine !== this.#loads) return;
      this.problem = error instanceof Unreachable ? "It goes on when the service answers." : reason(error);
    }
    this.#changed();
  }

  /** Looks at one again, which was published, rolled back or removed. */
  async look(name) {
    try {
      this.take(await json(`v1/assets/${segment(name)}`));
    } catch (error) {
      if (error.status === 404) this.remove(name);
    }
  }

  take(asset) {
    this.#keep(summary(asset));
    this.#changed();
  }

  /** What comes while pages are asked for is on none of them, perhaps, and is there all the same. */
  #keep(asset) {
    this.#found.add(asset.name);
    this.#byName.set(asset.name, asset);
  }

  remove(name) {
    this.#byName.delete(name);
    this.dispatchEvent(new CustomEvent("removed", { detail: name }));
    this.#changed();
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}

/** The library's view, made once: it is hidden while another is shown, and is found again as it was left. */
export function libraryView({ assets, jobs, uploads, choose }) {
  const filter = h("input", {
    type: "search",
    id: "filter",
    placeholder: "Part of a name, 1080p, HDR, French…",
    autocomplete: "off",
    spellcheck: "false",
  });
  const order = h(
    "select",
    { id: "order" },
    h("option", { value: "newest" }, "newest first"),
    h("option", { value: "name" }, "by name"),
  );
  const status = h("p", { class: "quiet" });
  const list = h("ul", { class: "cards" });
  const end = h("div", { class: "end", "aria-hidden": "true" });
  const again = button("Try again", () => assets.load(), { sign: "retry", hidden: true });
  const tools = h(
    "div",
    { class: "tools" },
    h("label", { class: "field", for: "filter" }, h("span", {}, "Find"), filter),
    h("label", { class: "field", for: "order" }, h("span", {}, "Sort"), order),
  );
  const dropWords = h("p", { class: "quiet" });
  const drop = h(
    "section",
    { class: "drop", "aria-labelledby": "drop-title" },
    icon("upload"),
    h("div", {}, h("h2", { id: "drop-title" }, "Add videos"), dropWords),
    button("Choose videos", choose, { kind: "primary", sign: "upload" }),
  );
  const element = h(
    "div",
    { class: "view library" },
    h("h1", { id: "library-title", tabindex: -1 }, "Library"),
    drop,
    activity({ assets, jobs, uploads }),
    h(
      "section",
      { class: "shelf", "aria-labelledby": "shelf-title" },
      h("div", { class: "bar" }, h("div", {}, h("h2", { id: "shelf-title" }, "Videos"), status), tools),
      again,
      list,
      end,
    ),
  );

  const cards = new Map();
  let shown = CARDS;
  let isDrawn = true;

  function found() {
    const terms = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const matches = (asset) => {
      const all = wordsOf(asset);
      return terms.every((term) => all.includes(term));
    };
    const matching = terms.length > 0 ? assets.all.filter(matches) : assets.all;
    return matching.sort(ORDERS[order.value]);
  }

  function draw() {
    isDrawn = true;
    const matching = found();
    const visible = matching.slice(0, shown);
    arrange(list, visible.map(cardOf));
    for (const name of cards.keys()) if (!assets.has(name)) cards.delete(name);
    end.hidden = matching.length <= shown;
    const isEmpty = assets.isWhole && assets.size === 0;
    element.classList.toggle("empty", isEmpty);
    tools.hidden = assets.size < 2;
    again.hidden = !assets.problem;
    write(
      dropWords,
      isEmpty
        ? "Drop a video file anywhere on this page, or choose one. It is encoded in several sizes " +
            "and published; then you can watch it here, and share it."
        : "Drop them anywhere on this page, with captions (.srt, .vtt) of the same name beside them.",
    );
    if (assets.problem && !again.hidden && status.textContent !== statusOf(0)) announce(statusOf(0));
    write(status, statusOf(matching.length));
    list.setAttribute("aria-busy", String(!assets.isWhole && !assets.problem));
  }

  function statusOf(matching) {
    if (assets.problem) return `The library cannot be shown in full. ${assets.problem}`;
    if (!assets.isWhole) {
      return assets.size ? `Loading: ${several(assets.size, "video")} so far…` : "Loading the library…";
    }
    if (assets.size === 0) return "There is no video yet.";
    if (matching === 0) return "No video matches. Try fewer letters.";
    const bytesOf = (all) => all.reduce((sum, asset) => sum + asset.bytes, 0);
    if (filter.value.trim()) return `${several(matching, "video")} of ${assets.size}`;
    return `${several(assets.size, "video")}, ${bytes(bytesOf(assets.all))}`;
  }

  function cardOf(asset) {
    const known = cards.get(asset.name);
    if (known && known.asset.generation === asset.generation && known.asset.bytes === asset.bytes) {
      write(known.age, age(asset.created));
      return known.element;
    }
    const made = card(asset);
    if (known?.element.contains(document.activeElement)) {
      known.element.replaceWith(made.element);
      made.element.querySelector("a").focus();
    }
    cards.set(asset.name, made);
    return made.element;
  }

  function soon() {
    if (!isDrawn) return;
    isDrawn = false;
    requestAnimationFrame(draw);
  }

  new IntersectionObserver(
    ([{ isIntersecting }]) => {
      if (!isIntersecting || end.hidden) return;
      shown += CARDS;
      draw();
    },
    { rootMargin: "1200px" },
  ).observe(end);

  let isSaid;
  const changed = () => {
    shown = CARDS;
    draw();
    clearTimeout(isSaid);
    isSaid = setTimeout(() => filter.value.trim() && announce(status.textContent), 800);
  };
  filter.addEventListener("input", changed);
  order.addEventListener("change", changed);
  assets.addEventListener("change", soon);
  jobs.addEventListener("job", ({ detail: { job, before } }) => {
    if (job.state === "done" && before && before.state !== "done") assets.look(job.asset);
  });
  // What was published while nobody answered is not told.
  service.addEventListener("reachable", () => assets.load());
  // Ages go on.
  setInterval(() => document.hidden || soon(), 60_000);
  draw();
  return { element, title: "Library" };
}

const words = new WeakMap();

/** What an asset is found by. */
function wordsOf(asset) {
  if (words.has(asset)) return words.get(asset);
  const { name, sizes, sound, captions, isHdr, isEncrypted } = asset;
  const marks = [isHdr && "hdr", isEncrypted && "encrypted", captions.length > 0 && "captions"].filter(
    Boolean,
  );
  const all = [name, ...sizes, ...sound, ...captions, ...marks].join(" ").toLowerCase();
  words.set(asset, all);
  return all;
}

function card(asset) {
  const { name, duration, created, sizes, sound, captions } = asset;
  const image = h("img", { alt: "", width: 320, height: 180, decoding: "async" });
  if (asset.hasPoster) showPoster(image, asset);
  const written = h("span", { title: moment(created) }, age(created));
  const spoken = [
    sound.length > 1 && `sound in ${together(sound)}`,
    captions.length > 0 && `captions in ${together(captions)}`,
  ].filter(Boolean);
  const marks = [asset.isHdr && "HDR", asset.isEncrypted && "encrypted"].filter(Boolean);
  const element = h(
    "li",
    { class: "card" },
    h(
      "div",
      { class: "frame" },
      icon("film"),
      image,
      h("span", { class: "duration", "aria-hidden": "true" }, clock(duration)),
    ),
    h(
      "div",
      { class: "text" },
      h("h3", {}, h("a", { href: viewOf(name) }, named(name))),
      h(
        "p",
        { class: "sizes" },
        h("span", {}, sizes.join(" · ") || "sound only"),
        marks.map((mark) => h("span", { class: "mark" }, mark)),
      ),
      spoken.length > 0 && h("p", { class: "quiet" }, spoken.join("; ")),
      h(
        "p",
        { class: "quiet" },
        h("span", { class: "unseen" }, `${span(duration)}, `),
        `${bytes(asset.bytes)} · `,
        written,
      ),
    ),
  );
  return { element, asset, age: written };
}
