//! The Worker as Cloudflare sees it: hands each request to the gate.

import { Visit } from "program";

import { proceed } from "./worker/runtime.js";

export default {
  async fetch(request, env, context) {
    const visit = new Visit(request, env, context);
    await proceed(visit);
    return visit.response();
  },
};
