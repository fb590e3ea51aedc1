//! The watch page's server: the studio's own files on loopback, as `transcoder serve` lays them out.

import { readFile, readdir } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join } from "node:path";

import { Failure, root } from "./project.mjs";

const studio = join(root, "transcoder/studio");
const TYPES = {
  ".css": "text/css; charset=utf-8",
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".mjs": "text/javascript; charset=utf-8",
  ".svg": "image/svg+xml",
};

/**
 * Serves the page on `port` (0 for any). Its `url` is that of the page which plays the signed URL, with what
 * else is to be said `about` it in the query: a title, where storyboard and poster lie.
 */
export async function servePage({ signedUrl, port = 0, about = {} }) {
  const files = await table();
  const edge = new URL(signedUrl).origin;
  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url, "http://page");
    if (!["GET", "HEAD"].includes(request.method)) {
      return response.writeHead(405, { allow: "GET, HEAD" }).end();
    }
    if (pathname === "/") return response.writeHead(302, { location: "/watch" }).end();
    const file = files.get(pathname);
    if (!file) return response.writeHead(404).end();
    const content = await readFile(file);
    response.writeHead(200, {
      "cache-control": "no-store",
      "content-length": content.byteLength,
      "content-security-policy": policy(edge),
      "content-type": TYPES[extname(file)],
      "referrer-policy": "no-referrer",
      "x-content-type-options": "nosniff",
    });
    response.end(request.method === "HEAD" ? undefined : content);
  });
  await new Promise((resolve, reject) =>
    server.once("error", reject).listen(port, "127.0.0.1", resolve),
  ).catch((error) => {
    throw new Failure(`the watch page cannot listen on 127.0.0.1:${port}: ${error.message}`);
  });
  const url = new URL(`http://127.0.0.1:${server.address().port}/watch`);
  url.search = new URLSearchParams(about);
  return {
    url: `${url}#${signedUrl}`,
    close: () =>
      new Promise((resolve) => {
        server.close(resolve);
        server.closeAllConnections();
      }),
  };
}

/**
 * Everything there is to be had, by path. What is not in this table does not exist, so nothing can lead
 * elsewhere.
 */
async function table() {
  const entries = await readdir(studio, { recursive: true, withFileTypes: true });
  const files = entries
    .filter((entry) => entry.isFile() && TYPES[extname(entry.name)])
    .map((entry) => join(entry.parentPath, entry.name));
  const paths = files.map((file) => [`/studio/${file.slice(studio.length + 1)}`, file]);
  return new Map([["/watch", join(studio, "watch.html")], ...paths]);
}

/** The page may run and show what lies here, and talk to the one edge that it is for. */
function policy(edge) {
  return [
    "default-src 'none'",
    "script-src 'self'",
    "worker-src 'self'",
    "style-src 'self'",
    `img-src 'self' blob: ${edge}`,
    `connect-src 'self' ${edge}`,
    // hls.js gives its tracks of captions an empty file, `data:,WEBVTT`.
    `media-src blob: data: ${edge}`,
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join("; ");
}
