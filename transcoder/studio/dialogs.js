// Questions that are asked before something is lost.

import { button, h } from "./dom.js";

/**
 * Asks, and answers whether it is wanted. The keyboard begins at the answer that changes nothing; Escape is
 * that answer, too. `danger` marks what cannot be undone.
 */
export function confirmed({ title, words, yes, no, danger = false }) {
  return new Promise((resolve) => {
    let answer = false;
    const close = (wanted) => {
      answer = wanted;
      dialog.close();
    };
    const keep = button(no, () => close(false), { autofocus: true });
    const dialog = h(
      "dialog",
      { "aria-labelledby": "question", "aria-describedby": "question-words" },
      h(
        "div",
        { class: "inside" },
        h("h2", { id: "question" }, title),
        h(
          "div",
          { id: "question-words" },
          words.map((text) => h("p", {}, text)),
        ),
        h(
          "div",
          { class: "actions" },
          keep,
          button(yes, () => close(true), { kind: danger ? "danger" : "primary" }),
        ),
      ),
    );
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(answer);
    });
    // A press beside it is no answer to a question about something that is lost, but it is a way out.
    dialog.addEventListener("click", ({ target }) => target === dialog && close(false));
    document.body.append(dialog);
    dialog.showModal();
  });
}
