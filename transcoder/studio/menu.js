// A button with choices of which one holds, as the authoring practices of ARIA have it: arrows, Home, End and
// Escape.

import { h } from "./dom.js";

let made = 0;

/**
 * A menu called `label`, and `choose(id)` for what is chosen. `show` takes its choices; with none it is
 * hidden.
 */
export function createMenu({ label, button, choose }) {
  const id = `player-menu-${(made += 1)}`;
  const menu = h("div", { id, class: "player-menu", role: "menu", "aria-label": label, hidden: true });
  const element = h("div", { class: "player-choice", hidden: true }, button, menu);
  button.setAttribute("aria-haspopup", "menu");
  button.setAttribute("aria-expanded", "false");
  button.setAttribute("aria-controls", id);
  const items = () => [...menu.children];

  const open = () => {
    menu.hidden = false;
    button.setAttribute("aria-expanded", "true");
    (menu.querySelector("[aria-checked=true]") ?? menu.firstElementChild)?.focus();
  };
  const close = ({ back = false } = {}) => {
    if (menu.hidden) return;
    menu.hidden = true;
    button.setAttribute("aria-expanded", "false");
    if (back) button.focus();
  };

  button.addEventListener("click", () => (menu.hidden ? open() : close()));
  // Pressing the button takes the focus from the menu first, and would then find it closed.
  button.addEventListener("pointerdown", (event) => {
    if (!menu.hidden) event.preventDefault();
  });
  button.addEventListener("keydown", (event) => {
    if (!["ArrowUp", "ArrowDown"].includes(event.key)) return;
    event.preventDefault();
    open();
  });
  menu.addEventListener("keydown", (event) => {
    const all = items();
    const at = all.indexOf(document.activeElement);
    const target = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1 }[event.key];
    if (target !== undefined) all.at(target % all.length).focus();
    else if (event.key === "Escape") close({ back: true });
    else if (event.key === "Tab") return close();
    else if (!["ArrowLeft", "ArrowRight"].includes(event.key)) return;
    event.preventDefault();
  });
  menu.addEventListener("click", (event) => {
    const item = event.target.closest("[role=menuitemradio]");
    if (!item) return;
    choose(Number(item.dataset.id));
    close({ back: true });
  });
  element.addEventListener("focusout", ({ relatedTarget }) => {
    if (!element.contains(relatedTarget)) close();
  });

  return {
    element,
    get isOpen() {
      return !menu.hidden;
    },
    close,
    show({ list, chosen }) {
      element.hidden = list.length < 2;
      if (element.hidden) close();
      const ids = list.map(({ id }) => String(id)).join();
      // What is looked through right now keeps its elements, and with them the focus.
      if (
        ids !==
        items()
          .map(({ dataset }) => dataset.id)
          .join()
      ) {
        const hadFocus = menu.contains(document.activeElement);
        menu.replaceChildren(
          ...list.map(({ id }) =>
            h("button", { type: "button", role: "menuitemradio", tabindex: "-1", "data-id": id }),
          ),
        );
        if (hadFocus) menu.firstElementChild?.focus();
      }
      list.forEach(({ id, label, note }, index) => {
        const item = menu.children[index];
        item.setAttribute("aria-checked", String(id === chosen));
        const text = [label, note].filter(Boolean).join("\n");
        if (item.dataset.text === text) return;
        item.dataset.text = text;
        item.replaceChildren(h("span", {}, label), ...(note ? [h("small", {}, note)] : []));
      });
    },
  };
}
