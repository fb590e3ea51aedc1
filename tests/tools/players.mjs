//! Plays signed URLs with the players that pages use, each on a page of its own in one headless Chromium, and prints
//! what it saw as JSON, an array in the order of what was asked for.
//!
//! `node tests/tools/players.mjs '[{"player": "shaka", "url": "…", "cmcd": true}, …]'`
//!
//! Players are `hls.js`, `hls.js-1.5`, `shaka`, `video.js` and `native`, Chromium's own. An asked-for `live` stream has
//! no end; it is played until it was asked for anew. Where `seek` has times, one after the other is gone to instead.
//! A `task` is one of tasks.js, with its `options`; what it tells is `told`. One with a `rate` comes after all is played.

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { join } from "node:path";

import { launch, watchIn } from "./browser.mjs";
import { made, report, root } from "./project.mjs";

// Two cores keep up with this many small pictures at this speed. They do not show each of their frames, nor need to.
const RATE = 4;
const AT_ONCE = 5;

const here = join(root, "tests/tools");
const packages = join(root, "node_modules");
const FILES = {
  "/": [join(here, "players.html"), "text/html; charset=utf-8"],
  "/tasks.js": [join(here, "tasks.js"), "text/javascript; charset=utf-8"],
  "/players.js": [join(here, "players.js"), "text/javascript; charset=utf-8"],
  "/hls.js.mjs": [join(packages, "hls.js/dist/hls.mjs"), "text/javascript; charset=utf-8"],
  "/hls.js-1.5.mjs": [join(packages, "hls.js-1.5/dist/hls.mjs"), "text/javascript; charset=utf-8"],
  "/shaka.js": [join(packages, "shaka-player/dist/shaka-player.compiled.js"), "text/javascript; charset=utf-8"],
  "/video.js": [join(packages, "video.js/dist/video.min.js"), "text/javascript; charset=utf-8"],
};

async function main() {
  const wanted = JSON.parse(process.argv[2]);
  const server = await serve();
  const address = `http://127.0.0.1:${server.address().port}/`;
  const browser = await launch();
  try {
    const seen = Array(wanted.length);
    const queue = wanted.entries();
    const viewers = Array.from({ length: AT_ONCE }, async () => {
      for (const [index, { player, url, cmcd, live, seek, task, options, rate }] of queue) {
        const page = new URL(address);
        const more = { ...(task && { task }), ...(options && { options: JSON.stringify(options) }) };
        page.search = new URLSearchParams({ player, ...(cmcd && { cmcd }), ...(seek && { seek }), ...more });
        page.hash = url;
        const aside = task !== undefined && rate === undefined;
        seen[index] = await watchIn(browser, { page: page.href, rate: rate ?? RATE, live, seek, aside });
      }
    });
    await Promise.all(viewers);
    process.stdout.write(`${JSON.stringify(seen, null, 2)}\n`);
  } finally {
    await browser.close();
    server.close();
    server.closeAllConnections();
  }
}

async function serve() {
  for (const [file] of Object.values(FILES)) made(file, "install the npm packages with `npm ci`");
  const server = createServer(async (request, response) => {
    const [file, type] = FILES[new URL(request.url, "http://page").pathname] ?? [];
    if (!file) return response.writeHead(404).end();
    response.writeHead(200, { "content-type": type }).end(await readFile(file));
  });
  await new Promise((resolve, reject) => server.once("error", reject).listen(0, "127.0.0.1", resolve));
  return server;
}

process.exitCode = await main().then(() => 0, report);
