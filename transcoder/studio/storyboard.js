// Which picture belongs to which second: WebVTT whose cues name a part of a sheet,
// `storyboard-1.jpg#xywh=0,0,160,90`. The edge has signed the links, so they are asked for as they are.

import { parsed } from "./signed-url.js";

/** The cues of a storyboard that lies at `base`, in order. What leads to another origin is left out. */
export function parse(text, base) {
  const lines = text.split(/\r\n|\n|\r/);
  const { origin } = new URL(base);
  return lines.flatMap((line, index) => {
    const [start, end] = line.includes("-->") ? line.split("-->").map(seconds) : [];
    const url = end > start ? parsed((lines[index + 1] ?? "").trim(), base) : undefined;
    const [, ...part] = /^#xywh=(?:pixel:)?(\d+),(\d+),(\d+),(\d+)$/.exec(url?.hash ?? "") ?? [];
    if (part.length !== 4 || !url.protocol.startsWith("http") || url.origin !== origin) return [];
    const [x, y, width, height] = part.map(Number);
    url.hash = "";
    return [{ start, end, url: url.href, x, y, width, height }];
  });
}

/** The cue at a time; between two the one before. */
export function cueAt(cues, time) {
  return cues.findLast(({ start }) => start <= time) ?? cues[0];
}

/** Fetches a storyboard. There is none where it cannot be had: nobody needs it to watch. */
export async function load(url) {
  const answer = await fetch(url, { credentials: "omit" }).catch(() => undefined);
  return answer?.ok ? parse(await answer.text(), answer.url || url) : [];
}

// `01:02:03.400`, or without the hours. What follows the end are settings.
function seconds(time) {
  const [, hours = 0, minutes, rest] = /^(?:(\d+):)?(\d+):(\d+(?:\.\d+)?)/.exec(time.trim()) ?? [];
  return Number(hours) * 3600 + Number(minutes) * 60 + Number(rest);
}
