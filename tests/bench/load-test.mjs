//! `make load`: a minute of mixed traffic, by autocannon, before the built Worker under bare workerd.
//!
//! Every answer is looked at: its status, its body by SHA-256, and that there is one. What comes of playlists is
//! compared with a plain substitution that is made here. And workerd's memory may not grow, once it has warmed up. The
//! exit status says whether all of it held. SECONDS=600 goes on for longer.
//!
//! autocannon asks as fast as it is answered, on the same machine and in one thread, which looks at answers as well:
//! rate and latencies are what the two together come to, not what the Worker can do. That is in bench.mjs.
//!
//! Left alone workerd has more and more memory resident for some 50,000 requests, hundreds of MiB, whatever its Worker
//! does: buffers are garbage long before V8 looks for it, and what is freed then the allocator keeps. So garbage is
//! collected every second, in the gate and in the bucket, which is in the same process. What is resident settles within
//! seconds then, and what is alive in the gate's isolate is known exactly.

import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";

import autocannon from "autocannon";

import { Failure, report } from "../tools/project.mjs";
import { median, round, say, table } from "./figures.mjs";
import { Inspector } from "./inspector.mjs";
import { COURSE, Signer, course, headers, mediaPlaylist, query } from "./requests.mjs";
import { Runtime, gate } from "./runtime.mjs";

const CONNECTIONS = 16;
/** More than the gate remembers the signatures of, so that it forgets and checks anew all the time. */
const VIEWERS = 3000;
/** How much one viewer asks before it is the next one's turn. */
const REQUESTS_OF_A_VIEWER = 20;
/** The part of the time after which what is remembered is full, and V8 has compiled what is used. */
const WARM_UP = 1 / 3;
/** How much more may be resident at the end than after the warm-up, and how much more alive, in MiB. */
const MOST_RESIDENT = 32;
const MOST_ALIVE = 2;
/** In less time what is resident does not settle. */
const FEWEST_SECONDS = 60;
const MEBIBYTE = 1024 * 1024;

const SHORT = `${COURSE}/short.m3u8`;
const HOUR = `${COURSE}/hour.m3u8`;
const SEGMENT = `${COURSE}/segment_00042.m4s`;
const LONG_SEGMENT = `${COURSE}/segment_00043.m4s`;
const RANGE = 64 * 1024;

const objects = {
  [SHORT]: mediaPlaylist(10),
  [HOUR]: mediaPlaylist(1000),
  [SEGMENT]: randomBytes(64 * 1024),
  [LONG_SEGMENT]: randomBytes(1024 * 1024),
};
const signers = [
  new Signer("K2JCJMDEHXQW5F", "rsa", { modulusLength: 2048 }),
  new Signer("K3VZQ0GNEP256A", "ec", { namedCurve: "P-256" }),
];
const now = Math.floor(Date.now() / 1000);
/** Their queries, half of them of each signer's making. */
const viewers = Array.from({ length: VIEWERS }, (_, i) => signers[i % 2].query(course(now + 86_400 + i)));

async function main() {
  const seconds = Number(process.env.SECONDS || 60);
  if (!(seconds >= 4)) throw new Failure(`SECONDS=${process.env.SECONDS}: not a number of at least 4`);
  const folder = await mkdtemp(join(tmpdir(), "reelgate-load-"));
  const runtime = new Runtime();
  const interruption = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
    process.once(signal, () => interruption.abort(new Failure(`${signal} before there was anything to say`)));
  }
  const inspectors = [];
  try {
    const trusted = Object.fromEntries(signers.map(({ id, pem }) => [id, pem]));
    await runtime.start(folder, gate({ TRUSTED_KEYS: JSON.stringify(trusted) }, objects), true);
    for (const service of ["worker", "bucket"]) {
      inspectors.push(await new Inspector().connect(runtime.inspectorPort, service));
    }
    return print(await load(runtime, inspectors, seconds, interruption.signal), seconds) ? 0 : 1;
  } finally {
    for (const inspector of inspectors) inspector.close();
    await runtime.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

/** Asks for some seconds, and says what was seen meanwhile. */
async function load(runtime, inspectors, seconds, interruption) {
  interruption.throwIfAborted();
  const [gate] = inspectors;
  const counts = new Map(kinds.map(({ name }) => [name, { times: [], statuses: new Set() }]));
  const problems = new Map();
  const memory = [];
  let going = true;
  const watched = async () => {
    while (going) {
      for (const inspector of inspectors) await inspector.collectGarbage();
      memory.push({ resident: runtime.resident(), alive: await gate.alive() });
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
  };
  const watch = watched();
  // Whoever waits for it learns of its failure.
  watch.catch(() => {});
  const options = { url: `http://127.0.0.1:${runtime.port}`, connections: CONNECTIONS, duration: seconds };
  const setupClient = (client) => visit(client, counts, problems);
  const running = autocannon({ ...options, setupClient });
  interruption.addEventListener("abort", () => running.stop());
  const result = await running;
  going = false;
  // An interrupted workerd, which Ctrl-C tells as well, answers an inspector no more.
  interruption.throwIfAborted();
  await watch;
  return { result, counts, problems, memory };
}

/** Has one of autocannon's clients ask what is next, and looks at what it is answered. */
function visit(client, counts, problems) {
  let asked;
  let fields;
  let chunks;
  const setupRequest = (request) => {
    asked = next();
    chunks = [];
    const { method = "GET", path, encoding, more } = asked;
    return { ...request, method, path, headers: { ...headers(encoding), ...more } };
  };
  client.setRequests([{ setupRequest }]);
  client.on("headers", ({ headers }) => {
    fields = new Headers(headers.flatMap((value, i) => (i % 2 ? [] : [[value, headers[i + 1]]])));
    // The parser is not told what was asked, and would wait for the body whose length it has read.
    if (asked.method === "HEAD") client.parser.body_bytes = 0;
  });
  client.on("body", (bytes) => chunks.push(Buffer.from(bytes)));
  client.on("response", (status, _, time) => {
    const { name } = asked.kind;
    const { times, statuses } = counts.get(name);
    times.push(time);
    statuses.add(status);
    const problem = problemOf(asked, status, fields, Buffer.concat(chunks));
    if (problem) count(problems, `${name}: ${problem}`);
  });
}

function count(counts, what) {
  counts.set(what, (counts.get(what) ?? 0) + 1);
}

/** What is wrong with an answer, if anything. */
function problemOf({ method, status: wanted, body, code }, status, fields, bytes) {
  if (status !== wanted) return `${status}, and not ${wanted}: ${bytes.subarray(0, 100)}`;
  if (method === "HEAD") {
    return Number(fields.get("content-length")) === body.length ? undefined : `is ${fields.get("content-length")} long`;
  }
  if (code) return bytes.includes(`<Code>${code}</Code>`) ? undefined : `says ${bytes}, and not ${code}`;
  if (!body) return bytes.length < 1000 ? undefined : `has ${bytes.length} bytes`;
  const plain = fields.get("content-encoding") === "gzip" ? gunzipSync(bytes) : bytes;
  return sha256(plain) === body.digest ? undefined : `has ${plain.length} other bytes than it should`;
}

// --- what is asked ----------------------------------------------------------------------------------------------

let asked = 0;

/** The next request of the next viewer, and how it should be answered. */
function next() {
  const number = asked++;
  const viewer = viewers[Math.floor(number / REQUESTS_OF_A_VIEWER) % VIEWERS];
  const kind = deck[number % deck.length];
  return { kind, ...kind.ask(viewer, number) };
}

const GZIP = "br, gzip";
const PLAIN = "identity";

/** What is asked, and how many of a hundred times. */
const kinds = [
  { name: "playlist of 10 segments", share: 12, ask: playlist(SHORT, PLAIN) },
  { name: "playlist of 10 segments, gzip", share: 12, ask: playlist(SHORT, GZIP) },
  { name: "playlist of 1,000 segments", share: 3, ask: playlist(HOUR, PLAIN) },
  { name: "playlist of 1,000 segments, gzip", share: 3, ask: playlist(HOUR, GZIP) },
  { name: "segment of 64 KB", share: 24, ask: (viewer) => whole(SEGMENT, viewer) },
  { name: "segment of 1 MB", share: 6, ask: (viewer) => whole(LONG_SEGMENT, viewer) },
  { name: "64 KB of 1 MB", share: 14, ask: part },
  { name: "HEAD of a segment", share: 6, ask: (viewer) => ({ ...whole(SEGMENT, viewer), method: "HEAD" }) },
  ...garbage(),
];

/** A hundred requests, well mixed, which are asked over and over again. */
const deck = kinds
  .flatMap((kind) => Array.from({ length: kind.share }, () => kind))
  .map((kind) => ({ kind, place: randomBytes(4).readUInt32LE() }))
  .toSorted((one, other) => one.place - other.place)
  .map(({ kind }) => kind);

function whole(key, viewer) {
  return { path: `/${key}?${viewer}`, status: 200, body: stored(key) };
}

/** Always another part. */
function part(viewer, number) {
  const first = (number * 7919) % (objects[LONG_SEGMENT].length - RANGE);
  const body = described(objects[LONG_SEGMENT].subarray(first, first + RANGE));
  const more = { Range: `bytes=${first}-${first + RANGE - 1}` };
  return { ...whole(LONG_SEGMENT, viewer), status: 206, body, more };
}

function playlist(key, encoding) {
  return (viewer) => ({ path: `/${key}?${viewer}`, encoding, status: 200, body: signedPlaylist(key, viewer) });
}

/** What nobody should ask, and what is said to it. */
function garbage() {
  const [signer] = signers;
  const expired = signer.query(course(now - 60));
  const scrawl = () => query(course(now + 3600), randomBytes(256), signer.id);
  const elsewhere = COURSE.replace(/[^/]*$/, "lesson-02");
  const denied = { status: 403, code: "AccessDenied" };
  const methods = ["POST", "PUT", "DELETE", "PATCH"];
  const kinds = {
    unsigned: () => ({ path: `/${SEGMENT}`, status: 403, code: "MissingKey" }),
    "a wrong signature": () => ({ path: `/${SEGMENT}?${scrawl()}`, ...denied }),
    "a cut-off policy": (viewer) => ({ path: `/${SEGMENT}?${viewer.replace("Policy=", "Policy=A")}`, status: 403 }),
    "another asset": (viewer) => ({ path: `/${elsewhere}/segment_00042.m4s?${viewer}`, ...denied }),
    "an expired policy": () => ({ path: `/${SEGMENT}?${expired}`, ...denied }),
    "another address": (viewer) => {
      return { path: `/${SEGMENT}?${viewer}`, more: { "CF-Connecting-IP": "192.0.2.8" }, ...denied };
    },
    // Cloudflare resolves these before the gate sees them, workerd by itself does not.
    "dot segments": (viewer) => ({ path: `/${COURSE}/../lesson-02/segment_00042.m4s?${viewer}`, status: 400 }),
    "encoded slashes": (viewer) => ({ path: `/${COURSE}/..%2Flesson-02/segment_00042.m4s?${viewer}`, status: 400 }),
    "broken UTF-8": (viewer) => ({ path: `/${COURSE}/%C0%AE%FF?${viewer}`, status: 400 }),
    "somebody's login": () => ({ path: "/wp-login.php", status: 403, code: "MissingKey" }),
    "8 KB of parameters": () => ({ path: `/${SEGMENT}?${"a&".repeat(3500)}${scrawl()}`, ...denied }),
    "a URL too long": (viewer) => ({ path: `/${SEGMENT}?${viewer}&a=${"a".repeat(9000)}`, status: 413 }),
    "what is not there": (viewer) => ({ path: `/${COURSE}/segment_99999.m4s?${viewer}`, status: 404 }),
    "a range that is not there": (viewer) => {
      return { path: `/${SEGMENT}?${viewer}`, more: { Range: "bytes=99999999-" }, status: 416 };
    },
    "another method": (viewer, number) => {
      return { path: `/${SEGMENT}?${viewer}`, method: methods[number % methods.length], status: 405 };
    },
  };
  const shares = { unsigned: 3, "a wrong signature": 3, "another asset": 2 };
  return Object.entries(kinds).map(([name, ask]) => ({ name, ask, share: shares[name] ?? 1 }));
}

// --- how it should be answered ------------------------------------------------------------------------------------

const known = new Map();

function stored(key) {
  if (!known.has(key)) known.set(key, described(objects[key]));
  return known.get(key);
}

/** The viewer's query behind every link, and all else as it is. */
function signedPlaylist(key, viewer) {
  const signed = `${key} ${viewer}`;
  if (!known.has(signed)) {
    const text = objects[key].toString().replace(/^[^#\n].*$|(?<=URI=")[^"]*/gm, `$&?${viewer}`);
    known.set(signed, described(text));
  }
  return known.get(signed);
}

function described(bytes) {
  return { digest: sha256(bytes), length: bytes.length };
}

function sha256(bytes) {
  return createHash("sha256").update(bytes).digest("base64");
}

// --- what is said of it -------------------------------------------------------------------------------------------

/** Prints what was seen, and returns whether it is as it should be. */
function print({ result, counts, problems, memory }, seconds) {
  const milliseconds = (time) => (time === undefined ? "" : time.toFixed(1));
  const percentile = (times, share) => times.toSorted((a, b) => a - b)[Math.floor(times.length * share)];
  const row = ([name, { times, statuses }]) => {
    const said = [...statuses].sort().join(" ");
    const [half, most] = [0.5, 0.99].map((share) => milliseconds(percentile(times, share)));
    return [name, String(times.length), said, half, most];
  };
  table(["requests", "status", "p50, ms", "p99, ms"], [...counts].map(row));

  const { latency, requests, errors, timeouts } = result;
  const megabytes = round(result.throughput.average / 1e6);
  say(`\n${requests.total} requests in ${result.duration} s: ${round(requests.average)} in a second, ${megabytes} MB.`);
  const statuses = Object.entries(result.statusCodeStats).map(([status, { count }]) => `${status} ${count} times`);
  say(`Statuses: ${statuses.join(", ")}.`);
  const { p50, p90, p97_5, p99, p99_9, max } = latency;
  say(`Latency in ms: half within ${p50}, 90 % ${p90}, 97.5 % ${p97_5}, 99 % ${p99}, 99.9 % ${p99_9}, all ${max}.`);
  const growthOf = (what) => growth(memory.map((sample) => sample[what] / MEBIBYTE));
  const [resident, alive] = [growthOf("resident"), growthOf("alive")];
  say("Memory in MiB, garbage being collected every second, after the warm-up, at the end, and at most:");
  say(`- resident in workerd: ${resident.said} (at most ${MOST_RESIDENT} more, after ${FEWEST_SECONDS} s);`);
  say(`- alive in the gate's isolate: ${alive.said} (at most ${MOST_ALIVE} more).\n`);

  // What was under way when the time was over is not answered any more.
  const unanswered = Math.max(0, requests.sent - requests.total - CONNECTIONS);
  const wrong = [...problems].map(([what, times]) => `${what} (${times} times)`);
  if (errors) wrong.push(`${errors} connections broke off, or waited for too long (${timeouts})`);
  if (unanswered) wrong.push(`${unanswered} requests were not answered`);
  const settled = seconds >= FEWEST_SECONDS;
  if (settled && resident.more > MOST_RESIDENT) wrong.push(`${resident.more.toFixed(1)} MiB more are resident`);
  if (alive.more > MOST_ALIVE) wrong.push(`${alive.more.toFixed(1)} MiB more are alive`);
  for (const what of wrong.slice(0, 20)) say(`WRONG: ${what}`);
  if (!wrong.length) say("Every answer was right, and no connection broke off.");
  return !wrong.length;
}

/** How samples changed from the end of the warm-up to the end. */
function growth(samples) {
  const begin = Math.floor(samples.length * WARM_UP);
  const few = Math.ceil(samples.length / 10);
  const [first, last] = [samples.slice(begin, begin + few), samples.slice(-few)].map(median);
  const said = [first, last, Math.max(...samples)].map((sample) => sample.toFixed(1)).join(", ");
  return { said, more: last - first };
}

process.exitCode = await main().catch(report);
