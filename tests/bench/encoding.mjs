//! What the transcoder costs beside the bare ffmpeg command that it runs: packaging, key frames, poster, storyboard,
//! checks and hashes are on top of that. And how much memory it takes itself, whatever the length.

import { execFile, spawn } from "node:child_process";
import { mkdtemp, readFile, readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

import { Failure, root } from "../tools/project.mjs";
import { median, ratio, round, say, table } from "./figures.mjs";

const run = promisify(execFile);

const transcoder = join(root, "target/release/transcoder");

/** Of each source; `CLIP_SECONDS=60` for figures that are to be written down. */
const SECONDS = Number(process.env.CLIP_SECONDS ?? 20);
const PAIRS = Number(process.env.PAIRS ?? 2);

/** 1080p30: flat areas that hardly move, and a fractal under noise. */
const SOURCES = {
  easy: ["-f", "lavfi", "-i", "testsrc2=s=1920x1080:r=30"],
  hard: ["-f", "lavfi", "-i", "mandelbrot=s=1920x1080:r=30,noise=alls=20:allf=t"],
};
const SOUND = ["-f", "lavfi", "-i", "sine=440:r=48000"];
const MEZZANINE = ["-c:v", "libx264", "-preset", "ultrafast", "-crf", "18", "-pix_fmt", "yuv420p", "-c:a", "aac"];

export async function encoding({ folder }) {
  const rows = [];
  const sizes = [];
  for (const [name, source] of Object.entries(SOURCES)) {
    const clip = join(folder, `${name}.mp4`);
    await run("ffmpeg", ["-v", "error", ...source, ...SOUND, "-t", SECONDS, ...MEZZANINE, clip].map(String));
    const command = await commandOf(clip);
    const pairs = [];
    for (let i = 0; i < PAIRS; i++) {
      // Who comes second finds the source in memory, so they take turns at that too.
      const both = [() => bare(command, folder), () => ours(clip, folder)];
      const [first, second] = i % 2 ? both.reverse() : both;
      const one = await first();
      const other = await second();
      pairs.push(i % 2 ? [other, one] : [one, other]);
    }
    const figures = (of) => [0, 1].map((who) => pairs.map((pair) => of(pair[who])));
    const compared = (of) => {
      const [bare, ours] = figures(of);
      return [`${median(bare).toFixed(1)} s`, `${median(ours).toFixed(1)} s`, ratio(ours, bare).toFixed(3)];
    };
    const memory = Math.max(...figures((spent) => spent.memory)[1]);
    rows.push([name, ...compared((spent) => spent.cpu), ...compared((spent) => spent.wall), `${round(memory)} MiB`]);
    sizes.push(`${name}: ${pairs[0][1].sizes}`);
  }
  say(`The transcoder beside its own ffmpeg command, ${SECONDS} s of 1080p30, ${PAIRS} pairs:`);
  table(["CPU, bare", "ours", "ratio", "time, bare", "ours", "ratio", "our memory"], rows);
  say(`KB: ${sizes.join("; ")}`);
}

/** The command that the transcoder would run, for a shell in the folder of the clip. */
async function commandOf(clip) {
  const { stdout } = await run(transcoder, ["encode", clip, "--dry-run"]);
  const command = stdout.split("\n").find((line) => line.startsWith("ffmpeg "));
  if (!command) throw new Failure(`no command in what --dry-run says:\n${stdout}`);
  return command;
}

/** In a folder of its own, with a link to the clip. */
async function bare(command, folder) {
  const here = await mkdtemp(join(folder, "bare-"));
  const links = (await readdir(folder)).filter((name) => name.endsWith(".mp4"));
  await run("ln", ["-s", ...links.map((name) => join(folder, name)), here]);
  const spent = await measured("sh", ["-c", command], here);
  await rm(here, { recursive: true });
  return spent;
}

async function ours(clip, folder) {
  const to = await mkdtemp(join(folder, "ours-"));
  const spent = await measured(transcoder, ["encode", clip, "--to", to, "--asset", "a"], folder);
  const asset = JSON.parse(await readFile(join(to, "assets/a/asset.json"), "utf8"));
  spent.sizes = asset.renditions.map(({ name, bytes }) => `${name} ${round(bytes / 1000)}`).join(", ");
  await rm(to, { recursive: true });
  return spent;
}

/** CPU seconds of a command and all that it starts, by the kernel's account of it; its own peak memory beside. */
async function measured(program, words, cwd) {
  const before = await childTime();
  const begun = performance.now();
  const child = spawn(program, words, { cwd, stdio: ["ignore", "ignore", "ignore"] });
  let memory = 0;
  const watching = setInterval(async () => {
    const status = await readFile(`/proc/${child.pid}/status`, "utf8").catch(() => "");
    memory = Math.max(memory, Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024);
  }, 50);
  const code = await new Promise((resolve, reject) => child.once("exit", resolve).once("error", reject));
  clearInterval(watching);
  if (code !== 0) throw new Failure(`${program} ${words.join(" ")}: exit status ${code}`);
  return { cpu: (await childTime()) - before, wall: (performance.now() - begun) / 1000, memory };
}

/** CPU seconds of this process' children that have ended (proc(5): cutime and cstime, in hundredths). */
async function childTime() {
  const fields = (await readFile("/proc/self/stat", "utf8")).split(") ")[1].split(" ");
  return (Number(fields[13]) + Number(fields[14])) / 100;
}
