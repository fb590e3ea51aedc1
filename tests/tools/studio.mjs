//! Tells a story of the studio by clicks: `node tests/tools/studio.mjs story|library <settings in JSON>`
//!
//! The settings name the `studio`, the `edge`, the `token` of the service and the `files` that a person has. It prints how
//! long each chapter took; pictures of each state are left in target/screenshots. It exits with 0 only if everything was
//! to be seen, and nothing that nobody should see (witness.mjs).

import assert from "node:assert/strict";
import { readFile, rm } from "node:fs/promises";
import { stripVTControlCharacters } from "node:util";

import { Failure, report } from "./project.mjs";
import { Witness, inBrowser, picture } from "./witness.mjs";

// Slow enough to see an upload go on; bytes a second.
const SLOW_UPLOAD = 400_000;
// Of nobody (RFC 5737).
const ELSEWHERE = "192.0.2.7";
/** Whether it is a phone, and in which colours. */
const SCREENS = [
  [true, "light"],
  [true, "dark"],
  [false, "light"],
  [false, "dark"],
];

const stories = { story, library };

async function main() {
  const [name, text] = process.argv.slice(2);
  if (!stories[name] || !text) throw new Failure("usage: studio.mjs story|library <settings in JSON>");
  const settings = JSON.parse(text);
  // Of an earlier run.
  await rm(picture(name, ""), { recursive: true, force: true });
  await inBrowser((browser) => stories[name](browser, settings));
}

/** Tells a chapter, and says how long it took, or which one it was that did not go well. */
async function chapter(title, tell, witness) {
  const start = performance.now();
  try {
    await tell();
  } catch (error) {
    await witness.page.screenshot({ path: picture(witness.folder, "failed") }).catch(() => {});
    const where = /studio\.mjs:\d+/.exec(error.stack)?.[0];
    const said = stripVTControlCharacters(error.message).replace(/Signature=[^&"\s]+/g, "Signature=…");
    throw new Failure([`${title} (${where}): ${said}`, ...witness.problems].join("\n"));
  }
  process.stdout.write(`${title} (${((performance.now() - start) / 1000).toFixed(1)} s)\n`);
}

async function story(browser, settings) {
  const { studio, files } = settings;
  const owner = new Witness(browser, settings, "story");
  const page = await owner.open();
  const tell = (title, work) => chapter(title, work, owner);
  const guest = (title, work) => visit(browser, settings, title, work);

  await tell("nobody gets in without the token", () => signIn(owner, page, settings));
  await tell("a video is chosen, another is dropped, and both are followed to their end", () =>
    putIn(owner, page, files),
  );
  await tell("a video is watched to its end", () => watchThrough(owner, page));
  await tell("the gate is tried", () => tryTheGate(owner, page));
  const link = await told(tell, "a link is made and copied", () => share(owner, page));
  await guest("who has the link watches, and sees nothing else", (who, tab) => watchAsGuest(who, tab, link));
  const bound = await told(tell, "a link is made for another address", () => shareWithAddress(page));
  await guest("a link for another address is refused", (who, tab) => isRefused(who, tab, bound));
  await guest("a link of seconds stops", async (who, tab) => {
    const brief = await shareForSeconds(page, studio);
    await watchUntilItStops(who, tab, brief);
  });
  await tell("a broken file says so, and can be tried again", () => fail(owner, page, files));
  await tell("an asset that was replaced is rolled back", () => rollBack(owner, page, files));
  await tell("a video is deleted", () => remove(owner, page, settings));
  await tell("all of it can be done by keys, on a phone and in the dark", () => lookAround(browser, settings));
  await tell("who signs out is out", () => signOut(owner, page));
  sound(await owner.close());
}

function sound(problems) {
  if (problems.length) throw new Failure(`what nobody should see:\n${problems.join("\n")}`);
}

async function told(tell, title, work) {
  let result;
  await tell(title, async () => (result = await work()));
  return result;
}

/** A chapter in a browser that nobody has signed in with. */
async function visit(browser, settings, title, work) {
  const who = new Witness(browser, settings, "story");
  const tab = await who.open({ scheme: "dark" });
  await chapter(title, () => work(who, tab), who);
  sound(await who.close());
}

/** Signs in at the door. */
async function signIn(owner, page, { studio, token }) {
  await page.goto(studio);
  const field = page.getByLabel("Token");
  await field.fill("not it");
  await owner.looks("1-door");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("alert").filter({ hasText: "not the service" }).waitFor();
  await owner.looks("2-wrong-token");
  await field.fill(token);
  await field.press("Enter");
  await page.getByRole("heading", { name: "Library", level: 1 }).waitFor();
  await page.getByText("Drop a video file anywhere on this page").waitFor();
  await owner.looks("3-nothing-yet");
  assert.ok(!page.url().includes(encodeURIComponent(token)), "the token is in the address");
  // The page knows that it needs the token before anything has to be refused.
  owner.wasRefused();
}

async function putIn(owner, page, { bunny, talk, long }) {
  const network = await page.context().newCDPSession(page);
  const limit = (uploadThroughput) =>
    network.send("Network.emulateNetworkConditions", {
      offline: false,
      latency: 0,
      downloadThroughput: -1,
      uploadThroughput,
    });
  await page.evaluate(follow);
  await limit(SLOW_UPLOAD);
  const [chooser] = await Promise.all([
    page.waitForEvent("filechooser"),
    page.getByRole("button", { name: "Choose videos" }).click(),
  ]);
  await chooser.setFiles(bunny);
  await page.getByText(/Uploading · [1-9]/).waitFor();
  await owner.looks("4-uploading");
  await page.getByText(/Encoding · [1-9]/).waitFor();
  await owner.looks("5-encoding");
  await limit(-1);

  await dropOnto(network, [talk, long], () => owner.looks("6-dropping"));
  for (const name of ["bunny", "talk", "long"]) await card(page, name).waitFor({ timeout: 90_000 });
  await page.getByRole("link", { name: "Watch long" }).waitFor();
  await page.waitForFunction(() => [...document.images].every(({ naturalWidth }) => naturalWidth > 0));
  await owner.looks("7-library");
  owner.wasRefused();

  const seen = await page.evaluate(() => globalThis.followed);
  const rowsOf = (name) => seen.filter(({ title }) => title.startsWith(name));
  const steps = (name) => [...new Set(rowsOf(name).map(({ step }) => step))];
  const order = ["Upload", "Inspect", "Encode", "Publish"];
  for (const name of ["bunny", "talk", "long"]) {
    const passed = steps(name);
    assert.deepEqual(passed, order.filter((step) => passed.includes(step)), `${name} went another way`);
    // A look into a small file, and its publishing, may be over before a browser draws them.
    assert.ok(passed.includes("Upload") && passed.includes("Encode"), `${name} went through ${passed}`);
  }
  const percents = (name) => rowsOf("bunny").filter(({ step }) => step === name).map(({ percent }) => percent);
  for (const step of ["Upload", "Encode"]) {
    const moved = [...new Set(percents(step))].filter((percent) => percent > 0 && percent < 100);
    assert.ok(moved.length >= 2, `${step} stood at ${moved}`);
    assert.deepEqual(moved, moved.toSorted((one, other) => one - other), `${step} went back`);
    assert.ok(seen.some((row) => row.step === step && row.left), `${step} did not say how long it takes`);
  }
}

/** In the page: keeps what the rows of what is under way say, each time that one says something else. */
function follow() {
  globalThis.followed = [];
  const look = () => {
    for (const row of document.querySelectorAll("section[aria-labelledby=activity-title] li:has(progress)")) {
      const progress = row.querySelector("progress");
      const now = {
        title: row.querySelector("h3").textContent,
        step: row.querySelector("[aria-current=step]")?.textContent,
        percent: progress.value * (100 / progress.max),
        // How long the rest takes is known once some of it is done.
        left: / left/.test(row.textContent),
      };
      if (progress.hidden) continue;
      const before = globalThis.followed.findLast(({ title }) => title === now.title);
      if (JSON.stringify(before) !== JSON.stringify(now)) globalThis.followed.push(now);
    }
  };
  new MutationObserver(look).observe(document.body, {
    subtree: true,
    childList: true,
    attributes: true,
    characterData: true,
  });
}

/** Drags files from elsewhere over the page, and lets them go; `meanwhile` they hang there. */
async function dropOnto(session, paths, meanwhile) {
  const data = { items: [], files: paths, dragOperationsMask: 1 };
  const drag = (type) => session.send("Input.dispatchDragEvent", { type, x: 600, y: 300, data });
  await drag("dragEnter");
  await drag("dragOver");
  await meanwhile();
  await drag("drop");
}

const shelf = (page) => page.getByRole("region", { name: "Videos" });
const card = (page, name) => shelf(page).getByRole("link", { name, exact: true });

async function watchThrough(owner, page) {
  await card(page, "talk").click();
  await page.getByRole("heading", { name: "talk", level: 1 }).waitFor();
  await playing(page);

  const player = page.getByRole("group", { name: /^Video/ });
  await player.hover();
  await player.getByRole("button", { name: /^Captions/ }).click();
  await player.getByRole("menuitemradio", { name: "English" }).click();
  await page.waitForFunction(shownCaption, "Nobody gets in without a ticket.");

  await player.hover();
  await player.getByRole("button", { name: "Pause" }).click();
  await player.getByRole("button", { name: /^Quality/ }).click();
  await owner.looks("8-quality", { whole: false });
  await player.getByRole("menuitemradio", { name: /^234p/ }).click();
  await player.getByRole("button", { name: "Play", exact: true }).click();
  await page.waitForFunction(() => document.querySelector("video").videoHeight === 234);
  await player.getByRole("button", { name: /^Quality/ }).click();
  await player.getByRole("menuitemradio", { name: /^360p/ }).first().click();
  await page.waitForFunction(() => document.querySelector("video").videoHeight === 360);

  const bar = await player.getByRole("slider", { name: "Seek" }).boundingBox();
  await page.mouse.move(bar.x + bar.width / 2, bar.y + bar.height / 2);
  await page.waitForFunction(() => document.querySelector(".seek-preview img")?.naturalWidth > 0);
  await owner.looks("9-watching");

  await page.keyboard.press("Home");
  await player.getByRole("button", { name: /^Speed/ }).click();
  await player.getByRole("menuitemradio", { name: "2×" }).click();
  await page.waitForFunction(() => document.querySelector("video").ended);
  owner.wasRefused();
  const unsigned = owner.fetched.filter(({ signed }) => !signed);
  assert.deepEqual(unsigned, []);
  assert.ok(owner.fetched.filter(({ path }) => path.endsWith(".m4s")).length >= 2);
}

/** Waits until pictures move. */
async function playing(page) {
  await page.waitForFunction(() => document.querySelector("video")?.currentTime > 0.2);
}

/** In the page: whether a caption is shown. */
function shownCaption(text) {
  const tracks = [...document.querySelector("video").textTracks].filter(({ mode }) => mode === "showing");
  return tracks.some(({ activeCues }) => [...(activeCues ?? [])].some((cue) => cue.text === text));
}

async function tryTheGate(owner, page) {
  const playlist = "/assets/talk/index.m3u8";
  const answers = {
    "With signature": [200, /mpegurl/],
    "Without signature": [403, /MissingKey/],
    "Another asset": [403, /AccessDenied/],
    Expired: [403, /AccessDenied/],
    "Altered policy": [403, /AccessDenied/],
  };
  const said = page.getByRole("region", { name: "What the URL says" });
  for (const says of [/Opens\s+\S+\/assets\/talk\/\*/, /Until\s+today/, /Key pair\s+K/]) {
    assert.match(await said.innerText(), says);
  }
  await said.getByText("The policy", { exact: true }).click();
  const policy = JSON.parse(await said.locator("[data-policy]").innerText());
  assert.match(policy.Statement[0].Resource, /\/assets\/talk\/\*$/);
  const left = () => said.getByRole("timer").innerText();
  const before = await left();
  assert.match(before, /^00:\d\d:\d\d left$/);
  await eventually(async () => assert.notEqual(await left(), before));

  owner.fetched.length = 0;
  for (const [name, [status, says]] of Object.entries(answers)) {
    const offer = page.getByRole("listitem").filter({ has: page.getByRole("button", { name, exact: true }) });
    await offer.getByRole("button").click();
    const answer = offer.locator("output[data-answer]");
    await answer.waitFor();
    assert.match(await answer.innerText(), new RegExp(`^${status}\\b`), name);
    assert.match(await answer.innerText(), says, name);
  }
  // What is shown is what the edge said.
  const asked = owner.fetched.map(({ status, signed }) => `${status}${signed ? "" : " unsigned"}`);
  assert.deepEqual(asked, ["200", "403 unsigned", "403", "403", "403"]);
  const elsewhere = owner.fetched[2].path;
  assert.notEqual(elsewhere, playlist);
  owner.wasRefused(`403 ${playlist}`, `403 ${elsewhere}`);
  await owner.looks("10-gate");
}

/** Makes the link that is chosen, and copies it. */
async function makeLink(page) {
  const field = page.getByLabel("Page that plays it", { exact: true });
  const before = (await field.count()) ? await field.inputValue() : undefined;
  await page.getByRole("button", { name: "Make the link" }).click();
  // The one before it stands there until the new one is signed.
  await eventually(async () => assert.notEqual(await field.inputValue(), before));
  await page.getByRole("button", { name: "Copy: Page that plays it" }).click();
  const link = await field.inputValue();
  await page.waitForFunction((text) => navigator.clipboard.readText().then((copied) => copied === text), link);
  return link;
}

async function share(owner, page) {
  await page.getByLabel("1 hour").check();
  const link = await makeLink(page);
  await owner.looks("11-share");
  return link;
}

async function shareWithAddress(page) {
  await page.getByText("Only for one address, or later").click();
  await page.getByLabel("Only from this address").fill(ELSEWHERE);
  return makeLink(page);
}

async function shareForSeconds(page, studio) {
  await page.goto(`${studio}/#/assets/long`);
  await page.getByRole("heading", { name: "long", level: 1 }).waitFor();
  await page.getByLabel("Another time").check();
  await page.getByLabel("Lifetime", { exact: true }).fill("0.2");
  await page.getByLabel("Unit of the lifetime").selectOption("minutes");
  return makeLink(page);
}

async function watchAsGuest(who, page, link) {
  await page.goto(link);
  await page.getByRole("heading", { name: "talk", level: 1 }).waitFor();
  await playing(page);
  await page.getByRole("group", { name: /^Video/ }).hover();
  await page.getByRole("button", { name: /^Speed/ }).click();
  await page.getByRole("menuitemradio", { name: "2×" }).click();
  await page.waitForFunction(() => document.querySelector("video").ended);
  await who.looks("12-guest");
  const asked = who.asked.filter((path) => path !== "/watch" && !path.startsWith("/studio/"));
  assert.deepEqual(asked, [], "a guest's page asks the service for more than its files");
  assert.ok(who.fetched.every(({ signed }) => signed));
}

async function isRefused(who, page, link) {
  await page.goto(link);
  await page.getByRole("alert").filter({ hasText: /refuse/ }).waitFor();
  await who.looks("13-another-address");
  assert.ok(who.refusals.length > 0);
  assert.ok(who.refusals.splice(0).every(({ status }) => status === 403));
}

async function watchUntilItStops(who, page, link) {
  await page.goto(link);
  await playing(page);
  who.wasRefused();
  await page.getByText(/expired: the edge refuses it now/).waitFor();
  await page.getByRole("slider", { name: "Seek" }).focus();
  await page.keyboard.press("9");
  await page.getByRole("alert").filter({ hasText: /expired/ }).waitFor();
  await who.looks("14-expired");
  assert.ok(who.refusals.length > 0);
  assert.ok(who.refusals.splice(0).every(({ status }) => status === 403));
  assert.equal(await page.evaluate(() => document.querySelector("video").paused), true);

  await page.reload();
  await page.getByRole("alert").filter({ hasText: /expired/ }).waitFor();
  assert.ok(who.refusals.splice(0).every(({ status }) => status === 403));
}

async function fail(owner, page, { broken }) {
  await page.getByRole("link", { name: "Library", exact: true }).first().click();
  await page.getByRole("heading", { name: "Library", level: 1 }).waitFor();
  await page.locator("input[type=file]").setInputFiles(broken);
  const rows = page.getByRole("region", { name: "Uploads and jobs" }).getByRole("listitem");
  const row = rows.filter({ hasText: "broken.mp4" });
  await row.getByText(/is not a video, or is damaged/).waitFor();
  await owner.looks("15-failed");
  const retried = page.waitForResponse((response) => response.url().endsWith("/retry"));
  await row.getByRole("button", { name: /^Retry/ }).click();
  assert.equal((await retried).status(), 202);
  // It is no better a file than before.
  await row.getByText(/is not a video, or is damaged/).waitFor();
  await row.getByRole("button", { name: /^Retry/ }).waitFor();

  await page.getByRole("link", { name: "Jobs" }).click();
  await page.getByRole("heading", { name: "Jobs", level: 1 }).waitFor();
  await page.getByRole("listitem").filter({ hasText: "bunny.mp4" }).waitFor();
  await owner.looks("16-jobs");
  await page.getByLabel("Show").selectOption("failed");
  await page.getByRole("status").filter({ hasText: /^1 job/ }).waitFor();
}

async function rollBack(owner, page, { talkAgain }) {
  await page.getByRole("link", { name: "Library", exact: true }).first().click();
  await page.getByRole("heading", { name: "Library", level: 1 }).waitFor();
  await page.locator("input[type=file]").setInputFiles(talkAgain);
  await page.getByRole("link", { name: "Watch talk" }).last().waitFor({ timeout: 60_000 });
  await card(page, "talk").click();
  const encodes = page.getByRole("region", { name: "Encodes" });
  await encodes.getByText("kept", { exact: true }).waitFor({ timeout: 60_000 });
  await page.getByText(/^0:06 · /).waitFor();
  await owner.looks("17-two-encodes");
  await encodes.getByRole("button", { name: /^Play this one/ }).click();
  await owner.looks("18-question", { whole: false });
  await page.getByRole("dialog").getByRole("button", { name: "Play it" }).click();
  await page.getByText(/^0:24 · /).waitFor();
  await playing(page);
  await page.waitForFunction(() => Math.round(document.querySelector("video").duration) === 24);
  owner.wasRefused();
}

async function remove(owner, page, { edge }) {
  const button = page.getByRole("button", { name: "Delete talk" });
  await button.click();
  const dialog = page.getByRole("dialog", { name: "Delete talk?" });
  await owner.looks("19-delete", { whole: false });
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "detached" });
  await button.click();
  await dialog.getByRole("button", { name: "Delete it" }).click();
  await page.getByRole("heading", { name: "Library", level: 1 }).waitFor();
  await card(page, "bunny").waitFor();
  assert.equal(await card(page, "talk").count(), 0);
  // Nothing of it is left at the edge, either, once what that keeps of playlists is over.
  const url = owner.edgeUrls.findLast((url) => url.includes("/assets/talk/index.m3u8?"));
  assert.ok(url.startsWith(edge));
  await eventually(async () => assert.equal((await fetch(url)).status, 404));
}

async function eventually(look) {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await look();
    } catch (error) {
      if (attempt > 40) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
}

/** The same service as others see it: on a telephone, in the dark, without a mouse. */
async function lookAround(browser, settings) {
  for (const [phone, scheme] of SCREENS.filter(([phone, scheme]) => phone || scheme === "dark")) {
    const who = new Witness(browser, settings, "story");
    const page = await who.open({ phone, scheme });
    const name = `20-${phone ? "phone" : "desktop"}-${scheme}`;
    await enter(page, settings);
    await card(page, "bunny").waitFor();
    await page.waitForFunction(() => [...document.images].some(({ naturalWidth }) => naturalWidth > 0));
    await who.looks(`${name}-library`);
    await reach(page, card(page, "bunny"));
    await page.keyboard.press("Enter");
    await playing(page);
    await who.looks(`${name}-asset`);
    sound(await who.close());
  }
}

/** Comes in with the token. */
async function enter(page, { studio, token }) {
  await page.goto(studio);
  await page.getByLabel("Token").fill(token);
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Library", level: 1 }).waitFor();
}

/** Goes from one thing to the next until this one is in focus, as one does without a mouse. */
async function reach(page, target) {
  for (let steps = 0; steps < 60; steps += 1) {
    if (await target.evaluate((element) => element === document.activeElement)) return;
    await page.keyboard.press("Tab");
  }
  throw new Error("it cannot be reached by the Tab key");
}

async function signOut(owner, page) {
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByLabel("Token").waitFor();
  assert.equal(await card(page, "bunny").count(), 0);
}

// --- the library ---------------------------------------------------------------------------------------------

const MANY = 500;
const PAGE_OF_API = 200;

/** The library with as many videos as it may have, on every kind of screen. What it lists is made up. */
async function library(browser, settings) {
  const poster = await readFile(settings.files.poster);
  for (const count of [0, 1, MANY]) {
    for (const [phone, scheme] of SCREENS) {
      const who = new Witness(browser, settings, "library");
      const page = await who.open({ phone, scheme });
      const name = `${count}-${phone ? "phone" : "desktop"}-${scheme}`;
      await imitate(page, made(count), poster);
      await chapter(name, () => lookAt(who, page, { count, name, settings }), who);
      sound(await who.close());
    }
  }
}

async function lookAt(who, page, { count, name, settings }) {
  await enter(page, settings);
  if (count === 0) await page.getByText("Drop a video file anywhere on this page").waitFor();
  else await page.getByText(new RegExp(`^${count} videos?, `)).waitFor();
  if (count > 0) await page.waitForFunction(() => document.querySelector("main li img")?.naturalWidth > 0);
  await who.looks(name, { whole: count < MANY });
  if (count < MANY) return;

  const start = performance.now();
  await page.getByLabel("Find").fill("lesson-0321");
  await page.getByText(`1 video of ${count}`).waitFor();
  await card(page, "lesson-0321").waitFor();
  const seconds = (performance.now() - start) / 1000;
  assert.ok(seconds < 3, `it took ${seconds} s to find one of ${count}`);
  await page.getByLabel("Find").fill("");
  await page.getByLabel("Sort").selectOption("name");
  // All of them are there for whoever goes on to the end.
  await eventually(async () => {
    await page.evaluate(() => scrollTo(0, document.body.scrollHeight));
    assert.equal(await shelf(page).getByRole("listitem").count(), count);
  });
  assert.equal(await shelf(page).getByRole("link").last().textContent(), "lesson-0499");
}

function made(count) {
  return Array.from({ length: count }, (_, index) => ({
    asset: `lesson-${String(index).padStart(4, "0")}`,
    generation: "20260101T000000Z-0123456789abcdef",
    created: new Date(Date.UTC(2026, 0, 1) + index * 3_600_000).toISOString(),
    duration: 60 + index * 7,
    poster: true,
    storyboard: null,
    width: 1920,
    height: 1080,
    renditions: [1080, 720, 432, 234].map((height) => ({
      kind: "video",
      width: Math.round((height * 16) / 9),
      height,
      frame_rate: 25,
      codecs: "avc1.640028",
      peak_bandwidth: height * 4000,
    })),
    bytes: 40_000_000 + index * 1_000_000,
    encrypted: index % 7 === 0,
  }));
}

/** Answers in the service's place to whoever is let in. */
async function imitate(page, assets, poster) {
  const isIn = (route) => route.request().headers().authorization !== undefined;
  await page.route("**/v1/assets?*", (route) => {
    if (!isIn(route)) return route.continue();
    const query = new URL(route.request().url()).searchParams;
    const limit = Number(query.get("limit") ?? 50);
    assert.ok(limit <= PAGE_OF_API, "the service would refuse that");
    const rest = assets.filter(({ asset }) => asset > (query.get("after") ?? ""));
    const page = rest.slice(0, limit);
    return route.fulfill({ json: { assets: page, next: rest.length > limit ? page.at(-1).asset : null } });
  });
  await page.route("**/v1/assets/*/poster", (route) =>
    isIn(route) ? route.fulfill({ body: poster, contentType: "image/jpeg" }) : route.continue(),
  );
}

process.exitCode = await main().then(() => 0, report);
