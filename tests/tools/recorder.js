//! Goes in front of the built Worker in tests that want to know what it did. In headers, every answer says what the
//! bucket was asked for, one key after the other and nothing for nothing; which encodings the Worker was told that the
//! client accepts; and which one it chose itself, before anybody compressed its answer for it. What is built stays as
//! it is; only its binding is another one.
//!
//! A variable `CLIENT_ACCEPTS`, which the Worker does not see, speaks for clients whose own wish is of no use, as
//! browsers', which cannot be stopped from accepting gzip.

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

export default {
  async fetch(request, { CLIENT_ACCEPTS, ...env }, context) {
    const bucket = new R2Bucket(env.MEDIA);
    const clientAcceptEncoding = CLIENT_ACCEPTS ?? request.cf?.clientAcceptEncoding;
    const asked = new Request(request, { cf: { ...request.cf, clientAcceptEncoding } });
    const answer = await new Edge(context, { ...env, MEDIA: bucket }).fetch(asked);
    const recorded = new Response(answer.body, answer);
    recorded.headers.set("X-Origin-Asked", bucket.asked.map(encodeURIComponent).join(","));
    recorded.headers.set("X-Client-Accepts", clientAcceptEncoding);
    recorded.headers.set("X-Edge-Encoding", answer.headers.get("Content-Encoding") ?? "identity");
    return recorded;
  },
};
