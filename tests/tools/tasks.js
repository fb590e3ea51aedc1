// What viewers do beside watching. A task is begun before its player plays; what it returns does the rest, and tells.

/** With hls.js, every fragment of another level than the one before. Tells which, and what became of it. */
export function alternate({ hls, Events, video, number, options: { times } }) {
  const fragments = [];
  const counts = {};
  hls.on(Events.MANIFEST_PARSED, () => (hls.loadLevel = 0));
  hls.on(Events.FRAG_LOADED, (_, { frag: { type, sn, level } }) => {
    if (type === "main" && sn !== "initSegment") hls.loadLevel = (level + 1) % hls.levels.length;
  });
  hls.on(Events.FRAG_BUFFERED, (_, { frag: { type, sn, level } }) => {
    if (type === "main" && sn !== "initSegment") fragments.push({ sn, level });
  });
  hls.on(Events.BUFFER_APPENDED, (_, { timeRanges }) => {
    for (const [type, { length }] of Object.entries(timeRanges)) {
      counts[type] = Math.max(counts[type] ?? 0, length);
    }
  });
  return async () => {
    const levels = hls.levels.map(({ url }) => path(url[0]));
    return { levels, fragments, counts, ...(await became(video, times, number)) };
  };
}

/** The same with Shaka, of which what it asked for tells the rest. */
export function vary({ player, video, number, options: { times } }) {
  player.configure({ abr: { enabled: false }, streaming: { bufferingGoal: 60, segmentPrefetchLimit: 0 } });
  const levels = [];
  const choose = (index) => player.selectVariantTrack(levels[index % levels.length], false);
  let appended = 0;
  player.addEventListener("streaming", () => {
    const tracks = player.getVariantTracks();
    for (const track of tracks.filter(({ language }) => language === tracks[0].language)) {
      if (!levels.some(({ videoId }) => videoId === track.videoId)) levels.push(track);
    }
    choose(0);
  });
  player.addEventListener("segmentappended", ({ contentType }) => {
    if (contentType === "video") choose((appended += 1));
  });
  return async () => ({
    levels: levels.map(({ originalVideoId }) => path(originalVideoId)),
    ...(await became(video, times, number)),
  });
}

/** With hls.js, one audio track after the other. Tells the menu, and which tones are heard of each. */
export function listen({ hls, Events, video }) {
  return async () => {
    video.muted = false;
    const context = new AudioContext({ sampleRate: 48_000 });
    const analyser = new AnalyserNode(context, { fftSize: 8192, smoothingTimeConstant: 0 });
    context.createMediaElementSource(video).connect(analyser).connect(context.destination);
    await context.resume();
    const spectrum = new Float32Array(analyser.frequencyBinCount);
    const tone = () => {
      analyser.getFloatFrequencyData(spectrum);
      const loudest = spectrum.indexOf(Math.max(...spectrum));
      return (loudest * context.sampleRate) / analyser.fftSize;
    };
    const menu = hls.audioTracks.map((track) => pick(track, "name", "lang", "default", "channels"));
    const heard = [];
    const first = hls.audioTrack;
    for (const track of [first, ...menu.keys(), first]) {
      if (track !== hls.audioTrack) {
        const switched = new Promise((done) => hls.once(Events.AUDIO_TRACK_SWITCHED, done));
        hls.audioTrack = track;
        await switched;
      }
      // What was decoded already is heard to its end.
      await played(video, 1);
      const tones = [];
      for (let left = 5; left > 0; left -= 1) {
        tones.push(tone());
        await played(video, 0.05);
      }
      heard.push({ track, tones });
    }
    return { menu, heard };
  };
}

/** With hls.js, captions that are turned on while it plays. Tells the menu, all cues, and which were seen when. */
export function read({ hls, Events, video, options: { language } }) {
  const seen = [];
  let text;
  video.addEventListener("timeupdate", function turnOn() {
    const track = hls.subtitleTracks.findIndex(({ lang }) => lang === language);
    if (!(video.currentTime > 0) || track < 0) return;
    video.removeEventListener("timeupdate", turnOn);
    hls.subtitleTrack = track;
    hls.subtitleDisplay = true;
    text = [...video.textTracks].find((text) => text.language === language);
    // A busy machine may take its time to get them, and to say that one is due.
    video.pause();
    hls.once(Events.SUBTITLE_FRAG_PROCESSED, () => video.play());
  });
  hls.on(Events.SUBTITLE_FRAG_PROCESSED, () => {
    for (const cue of text.cues) cue.onenter = () => seen.push([video.currentTime, cue.text]);
  });
  return async () => ({
    menu: hls.subtitleTracks.map((track) => pick(track, "name", "lang", "forced", "default")),
    mode: text?.mode,
    cues: Array.from(text?.cues ?? [], ({ startTime, endTime, text }) => [startTime, endTime, text]),
    seen,
  });
}

/** With hls.js, the key frames at some times, beside what plays. Tells which pictures they are. */
export function glance({ hls, Events, failed, number, options: { times } }) {
  return async () => {
    const variants = hls.iframeVariants.map((variant) => ({
      ...pick(variant, "width", "height"),
      path: path(variant.url),
    }));
    const player = hls.createIFramePlayer();
    player.on(Events.ERROR, (_, error) => failed(pick(error, "type", "details", "fatal")));
    const beside = Object.assign(document.createElement("video"), { muted: true, width: 320, height: 180 });
    document.body.append(beside);
    // What is asked for before it is attached may never be loaded.
    const attached = new Promise((done) => player.once(Events.MEDIA_ATTACHED, done));
    player.attachMedia(beside);
    await attached;
    const glances = [];
    for (const time of times) {
      const shown = new Promise((done) => beside.requestVideoFrameCallback(done));
      player.loadMediaAt(time);
      await shown;
      glances.push({ time, number: number(beside) });
    }
    player.destroy();
    return { variants, glances };
  };
}

/** With Shaka, the small pictures at some times, and then key frames, eight times as fast. Tells what became of it. */
export function browse({ player, video, number, options: { times } }) {
  return async () => {
    const tracks = player.getImageTracks();
    const all = await player.getAllThumbnails(tracks[0].id);
    const thumbnails = [];
    for (const time of times) {
      const thumbnail = await player.getThumbnails(tracks[0].id, time);
      const { uris, positionX, positionY, width, height } = thumbnail;
      const sheet = await createImageBitmap(await (await fetch(uris[0])).blob());
      const small = await createImageBitmap(sheet, positionX, positionY, width, height);
      thumbnails.push({
        ...pick(thumbnail, "startTime", "duration", "positionX", "positionY", "width", "height"),
        sheet: [sheet.width, sheet.height],
        number: number(small),
      });
    }
    player.trickPlay(8);
    while (video.buffered.length < 3) await new Promise((done) => setTimeout(done, 20));
    return {
      tracks: tracks.map((track) => pick(track, "width", "height", "mimeType")),
      starts: all.map(({ startTime }) => startTime),
      thumbnails,
      buffered: ranges(video),
    };
  };
}

const pick = (object, ...names) => Object.fromEntries(names.map((name) => [name, object[name]]));

const path = (url) => new URL(url, location.href).pathname;

const ranges = ({ buffered }) =>
  Array.from(buffered, (_, index) => [buffered.start(index), buffered.end(index)]);

/** What is buffered, and which pictures are shown at some times. */
async function became(video, times, number) {
  const buffered = ranges(video);
  const pictures = [];
  for (const time of times) pictures.push({ time, number: await picture(video, time, number) });
  return { buffered, pictures };
}

/** When so much more was played. */
async function played(video, seconds) {
  const until = video.currentTime + seconds;
  while (video.currentTime < until && !video.ended) await new Promise((done) => setTimeout(done, 20));
}

/** Which picture is shown at a time, once it is. */
async function picture(video, time, number) {
  video.pause();
  const seeked = new Promise((done) => video.addEventListener("seeked", done, { once: true }));
  const shown = new Promise((done) => video.requestVideoFrameCallback(done));
  video.currentTime = time;
  await Promise.all([seeked, shown]);
  return number();
}
