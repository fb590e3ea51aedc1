//! `make bench`: what the gate costs, side by side with Workers that check nothing and with the same gate in plain
//! JavaScript (workers/rival.mjs), in CPU time of bare workerd.
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

import { Failure, json, report, root } from "../tools/project.mjs";
import { ask } from "./load.mjs";
import { Signer, permitting, query, request, scribble } from "./requests.mjs";
import { Runtime } from "./runtime.mjs";

const SECONDS = 80;
const FEWEST_ROUNDS = 5;
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

async function main() {
  const folder = await mkdtemp(join(tmpdir(), "reelgate-bench-"));
  const runtimes = {};
  const interrupted = new Promise((_, reject) => {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
      process.once(signal, () => reject(new Failure(`${signal} before there was anything to say`)));
    }
  });
  const measured = async () => {
    const signers = {
      rsa: new Signer("K2JCJMDEHXQW5F", "rsa", { modulusLength: 2048 }),
      ec: new Signer("K3VZQ0GNEP256A", "ec", { namedCurve: "P-256" }),
    };
    for (const [name, { modules, variables }] of Object.entries(rivals(signers))) {
      // Known before it runs, so that it is stopped whatever happens meanwhile.
      runtimes[name] = new Runtime();
      await runtimes[name].start(join(folder, name), modules, variables);
    }
    await compare(questions(signers), runtimes);
  };
  try {
    await Promise.race([measured(), interrupted]);
  } finally {
    await Promise.all(Object.values(runtimes).map((runtime) => runtime.stop()));
    await rm(folder, { recursive: true, force: true });
  }
}

/** The Workers, each in a workerd of its own. */
function rivals({ rsa, ec }) {
  const built = (folder) => ["index.js", "index_bg.wasm"].map((file) => join(root, folder, file));
  const written = (file) => [join(import.meta.dirname, "workers", file)];
  const variables = {
    TRUSTED_KEYS: JSON.stringify({ [rsa.id]: rsa.pem, [ec.id]: ec.pem }),
    PUBLIC_PATHS: "/assets/*/poster.jpg",
  };
  return {
    hello: { modules: built("target/bench/hello") },
    helloInJs: { modules: written("hello.mjs") },
    gate: { modules: built("edge/build"), variables },
    // It remembers only where that helps it: it is to be beaten at its best.
    rival: { modules: written("rival.mjs"), variables },
    rivalWithMemory: { modules: written("rival.mjs"), variables: { ...variables, REMEMBER: "on" } },
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

/** What is asked, one after the other and over again. */
function inTurn(count, target) {
  const requests = Array.from({ length: count }, (_, i) => request(target(i)));
  let asked = 0;
  return () => requests[asked++ % count];
}

function always(target) {
  return inTurn(1, () => target);
}

async function compare(rows, runtimes) {
  const contests = [];
  for (const row of Object.values(rows)) {
    for (const side of ["rust", "js"].filter((side) => row[side])) {
      row[`${side}Times`] = [];
      contests.push({ ...row, runtime: runtimes[row[side]], times: row[`${side}Times`] });
    }
  }
  for (const { runtime, next, status } of contests) await ask(runtime.port, WARM_UP, next, status);
  const end = Date.now() + SECONDS * 1000;
  let rounds = 0;
  for (; rounds < FEWEST_ROUNDS || Date.now() < end; rounds += 1) {
    // There and back again: who comes later in one round comes earlier in the next.
    for (const { runtime, next, status, times } of rounds % 2 ? contests.toReversed() : contests) {
      let before;
      await ask(runtime.port, REQUESTS, next, status, () => (before = runtime.cpu()));
      times.push((runtime.cpu() - before) / REQUESTS);
    }
  }
  await print(rows, rounds);
}

async function print(rows, rounds) {
  const processors = cpus();
  const load = loadavg()[0].toFixed(1);
  const machine = `${processors.length} × ${processors[0].model.trim()}, Linux ${release()}, load ${load}`;
  say(`CPU time of a request, in µs: medians of ${rounds} rounds of ${REQUESTS} requests.`);
  say(`workerd ${workerdVersion} on ${machine}. Objects have 1 KB.\n`);
  const line = (name, ...cells) => {
    say(`| ${[name.padEnd(36), ...cells.map((cell) => cell.padStart(10))].join(" | ")} |`);
  };
  line("", "Rust", "JavaScript", "ratio");
  line("---", "---:", "---:", "---:");
  for (const { name, rustTimes, jsTimes } of Object.values(rows)) {
    const rival = jsTimes ? [round(median(jsTimes)), ratio(rustTimes, jsTimes).toFixed(2)] : ["", ""];
    line(name, round(median(rustTimes)), ...rival);
  }

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

function say(text) {
  process.stdout.write(`${text}\n`);
}

/** What one takes longer than another. */
function over(one, other) {
  return round(median(one.rustTimes.map((time, i) => time - other.rustTimes[i])));
}

function ratio(ones, others) {
  return median(ones.map((time, i) => time / others[i]));
}

function median(numbers) {
  const sorted = numbers.toSorted((a, b) => a - b);
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
}

function round(number) {
  return number.toFixed(0);
}

function kilobytes(bytes) {
  return round(bytes.length / 1000);
}

process.exitCode = await main().then(() => 0, report);
