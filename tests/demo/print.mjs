//! What the demo prints: a line for each step of the way, with what came of it and how long it took.

import { relative } from "node:path";

import { root } from "../tools/project.mjs";

/** Prints a line. */
export const say = (text) => process.stdout.write(`${text}\n`);

/** A line of the account. */
export const line = (step, what, when) => `${step.padEnd(10)}  ${what} (${when})`;

/** A path as one would type it from the project's folder. */
export const shortened = (path) => (path.startsWith(root) ? relative(root, path) : path);

/** Does a step of the way and prints what came of it and how long it took. */
export async function timed(step, work, describe) {
  const start = performance.now();
  const result = await work();
  say(line(step, describe(result), `${((performance.now() - start) / 1000).toFixed(1)} s`));
  return result;
}

/** Shows on a terminal how something goes on, in one line that the next one takes the place of. */
export function show(text) {
  if (process.stdout.isTTY) process.stdout.write(`\r\x1b[K${text}`);
}
