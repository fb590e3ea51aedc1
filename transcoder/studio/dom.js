// Elements, made and filled. What comes from outside becomes text and nothing else.

// Drawn on a square of 24, as lines.
const ICONS = {
  upload: "M12 16V4m0 0L7 9m5-5 5 5M4 16v3a1 1 0 0 0 1 1h14a1 1 0 0 0 1-1v-3",
  film: "M4 5h16v14H4zM8 5v14M16 5v14M4 9.7h4M4 14.3h4M16 9.7h4M16 14.3h4",
  back: "M19 12H5m0 0 6-6m-6 6 6 6",
  copy: "M9 9h11v11H9zM15 9V4H4v11h5",
  trash: "M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13M10 11v5M14 11v5",
  retry: "M20 11a8 8 0 1 0-2.3 6.3M20 4v7h-7",
  close: "M6 6l12 12M18 6 6 18",
  done: "M5 13l4.5 4.5L19 7",
  failed: "M12 9v5m0 3v.1M12 3.5 2.5 20.5h19z",
  play: "M8 5.5v13l10.5-6.5z",
};

/** An element. `on…` among the attributes are listeners; `null`, `undefined` and `false` leave one out. */
export function h(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : String(value));
  }
  made.append(...children.flat().filter((child) => child !== undefined && child !== null && child !== false));
  return made;
}

/** One of the page's pictograms. */
export function icon(name) {
  return drawing({ line: ICONS[name] }, { class: "icon" });
}

/** A pictogram of lines and of what is filled. It says nothing to a screen reader: the words of what holds it do. */
export function drawing(paths, attributes = {}) {
  const svg = vector("svg", { viewBox: "0 0 24 24", "aria-hidden": "true", focusable: "false", ...attributes });
  svg.append(...Object.entries(paths).map(([kind, d]) => vector("path", { d, class: `icon-${kind}` })));
  return svg;
}

function vector(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

/** A button that says what it does. */
export function button(words, onclick, { kind = "plain", sign, ...attributes } = {}) {
  return h("button", { type: "button", class: kind, onclick, ...attributes }, sign && icon(sign), words);
}

/** A video's name, the digest in it made quiet: the service adds one where two files could have one name. */
export function named(asset) {
  const [, name, digest] = asset.match(/^(.+)(-[0-9a-f]{16})$/) ?? [undefined, asset];
  return digest ? [name, h("span", { class: "digest" }, digest)] : [name];
}

/** Writes only what changed, so that nothing is read out or drawn again for nothing. */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Puts these children, in this order, into a list, and leaves alone what stands where it belongs. */
export function arrange(list, children) {
  const focused = list.contains(document.activeElement) ? document.activeElement : undefined;
  const wanted = new Set(children);
  for (const child of [...list.children]) if (!wanted.has(child)) child.remove();
  let place = list.firstElementChild;
  for (const child of children) {
    if (child === place) place = place.nextElementSibling;
    else list.insertBefore(child, place);
  }
  if (focused?.isConnected && focused !== document.activeElement) focused.focus({ preventScroll: true });
}

/** Has it read out by a screen reader, once, when it has a moment. */
export function announce(words) {
  const said = h("p", {}, words);
  document.getElementById("said").append(said);
  setTimeout(() => said.remove(), 10_000);
}

/** Says at the foot of the page that something did not work, until it is put away. */
export function complain(words) {
  const notices = document.getElementById("notices");
  if ([...notices.children].some((notice) => notice.firstChild.textContent === words)) return;
  const notice = h("div", { class: "notice", role: "alert" }, h("p", {}, words));
  notice.append(button("Close", () => notice.remove(), { sign: "close" }));
  notices.append(notice);
}
