// What is known of an asset, in tables and lists.

import { h } from "./dom.js";
import { bytes, isHdr, language, moment, rate, sentence, several } from "./words.js";

const CODECS = {
  avc1: "H.264",
  avc3: "H.264",
  hvc1: "HEVC",
  hev1: "HEVC",
  av01: "AV1",
  mp4a: "AAC",
  "ac-3": "Dolby Digital",
  "ec-3": "Dolby Digital Plus",
  Opus: "Opus",
  wvtt: "WebVTT",
  stpp: "TTML",
};

/** A part of a page, with a heading. */
export function panel(title, ...children) {
  const id = `panel-${title.toLowerCase()}`;
  return h("section", { class: "panel wide", "aria-labelledby": id }, h("h2", { id }, title), ...children);
}

/** A table; columns of numbers are given as `[name]`, one without a name as `""`. */
export function table(name, columns, rows) {
  const isNumber = (index) => Array.isArray(columns[index]);
  const heads = columns.map((column, index) =>
    column === ""
      ? h("td", {})
      : h(
          "th",
          { scope: "col", class: isNumber(index) ? "number" : undefined },
          isNumber(index) ? column[0] : column,
        ),
  );
  const cells = (row) =>
    row.map((cell, index) =>
      h(
        index === 0 ? "th" : "td",
        { scope: index === 0 ? "row" : undefined, class: isNumber(index) ? "number" : undefined },
        cell,
      ),
    );
  return h(
    "div",
    { class: "scroll", role: "group", tabindex: 0, "aria-label": name },
    h(
      "table",
      {},
      h("thead", {}, h("tr", {}, heads)),
      h(
        "tbody",
        {},
        rows.map((row) => h("tr", {}, cells(row))),
      ),
    ),
  );
}

/** What a player can switch between. */
export function renditions({ renditions: all }) {
  const hasQuality = all.some(({ vmaf }) => vmaf !== undefined && vmaf !== null);
  const rows = all.map((rendition) => [
    rendition.name ?? rendition.kind,
    pictureOf(rendition),
    h("span", { title: rendition.codecs }, codecsOf(rendition)),
    rate(rendition.average_bandwidth ?? 0),
    rate(rendition.peak_bandwidth),
    bytes(rendition.bytes ?? 0),
    ...(hasQuality ? [Number.isFinite(rendition.vmaf) ? rendition.vmaf.toFixed(1) : ""] : []),
  ]);
  return panel(
    "Renditions",
    h("p", { class: "quiet" }, "What a player can switch between, with bit rates as they were measured."),
    table(
      "Renditions",
      ["Name", "What it is", "Codec", ["Average"], ["Peak"], ["Size"], ...(hasQuality ? [["VMAF"]] : [])],
      rows,
    ),
  );
}

function pictureOf(rendition) {
  const { kind, width, height, frame_rate: frames, channels, language: tag } = rendition;
  const spoken = tag && tag !== "und" ? language(tag) : undefined;
  const size = width && height && `${width} × ${height}`;
  const number = Number.isFinite(frames) && `${Number(frames.toFixed(2))} a second`;
  const parts = {
    video: [size, number, isHdr(rendition) && "HDR"],
    "key-frames": ["pictures for seeking", size],
    audio: ["sound", spoken, channels && several(channels, "channel")],
    captions: ["captions", spoken],
  };
  return (parts[kind] ?? [kind]).filter(Boolean).join(", ");
}

function codecsOf({ codecs = "" }) {
  const named = codecs
    .split(",")
    .map((codec) => codec.trim())
    .filter(Boolean)
    .map((codec) => CODECS[codec.split(".")[0]] ?? codec);
  return named.join(" and ");
}

/** Where it comes from, and how it was made. */
export function details(asset) {
  const { source, container, encryption, job, versions, notes = [] } = asset;
  const picture = source?.video;
  const facts = [
    ["Source", source?.name],
    [
      "As uploaded",
      source &&
        [picture && `${picture.width} × ${picture.height} ${picture.codec}`, bytes(source.bytes ?? 0)]
          .filter(Boolean)
          .join(", "),
    ],
    ["Uploaded", asset.uploaded && moment(asset.uploaded)],
    ["Encoded", moment(asset.created)],
    ["Segments", { fmp4: "fragmented MP4 (CMAF)", ts: "MPEG transport stream" }[container] ?? container],
    ["Encrypted", encryption ? `${encryption.method}, ${several(encryption.keys, "key")}` : "no"],
    ["Playlist", h("code", {}, asset.playlist)],
    ["Job", job && h("code", {}, job)],
    ["Made by", [versions?.transcoder, versions?.encoder].filter(Boolean).join(", ")],
  ];
  return panel(
    "Details",
    h(
      "dl",
      { class: "facts" },
      facts
        .filter(([, value]) => value)
        .map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
    ),
    notes.length > 0 && h("h3", {}, "Notes of the encode"),
    notes.length > 0 &&
      h(
        "ul",
        { class: "notes" },
        notes.map((note) => h("li", {}, sentence(note))),
      ),
  );
}

/** When an encode was begun: its name begins with it. */
export function beginningOf(generation) {
  const [, ...parts] = generation.match(/^(\d{4})(\d\d)(\d\d)t(\d\d)(\d\d)(\d\d)z-/) ?? [];
  if (parts.length === 0) return undefined;
  const [year, month, day, hour, minute, second] = parts;
  return `${year}-${month}-${day}T${hour}:${minute}:${second}Z`;
}
