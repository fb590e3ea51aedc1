//! Fills a local R2 bucket from a folder: what `transcoder encode --to s3://…` does to a real one.

import { existsSync } from "node:fs";
import { readFile, readdir } from "node:fs/promises";
import { join, relative, sep } from "node:path";

import { json } from "./project.mjs";

const TYPES_FILE = ".types.json";
// Each put is a round trip to workerd; eight at a time keep both sides busy and memory small.
const AT_ONCE = 8;

/**
 * Puts every file below `folder` into `bucket` under its path, and returns how many there were and their bytes.
 * `metadata(key)` gives what R2 calls `httpMetadata`; playlists go last, as they name the others.
 */
export async function fill(bucket, folder, metadata) {
  const keys = await keysBelow(folder);
  const isPlaylist = (key) => key.endsWith(".m3u8");
  let bytes = 0;
  const put = async (key) => {
    const content = await readFile(join(folder, key));
    bytes += content.byteLength;
    await bucket.put(key, content, { httpMetadata: metadata(key) });
  };
  await eachOf(
    keys.filter((key) => !isPlaylist(key)),
    put,
  );
  await eachOf(keys.filter(isPlaylist), put);
  return { objects: keys.length, bytes };
}

/** What the folder's own `.types.json` says: `{"a/1.m4s": {"contentType": "…", "cacheControl": "…"}}`. */
export async function statedMetadata(folder) {
  const file = join(folder, TYPES_FILE);
  const stated = existsSync(file) ? await json(file) : {};
  return (key) => stated[key] ?? {};
}

async function keysBelow(folder) {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)).split(sep).join("/"))
    .filter((key) => key !== TYPES_FILE)
    .sort();
}

async function eachOf(items, work) {
  const queue = items.values();
  const workers = Array.from({ length: AT_ONCE }, async () => {
    for (const item of queue) await work(item);
  });
  await Promise.all(workers);
}
