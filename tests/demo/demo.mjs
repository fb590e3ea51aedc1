//! `make demo`: from a video to the studio page where it is watched, all of it on this machine.
//!
//! `VIDEO=my.mp4` takes a video of your own, `PORT` and `PAGE_PORT` choose where the edge and the studio listen.
//! `CHECK=1` looks at it instead of waiting for a viewer, and the exit status says how that went.
//!
//! ```text
//! transcoder serve ─▶ target/demo/media ◀─ live-bucket.mjs ◀─ wrangler dev, the edge ◀─ whoever watches
//! ```
//!
//! Everything it makes lies below target/demo, for good: the keys, the clip, the uploads, what was published.

import { randomBytes } from "node:crypto";
import { existsSync, statSync } from "node:fs";
import { mkdir, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { join, resolve } from "node:path";

import { serveFolder } from "../tools/live-bucket.mjs";
import { Failure, json, made, report, root } from "../tools/project.mjs";
import { check } from "./check.mjs";
import { clip } from "./clip.mjs";
import { startEdge } from "./edge.mjs";
import { say, shortened, timed } from "./print.mjs";
import { Processes, words } from "./processes.mjs";
import { playback, publish, startService, transcoder, watchPage } from "./service.mjs";

const folder = join(root, "target/demo");
const LIFETIME_SECONDS = 2 * 60 * 60;

async function main(processes, interrupted) {
  const settings = settingsFrom(process.env);
  await Promise.all([mustBeFree("PORT", settings.port), mustBeFree("PAGE_PORT", settings.pagePort)]);
  made(transcoder, "build it with `cargo build -p transcoder`");

  const keys = await keyPair(processes);
  const video = settings.video ?? (await clip(processes, folder));
  // Whoever asks for what is in the bucket has to know this; it is of no use once the bucket is gone.
  const credentials = { accessKeyId: "demo", secretAccessKey: randomBytes(24).toString("base64") };
  const bucket = await serveFolder(join(folder, "media"), credentials);
  try {
    const at = `http://127.0.0.1:${settings.port}`;
    const origin = { ...credentials, url: bucket.url };
    const [edge, service] = await Promise.all([
      timed(
        "edge",
        () => startEdge({ processes, folder, port: settings.port, trustedKeys: keys.trustedKeys, origin }),
        ({ url }) => `wrangler dev at ${url}`,
      ),
      timed(
        "service",
        () => startService({ processes, folder, port: settings.pagePort, edge: at, keys }),
        ({ url }) => `transcoder serve at ${url}`,
      ),
    ]);
    const died = Promise.race([edge.died, service.died]);
    return await Promise.race([died, visit({ processes, interrupted, service, video, isCheck: settings.check })]);
  } finally {
    await bucket.close();
  }
}

/** From the upload to the page, and then whatever whoever sits before it does. */
async function visit({ processes, interrupted, service, video, isCheck }) {
  const asset = await publish(service, video);
  const ticket = await playback(service, asset, LIFETIME_SECONDS);
  const [studio, page, signedUrl] = [`${service.url}/`, watchPage(service, ticket), ticket.url];
  say("");
  say(`Studio      ${studio}`);
  say(`Watch       ${page}`);
  say(`Signed URL  ${signedUrl}`);
  say("");
  await proveTheGate(signedUrl);
  if (isCheck) return check(processes, { studio, asset, page, signedUrl });
  say("\nDrop a video of yours into the studio: it is encoded, and plays through the same gate.");
  say("It stays up until you press Ctrl-C.");
  await interrupted;
  return 0;
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
      `PORT and PAGE_PORT are both ${settings.port}: the edge and the studio need one each`,
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
