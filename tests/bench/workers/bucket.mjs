//! A bucket that has one object of 1 KB under every key. It speaks what R2's binding speaks inside of the runtime, and
//! does so from memory: it costs little, and the same whoever asks.

const size = 1024;
const etag = "d41d8cd98f00b204e9800998ecf8427e";
const metadata = new TextEncoder().encode(
  JSON.stringify({
    name: "assets/lesson/1/720p/00001.m4s",
    version: "1",
    size,
    etag,
    uploaded: 1_767_225_600_000,
    httpFields: { contentType: "video/iso.segment", cacheControl: "max-age=31536000, immutable" },
    customFields: [],
    checksums: { 0: etag },
  }),
);
const answer = new Uint8Array(metadata.length + size);
answer.set(metadata);
const headers = { "CF-R2-Metadata-Size": String(metadata.length), "Content-Type": "application/json" };

export default {
  fetch: () => new Response(answer, { headers }),
};
