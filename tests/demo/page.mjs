//! The watch page's server: a handful of files on loopback, and the signed URL for whoever opens the page there.

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { join } from "node:path";

import { Failure, made, root } from "../tools/project.mjs";

const here = join(root, "tests/demo");
const hls = join(root, "node_modules/hls.js/dist");
// Everything there is to be had. A path that is not in this table does not exist, so none can lead elsewhere.
const FILES = {
  "/": [join(here, "watch.html"), "text/html; charset=utf-8"],
  "/watch.js": [join(here, "watch.js"), "text/javascript; charset=utf-8"],
  "/signed-url.js": [join(here, "signed-url.js"), "text/javascript; charset=utf-8"],
  "/watch.css": [join(here, "watch.css"), "text/css; charset=utf-8"],
  "/icon.svg": [join(here, "icon.svg"), "image/svg+xml"],
  "/hls.js": [join(hls, "hls.min.mjs"), "text/javascript; charset=utf-8"],
  "/hls.worker.js": [join(hls, "hls.worker.js"), "text/javascript; charset=utf-8"],
};

/** Serves the page for a signed URL on `port` (0 for any), and returns its address and how to close it. */
export async function servePage({ signedUrl, port = 0 }) {
  made(join(hls, "hls.min.mjs"), "install the npm packages with `npm ci`");
  const edge = new URL(signedUrl).origin;
  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url, "http://page");
    const headers = {
      "cache-control": "no-store",
      "content-security-policy": policy(edge),
      ...FIXED_HEADERS,
    };
    if (!["GET", "HEAD"].includes(request.method)) {
      return response.writeHead(405, { allow: "GET, HEAD" }).end();
    }
    if (!isLoopback(request.headers.host)) return response.writeHead(421).end();
    if (pathname === "/signed-url") {
      return response.writeHead(200, { ...headers, "content-type": "text/plain" }).end(signedUrl);
    }
    const [file, type] = FILES[pathname] ?? [];
    if (!file) return response.writeHead(404).end();
    const content = await readFile(file);
    response.writeHead(200, { ...headers, "content-type": type, "content-length": content.byteLength });
    response.end(request.method === "HEAD" ? undefined : content);
  });
  await new Promise((resolve, reject) =>
    server.once("error", reject).listen(port, "127.0.0.1", resolve),
  ).catch((error) => {
    throw new Failure(`the watch page cannot listen on 127.0.0.1:${port}: ${error.message}`);
  });
  return {
    url: `http://127.0.0.1:${server.address().port}/`,
    close: () =>
      new Promise((resolve) => {
        server.close(resolve);
        server.closeAllConnections();
      }),
  };
}

const FIXED_HEADERS = { "referrer-policy": "no-referrer", "x-content-type-options": "nosniff" };

/** The page may run and show what lies here, and talk to the one edge that it is for. */
function policy(edge) {
  return [
    "default-src 'none'",
    "script-src 'self'",
    "worker-src 'self'",
    "style-src 'self'",
    "img-src 'self'",
    `connect-src 'self' ${edge}`,
    `media-src blob: ${edge}`,
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join("; ");
}

// A page elsewhere could point a host name of its own at this machine, and read the signed URL as its own.
function isLoopback(host = "") {
  return ["127.0.0.1", "localhost"].includes(host.replace(/:\d+$/, ""));
}
