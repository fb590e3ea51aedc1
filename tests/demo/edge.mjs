//! The edge on this machine: `wrangler dev` with the built Worker, before a bucket of S3.
//!
//! Not R2, which wrangler imitates: what it keeps no other process can write to while it runs, and here a video is
//! published while the edge is up.

import { closeSync, openSync } from "node:fs";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { BUCKET, REGION } from "../tools/live-bucket.mjs";
import { Failure, made, root } from "../tools/project.mjs";
import { words } from "./processes.mjs";

const READY_SECONDS = 60;
const SECONDS_BETWEEN_LOOKS = 0.1;

/**
 * Starts `wrangler dev` with the project's own settings, but for what the demo brings: the Worker as it was built,
 * the bucket that is its `origin`, and keys. Nothing of the user's is read or written: no .dev.vars, no .env, no
 * account, no telemetry.
 */
export async function startEdge({ processes, folder, port, trustedKeys, origin }) {
  // By port, so that a demo that cannot start leaves the files of one that runs alone.
  const own = join(folder, `edge-${port}`);
  await rm(own, { recursive: true, force: true });
  await mkdir(own);
  const config = join(own, "wrangler.json");
  // The origin's secret is in it, which is of no use to anybody once the demo has ended.
  await writeFile(config, JSON.stringify(await settings(trustedKeys, origin), null, 2), { mode: 0o600 });
  const log = join(own, "wrangler.log");
  const logFile = openSync(log, "w");
  // Not its bin/wrangler.js: that starts this in a process of its own, to be stopped separately.
  const wrangler = made(
    join(root, "node_modules/wrangler/wrangler-dist/cli.js"),
    "install the npm packages with `npm ci`",
  );
  const child = processes.start(
    process.execPath,
    words`${wrangler} dev --config ${config} --ip 127.0.0.1 --port ${port} --persist-to ${join(own, "state")}
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
  await Promise.race([died, answers(url, { what: "wrangler dev", log })]);
  return { url, died };
}

async function settings(trustedKeys, { url, accessKeyId, secretAccessKey }) {
  const { default: wrangler } = await import("wrangler");
  const file = made(join(root, "wrangler.toml"), "the demo runs the Worker as it is deployed");
  const { build, routes, route, r2_buckets, ...deployed } = wrangler.experimental_readRawConfig({
    config: file,
  }).rawConfig;
  return {
    ...deployed,
    main: made(join(root, "edge/build/index.js"), "build the Worker with `make worker`"),
    vars: {
      ...deployed.vars,
      TRUSTED_KEYS: trustedKeys,
      ORIGIN: "s3",
      S3_ENDPOINT: url,
      S3_BUCKET: BUCKET,
      S3_REGION: REGION,
      S3_ACCESS_KEY_ID: accessKeyId,
      S3_SECRET_ACCESS_KEY: secretAccessKey,
    },
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

/** Comes back once a server answers at all: what it answers is for the server to know. */
export async function answers(url, { what, log }) {
  const deadline = Date.now() + READY_SECONDS * 1000;
  while (Date.now() < deadline) {
    const answer = await fetch(url, { signal: AbortSignal.timeout(READY_SECONDS * 1000) }).catch(
      () => undefined,
    );
    await answer?.body?.cancel();
    if (answer) return;
    await new Promise((resolve) => setTimeout(resolve, SECONDS_BETWEEN_LOOKS * 1000));
  }
  throw new Failure(`${what} did not answer within ${READY_SECONDS} s. ${await lastWords(log)}`);
}

/** What a program complained of at last, and where to read on. */
export async function lastWords(log) {
  const lines = (await readFile(log, "utf8"))
    .split("\n")
    .map((line) => line.replace(/\x1b\[[0-9;]*m/g, "").trim());
  const error = lines.find((line) => line.includes("[ERROR]"));
  return `${error ? `${error}. ` : ""}Its log is ${log}`;
}
