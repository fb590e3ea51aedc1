// Files on their way to the service, one after the other: the first is encoded while the next is sent.
//
// A connection that breaks costs what was not yet written: the service says how much is there, and the rest
// follows.

import { Problem, address, ask, authority, json, pause, reachable, reason, segment, token } from "./api.js";
import { bytes } from "./words.js";

const REMEMBERED = "reelgate.unfinished";
const MOST_REMEMBERED = 20;

/** How long one looks back to say how fast it goes, in seconds. */
const WINDOW = 6;

/** How often it is tried again without a single new byte. */
const ATTEMPTS = 8;

const CAPTIONS = /\.(srt|vtt)$/i;

/** One file. Its `state` is `waiting`, `sending`, `broken` (it goes on by itself), `failed` or `sent`. */
export class Upload {
  state = "waiting";
  sent = 0;
  bytesPerSecond = undefined;
  problem = undefined;
  added = Date.now();

  constructor(file, name) {
    this.file = file;
    this.name = name;
    this.size = file.size;
  }

  get secondsLeft() {
    return this.bytesPerSecond ? (this.size - this.sent) / this.bytesPerSecond : undefined;
  }

  get isActive() {
    return ["waiting", "sending", "broken"].includes(this.state);
  }
}

/** The queue. It tells of `change`, and of `sent` with what the service made of a file. */
export class Uploads extends EventTarget {
  all = [];
  #largest = Infinity;
  #isSending = false;

  /** The largest file that the service takes. */
  set largest(bytes) {
    this.#largest = bytes;
  }

  get isActive() {
    return this.all.some((upload) => upload.isActive);
  }

  /** Takes files, `{file, path}` each, in their turn; captions first, for a video takes those beside it. */
  add(files) {
    const ordered = [...files].sort((a, b) => CAPTIONS.test(b.path) - CAPTIONS.test(a.path));
    const added = ordered.map(({ file, path }) => {
      const upload = new Upload(file, this.#nameOf(path));
      upload.problem = this.#objection(upload);
      if (upload.problem) upload.state = "failed";
      this.all.push(upload);
      return upload;
    });
    this.#changed();
    this.#next();
    return added;
  }

  /** Stops one. What arrived is kept by the service for a day. */
  cancel(upload) {
    this.all = this.all.filter((other) => other !== upload);
    upload.state = "cancelled";
    upload.stop?.();
    this.#changed();
  }

  /** Tries one again that failed. */
  retry(upload) {
    upload.problem = this.#objection(upload);
    if (upload.problem) return;
    upload.state = "waiting";
    this.#changed();
    this.#next();
  }

  /** What a file will be called. The service takes no control characters and no backslash. */
  #nameOf(path) {
    const parts = path.replace(/[\u0000-\u001f\u007f-\u009f\\]/g, "-").split("/");
    const name = parts.filter((part) => part && part !== "." && part !== "..").join("/") || "video";
    const isTaken = (name) => this.all.some((upload) => upload.isActive && upload.name === name);
    const [, stem, extension] = name.match(/^(.*?)(\.[^./]*)?$/s);
    let unlike = name;
    for (let number = 2; isTaken(unlike); number += 1) unlike = `${stem}-${number}${extension ?? ""}`;
    return unlike;
  }

  #objection({ name, size }) {
    if (size === 0) return "The file is empty.";
    if (size > this.#largest) {
      const most = bytes(this.#largest);
      return `The file has ${bytes(size)}, and this service takes ${most}: --max-upload can raise that.`;
    }
    if (new TextEncoder().encode(name).length > 1024) return "The name is longer than 1,024 bytes.";
    return undefined;
  }

  async #next() {
    if (this.#isSending) return;
    const upload = this.all.find(({ state }) => state === "waiting");
    if (!upload) return;
    this.#isSending = true;
    try {
      const made = await this.#send(upload);
      upload.state = "sent";
      this.all = this.all.filter((other) => other !== upload);
      forget(upload);
      this.dispatchEvent(new CustomEvent("sent", { detail: { upload, ...made } }));
    } catch (error) {
      if (upload.state !== "cancelled") {
        upload.state = "failed";
        upload.problem = reason(error);
      }
    }
    this.#isSending = false;
    this.#changed();
    this.#next();
  }

  async #send(upload) {
    let offset = isRemembered(upload) ? (await this.#there(upload)).offset : 0;
    if (offset > upload.size) offset = 0;
    remember(upload);
    let all = false;
    for (let attempt = 0; ; attempt += 1) {
      upload.state = "sending";
      upload.sent = offset;
      this.#changed();
      try {
        return await put(upload, offset, () => this.#changed());
      } catch (error) {
        if (upload.state === "cancelled" || !mayHelp(error)) throw error;
        if (error instanceof Broken && !(await isReadable(upload.file))) throw new Unreadable();
        if (upload.sent > offset) attempt = 0;
        if (attempt >= ATTEMPTS) throw error;
        all ||= upload.sent === upload.size;
        upload.state = "broken";
        upload.bytesPerSecond = undefined;
        this.#changed();
        if (error.status === 401) await token();
        else await pause(attempt);
      }
      const there = await this.#patiently(upload);
      if (upload.state === "cancelled") throw new Error("cancelled");
      // The answer was lost, not the file.
      if (all && there.isComplete && there.offset === upload.size) return madeOf(upload);
      offset = there.isComplete || there.offset > upload.size ? 0 : there.offset;
    }
  }

  /** How much is there, however long nobody answers. */
  async #patiently(upload) {
    for (let attempt = 0; ; attempt += 1) {
      try {
        return await this.#there(upload);
      } catch (error) {
        if (!mayHelp(error) || upload.state === "cancelled") throw error;
        await pause(attempt);
      }
    }
  }

  async #there({ name }) {
    try {
      const { headers } = await ask(place(name), { method: "HEAD" });
      return {
        offset: Number(headers.get("upload-offset")) || 0,
        isComplete: headers.get("upload-complete") === "?1",
      };
    } catch (error) {
      if (error.status === 404) return { offset: 0, isComplete: false };
      throw error;
    }
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}

/** The files that somebody dropped, those in folders as well, with the folders in their paths. */
export async function dropped({ items, files }) {
  const entries = [...items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (entries.length === 0) return [...files].map((file) => ({ file, path: file.name }));
  return (await Promise.all(entries.map((entry) => within(entry, "")))).flat();
}

async function within(entry, folder) {
  const path = `${folder}${entry.name}`;
  // What systems leave lying about, which the service would pass over.
  if (entry.name.startsWith(".")) return [];
  if (entry.isFile) return [{ file: await new Promise((done, failed) => entry.file(done, failed)), path }];
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    // A hundred at a time, until there are none.
    const some = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (some.length === 0) break;
    found.push(...some);
  }
  return (await Promise.all(found.map((child) => within(child, `${path}/`)))).flat();
}

const place = (name) => `v1/uploads/${name.split("/").map(segment).join("/")}`;

// Only XMLHttpRequest tells how much of a body has left.
function put(upload, offset, changed) {
  const { file, size, name } = upload;
  const request = new XMLHttpRequest();
  request.open("PUT", address(place(name)));
  request.responseType = "text";
  for (const [key, value] of Object.entries(authority())) request.setRequestHeader(key, value);
  request.setRequestHeader("content-type", "application/octet-stream");
  if (offset > 0) {
    const range = offset === size ? `bytes */${size}` : `bytes ${offset}-${size - 1}/${size}`;
    request.setRequestHeader("content-range", range);
  }
  const marks = [{ at: performance.now(), sent: offset }];
  upload.stop = () => request.abort();

  return new Promise((resolve, reject) => {
    request.upload.addEventListener("progress", ({ loaded }) => {
      const sent = Math.min(offset + loaded, size);
      const now = performance.now();
      // A browser may begin a request again by itself.
      if (sent < upload.sent) marks.splice(0, Infinity, { at: now, sent });
      upload.sent = sent;
      marks.push({ at: now, sent: upload.sent });
      while (marks.length > 2 && now - marks[0].at > WINDOW * 1000) marks.shift();
      const seconds = (now - marks[0].at) / 1000;
      if (seconds > 0.5) upload.bytesPerSecond = (upload.sent - marks[0].sent) / seconds;
      changed();
    });
    request.addEventListener("load", () => {
      reachable(true);
      if (request.status === 201) return resolve(JSON.parse(request.responseText));
      reject(refusal(request));
    });
    request.addEventListener("error", () => reject(new Broken()));
    request.addEventListener("abort", () => reject(new Broken()));
    request.send(offset === 0 ? file : file.slice(offset));
  });
}

class Broken extends Error {
  message = "the connection broke again and again";
}

class Unreadable extends Error {
  message = "the file cannot be read any more: it was changed, moved or removed since it was chosen";
}

/** Whether a file is still there as it was chosen: to a request, one that is not looks like a broken connection. */
const isReadable = (file) =>
  file.slice(0, 1).arrayBuffer().then(
    () => true,
    () => false,
  );

function refusal(request) {
  const offset = request.getResponseHeader("upload-offset");
  const headers = new Headers(offset === null ? {} : { "upload-offset": offset });
  try {
    return new Problem(request.status, JSON.parse(request.responseText), headers);
  } catch {
    return new Problem(request.status, {}, headers);
  }
}

/** Whether another attempt can end otherwise. */
function mayHelp(error) {
  const { status } = error;
  if (status === undefined) return error instanceof Broken || error.name === "Unreachable";
  // Whoever is told how much is there can go on from there.
  const goesOn = error.headers.has("upload-offset") || error.is("upload-busy");
  return goesOn || [401, 408, 429, 500, 502, 503, 504].includes(status);
}

async function madeOf({ name, size }) {
  const { jobs } = await json("v1/jobs?limit=200");
  return { name, bytes: size, job: jobs.find((job) => job.source === name && job.bytes === size) ?? null };
}

// A file that is chosen again after the page was closed goes on where it stopped, if it is the same one.
function remembered() {
  try {
    return JSON.parse(localStorage.getItem(REMEMBERED)) ?? [];
  } catch {
    return [];
  }
}

const mark = ({ name, file }) => [name, file.size, file.lastModified].join("\n");

function keep(marks) {
  try {
    localStorage.setItem(REMEMBERED, JSON.stringify(marks.slice(-MOST_REMEMBERED)));
  } catch {
    // Where nothing may be kept, an upload begins anew after the page was closed.
  }
}

const isRemembered = (upload) => remembered().includes(mark(upload));
const remember = (upload) => keep([...remembered().filter((one) => one !== mark(upload)), mark(upload)]);
const forget = (upload) => keep(remembered().filter((one) => one !== mark(upload)));
