// What the edge answers, in its own words.

/**
 * Asks the edge and says what it answered: `{status, ok, code, message, type}`; without a status, nothing
 * came.
 */
export async function ask(address) {
  const answer = await fetch(address, { cache: "no-store", credentials: "omit" }).catch(() => undefined);
  if (!answer) return { ok: false };
  const { status, ok, headers, statusText } = answer;
  const type = headers.get("content-type") ?? "";
  if (ok) {
    await answer.body?.cancel();
    return { status, ok, type };
  }
  // What is no XML, as of a proxy before the edge, a browser would make a page of, with styles that it may not have.
  const isRefusal = /\bxml\b/.test(type);
  const text = isRefusal ? await answer.text().catch(() => "") : "";
  const refusal = isRefusal && new DOMParser().parseFromString(text, "text/xml");
  const part = (name) => (refusal ? refusal.querySelector(name)?.textContent : undefined);
  return { status, ok, type, code: part("Code"), message: part("Message") ?? statusText };
}

/** Code and message of an answer, as far as it has them. */
export function words({ code, message }) {
  return [code, message].filter(Boolean).join(": ");
}
