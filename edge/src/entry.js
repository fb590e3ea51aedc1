//! The Worker as Cloudflare sees it: hands each request to the gate, and waits for what the gate waits for.
//!
//! A promise that Rust waits for by itself costs several closures, and each of those a finalizer. Waiting is what
//! JavaScript does best.

import { Visit } from "./index.js";

export default {
  async fetch(request, env) {
    const visit = new Visit(request, env);
    let promise = visit.proceed(undefined, false);
    while (promise) {
      let outcome;
      let failed = false;
      try {
        outcome = await promise;
      } catch (error) {
        outcome = error;
        failed = true;
      }
      promise = visit.proceed(outcome, failed);
    }
    return visit.response();
  },
};
