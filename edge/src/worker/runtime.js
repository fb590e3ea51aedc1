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

/** Asks for a part of an object: what is undefined of the three is not said. */
export function getPart(bucket, key, offset, length, suffix) {
  return bucket.get(key, { range: { offset, length, suffix } });
}

/** What R2 says of an object, in lines: size, entity tag, type, encoding, and what caches may do. */
export function describe({ size, httpEtag, httpMetadata }) {
  const { contentType = "", contentEncoding = "", cacheControl = "" } = httpMetadata ?? {};
  return `${size}\n${httpEtag}\n${contentType}\n${contentEncoding}\n${cacheControl}`;
}

/** A response whose body is that of an object, which never leaves the runtime; or none, for no object. */
export function respond(status, head, isEncoded, object) {
  return new Response(object?.body ?? null, init(status, head, isEncoded));
}

/** A response with bytes, which may be a view of WebAssembly's memory: the runtime copies them before it returns. */
export function respondWith(status, head, isEncoded, bytes) {
  return new Response(bytes, init(status, head, isEncoded));
}

/** As an object, not as a list of pairs, from which the runtime makes the same headers in twice the time. */
function init(status, head, isEncoded) {
  const headers = {};
  for (const line of head.split("\n")) {
    const colon = line.indexOf(": ");
    const name = line.slice(0, colon);
    const value = line.slice(colon + 2);
    headers[name] = name in headers ? `${headers[name]}, ${value}` : value;
  }
  // What is encoded already the runtime would encode again.
  return isEncoded ? { status, headers, encodeBody: "manual" } : { status, headers };
}
