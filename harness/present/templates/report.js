// The report's tables: a click on a heading sorts; without this script they stay as they are.
"use strict";

const UNITS = { s: 1, min: 60, h: 3600 };

/** Return the number that a cell begins with, times in seconds, or null. */
function leading(text) {
  const found = text.match(/^\s*(-?[\d,]*\.?\d+(?:e[-+]?\d+)?)(?: (s|min|h)(?![a-z]))?/i);
  return found && Number(found[1].replaceAll(",", "")) * (UNITS[found[2]] ?? 1);
}

for (const table of document.querySelectorAll("table")) {
  const headings = [...table.querySelectorAll("thead tr:last-child th")];
  const bodies = [...table.tBodies];
  let order = UNSORTED;
  sortButtons(headings, (clicked) => {
    const text = (row) => row.cells[clicked].textContent.trim();
    const numbers = bodies.some((body) => [...body.rows].some((row) => leading(text(row)) !== null));
    order = nextOrder(order, clicked, headings[clicked].dataset.more !== undefined);
    sortRows(bodies, (row) => (order.column === null ? Number(row.dataset.row)
      : numbers && clicked ? leading(text(row)) : text(row).toLowerCase()), order.down);
    markOrder(headings, order);
  });
}
