// The table: rows are made once, then sorted and hidden in place.

const data = JSON.parse(document.getElementById("data").textContent);
const columnOf = Object.fromEntries(data.columns.map((column, index) => [column.key, index]));
const value = (index, key) => (key in columnOf ? data.rows[index][columnOf[key]] : null);
const byId = (id) => document.getElementById(id);
const isNumber = (column) => column.kind === "number" || column.kind === "count";

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, text] of Object.entries(attributes)) made.setAttribute(name, text);
  made.append(...children);
  return made;
}

function shown(content, column) {
  if (content === null || content === "") return "–";
  if (column.kind === "verdict") return content ? "yes" : "no";
  if (column.kind === "number") return content.toFixed(3).replace("-", "−");
  return String(content);
}

function makeTable(onChoose) {
  const columns = data.columns.filter((column) => column.shown);
  const head = document.querySelector("#table thead tr");
  const body = document.querySelector("#table tbody");
  document.querySelector("#table caption").textContent = `${data.title}. ${data.rule}`;
  for (const column of columns) {
    const button = element("button", { type: "button", title: column.hint }, column.label);
    if (column.unit) button.append(" ", element("small", {}, column.unit));
    const cell = element("th", { scope: "col", "aria-sort": "none", "data-key": column.key }, button);
    if (isNumber(column)) cell.className = "number";
    button.addEventListener("click", () => sortBy(column, cell));
    head.append(cell);
  }
  const lines = data.rows.map((row, index) => {
    const line = element("tr", { "data-index": index });
    const untrained = value(index, "untrained");
    if (untrained) {
      line.className = "untrained";
      line.title = `Outside what the model was trained for: ${untrained}`;
    }
    for (const column of columns) {
      const content = row[columnOf[column.key]];
      const cell = element(column.key === "id" ? "th" : "td");
      if (column.key === "id") {
        const button = element("button", { type: "button", tabindex: "-1" }, String(content));
        cell.scope = "row";
        cell.append(button);
      } else {
        cell.textContent = shown(content, column);
      }
      if (isNumber(column)) cell.className = "number";
      if (column.kind === "verdict" && content === false && !["on_front", "novel"].includes(column.key)) cell.className = "no";
      line.append(cell);
    }
    return line;
  });
  body.append(...lines);

  function sortBy(column, cell) {
    const up = cell.getAttribute("aria-sort") !== "ascending";
    for (const other of head.children) other.setAttribute("aria-sort", "none");
    cell.setAttribute("aria-sort", up ? "ascending" : "descending");
    const place = columnOf[column.key];
    const compare = (a, b) => {
      const [x, y] = [data.rows[a][place], data.rows[b][place]];
      if (x === null || y === null) return (x === null) - (y === null) || a - b; // what is missing stays at the end
      const order = typeof x === "string" ? x.localeCompare(y, "en", { numeric: true }) : x - y;
      return (up ? order : -order) || a - b;
    };
    const order = data.rows.map((_, index) => index).sort(compare);
    body.append(...order.map((index) => lines[index]));
  }

  body.addEventListener("click", (event) => {
    const line = event.target.closest("tr");
    if (line) onChoose(Number(line.dataset.index));
  });
  byId("scroll").addEventListener("keydown", (event) => {
    if (event.target.closest("thead")) return;
    const visible = [...body.children].filter((line) => !line.hidden);
    const now = visible.findIndex((line) => line.hasAttribute("aria-current"));
    const next = { ArrowDown: now + 1, ArrowUp: now - 1, Home: 0, End: visible.length - 1 }[event.key];
    if (next === undefined || !visible.length) return;
    event.preventDefault();
    const line = visible[Math.max(0, Math.min(next, visible.length - 1))];
    onChoose(Number(line.dataset.index));
    line.querySelector("button").focus({ preventScroll: true });
  });

  return {
    mark(index) {
      for (const line of body.querySelectorAll("[aria-current]")) {
        line.removeAttribute("aria-current");
        line.querySelector("button").tabIndex = -1;
      }
      lines[index].setAttribute("aria-current", "true");
      lines[index].querySelector("button").tabIndex = 0;
      lines[index].scrollIntoView({ block: "nearest" });
    },
    keep(kept) {
      lines.forEach((line, index) => { line.hidden = !kept.has(index); });
    },
  };
}

function makeFilters(onFilter) {
  const form = byId("filters");
  const columns = data.columns.filter((column) => column.shown);
  const verdicts = columns.filter((column) => column.kind === "verdict").map((column) => {
    const select = element("select");
    for (const choice of ["any", "yes", "no"]) select.append(element("option", { value: choice }, choice));
    select.dataset.key = column.key;
    byId("verdicts").append(element("label", {}, `${column.label} `, select));
    return select;
  });
  const ranges = columns.filter((column) => isNumber(column) && column.key !== "rank").map((column) => {
    const values = data.rows.map((row) => row[columnOf[column.key]]).filter((x) => x !== null);
    const ends = [Math.min(...values), Math.max(...values)].map((end, side) => {
      const input = element("input", { type: "number", step: "any", placeholder: shown(end, column).replace("−", "-") });
      input.setAttribute("aria-label", `${column.label}, ${side ? "largest" : "smallest"}`);
      input.dataset.key = column.key;
      input.dataset.side = side ? "largest" : "smallest";
      return input;
    });
    byId("ranges").lastElementChild.append(element("span", {}, column.unit ? `${column.label} (${column.unit})` : column.label), ...ends);
    return { key: column.key, ends };
  });
  const texts = data.rows.map((row) => row.filter((x) => typeof x === "string").join(" ").toLowerCase());

  function filter() {
    const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = verdicts.filter((select) => select.value !== "any");
    const limits = ranges.map(({ key, ends }) => [key, ...ends.map((input) => input.valueAsNumber)])
      .filter(([, low, high]) => !Number.isNaN(low) || !Number.isNaN(high));
    const kept = new Set();
    data.rows.forEach((_, index) => {
      const fits = words.every((word) => texts[index].includes(word))
        && wanted.every((select) => value(index, select.dataset.key) === (select.value === "yes"))
        && limits.every(([key, low, high]) => {
          const x = value(index, key);
          return x !== null && !(x < low) && !(x > high);
        });
      if (fits) kept.add(index);
    });
    byId("ranges").classList.toggle("active", limits.length > 0);
    byId("count").textContent = kept.size === data.rows.length
      ? `${kept.size} candidates` : `${kept.size} of ${data.rows.length} candidates`;
    onFilter(kept);
  }

  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(filter));
  document.addEventListener("click", (event) => {
    if (!event.target.closest("#ranges")) byId("ranges").open = false;
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && byId("ranges").open) {
      byId("ranges").open = false;
      document.querySelector("#ranges summary").focus();
    }
  });
  filter();
}
