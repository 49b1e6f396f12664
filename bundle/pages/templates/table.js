"use strict";
// The table is complete without this: headers become buttons that sort, and the form that filters appears.
const table = document.querySelector("table.sortable");
const body = table.tBodies[0];
const rows = [...body.rows];
const form = document.querySelector("form.filter");
const texts = new Intl.Collator("en", { numeric: true });

function value(row, column) {
  const cell = row.cells[column];
  return cell.dataset.sort ?? cell.textContent.trim();
}

function compare(a, b) {
  const difference = Number(a) - Number(b);
  return Number.isNaN(difference) ? texts.compare(a, b) : difference;
}

function sort(column, header) {
  const descending = header.ariaSort === "ascending";
  for (const other of table.tHead.rows[0].cells) other.ariaSort = "none";
  header.ariaSort = descending ? "descending" : "ascending";
  const known = rows.filter((row) => value(row, column) !== "");
  known.sort((a, b) => compare(value(a, column), value(b, column)) * (descending ? -1 : 1));
  body.append(...known, ...rows.filter((row) => value(row, column) === "")); // what has no value stays last
}

function filter() {
  const [text, kind] = [form.querySelector("input").value.toLowerCase().trim(), form.querySelector("select").value];
  for (const row of rows) {
    row.hidden = !row.textContent.toLowerCase().includes(text) || (kind !== "" && row.dataset.kind !== kind);
  }
  form.querySelector("output").textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} scans are shown`;
}

[...table.tHead.rows[0].cells].forEach((header, column) => {
  if ("plain" in header.dataset) return; // a column of pictures has no order
  const button = document.createElement("button");
  button.type = "button";
  button.append(...header.childNodes);
  button.addEventListener("click", () => sort(column, header));
  header.append(button);
  header.ariaSort = "none";
});
form.addEventListener("input", filter);
form.addEventListener("submit", (event) => event.preventDefault());
form.hidden = false;
filter();
