//! What is asked: requests as a player sends them, signed beforehand by OpenSSL's arithmetic, not by ours.

import { generateKeyPairSync, randomBytes, sign } from "node:crypto";

const HOST = "video.example";
const ADDRESS = "192.0.2.7";

/** A key pair, under the id that URLs name it by. */
export class Signer {
  constructor(id, type, options) {
    const { publicKey, privateKey } = generateKeyPairSync(type, options);
    this.id = id;
    this.pem = publicKey.export({ type: "spki", format: "pem" });
    this.privateKey = privateKey;
  }

  /** The query that hands over a policy, signed. */
  query(policy) {
    return query(policy, sign("sha1", policy, this.privateKey), this.id);
  }
}

/** A policy and what is to pass for its signature, as AWS's signers write them into a query. */
export function query(policy, signature, id) {
  return `Policy=${cloudfront(policy)}&Signature=${cloudfront(signature)}&Key-Pair-Id=${id}`;
}

/** A policy with all the conditions that there are. */
export function permitting(resource, expires) {
  const Condition = {
    DateLessThan: { "AWS:EpochTime": expires },
    DateGreaterThan: { "AWS:EpochTime": expires - 100_000 },
    IpAddress: { "AWS:SourceIp": `${ADDRESS}/32` },
  };
  return JSON.stringify({ Statement: [{ Resource: resource, Condition }] });
}

/** Where the playlists are that are asked for: a path of usual length makes an authority of usual length. */
export const COURSE = "assets/introduction-to-performance-engineering/lesson-01";

/** A policy that opens them all. */
export function course(expires) {
  return permitting(`https://${HOST}/${COURSE}/*`, expires);
}

/** The settings of a gate, and the query that opens the course to it. */
export function signed() {
  const signer = new Signer("K2JCJMDEHXQW5F", "rsa", { modulusLength: 2048 });
  const expires = Math.floor(Date.now() / 1000) + 3600;
  const variables = { TRUSTED_KEYS: JSON.stringify({ [signer.id]: signer.pem }) };
  return { variables, query: signer.query(course(expires)) };
}

/** A media playlist as packagers write it, its segments as long as `duration` says of their numbers. */
export function mediaPlaylist(segments, duration = () => 4) {
  const lines = [
    "#EXTM3U",
    "#EXT-X-VERSION:7",
    "#EXT-X-TARGETDURATION:4",
    "#EXT-X-MEDIA-SEQUENCE:1",
    "#EXT-X-PLAYLIST-TYPE:VOD",
    '#EXT-X-MAP:URI="init.mp4"',
  ];
  for (let number = 1; number <= segments; number += 1) {
    lines.push(`#EXTINF:${duration(number).toFixed(6)},`, `segment_${String(number).padStart(5, "0")}.m4s`);
  }
  return Buffer.from(`${lines.join("\n")}\n#EXT-X-ENDLIST\n`);
}

/** An ECDSA signature in good form, that nobody made. */
export function scribble() {
  const number = () => [2, 32, 0x11, ...randomBytes(31)];
  const [r, s] = [number(), number()];
  return Buffer.from([0x30, r.length + s.length, ...r, ...s]);
}

function cloudfront(bytes) {
  const base64 = Buffer.from(bytes).toString("base64");
  return base64.replaceAll("+", "-").replaceAll("=", "_").replaceAll("/", "~");
}

/** What hls.js in Chrome says of itself through Cloudflare; `encodings` are those that it accepts. */
export function headers(encodings = "br, gzip") {
  return {
    Host: HOST,
    Accept: "*/*",
    "Accept-Encoding": encodings,
    "Accept-Language": "en-GB,en;q=0.9",
    "CF-Connecting-IP": ADDRESS,
    Origin: "https://school.example",
    Referer: "https://school.example/",
    "User-Agent":
      "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
    "X-Forwarded-Proto": "https",
  };
}

/** A request for a path and query; `range` is the `Range` that it asks for, if any. */
export function request(target, encodings, range) {
  const fields = { ...headers(encodings), ...(range && { Range: range }) };
  const lines = Object.entries(fields).map(([name, value]) => `${name}: ${value}\r\n`);
  return Buffer.from(`GET ${target} HTTP/1.1\r\n${lines.join("")}\r\n`);
}

/** What is asked, one after the other and over again. */
export function inTurn(count, target) {
  const requests = Array.from({ length: count }, (_, i) => request(target(i)));
  let asked = 0;
  return () => requests[asked++ % count];
}

/** One thing asked over and over again. */
export function always(target, encodings, range) {
  const only = request(target, encodings, range);
  return () => only;
}
