//! What the gate asks of the runtime, each in one step: a step from WebAssembly into JavaScript and back costs as much
//! as most of what is decided in between, and each string that it takes along as much again.

/** The head of a request as HTTP/1.1 writes it, with those of the headers `names` that are there. */
export function head(request, names) {
  const { headers } = request;
  let head = `${request.method} ${request.url}`;
  for (const name of names) {
    const value = headers.get(name);
    if (value !== null) head += `\n${name}: ${value}`;
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

/** Asks for a part of an object: what is undefined of the three is not said. */
export function getPart(bucket, key, offset, length, suffix) {
  return bucket.get(key, { range: { offset, length, suffix } });
}

/** What R2 says of an object, in lines: size, entity tag, type, encoding, and what caches may do. */
export function describe({ size, httpEtag, httpMetadata }) {
  const { contentType = "", contentEncoding = "", cacheControl = "" } = httpMetadata ?? {};
  return `${size}\n${httpEtag}\n${contentType}\n${contentEncoding}\n${cacheControl}`;
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

/** A response whose body is that of an object, which never leaves the runtime; or none, for no object. */
export function respond(status, kept, own, isEncoded, object) {
  return made(object?.body ?? null, status, kept, own, isEncoded);
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
export function keep(number, lines) {
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
