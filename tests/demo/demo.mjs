//! `make demo`: from a video to a signed URL that plays, all of it on this machine.
//!
//! `VIDEO=my.mp4` takes a video of your own, `PORT` and `PAGE_PORT` choose where the edge and the watch page listen.
//! `CHECK=1` plays it instead of waiting for a viewer, and the exit status says how that went.
//!
//! Everything it makes lies below target/demo: `keys` for good, and for each of the last few videos its filled bucket.

import { createHash } from "node:crypto";
import { createReadStream, existsSync, statSync } from "node:fs";
import { mkdir, readdir, rename, rm, stat, utimes, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join, relative, resolve } from "node:path";
import { pipeline } from "node:stream/promises";

import { watch } from "../tools/browser.mjs";
import { Failure, json, made, report, root } from "../tools/project.mjs";
import { fillBucket, startEdge } from "./edge.mjs";
import { servePage } from "./page.mjs";
import { Processes, words } from "./processes.mjs";

const folder = join(root, "target/demo");
const transcoder = join(root, "target/debug/transcoder");
const INSTALL_FFMPEG = "install it with `apt-get install ffmpeg` or `brew install ffmpeg`";
const LIFETIME = "2h";
const VIDEOS_KEPT = 3;
// Thirty seconds of 1080p take two cores less than half a minute to encode.
const CLIP_SECONDS = 30;
// A film is not watched to its end to check that it plays: a start, a middle and an end of it are.
const CHECKED_SECONDS = 90;

async function main(processes, interrupted) {
  const settings = settingsFrom(process.env);
  await Promise.all([mustBeFree("PORT", settings.port), mustBeFree("PAGE_PORT", settings.pagePort)]);
  made(transcoder, "build it with `cargo build -p transcoder`");

  const keys = await keyPair(processes);
  const video = settings.video ?? (await clip(processes));
  const prepared = await prepare(processes, video);
  const start = () => startEdge({ ...prepared, ...keys, processes, port: settings.port });
  const edge = await timed("edge", start, ({ url }) => `wrangler dev at ${url}`);

  const signedUrl = await sign(processes, `${edge.url}/${prepared.playlist}`, keys);
  const page = await servePage({ signedUrl, port: settings.pagePort });
  try {
    say("");
    say(`Watch       ${page.url}`);
    say(`Signed URL  ${signedUrl}`);
    say("");
    await proveTheGate(signedUrl);
    if (settings.check) return await check(processes, { page: page.url, signedUrl });
    say("\nIt stays up until you press Ctrl-C.");
    await Promise.race([interrupted, edge.died]);
    return 0;
  } finally {
    await page.close();
  }
}

/** What the environment asks for. What is empty is not asked for: make exports what nobody set so. */
function settingsFrom({ VIDEO, CHECK, PORT, PAGE_PORT }) {
  const settings = {
    video: VIDEO ? resolve(VIDEO) : undefined,
    check: Boolean(CHECK) && CHECK !== "0",
    port: portFrom("PORT", PORT || "8787"),
    pagePort: portFrom("PAGE_PORT", PAGE_PORT || "8788"),
  };
  if (settings.port === settings.pagePort) {
    throw new Failure(
      `PORT and PAGE_PORT are both ${settings.port}: the edge and the watch page need one each`,
    );
  }
  if (settings.video && !statSync(settings.video, { throwIfNoEntry: false })?.isFile()) {
    throw new Failure(
      `VIDEO=${VIDEO} is no file: give the path of a video, as in \`make demo VIDEO=my.mp4\``,
    );
  }
  return settings;
}

function portFrom(variable, text) {
  const port = Number(text);
  if (Number.isInteger(port) && port > 0 && port < 65536) return port;
  throw new Failure(`${variable}=${text} is no port: give a number from 1 to 65535`);
}

async function mustBeFree(variable, port) {
  const probe = createServer();
  try {
    await new Promise((listening, refused) =>
      probe.once("error", refused).listen(port, "127.0.0.1", listening),
    );
  } catch (error) {
    const why = { EADDRINUSE: "is in use", EACCES: "is reserved for root" }[error.code] ?? error.message;
    throw new Failure(
      `port ${port} of 127.0.0.1 ${why}: choose another, as in \`make demo ${variable}=${port + 100}\``,
    );
  }
  await new Promise((closed) => probe.close(closed));
}

/** The demo's own key pair, made on its first run. */
async function keyPair(processes) {
  const out = join(folder, "keys");
  const [privateKey, trusted] = [join(out, "private.pem"), join(out, "trusted-keys.json")];
  if (!existsSync(privateKey) || !existsSync(trusted)) {
    // Half a key pair opens nothing, so nothing is lost with it.
    await rm(out, { recursive: true, force: true });
    await mkdir(folder, { recursive: true });
    await timed(
      "keys",
      () => processes.run(transcoder, words`keygen --out ${out}`, { quiet: true }),
      () => shortened(out),
    );
  }
  const trustedKeys = await json(trusted);
  return { privateKey, keyPairId: Object.keys(trustedKeys)[0], trustedKeys: JSON.stringify(trustedKeys) };
}

/** A clip that shows at a glance that it plays, and where: a clock, colours that drift, a ping each second. */
async function clip(processes) {
  const file = join(folder, "clip.mp4");
  if (existsSync(file)) return file;
  const colours =
    "nb_colors=4:c0=0x0b1d3a:c1=0x1f6f8b:c2=0xf29e4c:c3=0xd1495b:x0=25:y0=12:x1=215:y1=125:speed=0.008";
  const ping = (hertz, hum) => `0.25*sin(2*PI*${hertz}*t)*exp(-9*mod(t\\,1))+0.04*sin(2*PI*${hum}*t)`;
  // Drifting colours are slow to compute and smooth to enlarge.
  const sources = [
    `gradients=size=240x136:rate=30:${colours}`,
    "testsrc2=size=480x270:rate=30",
    `aevalsrc=exprs=${ping(523.25, 130.81)}|${ping(659.25, 196)}:sample_rate=48000`,
  ];
  const picture = [
    "[0:v]scale=1920:1080:flags=bicubic,setsar=1[colours]",
    "[1:v]scale=960:540:flags=neighbor,pad=iw+12:ih+12:6:6:white[card]",
    "[colours][card]overlay=(W-w)/2:(H-h)/2,format=yuv420p[picture]",
  ].join(";");
  const unfinished = join(folder, "unfinished.mp4");
  const commandLine = words`-hide_banner -loglevel error -nostdin -y
    -f lavfi -i ${sources[0]} -f lavfi -i ${sources[1]} -f lavfi -i ${sources[2]}
    -filter_complex ${picture} -map [picture] -map 2:a -t ${CLIP_SECONDS}
    -c:v libx264 -preset ultrafast -crf 18 -g 60 -c:a aac -b:a 128k -movflags +faststart ${unfinished}`;
  await timed(
    "clip",
    async () => {
      await processes.run("ffmpeg", commandLine, { hint: INSTALL_FFMPEG });
      await rename(unfinished, file);
    },
    () => shortened(file),
  );
  return file;
}

/**
 * Encodes a video into a local bucket, unless that was done: the same content and transcoder make the same.
 * Returns a folder for the edge, the bucket's state in it, and the key of the playlist.
 */
async function prepare(processes, video) {
  const videos = join(folder, "videos");
  const own = join(videos, `${(await digest(video)).slice(0, 8)}-${(await digest(transcoder)).slice(0, 8)}`);
  const [media, state, done] = ["media", "state", "prepared.json"].map((name) => join(own, name));

  if (existsSync(done)) {
    await utimes(own, new Date(), new Date());
    say(line("encoded", shortened(video), "already"));
  } else {
    await rm(own, { recursive: true, force: true });
    await mkdir(own, { recursive: true });
    try {
      const encode = () =>
        processes.run(transcoder, words`encode ${video} --to ${media}`, { hint: INSTALL_FFMPEG });
      const { output } = await timed("encoded", encode, () => shortened(video));
      const describe = ({ objects, bytes }) => `${objects} objects, ${(bytes / 1e6).toFixed(1)} MB`;
      await timed("bucket", () => fillBucket(media, state), describe);
      await writeFile(done, JSON.stringify({ playlist: output.trim() }));
    } finally {
      // The bucket has it all now, or nobody ever will.
      await rm(existsSync(done) ? media : own, { recursive: true, force: true });
    }
    await forgetOldest(videos);
  }
  const { playlist } = await json(done);
  return { folder: own, state, playlist: playlist.split("/").map(encodeURIComponent).join("/") };
}

async function forgetOldest(videos) {
  const names = await readdir(videos);
  const aged = await Promise.all(
    names.map(async (name) => ({ name, used: (await stat(join(videos, name))).mtimeMs })),
  );
  aged.sort((one, other) => other.used - one.used);
  await Promise.all(
    aged.slice(VIDEOS_KEPT).map(({ name }) => rm(join(videos, name), { recursive: true, force: true })),
  );
}

async function digest(file) {
  const hash = createHash("sha256");
  await pipeline(createReadStream(file), hash);
  return hash.digest("hex");
}

async function sign(processes, url, { keyPairId, privateKey }) {
  const commandLine = words`sign ${url} --key-pair-id ${keyPairId} --private-key ${privateKey} --expires ${LIFETIME}`;
  return (await processes.run(transcoder, commandLine)).output.trim();
}

/** Asks the edge for the same thing with and without the signature, and accepts nothing but yes and no. */
async function proveTheGate(signedUrl) {
  const open = await fetch(signedUrl);
  const text = await open.text();
  if (open.status !== 200 || !text.startsWith("#EXTM3U")) {
    throw new Failure(
      `the edge answers ${summary(open.status, text)} to the URL that was just signed for it`,
    );
  }
  const closed = await fetch(signedUrl.split("?")[0]);
  const refusal = await closed.text();
  if (closed.status !== 403) {
    throw new Failure(
      `the edge answers ${summary(closed.status, refusal)} to a request without a signature, not 403`,
    );
  }
  say(`With its signature     ${open.status} ${open.headers.get("content-type")}`);
  say(`Without its signature  ${summary(closed.status, refusal)}`);
}

function summary(status, body) {
  const part = (name) => new RegExp(`<${name}>(.*?)</${name}>`, "s").exec(body)?.[1];
  return [status, [part("Code"), part("Message")].filter(Boolean).join(": ")].filter(Boolean).join(" ");
}

/** Plays it with two players, presses the button, prints what there was to see, and returns the exit status. */
async function check(processes, { page, signedUrl }) {
  say("");
  const seen = await watch({ page, longest: CHECKED_SECONDS });
  const { requests, attempts, segments, frames } = seen;
  const sizes = seen.levels.map(({ height }) => (height ? `${height}p` : "sound")).join(", ");
  const pictures = `${frames.shown} frames (${frames.dropped} dropped), ${seen.picture} at the end, of ${sizes}`;
  const bare = attempts.bare ?? { status: "no answer", says: "" };
  const byFfmpeg = await playWithFfmpeg(processes, signedUrl, seen.duration);
  const unsigned = requests.filter(({ signed }) => !signed).length;

  const findings = [
    finding(
      `${seen.player} in ${seen.browser}, from another origin`,
      `${seen.played} of ${seen.duration} s, ${segments} segments, ${pictures}`,
      seen.problems,
    ),
    finding(
      "every request of the player",
      `${requests.length} requests, ${requests.length - unsigned} with the viewer's authority`,
      unsigned ? [`${unsigned} without`] : [],
    ),
    finding("ffmpeg", `${byFfmpeg.played.toFixed(2)} of ${seen.duration} s decoded`, byFfmpeg.problems),
    finding(
      "the page's button without signature",
      `${bare.status} ${bare.says}`,
      bare.status === 403 ? [] : ["that is not 403"],
    ),
    finding(
      "another asset, an altered policy",
      `${attempts.elsewhere?.status}, ${attempts.altered?.status}`,
      attempts.elsewhere?.status === 403 && attempts.altered?.status === 403 ? [] : ["these are not 403"],
    ),
  ];
  findings.forEach(({ text }) => say(text));
  return findings.every(({ passed }) => passed) ? 0 : 1;
}

function finding(what, figures, problems) {
  const passed = problems.length === 0;
  const text = `${passed ? "ok    " : "FAILED"}  ${what}: ${figures}${passed ? "" : `. ${problems.join("; ")}`}`;
  return { passed, text };
}

/**
 * Decodes the beginning, or all where that is not long. Not an end, too: ffmpeg 5.1 cannot seek in fragmented MP4
 * over HLS, whoever made it.
 */
async function playWithFfmpeg(processes, signedUrl, duration) {
  const wanted = Math.min(duration, CHECKED_SECONDS);
  const commandLine = words`-v error -nostdin -progress pipe:1 -t ${wanted} -i ${signedUrl} -f null -`;
  const { output, complaints } = await processes
    .run("ffmpeg", commandLine, { hint: INSTALL_FFMPEG, quiet: true })
    .catch((error) => ({ output: "", complaints: error.message }));
  const played = Number([...output.matchAll(/^out_time_us=(\d+)/gm)].at(-1)?.[1] ?? 0) / 1e6;
  const problems = complaints ? [complaints.split("\n").at(-1).replaceAll(signedUrl, "the signed URL")] : [];
  // Sound and picture seldom end on the same sample, and what is asked for ends between two.
  if (played < wanted - 1) problems.push(`${wanted.toFixed(2)} s were to be had`);
  return { played, problems };
}

/** Does a step of the way and prints what came of it and how long it took. */
async function timed(step, work, describe) {
  const start = performance.now();
  const result = await work();
  say(line(step, describe(result), `${((performance.now() - start) / 1000).toFixed(1)} s`));
  return result;
}

const line = (step, what, when) => `${step.padEnd(10)}  ${what} (${when})`;
const shortened = (path) => (path.startsWith(root) ? relative(root, path) : path);
const say = (text) => process.stdout.write(`${text}\n`);

const processes = new Processes();
const interruption = Promise.withResolvers();
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => interruption.resolve(signal));
const interrupted = interruption.promise.then((signal) => ({ signal }));

let isStopping = false;
// What fails because it was stopped is no news.
const done = main(processes, interrupted).catch((error) => (isStopping ? undefined : report(error)));
const outcome = await Promise.race([done, interrupted]);
isStopping = true;
await processes.stopAll();
// Ctrl-C is how the demo ends; everything else that interrupts it has a name that the shell understands.
process.exit(
  typeof outcome === "number" ? outcome : { SIGINT: 0, SIGTERM: 143, SIGHUP: 129 }[outcome.signal],
);
