//! What the gate asks of the runtime, each in one step: a step from WebAssembly into JavaScript and back costs as much
//! as most of what is decided in between, and each string that it takes along as much again.

/**
 * The head of a request, in lines: its method and URL, and the value of each of the headers `names`, behind a colon; of one
 * that is not there, nothing.
 */
export function head(request, names) {
  const { headers } = request;
  let head = `${request.method} ${request.url}`;
  for (const name of names) {
    const value = headers.get(name);
    head += value === null ? "\n" : `\n:${value}`;
  }
  return head;
}

/**
 * A header as the client sent it. What it accepts does not reach a Worker in a header, there Cloudflare says what itself
 * accepts, but beside it: there the runtime has to read much to know it.
 */
export function header(request, name) {
  const sent = name === "accept-encoding" ? request.cf?.clientAcceptEncoding : undefined;
  return sent ?? request.headers.get(name) ?? undefined;
}

/** Asks R2 for an object, unless it has this entity tag, or for a part of it: what is undefined is not said. */
export function getFromR2(bucket, key, seconds, unless, offset, length, suffix) {
  const range = offset === undefined && suffix === undefined ? undefined : { offset, length, suffix };
  const onlyIf = unless && { etagDoesNotMatch: unless };
  return within(seconds, onlyIf || range ? bucket.get(key, { onlyIf, range }) : bucket.get(key));
}

/** The same without its bytes. */
export function headFromR2(bucket, key, seconds) {
  return within(seconds, bucket.head(key));
}

/** Asks a server, which has so many seconds until its answer begins. `lines` are headers. */
export async function ask(url, method, lines, seconds) {
  const controller = new AbortController();
  const headers = new Headers();
  append(headers, lines);
  // Neither kept nor followed by the runtime, and its bytes as they come.
  const answer = fetch(url, {
    method,
    headers,
    signal: controller.signal,
    redirect: "manual",
    cache: "no-store",
    encodeResponseBody: "manual",
  });
  try {
    return await within(seconds, answer);
  } catch (error) {
    // Whoever comes too late need not come any more.
    controller.abort();
    throw error;
  }
}

/** What is thrown where something takes too long. */
const LATE = "late";

/** What a promise comes to in so many seconds. */
export function within(seconds, promise) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(reject, 1000 * seconds, LATE);
    const settle = (settled) => (value) => {
      clearTimeout(timer);
      settled(value);
    };
    promise.then(settle(resolve), settle(reject));
  });
}

/** Comes to nothing after so many milliseconds. */
export function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** What R2 says of an object, in lines: size, entity tag, date, type, encoding, and what caches may do. */
export function describeR2({ size, httpEtag, uploaded, httpMetadata }) {
  const { contentType = "", contentEncoding = "", cacheControl = "" } = httpMetadata ?? {};
  return [size, httpEtag, uploaded?.toUTCString() ?? "", contentType, contentEncoding, cacheControl].join("\n");
}

/** What a server says, in lines: the status, which part it is, and of an object the same as R2. */
export function describeAnswer({ status, headers }) {
  const said = ANSWER.map((name) => headers.get(name) ?? "");
  return [status, ...said].join("\n");
}

const ANSWER = [
  "content-range",
  "content-length",
  "etag",
  "last-modified",
  "content-type",
  "content-encoding",
  "cache-control",
];

/** The `Code` of a server's error, which is XML and short, and has so many seconds to come; nothing for any other. */
export async function errorCode({ body }, seconds) {
  if (!body) return undefined;
  const reader = body.getReader();
  try {
    const [code] = (await within(seconds, beginning(reader))).match(/<Code>\w{1,60}<\/Code>/) ?? [];
    return code?.slice("<Code>".length, -"</Code>".length);
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** How much of an error is read, in characters. What goes on for ever is none. */
const ERROR = 4096;

/** What a text begins with. */
async function beginning(reader) {
  const decoder = new TextDecoder();
  let text = "";
  while (text.length < ERROR) {
    const { value, done } = await reader.read();
    if (done) break;
    text += decoder.decode(value, { stream: true });
  }
  return text;
}

/** What has been kept under a URL, or a range of it. Where there is no cache there is nothing in it. */
export async function find(url, range) {
  try {
    return await (await cache()).match(new Request(url, range ? { headers: { range } } : {}));
  } catch {
    return undefined;
  }
}

/** What a cached answer says: the status, which part it is, and what `keep` was told. */
export function describeKept({ status, headers }) {
  const said = decodeURIComponent(headers.get(SAID) ?? "");
  return [status, headers.get("content-range") ?? "", said].join("\n");
}

/** The header with what is to be known of what is kept. */
const SAID = "x-reelgate-object";

/**
 * Keeps what `source` has under a URL for so many seconds, `said` with it, and returns the same for the viewer. The one
 * does not wait for the other. All of it is there before it is put away: of what breaks off on its way into a cache, the
 * cache may keep what it has as if there were no more.
 */
export function keep(context, url, said, size, seconds, source) {
  const [kept, body] = source.body.tee();
  const headers = {
    "cache-control": `max-age=${seconds}`,
    "content-length": size,
    "content-type": "application/octet-stream",
    [SAID]: encodeURIComponent(said),
  };
  const put = async () => {
    const shelf = await cache();
    const whole = await new Response(kept).arrayBuffer();
    if (whole.byteLength === size) await shelf.put(url, new Response(whole, { headers }));
  };
  // What is not kept is fetched again.
  context.waitUntil(put().catch(() => kept.cancel().catch(() => {})));
  return new Response(body);
}

/** Not the default one: what is in that might be answered with by Cloudflare itself, where the Worker is gone. */
async function cache() {
  opened ??= await caches.open("reelgate");
  return opened;
}

let opened;

/** A body that nobody wants: whoever sends it is told. */
export function cancel({ body }) {
  // One that is broken already is not wanted either.
  body?.cancel().catch(() => {});
}

/** The same, of one that was begun to be read. */
export function cancelReading({ stream }) {
  stream.cancel().catch(() => {});
}

/** Writes a data point. */
export function writePoint(dataset, index, blobs, doubles) {
  dataset.writeDataPoint({ indexes: [index], blobs: blobs.split("\n"), doubles: [...doubles] });
}

/** How much of an object is read at a time, in bytes. The fewer steps, the less it costs. */
const CHUNK = 256 * 1024;

/** What the bytes of an object are read by, one buffer after the other: always the same. */
export function reader({ body }) {
  return { stream: body.getReader({ mode: "byob" }), buffer: new ArrayBuffer(CHUNK) };
}

/** The next bytes of an object, up to the next time that it is read; nothing at its end. */
export async function read(reader) {
  const { value } = await reader.stream.readAtLeast(CHUNK, new Uint8Array(reader.buffer));
  if (!value?.length) return undefined;
  reader.buffer = value.buffer;
  return value;
}

/** What is in a buffer, or in a view of one; nothing for none. It is copied into WebAssembly's memory on its way. */
export function bytes(buffer) {
  return buffer instanceof Uint8Array ? buffer : new Uint8Array(buffer ?? 0);
}

/** A response whose body is that of an object, which never leaves the runtime; or none, for none. */
export function respond(status, kept, own, isEncoded, source) {
  return made(source?.body ?? null, status, kept, own, isEncoded);
}

/** A response with bytes, which may be a view of WebAssembly's memory: the runtime copies them before it returns. */
export function respondWith(status, kept, own, isEncoded, bytes) {
  return made(bytes, status, kept, own, isEncoded);
}

/** A response whose body is made part by part, none before it is wanted. */
export function respondInParts(status, kept, own, isEncoded, parts) {
  const source = {
    async pull(controller) {
      await proceed(parts);
      const part = parts.part();
      if (part) controller.enqueue(part);
      else controller.close();
    },
  };
  const body = new ReadableStream(source, { highWaterMark: 0 });
  return made(body, status, kept, own, isEncoded);
}

/**
 * Goes on with what is under way in WebAssembly, waiting for what it waits for. A promise that Rust waits for by itself
 * costs several closures, and each of those a finalizer. Waiting is what JavaScript does best.
 */
export async function proceed(steps) {
  let promise = steps.proceed(undefined, false);
  while (promise) {
    let outcome;
    let failed = false;
    try {
      outcome = await promise;
    } catch (error) {
      outcome = error;
      failed = true;
    }
    promise = steps.proceed(outcome, failed);
  }
}

/** Headers that many answers have, by their numbers. */
const keptHeaders = [];

/** Keeps headers, under a number that they have from now on. */
export function keepHeaders(number, lines) {
  const headers = new Headers();
  append(headers, lines);
  keptHeaders[number] = headers;
}

/**
 * A response with the headers that are kept under a number, and its own. To copy headers takes half as long as to make
 * them. What is encoded already the runtime would encode again.
 */
function made(body, status, kept, own, isEncoded) {
  const headers = keptHeaders[kept];
  const response = new Response(body, isEncoded ? { status, headers, encodeBody: "manual" } : { status, headers });
  append(response.headers, own);
  return response;
}

function append(headers, lines) {
  if (!lines) return;
  for (const line of lines.split("\n")) {
    const colon = line.indexOf(": ");
    headers.append(line.slice(0, colon), line.slice(colon + 2));
  }
}
