// The bar that shows how far it is, what has been fetched, and what there is to see elsewhere.

import { h } from "./dom.js";
import { spoken } from "./player-words.js";
import { cueAt, load } from "./storyboard.js";
import { clock } from "./words.js";

const PREVIEW_MILLISECONDS = 1500;

/**
 * A bar for `video`; `storyboard` is the URL of one, where there is. `held` says whether somebody is
 * dragging.
 */
export function createSeekBar(video, { storyboard, signal }) {
  const input = h("input", { type: "range", min: 0, max: 0, step: 1, "aria-label": "Seek" });
  const buffered = h("div", { class: "seek-buffered" });
  const played = h("div", { class: "seek-played" });
  const thumb = h("div", { class: "seek-thumb" });
  const image = h("img", { alt: "", draggable: "false" });
  const picture = h("div", { class: "seek-picture", hidden: true }, image);
  const time = h("span", { class: "seek-time" });
  const preview = h("div", { class: "seek-preview", hidden: true, "aria-hidden": "true" }, picture, time);
  const track = h("div", { class: "seek-track" }, buffered, played);
  const element = h("div", { class: "seek" }, track, thumb, input, preview);
  // While somebody drags, where to.
  let dragged;
  let hiding;
  // The time above which the preview is.
  let looked = 0;
  let cues;

  const length = () => (Number.isFinite(video.duration) ? video.duration : 0);
  const share = (seconds) => `${length() ? Math.min(100, (seconds / length()) * 100) : 0}%`;

  const draw = () => {
    const at = dragged ?? video.currentTime;
    element.style.setProperty("--at", share(at));
    input.max = String(length());
    input.value = String(at);
    input.disabled = !length();
    input.setAttribute("aria-valuetext", `${spoken(at)} of ${spoken(length())}`);
  };
  const drawBuffered = () => {
    const ranges = Array.from({ length: video.buffered.length }, (_, index) => [
      video.buffered.start(index),
      video.buffered.end(index),
    ]);
    while (buffered.children.length > ranges.length) buffered.lastChild.remove();
    ranges.forEach(([start, end], index) => {
      const range = buffered.children[index] ?? buffered.appendChild(h("div"));
      range.style.left = share(start);
      range.style.width = share(end - start);
    });
  };
  for (const event of ["timeupdate", "durationchange", "seeking", "seeked", "emptied"]) {
    video.addEventListener(event, draw, { signal });
  }
  for (const event of ["progress", "timeupdate", "durationchange", "seeked", "emptied"]) {
    video.addEventListener(event, drawBuffered, { signal });
  }

  const show = (seconds, { briefly = false } = {}) => {
    if (!length()) return;
    clearTimeout(hiding);
    if (briefly) hiding = setTimeout(hide, PREVIEW_MILLISECONDS);
    looked = seconds;
    element.style.setProperty("--look", share(seconds));
    preview.hidden = false;
    time.textContent = clock(Math.floor(seconds));
    drawPicture();
  };
  const hide = () => {
    clearTimeout(hiding);
    preview.hidden = true;
  };
  const drawPicture = () => {
    if (!cues) return want();
    const cue = cueAt(cues, looked);
    picture.hidden = !cue;
    if (!cue) return;
    if (image.src !== cue.url) image.src = cue.url;
    image.style.objectPosition = `-${cue.x}px -${cue.y}px`;
    image.style.width = `${cue.width}px`;
    image.style.height = `${cue.height}px`;
  };
  // Only whoever seeks needs the pictures.
  const want = async () => {
    cues = [];
    if (!storyboard) return;
    cues = await load(storyboard);
    if (!preview.hidden) drawPicture();
  };
  image.addEventListener("error", () => (picture.hidden = true));

  const at = ({ clientX }) => {
    const { left, width } = track.getBoundingClientRect();
    return Math.min(1, Math.max(0, (clientX - left) / (width || 1))) * length();
  };
  element.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !length()) return;
    event.preventDefault();
    element.setPointerCapture(event.pointerId);
    dragged = at(event);
    element.toggleAttribute("data-held", true);
    show(dragged);
    draw();
  });
  element.addEventListener("pointermove", (event) => {
    if (dragged === undefined && event.pointerType !== "mouse") return;
    if (dragged !== undefined) dragged = at(event);
    show(at(event));
    draw();
  });
  const release = (event) => {
    if (dragged === undefined) return;
    if (event.type === "pointerup") video.currentTime = dragged;
    dragged = undefined;
    element.removeAttribute("data-held");
    if (event.pointerType !== "mouse") hide();
    draw();
  };
  element.addEventListener("pointerup", release);
  element.addEventListener("pointercancel", release);
  element.addEventListener("pointerleave", () => {
    if (dragged === undefined) hide();
  });
  // Keys come to the controls, which know them all; this is for whatever assists somebody.
  input.addEventListener("input", () => {
    video.currentTime = Number(input.value);
    show(video.currentTime, { briefly: true });
  });
  input.addEventListener("blur", hide);
  draw();

  return {
    element,
    input,
    get held() {
      return dragged !== undefined;
    },
    /** Goes to a time, and shows what is there to whoever has the bar in focus. */
    go(seconds) {
      if (!length()) return;
      video.currentTime = Math.min(length(), Math.max(0, seconds));
      if (document.activeElement === input) show(video.currentTime, { briefly: true });
    },
  };
}
