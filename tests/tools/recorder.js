//! Goes in front of the built Worker in tests that want to know what it did. In headers, every answer says what the
//! bucket was asked for, one key after the other and nothing for nothing; how many keys for signatures were imported so
//! far; which encodings the Worker was told that the client accepts; and which one it chose itself, before anybody
//! compressed its answer for it. What is built stays as it is; only its binding is another one. What is called `trap` in it
//! stops the program as a panic does: it throws what no program catches. What is called `late` comes a second later, and
//! `never` does not come; `nothing` fails without saying anything, `once` the first time that it is asked for, and what
//! begins with `broken` breaks off halfway.
//!
//! Two variables are not for the Worker: with IMPORTS_FAIL no key can be imported, and CLIENT_ACCEPTS speaks for clients
//! whose own wish is of no use, as browsers', which cannot be stopped from accepting gzip.

import edge from "./index.js";
import trap from "./trap.wasm";

/** The Worker tells a binding by the name of its class, once. */
class R2Bucket {
  constructor(bucket) {
    this.bucket = bucket;
    this.asked = [];
  }

  get(key, ...options) {
    this.asked.push(key);
    const name = key.slice(key.lastIndexOf("/") + 1);
    if (name === "never") return new Promise(() => {});
    if (name === "once" && !failed.has(key)) {
      failed.add(key);
      return Promise.reject(new Error("We encountered an internal error. Please try again. (10001)"));
    }
    if (name.startsWith("broken")) return this.bucket.get(key, ...options).then(broken);
    if (key.endsWith("/trap")) new WebAssembly.Instance(trap).exports.trap();
    if (key.endsWith("/nothing")) return Promise.reject();
    if (key.endsWith("/late")) return scheduler.wait(1000).then(() => this.bucket.get(key, ...options));
    return this.bucket.get(key, ...options);
  }

  head(key) {
    this.asked.push(key);
    return this.bucket.head(key);
  }
}

const failed = new Set();

/** An object of which only half comes. */
async function broken({ size, httpEtag, uploaded, httpMetadata, body: whole }) {
  const half = new Uint8Array(await new Response(whole).arrayBuffer()).subarray(0, size / 2);
  const { readable: body, writable } = new FixedLengthStream(size);
  const writer = writable.getWriter();
  const abort = () => writer.abort(new Error("the bucket went away"));
  // After a moment, so that what was there is on its way.
  writer.write(half).then(() => scheduler.wait(100)).then(abort).catch(() => {});
  return { size, httpEtag, uploaded, httpMetadata, body, arrayBuffer: () => new Response(body).arrayBuffer() };
}

let imports = 0;
let importsFail = false;
const { importKey } = SubtleCrypto.prototype;
SubtleCrypto.prototype.importKey = function (...key) {
  imports += 1;
  return importsFail ? Promise.reject(new Error("no key can be imported")) : importKey.apply(this, key);
};

export default {
  async fetch(request, { CLIENT_ACCEPTS, IMPORTS_FAIL, ...env }, context) {
    importsFail = IMPORTS_FAIL !== undefined;
    const bucket = new R2Bucket(env.MEDIA);
    const clientAcceptEncoding = CLIENT_ACCEPTS ?? request.cf?.clientAcceptEncoding;
    const asked = new Request(request, { cf: { ...request.cf, clientAcceptEncoding } });
    let point;
    const ANALYTICS = { writeDataPoint: (written) => (point = written) };
    const answer = await edge.fetch(asked, { ...env, MEDIA: bucket, ANALYTICS }, context);
    const recorded = new Response(answer.body, answer);
    recorded.headers.set("X-Origin-Asked", bucket.asked.map(encodeURIComponent).join(","));
    recorded.headers.set("X-Keys-Imported", imports);
    recorded.headers.set("X-Client-Accepts", clientAcceptEncoding);
    recorded.headers.set("X-Edge-Encoding", answer.headers.get("Content-Encoding") ?? "identity");
    recorded.headers.set("X-Data-Point", encodeURIComponent(JSON.stringify(point ?? null)));
    return recorded;
  },
};
