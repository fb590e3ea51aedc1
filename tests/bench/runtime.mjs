//! Bare workerd, as it runs on Cloudflare: no simulator around it, whose own work would be most of what is measured.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { copyFile, mkdir, readFile, writeFile } from "node:fs/promises";
import { basename, extname, join } from "node:path";
import { createInterface } from "node:readline";

import workerd from "workerd";

import { Failure, made, root } from "../tools/project.mjs";
import { ask } from "./load.mjs";

const BUCKET = join(import.meta.dirname, "workers/bucket.mjs");
const MODULE_TYPES = { ".js": "esModule", ".mjs": "esModule", ".wasm": "wasm" };

/** A Worker in Rust, as `.ci/build-worker` left it in a folder. */
export function built(folder) {
  return ["index.js", "index_bg.wasm"].map((file) => join(root, folder, file));
}

/** A module of a Worker in JavaScript. */
export function written(file) {
  return join(import.meta.dirname, "workers", file);
}

/** The gate, with what its bucket has; without `objects` that is one of 1 KB under every key. */
export function gate(variables, objects) {
  // Bare workerd has no cache, and its rivals would have none.
  const uncached = { SEGMENT_CACHE_SECONDS: "0", PLAYLIST_CACHE_SECONDS: "0" };
  return { modules: built("edge/build"), variables: { ...uncached, ...variables }, objects };
}

/** What does nothing but hand on what the bucket has, in Rust. */
export function bare(objects) {
  return { modules: built("target/bench/hello"), objects };
}

/** The same in JavaScript. */
export function bareInJs(objects) {
  return { modules: [written("hello.mjs")], objects };
}

/** The gate in JavaScript. */
export function rival(variables, objects) {
  return { modules: [written("rival.mjs"), written("signing.mjs")], variables, objects };
}

/** One Worker in a workerd of its own, with a bucket. */
export class Runtime {
  #process;
  port;
  /** Where it can be asked about its Workers (inspector.mjs), if that was wanted. */
  inspectorPort;
  /** When its process was started, and when it said that it listens: `performance.now()`. */
  spawned;
  listened;

  /** Starts the Worker made of `modules`, its entry first; `folder` is for its configuration. */
  async start(folder, { modules, variables = {}, objects = {} }, inspected = false) {
    if (!existsSync("/proc/self/schedstat")) {
      throw new Failure("there is no /proc/self/schedstat, which CPU time is read from: measure on Linux");
    }
    await mkdir(folder, { recursive: true });
    for (const module of [...modules, BUCKET]) {
      await copyFile(made(module, "`make bench` builds it"), join(folder, basename(module)));
    }
    const bodies = Object.values(objects);
    await Promise.all(bodies.map((body, i) => writeFile(join(folder, `object-${i}`), body)));
    const configured = await configuration(modules, variables, Object.keys(objects));
    await writeFile(join(folder, "config.capnp"), configured);

    // What the Worker writes to its log is written, and read by nobody.
    const stdio = ["ignore", "ignore", "pipe", "pipe"];
    this.spawned = performance.now();
    const options = ["--control-fd=3", ...(inspected ? ["--inspector-addr=127.0.0.1:0"] : [])];
    const child = spawn(workerd.default, ["serve", ...options, join(folder, "config.capnp")], { stdio });
    let said = "";
    child.stderr.on("data", (text) => (said = (said + text).slice(-2000)));
    this.#process = child;
    await this.#listening(child.stdio[3]);
    this.listened = performance.now();
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

  /** The CPU time that a request takes it, in microseconds, where `count` are asked as `next` says (see `ask`). */
  async cpuOf(count, next, status) {
    return (await this.costOf(count, next, status)).cpu;
  }

  /** The same, and how many requests it answers in a second, as fast as one asks. */
  async costOf(count, next, status) {
    // While others had their turns its caches went cold, the more the more of them there were.
    await ask(this.port, Math.ceil(count / 4), next, status);
    let cpu;
    let began;
    await ask(this.port, count, next, status, () => ([cpu, began] = [this.cpu(), performance.now()]));
    const seconds = (performance.now() - began) / 1000;
    return { cpu: (this.cpu() - cpu) / count, rate: count / seconds };
  }

  /**
   * How much more memory it has resident at the most while a request is answered, as `next` says, than before; in bytes.
   */
  async peakOf(next, status) {
    let before;
    await ask(this.port, 1, next, status, () => {
      // The peak is from now on.
      writeFileSync(`/proc/${this.#process.pid}/clear_refs`, "5");
      before = this.resident();
    });
    return this.#memory("VmHWM") - before;
  }

  /** How much memory it has resident, in bytes. */
  resident() {
    return this.#memory("VmRSS");
  }

  #memory(field) {
    const status = readFileSync(`/proc/${this.#process.pid}/status`, "utf8");
    return 1024 * Number(new RegExp(`^${field}:\\s*(\\d+) kB$`, "m").exec(status)[1]);
  }

  /** Reads the ports that workerd chose; there are none if it ends before. */
  async #listening(control) {
    for await (const line of createInterface({ input: control })) {
      const { event, socket, port } = JSON.parse(line);
      if (event === "listen-inspector") this.inspectorPort = port;
      if (event === "listen" && socket === "http") {
        this.port = port;
        return;
      }
    }
  }

  async stop() {
    if (!this.#process || this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const ended = once(this.#process, "exit");
    this.#process.kill("SIGTERM");
    // It waits for whoever is still connected, an inspector too.
    const patience = setTimeout(() => this.#process.kill("SIGKILL"), 2000);
    await ended;
    clearTimeout(patience);
  }
}

async function configuration(modules, variables, keys) {
  const date = await compatibilityDate();
  const embedded = modules.map((module) => {
    const name = basename(module);
    return `(name = ${text(name)}, ${MODULE_TYPES[extname(name)]} = embed ${text(name)})`;
  });
  const bindings = Object.entries(variables).map(([name, value]) => `(name = ${text(name)}, text = ${text(value)})`);
  const stored = keys.map((key, i) => `(name = ${text(key)}, data = embed "object-${i}")`);
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
  bindings = [${stored.join(", ")}],
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
