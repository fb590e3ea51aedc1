//! The programs that the demo starts, each to be stopped by its own id whatever way the demo ends.

import { spawn } from "node:child_process";

import { Failure } from "../tools/project.mjs";

const GRACE_MILLISECONDS = 5000;

/** A command line as one would type it. What is inserted stays one word, whatever it holds. */
export function words(typed, ...inserted) {
  const values = inserted.values();
  const split = typed.join("\0").split(/\s+/).filter(Boolean);
  return split.map((word) => word.replaceAll("\0", () => values.next().value));
}

/** Starts programs, and remembers which of them still run. */
export class Processes {
  #running = new Set();

  /** Runs a program to its end and returns what it printed on stdout; its stderr is shown as it comes. */
  async run(command, commandLine, { hint, quiet = false } = {}) {
    const child = this.start(command, commandLine, {
      stdio: ["ignore", "pipe", quiet ? "pipe" : "inherit"],
      hint,
    });
    let output = "";
    let complaints = "";
    child.stdout.setEncoding("utf8").on("data", (text) => (output += text));
    child.stderr?.setEncoding("utf8").on("data", (text) => (complaints += text));
    const { code, signal, error } = await child.ended;
    if (error) throw error;
    if (code !== 0) {
      const why = complaints.trim().split("\n").at(-1);
      throw new Failure(`${name(command)} ended with ${signal ?? `status ${code}`}${why ? `: ${why}` : ""}`);
    }
    return { output, complaints: complaints.trim() };
  }

  /** Starts a program. Its `ended` is a promise of how it ended. */
  start(command, commandLine, { hint, ...options }) {
    // In a group of its own, so that what it starts in turn can be stopped with it, and Ctrl-C comes to us alone.
    const child = spawn(command, commandLine, { ...options, detached: true });
    this.#running.add(child);
    child.ended = new Promise((resolve) => {
      child.once("error", (cause) => {
        const what = cause.code === "ENOENT" ? "is missing" : `cannot be started: ${cause.message}`;
        resolve({ error: new Failure(`${name(command)} ${what}${hint ? `: ${hint}` : ""}`) });
      });
      child.once("close", (code, signal) => resolve({ code, signal }));
    }).finally(() => {
      this.#running.delete(child);
      signalGroup(child, "SIGKILL");
    });
    return child;
  }

  /** Stops whatever still runs, by asking first. */
  async stopAll() {
    await Promise.all(
      [...this.#running].map(async (child) => {
        signalGroup(child, "SIGTERM");
        const insist = setTimeout(() => signalGroup(child, "SIGKILL"), GRACE_MILLISECONDS);
        await child.ended;
        clearTimeout(insist);
      }),
    );
  }
}

function signalGroup({ pid }, signal) {
  // Without a pid it never started.
  if (pid === undefined) return;
  try {
    process.kill(-pid, signal);
  } catch (error) {
    if (error.code !== "ESRCH") throw error;
  }
}

const name = (command) => command.split("/").at(-1);
