// One asset: watched through the real edge, taken apart, shared, rolled back, removed.

import { Unreachable, json, reason, segment, service } from "./api.js";
import { beginningOf, details, panel, renditions, table } from "./details.js";
import { confirmed } from "./dialogs.js";
import { announce, button, complain, h, icon, named } from "./dom.js";
import { Row, isOver, showJob } from "./jobs.js";
import { sharePanel } from "./share.js";
import { age, bytes, clock, count, moment, several, summary } from "./words.js";

/** The longest that a timer of a browser can wait, in milliseconds. */
const LONGEST_TIMER = 2 ** 31 - 1;

/** The view of the asset by this id. `about` asks what the service is. */
export function assetView({ id, about, assets, jobs }) {
  const title = h("h1", { id: "asset-title", tabindex: -1 }, named(id));
  const glance = h("p", { class: "quiet" });
  const head = h("div", { class: "actions" });
  const making = h("ul", { class: "rows", hidden: true });
  const body = h("div", { class: "asset", "aria-busy": "true" });
  const element = h(
    "section",
    { class: "view", "aria-labelledby": "asset-title" },
    h("a", { class: "back", href: "#/" }, icon("back"), "Library"),
    h("div", { class: "bar" }, h("div", {}, title, glance), head),
    making,
    body,
  );
  const leaving = new AbortController();
  const { signal } = leaving;
  const row = new Row();
  let playing = [];
  let generation;

  async function load() {
    try {
      const [asset, said] = await Promise.all([json(`v1/assets/${segment(id)}`, { signal }), about()]);
      if (signal.aborted) return;
      assets.take(asset);
      draw(asset, said);
    } catch (error) {
      if (!signal.aborted) drawProblem(error);
    }
    body.setAttribute("aria-busy", "false");
  }

  function drawProblem(error) {
    stop();
    generation = undefined;
    const isMissing = error.status === 404;
    if (isMissing) assets.remove(id);
    const words = isMissing
      ? "There is no video by this name: it is not published yet, or it was deleted."
      : error instanceof Unreachable
        ? "It is shown as soon as the service answers."
        : `It cannot be shown. ${reason(error)}`;
    glance.textContent = "";
    head.replaceChildren();
    body.replaceChildren(
      h(
        "div",
        { class: "panel wide" },
        h("p", { role: "alert" }, words),
        h("div", { class: "actions" }, button("Try again", load, { sign: "retry" })),
      ),
    );
  }

  function draw(asset, said) {
    stop();
    generation = asset.generation;
    const short = summary(asset);
    const marks = [short.isHdr && "HDR", short.isEncrypted && "encrypted"].filter(Boolean);
    glance.textContent = [
      clock(short.duration),
      bytes(short.bytes),
      ...marks,
      `encoded ${age(short.created)}`,
    ].join(" · ");
    head.replaceChildren(
      button("Delete", () => remove(asset), { kind: "danger", sign: "trash", "aria-label": `Delete ${id}` }),
    );
    const missing = settingsMissing(said);
    const screen = h("div");
    const gate = h("div", { class: "below" });
    const share = panel(
      "Share",
      missing.length > 0
        ? h("p", {}, "Links can be made once videos play here.")
        : sharePanel(asset, said.playback),
    );
    share.classList.replace("wide", "beside");
    body.replaceChildren(
      h("section", { class: "screen", "aria-label": "Watch" }, screen),
      share,
      gate,
      details(asset),
      renditions(asset),
      generations(asset),
    );
    if (missing.length > 0) screen.append(unplayable(missing));
    else play(asset, screen, gate);
  }

  async function play(asset, screen, gate) {
    // Whoever has a new URL goes on where the old one stopped.
    const from = playing.find(({ video }) => video)?.video.currentTime;
    stop();
    // The button that asked for it goes: the keyboard stays here.
    if (screen.contains(document.activeElement)) {
      screen.tabIndex = -1;
      screen.focus();
    }
    screen.replaceChildren(h("p", { class: "message quiet", role: "status" }, "Asking for a signed URL…"));
    gate.replaceChildren();
    try {
      const [playback, { createPlayer }, { createGate }] = await Promise.all([
        json("v1/playback", { body: { asset: id }, signal }),
        import("./player.js"),
        import("./gate.js"),
      ]);
      // Meanwhile the view may have been left, or drawn anew.
      if (signal.aborted || !screen.isConnected) return;
      const { url, storyboard, poster, expires } = playback;
      screen.replaceChildren();
      playing.push(createPlayer(screen, { url, storyboard, poster, title: id, from }));
      playing.push(createGate(gate, { url, elsewhere: another(url), expired }));
      watchExpiry(expires, () => screen.prepend(expiry(() => play(asset, screen, gate))));
    } catch (error) {
      if (signal.aborted || !screen.isConnected) return;
      screen.replaceChildren(
        h(
          "div",
          { class: "message" },
          h("p", { role: "alert" }, `It cannot be played. ${reason(error)}`),
          button("Try again", () => play(asset, screen, gate), { sign: "retry" }),
        ),
      );
    }
  }

  /** The path of another asset's playlist beside this one: a real one where there is one. */
  function another(url) {
    const other = assets.all.find(({ name }) => name !== id)?.name ?? "another";
    return new URL(url).pathname.replace(`/${id}/`, `/${other}/`);
  }

  /** A URL like this one that is over in a second. */
  async function expired() {
    return (await json("v1/playback", { body: { asset: id, lifetime: 1 }, signal })).url;
  }

  function watchExpiry(expires, over) {
    const wait = Date.parse(expires) - Date.now();
    if (!(wait < LONGEST_TIMER)) return;
    const timer = setTimeout(over, Math.max(0, wait));
    playing.push({ destroy: () => clearTimeout(timer) });
  }

  function expiry(renew) {
    return h(
      "div",
      { class: "over", role: "status" },
      h("p", {}, "The signed URL has expired: what is not loaded yet does not come any more."),
      button("Get a new one", renew, { kind: "primary" }),
    );
  }

  function stop() {
    playing.forEach((part) => part.destroy());
    playing = [];
  }

  async function remove(asset) {
    const { generations: all } = asset;
    const total = all.reduce((sum, { bytes }) => sum + bytes, 0);
    const objects = all.reduce((sum, { objects }) => sum + objects, 0);
    const isWanted = await confirmed({
      title: `Delete ${id}?`,
      words: [
        `${several(all.length, "encode")} with ${several(objects, "object")}, ${bytes(total)}, will be gone.`,
        "Every link to it stops. This cannot be undone.",
        "The file that was uploaded stays where it is.",
        ...(unfinished() ? ["A job is encoding it right now: cancel that as well, or it comes back."] : []),
      ],
      yes: "Delete it",
      no: "Keep it",
      danger: true,
    });
    if (!isWanted) return;
    try {
      await json(`v1/assets/${segment(id)}`, { method: "DELETE" });
    } catch (error) {
      if (error.status !== 404) return complain(`${id} is not deleted. ${reason(error)}`);
    }
    assets.remove(id);
    announce(`${id} is deleted`);
    location.replace("#/");
  }

  async function rollBack({ generation: to, words }) {
    const isWanted = await confirmed({
      title: "Play this encode?",
      words: [
        `Viewers of ${id} get the encode of ${words} from now on.`,
        "The other ones stay, so you can change it again.",
      ],
      yes: "Play it",
      no: "Leave it",
    });
    if (!isWanted) return;
    try {
      await json(`v1/assets/${segment(id)}/rollback`, { body: { generation: to } });
      announce(`The encode of ${words} plays now`);
    } catch (error) {
      complain(`It was not changed. ${reason(error)}`);
    }
    await load();
    title.focus();
  }

  function generations({ generations: all }) {
    const rows = [...all]
      .reverse()
      .map(({ generation: name, is_played, is_complete, objects, bytes: size }) => {
        const begun = beginningOf(name);
        const words = begun ? moment(begun) : name;
        const state = is_played ? "plays now" : is_complete ? "kept" : "not complete";
        const act =
          !is_played &&
          is_complete &&
          button("Play this one", () => rollBack({ generation: name, words }), {
            "aria-label": `Play this one: the encode of ${words}`,
          });
        return [h("span", { title: name }, words), state, count(objects), bytes(size), act];
      });
    return panel(
      "Encodes",
      h("p", { class: "quiet" }, "Each encode is kept whole, so an earlier one can be played again at once."),
      table("Encodes", ["Made", "State", ["Objects"], ["Size"], ""], rows),
    );
  }

  const unfinished = () => jobs.all.find((job) => job.asset === id && !isOver(job));

  function follow() {
    const job = unfinished();
    making.hidden = !job;
    if (!job) return;
    showJob(row, job, jobs);
    if (!row.element.isConnected) making.append(row.element);
  }

  function jobChanged({ detail: { job, before } }) {
    if (job.asset !== id) return;
    follow();
    if (job.state === "done" && before && before.state !== "done" && job.generation !== generation) load();
  }

  jobs.addEventListener("job", jobChanged);
  // What did not play may play now: it may have been started with other settings.
  const back = () => playing.length === 0 && load();
  service.addEventListener("reachable", back);
  follow();
  load();
  return {
    element,
    title: id,
    leave() {
      leaving.abort();
      jobs.removeEventListener("job", jobChanged);
      service.removeEventListener("reachable", back);
      stop();
    },
  };
}

/** Which settings are missing for a video to play here, as `[flag, what it is]`. */
function settingsMissing({ edge, signs }) {
  return [
    ...(edge ? [] : [["--edge https://media.example.com", "where viewers reach the edge"]]),
    ...(signs
      ? []
      : [
          ["--key-pair-id ID", "the name of the key pair, as in the edge’s TRUSTED_KEYS"],
          ["--private-key FILE", "its private key, as transcoder keygen makes one"],
        ]),
  ];
}

function unplayable(missing) {
  return h(
    "div",
    { class: "message" },
    h("h2", {}, "Nothing plays here yet"),
    h("p", {}, "Videos are watched through the edge, by signed URLs. Start the service with:"),
    h(
      "ul",
      { class: "notes" },
      missing.map(([flag, words]) => h("li", {}, h("code", {}, flag), `: ${words}`)),
    ),
    h("p", { class: "quiet" }, "All else on this page works without."),
  );
}
