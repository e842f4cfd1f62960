// Plots as inline SVG: asked and got, misses against each other, and what the training data hold.

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 460, HEIGHT = 270, LEFT = 58, RIGHT = 12, TOP = 12, BOTTOM = 42;

function draw(tag, attributes, text) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, content] of Object.entries(attributes)) made.setAttribute(name, content);
  if (text !== undefined) made.textContent = text;
  return made;
}

function ticks(low, high) {
  const rough = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= rough) * power;
  const digits = Math.max(0, Math.ceil(-Math.log10(step) - 1e-9));
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k += 1) {
    found.push([k * step, (k * step + 0).toFixed(digits).replace(/^-/, "−")]);
  }
  return found;
}

function padded(low, high) {
  const margin = 0.04 * (high - low) || Math.abs(low) * 0.1 || 1;
  return [low - margin, high + margin];
}

// A figure with axes; x and y turn values into places.
function makeAxes(caption, note, xLabel, yLabel, [xLow, xHigh], [yLow, yHigh], whole = false) {
  const x = (v) => LEFT + ((v - xLow) / (xHigh - xLow)) * (WIDTH - LEFT - RIGHT);
  const y = (v) => HEIGHT - BOTTOM - ((v - yLow) / (yHigh - yLow)) * (HEIGHT - TOP - BOTTOM);
  const svg = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
  svg.setAttribute("aria-label", `${caption}. ${note}`);
  for (const [at, text] of ticks(yLow, yHigh)) {
    svg.append(draw("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(at), y2: y(at) }));
    svg.append(draw("text", { x: LEFT - 6, y: y(at) + 4, "text-anchor": "end" }, text));
  }
  for (const [at, text] of ticks(xLow, xHigh).filter(([at]) => !whole || Number.isInteger(at))) {
    svg.append(draw("line", { class: "axis", x1: x(at), x2: x(at), y1: HEIGHT - BOTTOM, y2: HEIGHT - BOTTOM + 4 }));
    svg.append(draw("text", { x: x(at), y: HEIGHT - BOTTOM + 17, "text-anchor": "middle" }, whole ? String(at) : text));
  }
  svg.append(draw("path", { class: "axis", d: `M${LEFT} ${TOP}V${HEIGHT - BOTTOM}H${WIDTH - RIGHT}` }));
  svg.append(draw("text", { x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 6, "text-anchor": "middle" }, xLabel));
  const turned = `rotate(-90 13 ${(TOP + HEIGHT - BOTTOM) / 2})`;
  svg.append(draw("text", { x: 13, y: (TOP + HEIGHT - BOTTOM) / 2, "text-anchor": "middle", transform: turned }, yLabel));
  const layer = draw("g", {});
  svg.append(layer);
  byId("plots").append(element("figure", {}, element("figcaption", {}, caption, element("small", {}, note)), svg));
  return { x, y, layer };
}

function addPoint(axes, index, xValue, yValue) {
  const id = value(index, "id");
  const valid = value(index, "valid") !== false;
  const point = draw("circle", {
    class: valid ? "point" : "point invalid", cx: axes.x(xValue), cy: axes.y(yValue), r: 3.5, "data-index": index,
  });
  point.append(draw("title", {}, `${id}: ${value(index, "formula")}${valid ? "" : ", not valid"}`));
  axes.layer.append(point);
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
}

const named = (target) => (target.unit ? `${target.label} (${target.unit})` : target.label);

function askedAndGot(target) {
  const points = data.rows.map((_, i) => [i, value(i, target.asked), value(i, target.got)])
    .filter(([, asked, got]) => asked !== null && got !== null);
  if (!points.length) return;
  const wishes = new Set(points.map(([, asked]) => asked));
  const miss = median(points.map(([, asked, got]) => Math.abs(got - asked))).toPrecision(2);
  const note = `Got is what the model reads off each finished structure; median miss ${miss} ${target.unit}.`;
  const yRange = padded(...target.range);
  if (wishes.size > 1) {
    const axes = makeAxes(`Asked and got: ${target.label}`, note, `asked ${named(target)}`, `got ${named(target)}`,
      yRange, yRange);
    axes.layer.append(draw("line", {
      class: "asked", x1: axes.x(yRange[0]), y1: axes.y(yRange[0]), x2: axes.x(yRange[1]), y2: axes.y(yRange[1]),
    }));
    for (const [index, asked, got] of points) addPoint(axes, index, asked, got);
    return;
  }
  const asked = points[0][1];
  const values = points.map(([, , got]) => got);
  const axes = makeAxes(`Asked and got: ${target.label}`, note, "rank", named(target),
    padded(1, data.rows.length), padded(Math.min(asked, ...values), Math.max(asked, ...values)), true);
  axes.layer.append(draw("line", {
    class: "asked", x1: LEFT, x2: WIDTH - RIGHT, y1: axes.y(asked), y2: axes.y(asked),
  }));
  axes.layer.append(draw("text", { class: "asked", x: WIDTH - RIGHT, y: axes.y(asked) - 5, "text-anchor": "end" },
    `asked ${asked}`.replace("-", "−")));
  for (const [index, , got] of points) addPoint(axes, index, value(index, "rank"), got);
}

function pareto(first, second) {
  const miss = (index, target) => {
    const [asked, got] = [value(index, target.asked), value(index, target.got)];
    return asked === null || got === null ? null : Math.abs(got - asked);
  };
  const points = data.rows.map((_, i) => [i, miss(i, first), miss(i, second)])
    .filter(([, a, b]) => a !== null && b !== null);
  if (!points.length) return;
  const front = [];
  for (const point of points.filter(([i]) => value(i, "valid") !== false).sort((p, q) => p[1] - q[1] || p[2] - q[2])) {
    if (!front.length || point[2] < front[front.length - 1][2]) front.push(point);
  }
  const best = front.map(([i]) => value(i, "id")).join(", ");
  const axes = makeAxes("Pareto front of the misses", `Valid and not beaten in both: ${best || "none"}.`,
    `miss of ${named(first)}`, `miss of ${named(second)}`,
    [0, 1.04 * Math.max(...points.map((p) => p[1])) || 1], [0, 1.04 * Math.max(...points.map((p) => p[2])) || 1]);
  const path = front.map(([, a, b], k) => (k ? `H${axes.x(a)}V${axes.y(b)}` : `M${axes.x(a)} ${TOP}V${axes.y(b)}`));
  if (front.length) axes.layer.append(draw("path", { class: "front", d: `${path.join("")}H${WIDTH - RIGHT}` }));
  for (const [index, a, b] of points) addPoint(axes, index, a, b);
}

function histogram(target) {
  if (!target.training) return;
  const [low, high] = target.range;
  const bins = target.training.length;
  const got = data.rows.map((_, i) => value(i, target.got)).filter((x) => x !== null);
  const counts = new Array(bins).fill(0);
  for (const x of got) counts[Math.max(0, Math.min(bins - 1, Math.floor(((x - low) / (high - low)) * bins)))] += 1;
  const share = (all) => all.map((n) => (100 * n) / Math.max(1, all.reduce((a, b) => a + b, 0)));
  const [ours, training] = [share(counts), share(target.training)];
  const total = target.training.reduce((a, b) => a + b, 0);
  const axes = makeAxes(`Against the training data: ${target.label}`,
    `Grey: ${total.toLocaleString("en")} labels of the training part. Blue: what the ${got.length} candidates got.`,
    named(target), "share a bin (%)", [low, high], [0, 1.05 * Math.max(...ours, ...training)]);
  const outline = (shares) => {
    const steps = shares.map((s, k) => `H${axes.x(low + (k * (high - low)) / bins)}V${axes.y(s)}`);
    return `M${axes.x(low)} ${axes.y(0)}${steps.join("")}H${axes.x(high)}V${axes.y(0)}`;
  };
  axes.layer.append(draw("path", { class: "training", d: outline(training) }));
  axes.layer.append(draw("path", { class: "got", d: outline(ours) }));
  const wishes = new Set(data.rows.map((_, i) => value(i, target.asked)).filter((x) => x !== null));
  if (wishes.size === 1) {
    const at = axes.x([...wishes][0]);
    axes.layer.append(draw("line", { class: "asked", x1: at, x2: at, y1: TOP, y2: HEIGHT - BOTTOM }));
    axes.layer.append(draw("text", { class: "asked", x: at + 4, y: TOP + 10 }, "asked"));
  }
}

function makePlots(onChoose) {
  const asked = data.targets.filter((target) => target.asked);
  asked.forEach(askedAndGot);
  asked.forEach((first, k) => asked.slice(k + 1).forEach((second) => pareto(first, second)));
  data.targets.forEach(histogram);
  byId("plots").addEventListener("click", (event) => {
    if (event.target.dataset.index !== undefined) onChoose(Number(event.target.dataset.index));
  });
  const points = [...document.querySelectorAll("#plots .point")];
  return {
    mark(index) {
      for (const point of points) {
        const chosen = Number(point.dataset.index) === index;
        point.classList.toggle("chosen", chosen);
        point.setAttribute("r", chosen ? 5.5 : 3.5);
        if (chosen) point.parentNode.append(point);
      }
    },
    keep(kept) {
      for (const point of points) point.style.display = kept.has(Number(point.dataset.index)) ? "" : "none";
    },
  };
}
