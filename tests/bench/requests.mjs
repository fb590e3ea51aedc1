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

/** A request for a path and query, as hls.js in Chrome sends it through Cloudflare. */
export function request(target) {
  const lines = [
    `GET ${target} HTTP/1.1`,
    `Host: ${HOST}`,
    "Accept: */*",
    "Accept-Encoding: br, gzip",
    "Accept-Language: en-GB,en;q=0.9",
    `CF-Connecting-IP: ${ADDRESS}`,
    "Origin: https://school.example",
    "Referer: https://school.example/",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
    "X-Forwarded-Proto: https",
  ];
  return Buffer.from(`${lines.join("\r\n")}\r\n\r\n`);
}
