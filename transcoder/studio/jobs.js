// What is being made of the uploads, live: one job a row, with its step, its percent and its end.

import { Unreachable, json, listen, reason, segment, service } from "./api.js";
import { confirmed } from "./dialogs.js";
import { announce, arrange, button, complain, h, icon, write } from "./dom.js";
import { STATES, age, bytes, left, moment, sentence, several } from "./words.js";

const PAGE = 50;
const LISTED = 200;

/** Named as a person follows them; the service's own names for the states are among them. */
const STEPS = [
  ["uploading", "Upload"],
  ["probing", "Inspect"],
  ["encoding", "Encode"],
  ["publishing", "Publish"],
];

const FINAL = ["done", "failed", "cancelled"];

export const isOver = ({ state }) => FINAL.includes(state);

/** The path of an asset's view. */
export const viewOf = (asset) => `#/assets/${segment(asset)}`;

/** All jobs that are known here. It tells of `job` with `{job, before}` whenever one is new or changed. */
export class Jobs extends EventTarget {
  #byId = new Map();

  /** The newest first. */
  get all() {
    return [...this.#byId.values()].sort((a, b) => Date.parse(b.created) - Date.parse(a.created));
  }

  /** Goes on hearing of them for as long as the page is open. */
  follow() {
    this.refresh().catch(() => undefined);
    listen("v1/jobs/events", (event, data) => {
      if (event === "job") this.take(JSON.parse(data));
      // What happened before is not told.
      if (event === "open" || event === "lagged") this.refresh().catch(() => undefined);
    });
  }

  /** Asks for what may have been missed. */
  async refresh() {
    // What runs may be far older than what waits.
    const pages = [`state=probing,encoding,publishing&limit=${LISTED}`, `limit=${LISTED}`];
    const lists = await Promise.all(pages.map((query) => json(`v1/jobs?${query}`)));
    lists.forEach(({ jobs }) => jobs.forEach((job) => this.take(job)));
  }

  take(job) {
    const before = this.#byId.get(job.id);
    if (before && Date.parse(before.updated) > Date.parse(job.updated)) return;
    this.#byId.set(job.id, job);
    this.dispatchEvent(new CustomEvent("job", { detail: { job, before } }));
  }

  async cancel({ id }) {
    this.take(await json(`v1/jobs/${segment(id)}`, { method: "DELETE" }));
  }

  async retry({ id }) {
    this.take(await json(`v1/jobs/${segment(id)}/retry`, { method: "POST" }));
  }
}

/** Says out loud where a job went, but not each percent of its way. */
export function tell({ job, before }) {
  if (!before || before.state === job.state) return;
  if (job.state === "failed") announce(`${job.asset}: failed. ${sentence(job.reason ?? "")}`);
  else if (job.state !== "queued") announce(`${job.asset}: ${STATES[job.state].toLowerCase()}`);
}

/** A row of something under way: an upload or a job. */
export class Row {
  #sign = h("span", { class: "sign" });
  #title;
  #about = h("p", { class: "quiet about" });
  #said = h("p", { class: "said" });
  #progress = h("progress", { max: 100 });
  #steps = h("ol", { class: "steps" });
  #actions = h("div", { class: "actions" });
  #shown = "";

  /** `heading` is what its name is on this page, `h2` or `h3`. */
  constructor(heading = "h2") {
    this.#title = h(heading);
    for (const [, words] of STEPS) this.#steps.append(h("li", {}, words));
    this.element = h(
      "li",
      { class: "row" },
      this.#sign,
      h("div", { class: "words" }, this.#title, this.#about),
      this.#actions,
      h("div", { class: "state" }, this.#said, this.#progress, this.#steps),
    );
  }

  /**
   * What it is called, about what file, how far it is (`step`, `percent`), and what that is in words. `tone`
   * is `busy`, `waiting`, `good`, `bad` or `over`.
   */
  show({ title, link, about, said, step, percent, tone }) {
    this.element.dataset.tone = tone;
    const head = JSON.stringify([title, link, tone]);
    if (head !== this.#shown) {
      this.#shown = head;
      const hadFocus = this.#title.contains(document.activeElement);
      const name = link ? h("a", { href: link }, title) : title;
      this.#title.replaceChildren(name);
      if (hadFocus && link) name.focus();
      this.#sign.replaceChildren(
        icon({ good: "done", bad: "failed" }[tone] ?? (step === "uploading" ? "upload" : "film")),
      );
      this.#progress.setAttribute("aria-label", `${title}: progress`);
    }
    write(this.#about, about);
    write(this.#said, said);
    const isUnderWay = step !== undefined;
    this.#progress.hidden = !isUnderWay;
    this.#steps.hidden = !isUnderWay;
    if (!isUnderWay) return;
    if (percent === undefined || percent === null) this.#progress.removeAttribute("value");
    else this.#progress.value = percent;
    const present = STEPS.findIndex(([name]) => name === step);
    [...this.#steps.children].forEach((item, index) => {
      item.toggleAttribute("data-done", index < present);
      if (index === present) item.setAttribute("aria-current", "step");
      else item.removeAttribute("aria-current");
    });
  }

  /** Offers what can be done now: `[words, what it does, options of the button]` each. */
  offer(...actions) {
    const wanted = actions.filter(Boolean);
    const words = wanted.map(([words]) => words).join("\n");
    if (this.#actions.dataset.words === words) return;
    this.#actions.dataset.words = words;
    const hadFocus = this.#actions.contains(document.activeElement);
    this.#actions.replaceChildren(...wanted.map(([words, act, options]) => actor(words, act, options)));
    // The button that was pressed is gone: the next one, or the row itself, is where the keyboard goes on.
    if (hadFocus) (this.#actions.querySelector("button, a") ?? focusable(this.element)).focus();
  }
}

function actor(words, act, options) {
  if (typeof act === "string") return h("a", { class: "button", href: act, ...options }, words);
  const made = button(
    words,
    async () => {
      // Deaf, but still where the keyboard is.
      if (made.ariaDisabled === "true") return;
      made.ariaDisabled = "true";
      try {
        await act();
      } catch (error) {
        complain(reason(error));
      }
      made.ariaDisabled = null;
    },
    options,
  );
  return made;
}

function focusable(element) {
  element.tabIndex = -1;
  return element;
}

/** Shows a job in a row, with what can be done with it. `dismiss` puts away what is over. */
export function showJob(row, job, jobs, dismiss) {
  const isDone = job.state === "done";
  row.show({
    title: job.asset,
    link: isDone ? viewOf(job.asset) : undefined,
    about: [job.source, job.bytes ? bytes(job.bytes) : undefined].filter(Boolean).join(" · "),
    said: said(job),
    step: isOver(job) || job.state === "queued" ? undefined : job.state,
    percent: job.percent,
    tone: { queued: "waiting", done: "good", failed: "bad", cancelled: "over" }[job.state] ?? "busy",
  });
  const about = (what) => ({ "aria-label": `${what} ${job.asset}` });
  row.offer(
    isDone && ["Watch", viewOf(job.asset), about("Watch")],
    ["failed", "cancelled"].includes(job.state) && [
      "Retry",
      () => jobs.retry(job),
      { sign: "retry", ...about("Retry") },
    ],
    !isOver(job) && ["Cancel", () => cancel(job, jobs), about("Cancel")],
    isOver(job) && dismiss && ["Close", () => dismiss(job), { kind: "quiet", ...about("Close") }],
  );
}

function said(job) {
  const percent = Number.isFinite(job.percent) ? `${Math.floor(job.percent)}%` : undefined;
  const rest = Number.isFinite(job.seconds_left) ? left(job.seconds_left) : undefined;
  const again = job.attempts > 1 ? `attempt ${job.attempts}` : undefined;
  switch (job.state) {
    case "queued": {
      if (!job.reason) return STATES.queued;
      const when = Date.parse(job.not_before) > Date.now() ? `at ${moment(job.not_before)}` : "soon";
      return `It did not work: ${sentence(job.reason)} It is tried again ${when}.`;
    }
    case "failed":
      return sentence(job.reason ?? "It failed");
    case "cancelled":
      return [`Cancelled ${age(job.updated)}.`, sentence(job.reason ?? "")].join(" ").trim();
    case "done":
      return `Ready to watch, ${age(job.updated)}`;
    default:
      return [STATES[job.state], percent, rest, again].filter(Boolean).join(" · ");
  }
}

async function cancel(job, jobs) {
  const isWanted = await confirmed({
    title: `Cancel ${job.asset}?`,
    words: [
      "What was encoded so far is thrown away. What plays under this name already goes on playing.",
      "The uploaded file stays, so the job can be retried.",
    ],
    yes: "Cancel the job",
    no: "Go on encoding",
  });
  if (isWanted) await jobs.cancel(job);
}

/** The view of all jobs that ever were. */
export function jobsView(jobs) {
  const list = h("ul", { class: "rows" });
  const states = h(
    "select",
    { id: "states" },
    h("option", { value: "" }, "all"),
    h("option", { value: "queued,probing,encoding,publishing" }, "under way"),
    h("option", { value: "failed" }, "failed"),
    h("option", { value: "done" }, "done"),
    h("option", { value: "cancelled" }, "cancelled"),
  );
  const more = button("Show older ones", () => load(), { hidden: true });
  const status = h("p", { class: "quiet", role: "status" });
  const view = h(
    "section",
    { class: "view", "aria-labelledby": "jobs-title" },
    h(
      "div",
      { class: "bar" },
      h("h1", { id: "jobs-title", tabindex: -1 }, "Jobs"),
      h("label", { class: "field inline" }, "Show ", states),
    ),
    h("p", { class: "quiet" }, "Each upload is encoded by a job. The newest stand first."),
    list,
    status,
    more,
  );

  let rows = new Map();
  let known = [];
  let next;
  let asked = 0;
  let isOwed = false;
  const matches = ({ state }) => !states.value || states.value.split(",").includes(state);

  async function load() {
    const mine = (asked += 1);
    more.disabled = true;
    try {
      const query = new URLSearchParams({ limit: PAGE });
      if (states.value) query.set("state", states.value);
      if (next) query.set("before", next);
      const page = await json(`v1/jobs?${query}`);
      if (mine !== asked) return;
      isOwed = false;
      next = page.next;
      known.push(...page.jobs.filter(({ id }) => !known.some((job) => job.id === id)));
      page.jobs.forEach((job) => jobs.take(job));
      draw();
      more.hidden = !next;
      write(status, known.length === 0 ? none() : next ? "" : several(known.length, "job"));
    } catch (error) {
      if (mine !== asked) return;
      isOwed = error instanceof Unreachable;
      const words = isOwed
        ? "They are shown as soon as the service answers."
        : `They cannot be shown. ${reason(error)}`;
      write(status, words);
    }
    more.disabled = false;
  }

  const none = () =>
    states.value ? "There are no such jobs." : "There are no jobs yet: add a video in the library.";

  function draw() {
    for (const job of known) {
      if (!rows.has(job.id)) rows.set(job.id, new Row());
      showJob(rows.get(job.id), job, jobs);
    }
    arrange(
      list,
      known.map(({ id }) => rows.get(id).element),
    );
  }

  function changed({ detail: { job } }) {
    const at = known.findIndex(({ id }) => id === job.id);
    if (at >= 0) known[at] = job;
    else if (matches(job) && (!known.length || Date.parse(job.created) >= Date.parse(known[0].created)))
      known.unshift(job);
    else return;
    if (rows.has(job.id)) showJob(rows.get(job.id), job, jobs);
    else draw();
  }

  states.addEventListener("change", () => {
    [known, rows, next] = [[], new Map(), undefined];
    list.replaceChildren();
    load();
  });
  const back = () => isOwed && load();
  jobs.addEventListener("job", changed);
  service.addEventListener("reachable", back);
  load();
  return {
    element: view,
    title: "Jobs",
    leave() {
      jobs.removeEventListener("job", changed);
      service.removeEventListener("reachable", back);
    },
  };
}
