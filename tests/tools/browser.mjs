//! Watches a signed URL as a viewer does: the demo's page, on an origin of its own, in headless Chromium.

import { existsSync } from "node:fs";
import { join } from "node:path";

import { chromium } from "playwright-core";

import { Failure, root } from "./project.mjs";

const CHROMIUMS = [
  // What set-up found, wherever that is.
  join(root, "target/tools/bin/chromium"),
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome",
  "/Applications/Chromium.app/Contents/MacOS/Chromium",
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
];
const QUIET = [
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--autoplay-policy=no-user-gesture-required",
];
// A busy machine may stand still for a while; a stream that is stuck stands still for ever.
const PATIENCE_SECONDS = 30;
const GLANCE_MILLISECONDS = 200;
// hls.js calls it a stall, too, when all is there but the machine decodes too slowly: not the stream's fault.
const AHEAD_SECONDS = 1;
// Where a track ends is known to a frame of sound or picture; players stop at the shorter one.
const TOLERANCE_SECONDS = 0.5;
// What a gate is opened by, and what comes with a signature.
const AUTHORITIES = ["Signature", "t"];
const SIGNED = [...AUTHORITIES, "Policy", "Expires", "Key-Pair-Id", "Hash-Algorithm"];

/**
 * Opens the watch page and plays what it shows, then presses every button at the gate. `player` is `hls.js` or
 * `native`. It plays at `rate` times the normal speed and, of more than `longest` seconds, a start, a middle and an end.
 *
 * What it saw comes back, with nothing in it that opens anything, and with `problems`: what a viewer would mind.
 */
export async function watch({ page, player = "hls.js", rate = 2, longest = Infinity }) {
  const browser = await launch();
  try {
    const url = new URL(page);
    if (player === "native") url.searchParams.set("player", "native");
    return await watchIn(browser, { page: url.href, rate, longest });
  } finally {
    await browser.close();
  }
}

/**
 * The same in a browser that may show other pages as well, for any page that tells in `reelgate` what its player does.
 * Of a `live` stream, which has no end, it waits until the player has asked for more of it. Where there are times to
 * `seek`, it goes to one after the other, and plays on from there for a second. What the page has to `tell` is asked
 * for when all was played or, where that is `aside` from playing, as soon as it plays.
 */
export async function watchIn(
  browser,
  { page: address, rate, longest = Infinity, live = false, seek, aside = false },
) {
  const page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
  try {
    const { origin, hash } = new URL(address);
    const requests = requestsTo((url) => url.origin !== origin, page, hash.slice(1));
    const complaints = complaintsOf(page);
    await page.goto(address);

    const jumps = [];
    const isPlayedThrough = !live && !seek && !aside;
    const standing = await (seek
      ? playFrom(page, seek, jumps)
      : live
        ? playOn(page, requests)
        : aside
          ? begin(page)
          : playThrough(page, { rate, longest }));
    const played = await look(page);
    const told = standing ? undefined : await listen(page);
    const stuck = standing ?? told?.stuck;
    const { problem, errors } = await look(page);
    const { problem: _problem, errors: _errors, ...seen } = played;
    // The buttons make the page ask for what it must not get: those requests and their refusals are no part of playing.
    const playing = { requests: [...requests], complaints: [...complaints] };
    const attempts = await pressEveryButton(page);

    const report = {
      browser: `Chromium ${browser.version()}`,
      ...seen,
      ...(seek && { jumps }),
      ...(told && { told }),
      stretches: !isPlayedThrough ? [] : stretches(seen.duration, longest),
      errors: errors.filter((error) => !isSlowMachine(error)),
      slowMachine: errors.filter(isSlowMachine),
      ...(problem && { problem }),
      segments: playing.requests.filter(isSegment).length,
      ...playing,
      attempts,
    };
    return { ...report, problems: [...(stuck ? [stuck] : []), ...problems(report, !isPlayedThrough)] };
  } finally {
    await page.close();
  }
}

/** What of `duration` seconds is played so that no more than `longest` are: all, or a start, a middle and an end. */
export function stretches(duration, longest) {
  if (!duration) return [];
  if (duration <= longest) return [[0, duration]];
  const each = longest / 3;
  return [0, (duration - each) / 2, duration - each].map((from) => [from, from + each]);
}

function problems({ ended, played, stretches, errors, requests, complaints }, endless) {
  const wanted = stretches.reduce((sum, [from, to]) => sum + to - from, 0);
  return [
    ended || endless ? [] : "it did not come to the end",
    played < wanted - TOLERANCE_SECONDS ? `${played} s of ${wanted.toFixed(2)} s were played` : [],
    errors.map(({ type, details, status }) => `player: ${type}, ${details}${status ? ` (${status})` : ""}`),
    requests.filter(({ status }) => status >= 400).map(({ url, status }) => `${status} for ${url}`),
    complaints,
  ].flat(2);
}

const isSegment = ({ url, status }) => status < 300 && /\.(m4s|mp4|ts|aac)$/.test(new URL(url).pathname);

const isSlowMachine = ({ details, ahead }) =>
  ["bufferStalledError", "bufferNudgeOnStall"].includes(details) && ahead > AHEAD_SECONDS;

/** A headless Chromium, for whoever closes it. */
export async function launch() {
  const candidates = process.env.CHROMIUM ? [process.env.CHROMIUM] : CHROMIUMS;
  const executablePath = candidates.find(existsSync);
  if (!executablePath) {
    throw new Failure(
      process.env.CHROMIUM
        ? `CHROMIUM names ${process.env.CHROMIUM}, which does not exist`
        : "no Chromium found: `apt-get install chromium`, or set CHROMIUM to the path of one",
    );
  }
  // Whoever started us closes us; a handler here would end the process before the rest of it has stopped.
  const signals = { handleSIGINT: false, handleSIGTERM: false, handleSIGHUP: false };
  return chromium.launch({ executablePath, args: QUIET, ...signals });
}

/**
 * The requests that `page` sends to where `matches`, as they are answered, without what opens anything: but which
 * parameter opened it, which others came along, and whether the player spelt `anew` what was signed.
 */
function requestsTo(matches, page, signedUrl) {
  const requests = [];
  const first = {};
  const note = (request, outcome) => {
    const url = new URL(request.url());
    if (!url.protocol.startsWith("http") || !matches(url)) return;
    const { authority, spelling, more } = query(url.search);
    first[authority] ??= spelling;
    requests.push({
      url: `${url.origin}${url.pathname}`,
      signed: authority !== undefined,
      authority,
      anew: spelling !== first[authority],
      more,
      ...outcome,
    });
  };
  const { authority, spelling } = query(URL.parse(signedUrl)?.search ?? "");
  first[authority] = spelling;
  page.on("response", (response) => {
    const encoding = response.headers()["x-edge-encoding"];
    note(response.request(), { status: response.status(), ...(encoding && { encoding }) });
  });
  page.on("requestfailed", (request) => note(request, { failure: request.failure()?.errorText }));
  return requests;
}

/** The parameter of a raw query that a gate is opened by, all that belongs to it as it is spelt, and other names. */
function query(search) {
  const pairs = search.slice(1).split("&").filter(Boolean);
  const name = (pair) => pair.split("=")[0];
  const names = pairs.map(name);
  return {
    authority: AUTHORITIES.find((authority) => names.includes(authority)),
    spelling: pairs.filter((pair) => SIGNED.includes(name(pair))).sort().join("&"),
    more: names.filter((name) => !SIGNED.includes(name)),
  };
}

/** What goes wrong in the page itself: exceptions, and whatever its content security policy forbids. */
function complaintsOf(page) {
  const complaints = [];
  page.on("pageerror", (error) => complaints.push(`page: ${error.message}`));
  page.on("console", (message) => {
    if (message.type() === "error") complaints.push(`console: ${message.text().replace(/\?\S*/g, "?…")}`);
  });
  return complaints;
}

/** Plays a stream that goes on until its playlist was asked for twice with a directive of RFC 8216bis. */
async function playOn(page, requests) {
  const asked = () => requests.filter(({ more }) => more.some((name) => name.startsWith("_HLS_"))).length;
  const { stuck, time } = await until(page, ({ errors }) => asked() > 1 || errors.some(({ fatal }) => fatal));
  return stuck ? `it stood still for ${PATIENCE_SECONDS} s at ${time} s, and asked for more ${asked()} times` : undefined;
}

/** Plays every stretch, and says where it got stuck, if it did. */
async function playThrough(page, { rate, longest }) {
  const ready = await until(
    page,
    ({ duration, errors }) => duration > 0 || errors.some(({ fatal }) => fatal),
  );
  if (ready.stuck)
    return `nothing to play within ${PATIENCE_SECONDS} s${ready.problem ? `: ${ready.problem}` : ""}`;
  if (!ready.duration) return undefined;

  await page.evaluate((rate) => (document.querySelector("video").playbackRate = rate), rate);
  for (const [from, to] of stretches(ready.duration, longest)) {
    if (from > 0) await page.evaluate((time) => (document.querySelector("video").currentTime = time), from);
    const isLast = to > ready.duration - TOLERANCE_SECONDS;
    const state = await until(
      page,
      ({ ended, time, errors }) => ended || (!isLast && time >= to) || errors.some(({ fatal }) => fatal),
    );
    if (state.stuck) return `it stood still for ${PATIENCE_SECONDS} s at ${state.time} s`;
  }
  return undefined;
}

/** Plays, and says so if it does not. */
async function begin(page) {
  const { stuck } = await until(page, ({ time, errors }) => time > 0 || errors.some(({ fatal }) => fatal));
  return stuck ? `nothing to play within ${PATIENCE_SECONDS} s` : undefined;
}

/** What the page has to tell, if it has. */
function listen(page) {
  const telling = page.evaluate(() => globalThis.reelgate?.tell?.());
  const late = page.waitForTimeout(PATIENCE_SECONDS * 1000);
  return Promise.race([telling, late.then(() => ({ stuck: `nothing was told within ${PATIENCE_SECONDS} s` }))]);
}

/** Goes to each of some times, notes which picture is there and which a second later, and says where it got stuck. */
async function playFrom(page, times, jumps) {
  const stuck = await begin(page);
  if (stuck) return stuck;
  for (const time of times) {
    const jump = page.evaluate(goTo, time);
    const late = page.waitForTimeout(PATIENCE_SECONDS * 1000);
    const seen = await Promise.race([jump, late]);
    if (!seen) return `it did not get to ${time} s within ${PATIENCE_SECONDS} s`;
    jumps.push(seen);
  }
  return undefined;
}

/** In the page. */
async function goTo(time) {
  const video = document.querySelector("video");
  const { number } = globalThis.reelgate;
  const shown = async (from) => {
    let at;
    do at = await new Promise((done) => video.requestVideoFrameCallback((_, { mediaTime }) => done(mediaTime)));
    while (Math.abs(at - from) > 0.5);
  };
  video.pause();
  const seeked = new Promise((done) => video.addEventListener("seeked", done, { once: true }));
  video.currentTime = time;
  await Promise.all([seeked, shown(time)]);
  const before = { time: video.currentTime, number: number() };
  await video.play();
  while (video.currentTime < time + 1) await shown(time + 1);
  video.pause();
  return { before, after: { time: video.currentTime, number: number() } };
}

/** Looks until `isDone`, or until nothing has moved for too long. */
async function until(page, isDone) {
  let before = { time: -1 };
  let movedAt = Date.now();
  for (;;) {
    const state = await look(page);
    if (isDone(state)) return state;
    if (state.time !== before.time) movedAt = Date.now();
    if (Date.now() - movedAt > PATIENCE_SECONDS * 1000) return { ...state, stuck: true };
    before = state;
    await page.waitForTimeout(GLANCE_MILLISECONDS);
  }
}

function look(page) {
  return page.evaluate(() => {
    const video = document.querySelector("video");
    const { player, levels, errors } = globalThis.reelgate ?? { player: "none", levels: [], errors: [] };
    const round = (seconds) => Math.round(seconds * 100) / 100;
    const ranges = Array.from({ length: video.played.length }, (_, index) => index);
    const played = ranges.reduce(
      (sum, index) => sum + video.played.end(index) - video.played.start(index),
      0,
    );
    const frames = video.getVideoPlaybackQuality();
    return {
      player,
      ended: video.ended,
      duration: Number.isFinite(video.duration) ? round(video.duration) : 0,
      played: round(played),
      time: round(video.currentTime),
      picture: video.videoWidth ? `${video.videoWidth}x${video.videoHeight}` : "none",
      frames: {
        shown: frames.totalVideoFrames - frames.droppedVideoFrames,
        dropped: frames.droppedVideoFrames,
      },
      levels,
      errors,
      problem: document.querySelector("[data-problem]")?.textContent,
    };
  });
}

/** What each button at the gate shows after it was pressed: `{bare: {status: 403, says: "MissingKey: …"}, …}`. */
async function pressEveryButton(page) {
  const attempts = {};
  for (const button of await page.locator("[data-attempt]:enabled").all()) {
    const name = await button.getAttribute("data-attempt");
    await button.click();
    const output = page.locator(`li:has([data-attempt=${name}]) output[data-answer]`);
    await output.waitFor({ timeout: PATIENCE_SECONDS * 1000 });
    const [status, says] = await output.evaluate((element) => [
      element.querySelector("strong").textContent,
      element.querySelector("[data-says]").textContent,
    ]);
    attempts[name] = { status: Number(status) || status, says };
  }
  return attempts;
}
