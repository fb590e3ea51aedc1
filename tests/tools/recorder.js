//! Goes in front of the built Worker in tests that want to know what it did. In headers, every answer says what the
//! bucket was asked for, one key after the other and nothing for nothing; how many keys for signatures were imported so
//! far; which encodings the Worker was told that the client accepts; and which one it chose itself, before anybody
//! compressed its answer for it. What is built stays as it is; only its binding is another one. What is called `trap` in it
//! stops the program as a panic does: it throws what no program catches. What is called `late` comes a second later, and
//! `nothing` fails without saying anything.
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

let imports = 0;
let importsFail = false;
const { importKey } = SubtleCrypto.prototype;
SubtleCrypto.prototype.importKey = function (...key) {
  imports += 1;
  return importsFail ? Promise.reject(new Error("no key can be imported")) : importKey.apply(this, key);
};

export default {
  async fetch(request, { CLIENT_ACCEPTS, IMPORTS_FAIL, ...env }) {
    importsFail = IMPORTS_FAIL !== undefined;
    const bucket = new R2Bucket(env.MEDIA);
    const clientAcceptEncoding = CLIENT_ACCEPTS ?? request.cf?.clientAcceptEncoding;
    const asked = new Request(request, { cf: { ...request.cf, clientAcceptEncoding } });
    const answer = await edge.fetch(asked, { ...env, MEDIA: bucket });
    const recorded = new Response(answer.body, answer);
    recorded.headers.set("X-Origin-Asked", bucket.asked.map(encodeURIComponent).join(","));
    recorded.headers.set("X-Keys-Imported", imports);
    recorded.headers.set("X-Client-Accepts", clientAcceptEncoding);
    recorded.headers.set("X-Edge-Encoding", answer.headers.get("Content-Encoding") ?? "identity");
    return recorded;
  },
};
