//! The gate as a good JavaScript Worker would be: the same checks, by the same WebCrypto, with the same answers. It is
//! what `make bench` measures the gate against, so it is written to be fast, and to be right about what is asked of it.
//!
//! What it does not do costs the gate something, not the rival: JSON keys that are there twice, cookies, tickets,
//! ranges, playlists that are no media playlists, what an operator is told. Both say of every refusal in the log why.

import { signedByBytes, signedByLines } from "./signing.mjs";

const NAMES = ["Policy", "Expires", "Signature", "Key-Pair-Id", "Hash-Algorithm"];
const HASHES = { SHA1: "SHA-1", SHA256: "SHA-256" };
const LONGEST_POLICY = 4096;
/** How many signatures are remembered in a generation; two are kept, as in the gate. */
const GENERATION = 1024;
const EXPOSED = "Accept-Ranges, Age, Content-Length, Content-Range, Date, ETag, Retry-After";

class Denied extends Error {
  constructor(code, message, reason) {
    super(reason);
    Object.assign(this, { code, text: message });
  }
}
const malformed = (reason) => new Denied("MalformedPolicy", "Malformed Policy", reason);
const refused = (reason) => new Denied("AccessDenied", "Access denied", reason);

export default {
  async fetch(request, env) {
    if (request.method !== "GET") return answer(405, "text/plain", "Method Not Allowed");
    const url = takenApart(request.url);
    try {
      const key = objectKey(url.path);
      await authorise(url, request.headers.get("CF-Connecting-IP"), env);
      const object = await env.MEDIA.get(key);
      if (!object) return answer(404, "text/plain", "Not Found");
      const type = object.httpMetadata.contentType ?? "application/octet-stream";
      if (key.endsWith(".m3u8")) return playlist(object, type, url.authority, request, env);
      return new Response(object.body, {
        headers: {
          "Content-Type": type,
          "Content-Length": String(object.size),
          "Cache-Control": `private, ${object.httpMetadata.cacheControl ?? "max-age=0"}`,
          "Accept-Ranges": "bytes",
          ETag: object.httpEtag,
          "X-Content-Type-Options": "nosniff",
          "Access-Control-Allow-Origin": "*",
          "Access-Control-Expose-Headers": EXPOSED,
        },
      });
    } catch (error) {
      if (!(error instanceof Denied)) throw error;
      console.log(`403 GET ${url.path}: denied: ${error.message}`);
      const { code, text } = error;
      const details = `<Code>${code}</Code><Message>${text}</Message>`;
      return answer(403, "text/xml", `<?xml version="1.0" encoding="UTF-8"?><Error>${details}</Error>`);
    }
  },
};

/** A playlist with its links signed, as a whole. */
async function playlist(object, type, authority, request, env) {
  const signed = env.BY_BYTES
    ? signedByBytes(await object.bytes(), authority)
    : signedByLines(await object.text(), authority);
  const headers = {
    "Content-Type": type,
    "Cache-Control": "private, no-cache",
    Vary: "Accept-Encoding",
    "X-Content-Type-Options": "nosniff",
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": EXPOSED,
  };
  const accepted = request.cf?.clientAcceptEncoding ?? request.headers.get("Accept-Encoding") ?? "";
  if (!/\bgzip\b/.test(accepted)) return new Response(signed, { headers });
  headers["Content-Encoding"] = "gzip";
  // The runtime can do it by itself, which takes it less than a `CompressionStream`.
  if (!env.BY_STREAM) return new Response(signed, { headers });
  const compressed = new Response(signed).body.pipeThrough(new CompressionStream("gzip"));
  return new Response(compressed, { headers, encodeBody: "manual" });
}

function answer(status, type, body) {
  return new Response(body, {
    status,
    headers: {
      "Content-Type": type,
      "Cache-Control": "no-store",
      "X-Content-Type-Options": "nosniff",
      "Access-Control-Allow-Origin": "*",
      "Access-Control-Expose-Headers": EXPOSED,
    },
  });
}

/** By hand: the runtime's `URL` takes longer, and decodes what has to stay as it was written. */
function takenApart(url) {
  const host = url.indexOf("://") + 3;
  const path = url.indexOf("/", host);
  const query = url.indexOf("?", path);
  return {
    scheme: url.slice(0, host - 3),
    host: url.slice(host, path),
    path: query < 0 ? url.slice(path) : url.slice(path, query),
    query: query < 0 ? "" : url.slice(query + 1),
  };
}

function objectKey(path) {
  const key = path.includes("%") ? decodeURIComponent(path) : path;
  if (/(^|\/)\.\.?(\/|$)|[\\\0]|%2f/i.test(key) || (key !== path && /%2f/i.test(path))) {
    throw refused("the path has more than one meaning");
  }
  return key.slice(1);
}

async function authorise(url, address, env) {
  const { policy, claim } = read(url);
  const now = Date.now() / 1000;
  if (now >= policy.expires) throw refused("the policy has expired");
  if (policy.starts !== undefined && now <= policy.starts) throw refused("the policy is not valid yet");
  if (policy.source !== undefined && !within(policy.source, address)) throw refused("for another address");
  if (!policy.signed) {
    if (!(await signed(claim, env))) throw refused("the signature does not match the policy");
    if (env.REMEMBER) remember(claim.token, policy);
  }
  // A pattern can be written to take seconds, but not by a signer whom we trust.
  if (!covers(policy.resource, url)) throw refused("the policy is for another resource");
}

/** The policy and what is claimed of it; for what was remembered nothing is decoded again. */
function read(url) {
  const found = {};
  const own = [];
  const signing = [];
  for (const pair of url.query.split("&")) {
    if (!pair) continue;
    const equals = pair.indexOf("=");
    const name = decoded(equals < 0 ? pair : pair.slice(0, equals));
    if (!NAMES.includes(name)) {
      own.push(pair);
    } else if (name in found) {
      throw malformed(`${name} is there twice`);
    } else {
      found[name] = equals < 0 ? "" : decoded(pair.slice(equals + 1));
      signing.push(pair);
    }
  }
  url.own = own.join("&");
  url.authority = signing.join("&");
  const { Policy: text, Expires: expires, Signature: signature, "Key-Pair-Id": id } = found;
  const hash = found["Hash-Algorithm"] ?? "SHA1";
  if (!id) throw new Denied("MissingKey", "Missing Key-Pair-Id query parameter or cookie value", "no key pair");
  if (!Object.hasOwn(HASHES, hash)) throw refused("Hash-Algorithm is neither SHA1 nor SHA256");
  if (text === undefined && expires === undefined) throw malformed("there is no policy");

  const canned = text === undefined ? cannedPolicy(url, expires) : undefined;
  const token = `${id}\n${hash}\n${canned ?? text}\n${signature}`;
  const known = recall(token);
  if (known) return { policy: known, claim: undefined };

  const bytes = bytesOf(signature ?? "");
  if (!bytes?.length) {
    throw new Denied("MalformedSignature", "Could not unencode Signature", "the signature cannot be read");
  }
  const message = canned === undefined ? bytesOf(text) : new TextEncoder().encode(canned);
  if (!message || message.length > LONGEST_POLICY) throw malformed("it cannot be read");
  const policy = canned === undefined ? parsed(message) : { resource: undefined, expires: Number(expires) };
  return { policy, claim: { token, id, hash, message, signature: bytes } };
}

function decoded(text) {
  try {
    return text.includes("%") ? decodeURIComponent(text) : text;
  } catch {
    return text;
  }
}

function cannedPolicy({ scheme, host, path, own }, expires) {
  if (!/^[1-9]\d{0,10}$/.test(expires)) throw malformed("Expires is no Unix time");
  const resource = `${scheme}://${host}${path}${own && "?"}${own}`;
  return `{"Statement":[{"Resource":"${resource}","Condition":{"DateLessThan":{"AWS:EpochTime":${expires}}}}]}`;
}

/** CloudFront's base64, strictly. */
function bytesOf(text) {
  if (/[+/=]/.test(text)) return undefined;
  try {
    const base64 = text.replaceAll("-", "+").replaceAll("_", "=").replaceAll("~", "/");
    return Uint8Array.fromBase64(base64, { lastChunkHandling: "strict" });
  } catch {
    return undefined;
  }
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function parsed(bytes) {
  try {
    const { Statement: list, ...beside } = JSON.parse(utf8.decode(bytes));
    const statements = Array.isArray(list) ? list : [list];
    const { Resource: resource = "*", Condition: condition, ...more } = statements[0];
    const { DateLessThan: before, DateGreaterThan: after, IpAddress: address, ...others } = condition;
    const strange = [beside, more, others].some((rest) => Object.keys(rest).length);
    if (statements.length !== 1 || typeof resource !== "string" || strange) {
      throw malformed("it says what is not enforced");
    }
    const source = address && range(only(address, "AWS:SourceIp"));
    return { resource, expires: epoch(before), starts: after && epoch(after), source };
  } catch (error) {
    throw error instanceof Denied ? error : malformed(error.message);
  }
}

function only(object, name) {
  if (Object.keys(object).length !== 1 || !(name in object)) throw malformed(`there should be ${name} only`);
  return object[name];
}

function epoch(condition) {
  const seconds = only(condition, "AWS:EpochTime");
  const isTime = Number.isInteger(seconds) && seconds >= 0 && seconds <= 253_402_300_799;
  if (!isTime) throw malformed("a time is no Unix time");
  return seconds;
}

function range(cidr) {
  const [, network, prefix = "32"] = /^([\d.]+)(?:\/(\d{1,2}))?$/.exec(cidr) ?? [];
  const bits = network && ipv4(network);
  if (bits === undefined || Number(prefix) > 32) throw malformed(`${cidr} is no CIDR`);
  const mask = prefix === "0" ? 0 : -1 << (32 - Number(prefix));
  return { network: bits & mask, mask };
}

function ipv4(text) {
  const parts = text.split(".");
  if (parts.length !== 4 || !parts.every((part) => /^\d{1,3}$/.test(part) && Number(part) < 256)) return undefined;
  return parts.reduce((bits, part) => (bits << 8) | Number(part), 0);
}

function within({ network, mask }, address) {
  const bits = ipv4(address ?? "");
  return bits !== undefined && (bits & mask) === network;
}

/** The four sections of a resource, as the gate matches them. A canned policy's has been rebuilt from the URL. */
function covers(resource, url) {
  if (resource === undefined || resource === "*") return true;
  const [, protocol, rest] = /^([^/.]*?):\/\/(.*)$/s.exec(resource) ?? (resource[0] === "*" ? [, "*", resource] : []);
  if (rest === undefined || !glob(protocol.toLowerCase(), url.scheme)) return false;
  const slash = rest.indexOf("/");
  const domain = slash < 0 ? rest : rest.slice(0, slash);
  const target = slash < 0 ? (rest.endsWith("*") ? "/*" : "/") : rest.slice(slash);
  if (!glob(domain.toLowerCase(), url.host)) return false;
  const { path, own } = url;
  const delimiter = target.indexOf("\\?");
  if (delimiter >= 0) return glob(target.slice(0, delimiter), path) && glob(target.slice(delimiter + 2), own);
  if (glob(target, path) && (!own || target.endsWith("*"))) return true;
  for (let i = target.indexOf("?"); i >= 0; i = target.indexOf("?", i + 1)) {
    if (glob(target.slice(0, i), path) && glob(target.slice(i + 1), own)) return true;
  }
  return false;
}

function glob(pattern, text) {
  let [p, t, star, from] = [0, 0, -1, 0];
  while (t < text.length) {
    if (pattern[p] === "*") {
      [star, from] = [p, t];
      p += 1;
      if (p === pattern.length) return true;
    } else if (p < pattern.length && (pattern[p] === "?" || pattern[p] === text[t])) {
      p += 1;
      t += 1;
    } else if (star >= 0) {
      from += 1;
      [p, t] = [star + 1, from];
    } else {
      return false;
    }
  }
  while (pattern[p] === "*") p += 1;
  return p === pattern.length;
}

// --- the arithmetic, and what is remembered of it -------------------------------------------------------------

const imported = new Map();

async function signed({ id, hash, message, signature }, env) {
  const key = await importedKey(id, hash, env);
  if (key.algorithm.name !== "ECDSA") return crypto.subtle.verify("RSASSA-PKCS1-v1_5", key, signature, message);
  const halves = halvesOf(signature);
  return halves !== undefined && crypto.subtle.verify({ name: "ECDSA", hash: HASHES[hash] }, key, halves, message);
}

async function importedKey(id, hash, env) {
  const name = `${id} ${hash}`;
  const known = imported.get(name);
  if (known) return known;
  const pem = JSON.parse(env.TRUSTED_KEYS)[id];
  if (!pem) throw new Denied("InvalidKey", "Unknown Key", "the key pair is not one we trust");
  const spki = Uint8Array.fromBase64(pem.replace(/-----[A-Z ]+-----/g, ""));
  // An RSA key is long, one on P-256 is not.
  const algorithm =
    spki.length > 200
      ? { name: "RSASSA-PKCS1-v1_5", hash: HASHES[hash] }
      : { name: "ECDSA", namedCurve: "P-256" };
  const key = await crypto.subtle.importKey("spki", spki, algorithm, false, ["verify"]);
  imported.set(name, key);
  return key;
}

/** The two numbers of an ECDSA signature in DER, 32 bytes each, as WebCrypto wants them. */
function halvesOf(der) {
  if (der[0] !== 0x30 || der[1] !== der.length - 2) return undefined;
  const halves = new Uint8Array(64);
  let at = 2;
  for (const end of [32, 64]) {
    if (der[at] !== 2) return undefined;
    let number = der.subarray(at + 2, at + 2 + der[at + 1]);
    at += 2 + der[at + 1];
    if (number[0] === 0 && number[1] >= 0x80) number = number.subarray(1);
    if (!number.length || number.length > 32 || at > der.length) return undefined;
    halves.set(number, end - number.length);
  }
  return at === der.length ? halves : undefined;
}

let young = new Map();
let old = new Map();

function recall(token) {
  const known = young.get(token);
  if (known) return known;
  const again = old.get(token);
  if (again) remember(token, again);
  return again;
}

function remember(token, policy) {
  if (young.size >= GENERATION) [young, old] = [new Map(), young];
  policy.signed = true;
  young.set(token, policy);
}
