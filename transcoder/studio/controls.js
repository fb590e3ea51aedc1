// The controls of the player: all of them by pointer, by touch and by key.

import { h } from "./dom.js";
import { createMenu } from "./menu.js";
import { icon, name, spoken } from "./player-words.js";
import { createSeekBar } from "./seek-bar.js";
import { AUTOMATIC } from "./stream.js";
import { clock } from "./words.js";

const SPEEDS = [0.5, 0.75, 1, 1.25, 1.5, 2];
const IDLE_MILLISECONDS = 2500;
const SAID_MILLISECONDS = 900;
// How far lines of captions are apart, in pixels: browsers make them a twentieth of the picture, and player.css makes
// them no smaller than that.
const lineOf = (height) => Math.max(0.05 * height, 12.8) * 1.2;

/**
 * Puts the controls of `video` into `root`. `show(stream)` takes what there is to choose, `say` shows a word
 * in passing and `play` starts and stops.
 */
export function createControls(root, video, { storyboard, signal, toggle }) {
  let stream;
  let idling;
  let saying;
  // The captions that come back, and how loud it was.
  let captions;
  let loudness = 1;

  const button = (...classes) =>
    h("button", { type: "button", class: ["player-button", ...classes].join(" ") });
  const playButton = button();
  const muteButton = button();
  const captionsButton = button();
  const audioButton = button();
  const qualityButton = button("player-words");
  const speedButton = button("player-words");
  const pictureButton = button("player-picture");
  const wholeButton = button();
  const volume = h("input", {
    type: "range",
    min: 0,
    max: 1,
    step: 0.05,
    class: "player-volume",
    "aria-label": "Volume",
  });
  const time = h("span", { class: "player-time" });
  const status = h("p", { class: "player-said", role: "status" });
  const unmute = h(
    "button",
    { type: "button", class: "player-unmute", hidden: true },
    icon("silent"),
    "Turn the sound on",
  );
  const seek = createSeekBar(video, { storyboard, signal });

  const menu = (what, label, opener, choose) => createMenu({ label, button: opener, choose });
  const choose = (what) => (id) => stream?.choose(what, id);
  const menus = {
    captions: menu("captions", "Captions", captionsButton, (id) => chooseCaptions(id)),
    audio: menu("audio", "Audio", audioButton, choose("audio")),
    quality: menu("quality", "Quality", qualityButton, choose("quality")),
    speed: menu("speed", "Speed", speedButton, (id) => (video.playbackRate = SPEEDS[id])),
  };
  name(captionsButton, "Captions", { sign: "captions" });
  name(audioButton, "Audio", { sign: "sound" });
  name(pictureButton, "Picture in picture", { sign: "picture" });

  const row = h(
    "div",
    { class: "player-row" },
    playButton,
    muteButton,
    volume,
    time,
    h("span", { class: "player-space" }),
    menus.captions.element,
    menus.audio.element,
    menus.quality.element,
    menus.speed.element,
    pictureButton,
    wholeButton,
  );
  const bar = h("div", { class: "player-controls" }, seek.element, row);
  root.append(unmute, status, bar);

  const on = (target, events, listener) => {
    for (const event of events.split(" ")) target.addEventListener(event, listener, { signal });
  };

  const say = (text) => {
    status.textContent = text;
    clearTimeout(saying);
    saying = setTimeout(() => (status.textContent = ""), SAID_MILLISECONDS);
  };

  // What is drawn follows what the video does, whoever made it do so.
  const drawPlay = () => {
    if (video.ended) name(playButton, "Play again", { key: "k", sign: "again" });
    else if (video.paused) name(playButton, "Play", { key: "k", sign: "play" });
    else name(playButton, "Pause", { key: "k", sign: "pause" });
    wake();
  };
  const drawVolume = () => {
    const isSilent = video.muted || video.volume === 0;
    name(muteButton, isSilent ? "Turn the sound on" : "Mute", {
      key: "m",
      sign: isSilent ? "silent" : "loud",
    });
    volume.value = String(isSilent ? 0 : video.volume);
    volume.setAttribute("aria-valuetext", isSilent ? "silent" : `${Math.round(video.volume * 100)} %`);
    if (!video.muted) unmute.hidden = true;
  };
  const drawTime = () => {
    time.textContent = Number.isFinite(video.duration)
      ? `${clock(Math.floor(video.currentTime))} / ${clock(Math.floor(video.duration))}`
      : clock(Math.floor(video.currentTime));
  };
  const drawSpeed = () => {
    const list = SPEEDS.map((speed, id) => ({ id, label: speed === 1 ? "Normal" : `${speed}×` }));
    menus.speed.show({ list, chosen: SPEEDS.indexOf(video.playbackRate) });
    speedButton.textContent = `${video.playbackRate}×`;
    name(speedButton, `Speed: ${video.playbackRate}×`);
  };
  const drawWhole = () => {
    const isWhole = document.fullscreenElement === root;
    name(wholeButton, isWhole ? "Leave full screen" : "Full screen", {
      key: "f",
      sign: isWhole ? "part" : "whole",
    });
    root.toggleAttribute("data-whole", isWhole);
    wake();
  };

  const chooseCaptions = (id) => {
    const { list } = stream.choices("captions");
    if (id !== AUTOMATIC) captions = id;
    stream.choose("captions", id);
    say(`Captions: ${list.find((track) => track.id === id)?.label}`);
  };
  const toggleCaptions = () => {
    const { list, chosen } = stream?.choices("captions") ?? { list: [] };
    if (!list.length) return say("No captions");
    chooseCaptions(chosen !== AUTOMATIC ? AUTOMATIC : (captions ?? understood(list)));
  };
  // In a language that the browser asks for, else the first.
  const understood = ([, ...tracks]) => {
    const main = (language) => language?.split("-")[0].toLowerCase();
    const known = navigator.languages.map(main);
    const rank = ({ language }) =>
      known.includes(main(language)) ? known.indexOf(main(language)) : known.length;
    return tracks.reduce((best, track) => (rank(track) < rank(best) ? track : best)).id;
  };
  const toggleSound = () => {
    if (video.volume === 0) video.volume = loudness || 1;
    video.muted = !video.muted;
    say(video.muted ? "Silent" : `Volume ${Math.round(video.volume * 100)} %`);
  };
  const setVolume = (value) => {
    video.volume = Math.min(1, Math.max(0, Math.round(value * 100) / 100));
    video.muted = video.volume === 0;
    if (video.volume) loudness = video.volume;
  };
  const toggleWhole = async () => {
    if (document.fullscreenElement === root) return document.exitFullscreen();
    // A telephone may give the whole screen to a video only, and then has controls of its own.
    if (root.requestFullscreen) return root.requestFullscreen().catch(() => say("Full screen was refused"));
    video.webkitEnterFullscreen?.();
  };
  const togglePicture = () => {
    const done =
      document.pictureInPictureElement === video
        ? document.exitPictureInPicture()
        : video.requestPictureInPicture();
    done.catch(() => say("Picture in picture was refused"));
  };
  const jump = (seconds) => {
    seek.go(video.currentTime + seconds);
    say(`${spoken(Math.abs(seconds))} ${seconds > 0 ? "forward" : "back"}`);
  };

  on(playButton, "click", toggle);
  on(muteButton, "click", toggleSound);
  on(unmute, "click", () => {
    toggleSound();
    muteButton.focus({ focusVisible: false });
  });
  on(volume, "input", () => setVolume(Number(volume.value)));
  on(wholeButton, "click", toggleWhole);
  on(pictureButton, "click", togglePicture);
  on(video, "play pause ended emptied", drawPlay);
  on(video, "volumechange", drawVolume);
  on(video, "timeupdate durationchange emptied", drawTime);
  on(video, "ratechange", drawSpeed);
  on(document, "fullscreenchange", drawWhole);
  wholeButton.hidden = !document.fullscreenEnabled && !video.webkitSupportsFullscreen;
  pictureButton.hidden = !document.pictureInPictureEnabled || !video.requestPictureInPicture;

  // Hidden from whoever does nothing but watch: never from whoever is at the controls.
  const mayHide = () =>
    !video.paused &&
    !seek.held &&
    !isChoosing() &&
    !bar.querySelector(":focus-visible") &&
    !bar.matches(":hover");
  const isChoosing = () => Object.values(menus).some(({ isOpen }) => isOpen);
  const sleep = () => {
    if (!mayHide()) return;
    root.toggleAttribute("data-idle", true);
    placeCaptions();
  };
  function wake() {
    root.removeAttribute("data-idle");
    placeCaptions();
    clearTimeout(idling);
    idling = setTimeout(sleep, IDLE_MILLISECONDS);
  }
  on(root, "pointermove pointerdown focusin keydown", wake);
  on(root, "focusout", wake);
  on(root, "pointerleave", ({ pointerType }) => pointerType === "mouse" && sleep());

  // A first press outside of a menu closes it and does no more. A finger's first press shows the controls,
  // whatever it hit of them; a mouse that moves has them already.
  let pressed = {};
  const isBlind = ({ target }) => pressed.wasIdle && pressed.pointerType !== "mouse" && bar.contains(target);
  const press = (event) => {
    const { pointerType } = event;
    pressed = { pointerType, wasChoosing: isChoosing(), wasIdle: root.hasAttribute("data-idle") };
    if (!isBlind(event)) return;
    event.stopPropagation();
    wake();
  };
  root.addEventListener("pointerdown", press, { capture: true, signal });
  root.addEventListener("keydown", () => (pressed = {}), { capture: true, signal });
  root.addEventListener("click", (event) => isBlind(event) && event.stopPropagation(), {
    capture: true,
    signal,
  });
  on(video, "click", () => {
    if (pressed.wasChoosing) return;
    if (pressed.pointerType === "mouse" || pressed.pointerType === undefined) return toggle();
    if (!pressed.wasIdle) sleep();
  });
  on(video, "dblclick", () => pressed.pointerType === "mouse" && toggleWhole());

  const KEYS = {
    " ": toggle,
    k: toggle,
    j: () => jump(-10),
    l: () => jump(10),
    ArrowLeft: () => jump(-5),
    ArrowRight: () => jump(5),
    m: toggleSound,
    f: toggleWhole,
    c: toggleCaptions,
  };
  // Those that move a page are the page's, until somebody is in the player.
  const KEYS_WITHIN = {
    ArrowUp: () => changeVolume(0.1),
    ArrowDown: () => changeVolume(-0.1),
  };
  const KEYS_OF_THE_BAR = {
    ArrowUp: () => jump(5),
    ArrowDown: () => jump(-5),
    PageUp: () => jump(30),
    PageDown: () => jump(-30),
    Home: () => seek.go(0),
    End: () => seek.go(video.duration),
  };
  const changeVolume = (by) => {
    setVolume((video.muted ? 0 : video.volume) + by);
    say(`Volume ${Math.round(video.volume * 100)} %`);
  };
  on(document, "keydown", (event) => {
    const { target, key } = event;
    const isWithin = root.contains(target);
    if (event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey) return;
    if (!isWithin && (target !== document.body || !root.checkVisibility())) return;
    // A button does by itself what these mean to it, a slider as well.
    if (target.closest("button, a, summary") && [" ", "Enter"].includes(key)) return;
    if (target === volume && key.startsWith("Arrow")) return;
    const letter = key.length === 1 ? key.toLowerCase() : key;
    const act =
      (target === seek.input && KEYS_OF_THE_BAR[key]) ||
      (isWithin && KEYS_WITHIN[key]) ||
      KEYS[letter] ||
      (/^[0-9]$/.test(key) && (() => seek.go((video.duration * Number(key)) / 10)));
    if (!act) return;
    event.preventDefault();
    act();
    wake();
  });

  // Captions that lie below are lifted above the controls, and let down again when these are hidden. hls.js
  // puts them either where the browser would or, for Safari, in the last line.
  const lifted = new Map();
  function placeCaptions() {
    const height = video.clientHeight;
    const areCovered = height > 0 && !root.hasAttribute("data-idle");
    const top = seek.element.getBoundingClientRect().top;
    const covered = Math.ceil((video.getBoundingClientRect().bottom - top) / lineOf(height));
    for (const track of video.textTracks) {
      if (track.mode !== "showing") continue;
      // A cue that is moved counts as changed: what is where it should be is left alone.
      const moved = [...(areCovered ? (track.activeCues ?? []) : lifted.keys())].filter((cue) => {
        if (!lifted.has(cue) && (!cue.snapToLines || !["auto", -1].includes(cue.line))) return false;
        const own = lifted.get(cue) ?? cue.line;
        const line = areCovered ? -(covered + cue.text.split("\n").length) : own;
        if (cue.line === line) return false;
        lifted.set(cue, own);
        cue.line = line;
        return true;
      });
      if (!moved.length) continue;
      // Chromium draws what is shown already where it was, unless it is to show it anew.
      track.mode = "hidden";
      track.mode = "showing";
    }
    if (!areCovered) lifted.clear();
  }
  const followed = new WeakSet();
  const followTracks = () => {
    for (const track of video.textTracks) {
      if (followed.has(track)) continue;
      followed.add(track);
      track.addEventListener("cuechange", placeCaptions, { signal });
    }
  };

  const show = (opened) => {
    stream = opened;
    followTracks();
    for (const what of ["captions", "audio", "quality"]) menus[what].show(stream.choices(what));
    const { chosen, playing } = stream.choices("quality");
    qualityButton.textContent = playing ?? "Auto";
    name(
      qualityButton,
      `Quality: ${chosen === AUTOMATIC ? "automatic" : "fixed"}${playing ? `, ${playing}` : ""}`,
    );
    const areOn = stream.choices("captions").chosen !== AUTOMATIC;
    captionsButton.toggleAttribute("data-on", areOn);
    name(captionsButton, areOn ? "Captions: on" : "Captions: off", { key: "c" });
  };

  drawPlay();
  drawVolume();
  drawTime();
  drawSpeed();
  drawWhole();
  signal.addEventListener("abort", () => {
    clearTimeout(idling);
    clearTimeout(saying);
  });
  return {
    show,
    say,
    /** Says that it plays without sound, because pages may not begin with it. */
    offerSound: () => (unmute.hidden = !video.muted),
  };
}
