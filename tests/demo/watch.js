// Plays a signed URL with hls.js, or with the browser's own player where Media Source Extensions are missing
// or `?player=native` asks for it, and lets anybody try the gate.
//
// The URL comes in the fragment, which is sent to nobody and logged nowhere, or else from the demo's own server.

import Hls from "./hls.js";
import { bare, elsewhere, prolonged, takeApart } from "./signed-url.js";

const element = (id) => document.getElementById(id);
const video = element("video");

// What the browser tests read.
const seen = { player: "none", levels: [], errors: [], segments: 0, bytes: 0 };
globalThis.reelgate = seen;

addEventListener("hashchange", () => location.reload());
try {
  const address = await signedUrl();
  describe(address);
  offerAttempts(address);
  play(address);
} catch (error) {
  fail(error.message);
}

async function signedUrl() {
  const given = location.hash.slice(1) || (await (await fetch("signed-url")).text());
  const url = URL.parse(given);
  if (!url || !["http:", "https:"].includes(url.protocol)) {
    throw new Error("There is no signed URL to play: put one behind this page's address, after a #.");
  }
  return given;
}

function play(address) {
  const native = video.canPlayType("application/vnd.apple.mpegurl") !== "";
  const wanted = new URLSearchParams(location.search).get("player");
  if (Hls.isSupported() && wanted !== "native") return playWithHls(address);
  if (native) return playNatively(address);
  fail("This browser has neither Media Source Extensions nor a player for HLS: try a current one.");
}

function playWithHls(address) {
  seen.player = `hls.js ${Hls.version}`;
  element("player").textContent = seen.player;
  // A worker from a file of this server, so that the page's policy need not allow blobs to run.
  const hls = new Hls({ workerPath: "hls.worker.js" });
  let recovered = false;

  hls.on(Hls.Events.MANIFEST_PARSED, (_, { levels }) => {
    seen.levels = levels.map(({ width, height, bitrate, codecs }) => ({ width, height, bitrate, codecs }));
    offerQualities(hls);
    start();
  });
  hls.on(Hls.Events.LEVEL_SWITCHED, (_, { level }) => {
    element("rate").textContent = `${(hls.levels[level].bitrate / 1e6).toFixed(1)} Mbit/s`;
  });
  hls.on(Hls.Events.FRAG_LOADED, (_, { frag }) => {
    seen.segments += 1;
    seen.bytes += frag.stats.loaded;
    element("fetched").textContent = `${seen.segments} segments, ${(seen.bytes / 1e6).toFixed(1)} MB`;
  });
  hls.on(Hls.Events.ERROR, (_, { type, details, fatal, response, error, bufferInfo }) => {
    seen.errors.push({
      type,
      details,
      fatal,
      status: response?.code,
      message: error?.message,
      ahead: bufferInfo?.len,
    });
    if (!fatal) return;
    if (type === Hls.ErrorTypes.MEDIA_ERROR && !recovered) {
      recovered = true;
      hls.recoverMediaError();
      return;
    }
    hls.destroy();
    fail(
      response?.code ? `The edge answered ${response.code}: ${details}.` : `The player gave up: ${details}.`,
    );
  });
  video.addEventListener("resize", showPicture);
  hls.loadSource(address);
  hls.attachMedia(video);
}

function playNatively(address) {
  seen.player = "native";
  element("player").textContent = "the browser's own";
  element("rate").textContent = "not told";
  element("fetched").textContent = "not told";
  element("quality").closest("label").hidden = true;
  video.addEventListener("resize", showPicture);
  video.addEventListener("error", () => {
    const { code, message } = video.error;
    seen.errors.push({ type: "nativeError", details: `MediaError ${code}`, fatal: true, message });
    fail(`The browser's player gave up: ${message || `MediaError ${code}`}.`);
  });
  video.src = address;
  start();
}

function start() {
  // Refused where pages may not start by themselves; then the play button does.
  video.play().catch(() => {});
}

function showPicture() {
  element("picture").textContent = video.videoWidth
    ? `${video.videoWidth} × ${video.videoHeight}`
    : "sound only";
}

function offerQualities(hls) {
  const select = element("quality");
  hls.levels.forEach(({ height, bitrate }, index) => {
    const name = height ? `${height}p` : "sound";
    select.add(new Option(`${name}, ${(bitrate / 1e6).toFixed(1)} Mbit/s`, String(index)));
  });
  select.disabled = hls.levels.length < 2;
  select.addEventListener("change", () => {
    hls.nextLevel = Number(select.value);
  });
}

function describe(address) {
  const said = takeApart(address);
  const day = (seconds) => seconds && new Date(seconds * 1000).toLocaleString();
  const terms = {
    Opens: said.resource ?? "everything",
    Until: day(said.expires),
    "Not before": day(said.starts),
    "Only from": said.from,
    "Key pair": said.keyPairId,
    Signature: said.signature && `${said.signature.slice(0, 24)}… (${said.signature.length} characters)`,
  };
  element("terms").replaceChildren(
    ...Object.entries(terms)
      .filter(([, value]) => value)
      .map(([name, value]) => {
        const row = document.createElement("div");
        row.append(textOf("dt", name), textOf("dd", value));
        return row;
      }),
  );
  element("url").textContent = address;
  element("policy").textContent =
    said.policy ?? said.problem ?? "a canned policy: it is not sent, both sides know it";
  countDown(said);
}

function countDown({ expires, problem }) {
  const remaining = element("remaining");
  if (!expires) {
    remaining.textContent = problem ?? "no expiry in this policy";
    return;
  }
  const tick = () => {
    const left = expires - Math.floor(Date.now() / 1000);
    const parts = [left / 3600, (left / 60) % 60, left % 60].map((part) =>
      String(Math.floor(part)).padStart(2, "0"),
    );
    remaining.toggleAttribute("data-over", left <= 0);
    remaining.textContent = left > 0 ? `${parts.join(":")} left` : "expired: the edge refuses it now";
    if (left <= 0) clearInterval(timer);
  };
  const timer = setInterval(tick, 1000);
  tick();
}

function offerAttempts(address) {
  const addresses = {
    signed: address,
    bare: bare(address),
    elsewhere: elsewhere(address),
    altered: prolonged(address),
  };
  for (const button of document.querySelectorAll("[data-attempt]")) {
    const target = addresses[button.dataset.attempt];
    button.disabled = target === undefined;
    button.addEventListener("click", async () => {
      const output = button.parentElement.querySelector("output");
      button.disabled = true;
      show(output, await attempt(target));
      button.disabled = false;
    });
  }
}

/** Asks the edge, and says what it answered. */
async function attempt(address) {
  const answer = await fetch(address, { cache: "no-store", credentials: "omit" }).catch(() => undefined);
  if (!answer) return { status: "no answer", words: "that a page may read: is the edge running?" };
  const { status, ok, headers } = answer;
  if (ok) {
    await answer.body?.cancel();
    return { status, ok, words: headers.get("content-type") ?? "" };
  }
  const refusal = new DOMParser().parseFromString(await answer.text(), "text/xml");
  const part = (name) => refusal.querySelector(name)?.textContent;
  return {
    status,
    ok,
    words: [part("Code"), part("Message")].filter(Boolean).join(": ") || answer.statusText,
  };
}

function show(output, { status, ok, words }) {
  output.dataset.answer = ok ? "open" : "refused";
  output.replaceChildren(textOf("strong", String(status)), ` ${words}`);
}

function fail(message) {
  element("problem").textContent = message;
  element("problem").hidden = false;
}

function textOf(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}
