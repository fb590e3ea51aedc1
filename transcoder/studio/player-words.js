// What the buttons of the player are drawn and called by.

import { drawing } from "./dom.js";

// On a grid of 24: what is drawn as a line, and what is filled.
const ICONS = {
  play: { solid: "M7 4.5v15l12.5-7.5z" },
  pause: { solid: "M6.5 5h3.5v14H6.5zM14 5h3.5v14H14z" },
  again: { line: "M4 12a8 8 0 1 0 2.6-5.9M4 3.5V8h4.5" },
  loud: {
    solid: "M3.5 9.5v5H7l4.5 4v-13L7 9.5z",
    line: "M15 9.2a4 4 0 0 1 0 5.6M17.6 6.6a7.6 7.6 0 0 1 0 10.8",
  },
  silent: { solid: "M3.5 9.5v5H7l4.5 4v-13L7 9.5z", line: "M16 9.5l5 5M21 9.5l-5 5" },
  captions: { line: "M3 6h18v12H3zM10.2 10.7a2 2 0 1 0 0 2.6M17 10.7a2 2 0 1 0 0 2.6" },
  sound: { line: "M4 14v-2a8 8 0 0 1 16 0v2M4 14h3v5H5a1 1 0 0 1-1-1zM20 14h-3v5h2a1 1 0 0 0 1-1z" },
  picture: { solid: "M12 12h7v5h-7z", line: "M3 5h18v14H3z" },
  whole: { line: "M4 9V4h5M15 4h5v5M20 15v5h-5M9 20H4v-5" },
  part: { line: "M9 4v5H4M20 9h-5V4M15 20v-5h5M4 15h5v5" },
};

/** One of the player's pictograms. */
export const icon = (name) => drawing(ICONS[name]);

/** Gives a button a name, which is its tooltip as well, a key that does the same, and a pictogram. */
export function name(button, label, { key, sign } = {}) {
  if (button.getAttribute("aria-label") === label) return;
  button.setAttribute("aria-label", label);
  button.title = key ? `${label} (${key})` : label;
  if (key) button.setAttribute("aria-keyshortcuts", key);
  if (sign) button.replaceChildren(icon(sign));
}

/** Seconds as they are said, `1 hour 2 minutes 3 seconds`: all of them, so that every step is heard. */
export function spoken(seconds) {
  const whole = Math.max(0, Math.floor(seconds || 0));
  const parts = [
    [Math.floor(whole / 3600), "hour"],
    [Math.floor(whole / 60) % 60, "minute"],
    [whole % 60, "second"],
  ].filter(([count]) => count);
  if (!parts.length) return "0 seconds";
  return parts.map(([count, unit]) => `${count} ${unit}${count === 1 ? "" : "s"}`).join(" ");
}
