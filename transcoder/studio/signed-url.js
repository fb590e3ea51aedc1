// Takes a signed URL apart to show it, and makes the URLs that must not open anything. Only the edge decides:
// nothing here checks a signature.

const DAY = 24 * 60 * 60;
// In seconds, the last time that a date of JavaScript can be.
const LAST = 8.64e12;

/** What a signed URL says; `problem` says why where it cannot be read. */
export function takeApart(address) {
  const { parameters } = split(address);
  const value = (name) => parameters.find((parameter) => parameter.name === name)?.value;
  const said = {
    keyPairId: value("Key-Pair-Id"),
    signature: value("Signature"),
    hash: value("Hash-Algorithm") ?? "SHA1",
    bare: bare(address),
  };
  if (value("Policy") === undefined) {
    const expires = Number(value("Expires") || NaN);
    return isTime(expires)
      ? { ...said, expires, resource: said.bare }
      : { ...said, problem: "this URL carries no policy" };
  }
  try {
    const text = decode(value("Policy"));
    const [{ Resource: resource, Condition: condition = {} }] = [JSON.parse(text).Statement].flat();
    const expires = condition.DateLessThan?.["AWS:EpochTime"];
    const starts = condition.DateGreaterThan?.["AWS:EpochTime"];
    const from = condition.IpAddress?.["AWS:SourceIp"];
    const isSound =
      [expires, starts].every((time) => time === undefined || isTime(time)) &&
      [resource, from].every((words) => words === undefined || typeof words === "string");
    if (isSound) return { ...said, policy: text, resource, expires, starts, from };
  } catch {
    // Whoever made the link may have written anything.
  }
  return { ...said, problem: "its policy cannot be read: it is not what a signer writes, or was cut" };
}

/** A URL, or nothing where the text is none. (`URL.parse` is too new for Safari 17.) */
export function parsed(text, base) {
  try {
    return new URL(text, base);
  } catch {
    return undefined;
  }
}

/** The same URL with nothing to show at the gate. */
export function bare(address) {
  return split(address).path;
}

/** Another asset, asked for with this one's signature; `path` is that of its playlist. */
export function elsewhere(address, path = "assets/another/index.m3u8") {
  const { origin } = new URL(address);
  return `${origin}/${path.replace(/^\/+/, "")}?${query(address)}`;
}

/** What lies beside a playlist, opened by the same signature; `undefined` if it is at another origin. */
export function beside(address, path) {
  const playlist = new URL(address);
  const url = parsed(path, playlist);
  if (url?.origin !== playlist.origin || url.protocol !== playlist.protocol) return undefined;
  return `${url.origin}${url.pathname}?${query(address)}`;
}

/** The path of a signed URL, and its parameters one by one, as they are spelt. */
export function pieces(address) {
  const { path, parameters } = split(address);
  return {
    path,
    parameters: parameters.map(({ name, raw }) => ({ name, value: raw.slice(name.length + 1) })),
  };
}

/** The same URL with an expiry a day later than was signed, or `undefined` where it has none. */
export function prolonged(address) {
  const { path, parameters } = split(address);
  const { policy, expires } = takeApart(address);
  if (!expires) return undefined;
  const later = String(expires + DAY);
  const altered = parameters.map(({ name, raw }) => {
    if (name === "Policy") return `Policy=${encode(policy.replace(String(expires), later))}`;
    if (name === "Expires") return `Expires=${later}`;
    return raw;
  });
  return `${path}?${altered.join("&")}`;
}

const isTime = (seconds) => Number.isInteger(seconds) && Math.abs(seconds) <= LAST;

// By hand, because URLSearchParams would encode the `~` of a signature, and the edge is to get what was
// signed.
function split(address) {
  const [path] = address.split(/[?#]/);
  const parameters = query(address)
    .split("&")
    .filter(Boolean)
    .map((raw) => {
      const [name, value = ""] = raw.split(/=(.*)/s);
      return { name, raw, value: decoded(value) };
    });
  return { path, parameters };
}

function query(address) {
  return address.split("#")[0].split(/\?(.*)/s)[1] ?? "";
}

// A stray `%` is no reason not to show the rest.
function decoded(value) {
  try {
    return decodeURIComponent(value);
  } catch {
    return value;
  }
}

// CloudFront's base64 is not RFC 4648's for URLs: `-` is `+`, `_` is `=` and `~` is `/`.
const TO_BASE64 = { "-": "+", _: "=", "~": "/" };
const FROM_BASE64 = { "+": "-", "=": "_", "/": "~" };

function decode(value) {
  const binary = atob(value.replace(/[-_~]/g, (character) => TO_BASE64[character]));
  return new TextDecoder().decode(Uint8Array.from(binary, (character) => character.charCodeAt(0)));
}

function encode(text) {
  const binary = String.fromCharCode(...new TextEncoder().encode(text));
  return btoa(binary).replace(/[+=/]/g, (character) => FROM_BASE64[character]);
}
