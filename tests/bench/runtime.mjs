//! Bare workerd, as it runs on Cloudflare: no simulator around it, whose own work would be most of what is measured.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { copyFile, mkdir, readFile, writeFile } from "node:fs/promises";
import { basename, extname, join } from "node:path";
import { createInterface } from "node:readline";

import workerd from "workerd";

import { Failure, made, root } from "../tools/project.mjs";

const BUCKET = join(import.meta.dirname, "workers/bucket.mjs");
const MODULE_TYPES = { ".js": "esModule", ".mjs": "esModule", ".wasm": "wasm" };

/** One Worker in a workerd of its own, with a bucket. */
export class Runtime {
  #process;
  port;

  /** Starts the Worker made of `modules`, its entry first, with `variables`; `folder` is for its configuration. */
  async start(folder, modules, variables = {}) {
    if (!existsSync("/proc/self/schedstat")) {
      throw new Failure("there is no /proc/self/schedstat, which CPU time is read from: measure on Linux");
    }
    await mkdir(folder, { recursive: true });
    for (const module of [...modules, BUCKET]) {
      await copyFile(made(module, "`make bench` builds it"), join(folder, basename(module)));
    }
    await writeFile(join(folder, "config.capnp"), await configuration(modules, variables));

    // What the Worker writes to its log is written, and read by nobody.
    const stdio = ["ignore", "ignore", "pipe", "pipe"];
    const child = spawn(workerd.default, ["serve", "--control-fd=3", join(folder, "config.capnp")], { stdio });
    let said = "";
    child.stderr.on("data", (text) => (said = (said + text).slice(-2000)));
    this.#process = child;
    this.port = await listening(child.stdio[3]);
    if (!this.port) {
      throw new Failure(`workerd ended before it listened: ${said.trim().replaceAll("\n", " | ")}`);
    }
  }

  /** The CPU time that it has taken, in microseconds: `utime + stime`, but not in ticks of 10 ms. */
  cpu() {
    const tasks = `/proc/${this.#process.pid}/task`;
    const nanoseconds = readdirSync(tasks).map((task) => {
      const [onCpu] = readFileSync(`${tasks}/${task}/schedstat`, "utf8").split(" ");
      return Number(onCpu);
    });
    return nanoseconds.reduce((sum, time) => sum + time) / 1000;
  }

  async stop() {
    if (!this.#process || this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const ended = once(this.#process, "exit");
    this.#process.kill("SIGTERM");
    await ended;
  }
}

/** The port that workerd chose; nothing if it ends before. */
async function listening(control) {
  for await (const line of createInterface({ input: control })) {
    const message = JSON.parse(line);
    if (message.event === "listen" && message.socket === "http") return message.port;
  }
  return undefined;
}

async function configuration(modules, variables) {
  const date = await compatibilityDate();
  const embedded = modules.map((module) => {
    const name = basename(module);
    return `(name = ${text(name)}, ${MODULE_TYPES[extname(name)]} = embed ${text(name)})`;
  });
  const bindings = Object.entries(variables).map(([name, value]) => `(name = ${text(name)}, text = ${text(value)})`);
  return `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "worker", worker = .worker), (name = "bucket", worker = .bucket)],
  sockets = [(
    name = "http", address = "127.0.0.1:0", service = "worker",
    http = (forwardedProtoHeader = "X-Forwarded-Proto"),
  )],
);
const worker :Workerd.Worker = (
  compatibilityDate = ${text(date)},
  modules = [${embedded.join(", ")}],
  bindings = [(name = "MEDIA", r2Bucket = "bucket"), ${bindings.join(", ")}],
);
const bucket :Workerd.Worker = (
  compatibilityDate = ${text(date)},
  modules = [(name = "bucket.mjs", esModule = embed "bucket.mjs")],
);
`;
}

/** A string in capnp's notation, which is C's. */
function text(value) {
  return JSON.stringify(value);
}

async function compatibilityDate() {
  const file = join(root, "wrangler.toml");
  const date = /^compatibility_date\s*=\s*"([^"]+)"/m.exec(await readFile(file, "utf8"))?.[1];
  if (!date) throw new Failure(`${file} has no compatibility_date`);
  return date;
}
