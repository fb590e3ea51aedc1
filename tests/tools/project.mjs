//! Where things lie in the project, and how a tool here gives up: with one line that says what to do.

import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

const [major, minor] = process.versions.node.split(".").map(Number);
if (major < 22 || (major === 22 && minor < 12)) {
  console.error(
    `error: this is Node ${process.versions.node}, and wrangler needs 22.12: \`make setup\` brings one`,
  );
  process.exit(1);
}

/** The project's own folder. */
export const root = fileURLToPath(new URL("../../", import.meta.url)).replace(/\/$/, "");

/** What went wrong and what to do about it, in one line; anything else that is thrown is a defect of ours. */
export class Failure extends Error {}

/** `path` of something that an earlier step made; `otherwise` says how to make it. */
export function made(path, otherwise) {
  if (!existsSync(path)) throw new Failure(`${path} is missing: ${otherwise}`);
  return path;
}

/** The JSON in a file. */
export async function json(file) {
  const text = await readFile(file, "utf8");
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Failure(`${file} is not JSON: ${error.message.replaceAll("\n", " ")}`);
  }
}

/** Prints a failure as its one line, a defect with its stack, and returns the exit status for both. */
export function report(error) {
  // What the system refuses (no such file, no permission) names the file and is clear in one line as well.
  const isPlain = error instanceof Failure || error.syscall !== undefined;
  console.error(isPlain ? `error: ${error.message}` : error);
  return 1;
}
