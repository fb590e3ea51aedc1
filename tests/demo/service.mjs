//! `transcoder serve` on this machine, and what the demo asks of its API.

import { createHash } from "node:crypto";
import { closeSync, createReadStream, existsSync, openSync } from "node:fs";
import { mkdir, stat, writeFile } from "node:fs/promises";
import { request as send } from "node:http";
import { basename, join } from "node:path";
import { pipeline } from "node:stream/promises";

import { Failure, json, made, root } from "../tools/project.mjs";
import { answers, lastWords } from "./edge.mjs";
import { INSTALL_FFMPEG } from "./clip.mjs";
import { line, say, shortened, show, timed } from "./print.mjs";
import { words } from "./processes.mjs";

/** The program, as `make demo` builds it. */
export const transcoder = join(root, "target/debug/transcoder");
const ENCODES_KEPT = 3;
const FINAL = ["done", "failed", "cancelled"];
const POLL_MILLISECONDS = 500;

/**
 * Starts the service: uploads, what it publishes and what it knows lie below `folder`. `keys` sign for the edge at
 * `edge`. Nothing of the user's settings counts: this is a service of the demo's own.
 */
export async function startService({ processes, folder, port, edge, keys }) {
  made(transcoder, "build it with `cargo build -p transcoder`");
  const [uploads, media, data] = ["uploads", "media", "data"].map((name) => join(folder, name));
  await Promise.all([uploads, media, data].map((place) => mkdir(place, { recursive: true })));
  const log = join(folder, "transcoder.log");
  const logFile = openSync(log, "w");
  const commandLine = words`serve --uploads ${uploads} --to ${media} --data ${data} --listen 127.0.0.1:${port}
    --keep ${ENCODES_KEPT} --edge ${edge} --key-pair-id ${keys.keyPairId} --private-key ${keys.privateKey}`;
  const child = processes.start(transcoder, commandLine, {
    stdio: ["ignore", logFile, logFile],
    env: Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(REELGATE|AWS)_/.test(name))),
  });
  closeSync(logFile);
  const url = `http://127.0.0.1:${port}`;
  const died = child.ended.then(async ({ code, signal, error }) => {
    const how = `transcoder serve ended with ${signal ?? `status ${code}`}`;
    throw error ?? new Failure(`${how}. ${await lastWords(log)}`);
  });
  await Promise.race([died, answers(`${url}/healthz`, { what: "transcoder serve", log })]);
  return { url, died, folder };
}

/**
 * Puts a video in as an upload and follows its job to the end, unless that was done: the same video is not encoded
 * twice by the same program. Returns the asset.
 */
export async function publish(service, video) {
  const name = basename(video);
  const record = join(service.folder, "published.json");
  const published = existsSync(record) ? await json(record) : {};
  const pair = { video: await digest(video), program: await digest(transcoder) };
  const before = published[name];
  const isSame = before?.video === pair.video && before?.program === pair.program;
  const known = isSame ? await find(service, `/v1/jobs/${before.job}`) : undefined;
  if (known?.state === "done" && (await find(service, `/v1/assets/${known.asset}`))) {
    say(line("encoded", shortened(video), "already"));
    return known.asset;
  }

  const job =
    known && !FINAL.includes(known.state)
      ? known
      : await timed("uploaded", () => upload(service, video, name), ({ bytes }) => megabytes(bytes));
  await writeFile(record, JSON.stringify({ ...published, [name]: { ...pair, job: job.id } }));
  const { asset } = await timed("encoded", () => follow(service, job), ({ playlist }) => playlist);
  return asset;
}

/** Lets somebody watch an asset for so many seconds. */
export async function playback(service, asset, lifetime) {
  const headers = { "content-type": "application/json" };
  return ask(service, "/v1/playback", { method: "POST", headers, body: JSON.stringify({ asset, lifetime }) });
}

/** The page where whoever has the link watches. What goes with the playlist is told by its place beside it. */
export function watchPage(service, { asset, url, poster, storyboard }) {
  const page = new URL("/watch", service.url);
  page.searchParams.set("title", asset);
  const folder = new URL(".", url).pathname;
  for (const [name, address] of Object.entries({ storyboard, poster })) {
    if (address) page.searchParams.set(name, new URL(address).pathname.slice(folder.length));
  }
  return `${page}#${url}`;
}

async function upload(service, video, name) {
  const { size } = await stat(video);
  const address = `${service.url}/v1/uploads/${encodeURIComponent(name)}`;
  const headers = { "content-length": size, "content-type": "application/octet-stream" };
  const request = send(address, { method: "PUT", headers });
  const answered = new Promise((resolve, reject) => request.once("response", resolve).once("error", reject));
  // A refusal comes before all was sent, and is what there is to say about it.
  const sent = pipeline(createReadStream(video), request).catch((error) => error);
  const response = await answered.catch((error) => {
    throw new Failure(`${shortened(video)} could not be uploaded: ${error.message}`);
  });
  const body = JSON.parse(await text(response));
  await sent;
  if (response.statusCode !== 201) throw new Failure(`${shortened(video)} was not taken: ${body.detail}`);
  if (!body.job) throw new Failure(`${shortened(video)} is no video by its name: give it an ending as .mp4`);
  return { ...body.job, bytes: size };
}

async function text(stream) {
  const chunks = await stream.toArray();
  return Buffer.concat(chunks).toString();
}

async function follow(service, { id }) {
  for (;;) {
    const job = await ask(service, `/v1/jobs/${id}`);
    const { state, percent, seconds_left: left, reason } = job;
    if (state === "done") {
      show("");
      return job;
    }
    if (FINAL.includes(state)) {
      show("");
      const hint = reason?.includes("ffmpeg") && reason.includes("missing") ? `: ${INSTALL_FFMPEG}` : "";
      throw new Failure(`the job ${state}: ${reason}${hint}`);
    }
    const parts = [percent && `${Math.floor(percent)} %`, left && `${Math.ceil(left)} s left`].filter(Boolean);
    show([`${state}…`, ...parts].join("  "));
    await new Promise((resolve) => setTimeout(resolve, POLL_MILLISECONDS));
  }
}

/** What the API has at a path; nothing where there is nothing. */
async function find(service, path) {
  const answer = await fetch(service.url + path);
  if (answer.status === 404) return undefined;
  return read(answer, path);
}

async function ask(service, path, options) {
  return read(await fetch(service.url + path, options), path);
}

async function read(answer, path) {
  const body = await answer.json();
  if (!answer.ok) throw new Failure(`${path} is answered with ${answer.status}: ${body.detail}`);
  return body;
}

async function digest(file) {
  const hash = createHash("sha256");
  await pipeline(createReadStream(file), hash);
  return hash.digest("hex");
}

const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;
