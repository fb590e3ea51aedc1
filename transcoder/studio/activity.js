// What goes on: uploads and jobs under way, those that failed, and those that ended while the page was open.

import { Row, isOver, showJob } from "./jobs.js";
import { announce, arrange, h } from "./dom.js";
import { bytes, left, several } from "./words.js";

const SHOWN = 12;
const MOST_DISMISSED = 200;
const DISMISSED = "reelgate.dismissed";
/** Failures older than this, in milliseconds, are found among the jobs. */
const RECENT = 7 * 24 * 60 * 60 * 1000;

/** The part of the library that shows it; it hides itself when there is nothing. */
export function activity({ assets, jobs, uploads }) {
  const list = h("ul", { class: "rows" });
  const more = h("p", { class: "quiet", hidden: true });
  const element = h(
    "section",
    { class: "activity", "aria-labelledby": "activity-title", hidden: true },
    h("h2", { id: "activity-title" }, "Uploads and jobs"),
    list,
    more,
  );
  const rows = new Map();
  const begun = Date.now();
  // Jobs that were under way while somebody looked: how they ended is shown until it is put away.
  const watched = new Set();
  const dismissed = new Set(kept());
  let isDrawn = true;

  const rowOf = (key) => {
    if (!rows.has(key)) rows.set(key, new Row("h3"));
    return rows.get(key);
  };

  function isShown(job) {
    if (!isOver(job)) return true;
    if (dismissed.has(mark(job))) return false;
    if (watched.has(job.id)) return true;
    const isRecent = begun - Date.parse(job.updated) < RECENT;
    return job.state === "failed" && isRecent && !isSuperseded(jobs.all, job);
  }

  function putAway(job) {
    dismissed.add(mark(job));
    sessionStorage.setItem(DISMISSED, JSON.stringify([...dismissed].slice(-MOST_DISMISSED)));
  }

  function dismiss(job) {
    putAway(job);
    draw();
    focusNear();
  }

  function focusNear() {
    const next = list.querySelector("button, a") ?? document.querySelector("main h1");
    next?.focus();
  }

  function draw() {
    isDrawn = true;
    const sending = uploads.all.map((upload) => ({ key: upload, upload, rank: upload.state === "waiting" }));
    const making = jobs.all
      .filter(isShown)
      .map((job) => ({ key: job.id, job, rank: job.state === "queued" }));
    const now = [...sending, ...making].filter(({ rank }) => !rank);
    // What waits stands in the order of its turn.
    const later = [...sending.filter(({ rank }) => rank), ...making.filter(({ rank }) => rank).reverse()];
    const all = [...now, ...later];
    const shown = all.slice(0, SHOWN);
    for (const { key, upload, job } of shown) {
      if (upload) showUpload(rowOf(key), upload, { assets, uploads });
      else showJob(rowOf(key), job, jobs, dismiss);
    }
    arrange(
      list,
      shown.map(({ key }) => rowOf(key).element),
    );
    for (const key of [...rows.keys()]) if (!all.some((one) => one.key === key)) rows.delete(key);
    more.hidden = all.length <= SHOWN;
    if (!more.hidden) {
      more.replaceChildren(
        `${several(all.length - SHOWN, "more waits", "more wait")}. `,
        h("a", { href: "#/jobs" }, "See all jobs"),
      );
    }
    element.hidden = all.length === 0;
  }

  // However much changes, it is drawn once a frame.
  function soon() {
    if (!isDrawn) return;
    isDrawn = false;
    requestAnimationFrame(draw);
  }

  jobs.addEventListener("job", ({ detail: { job } }) => {
    if (!isOver(job)) watched.add(job.id);
    soon();
  });
  assets.addEventListener("removed", ({ detail: name }) => {
    jobs.all.filter(({ state, asset }) => state === "done" && asset === name).forEach(putAway);
    soon();
  });
  uploads.addEventListener("change", soon);
  uploads.addEventListener("sent", ({ detail: { upload, job } }) => {
    if (!job) {
      announce(`${upload.name}: uploaded`);
      return;
    }
    const hadFocus = rows.get(upload)?.element.contains(document.activeElement);
    // The same row goes on as the job's.
    if (rows.has(upload)) rows.set(job.id, rows.get(upload));
    rows.delete(upload);
    watched.add(job.id);
    jobs.take(job);
    draw();
    if (hadFocus) rowOf(job.id).element.querySelector("button, a")?.focus();
    announce(`${upload.name}: uploaded`);
  });
  draw();
  return element;
}

function showUpload(row, upload, { assets, uploads }) {
  const { name, size, state, problem } = upload;
  // What else than .mp4 the service gives a name of its own.
  const asset = name.endsWith(".mp4") ? name.slice(0, -4) : undefined;
  row.show({
    title: name,
    about: assets.has(asset) ? `${bytes(size)} · a new encode of ${asset}` : bytes(size),
    said: saidOf(upload),
    step: state === "failed" ? undefined : "uploading",
    percent: size ? (upload.sent / size) * 100 : 0,
    tone: { failed: "bad", waiting: "waiting" }[state] ?? "busy",
  });
  const about = (what) => ({ "aria-label": `${what} ${name}` });
  const canRetry = state === "failed" && size > 0 && problem;
  row.offer(
    canRetry && ["Try again", () => uploads.retry(upload), { sign: "retry", ...about("Try again") }],
    state === "failed"
      ? ["Close", () => uploads.cancel(upload), { kind: "quiet", ...about("Close") }]
      : ["Cancel", () => stop(upload, uploads), about("Cancel upload of")],
  );
}

function stop(upload, uploads) {
  uploads.cancel(upload);
  announce(`${upload.name}: upload cancelled. Add the same file again to go on with it.`);
  document.querySelector("main h1")?.focus();
}

function saidOf({ state, sent, size, bytesPerSecond, secondsLeft, problem }) {
  const percent = `${size ? Math.floor((sent / size) * 100) : 0}%`;
  switch (state) {
    case "waiting":
      return "Waits for the upload before it";
    case "broken":
      return `The connection broke at ${percent}. It goes on by itself.`;
    case "failed":
      return problem;
    default: {
      if (sent === size) return "All is sent: the service puts it in its place";
      const speed = bytesPerSecond && `${bytes(bytesPerSecond)} a second`;
      const rest = secondsLeft !== undefined && Number.isFinite(secondsLeft) && left(secondsLeft);
      return ["Uploading", percent, speed, rest].filter(Boolean).join(" · ");
    }
  }
}

const mark = ({ id, updated }) => `${id} ${updated}`;

/** Whether there is a later job of the same asset. */
function isSuperseded(all, { asset, created, id }) {
  return all.some(
    (job) => job.asset === asset && job.id !== id && Date.parse(job.created) > Date.parse(created),
  );
}

function kept() {
  try {
    return JSON.parse(sessionStorage.getItem(DISMISSED)) ?? [];
  } catch {
    return [];
  }
}
