// Numbers, times and states as a person reads them.

// The page is in English; what the reader's English prefers, and the time zone, are the browser's.
const LOCALE = navigator.languages?.find((language) => language.startsWith("en")) ?? "en";

const UNITS = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"];
const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const AGES = [
  ["year", 365 * DAY],
  ["month", 30 * DAY],
  ["week", 7 * DAY],
  ["day", DAY],
  ["hour", HOUR],
  ["minute", MINUTE],
];

const moments = new Intl.DateTimeFormat(LOCALE, { dateStyle: "medium", timeStyle: "short" });
const times = new Intl.DateTimeFormat(LOCALE, { timeStyle: "short" });
const ages = new Intl.RelativeTimeFormat(LOCALE, { numeric: "auto" });
const counts = new Intl.NumberFormat(LOCALE);
const languages = new Intl.DisplayNames(LOCALE, { type: "language", fallback: "code" });
const listing = new Intl.ListFormat(LOCALE, { type: "conjunction" });

export const count = (number) => counts.format(number);

/** `3 objects`, `1 object`. */
export const several = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

/** `1.2 GB`: in thousands, as the service's own settings are. */
export function bytes(number) {
  let [value, unit] = [number, 0];
  while (value >= 999.5 && unit < UNITS.length - 1) [value, unit] = [value / 1000, unit + 1];
  const digits = unit > 0 && value < 99.5 ? 1 : 0;
  return new Intl.NumberFormat(LOCALE, {
    style: "unit",
    unit: UNITS[unit],
    unitDisplay: unit ? "short" : "long",
    maximumFractionDigits: digits,
  }).format(value);
}

/** `4.2 Mbit/s`. */
export function rate(bitsPerSecond) {
  const mega = bitsPerSecond / 1e6;
  if (mega < 0.9995) return `${count(Math.round(bitsPerSecond / 1000))} kbit/s`;
  return `${new Intl.NumberFormat(LOCALE, { maximumFractionDigits: mega < 10 ? 2 : 1 }).format(mega)} Mbit/s`;
}

/** `1:02:03`, as players write playing time. */
export function clock(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const [hours, minutes, rest] = [Math.floor(whole / HOUR), Math.floor(whole / MINUTE) % 60, whole % 60];
  const two = (number) => String(number).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

/** `2 hours 5 minutes`: the two largest units are all that anybody wants to know. */
export function span(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const parts = [
    [Math.floor(whole / DAY), "day"],
    [Math.floor(whole / HOUR) % 24, "hour"],
    [Math.floor(whole / MINUTE) % 60, "minute"],
    [whole % MINUTE, "second"],
  ];
  const first = parts.findIndex(([number]) => number > 0);
  if (first < 0) return "0 seconds";
  return parts
    .slice(first, first + 2)
    .filter(([number]) => number > 0)
    .map(([number, unit]) => several(number, unit))
    .join(" ");
}

/** What is left of something, no more exactly than it is known. */
export function left(seconds) {
  if (seconds < 5) return "a few seconds left";
  if (seconds < 50) return `${Math.ceil(seconds / 5) * 5} seconds left`;
  if (seconds < 90 * MINUTE) return `${several(Math.max(1, Math.round(seconds / MINUTE)), "minute")} left`;
  return `${several(Math.round(seconds / HOUR), "hour")} left`;
}

/** `3 days ago`. */
export function age(moment, now = Date.now()) {
  const seconds = (Date.parse(moment) - now) / 1000;
  const [unit, length] = AGES.find(([, length]) => Math.abs(seconds) >= length) ?? [];
  return unit ? ages.format(Math.trunc(seconds / length), unit) : "just now";
}

/** `5 May 2027, 14:00`, and only the time where it is today. */
export function moment(text) {
  const date = new Date(text);
  const isToday = date.toDateString() === new Date().toDateString();
  return isToday ? `today, ${times.format(date)}` : moments.format(date);
}

/** `English`, for `en`. */
export function language(tag) {
  try {
    return languages.of(tag) ?? tag;
  } catch {
    return tag;
  }
}

export const together = (parts) => listing.format(parts);

/** Words of the service, which begin small and end without a stop, as a sentence. */
export function sentence(words) {
  const text = words.trim();
  if (!text) return "";
  // What begins with a file's name or an option's is left as it is.
  const begun = /^[a-z]+(?![\w.:`/-])/.test(text) ? text.charAt(0).toUpperCase() + text.slice(1) : text;
  return /[.!?…]$/.test(begun) ? begun : `${begun}.`;
}

/** What is to be known of an asset at a glance, whether from the list or from all that is said of it. */
export function summary(asset) {
  const videos = asset.renditions.filter(({ kind }) => kind === "video");
  const heights = videos.map(({ width, height }) => Math.min(width ?? height, height)).filter(Boolean);
  const spoken = (kind) => [
    ...new Set(
      asset.renditions
        .filter((rendition) => rendition.kind === kind && rendition.language && rendition.language !== "und")
        .map((rendition) => language(rendition.language)),
    ),
  ];
  return {
    name: asset.asset,
    generation: asset.generation,
    created: asset.created,
    duration: asset.duration,
    hasPoster: Boolean(asset.poster),
    bytes: asset.bytes ?? asset.objects?.bytes ?? 0,
    isEncrypted: Boolean(asset.encrypted ?? asset.encryption),
    isHdr: videos.some(isHdr),
    sizes: [...new Set(heights)].sort((a, b) => b - a).map((height) => `${height}p`),
    sound: spoken("audio"),
    captions: spoken("captions"),
  };
}

/** Whether it is HDR10: the packager says so in a rendition's name. */
export const isHdr = ({ name = "" }) => /-hdr\b/.test(name);

/** What the states of a job are called. */
export const STATES = {
  queued: "Waiting for its turn",
  probing: "Inspecting the file",
  encoding: "Encoding",
  publishing: "Publishing",
  done: "Done",
  failed: "Failed",
  cancelled: "Cancelled",
};
