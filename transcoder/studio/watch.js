// The page for whoever was given a link: it plays, and shows what the link says.
//
// The signed URL comes in the fragment, which is sent to nobody and logged nowhere. What is said about it
// comes in the query: a title, and where storyboard and poster lie, relative to the playlist.
// `?player=native` asks for the browser's own player.

import { createGate } from "./gate.js";
import { createPlayer } from "./player.js";
import { beside, parsed } from "./signed-url.js";

const TITLE_LENGTH = 200;
const element = (id) => document.getElementById(id);

addEventListener("hashchange", () => location.reload());
const url = location.hash.slice(1);
const wanted = new URLSearchParams(location.search);
const problem = wrong(url);
if (problem) {
  element("missing").textContent = problem;
  element("missing").hidden = false;
} else {
  const title = wanted.get("title")?.trim().slice(0, TITLE_LENGTH);
  if (title) {
    element("title").textContent = title;
    document.title = `${title}: Reelgate`;
  }
  const screen = element("screen");
  screen.hidden = false;
  const holder = document.createElement("div");
  screen.prepend(holder);
  createPlayer(holder, {
    url,
    title,
    storyboard: companion("storyboard"),
    poster: companion("poster"),
    native: wanted.get("player") === "native",
    told: tell,
  });
  createGate(element("gate"), { url });
}

/** What is wrong with what should be a signed URL, if anything is. */
function wrong(address) {
  if (!address) {
    return "There is nothing to watch in this address: a link to a video ends in # and a signed URL.";
  }
  const { protocol } = parsed(address) ?? {};
  if (!["http:", "https:"].includes(protocol)) {
    return "What follows the # in this address is no URL: was the link cut when it was copied?";
  }
  return undefined;
}

function companion(name) {
  const path = wanted.get(name);
  return path ? beside(url, path) : undefined;
}

function tell({ player, picture, rate, segments, bytes }) {
  const isNative = player === "native";
  element("player").textContent = isNative ? "the browser's own" : player;
  element("picture").textContent = picture ?? "waiting";
  element("rate").textContent = isNative ? "not told" : (rate ?? "waiting");
  element("fetched").textContent = isNative
    ? "not told"
    : `${segments} segments, ${(bytes / 1e6).toFixed(1)} MB`;
}
