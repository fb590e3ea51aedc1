//! What rewriting a playlist takes by itself, as WebAssembly in V8 and natively, beside a copy of what comes out, beside
//! a parser and beside JavaScript; Node's V8 is workerd's, some versions apart.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { text } from "node:stream/consumers";

import { Failure, made, root } from "../tools/project.mjs";
import { median, ratio, say, table, takeTurns } from "./figures.mjs";
import { Signer, course, mediaPlaylist } from "./requests.mjs";
import { signedByBytes, signedByLines } from "./workers/signing.mjs";

const SECONDS = 25;
const SECONDS_NATIVELY = 12;
const LENGTHS = [10, 1000, 10_000];
/** How much of its own output each way makes at a time, in bytes: some milliseconds' worth. */
const TURN = 16 * 1024 * 1024;

const WAYS = {
  rewrite: "rewriting",
  copy: "copying the same output",
  compose: "rewriting into gzip",
  print: "m3u8-rs: parse, change, write",
  lines: "JavaScript: split, map, join",
  bytes: "JavaScript: by bytes",
};

export async function rewriting({ folder, stopLater }) {
  const file = (name) => made(join(root, "target/bench/rewriting", name), "`make bench` builds it");
  const { Contest } = await import(file("index.js"));
  const signer = new Signer("K2JCJMDEHXQW5F", "rsa", { modulusLength: 2048 });
  const authority = signer.query(course(2_000_000_000));
  const playlists = LENGTHS.map((length) => mediaPlaylist(length));

  const inV8 = playlists.map((playlist) => waysOf(new Contest(playlist, authority), playlist, authority));
  const contests = inV8.flatMap((ways) => Object.values(ways));
  for (const { turn } of contests) {
    for (let i = 0; i < 5; i += 1) turn();
  }
  const rounds = await takeTurns(contests, SECONDS);
  const natively = await measuredNatively(file("native"), folder, authority, playlists, stopLater);

  const size = authority.length;
  say(`Rewriting a playlist by itself, an authority of ${size} bytes, ns for each link: medians of ${rounds} rounds.`);
  say("How many times as long the gate's way takes is in brackets.\n");
  const links = (i) => LENGTHS[i];
  const cell = (ways, i, way) => {
    if (!ways[way]) return "";
    const { times } = ways[way];
    const beside = way === "rewrite" ? "" : ` (${ratio(ways.rewrite.times, times).toFixed(2)})`;
    return `${(median(times) / links(i)).toFixed(0)}${beside}`;
  };
  table(
    [...LENGTHS.map((length) => `V8 ${length}`), ...LENGTHS.map((length) => `nat. ${length}`)],
    Object.entries(WAYS).map(([way, name]) => [
      name,
      ...inV8.map((ways, i) => cell(ways, i, way)),
      ...natively.map((ways, i) => cell(ways, i, way)),
    ]),
  );

  const all = (ways, way) => ways.map(({ rewrite, [way]: other }) => ratio(rewrite.times, other.times));
  const list = (ratios) => ratios.map((ratio) => ratio.toFixed(1)).join(", ");
  const faster = (ways, way) => list(all(ways, way).map((ratio) => 1 / ratio));
  say("\nWhat it should be:");
  say(`- Rewriting takes ${list(all(inV8, "copy"))} times as long as a copy of what comes out (at most 2),`);
  say(`  natively ${list(all(natively, "copy"))} times.`);
  say(`- It is ${faster(inV8, "print")} times as fast as m3u8-rs (at least 10), natively ${faster(natively, "print")} times,`);
  say(`  and ${faster(inV8, "lines")} times as fast as split and map in JavaScript (at least 4).`);
}

/** All the ways that there are in V8, which have to come to the same. */
function waysOf(contest, playlist, authority) {
  const signed = Buffer.from(contest.signed());
  const text = new TextDecoder();
  const utf8 = new TextEncoder();
  // Bytes come in and bytes go out: what a runtime does for `text()` and for a response made of a text is done here.
  const lines = () => utf8.encode(signedByLines(text.decode(playlist), authority));
  const bytes = () => signedByBytes(playlist, authority);
  for (const way of [lines, bytes]) {
    if (!signed.equals(way())) throw new Failure(`${way.name}: another playlist comes out than of the gate`);
  }
  if (linksOf(contest.printed()) !== linksOf(signed)) throw new Failure("m3u8-rs: other links come out");

  const turns = Math.max(1, Math.floor(TURN / signed.length));
  const repeated = (way) => (times) => {
    for (let i = 0; i < times; i += 1) kept = way();
  };
  const ways = {
    rewrite: (times) => contest.rewrite(times),
    copy: (times) => contest.copy(times),
    compose: (times) => contest.compose(times),
    print: (times) => contest.print(times),
    lines: repeated(lines),
    bytes: repeated(bytes),
  };
  const entries = Object.entries(ways).map(([name, way]) => {
    // These are so much slower.
    const times = ["print", "lines", "bytes"].includes(name) ? Math.ceil(turns / 8) : turns;
    return [name, { times: [], turn: () => nanoseconds(way, times) }];
  });
  return Object.fromEntries(entries);
}

/** What a way comes to, so that V8 does not leave it out. */
let kept;

/** The CPU time of one time, V8's helpers included. */
function nanoseconds(way, times) {
  const before = process.cpuUsage();
  way(times);
  const { user, system } = process.cpuUsage(before);
  return ((user + system) * 1000) / times;
}

function linksOf(playlist) {
  const text = new TextDecoder().decode(playlist);
  return text.match(/^[^#\n].*|(?<=URI=")[^"]*/gm).join("\n");
}

/** The times of each way for each playlist, by `rewriting/src/main.rs`. */
async function measuredNatively(program, folder, authority, playlists, stopLater) {
  const files = playlists.map((_, i) => join(folder, `${i}.m3u8`));
  await Promise.all(playlists.map((playlist, i) => writeFile(files[i], playlist)));
  const stdio = ["ignore", "pipe", "inherit"];
  const child = spawn(program, [String(SECONDS_NATIVELY), authority, ...files], { stdio });
  stopLater(() => child.kill());
  const [said, [status]] = await Promise.all([text(child.stdout), once(child, "exit")]);
  if (status !== 0) throw new Failure(`${program} ended with ${status}`);
  return JSON.parse(said).map((ways) =>
    Object.fromEntries(Object.entries(ways).map(([way, times]) => [way, { times }])),
  );
}
