// Sorting of tables by the buttons in their headings, for the leaderboard and the report.
"use strict";

const UNSORTED = { column: null, down: false };

/** Return the next order after a click on a column: one way, the other way, then not at all. */
function nextOrder({ column, down }, clicked, first) {
  if (column !== clicked) return { column: clicked, down: first };
  return down === first ? { column, down: !first } : UNSORTED;
}

/** Sort rows within each of some bodies by a key; rows whose key is null come last. */
function sortRows(bodies, key, down) {
  for (const body of bodies) {
    const rows = [...body.rows].filter((row) => row.dataset.row !== undefined);
    const keys = new Map(rows.map((row) => [row, key(row)]));
    rows.sort((a, b) => {
      const [x, y] = [keys.get(a), keys.get(b)];
      if (x === null || y === null) return (x === null) - (y === null);
      return (x < y ? -1 : x > y ? 1 : 0) * (down ? -1 : 1);
    });
    body.append(...rows);
  }
}

/** Say in the headings which one the rows are sorted by. */
function markOrder(headings, { column, down }) {
  headings.forEach((th, i) => {
    if (i === column) th.setAttribute("aria-sort", down ? "descending" : "ascending");
    else th.removeAttribute("aria-sort");
  });
}

/** Make a button of each heading. */
function sortButtons(headings, clicked) {
  headings.forEach((th, i) => {
    const button = document.createElement("button");
    Object.assign(button, { type: "button", textContent: th.textContent, title: "sort" });
    button.addEventListener("click", () => clicked(i));
    th.replaceChildren(button);
  });
}
