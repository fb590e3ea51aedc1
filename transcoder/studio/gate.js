// The panel that teaches: what a signed URL says, and what the edge answers to it and to what is not quite
// it.

import { h } from "./dom.js";
import { ask, words } from "./edge-answer.js";
import { bare, elsewhere, pieces, prolonged, takeApart } from "./signed-url.js";
import { moment, span } from "./words.js";

// The edge's clock and this one are seldom of one mind.
const SKEW_SECONDS = 1;
const LONGEST_WAIT_SECONDS = 30;
const UNSIGNED = "Nobody vouches for this request: it has no policy, no signature and no key.";

let made = 0;

/**
 * Takes the signed `url` apart in `container`, and lets anybody try the gate. `another` asset is asked for at
 * the path `elsewhere`; `expired`, where it is given, gets a URL that is signed like this one and over, or
 * soon will be.
 */
export function createGate(container, { url, elsewhere: path, expired }) {
  const leaving = new AbortController();
  const id = `gate-${(made += 1)}`;
  const attempts = section(
    `${id}-try`,
    "Try the gate",
    h("p", {}, "Each button sends a real request to the edge, from this page."),
    h("ul", { class: "attempts" }, ...offers(url, { path, expired }, leaving.signal)),
  );
  const said = section(`${id}-says`, "What the URL says", ...describe(url, leaving.signal));
  const root = h("div", { class: "gate" }, attempts, said);
  container.append(root);
  return {
    destroy() {
      leaving.abort();
      root.remove();
    },
  };
}

function section(id, heading, ...children) {
  return h("section", { "aria-labelledby": id }, h("h2", { id }, heading), ...children);
}

function offers(url, { path, expired }, signal) {
  const said = takeApart(url);
  const wanted = [
    { attempt: "signed", label: "With signature", address: async () => url, why: whySigned },
    { attempt: "bare", label: "Without signature", address: async () => bare(url), why: whyBare },
    {
      attempt: "elsewhere",
      label: "Another asset",
      address: async () => elsewhere(url, path),
      why: whyElsewhere,
    },
    expired && {
      attempt: "expired",
      label: "Expired",
      address: (wait) => over(expired, wait, signal),
      why: whyExpired,
    },
    { attempt: "altered", label: "Altered policy", address: async () => prolonged(url), why: whyAltered },
  ];
  return wanted.filter(Boolean).map(({ attempt, label, address, why }) => {
    const output = h("output", { "aria-live": "polite" }, "not tried");
    const button = h("button", { type: "button", "data-attempt": attempt }, label);
    // What names no expiry cannot be given a later one.
    button.disabled = attempt === "altered" && !prolonged(url);
    button.addEventListener(
      "click",
      async () => {
        // Still in focus, for whoever came by keys: only deaf.
        if (button.ariaDisabled === "true") return;
        button.ariaDisabled = "true";
        output.removeAttribute("data-answer");
        output.textContent = "asking…";
        const wait = (text) => (output.textContent = text);
        await address(wait)
          .then(async (asked) => show(output, await ask(asked), (answer) => why(answer, said, asked)))
          .catch((error) => signal.aborted || (output.textContent = error.message));
        button.ariaDisabled = null;
      },
      { signal },
    );
    return h("li", {}, button, output);
  });
}

/** A URL that has expired, once it has. */
async function over(expired, wait, signal) {
  const url = await expired();
  const { expires, problem } = takeApart(url);
  if (!expires) throw new Error(problem ?? "There is no expiry in what was signed.");
  const until = expires + SKEW_SECONDS;
  if (until - now() > LONGEST_WAIT_SECONDS) {
    throw new Error(`What was signed is good for ${span(until - now())} more: too long to wait for its end.`);
  }
  while (now() < until) {
    wait(`signed; over in ${span(Math.ceil(until - now()))}…`);
    await new Promise((resolve) => setTimeout(resolve, 250));
    signal.throwIfAborted();
  }
  return url;
}

function show(output, answer, why) {
  const { status, ok, type } = answer;
  output.dataset.answer = ok ? "open" : "refused";
  const says = ok ? type : status ? words(answer) : "that a page may read: is the edge running?";
  output.replaceChildren(
    h("strong", {}, String(status ?? "no answer")),
    h("span", { "data-says": true }, says),
    h("span", { class: "why" }, why(answer)),
  );
}

function whySigned({ status, ok }, { signature, expires, from }) {
  if (ok) return "The signature fits the policy, and the policy covers this path at this time: open.";
  if (!status) return "Nothing came back.";
  if (status === 404) return "It may be had, but it is not there.";
  if (status >= 500) return "The gate opened, but what is behind it failed.";
  if (status !== 403) return "";
  if (!signature) return UNSIGNED;
  if (expires <= now()) return "The time in its policy is over.";
  if (from) return `It opens only for ${from}, or its signature is of a key that the edge does not trust.`;
  return "Its signature is of a key that the edge does not trust, or its time has not begun.";
}

function whyBare({ ok, status }) {
  if (ok) return "This path is open to everybody, by the edge's own settings (PUBLIC_PATHS), or by cookies.";
  return status === 403 ? UNSIGNED : "";
}

function whyElsewhere({ ok, status }, { signature, resource }, asked) {
  const { pathname } = new URL(asked);
  if (ok && resource) return `This signature is for ${resource}, which covers ${pathname} as well.`;
  if (status === 404) return `The signature covers ${pathname}, but nothing is there.`;
  if (status !== 403) return "";
  if (!signature) return UNSIGNED;
  return resource ? `The signature is for ${resource}: ${pathname} is none of that.` : "";
}

function whyExpired({ ok, status }, _, asked) {
  const { expires } = takeApart(asked);
  if (ok) return "The edge's clock is behind the one of this machine: try again in a moment.";
  return status === 403
    ? `It was signed like the first, but for no longer than ${moment(1000 * expires)}.`
    : "";
}

function whyAltered({ ok, status }) {
  if (ok) return "It opens. It must not: the policy was changed after it was signed.";
  return status === 403 ? "The policy now says a day more. Its signature is for what it said before." : "";
}

function describe(url, signal) {
  const said = takeApart(url);
  const remaining = h("p", { class: "remaining", role: "timer" });
  countDown(remaining, said, signal);
  const terms = {
    Opens: said.resource ?? (said.problem ? undefined : "everything"),
    Until: said.expires && moment(1000 * said.expires),
    "Not before": said.starts && moment(1000 * said.starts),
    "Only from": said.from,
    "Key pair": said.keyPairId,
    Signature:
      said.signature &&
      `${said.signature.slice(0, 24)}… (${said.signature.length} characters, over ${said.hash})`,
  };
  const rows = Object.entries(terms)
    .filter(([, value]) => value)
    .map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)));
  return [
    remaining,
    h("dl", { class: "terms" }, ...rows),
    disclosure("The policy", ...policy(said)),
    disclosure("The whole URL", whole(url)),
  ];
}

function disclosure(summary, ...children) {
  return h("details", {}, h("summary", {}, summary), ...children);
}

function policy({ policy: text, problem }) {
  if (!text)
    return [
      h(
        "p",
        {},
        problem ?? "A canned policy is not sent: both sides know its words, and that is what was signed.",
      ),
    ];
  return [
    h("p", {}, "Read with its lines broken:"),
    h("pre", { tabindex: "0" }, h("code", {}, JSON.stringify(JSON.parse(text), null, 2))),
    h("p", {}, "As it was signed, to the byte:"),
    h("code", { "data-policy": true }, text),
  ];
}

// A parameter a line: what each is can be seen then.
function whole(url) {
  const { path, parameters } = pieces(url);
  const lines = parameters.map(({ name, value }, index) =>
    h("span", { class: "piece" }, index ? "&" : "?", h("b", {}, name), `=${value}`),
  );
  return h("code", { "data-url": true }, path, ...lines);
}

function countDown(element, { expires, problem }, signal) {
  if (!expires) {
    element.textContent = problem ?? "no expiry in this policy";
    return;
  }
  const tick = () => {
    const left = expires - Math.floor(now());
    element.toggleAttribute("data-over", left <= 0);
    element.textContent = left > 0 ? `${duration(left)} left` : "expired: the edge refuses it now";
    if (left <= 0) clearInterval(timer);
  };
  const timer = setInterval(tick, 1000);
  signal.addEventListener("abort", () => clearInterval(timer));
  tick();
}

function duration(seconds) {
  const days = Math.floor(seconds / 86400);
  const parts = [Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60, seconds % 60];
  const clock = parts.map((part) => String(part).padStart(2, "0")).join(":");
  return days ? `${days} day${days === 1 ? "" : "s"} ${clock}` : clock;
}

const now = () => Date.now() / 1000;
