// Takes a signed URL apart to show it, and makes the URLs that must not open anything. Only the edge decides:
// nothing here checks a signature.

const DAY = 24 * 60 * 60;

/** What a signed URL says; `problem` says why where it cannot be read. */
export function takeApart(address) {
  const { parameters } = split(address);
  const value = (name) => parameters.find((parameter) => parameter.name === name)?.value;
  const said = { keyPairId: value("Key-Pair-Id"), signature: value("Signature"), bare: bare(address) };
  if (value("Policy") === undefined) {
    const expires = Number(value("Expires"));
    return expires
      ? { ...said, expires, resource: said.bare }
      : { ...said, problem: "this URL carries no policy" };
  }
  try {
    const text = decode(value("Policy"));
    const statement = JSON.parse(text).Statement;
    const [only] = [statement].flat();
    if (!only) throw new Error("it has no statement");
    const { Resource, Condition = {} } = only;
    return {
      ...said,
      policy: text,
      resource: Resource,
      expires: Condition.DateLessThan?.["AWS:EpochTime"],
      starts: Condition.DateGreaterThan?.["AWS:EpochTime"],
      from: Condition.IpAddress?.["AWS:SourceIp"],
    };
  } catch (error) {
    return { ...said, problem: `its policy cannot be read: ${error.message}` };
  }
}

/** The same URL with nothing to show at the gate. */
export function bare(address) {
  return split(address).path;
}

/** Another asset, asked for with this one's signature. */
export function elsewhere(address) {
  const url = new URL(address);
  return `${url.origin}/assets/another/index.m3u8${url.search}`;
}

/** The same URL with an expiry a day later than was signed, or `undefined` where it has none. */
export function prolonged(address) {
  const { path, parameters } = split(address);
  const { policy, expires } = takeApart(address);
  if (!expires) return undefined;
  const later = String(expires + DAY);
  const query = parameters.map(({ name, raw }) => {
    if (name === "Policy") return `Policy=${encode(policy.replace(String(expires), later))}`;
    if (name === "Expires") return `Expires=${later}`;
    return raw;
  });
  return `${path}?${query.join("&")}`;
}

// By hand, because URLSearchParams would encode the `~` of a signature, and the edge is to get what was signed.
function split(address) {
  const [path, query = ""] = address.split("#")[0].split(/\?(.*)/s);
  const parameters = query
    .split("&")
    .filter(Boolean)
    .map((raw) => {
      const [name, value = ""] = raw.split(/=(.*)/s);
      return { name, raw, value: decoded(value) };
    });
  return { path, parameters };
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
