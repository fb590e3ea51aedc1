//! Somebody who looks at pages in a browser, and minds what nobody should see: errors in the console, requests to other
//! hosts or without a signature, refusals that nobody provoked, and what keeps people out who cannot see or use a mouse.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";

import { launch } from "./browser.mjs";
import { made, root } from "./project.mjs";

const PATIENCE_MILLISECONDS = 30_000;
const GRAVE = ["serious", "critical"];
// What a gate is opened by.
const AUTHORITIES = ["Signature", "t"];
const PHONE = { width: 360, height: 740 };
const DESKTOP = { width: 1280, height: 900 };

/** Where the picture of a state is left; without a name the folder of all of a story's. */
export const picture = (story, name) => join(root, "target/screenshots", story, name && `${name}.png`);

/** A window of a browser that nobody used before; whatever it should not do is one of `problems`. */
export class Witness {
  problems = [];
  /** Answers of 400 and above: `{status, url, method}`. */
  refusals = [];
  /** What was asked of the edge: `{path, signed, status}`. */
  fetched = [];
  /** The same with all that opens it, which is for nobody else. */
  edgeUrls = [];
  /** Paths that were asked of the service. */
  asked = [];

  constructor(browser, settings, folder) {
    this.browser = browser;
    this.settings = settings;
    this.folder = folder;
  }

  /** The page, on a `phone` or not, in the colours of a `scheme`. */
  async open({ phone = false, scheme = "light" } = {}) {
    this.context = await this.browser.newContext({
      viewport: phone ? PHONE : DESKTOP,
      hasTouch: phone,
      isMobile: phone,
      colorScheme: scheme,
      locale: "en-GB",
      permissions: ["clipboard-read", "clipboard-write"],
    });
    this.context.setDefaultTimeout(PATIENCE_MILLISECONDS);
    this.page = await this.context.newPage();
    this.#watch(this.page);
    return this.page;
  }

  #watch(page) {
    const { studio, edge } = this.settings;
    page.on("pageerror", ({ message }) => this.problems.push(`page: ${message}`));
    page.on("console", (message) => {
      if (message.type() !== "error") return;
      const text = message.text().replace(/\?\S*/g, "?…");
      // An answer that is a refusal is reported so, too: those are counted by themselves.
      if (text.startsWith("Failed to load resource: the server responded")) return;
      this.problems.push(`console: ${text}`);
    });
    page.on("websocket", () => this.problems.push("it opened a web socket"));
    page.on("request", (request) => {
      const { protocol, origin, pathname } = new URL(request.url());
      if (!["http:", "https:"].includes(protocol)) return;
      if (origin === studio) this.asked.push(pathname);
      else if (origin !== edge) this.problems.push(`a request went to ${origin}`);
    });
    page.on("response", (response) => {
      const { origin, pathname, searchParams } = new URL(response.url());
      const status = response.status();
      if (origin === edge) {
        this.edgeUrls.push(response.url());
        const signed = AUTHORITIES.some((name) => searchParams.has(name));
        this.fetched.push({ path: pathname, signed, status });
      }
      if (status >= 400) this.refusals.push({ status, path: pathname, method: response.request().method() });
    });
  }

  /** Takes what was refused so far, and sees that it was what had been provoked: `status path` each. */
  wasRefused(...expected) {
    const refused = this.refusals.splice(0).map(({ status, path }) => `${status} ${path}`);
    assert.deepEqual([...new Set(refused)].sort(), [...new Set(expected)].sort());
  }

  /** Keeps a picture of a state of the page, and has it looked at by axe. */
  async looks(name, { whole = true } = {}) {
    const { page } = this;
    await page.evaluate(settled);
    await page.screenshot({ path: picture(this.folder, name), fullPage: whole });
    for (const { id, impact, help, nodes } of await this.#violations()) {
      const where = nodes.slice(0, 3).map(({ target }) => target.join(" ")).join(", ");
      this.problems.push(`${name}: ${impact}: ${id}: ${help} (${nodes.length}: ${where})`);
    }
    const spill = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    if (spill > 0) this.problems.push(`${name}: it is ${spill} pixels wider than the screen`);
  }

  async #violations() {
    const axe = made(join(root, "node_modules/axe-core/axe.min.js"), "install the npm packages with `npm ci`");
    // By the debugger's way in, which the page's own policy does not forbid.
    await this.page.evaluate(await readFile(axe, "utf8"));
    const run = () => globalThis.axe.run(document, { resultTypes: ["violations"] });
    const { violations } = await this.page.evaluate(run);
    return violations.filter(({ impact }) => GRAVE.includes(impact));
  }

  /** Ends it, and says what was wrong. */
  async close() {
    this.wasRefused();
    await this.context.close();
    return this.problems;
  }
}

/** In the page: comes back when what moves has come to rest; what is out of sight may never, and is not waited for. */
function settled() {
  const moving = document.getAnimations().filter(({ effect }) => effect.getComputedTiming().iterations < Infinity);
  const rest = Promise.allSettled(moving.map(({ finished }) => finished));
  return Promise.race([rest, new Promise((late) => setTimeout(late, 1000))]).then(() => undefined);
}

/** A browser for `story(browser)`, closed after it. */
export async function inBrowser(story) {
  const browser = await launch();
  try {
    return await story(browser);
  } finally {
    await browser.close();
  }
}
