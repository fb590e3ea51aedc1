// A signed URL in a video element: with hls.js, or with the browser's own player. Both offer the same
// choices.

import Hls from "./vendor/hls.min.mjs";
import { rate } from "./words.js";

// A worker from a file of this server, so that the page's policy need not allow blobs to run.
const WORKER = new URL("vendor/hls.worker.js", import.meta.url).href;
// Seconds. Whoever leaves has not paid for more than that; hls.js would fetch minutes of a small stream.
const AHEAD = 60;
const BEHIND = 60;
const HLS = "application/vnd.apple.mpegurl";

/** The id of the choice to leave it to the player, and of the one to have none. */
export const AUTOMATIC = -1;

/**
 * Opens `url` in `video`, at `from` seconds. `changed` is called when there are other choices, `fetched` with
 * each segment's bytes, `noted` with every error and `failed` with the one that ends it.
 *
 * It returns the `player`'s name, `choices(what)` as `{list: [{id, label}], chosen}` for `quality`,
 * `captions` and `audio`, `choose(what, id)`, `levels()` and `close()`; or nothing, where this browser has no
 * player for HLS.
 */
export function openStream(video, url, { native, ...rest }) {
  const own = video.canPlayType(HLS) !== "";
  if (Hls.isSupported() && !native) return withHls(video, url, rest);
  return own ? natively(video, url, rest) : undefined;
}

function withHls(video, url, { from, changed, fetched, noted, failed }) {
  const hls = new Hls({
    workerPath: WORKER,
    startPosition: from ?? -1,
    maxMaxBufferLength: AHEAD,
    backBufferLength: BEHIND,
  });
  let recovered = false;
  const { Events } = Hls;
  const telling = [
    Events.MANIFEST_PARSED,
    Events.LEVELS_UPDATED,
    Events.LEVEL_SWITCHED,
    Events.SUBTITLE_TRACKS_UPDATED,
    Events.SUBTITLE_TRACK_SWITCH,
    Events.AUDIO_TRACKS_UPDATED,
    Events.AUDIO_TRACK_SWITCHED,
  ];
  for (const event of telling) hls.on(event, () => changed());
  hls.on(Events.FRAG_LOADED, (_, { frag }) => fetched(frag.stats.loaded));
  hls.on(Events.ERROR, (_, { type, details, fatal, response, error, bufferInfo }) => {
    const status = response?.code || undefined;
    noted({ type, details, fatal, status, message: error?.message, ahead: bufferInfo?.len });
    if (!fatal) return;
    const isMedia = type === Hls.ErrorTypes.MEDIA_ERROR;
    if (isMedia && !recovered) {
      recovered = true;
      hls.recoverMediaError();
      return;
    }
    // What is there already may still be watched.
    hls.stopLoad();
    failed({ kind: type === Hls.ErrorTypes.NETWORK_ERROR ? "network" : "media", status, details });
  });
  hls.loadSource(url);
  hls.attachMedia(video);

  const choices = {
    quality: () => {
      const playing = hls.levels[hls.currentLevel];
      const automatic = playing ? `Automatic (${sizeOf(playing)})` : "Automatic";
      const levels = hls.levels.map((level, id) => ({
        id,
        label: sizeOf(level),
        note: rate(level.bitrate),
        level,
      }));
      levels.sort((one, other) => other.level.bitrate - one.level.bitrate);
      return {
        list: levels.length > 1 ? [{ id: AUTOMATIC, label: automatic }, ...levels] : [],
        chosen: hls.manualLevel,
        playing: playing && sizeOf(playing),
        rate: playing && rate(playing.bitrate),
      };
    },
    captions: () => ({
      list: withNone(hls.subtitleTracks.map(described)),
      chosen: hls.subtitleTrack,
    }),
    audio: () => ({
      list: hls.audioTracks.map(described),
      chosen: hls.audioTrack,
    }),
  };
  const choose = {
    quality: (id) => (hls.nextLevel = id),
    captions: (id) => (hls.subtitleTrack = id),
    audio: (id) => (hls.audioTrack = id),
  };
  return {
    player: `hls.js ${Hls.version}`,
    choices: (what) => choices[what](),
    choose: (what, id) => {
      choose[what](id);
      changed();
    },
    levels: () =>
      hls.levels.map(({ width, height, bitrate, codecs }) => ({ width, height, bitrate, codecs })),
    close: () => hls.destroy(),
  };
}

function natively(video, url, { from, changed, noted, failed }) {
  const closing = new AbortController();
  const { signal } = closing;
  const captions = () => [...video.textTracks].filter(({ kind }) => ["subtitles", "captions"].includes(kind));
  // Only Safari's elements have any.
  const audio = () => [...(video.audioTracks ?? [])];
  video.addEventListener(
    "error",
    () => {
      const { code, message } = video.error;
      noted({ type: "nativeError", details: `MediaError ${code}`, fatal: true, message });
      // It says the same of what it cannot get and of what it cannot read.
      const kind = code === MediaError.MEDIA_ERR_DECODE ? "media" : "network";
      failed({ kind, details: message || `MediaError ${code}` });
    },
    { signal },
  );
  const start = () => {
    if (from) video.currentTime = from;
    changed();
  };
  video.addEventListener("loadedmetadata", start, { signal, once: true });
  for (const list of [video.textTracks, video.audioTracks]) {
    for (const event of ["addtrack", "removetrack", "change"])
      list?.addEventListener(event, () => changed(), { signal });
  }
  video.src = url;

  const choices = {
    quality: () => ({ list: [], chosen: AUTOMATIC }),
    captions: () => ({
      list: withNone(captions().map(ofElement)),
      chosen: captions().findIndex(({ mode }) => mode === "showing"),
    }),
    audio: () => ({ list: audio().map(ofElement), chosen: audio().findIndex(({ enabled }) => enabled) }),
  };
  const choose = {
    quality: () => {},
    captions: (id) =>
      captions().forEach((track, index) => (track.mode = index === id ? "showing" : "disabled")),
    audio: (id) => audio().forEach((track, index) => (track.enabled = index === id)),
  };
  return {
    player: "native",
    choices: (what) => choices[what](),
    choose: (what, id) => {
      choose[what](id);
      changed();
    },
    levels: () => [],
    close: () => {
      closing.abort();
      video.removeAttribute("src");
      video.load();
    },
  };
}

const described = ({ name, lang }, id) => ({ id, label: name || lang || `Track ${id + 1}`, language: lang });
const ofElement = ({ label, language }, id) => described({ name: label, lang: language }, id);
const withNone = (tracks) => (tracks.length ? [{ id: AUTOMATIC, label: "Off" }, ...tracks] : []);

// By the shorter side, as pictures of 1080 × 1920 are called 1080p, too.
function sizeOf({ width, height, frameRate }) {
  if (!height) return "Sound only";
  return `${Math.min(width || height, height)}p${frameRate > 31 ? Math.round(frameRate) : ""}`;
}
