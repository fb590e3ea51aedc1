//! A bucket that has the objects in its bindings, by their keys, or one of 1 KB under every key. It speaks what R2's
//! binding speaks inside of the runtime, and does so from memory: it costs little, and the same whoever asks.

import { env } from "cloudflare:workers";

const etag = "d41d8cd98f00b204e9800998ecf8427e";
const stored = Object.entries(env).map(([key, body]) => [key, answer(key, new Uint8Array(body))]);
const objects = new Map(stored);
const everywhere = objects.size ? undefined : answer("assets/lesson/1/720p/00001.m4s", new Uint8Array(1024));

/** What R2's binding is answered with: what there is to say of an object, in front of it. */
function answer(name, body) {
  const httpFields = name.endsWith(".m3u8")
    ? { contentType: "application/vnd.apple.mpegurl", cacheControl: "max-age=60" }
    : { contentType: "video/iso.segment", cacheControl: "max-age=31536000, immutable" };
  const size = body.length;
  const uploaded = 1_767_225_600_000;
  const said = { name, version: "1", size, etag, uploaded, httpFields, customFields: [], checksums: { 0: etag } };
  const metadata = new TextEncoder().encode(JSON.stringify(said));
  const bytes = new Uint8Array(metadata.length + size);
  bytes.set(metadata);
  bytes.set(body, metadata.length);
  const headers = { "CF-R2-Metadata-Size": String(metadata.length), "Content-Type": "application/json" };
  return { bytes, headers };
}

export default {
  fetch(request) {
    const { bytes, headers } = everywhere ?? objects.get(JSON.parse(request.headers.get("CF-R2-Request")).object);
    return new Response(bytes, { headers });
  },
};
