// What the page asks the service. A request that needs a token waits until there is one; one that finds
// nobody says so to all who listen, once.

import { sentence } from "./words.js";

const KEPT = "reelgate.token";

/** A stream of events has at least a comment every 15 seconds; one that is silent for so long has lost its end. */
const SILENCE_MILLISECONDS = 60_000;

/** Tells of `unreachable` and `reachable`, of `token` where one is asked for, and of `admitted`. */
export const service = new EventTarget();

/** Where something of this service is, whatever path it is served below. */
export const address = (path) => new URL(path, document.baseURI).href;

/** A part of a path that a name makes. */
export const segment = (name) => encodeURIComponent(name);

let admitted;
let admit;
let isReachable = true;

/** Why the service refused, in its own words. */
export class Problem extends Error {
  constructor(status, { type = "about:blank", title, detail } = {}, headers = new Headers()) {
    super(detail ?? title ?? `the service answered ${status}`);
    this.name = "Problem";
    this.status = status;
    this.type = type;
    this.headers = headers;
    this.retryAfter = Number(headers.get("retry-after")) || undefined;
  }

  /** Whether it is of this kind: the last part of its type. */
  is(kind) {
    return this.type.endsWith(`/problems/${kind}`);
  }
}

/** Nobody answered. */
export class Unreachable extends Error {
  constructor() {
    super("the service does not answer");
    this.name = "Unreachable";
  }
}

export const hasToken = () => sessionStorage.getItem(KEPT) !== null;

/** What a request needs to be let in. */
export function authority() {
  const token = sessionStorage.getItem(KEPT);
  return token === null ? {} : { authorization: `Bearer ${token}` };
}

/** Asks, and gives the answer itself. */
export async function ask(path, { headers = {}, ...options } = {}) {
  for (;;) {
    const sent = authority();
    const answer = await reach(path, { cache: "no-store", ...options, headers: { ...headers, ...sent } });
    if (answer.status !== 401) {
      if (answer.ok) return answer;
      throw await problemOf(answer);
    }
    await answer.body?.cancel();
    // Meanwhile somebody may have signed in.
    if (sent.authorization === authority().authorization) await token(options.signal);
  }
}

/** Asks for JSON, and sends some where there is any. */
export async function json(path, { body, ...options } = {}) {
  const sent = body === undefined ? {} : { body: JSON.stringify(body) };
  const headers = body === undefined ? {} : { "content-type": "application/json" };
  const answer = await ask(path, {
    method: body === undefined ? "GET" : "POST",
    ...options,
    ...sent,
    headers,
  });
  return answer.status === 204 ? undefined : answer.json();
}

/** Keeps a token if the service knows it; says why where it does not. */
export async function signIn(token) {
  let headers;
  try {
    headers = new Headers({ authorization: `Bearer ${token}` });
  } catch {
    // It has characters that no header can carry, so no service was started with it.
    return "That is not the service’s token.";
  }
  let answer;
  try {
    answer = await reach("v1/studio", { headers, cache: "no-store" });
  } catch {
    return "The service does not answer. Try again in a moment.";
  }
  if (!answer.ok) return (await problemOf(answer)).message;
  if (!(await answer.json()).admitted) return "That is not the service’s token.";
  sessionStorage.setItem(KEPT, token);
  admit?.();
  admitted = admit = undefined;
  service.dispatchEvent(new Event("admitted"));
  return undefined;
}

/** Forgets the token, and all that was seen with it. */
export function signOut() {
  sessionStorage.removeItem(KEPT);
  location.hash = "";
  location.reload();
}

/** Waits for somebody to sign in. */
export function token(signal) {
  if (!admitted) {
    admitted = new Promise((resolve) => (admit = resolve));
    service.dispatchEvent(new Event("token"));
  }
  if (!signal) return admitted;
  return new Promise((resolve, reject) => {
    admitted.then(resolve);
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}

/**
 * Listens to events, for ever: `hear` is called with the name and the data of each, and with `"open"`
 * whenever listening began, for what happened before is not told.
 */
export async function listen(path, hear) {
  for (let attempt = 0; ; attempt += 1) {
    const silence = new AbortController();
    let patience;
    const heard = () => {
      clearTimeout(patience);
      patience = setTimeout(() => silence.abort(), SILENCE_MILLISECONDS);
    };
    try {
      const { signal } = silence;
      const answer = await ask(path, { headers: { accept: "text/event-stream" }, signal });
      hear("open");
      heard();
      const events = answer.body.pipeThrough(new TextDecoderStream()).pipeThrough(intoEvents(heard));
      for await (const { event, data } of iterate(events)) {
        attempt = 0;
        hear(event, data);
      }
    } catch {
      // Told already, if nobody answers; a stream that breaks is opened again.
    }
    clearTimeout(patience);
    await pause(attempt);
  }
}

/** Waits the longer the more attempts there were, and never as long as others do. */
export function pause(attempt) {
  const seconds = Math.min(2 ** attempt, 15) * (0.75 + Math.random() / 2);
  return new Promise((resolve) => setTimeout(resolve, seconds * 1000));
}

/** Says whether anybody answers. */
export function reachable(is) {
  if (is === isReachable) return;
  isReachable = is;
  service.dispatchEvent(new Event(is ? "reachable" : "unreachable"));
}

/** Says why something did not work, as a sentence or two. */
export function reason(error) {
  if (error instanceof Unreachable) return "The service does not answer.";
  const { message, retryAfter } = error;
  return retryAfter ? `${sentence(message)} Try again in ${retryAfter} seconds.` : sentence(message);
}

async function reach(path, options) {
  try {
    const answer = await fetch(address(path), options);
    reachable(true);
    return answer;
  } catch (error) {
    if (options.signal?.aborted) throw error;
    reachable(false);
    throw new Unreachable();
  }
}

async function problemOf(answer) {
  const isProblem = answer.headers.get("content-type")?.startsWith("application/problem+json");
  const said = isProblem ? await answer.json().catch(() => undefined) : undefined;
  // What a proxy in between says is not for people.
  if (!said) await answer.body?.cancel().catch(() => undefined);
  return new Problem(answer.status, said, answer.headers);
}

// `text/event-stream` as the HTML standard reads it, but for `id` and `retry`, which nothing here needs.
function intoEvents(heard) {
  let rest = "";
  let [event, data] = ["message", []];
  return new TransformStream({
    transform(text, controller) {
      heard();
      const lines = (rest + text).split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop();
      for (const line of lines) {
        if (line === "") {
          if (data.length > 0) controller.enqueue({ event, data: data.join("\n") });
          [event, data] = ["message", []];
          continue;
        }
        const [field, value = ""] = line.split(/: ?(.*)/s);
        if (field === "event") event = value;
        if (field === "data") data.push(value);
      }
    },
  });
}

// Not every browser reads a stream with `for await`.
async function* iterate(stream) {
  const reader = stream.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    yield value;
  }
}
