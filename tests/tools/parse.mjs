//! Says whether JavaScript's parsers of playlists read the same out of two folders' files of the same names:
//! `node tests/tools/parse.mjs <originals> <signed> <authority>`
//!
//! On stdout there is a JSON object, `{"hls-parser": {"a.m3u8": "same", "b.m3u8": "refused", …}, …}`: `refused` is
//! what it takes for no playlist, signed or not, and anything else the first difference.

import { readFile, readdir } from "node:fs/promises";
import { join } from "node:path";

import hlsParser from "hls-parser";
import { Parser as M3u8Parser } from "m3u8-parser";

import { report } from "./project.mjs";

const PARSERS = {
  "hls-parser": (text) => hlsParser.parse(text),
  "m3u8-parser": (text) => {
    const parser = new M3u8Parser();
    parser.push(text);
    parser.end();
    return parser.manifest;
  },
};

async function main() {
  const [originals, signed, authority] = process.argv.slice(2);
  // What it cannot read it says there, too.
  hlsParser.setOptions({ silent: true });
  const verdicts = Object.fromEntries(Object.keys(PARSERS).map((name) => [name, {}]));
  for (const file of await readdir(originals)) {
    const texts = await Promise.all([originals, signed].map((folder) => readFile(join(folder, file), "utf8")));
    for (const [name, parse] of Object.entries(PARSERS)) {
      const [one, other] = texts.map((text) => structure(parse, text, authority));
      verdicts[name][file] = one === other ? (one === undefined ? "refused" : "same") : difference(one, other);
    }
  }
  process.stdout.write(JSON.stringify(verdicts));
}

/** All that a parser found but the authority, and but what joins it to a link, of which some had one before. */
function structure(parse, text, authority) {
  const plain = (_, value) => {
    if (typeof value === "string") return value.replaceAll(authority, "").replaceAll(/[?&]/g, "");
    return ArrayBuffer.isView(value) ? [...value] : value;
  };
  try {
    return JSON.stringify(parse(text), plain);
  } catch {
    return undefined;
  }
}

function difference(one = "refused", other = "refused") {
  let at = 0;
  while (one[at] === other[at]) at += 1;
  const around = (text) => text.slice(Math.max(0, at - 40), at + 80);
  return `${around(one)}, and signed ${around(other)}`;
}

process.exitCode = await main().then(() => 0, report);
