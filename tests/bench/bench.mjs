//! `make bench`: what the gate costs, side by side with Workers that check nothing and with the same gate in plain
//! JavaScript (workers/rival.mjs), in CPU time of bare workerd. Here it is what a signature costs; what playlists cost
//! is in rewriting.mjs and playlists.mjs, what segments cost in segments.mjs, what a cold start takes in start.mjs,
//! and what the transcoder costs beside ffmpeg in encoding.mjs.
//! `node tests/bench/bench.mjs rewriting` measures that alone.
//!
//! The Workers in Rust are all built alike (.ci/build-worker), with an entry that is as short as can be. `hello` is the
//! crate `worker` as it comes, its bucket and its responses; the gate steps into JavaScript by ways of its own.
//!
//! Microseconds depend on the machine and on what else it does. So rivals take turns, a few hundred requests at a
//! time, and what is claimed are medians of what differed between neighbours. Claims of one run, not tests.

import { randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { cpus, loadavg, release, tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";

import { version as workerdVersion } from "workerd";

import { Failure, report, root } from "../tools/project.mjs";
import { encoding } from "./encoding.mjs";
import { difference, median, ratio, round, say, table, takeTurns } from "./figures.mjs";
import { memory, playlists } from "./playlists.mjs";
import { Signer, always, inTurn, permitting, query, scribble } from "./requests.mjs";
import { rewriting } from "./rewriting.mjs";
import { Runtime, bare, bareInJs, gate, rival } from "./runtime.mjs";
import { segments } from "./segments.mjs";
import { coldStart } from "./start.mjs";

const SECONDS = 80;
/** For each question in each round: some 100 ms. */
const REQUESTS = 250;
/** For each question before the first round. V8 compiles what is used much a second time, and better. */
const WARM_UP = 2000;
/** More than the gate remembers, so that whoever comes round again is forgotten. */
const VIEWERS = 3000;

/** The bucket has one object under every key, so all who get one pay the same for it. */
const SEGMENT = "/assets/lesson/1/720p/00042.m4s";
const POSTER = "/assets/lesson/1/poster.jpg";
const LESSON = "https://video.example/assets/lesson/1/*";

const PARTS = { signatures, rewriting, playlists, memory, segments, start: coldStart, encoding };

async function main(names = Object.keys(PARTS)) {
  const folder = await mkdtemp(join(tmpdir(), "reelgate-bench-"));
  const stops = [];
  const interrupted = new Promise((_, reject) => {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
      process.once(signal, () => reject(new Failure(`${signal} before there was anything to say`)));
    }
  });
  const stop = () => Promise.all(stops.splice(0).map((stop) => stop()));
  const bench = {
    folder,
    /** Has something stopped when its part is over, however that ends. */
    stopLater: (stop) => stops.push(stop),
    /** Starts a Worker under a name. */
    async start(name, worker) {
      const runtime = new Runtime();
      // Known before it runs, so that it is stopped whatever happens meanwhile.
      stops.push(() => runtime.stop());
      await runtime.start(join(folder, name), worker);
      return runtime;
    },
  };
  const measured = async () => {
    const processors = cpus();
    const machine = `${processors.length} × ${processors[0].model.trim()}, Linux ${release()}`;
    say(`workerd ${workerdVersion}, Node ${process.versions.node} on ${machine}, load ${loadavg()[0].toFixed(1)}.`);
    for (const name of names) {
      if (!PARTS[name]) throw new Failure(`there is no part ${name}, but ${Object.keys(PARTS).join(", ")}`);
      say("");
      await PARTS[name](bench);
      await stop();
    }
  };
  try {
    await Promise.race([measured(), interrupted]);
  } finally {
    await stop();
    await rm(folder, { recursive: true, force: true });
  }
}

async function signatures({ start }) {
  const signers = {
    rsa: new Signer("K2JCJMDEHXQW5F", "rsa", { modulusLength: 2048 }),
    ec: new Signer("K3VZQ0GNEP256A", "ec", { namedCurve: "P-256" }),
  };
  const runtimes = {};
  for (const [name, worker] of Object.entries(rivals(signers))) runtimes[name] = await start(name, worker);
  await compare(questions(signers), runtimes);
}

/** The Workers, each in a workerd of its own. */
function rivals({ rsa, ec }) {
  const variables = {
    TRUSTED_KEYS: JSON.stringify({ [rsa.id]: rsa.pem, [ec.id]: ec.pem }),
    PUBLIC_PATHS: "/assets/*/poster.jpg",
  };
  return {
    hello: bare(),
    helloInJs: bareInJs(),
    gate: gate(variables),
    // It remembers only where that helps it: it is to be beaten at its best.
    rival: rival(variables),
    rivalWithMemory: rival({ ...variables, REMEMBER: "on" }),
  };
}

/** The rows of the table: what is asked, how it should be answered, and by whom, in Rust and in JavaScript. */
function questions({ rsa, ec }) {
  const expires = Math.floor(Date.now() / 1000) + 3600;
  const ticket = (signer, i) => `${SEGMENT}?${signer.query(permitting(LESSON, expires + i))}`;
  const signed = (signer) => inTurn(VIEWERS, (i) => ticket(signer, i));
  const forged = (signer, signature, beside = "") =>
    inTurn(VIEWERS, (i) => `${SEGMENT}?${beside}${query(permitting(LESSON, expires + i), signature(), signer.id)}`);
  const scrawl = () => randomBytes(256);
  const unsigned = `${POSTER}?v=${ticket(rsa, 0).slice(SEGMENT.length).replace(/[^A-Za-z0-9]/g, "-")}`;
  const good = { status: 200, rust: "gate", js: "rival" };
  const refused = { ...good, status: 403 };
  const hello = { status: 200, rust: "hello", js: "helloInJs" };
  return {
    hello: { name: "hello world", next: always("/hello"), ...hello },
    bucket: { name: "hello world out of the bucket", next: always(SEGMENT), ...hello },
    open: { name: "a public path", next: always(POSTER), status: 200, rust: "gate" },
    // What a signature's length alone costs, in the runtime too, is no cost of the check.
    openLong: { name: "a public path, with as long a query", next: always(unsigned), status: 200, rust: "gate" },
    known: { name: "a remembered signature", next: always(ticket(rsa, 0)), ...good, js: "rivalWithMemory" },
    rsa: { name: "RSA-2048, another at each request", next: signed(rsa), ...good },
    ec: { name: "EC P-256, another at each request", next: signed(ec), ...good },
    scrawl: { name: "garbage that looks like RSA", next: forged(rsa, scrawl), ...refused },
    scribble: { name: "garbage that looks like EC", next: forged(ec, scribble), ...refused },
    nonsense: { name: "garbage that looks like nothing", next: always(`${SEGMENT}?Policy=x&Signature=y`), ...refused },
    heap: { name: "garbage of 8 KB, in 3,500 parameters", next: forged(rsa, scrawl, "a&".repeat(3500)), ...refused },
  };
}

async function compare(rows, runtimes) {
  const contests = [];
  for (const row of Object.values(rows)) {
    const { next, status } = row;
    for (const side of ["rust", "js"].filter((side) => row[side])) {
      const contest = { runtime: runtimes[row[side]], times: [] };
      contest.turn = () => contest.runtime.cpuOf(REQUESTS, next, status);
      contests.push(contest);
      row[`${side}Times`] = contest.times;
      await contest.runtime.cpuOf(WARM_UP, next, status);
    }
  }
  await print(rows, await takeTurns(contests, SECONDS));
}

async function print(rows, rounds) {
  say(`CPU time of a request, in µs: medians of ${rounds} rounds of ${REQUESTS} requests. Objects have 1 KB.\n`);
  table(
    ["Rust", "JavaScript", "ratio"],
    Object.values(rows).map(({ name, rustTimes, jsTimes }) => {
      const rival = jsTimes ? [round(median(jsTimes)), ratio(rustTimes, jsTimes).toFixed(2)] : ["", ""];
      return [name, round(median(rustTimes)), ...rival];
    }),
  );

  const { hello, bucket, open, openLong, known, rsa, ec, scrawl, scribble, nonsense, heap } = rows;
  say("\nWhat it should be:");
  say(`- A remembered signature costs ${over(known, openLong)} µs more than a public path with as long a query`);
  say(`  (at most 5), ${over(known, open)} µs more than one without a query,`);
  say(`  ${over(known, bucket)} µs more than hello world out of the bucket,`);
  say(`  ${over(known, hello)} µs more than hello world.`);
  say(`- RSA costs ${ratio(rsa.rustTimes, rsa.jsTimes).toFixed(2)} of what it costs in JavaScript (at most 1).`);
  const garbage = [
    [scrawl, rsa],
    [scribble, ec],
    [nonsense, rsa],
    [heap, rsa],
  ];
  const costs = garbage.map(([{ name, rustTimes }, honest]) => ({ name, cost: ratio(rustTimes, honest.rustTimes) }));
  const { name, cost } = costs.toSorted((one, other) => other.cost - one.cost)[0];
  say(`- The dearest is ${name}: ${cost.toFixed(2)} of an honest first request (at most 1).`);
  const wasm = await readFile(join(root, "edge/build/index_bg.wasm"));
  const gzipped = gzipSync(wasm, { level: 9 });
  say(`- The wasm has ${kilobytes(wasm)} KB, ${kilobytes(gzipped)} KB gzipped (at most 200).`);
}

/** What one takes longer than another. */
function over(one, other) {
  return round(difference(one.rustTimes, other.rustTimes));
}

function kilobytes(bytes) {
  return round(bytes.length / 1000);
}

const names = process.argv.slice(2);
process.exitCode = await main(names.length ? names : undefined).then(() => 0, report);
