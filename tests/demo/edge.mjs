//! The edge on this machine: a bucket filled in one process, and `wrangler dev` with the built Worker over it.

import { closeSync, openSync } from "node:fs";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { fill } from "../tools/bucket.mjs";
import { Failure, made, root } from "../tools/project.mjs";
import { words } from "./processes.mjs";

const BINDING = "MEDIA";
const BUCKET = "media";
const READY_SECONDS = 60;
const SECONDS_BETWEEN_LOOKS = 0.1;

const PLAYLIST = "application/vnd.apple.mpegurl";
const CONTENT_TYPES = {
  m3u8: PLAYLIST,
  mp4: "video/mp4",
  m4s: "video/iso.segment",
  ts: "video/mp2t",
  json: "application/json",
  vtt: "text/vtt",
  jpg: "image/jpeg",
};

/** Where wrangler looks for what `--persist-to state` holds. */
const resources = (state) => join(state, "v3");

/** Puts all that lies below `media` into the local bucket in `state`, with the headers that a real one is given. */
export async function fillBucket(media, state) {
  const { Log, LogLevel, Miniflare, convertV4MiniflareOptions } = await import("miniflare");
  const miniflare = new Miniflare(
    convertV4MiniflareOptions({
      script: "addEventListener('fetch', (event) => event.respondWith(new Response(null, { status: 404 })))",
      cf: false,
      log: new Log(LogLevel.ERROR),
      resourcePersistencePath: resources(state),
      r2Buckets: { [BINDING]: BUCKET },
    }),
  );
  try {
    return await fill(await miniflare.getR2Bucket(BINDING), media, metadata);
  } finally {
    await miniflare.dispose();
  }
}

/** What a real bucket is told of a key: all that lies in a generation never changes. */
function metadata(key) {
  const isInGeneration = key.split("/").length > 3;
  return {
    contentType: CONTENT_TYPES[key.split(".").at(-1)],
    cacheControl: isInGeneration ? "public, max-age=31536000, immutable" : "no-cache",
  };
}

/**
 * Starts `wrangler dev` with the project's own settings, but for what the demo brings: the Worker as it was built,
 * a bucket and keys. Nothing of the user's is read or written: no .dev.vars, no .env, no account, no telemetry.
 */
export async function startEdge({ processes, folder, state, port, trustedKeys }) {
  // By port, so that two demos of one video do not share their logs.
  const own = join(folder, `edge-${port}`);
  await rm(own, { recursive: true, force: true });
  await mkdir(own);
  const config = join(own, "wrangler.json");
  // It trusts public keys only: there is nothing secret in it.
  await writeFile(config, JSON.stringify(await settings(trustedKeys), null, 2));
  const log = join(own, "wrangler.log");
  const logFile = openSync(log, "w");
  // Not its bin/wrangler.js: that starts this in a process of its own, to be stopped separately.
  const wrangler = made(
    join(root, "node_modules/wrangler/wrangler-dist/cli.js"),
    "install the npm packages with `npm ci`",
  );
  const child = processes.start(
    process.execPath,
    words`${wrangler} dev --config ${config} --ip 127.0.0.1 --port ${port} --persist-to ${state}
      --show-interactive-dev-session=false`,
    { cwd: own, stdio: ["ignore", logFile, logFile], env: environment(own) },
  );
  closeSync(logFile);
  const url = `http://127.0.0.1:${port}`;
  const died = child.ended.then(async ({ code, signal, error }) => {
    throw (
      error ?? new Failure(`wrangler dev ended with ${signal ?? `status ${code}`}. ${await lastWords(log)}`)
    );
  });
  await Promise.race([died, answers(url, log)]);
  return { url, died };
}

async function settings(trustedKeys) {
  const { default: wrangler } = await import("wrangler");
  const file = made(join(root, "wrangler.toml"), "the demo runs the Worker as it is deployed");
  const { build, routes, route, ...deployed } = wrangler.experimental_readRawConfig({
    config: file,
  }).rawConfig;
  return {
    ...deployed,
    main: made(join(root, "edge/build/index.js"), "build the Worker with `make worker`"),
    r2_buckets: [{ binding: BINDING, bucket_name: BUCKET }],
    vars: { ...deployed.vars, TRUSTED_KEYS: trustedKeys },
    send_metrics: false,
  };
}

function environment(folder) {
  return {
    ...process.env,
    CI: "1",
    CLOUDFLARE_CF_FETCH_ENABLED: "false",
    WRANGLER_HIDE_BANNER: "true",
    WRANGLER_SEND_ERROR_REPORTS: "false",
    WRANGLER_SEND_METRICS: "false",
    WRANGLER_LOG_PATH: join(folder, "logs"),
    WRANGLER_CACHE_DIR: join(folder, "cache"),
    WRANGLER_REGISTRY_PATH: join(folder, "registry"),
    // Both keep what was requested, signatures included.
    X_LOCAL_EXPLORER: "false",
    X_LOCAL_OBSERVABILITY: "false",
    XDG_CONFIG_HOME: join(folder, "config"),
  };
}

/** Comes back once the edge answers at all: what it answers is for the edge to know. */
async function answers(url, log) {
  const deadline = Date.now() + READY_SECONDS * 1000;
  while (Date.now() < deadline) {
    const answer = await fetch(url, { signal: AbortSignal.timeout(READY_SECONDS * 1000) }).catch(
      () => undefined,
    );
    await answer?.body?.cancel();
    if (answer) return;
    await new Promise((resolve) => setTimeout(resolve, SECONDS_BETWEEN_LOOKS * 1000));
  }
  throw new Failure(`wrangler dev did not answer within ${READY_SECONDS} s. ${await lastWords(log)}`);
}

async function lastWords(log) {
  const lines = (await readFile(log, "utf8"))
    .split("\n")
    .map((line) => line.replace(/\x1b\[[0-9;]*m/g, "").trim());
  const error = lines.find((line) => line.includes("[ERROR]"));
  return `${error ? `${error}. ` : ""}Its log is ${log}`;
}
