//! Runs the built Worker under workerd, for tests: `node tests/tools/worker.mjs <folder of objects> <vars.json> [record]`
//!
//! With `record` every answer says what the Worker did to make it (recorder.js).
//! Prints one line, `{"url":"http://127.0.0.1:PORT"}`, once it answers. Its logs go to stderr. It ends when its
//! stdin closes, so that a test that is killed leaves nothing behind. Do end it so: SIGKILL orphans workerd.
//!
//! What is in front of the Worker here does as Cloudflare does: the Worker sees `Accept-Encoding: br, gzip` whatever
//! was sent, and in `request.cf.clientAcceptEncoding` what was, empty for nothing; text is compressed on its way out,
//! or decompressed, as the client wants it. To one that sent no `Accept-Encoding` everything goes as the Worker made it.
//! A client's own `Host`, `CF-Connecting-IP` and `X-Forwarded-Proto` decide the URL and the address that the Worker sees.
//!
//! One variable is not for the Worker: all that it asks the network for goes to the server OUTBOUND, whatever host it is for.

import { readFile, readdir } from "node:fs/promises";
import { request as send } from "node:http";
import { extname, join } from "node:path";

import { Log, LogLevel, Miniflare, convertV4MiniflareOptions } from "miniflare";

import { fill, statedMetadata } from "./bucket.mjs";
import { Failure, json, made, report, root } from "./project.mjs";

const BUCKET = "MEDIA";
const ENTRY = "index.js";
const RECORDER = "recorder.js";
/** `(module (func (export "trap") unreachable))` */
const TRAP = Buffer.from("AGFzbQEAAAABBAFgAAADAgEABwgBBHRyYXAAAAoFAQMAAAs=", "base64");
const MODULE_TYPES = { ".js": "ESModule", ".wasm": "CompiledWasm" };
const build = join(root, "edge/build");

async function main() {
  const [folder, varsFile, record, ...rest] = process.argv.slice(2);
  if (!varsFile || ![undefined, "record"].includes(record) || rest.length) {
    throw new Failure("usage: worker.mjs <folder of objects> <vars.json> [record]");
  }

  const closed = new Promise((resolve) => {
    process.stdin.resume().once("end", resolve).once("error", resolve);
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.once(signal, resolve);
  });
  const miniflare = await start(await varsIn(varsFile), await compatibility(), await modules(record));
  try {
    const url = await miniflare.ready;
    await fill(await miniflare.getR2Bucket(BUCKET), folder, await statedMetadata(folder));
    process.stdout.write(`${JSON.stringify({ url: url.origin })}\n`);
    await closed;
  } finally {
    await miniflare.dispose();
    // Else it would be waited for after a failure.
    process.stdin.destroy();
  }
}

async function start({ OUTBOUND, ...vars }, compatibility, modules) {
  class ToStderr extends Log {
    log(message) {
      process.stderr.write(`${message}\n`);
    }
  }
  return new Miniflare(
    convertV4MiniflareOptions({
      host: "127.0.0.1",
      port: 0,
      cf: false,
      log: new ToStderr(LogLevel.WARN),
      handleStructuredLogs: ({ level, message }) => process.stderr.write(`${level}: ${message}\n`),
      workers: [
        {
          name: "edge",
          modulesRoot: build,
          modules,
          ...compatibility,
          r2Buckets: [BUCKET],
          bindings: vars,
          ...(OUTBOUND && { outboundService: { node: to(OUTBOUND) } }),
        },
      ],
    }),
  );
}

/** Passes requests on to a server, which learns from `Host` whom they are for: there is no name that is resolved. */
function to(server) {
  return (request, response) => {
    const { method, url, headers } = request;
    const asked = send(new URL(server), { method, path: url, headers }, (answer) => {
      response.writeHead(answer.statusCode, answer.rawHeaders);
      answer.pipe(response);
    });
    asked.on("error", () => response.destroy());
    request.pipe(asked);
  };
}

/** All that was built, its entry first: miniflare's own search for imports misses the wasm. */
async function modules(record) {
  made(join(build, ENTRY), "build the Worker with `make worker`");
  const others = (await readdir(build)).filter((name) => name !== ENTRY && MODULE_TYPES[extname(name)]);
  const built = [ENTRY, ...others].map((name) => ({ type: MODULE_TYPES[extname(name)], path: join(build, name) }));
  if (!record) return built;
  const contents = await readFile(join(root, "tests/tools", RECORDER), "utf8");
  return [
    { type: "ESModule", path: join(build, RECORDER), contents },
    { type: "CompiledWasm", path: join(build, "trap.wasm"), contents: TRAP },
    ...built,
  ];
}

async function varsIn(file) {
  const vars = await json(file);
  for (const [name, value] of Object.entries(vars)) {
    // On Cloudflare a variable may be any JSON. Ours are text, and a test that hands over anything else is mistaken.
    if (typeof value !== "string") throw new Failure(`${file}: ${name} is not a string`);
  }
  return vars;
}

/** What decides how workerd behaves, as wrangler.toml has it. Not through wrangler, which takes a second to load. */
async function compatibility() {
  const file = made(join(root, "wrangler.toml"), "tests run the Worker as it is deployed");
  const settings = (await readFile(file, "utf8")).split(/^\[/m)[0];
  const date = /^compatibility_date\s*=\s*"([^"]+)"/m.exec(settings)?.[1];
  if (!date) throw new Failure(`${file} has no compatibility_date before its first table`);
  const flags = /^compatibility_flags\s*=\s*\[([^\]]*)\]/m.exec(settings)?.[1] ?? "";
  return {
    compatibilityDate: date,
    compatibilityFlags: [...flags.matchAll(/"([^"]+)"/g)].map(([, flag]) => flag),
  };
}

process.exitCode = await main().then(() => 0, report);
