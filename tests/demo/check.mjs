//! `CHECK=1`: somebody looks at it all, and what they see is printed as findings.

import { launch, watch } from "../tools/browser.mjs";
import { INSTALL_FFMPEG } from "./clip.mjs";
import { say } from "./print.mjs";
import { words } from "./processes.mjs";

// A film is not watched to its end to check that it plays: a start, a middle and an end of it are.
const CHECKED_SECONDS = 90;
const PATIENCE_MILLISECONDS = 30_000;

/** Opens the studio, plays with two players, presses the buttons, prints what there was to see: the exit status. */
export async function check(processes, { studio, asset, page, signedUrl }) {
  say("");
  const library = await lookAtLibrary(studio, asset);
  const seen = await watch({ page, longest: CHECKED_SECONDS });
  const { requests, attempts, segments, frames } = seen;
  const sizes = seen.levels.map(({ height }) => (height ? `${height}p` : "sound")).join(", ");
  const pictures = `${frames.shown} frames (${frames.dropped} dropped), ${seen.picture} at the end, of ${sizes}`;
  const bare = attempts.bare ?? { status: "no answer", says: "" };
  const byFfmpeg = await playWithFfmpeg(processes, signedUrl, seen.duration);
  const unsigned = requests.filter(({ signed }) => !signed).length;

  const findings = [
    finding("the studio", library.says, library.problems),
    finding(
      `${seen.player} in ${seen.browser}, from another origin`,
      `${seen.played} of ${seen.duration} s, ${segments} segments, ${pictures}`,
      seen.problems,
    ),
    finding(
      "every request of the player",
      `${requests.length} requests, ${requests.length - unsigned} with the viewer's authority`,
      unsigned ? [`${unsigned} without`] : [],
    ),
    finding("ffmpeg", `${byFfmpeg.played.toFixed(2)} of ${seen.duration} s decoded`, byFfmpeg.problems),
    finding(
      "the page's button without signature",
      `${bare.status} ${bare.says}`,
      bare.status === 403 ? [] : ["that is not 403"],
    ),
    finding(
      "another asset, an altered policy",
      `${attempts.elsewhere?.status}, ${attempts.altered?.status}`,
      attempts.elsewhere?.status === 403 && attempts.altered?.status === 403 ? [] : ["these are not 403"],
    ),
  ];
  findings.forEach(({ text }) => say(text));
  return findings.every(({ passed }) => passed) ? 0 : 1;
}

function finding(what, figures, problems) {
  const passed = problems.length === 0;
  const text = `${passed ? "ok    " : "FAILED"}  ${what}: ${figures}${passed ? "" : `. ${problems.join("; ")}`}`;
  return { passed, text };
}

/** Opens the studio as whoever reads its address does, and looks for the asset. */
async function lookAtLibrary(studio, asset) {
  const browser = await launch();
  try {
    const page = await browser.newPage();
    const problems = [];
    page.on("pageerror", ({ message }) => problems.push(`page: ${message}`));
    page.on("console", (message) => {
      if (message.type() === "error") problems.push(`console: ${message.text()}`);
    });
    await page.goto(studio);
    const link = page.getByRole("link", { name: asset }).first();
    const isListed = await link.waitFor({ timeout: PATIENCE_MILLISECONDS }).then(
      () => true,
      () => false,
    );
    if (!isListed) problems.push(`it does not show ${asset} within ${PATIENCE_MILLISECONDS / 1000} s`);
    return { says: `it opens${isListed ? ` and shows ${asset}` : ""}`, problems };
  } finally {
    await browser.close();
  }
}

/**
 * Decodes the beginning, or all where that is not long. Not an end, too: ffmpeg 5.1 cannot seek in fragmented MP4
 * over HLS, whoever made it.
 */
async function playWithFfmpeg(processes, signedUrl, duration) {
  const wanted = Math.min(duration, CHECKED_SECONDS);
  const commandLine = words`-v error -nostdin -progress pipe:1 -t ${wanted} -i ${signedUrl} -f null -`;
  const { output, complaints } = await processes
    .run("ffmpeg", commandLine, { hint: INSTALL_FFMPEG, quiet: true })
    .catch((error) => ({ output: "", complaints: error.message }));
  const played = Number([...output.matchAll(/^out_time_us=(\d+)/gm)].at(-1)?.[1] ?? 0) / 1e6;
  const problems = complaints ? [complaints.split("\n").at(-1).replaceAll(signedUrl, "the signed URL")] : [];
  // Sound and picture seldom end on the same sample, and what is asked for ends between two.
  if (played < wanted - 1) problems.push(`${wanted.toFixed(2)} s were to be had`);
  return { played, problems };
}
