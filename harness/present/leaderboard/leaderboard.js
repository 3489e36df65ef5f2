// The leaderboard's tables: choose what they show, sort, filter, compare two rows, export.
// The page holds everything: the tables themselves and, as JSON, their other measures.
"use strict";

const boards = JSON.parse(document.getElementById("data").textContent);
const form = document.getElementById("choice");
const said = document.getElementById("said");
const sections = boards.map((board) => document.getElementById(board.name));
let board, section; // those that are shown
let sorting = UNSORTED;

/** Make an element with properties and children. */
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** Fill a list of choices, each [value, text] or [group, choices], and keep the value. */
function fill(select, choices, wanted) {
  const item = ([value, inside]) => (Array.isArray(inside)
    ? make("optgroup", { label: value }, ...inside.map(item))
    : make("option", { value, textContent: inside }));
  select.replaceChildren(...choices.map(item));
  const values = [...select.options].map((o) => o.value);
  select.value = values.includes(wanted) ? wanted : values[0];
}

const rows = (within = section) => [...within.querySelectorAll("tr[data-row]")];
const name = (row) => row.cells[0].textContent.trim();
const titles = () => [...section.querySelectorAll("thead th")].slice(1).map((th) => th.textContent.trim());
const selected = () => rows().filter((row) => row.querySelector("input").checked);
const measures = () => board.choices.flatMap(([, some]) => some); // [key, title]
const titleOf = (measure) => measures().find(([key]) => key === measure)[1];
const entry = (row, column, measure = form.measure.value) =>
  board.entries[measure][row.dataset.row][column];
const shownColumns = () =>
  form.column.value === "" ? titles().map((_, i) => i) : [Number(form.column.value)];

/** Offer the budgets of the task, and show the table of both. */
function chooseBoard(wanted = {}) {
  const own = sections.filter((s) => s.dataset.task === form.task.value);
  fill(form.budget, own.map((s) => [s.dataset.budget, s.dataset.budget]), wanted.budget ?? form.budget.value);
  section = own.find((s) => s.dataset.budget === form.budget.value);
  board = boards[sections.indexOf(section)];
  sections.forEach((s) => { s.hidden = s !== section; });
  fill(form.measure, board.choices, wanted.measure ?? form.measure.value);
  const columns = titles().map((title, i) => [String(i), title]);
  const column = columns.find(([, title]) => title === wanted.column);
  fill(form.column, [["", "all"], ...columns], column ? column[0] : "");
  sorting = UNSORTED;
}

/** Write the chosen measure into the table, and show, hide and sort its rows and columns. */
function show() {
  const measure = form.measure.value;
  const columns = shownColumns();
  const part = form.filter.value.toLowerCase();
  section.querySelector("caption").textContent = titleOf(measure);
  for (const row of rows()) {
    row.classList.toggle("absent", !name(row).toLowerCase().includes(part));
    [...row.cells].slice(1).forEach((cell, column) => {
      const [text, , mark] = entry(row, column);
      cell.firstElementChild.textContent = text || "–";
      cell.className = [mark, /[a-z]{3} /i.test(text) ? "text" : ""].join(" ").trim();
    });
  }
  const conclusions = columns.filter((i) => board.best[measure][i]).flatMap((i) => [
    make("dt", { textContent: titles()[i] }), make("dd", { textContent: board.best[measure][i] })]);
  section.querySelector(".conclusion").replaceChildren(...conclusions);
  for (const line of section.querySelectorAll("tr:not(.band)")) {
    [...line.cells].slice(1).forEach((cell, i) => cell.classList.toggle("absent", !columns.includes(i)));
  }
  sort();
  mayCompare();
  remember();
}

/** Sort the rows of each band by the chosen column; without one, as the page has them. */
function sort() {
  const { column, down } = sorting;
  const key = (row) => (column === null ? Number(row.dataset.row)
    : column < 0 ? name(row).toLowerCase() : entry(row, column)[1]);
  sortRows(section.querySelectorAll("tbody"), key, down);
  markOrder([...section.querySelectorAll("thead th")], { column: column === null ? null : column + 1, down });
}

/** Sort by a column: the best first, then the other way round, then not at all. */
function sortBy(column) {
  const first = column >= 0 && board.more.includes(form.measure.value);
  sorting = nextOrder(sorting, column, first);
  sort();
}

/** Keep what is shown in the address, so that it can be passed on. */
function remember() {
  const state = new URLSearchParams({ task: form.task.value, budget: form.budget.value,
    measure: form.measure.value });
  if (form.column.value !== "") state.set("column", titles()[form.column.value]);
  history.replaceState(null, "", `#${state}`);
}

// -- two rows side by side ------------------------------------------------------------------------

function mayCompare() {
  const n = selected().length;
  document.getElementById("compare").disabled = n !== 2;
  said.textContent = n === 1 ? "Select one more row to compare." : "";
}

/** Open the comparison of the two selected rows on all data sets that are shown. */
function compare() {
  const pair = selected();
  const [first, second] = pair.sort((a, b) => a.dataset.row - b.dataset.row);
  const body = shownColumns().flatMap((column) => {
    const cells = (measure) => pair.map((row) => entry(row, column, measure)[0]);
    const known = measures().filter(([key]) => cells(key).some((text) => text && text !== "–"));
    if (!known.length) return [];
    const line = (tag, texts) => make("tr", {}, ...texts.map((t, i) =>
      make(i ? tag : "th", { textContent: t, scope: i ? "" : "row" })));
    const table = make("table", {},
      make("thead", {}, line("th", ["", name(first), name(second)])),
      make("tbody", {}, ...known.map(([key, title]) => line("td", [title, ...cells(key)]))));
    return [make("h3", { textContent: titles()[column] }), paired(column, first, second),
      make("div", { className: "scroll" }, table)];
  });
  document.getElementById("pair-title").textContent = `${name(first)} beside ${name(second)}`;
  document.getElementById("pair-body").replaceChildren(...body);
  document.getElementById("pair").showModal();
}

/** Say what the paired test decides of two rows on a data set. */
function paired(column, first, second) {
  const found = board.pairs[column][`${first.dataset.row},${second.dataset.row}`];
  if (!found) {
    return make("p", { className: "soft", textContent: "No paired test: the records of one of them lack errors of single series." });
  }
  const winner = { better: `${name(first)} is better`, worse: `${name(second)} is better` };
  const items = Object.entries(found).map(([title, [text, verdict]]) =>
    make("li", {}, `${title}: `, make("b", { textContent: winner[verdict] ?? verdict }), `, ${text}`));
  const what = section.dataset.task === "generation"
    ? "Paired test: the first row's score less the second one's, turned so that less is better, classification counted up to its limit, ln 2 = 0.693, in each seed; 95 % interval:"
    : "Paired test, skill of the first row against the second with its 95 % interval:";
  return make("div", {}, make("p", { className: "soft", textContent: what }), make("ul", {}, ...items));
}

// -- exports --------------------------------------------------------------------------------------

/** Return what is shown, line by line: a heading, then the visible rows. */
function shownTable() {
  const columns = shownColumns();
  const heading = ["model", ...columns.map((column) => titles()[column])];
  const visible = rows().filter((row) => !row.classList.contains("absent"));
  return [heading, ...visible.map((row) => [name(row), ...columns.map((column) => entry(row, column)[0])])];
}

function csv() {
  const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  return shownTable().map((line) => line.map(quoted).join(",")).join("\n") + "\n";
}

const TEX = { "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "<": "\\textless{}",
  ">": "\\textgreater{}", "±": "$\\pm$", "†": "$^\\dagger$", "‡": "$^\\ddagger$", "×": "$\\times$", "–": "--",
  "↓": "$\\downarrow$", "↑": "$\\uparrow$", "−": "$-$", "ˢ": "\\textsuperscript{s}", "ᵘ": "\\textsuperscript{u}",
  "ᶜ": "\\textsuperscript{c}", "ᶠ": "\\textsuperscript{f}" };

function latex() {
  const escaped = (text) => [...text].map((c) => TEX[c] ?? ("&%$#_{}".includes(c) ? `\\${c}` : c)).join("");
  const [heading, ...lines] = shownTable().map((line) => `${line.map(escaped).join(" & ")} \\\\`);
  const alignment = "l" + "r".repeat(shownColumns().length);
  return [`% ${titleOf(form.measure.value)}: ${form.task.value}, budget ${form.budget.value}`,
    `\\begin{tabular}{${alignment}}`, "\\toprule", heading, "\\midrule", ...lines, "\\bottomrule",
    "\\end{tabular}", ""].join("\n");
}

function download(text, suffix) {
  const href = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
  make("a", { href, download: `${board.name}-${form.measure.value}.${suffix}` }).click();
  URL.revokeObjectURL(href);
}

// -- start ----------------------------------------------------------------------------------------

for (const s of sections) {
  sortButtons([...s.querySelectorAll("thead th")], (i) => sortBy(i - 1));
  for (const row of rows(s)) {
    const label = name(row);
    const box = make("input", { type: "checkbox", ariaLabel: `compare ${label}` });
    box.addEventListener("change", mayCompare);
    row.cells[0].prepend(box);
  }
}
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("input", ({ target }) => {
  if (target === form.task || target === form.budget) chooseBoard();
  show();
});
document.getElementById("compare").addEventListener("click", compare);
document.getElementById("csv").addEventListener("click", () => download(csv(), "csv"));
document.getElementById("latex").addEventListener("click", () => download(latex(), "tex"));

const wanted = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
const models = (section) => section.querySelectorAll("tbody.models tr").length;
const largest = sections.toSorted((a, b) => models(b) - models(a))[0];
const tasks = [...new Set(sections.map((s) => s.dataset.task))];
fill(form.task, tasks.map((task) => [task, task]), wanted.task ?? largest.dataset.task);
chooseBoard({ budget: wanted.task ? undefined : largest.dataset.budget, ...wanted });
form.hidden = false;
show();
