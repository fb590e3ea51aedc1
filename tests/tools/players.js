// Plays the URL in the fragment with the player that `?player=` names, as its own documentation says to.
//
// With `&cmcd` the player tells the server what it does (CTA-5004), in a parameter of every request: to add it some
// write the whole query anew. With `&seek` they keep little in advance, so that something is left to be gone to.

import * as tasks from "./tasks.js";

const video = document.querySelector("video");
const address = location.hash.slice(1);
const wanted = new URLSearchParams(location.search);
const cmcd = wanted.has("cmcd");
const seek = wanted.has("seek");
const task = wanted.get("task");
const options = JSON.parse(wanted.get("options") ?? "{}");

// What browser.mjs reads.
const seen = { player: "none", levels: [], errors: [], number };
globalThis.reelgate = seen;

const PLAYERS = {
  "hls.js": () => playWithHls("hls.js"),
  "hls.js-1.5": () => playWithHls("hls.js-1.5"),
  shaka: playWithShaka,
  "video.js": playWithVideoJs,
  native: playNatively,
};
PLAYERS[wanted.get("player")]().catch((error) => failed({ type: "exception", details: error.message }));

/** hls.js would have all of so small a clip before anybody could go anywhere. */
const BRIEF = { maxBufferLength: 4, maxMaxBufferLength: 4 };

async function playWithHls(name) {
  const { default: Hls } = await import(`./${name}.mjs`);
  seen.player = `hls.js ${Hls.version}`;
  const hls = new Hls({ enableWorker: false, ...(cmcd && { cmcd: {} }), ...(seek && BRIEF) });
  hls.on(Hls.Events.ERROR, (_, { type, details, fatal, response, error }) => {
    // At a multiple of the speed, among other players, it may have to wait. Whoever waits for ever never ends.
    const isStalled = ["bufferStalledError", "bufferNudgeOnStall"].includes(details);
    if (!fatal && isStalled && task !== "alternate") return;
    // What it is no longer interested in, after a seek or a switch.
    if (!fatal && (seek || task) && details === "aborted") return;
    // It knows nothing of edit lists: a picture's delay makes a fragment end later than what is buffered of it. After a
    // switch back it gets the same one again, of the other level, and wonders that there is no more of it.
    if (!fatal && task === "alternate" && details === "bufferAppendNoProgress") return;
    const status = response?.code;
    failed({ type, details, fatal, status, message: error?.message, ...(isStalled && { ahead: ahead() }) });
  });
  begin({ hls, Events: Hls.Events });
  hls.on(Hls.Events.MANIFEST_PARSED, start);
  hls.loadSource(address);
  hls.attachMedia(video);
}

async function playWithShaka() {
  await script("shaka.js");
  const { shaka } = globalThis;
  seen.player = `Shaka ${shaka.Player.version}`;
  shaka.polyfill.installAll();
  const player = new shaka.Player();
  player.addEventListener("error", ({ detail: { category, code, data, severity } }) => {
    // Its data begins with the URL, which opens something.
    const fatal = severity === shaka.util.Error.Severity.CRITICAL;
    failed({ type: `category ${category}`, details: `error ${code}`, status: data?.[1], fatal });
  });
  await player.attach(video);
  if (cmcd) player.configure("cmcd.enabled", true);
  begin({ player });
  await player.load(address).catch(({ code }) => Promise.reject(new Error(`error ${code}`)));
  start();
}

async function playWithVideoJs() {
  await script("video.js");
  const { videojs } = globalThis;
  seen.player = `Video.js ${videojs.VERSION}`;
  // Its own HLS, where it would leave Safari's and newer Chromiums' to themselves.
  const player = videojs(video, { html5: { vhs: { overrideNative: true }, nativeAudioTracks: false } });
  player.on("error", () => failed({ type: "error", details: player.error().message, fatal: true }));
  player.src({ src: address, type: "application/vnd.apple.mpegurl" });
  player.ready(start);
}

async function playNatively() {
  seen.player = "Chromium's own";
  video.addEventListener("error", () => {
    failed({ type: "error", details: `${video.error.code} ${video.error.message}`, fatal: true });
  });
  // Pictures from elsewhere are to be looked at.
  if (seek) video.crossOrigin = "anonymous";
  video.src = address;
  start();
}

function start() {
  video.muted = true;
  video.play().catch(() => {});
}

/** Sets about a task, if there is one. */
function begin(means) {
  if (task) seen.tell = tasks[task]({ ...means, video, number, failed, options });
}

/** How much is buffered without a gap from here on, in seconds. */
function ahead() {
  const { buffered, currentTime } = video;
  const ends = Array.from(buffered, (_, index) => (buffered.start(index) <= currentTime ? buffered.end(index) : 0));
  return Math.max(0, ...ends.map((end) => end - currentTime));
}

function failed(error) {
  seen.errors.push({ fatal: true, ...error });
}

/** Which picture is shown, by the twelve bars across its top, the lowest bit first. */
function number(picture = video) {
  const { videoWidth: width = picture.width, videoHeight: height = picture.height } = picture;
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  context.drawImage(picture, 0, 0);
  const bars = Array.from({ length: 12 }, (_, index) =>
    context.getImageData(((index + 0.5) / 12) * canvas.width, canvas.height / 20, 1, 1),
  );
  return bars.reduceRight((sum, { data: [red] }) => sum * 2 + (red > 127), 0);
}

function script(src) {
  return new Promise((resolve, reject) => {
    const element = Object.assign(document.createElement("script"), { src, onload: resolve, onerror: reject });
    document.head.append(element);
  });
}
