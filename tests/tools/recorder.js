//! Goes in front of the built Worker in tests that want to know what the bucket was asked for: every answer says so
//! in a header, one key after the other, and nothing for nothing. What is built stays as it is; only its binding
//! is another one, and what is called `trap` in it stops the program as a panic does: it throws what no program catches.

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
    return this.bucket.get(key, ...options);
  }

  head(key) {
    this.asked.push(key);
    return this.bucket.head(key);
  }
}

export default {
  async fetch(request, env) {
    const bucket = new R2Bucket(env.MEDIA);
    const answer = await edge.fetch(request, { ...env, MEDIA: bucket });
    const recorded = new Response(answer.body, answer);
    recorded.headers.set("X-Origin-Asked", bucket.asked.map(encodeURIComponent).join(","));
    return recorded;
  },
};
