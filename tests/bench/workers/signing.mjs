//! Hands an authority on to the links of a media playlist, in JavaScript: by lines, as most do, and by bytes.
//!
//! Links to other hosts are left alone. What the gate does besides (variables, line ends of other alphabets, a query
//! that is there already) costs the gate something, not these.

/** The commonest way. */
export function signedByLines(text, authority) {
  return text
    .split("\n")
    .map((line) => {
      if (line === "" || line === "\r") return line;
      if (line[0] !== "#") return signedLink(line, authority);
      return line.startsWith("#EXTINF") ? line : signedTag(line, authority);
    })
    .join("\n");
}

const LINKING = /^#EXT-X-(?:KEY|MAP|PART|MEDIA|SESSION-KEY|SESSION-DATA|PRELOAD-HINT|RENDITION-REPORT|I-FRAME-STREAM-INF):/;

function signedTag(line, authority) {
  if (!LINKING.test(line)) return line;
  return line.replace(/([:,]URI=")([^"]*)"/, (_, before, link) => `${before}${signedLink(link, authority)}"`);
}

function signedLink(link, authority) {
  if (link.startsWith("//") || /^[a-z][a-z0-9+.-]*:/i.test(link)) return link;
  const joiner = link.includes("?") ? "&" : "?";
  return link.endsWith("\r") ? `${link.slice(0, -1)}${joiner}${authority}\r` : `${link}${joiner}${authority}`;
}

const utf8 = new TextEncoder();
const text = new TextDecoder();
const [LINE_FEED, RETURN, HASH, DASH, QUERY, AND, COLON, SLASH] = utf8.encode("\n\r#-?&:/");

/** From bytes to bytes: first where the authority goes, then a copy of all at once. */
export function signedByBytes(bytes, authority) {
  const authorityBytes = utf8.encode(`?${authority}`);
  const pieces = [];
  let length = bytes.length;
  let copied = 0;
  const put = (at, piece, resume) => {
    pieces.push(bytes.subarray(copied, at), piece);
    length += piece.length - (resume - at);
    copied = resume;
  };
  for (let start = 0; start < bytes.length; ) {
    const feed = bytes.indexOf(LINE_FEED, start);
    const next = feed < 0 ? bytes.length : feed + 1;
    let end = feed < 0 ? next : feed;
    if (end > start && bytes[end - 1] === RETURN) end -= 1;
    if (bytes[start] === HASH) {
      // Of `#EXT-X-…`. Most tags are `#EXTINF`.
      if (bytes[start + 4] === DASH) {
        const line = text.decode(bytes.subarray(start, end));
        const signed = signedTag(line, authority);
        if (signed !== line) put(start, utf8.encode(signed), end);
      }
    } else if (end > start) {
      const kind = kindOf(bytes, start, end);
      if (kind === PLAIN) {
        put(end, authorityBytes, end);
      } else if (kind === QUERIED) {
        const joined = authorityBytes.slice();
        joined[0] = AND;
        put(end, joined, end);
      }
    }
    start = next;
  }
  const out = new Uint8Array(length);
  let at = 0;
  for (const piece of [...pieces, bytes.subarray(copied)]) {
    out.set(piece, at);
    at += piece.length;
  }
  return out;
}

const [PLAIN, QUERIED, ELSEWHERE] = [0, 1, 2];

/** Whether a link leads to a host of its own, which has a scheme or two slashes, or else has a query. */
function kindOf(bytes, start, end) {
  if (bytes[start] === SLASH && bytes[start + 1] === SLASH) return ELSEWHERE;
  let inScheme = true;
  for (let i = start; i < end; i += 1) {
    const byte = bytes[i];
    if (byte === COLON && inScheme) return ELSEWHERE;
    if (byte === QUERY) return QUERIED;
    if (byte === SLASH) inScheme = false;
  }
  return PLAIN;
}
