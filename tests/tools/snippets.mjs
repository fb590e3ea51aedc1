//! Opens the README's pages in headless Chromium, as their viewers do, and prints what they saw as JSON:
//! `node tests/tools/snippets.mjs '{"pages": {"hls": "<!doctype html>…", …}, "backend": "playback.mjs", …}'`
//!
//! The pages' own backend is the README's, too. Their edge is real: where it has to refuse something, a signature is
//! changed on its way there.

import { createHmac } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

import { launch } from "./browser.mjs";
import { made, report, root } from "./project.mjs";

const HLS = join(root, "node_modules/hls.js/dist/hls.mjs");
const RATE = 4;
const AT_ONCE = 3;
const PATIENCE_MILLISECONDS = 20_000;
const HTML = "text/html; charset=utf-8";
const JAVASCRIPT = "text/javascript; charset=utf-8";

/** What happens on a page, by name. */
const STORIES = {
  "hls.js plays": { page: "hls" },
  "hls.js goes on with another URL": { page: "hls", prepare: [overOnTheWay] },
  "hls.js is refused": { page: "hls", prepare: [over], fails: true },
  "hls.js has no URL": { page: "hls", prepare: [unpaid], fails: true },
  "native plays": { page: "hls", prepare: [withoutMediaSource] },
  "native is refused": { page: "hls", prepare: [withoutMediaSource, over], fails: true },
  "hls.js plays by cookies": { page: "cookies" },
  "hls.js has lost its cookies": { page: "cookies", prepare: [withoutCookies], fails: true },
  "native plays by cookies": { page: "cookies", prepare: [withoutMediaSource] },
  "native has lost its cookies": { page: "cookies", prepare: [withoutMediaSource, withoutCookies], fails: true },
  "nobody's token": { page: "cookies", prepare: [nobody], fails: true },
  "no token": { page: "cookies", prepare: [unpaid], fails: true },
  "nobody answers": { page: "cookies", prepare: [away], fails: true },
};

async function main() {
  const settings = JSON.parse(process.argv[2]);
  const { playback } = await import(pathToFileURL(settings.backend));
  const server = await serve(settings, playback);
  const browser = await launch();
  try {
    const seen = {};
    const queue = Object.entries(STORIES).values();
    const viewers = Array.from({ length: AT_ONCE }, async () => {
      for (const [name, story] of queue) seen[name] = await tell(browser, story, settings);
    });
    await Promise.all(viewers);
    process.stdout.write(`${JSON.stringify(seen)}\n`);
  } finally {
    await browser.close();
    server.close();
    server.closeAllConnections();
  }
}

/** Opens a page and watches until its video has ended, or it says in words why it cannot. */
async function tell(browser, { page: name, prepare = [], fails = false }, { site, edge }) {
  const context = await browser.newContext();
  try {
    const page = await context.newPage();
    const errors = [];
    const requests = [];
    const asked = [];
    page.on("pageerror", ({ message }) => errors.push(message));
    page.on("response", (answer) => {
      const { origin, pathname, searchParams } = new URL(answer.url());
      const status = answer.status();
      if (origin === edge) requests.push({ path: pathname, status, signed: searchParams.has("Signature") });
      if (isForUrl(answer)) asked.push(status);
    });
    for (const step of prepare) await step(page, edge);
    await page.goto(`${site}/${name}`);
    if (!fails) await pressPlay(page);
    const says = page.getByRole("alert");
    const stuck = !(await within(page, () => {
      return document.querySelector("video").ended || document.querySelector("[role=alert]").textContent;
    }));
    const look = ({ ended, currentSrc }) => ({ ended, source: currentSrc.split(":")[0] });
    const video = await page.locator("video").evaluate(look);
    const cookies = (await context.cookies()).map(({ value: _, expires: __, ...cookie }) => cookie);
    return { ...video, stuck, says: await says.textContent(), requests, asked, errors, cookies };
  } finally {
    await context.close();
  }
}

/** As soon as there is something to be played, if ever. */
async function pressPlay(page) {
  await within(page, () => document.querySelector("video").currentSrc);
  await page.locator("video").evaluate((video, rate) => {
    video.defaultPlaybackRate = rate;
    video.playbackRate = rate;
    video.play().catch(() => {});
  }, RATE);
}

/** Whether something comes true in the page before patience ends. */
function within(page, isTrue) {
  const waiting = page.waitForFunction(isTrue, undefined, { timeout: PATIENCE_MILLISECONDS });
  return waiting.then(() => true, () => false);
}

const isForUrl = (answer) => new URL(answer.url()).pathname === "/playback/talk";

/** What `matches` is asked of the edge with another signature. The edge's answer is its own. */
async function alter(page, edge, matches) {
  await page.route(`${edge}/**`, (route) => {
    const url = new URL(route.request().url());
    const signature = url.searchParams.get("Signature");
    if (!signature || !matches(url)) return route.continue();
    return route.continue({ url: url.href.replace(signature.slice(0, 8), "AAAAAAAA") });
  });
}

/** Every URL is over before it is used. */
async function over(page, edge) {
  await alter(page, edge, () => true);
}

/** The first URL is over when the second segment is asked for. */
async function overOnTheWay(page, edge) {
  let urls = 0;
  page.on("response", (answer) => (urls += isForUrl(answer)));
  await alter(page, edge, ({ pathname }) => urls === 1 && pathname.endsWith("/00002.m4s"));
}

/** The backend knows of something that speaks against it. */
async function unpaid(page) {
  const refuse = (route) => route.fulfill({ status: 402, body: "{}" });
  for (const path of ["playback/talk", "viewer-token"]) await page.route(`**/${path}`, refuse);
}

/** The service cannot be reached. */
async function away(page) {
  await page.route("**/v1/playback", (route) => route.abort());
}

/** The backend has made another token than it should. */
async function nobody(page) {
  await page.route("**/viewer-token", (route) => route.fulfill({ body: "e30.e30.e30" }));
}

/** The browser keeps none. */
async function withoutCookies(page, edge) {
  await page.route(`${edge}/**`, async (route) => {
    await page.context().clearCookies();
    await route.continue();
  });
}

/** As on an iPhone of some years ago. */
async function withoutMediaSource(page) {
  await page.addInitScript(() => {
    for (const name of ["MediaSource", "ManagedMediaSource", "WebKitMediaSource"]) delete globalThis[name];
  });
}

/** The site: its pages, hls.js, and a backend to which everybody is a viewer who has paid. */
async function serve({ pages, site, viewers }, playback) {
  const hls = await readFile(made(HLS, "install the npm packages with `npm ci`"));
  const files = {
    ...Object.fromEntries(Object.entries(pages).map(([name, html]) => [`/${name}`, [HTML, html]])),
    "/hls.mjs": [JAVASCRIPT, hls],
    "/favicon.ico": ["image/x-icon", ""],
  };
  const answers = {
    "/playback/talk": async () => JSON.stringify(await playback("talk")),
    "/viewer-token": () => token(viewers),
  };
  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url, site);
    const [type, content] = files[pathname] ?? [];
    if (type && request.method === "GET") return response.writeHead(200, { "content-type": type }).end(content);
    if (answers[pathname] && request.method === "POST") return response.end(await answers[pathname]());
    response.writeHead(404).end();
  });
  const { port } = new URL(site);
  await new Promise((resolve, reject) =>
    server.once("error", reject).listen(Number(port), "127.0.0.1", resolve),
  );
  return server;
}

/** The JWT of a viewer who may watch what begins with `ta`, by RFC 7515 and nothing of ours. */
function token({ secret, issuer, audience }) {
  const exp = Math.floor(Date.now() / 1000) + 600;
  const claims = { iss: issuer, aud: audience, sub: "viewer-17", exp, assets: ["ta*"], max_seconds: 600 };
  const encode = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const signed = `${encode({ alg: "HS256", typ: "JWT" })}.${encode(claims)}`;
  return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
}

process.exitCode = await main().then(() => 0, report);
