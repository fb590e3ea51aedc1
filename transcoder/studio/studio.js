// The studio: routes, the way in, and what all views share.

import { hasToken, json, service, signIn, signOut, token } from "./api.js";
import { assetView } from "./asset.js";
import { complain, announce, h } from "./dom.js";
import { Jobs, jobsView, tell } from "./jobs.js";
import { Assets, libraryView } from "./library.js";
import { Uploads, dropped } from "./uploads.js";

const element = (id) => document.getElementById(id);
const main = element("main");
const chooser = element("chooser");
const door = element("door");
const tokenField = element("token");

const [assets, jobs, uploads] = [new Assets(), new Jobs(), new Uploads()];

let shown;
let library;
let known;
const places = new Map();

function route() {
  const [, name = "", id = ""] = location.hash.slice(1).split("/");
  if (name === "") return library;
  if (name === "jobs" && !id) return jobsView(jobs);
  if (name === "assets" && id) return assetView({ id: decoded(id), about, assets, jobs });
  return nowhere();
}

/** What the service is: asked for once it answers. */
function about() {
  known ??= json("v1/studio").catch((error) => {
    known = undefined;
    throw error;
  });
  return known;
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function nowhere() {
  const title = h("h1", { tabindex: -1 }, "There is nothing here");
  const back = h("p", {}, h("a", { href: "#/" }, "Go to the library"), ".");
  return { element: h("section", { class: "view" }, title, back), title: "Nothing here" };
}

function show() {
  const isFirst = shown === undefined;
  const from = shown?.hash;
  if (!isFirst) places.set(from, scrollY);
  const view = route();
  if (shown?.view === view) return;
  shown?.view.leave?.();
  shown = { view, hash: location.hash };
  main.replaceChildren(view.element);
  document.title = `${view.title} · Reelgate`;
  for (const link of document.querySelectorAll("nav a")) {
    const isHere = link.hash === (location.hash || "#/");
    // An asset's view is a part of the library.
    const isAbove = link.hash === "#/" && location.hash.startsWith("#/assets/");
    if (isHere || isAbove) link.setAttribute("aria-current", isHere ? "page" : "true");
    else link.removeAttribute("aria-current");
  }
  // A page that was just opened is read from its top, but for whoever comes from signing in.
  if (isFirst && document.activeElement !== main) return;
  // Back in the library one stands where one was, with the keyboard on the card one came from.
  const origin =
    view === library ? [...main.querySelectorAll("a")].find((link) => link.hash === from) : undefined;
  (origin ?? main.querySelector("h1"))?.focus({ preventScroll: true });
  scrollTo({ top: view === library ? (places.get(shown.hash) ?? 0) : 0, behavior: "instant" });
}

function takeFiles(files) {
  if (files.length === 0) return;
  const added = uploads.add(files);
  if (shown.view !== library) location.hash = "#/";
  announce(
    added.length === 1
      ? `${added[0].name} is added to the uploads`
      : `${added.length} files are added to the uploads`,
  );
}

function offerDropping() {
  const veil = element("veil");
  const hasFiles = ({ dataTransfer }) => [...(dataTransfer?.types ?? [])].includes("Files");
  let depth = 0;
  const over = (is) => (veil.hidden = !is);
  addEventListener("dragenter", (event) => {
    if (!hasFiles(event) || !door.hidden) return;
    event.preventDefault();
    depth += 1;
    over(true);
  });
  addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = door.hidden ? "copy" : "none";
  });
  addEventListener("dragleave", (event) => {
    if (!hasFiles(event)) return;
    depth = Math.max(0, depth - 1);
    over(depth > 0);
  });
  addEventListener("drop", async (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    depth = 0;
    over(false);
    if (!door.hidden) return;
    try {
      takeFiles(await dropped(event.dataTransfer));
    } catch {
      complain("What was dropped cannot be read: choose the files with the button.");
    }
  });
  chooser.addEventListener("change", () => {
    takeFiles([...chooser.files].map((file) => ({ file, path: file.name })));
    chooser.value = "";
  });
}

function offerTheWayIn() {
  const problem = element("token-problem");
  service.addEventListener("token", () => {
    door.hidden = false;
    element("app").hidden = true;
    document.title = "Sign in · Reelgate";
    // One that was kept is not the service's any more.
    if (hasToken()) refuse("The service has another token now.");
    tokenField.focus();
  });
  service.addEventListener("admitted", () => {
    tokenField.value = "";
    door.hidden = true;
    element("app").hidden = false;
    element("sign-out").hidden = false;
    if (!shown) return main.focus();
    document.title = `${shown.view.title} · Reelgate`;
    return main.querySelector("h1")?.focus();
  });
  element("token-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const token = tokenField.value.trim();
    refuse(token ? "" : "Enter the token that the service was started with.");
    if (!token) return;
    refuse((await signIn(token)) ?? "");
  });
  element("sign-out").addEventListener("click", signOut);
  element("sign-out").hidden = !hasToken();

  function refuse(words) {
    problem.textContent = words;
    tokenField.toggleAttribute("aria-invalid", Boolean(words));
    if (words) tokenField.focus();
  }
}

async function tellAbout() {
  try {
    const { admitted, version, max_upload: largest } = await about();
    uploads.largest = largest;
    element("version").textContent = `Reelgate ${version}`;
    return admitted;
  } catch {
    // Asked again when the service answers.
    return undefined;
  }
}

offerTheWayIn();
offerDropping();
element("skip").addEventListener("click", (event) => {
  event.preventDefault();
  (main.querySelector("h1") ?? main).focus();
});
service.addEventListener("unreachable", () => (element("unreachable").hidden = false));
service.addEventListener("reachable", () => {
  element("unreachable").hidden = true;
  announce("The service answers again");
  // It may be another one by now, or have other settings.
  known = undefined;
  tellAbout();
});
jobs.addEventListener("job", ({ detail }) => tell(detail));
addEventListener("beforeunload", (event) => uploads.isActive && event.preventDefault());

// One question first, which anybody may ask: it says whether a token is needed.
if ((await tellAbout()) === false) await token();
library = libraryView({ assets, jobs, uploads, choose: () => chooser.click() });
addEventListener("hashchange", show);
show();
assets.load();
jobs.follow();
