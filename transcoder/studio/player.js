// The player: a signed URL, with controls of our own, and with words for whatever ends it.

import { createControls } from "./controls.js";
import { h } from "./dom.js";
import { ask, words } from "./edge-answer.js";
import { icon } from "./player-words.js";
import { parsed, takeApart } from "./signed-url.js";
import { openStream } from "./stream.js";
import { moment } from "./words.js";

// Below that, in seconds, there is nothing left to watch.
const DRY = 0.3;
// A portrait is not made as wide as the page, nor a panorama a line.
const NARROWEST = 0.8;
const WIDEST = 2.4;
// The first ones say what is wrong.
const MOST_ERRORS = 100;

/**
 * Plays a signed URL in `container`, from `from` seconds on. `storyboard` and `poster` are URLs, too; `native`
 * asks for the browser's own player; `told(seen)` is called whenever there is more to tell of what it does.
 */
export function createPlayer(
  container,
  { url, storyboard, poster, title, from: begun, native = false, told = () => {} },
) {
  const leaving = new AbortController();
  const { signal } = leaving;
  // What the browser tests read.
  const seen = { player: "none", levels: [], errors: [], segments: 0, bytes: 0 };
  globalThis.reelgate = seen;

  const video = h("video", { playsinline: true, preload: "auto", crossorigin: "anonymous", poster });
  // Pages may not begin with sound.
  video.muted = true;
  const begin = h(
    "button",
    { type: "button", class: "player-begin", "aria-label": "Play", hidden: true },
    icon("play"),
  );
  const problem = h("p", { "data-problem": true });
  const retry = h("button", { type: "button", class: "player-retry" }, "Try again");
  const alert = h("div", { class: "player-alert", role: "alert", hidden: true }, problem, retry);
  const wheel = h("div", { class: "player-wheel", "aria-hidden": "true" });
  const root = h(
    "div",
    { class: "player", role: "group", "aria-label": title ? `Video: ${title}` : "Video" },
    video,
    wheel,
    begin,
    alert,
  );
  container.append(root);

  let stream;
  // What ended it, until all that is there has been watched; and then.
  let ending;
  let ended;
  let isWanted = mayBegin();
  const controls = createControls(root, video, { storyboard, signal, toggle });

  function open(from) {
    ending = ended = undefined;
    alert.hidden = true;
    problem.textContent = "";
    root.toggleAttribute("data-waiting", true);
    root.removeAttribute("data-over");
    stream?.close();
    stream = undefined;
    stream = openStream(video, url, { native, from, changed, fetched, noted, failed });
    if (!stream) {
      return tell(
        "This browser has neither Media Source Extensions nor a player for HLS: try a current one.",
        {},
      );
    }
    seen.player = stream.player;
    if (isWanted) play();
    else begin.hidden = false;
    told(seen);
  }

  function changed() {
    if (signal.aborted || !stream) return;
    seen.levels = stream.levels();
    const { playing, rate } = stream.choices("quality");
    Object.assign(seen, { playing, rate });
    controls.show(stream);
    told(seen);
  }

  function fetched(bytes) {
    seen.segments += 1;
    seen.bytes += bytes;
    told(seen);
  }

  function noted(error) {
    if (seen.errors.length < MOST_ERRORS) seen.errors.push(error);
  }

  function failed(error) {
    ending = error;
    finishIfDry();
  }

  function finishIfDry() {
    if (ending && (ending.kind === "media" || video.error || ahead(video) < DRY)) finish(ending);
  }

  async function finish(error) {
    ending = undefined;
    video.pause();
    const finished = stream;
    const text = await reason(url, error);
    // Meanwhile it may have been opened again, or left.
    if (!signal.aborted && stream === finished) tell(text, error);
  }

  function tell(text, error) {
    ended = error;
    problem.textContent = text;
    retry.hidden = !error.kind;
    alert.hidden = false;
    begin.hidden = true;
    root.toggleAttribute("data-over", true);
    root.removeAttribute("data-waiting");
  }

  function again() {
    isWanted = true;
    open(video.currentTime);
    root.querySelector(".player-controls button").focus();
  }

  function toggle() {
    if (!alert.hidden) return retry.hidden ? undefined : again();
    if (!video.paused) return video.pause();
    // Whoever starts it by hand means the sound as well.
    if (!isWanted) video.muted = false;
    isWanted = true;
    play();
  }

  function play() {
    begin.hidden = true;
    // Refused where pages may not start by themselves; then there is a button.
    video.play().catch(({ name }) => {
      if (name !== "NotAllowedError" || signal.aborted) return;
      begin.hidden = false;
      root.removeAttribute("data-waiting");
    });
  }

  const on = (target, events, listener) => {
    for (const event of events.split(" ")) target.addEventListener(event, listener, { signal });
  };
  on(begin, "click", toggle);
  on(retry, "click", again);
  on(window, "online", () => {
    const error = ending ?? ended;
    if (error?.kind === "network" && !error.status) open(video.currentTime);
  });
  on(video, "timeupdate waiting seeking", finishIfDry);
  on(video, "waiting seeking", () => root.toggleAttribute("data-waiting", !video.ended));
  on(video, "playing canplay seeked pause", () => root.removeAttribute("data-waiting"));
  on(video, "playing", () => {
    begin.hidden = true;
    controls.offerSound();
  });
  on(video, "resize loadedmetadata", () => {
    const { videoWidth: width, videoHeight: height } = video;
    seen.picture = width ? `${width} × ${height}` : "sound only";
    if (width) root.style.aspectRatio = String(Math.min(WIDEST, Math.max(NARROWEST, width / height)));
    told(seen);
  });
  // The browser says to nobody else that it was this page's policy which kept it from asking.
  on(document, "securitypolicyviolation", ({ blockedURI, effectiveDirective }) => {
    if (effectiveDirective === "connect-src" && parsed(blockedURI)?.origin === new URL(url).origin) {
      seen.forbidden = true;
    }
  });
  open(begun);

  return {
    video,
    destroy() {
      leaving.abort();
      stream?.close();
      root.remove();
    },
  };

  /** Why it ended, in words, with what the edge says now. */
  async function reason(address, { kind, status, details }) {
    if (kind === "media") return `This browser cannot play what it got: ${details}.`;
    if (seen.forbidden) {
      return `This page may not ask ${new URL(address).origin}: it is for the edge of its own service only.`;
    }
    const answer = await ask(address);
    const code = answer.ok ? status : answer.status;
    const { expires } = takeApart(address);
    if (code === 403 && expires * 1000 <= Date.now()) {
      const until = moment(1000 * expires);
      return `This link has expired, ${until}: ask for a new one. The edge refuses it (${summary(code, answer)}).`;
    }
    if (code === 403) return `The edge refuses this link (${summary(code, answer)}): ask for a new one.`;
    if (code === 404)
      return "The edge has nothing at this address (404): the video was deleted or never there.";
    if (code >= 500)
      return `The edge could not get the video (${summary(code, answer)}): try again in a moment.`;
    if (code) return `The edge answered ${summary(code, answer)}.`;
    if (!navigator.onLine)
      return "There is no connection to the network: it goes on as soon as there is one.";
    if (!answer.ok)
      return `The edge at ${new URL(address).host} does not answer: look at the connection, then try again.`;
    return `The player gave up: ${details}.`;
  }
}

function summary(status, answer) {
  return [status, words(answer)].filter(Boolean).join(" ");
}

/** Not by itself where movement is unwelcome or bytes are dear. */
function mayBegin() {
  return !matchMedia("(prefers-reduced-motion: reduce)").matches && !navigator.connection?.saveData;
}

/** How much is there without a gap from here on, in seconds. */
function ahead({ buffered, currentTime, ended }) {
  if (ended) return Infinity;
  const ends = Array.from(buffered, (_, index) =>
    buffered.start(index) <= currentTime + DRY ? buffered.end(index) - currentTime : 0,
  );
  return Math.max(0, ...ends);
}
