//! Plays a signed URL to its end in headless Chromium, from a page on another origin, and prints what it saw as JSON.
//!
//! `node tests/tools/play.mjs [--native] [--rate 2] [--longest SECONDS] <signed URL of a .m3u8, or a watch page's URL>`
//!
//! It exits with 0 only if the stream ended without a single error, of the player's or of a request.

import { parseArgs } from "node:util";

import { servePage } from "./page.mjs";
import { watch } from "./browser.mjs";
import { Failure, report } from "./project.mjs";

async function main() {
  const { positionals, values } = commandLine();
  const url = URL.parse(positionals[0] ?? "");
  if (!url || positionals.length !== 1) {
    throw new Failure(
      "usage: play.mjs [--native] [--rate 2] [--longest SECONDS] <signed URL, or a watch page's URL>",
    );
  }
  const page = url.pathname.endsWith(".m3u8") ? await servePage({ signedUrl: positionals[0] }) : undefined;
  try {
    const seen = await watch({
      page: page?.url ?? positionals[0],
      player: values.native ? "native" : "hls.js",
      rate: number("rate", values.rate),
      longest: number("longest", values.longest),
    });
    process.stdout.write(`${JSON.stringify(seen, null, 2)}\n`);
    return seen.problems.length ? 1 : 0;
  } finally {
    await page?.close();
  }
}

function commandLine() {
  const options = {
    native: { type: "boolean" },
    rate: { type: "string", default: "2" },
    longest: { type: "string", default: "Infinity" },
  };
  try {
    return parseArgs({ options, allowPositionals: true });
  } catch (error) {
    throw new Failure(error.message);
  }
}

function number(name, text) {
  const value = Number(text);
  if (!(value > 0)) throw new Failure(`--${name} ${text}: not a number above 0`);
  return value;
}

process.exitCode = await main().catch(report);
