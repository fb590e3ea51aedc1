//! Watches as somebody at the controls does, by keys and by pointer, and prints what came of it as JSON.
//!
//! `node tests/tools/viewer.mjs <signed URL> <the same, that is over> '{"title": …, "storyboard": …, "poster": …}'`
//!
//! What is said about it is for the page's own address. The stream has captions in English and German, to its end, and is
//! long enough to be gone to and fro by ten seconds from its middle.

import { launch } from "./browser.mjs";
import { servePage } from "./page.mjs";
import { report } from "./project.mjs";

const PATIENCE_MILLISECONDS = 30_000;
const PHONE = { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true };
// Longer than the controls stay.
const IDLE_MILLISECONDS = 3500;

async function main() {
  const [signedUrl, over, about] = process.argv.slice(2);
  const served = await servePage({ signedUrl, about: JSON.parse(about) });
  const browser = await launch();
  // Whoever watches the page: what it complains of, and whom it asks.
  const open = async (address, options = {}) => {
    const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
    context.setDefaultTimeout(PATIENCE_MILLISECONDS);
    const page = await context.newPage();
    const complaints = [];
    const asked = new Set();
    page.on("pageerror", ({ message }) => complaints.push(message));
    page.on(
      "console",
      (message) => message.type() === "error" && complaints.push(message.text().split("?")[0]),
    );
    page.on(
      "request",
      (request) => request.url().startsWith("http") && asked.add(new URL(request.url()).origin),
    );
    await page.goto(address);
    return { page, complaints, asked };
  };
  try {
    const [place] = served.url.split("#");
    const told = {
      keys: await byKeys(await open(served.url)),
      pointer: await byPointer(await open(served.url)),
      touch: await byTouch(await open(served.url, PHONE)),
      still: await still(await open(served.url, { reducedMotion: "reduce" })),
      cut: await cutOff(await open(served.url), new URL(signedUrl).origin),
      over: await words(await open(`${place}#${over}`)),
      nothing: await words(await open(place)),
      abroad: await abroad(await open(elsewhere(served.url))),
      odd: await odd(await open(`${place}#${withOddPolicy(signedUrl)}`)),
    };
    process.stdout.write(
      `${JSON.stringify({ ...told, origins: [place, signedUrl].map((address) => new URL(address).origin) }, null, 2)}\n`,
    );
  } finally {
    await browser.close();
    await served.close();
  }
}

/** The page's address, with companions that lie with somebody else. */
function elsewhere(address) {
  const url = new URL(address);
  url.searchParams.set("storyboard", "//another.example/storyboard.vtt");
  url.searchParams.set("poster", "https://another.example/poster.jpg");
  return url.href;
}

/** A link that somebody wrote by hand, with a time that no date can be. */
function withOddPolicy(address) {
  const policy = { Statement: [{ Resource: "*", Condition: { DateLessThan: { "AWS:EpochTime": 1e20 } } }] };
  const encoded = Buffer.from(JSON.stringify(policy))
    .toString("base64")
    .replace(/[+=/]/g, (character) => ({ "+": "-", "=": "_", "/": "~" })[character]);
  return `${address.split("?")[0]}?Policy=${encoded}&Signature=abc~&Key-Pair-Id=K`;
}

const video = (page, property) => page.locator("video").evaluate((element, name) => element[name], property);
const playing = (page, from = 0.5) =>
  page.waitForFunction((time) => document.querySelector("video").currentTime > time, from);
const isIdle = (page) => page.locator(".player").evaluate((player) => player.hasAttribute("data-idle"));
const label = (page) =>
  page.evaluate(
    () => document.activeElement.getAttribute("aria-label") ?? document.activeElement.textContent,
  );

async function byKeys({ page, complaints, asked }) {
  await playing(page);
  const told = { mutedAtFirst: await video(page, "muted") };
  await page.keyboard.press("k");
  told.pausedByK = await video(page, "paused");
  await page.keyboard.press("m");
  told.mutedByM = await video(page, "muted");
  await page.keyboard.press("5");
  const half = (await video(page, "duration")) / 2;
  told.halfBy5 = Math.abs((await video(page, "currentTime")) - half) < 0.1;
  const moved = async (key) => {
    const before = await video(page, "currentTime");
    await page.keyboard.press(key);
    return Math.round((await video(page, "currentTime")) - before);
  };
  told.moves = {};
  for (const key of ["j", "l", "ArrowLeft", "ArrowRight"]) told.moves[key] = await moved(key);
  await page.keyboard.press("c");
  await page.waitForFunction(() =>
    [...document.querySelector("video").textTracks].some(({ cues }) => cues?.length),
  );
  told.captionsByC = await captions(page);
  await page.keyboard.press("c");
  told.captionsByCAgain = await captions(page);

  const seek = page.getByRole("slider", { name: "Seek" });
  await seek.focus();
  await page.keyboard.press("Home");
  await page.waitForFunction(() => !document.querySelector("video").seeking);
  told.home = await seek.getAttribute("aria-valuetext");
  await page.keyboard.press("ArrowUp");
  told.preview = await preview(page);

  await page.getByRole("button", { name: /^Quality/ }).focus();
  await page.keyboard.press("ArrowDown");
  told.qualities = await page
    .getByRole("menuitemradio")
    .evaluateAll((items) => items.map(({ firstChild }) => firstChild.textContent));
  told.focused = await label(page);
  await page.keyboard.press("End");
  await page.keyboard.press("Enter");
  told.focusedAfter = await label(page);
  await page.keyboard.press("k");
  await page.waitForFunction(() => document.querySelector("video").videoHeight === reelgate.levels[0].height);
  told.lowest = await video(page, "videoHeight");
  await page.getByRole("button", { name: /^Speed/ }).click();
  await page.getByRole("menuitemradio", { name: "1.5×" }).click();
  told.speed = await video(page, "playbackRate");
  // Whoever has just pressed a key is at the controls.
  await page.keyboard.press("Tab");
  await page.waitForTimeout(IDLE_MILLISECONDS);
  told.hiddenFromKeys = await isIdle(page);
  return { ...told, complaints, asked: [...asked] };
}

async function byPointer({ page, complaints }) {
  await playing(page);
  const told = {};
  const bar = await page.locator(".seek").boundingBox();
  const at = (share) => [bar.x + bar.width * share, bar.y + bar.height / 2];
  await page.keyboard.press("k");
  await page.mouse.move(...at(0.52));
  told.preview = await preview(page);
  await page.mouse.down();
  await page.mouse.move(...at(0.9), { steps: 4 });
  told.timeWhileHeld = (await video(page, "currentTime")) < (await video(page, "duration")) / 2;
  await page.mouse.up();
  told.share = Math.round(((await video(page, "currentTime")) / (await video(page, "duration"))) * 10) / 10;
  await page.mouse.move(5, 5);
  await page.keyboard.press("k");
  await page.locator("video").click({ position: { x: 300, y: 200 } });
  told.pausedByClick = await video(page, "paused");
  await page.keyboard.press("0");
  await page.locator("video").click({ position: { x: 300, y: 200 } });
  await page.getByRole("button", { name: "Captions: off" }).click();
  await page.getByRole("menuitemradio", { name: "Deutsch" }).click();
  await page.waitForFunction(() =>
    [...document.querySelector("video").textTracks].some(({ activeCues }) => activeCues?.length),
  );
  told.captions = await captions(page);
  const line = () =>
    page.evaluate(
      () =>
        [...document.querySelector("video").textTracks].flatMap(({ activeCues }) => [
          ...(activeCues ?? []),
        ])[0]?.line,
    );
  await page.waitForTimeout(200);
  told.lineUnderControls = await line();
  await page.mouse.move(5, 5);
  await page.waitForFunction(() => document.querySelector(".player").hasAttribute("data-idle"));
  told.lineWithout = await line();
  await page.getByRole("button", { name: "Turn the sound on" }).first().click();
  told.muted = await video(page, "muted");
  return { ...told, complaints };
}

async function byTouch({ page, complaints }) {
  await playing(page);
  const told = { wide: await page.evaluate(() => document.documentElement.scrollWidth) };
  await page.waitForTimeout(IDLE_MILLISECONDS);
  told.hidden = await isIdle(page);
  const button = await page.locator(".player-row button").first().boundingBox();
  const tap = () => page.touchscreen.tap(button.x + button.width / 2, button.y + button.height / 2);
  await tap();
  told.afterFirst = { hidden: await isIdle(page), paused: await video(page, "paused") };
  await tap();
  told.afterSecond = { paused: await video(page, "paused") };
  return { ...told, complaints };
}

async function still({ page, complaints }) {
  await page.waitForFunction(() => document.querySelector("video").readyState >= 2);
  const begin = page.getByRole("button", { name: "Play", exact: true }).first();
  await begin.waitFor();
  const told = { time: await video(page, "currentTime") };
  await begin.click();
  await playing(page);
  return { ...told, muted: await video(page, "muted"), complaints };
}

/** The edge is gone, and comes back. */
async function cutOff({ page }, edge) {
  await playing(page);
  await page.route(
    (url) => url.origin === edge,
    (route) => route.abort(),
  );
  await page.reload();
  const { problem } = await words({ page });
  await page.unrouteAll();
  await page.getByRole("button", { name: "Try again" }).click();
  await playing(page);
  return { problem, again: await page.getByRole("alert").isHidden() };
}

async function words({ page }) {
  const alert = page.locator("[role=alert]:visible p, p[role=alert]:visible");
  await alert.waitFor();
  return {
    problem: await alert.textContent(),
    paused: await page.locator("video").evaluateAll((all) => all.every(({ paused }) => paused)),
  };
}

async function abroad({ page, complaints, asked }) {
  await playing(page);
  await page.getByRole("slider", { name: "Seek" }).focus();
  await page.keyboard.press("ArrowUp");
  await page.locator(".seek-preview").waitFor();
  return { pictures: await page.locator(".seek-picture").isVisible(), complaints, asked: [...asked] };
}

/** What the panel makes of it; that the edge refuses it is no complaint. */
async function odd({ page, complaints }) {
  const says = await page.getByRole("timer").textContent();
  const terms = await page.locator(".gate dt").allTextContents();
  await page.locator("[role=alert]:visible").waitFor();
  const own = complaints.filter((words) => !words.startsWith("Failed to load resource"));
  return { says, terms, complaints: own };
}

/** Which part of which sheet is shown above the bar, once it is there. */
async function preview(page) {
  const image = page.locator(".seek-picture img");
  await image.waitFor();
  await page.waitForFunction(() => document.querySelector(".seek-picture img").naturalWidth > 0);
  return image.evaluate(({ src, style }) => ({
    sheet: new URL(src).pathname.split("/").at(-1),
    signed: new URL(src).searchParams.has("Signature"),
    at: style.objectPosition,
  }));
}

/** The captions that are shown, by language. */
function captions(page) {
  return page
    .locator("video")
    .evaluate(({ textTracks }) =>
      [...textTracks].filter(({ mode }) => mode === "showing").map(({ language }) => language),
    );
}

process.exitCode = await main().then(() => 0, report);
