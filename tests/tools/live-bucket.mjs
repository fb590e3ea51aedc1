//! A bucket that is a folder: an S3 server which only reads, so that whoever writes into the folder publishes at once.
//!
//! `node tests/tools/live-bucket.mjs <folder>` prints one line, `{"url":"http://127.0.0.1:PORT"}`, and ends when its stdin
//! closes. It knows path style, GET and HEAD of objects, ranges and `If-None-Match`, and checks every signature
//! ([SigV4](https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html)).
//!
//! The folder has no content types and no cache control of its own: here they follow from the key, as the transcoder
//! states them to a real bucket.

import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import { open } from "node:fs/promises";
import { createServer } from "node:http";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { fileURLToPath } from "node:url";

import { Failure, report } from "./project.mjs";

/** Of the bucket, for whoever asks it. */
export const BUCKET = "media";
export const REGION = "us-east-1";

// Amazon's own example; a program that is given no other takes it.
const EXAMPLE = { accessKeyId: "AKIDEXAMPLE", secretAccessKey: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY" };
const SKEW_MILLISECONDS = 15 * 60 * 1000;
const CONTENT_TYPES = {
  m3u8: "application/vnd.apple.mpegurl",
  mp4: "video/mp4",
  m4s: "video/iso.segment",
  ts: "video/mp2t",
  vtt: "text/vtt; charset=utf-8",
  jpg: "image/jpeg",
  json: "application/json",
  txt: "text/plain; charset=utf-8",
};
const REFUSALS = {
  AccessDenied: [403, "Access Denied"],
  InvalidAccessKeyId: [403, "The AWS Access Key Id you provided does not exist in our records."],
  RequestTimeTooSkewed: [403, "The difference between the request time and the current time is too large."],
  SignatureDoesNotMatch: [403, "The request signature we calculated does not match the one you provided."],
  NoSuchKey: [404, "The specified key does not exist."],
  MethodNotAllowed: [405, "The specified method is not allowed against this resource."],
  InvalidRange: [416, "The requested range is not satisfiable"],
  InternalError: [500, "We encountered an internal error. Please try again."],
};

class Refusal extends Error {
  constructor(code, headers = {}) {
    super(code);
    this.headers = headers;
  }
}

/** Serves `folder` on a free port of this machine, and returns its address and how to close it. */
export async function serveFolder(folder, { accessKeyId, secretAccessKey } = EXAMPLE) {
  const server = createServer(async (request, response) => {
    try {
      await answer(request, response, folder, { accessKeyId, secretAccessKey });
    } catch (error) {
      if (response.headersSent) return response.destroy();
      refuse(request, response, error instanceof Refusal ? error : new Refusal("InternalError"));
    }
  });
  await new Promise((listening, failed) => server.once("error", failed).listen(0, "127.0.0.1", listening));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    close: () =>
      new Promise((closed) => {
        server.close(closed);
        server.closeAllConnections();
      }),
  };
}

async function answer(request, response, folder, credentials) {
  if (!["GET", "HEAD"].includes(request.method)) throw new Refusal("MethodNotAllowed");
  verify(request, credentials);
  const key = keyOf(request.url);
  // What is opened stays what it is, even if something else takes its name meanwhile.
  const file = await open(join(folder, key)).catch(() => {
    throw new Refusal("NoSuchKey");
  });
  try {
    const stat = await file.stat({ bigint: true });
    if (!stat.isFile()) throw new Refusal("NoSuchKey");
    const size = Number(stat.size);
    const headers = {
      etag: `"${stat.mtimeNs.toString(16)}-${stat.size.toString(16)}"`,
      "last-modified": new Date(Number(stat.mtimeMs)).toUTCString(),
      "accept-ranges": "bytes",
      "content-type": CONTENT_TYPES[extension(key)] ?? "application/octet-stream",
      "cache-control": cacheControl(key),
    };
    if (names(request.headers["if-none-match"], headers.etag)) return response.writeHead(304, headers).end();

    const part = partOf(request.headers.range, size);
    const [first, last] = part ?? [0, size - 1];
    headers["content-length"] = last - first + 1;
    if (part) headers["content-range"] = `bytes ${first}-${last}/${size}`;
    response.writeHead(part ? 206 : 200, headers);
    if (request.method === "HEAD" || last < first) return response.end();
    await pipeline(file.createReadStream({ start: first, end: last, autoClose: false }), response);
  } finally {
    await file.close();
  }
}

/** The path of an object below the folder. A key leads nowhere else, and one that would is none. */
function keyOf(target) {
  let key;
  try {
    key = decodeURIComponent(target);
  } catch {
    throw new Refusal("NoSuchKey");
  }
  const [root, bucket, ...parts] = key.split("/");
  const isPlain = (part) => !["", ".", ".."].includes(part) && !/[\\\0]/.test(part);
  if (root !== "" || bucket !== BUCKET || !parts.length || !parts.every(isPlain)) throw new Refusal("NoSuchKey");
  return parts.join("/");
}

const extension = (key) => key.split(".").at(-1);

function cacheControl(key) {
  if (extension(key) === "key") return "no-store";
  // assets/<asset>/<generation>/…
  return key.split("/").length > 3 ? "max-age=31536000, immutable" : "no-cache";
}

function names(condition, etag) {
  return condition?.split(",").some((tag) => ["*", etag].includes(tag.trim().replace(/^W\//, ""))) ?? false;
}

/** The first and last byte of a range; nothing where all is asked for, as S3 takes any range that it cannot read. */
function partOf(range, size) {
  const [, from, to] = /^bytes=(\d*)-(\d*)$/.exec(range?.trim() ?? "") ?? [];
  if (!from && !to) return undefined;
  if (from && to && Number(to) < Number(from)) return undefined;
  const first = from ? Number(from) : size - Math.min(Number(to), size);
  if (first >= size) throw new Refusal("InvalidRange", { "content-range": `bytes */${size}` });
  return [first, from && to ? Math.min(Number(to), size - 1) : size - 1];
}

function verify({ method, url, headers }, { accessKeyId, secretAccessKey }) {
  const [, id, day, region, signed, signature] =
    /^AWS4-HMAC-SHA256 Credential=([^/]+)\/(\d{8})\/([^/]+)\/s3\/aws4_request, ?SignedHeaders=([^,]+), ?Signature=(.+)$/.exec(
      headers.authorization ?? "",
    ) ?? [];
  // No parameter means anything here, so none is signed.
  if (!signature || region !== REGION || url.includes("?")) throw new Refusal("AccessDenied");
  if (id !== accessKeyId) throw new Refusal("InvalidAccessKeyId");
  const date = headers["x-amz-date"] ?? "";
  const time = Date.parse(date.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, "$1-$2-$3T$4:$5:$6Z"));
  if (!date.startsWith(day) || !(Math.abs(Date.now() - time) < SKEW_MILLISECONDS)) {
    throw new Refusal("RequestTimeTooSkewed");
  }
  const canonical = [
    method,
    url,
    "",
    ...signed.split(";").map((name) => `${name}:${(headers[name] ?? "").trim().replace(/ +/g, " ")}`),
    "",
    signed,
    headers["x-amz-content-sha256"],
  ].join("\n");
  const scope = [day, REGION, "s3", "aws4_request"];
  const digest = createHash("sha256").update(canonical).digest("hex");
  const key = scope.reduce(hmac, `AWS4${secretAccessKey}`);
  const expected = hmac(key, ["AWS4-HMAC-SHA256", date, scope.join("/"), digest].join("\n"));
  const given = Buffer.from(signature, "hex");
  const isIt = given.length === expected.length && timingSafeEqual(given, expected);
  const isWhole = ["host", "x-amz-date"].every((name) => signed.split(";").includes(name));
  if (!isIt || !isWhole) throw new Refusal("SignatureDoesNotMatch");
}

function hmac(key, message) {
  return createHmac("sha256", key).update(message).digest();
}

function refuse(request, response, { message: code, headers }) {
  const [status, words] = REFUSALS[code];
  const body = `<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>${code}</Code><Message>${words}</Message></Error>`;
  const all = { ...headers, "content-type": "application/xml", "content-length": Buffer.byteLength(body) };
  response.writeHead(status, all).end(request.method === "HEAD" ? undefined : body);
}

async function main() {
  const [folder] = process.argv.slice(2);
  if (!folder) throw new Failure("usage: live-bucket.mjs <folder>");
  const bucket = await serveFolder(folder);
  const closed = new Promise((resolve) => {
    process.stdin.resume().once("end", resolve).once("error", resolve);
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.once(signal, resolve);
  });
  process.stdout.write(`${JSON.stringify({ url: bucket.url })}\n`);
  await closed;
  await bucket.close();
  process.stdin.destroy();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.exitCode = await main().then(() => 0, report);
