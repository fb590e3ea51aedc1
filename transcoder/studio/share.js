// Sharing: for how long, for whom, from when; and the two links that come of it.

import { address, json, reason } from "./api.js";
import { announce, button, h, write } from "./dom.js";
import { moment, span } from "./words.js";

const HOUR = 60 * 60;
const DAY = 24 * HOUR;
const PRESETS = [
  ["hour", "1 hour", HOUR],
  ["half", "12 hours", 12 * HOUR],
  ["day", "1 day", DAY],
  ["week", "7 days", 7 * DAY],
];
const UNITS = [
  ["minutes", 60],
  ["hours", HOUR],
  ["days", DAY],
];
const ONLY_HERE =
  "The studio runs at an address that only this computer can reach, so the page opens only here. " +
  "Whether others reach the stream depends on the edge’s address.";
const LOOPBACK = /^(localhost|.*\.localhost|127\.\d+\.\d+\.\d+|\[::1\])$/;

/** The address of the page that plays a signed URL, which stands behind the `#` and is sent to nobody. */
export function watchPage({ title, url, storyboard, poster }) {
  const page = new URL(address("watch"));
  page.searchParams.set("title", title);
  if (storyboard) page.searchParams.set("storyboard", storyboard);
  if (poster) page.searchParams.set("poster", poster);
  return `${page.href}#${url}`;
}

/** The form, and what came of it. `playback` is what `/v1/studio` says of lifetimes. */
export function sharePanel(asset, playback) {
  const { longest, margin } = playback ?? {};
  const usual = margin === undefined ? "Its playing time" : `Its playing time and ${span(margin)}`;
  const own = h("input", {
    type: "number",
    id: "own-number",
    min: 1,
    step: 1,
    value: 2,
    inputmode: "numeric",
  });
  const unit = h(
    "select",
    { id: "own-unit", "aria-label": "Unit of the lifetime" },
    UNITS.map(([name], index) => h("option", { value: index, selected: name === "hours" }, name)),
  );
  const ownRow = h(
    "div",
    { class: "own", hidden: true },
    h("label", { class: "field", for: "own-number" }, h("span", {}, "Lifetime"), own),
    unit,
  );
  const choices = [
    ["usual", usual],
    ...PRESETS.filter(([, , seconds]) => !longest || seconds <= longest).map(([name, words]) => [
      name,
      words,
    ]),
    ["own", "Another time"],
  ].map(([value, words], index) =>
    h(
      "label",
      { class: "choice" },
      h("input", { type: "radio", name: "lifetime", value, checked: index === 0 }),
      h("span", {}, words),
    ),
  );
  const ip = h("input", {
    id: "share-ip",
    autocomplete: "off",
    spellcheck: "false",
    "aria-describedby": "share-ip-help",
    maxlength: 64,
  });
  const starts = h("input", {
    type: "datetime-local",
    id: "share-starts",
    "aria-describedby": "share-starts-help",
  });
  const problem = h("p", { class: "bad", role: "alert", hidden: true });
  const result = h("div", { class: "links", hidden: true });
  const make = h("button", { class: "primary" }, "Make the link");
  const form = h(
    "form",
    { novalidate: true, autocomplete: "off" },
    h("fieldset", {}, h("legend", {}, "How long it works"), h("div", { class: "choices" }, choices), ownRow),
    longest && h("p", { class: "quiet" }, `At most ${span(longest)}.`),
    h(
      "details",
      {},
      h("summary", {}, "Only for one address, or later"),
      h(
        "div",
        { class: "pair" },
        h(
          "div",
          {},
          h("label", { class: "field", for: "share-ip" }, h("span", {}, "Only from this address"), ip),
          h("p", { id: "share-ip-help", class: "quiet" }, "Such as 192.0.2.7, or a range: 192.0.2.0/24."),
        ),
        h(
          "div",
          {},
          h("label", { class: "field", for: "share-starts" }, h("span", {}, "Not before"), starts),
          h("p", { id: "share-starts-help", class: "quiet" }, "By this computer’s clock."),
        ),
      ),
    ),
    problem,
    h("div", { class: "actions" }, make),
  );

  const lifetime = () => {
    const chosen = form.elements.lifetime.value;
    if (chosen === "usual") return undefined;
    if (chosen !== "own") return PRESETS.find(([name]) => name === chosen)[2];
    return Math.round(own.valueAsNumber * UNITS[unit.value][1]);
  };

  form.addEventListener("change", () => (ownRow.hidden = form.elements.lifetime.value !== "own"));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    [own, ip, starts].forEach((input) => input.removeAttribute("aria-invalid"));
    problem.hidden = true;
    // An earlier link is not what is asked for now.
    result.hidden = true;
    const refuse = (words, input) => {
      write(problem, words);
      problem.hidden = false;
      if (!input) return;
      input.setAttribute("aria-invalid", "true");
      input.closest("details")?.setAttribute("open", "");
      input.focus();
    };
    const seconds = lifetime();
    if (seconds !== undefined && !(seconds > 0))
      return refuse("Say how long it works: a number above 0.", own);
    if (longest && seconds > longest) {
      return refuse(`That is longer than this service allows: ${span(longest)} at most.`, own);
    }
    if (starts.validity.badInput) return refuse("Give the day and the time from when on it works.", starts);
    const wish = { asset: asset.asset };
    if (seconds !== undefined) wish.lifetime = seconds;
    if (ip.value.trim()) wish.ip = ip.value.trim();
    if (starts.value) wish.starts = new Date(starts.value).toISOString();
    if (make.ariaDisabled === "true") return undefined;
    make.ariaDisabled = "true";
    try {
      show(await json("v1/playback", { body: wish }), wish);
    } catch (error) {
      // The service names the member of the request that it minds.
      const [member, name] = error.message.match(/^`(\w+)`/) ?? [];
      const words = reason(error);
      refuse(member ? words.replace(member, "This") : words, { ip, starts, lifetime: own }[name]);
    }
    make.ariaDisabled = null;
    return undefined;
  });

  function show({ url, expires }, { ip: from, starts: begins }) {
    const page = watchPage({ title: asset.asset, url, storyboard: asset.storyboard, poster: asset.poster });
    const whom = from ? `whoever asks from ${from}` : "whoever has the link";
    const words = `Opens ${asset.asset}, and nothing else, for ${whom}, ${
      begins ? `from ${moment(begins)} ` : ""
    }until ${moment(expires)}.`;
    result.replaceChildren(
      h("p", { class: "terms" }, words),
      link("Page that plays it", page, true),
      link("Stream, for a player", url, false),
      h("p", { class: "quiet", hidden: !LOOPBACK.test(location.hostname) }, ONLY_HERE),
    );
    result.hidden = false;
    announce(`The link is made. ${words}`);
  }

  return h("div", { class: "share" }, form, result);
}

function link(words, href, isPage) {
  const id = isPage ? "link-page" : "link-stream";
  const field = h("input", { id, readonly: true, value: href, spellcheck: "false" });
  field.addEventListener("focus", () => field.select());
  const copy = button("Copy", () => copied(copy, field), { sign: "copy", "aria-label": `Copy: ${words}` });
  return h(
    "div",
    { class: "link" },
    h("label", { class: "field", for: id }, h("span", {}, words), field),
    h(
      "div",
      { class: "actions" },
      copy,
      isPage && h("a", { class: "button", href, target: "_blank", rel: "noopener noreferrer" }, "Open"),
    ),
  );
}

async function copied(copy, field) {
  let isDone = true;
  try {
    await navigator.clipboard.writeText(field.value);
  } catch {
    // No clipboard outside of https and localhost, or it was refused.
    field.focus();
    field.select();
    isDone = document.execCommand("copy");
    copy.focus();
  }
  // What is read out begins with what is seen.
  const say = (words) => {
    copy.lastChild.textContent = words;
    copy.ariaLabel = copy.ariaLabel.replace(/^[^:]*/, words);
  };
  say(isDone ? "Copied" : "Press Ctrl+C");
  if (!isDone) field.focus();
  announce(isDone ? "Copied" : "It could not be copied: it is selected, press Ctrl+C");
  setTimeout(() => say("Copy"), 2500);
}
