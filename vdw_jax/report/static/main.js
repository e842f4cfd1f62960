// Puts the page together; nothing here knows how the parts are drawn.

function percent(key) {
  const known = data.rows.map((_, index) => value(index, key)).filter((x) => x !== null);
  return known.length ? `${((100 * known.filter(Boolean).length) / known.length).toFixed(0)} %` : null;
}

function summarise() {
  const facts = [
    [data.rows.length, data.rows.length === 1 ? "candidate" : "candidates"],
    [data.left_out || null, "more in samples.csv, ranked behind them"],
    [percent("valid"), "valid"],
    [percent("bilayer"), "two layers"],
    [percent("formula_met"), "with the asked formula"],
  ];
  for (const target of data.targets.filter(({ asked }) => asked)) {
    const misses = data.rows.map((_, i) => value(i, target.asked.replace("asked_", "miss_"))).filter((x) => x !== null);
    if (misses.length) facts.push([`${median(misses).toPrecision(2)} ${target.unit}`, `median miss, ${target.label}`]);
  }
  byId("summary").append(...facts.filter(([number]) => number !== null)
    .map(([number, what]) => element("li", {}, element("b", {}, String(number)), ` ${what}`)));
}

function warn() {
  if (!data.untrained.length) return;
  byId("untrained").textContent = `Outside what the model was trained for: ${data.untrained.join("; ")}. `
    + "The marked candidates mean little: check each of them by other means.";
  byId("untrained").hidden = false;
}

function describeOrigin() {
  const { command, settings, ...rest } = data.record; // the settings are in the command
  byId("origin").hidden = !Object.keys(data.record).length;
  byId("command").textContent = command || "";
  byId("command").hidden = !command;
  const flat = (name, content) => (content !== null && typeof content === "object"
    ? Object.entries(content).flatMap(([key, inner]) => flat(name ? `${name}, ${key}` : key, inner))
    : [[name.replace(/_/g, " "), content === null ? "–" : String(content)]]);
  for (const [name, content] of flat("", rest)) {
    byId("record").append(element("div", {}, element("dt", {}, name), element("dd", {}, content)));
  }
}

function describe(index) {
  const id = value(index, "id");
  byId("name").textContent = `${id}: ${value(index, "formula")}`;
  byId("details").replaceChildren(...data.columns.filter(({ key }) => key !== "id" && key !== "formula").flatMap((column) => {
    const content = value(index, column.key);
    const unit = content === null ? "" : column.unit;
    return [element("dt", {}, column.label), element("dd", {}, `${shown(content, column)} ${unit}`.trim())];
  }));
  const link = element("a", { href: `cif/${encodeURIComponent(id)}.cif`, download: "" }, `${id}.cif`);
  const command = `python -m vdw_jax.report.handover . --ids=${id}`;
  byId("files").replaceChildren(link, ". For VASP, GPAW and others, here:", element("code", {}, command));
}

warn();
summarise();
describeOrigin();
if (!data.rows.length) {
  byId("name").textContent = "No candidates";
} else {
  let waiting = 0;
  let parts = [];
  let viewer = null;
  const choose = (index) => {
    for (const part of parts) part.mark(index);
    describe(index);
    history.replaceState(null, "", `#${encodeURIComponent(value(index, "id"))}`);
    cancelAnimationFrame(waiting); // the newest alone is drawn, after what is quick to show
    waiting = requestAnimationFrame(() => setTimeout(() => {
      viewer = viewer || makeViewer();
      viewer.show(index);
      performance.mark("structure");
    }));
  };
  parts = [makeTable(choose), makePlots(choose)];
  makeFilters((kept) => parts.forEach((part) => part.keep(kept)));
  const wish = decodeURIComponent(location.hash.slice(1));
  choose(Math.max(0, data.rows.findIndex((_, index) => value(index, "id") === wish)));
}
performance.mark("table");
