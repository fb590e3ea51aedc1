//! The clip that the demo brings: one sees at a glance that it plays, and where.

import { existsSync } from "node:fs";
import { rename } from "node:fs/promises";
import { join } from "node:path";

import { words } from "./processes.mjs";
import { shortened, timed } from "./print.mjs";

/** What to do about a missing ffmpeg. */
export const INSTALL_FFMPEG = "install it with `apt-get install ffmpeg` or `brew install ffmpeg`";
// Thirty seconds of 1080p take two cores less than half a minute to encode.
const CLIP_SECONDS = 30;

/** Makes it in `folder`, once: a clock, colours that drift, a ping each second. Returns the file. */
export async function clip(processes, folder) {
  const file = join(folder, "clip.mp4");
  if (existsSync(file)) return file;
  const colours =
    "nb_colors=4:c0=0x0b1d3a:c1=0x1f6f8b:c2=0xf29e4c:c3=0xd1495b:x0=25:y0=12:x1=215:y1=125:speed=0.008";
  const ping = (hertz, hum) => `0.25*sin(2*PI*${hertz}*t)*exp(-9*mod(t\\,1))+0.04*sin(2*PI*${hum}*t)`;
  // Drifting colours are slow to compute and smooth to enlarge.
  const sources = [
    `gradients=size=240x136:rate=30:${colours}`,
    "testsrc2=size=480x270:rate=30",
    `aevalsrc=exprs=${ping(523.25, 130.81)}|${ping(659.25, 196)}:sample_rate=48000`,
  ];
  const picture = [
    "[0:v]scale=1920:1080:flags=bicubic,setsar=1[colours]",
    "[1:v]scale=960:540:flags=neighbor,pad=iw+12:ih+12:6:6:white[card]",
    "[colours][card]overlay=(W-w)/2:(H-h)/2,format=yuv420p[picture]",
  ].join(";");
  const unfinished = join(folder, "unfinished.mp4");
  const commandLine = words`-hide_banner -loglevel error -nostdin -y
    -f lavfi -i ${sources[0]} -f lavfi -i ${sources[1]} -f lavfi -i ${sources[2]}
    -filter_complex ${picture} -map [picture] -map 2:a -t ${CLIP_SECONDS}
    -c:v libx264 -preset ultrafast -crf 18 -g 60 -c:a aac -b:a 128k -movflags +faststart ${unfinished}`;
  await timed(
    "clip",
    async () => {
      await processes.run("ffmpeg", commandLine, { hint: INSTALL_FFMPEG });
      await rename(unfinished, file);
    },
    () => shortened(file),
  );
  return file;
}
