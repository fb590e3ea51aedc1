//! Goes in front of the built Worker in tests that want to know what the bucket was asked for: every answer says so
//! in a header, one key after the other, and nothing for nothing; and in another, how many keys for signatures were
//! imported so far. What is built stays as it is; only its binding is another one. With the variable IMPORTS_FAIL no
//! key can be imported.

import Edge from "./index.js";

/** The Worker tells a binding by the name of its class. */
class R2Bucket {
  constructor(bucket) {
    this.bucket = bucket;
    this.asked = [];
  }

  get(key, ...options) {
    this.asked.push(key);
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
  async fetch(request, env, context) {
    importsFail = "IMPORTS_FAIL" in env;
    const bucket = new R2Bucket(env.MEDIA);
    const answer = await new Edge(context, { ...env, MEDIA: bucket }).fetch(request);
    const recorded = new Response(answer.body, answer);
    recorded.headers.set("X-Origin-Asked", bucket.asked.map(encodeURIComponent).join(","));
    recorded.headers.set("X-Keys-Imported", imports);
    return recorded;
  },
};
