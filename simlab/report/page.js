"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";
const WORDS = { helps: "helps", hurts: "hurts", equivalent: "is equivalent", undecided: "is undecided" };

function make(name, attributes, text, space) {
  const node = space ? document.createElementNS(space, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

const signed = (v, digits = 3) => v === null || v === undefined ? "no number"
  : (v < 0 ? "−" : "+") + Math.abs(v).toFixed(digits);
const short = (v) => typeof v === "number" ? String(Number(v.toPrecision(5))) : String(v);

function record(map, i) {
  const values = map.cells[i];
  return values && Object.fromEntries(map.keys.map((key, k) => [key, values[k]]));
}

function where(i) {
  return data.axes.map((name, k) => `${name} = ${short(data.cells[i][k + 1])}`).join(", ");
}

function interval(r) {
  return r.low === null ? signed(r.difference) : `${signed(r.difference)} (95 %: ${signed(r.low)} to ${signed(r.high)})`;
}

function spoken(map, i) {
  const r = record(map, i);
  return `${where(i)}: ${r.verdict}, ${interval(r)}`;
}

// ------------------------------------------------------------------------------------------------- one cell in words

function detail(number, i, at) {
  const map = data.maps[number], r = record(map, i), cell = data.cells[i][0];
  const box = document.querySelector(`.detail[data-map="${number}"]`);
  box.replaceChildren();
  box.append(make("h4", {}, `Cell ${cell}: ${where(i)}`));
  const because = r.reason ? ` (${r.reason})` : "";
  box.append(make("p", {}, `${map.first} ${WORDS[r.verdict]} against ${map.second}${because}: difference in `
    + `${data.measure} ${interval(r)}, ${r.seeds} seeds, margin ${data.rope}.`));
  const more = [];
  if (r.predicted !== null && r.predicted !== undefined) more.push(`Theory says ${signed(r.predicted)}`);
  if (typeof r.p === "number") more.push(`p = ${Number(r.p.toPrecision(2))}`);
  if (typeof r.adjusted === "number") more.push(`adjusted for all cells and contrasts ${Number(r.adjusted.toPrecision(2))}`
    + (r.adjusted_verdict ? ` (then: ${r.adjusted_verdict})` : ""));
  if (typeof r.improvement === "number") more.push(`ahead in ${Math.round(100 * r.improvement)} % of seeds`);
  if (r.verdict === "undecided" && typeof r.needed === "number") more.push(`would need about ${r.needed} seeds`);
  if (more.length) box.append(make("p", {}, more.join("; ").replace(/^./, (c) => c.toUpperCase()) + "."));
  const arms = [map.first, map.second].filter((arm) => data.scores[arm] && data.scores[arm][i]);
  for (const arm of arms) {
    const [mean, low, high, limit] = data.scores[arm][i];
    box.append(make("p", {}, `${arm}: ${mean.toFixed(3)}`
      + (low === null ? "" : ` (95 %: ${low.toFixed(3)} to ${high.toFixed(3)})`)
      + (limit === null ? "" : `, best possible ${limit.toFixed(3)}`)));
  }
  const line = make("p", { class: "rerun" }), code = make("code"), seed = make("input", {
    type: "number", min: 0, max: data.seeds - 1, value: at || 0, "aria-label": "seed" });
  const label = make("label", {}, "seed "), button = make("button", { type: "button" }, "Copy");
  const write = () => { code.textContent = `${data.command} --cell ${cell} --seed ${seed.value || 0}`; };
  seed.addEventListener("input", write);
  button.addEventListener("click", () => {
    const range = document.createRange();
    range.selectNodeContents(code);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    if (navigator.clipboard) navigator.clipboard.writeText(code.textContent).catch(() => {});
    button.textContent = "Copied";
  });
  label.append(seed);
  write();
  line.append(make("span", {}, "Compute it again: "), label, code, button);
  box.append(line);
}

// ------------------------------------------------------------------------------------------- a row of a map as a curve

function slice(number, row, here) {
  const map = data.maps[number], box = document.querySelector(`.slice[data-map="${number}"]`);
  const cells = map.grid[row].filter((i) => i !== null), k = data.axes.indexOf(map.column) + 1;
  const points = cells.map((i) => ({ i, x: data.cells[i][k], r: record(map, i) })).filter((p) => p.r.difference !== null);
  box.replaceChildren();
  if (map.row !== null && !map.scattered) box.append(chooser(number, row));
  else box.append(make("p", {}, `Differences along ${map.column}, with 95 % intervals`));
  if (!points.length) { box.append(make("p", {}, "No number in this row.")); return; }
  box.append(chart(map, row, points, here));
}

function chooser(number, row) {
  const map = data.maps[number], label = make("label", {}, "Slice at "), select = make("select");
  map.rows.forEach((value, r) => select.append(make("option", { value: r, ...(r === row ? { selected: "" } : {}) },
    `${map.row} = ${short(value)}`)));
  select.value = row;
  select.addEventListener("change", () => {
    slice(number, Number(select.value));
    document.querySelector(`.slice[data-map="${number}"] select`).focus();
  });
  label.append(select, ` along ${map.column}`);
  return label;
}

function chart(map, row, points, here) {
  const W = 560, H = 210, left = 64, right = 14, top = 10, bottom = 44;
  const place = map.words ? (x) => map.columns.indexOf(x) : map.log ? Math.log : Number;
  const xs = points.map((p) => place(p.x)), lowX = Math.min(...xs), highX = Math.max(...xs);
  const ends = points.flatMap((p) => [p.r.difference, p.r.low, p.r.high, p.r.predicted]).filter((v) => typeof v === "number");
  const low = Math.min(-data.rope * 1.5, ...ends), high = Math.max(data.rope * 1.5, ...ends);
  const X = (x) => left + 12 + (W - left - right - 24) * (highX > lowX ? (place(x) - lowX) / (highX - lowX) : .5);
  const Y = (y) => top + (H - top - bottom) * (high - y) / (high - low);
  const svg = make("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", style: `max-width:${W * 1.25}px` }, undefined, SVG);
  const add = (name, attributes, text) => svg.append(make(name, attributes, text, SVG));
  const at = map.row !== null && !map.scattered ? `${map.row} = ${short(map.rows[row])}, ` : "";
  svg.setAttribute("aria-label", `${map.title}, ${at}along ${map.column}: `
    + points.slice(0, 40).map((p) => `${short(p.x)}: ${interval(p.r)}`).join("; "));
  add("rect", { class: "band", x: left, y: Y(data.rope), width: W - left - right, height: Y(-data.rope) - Y(data.rope) });
  add("path", { class: "zero", d: `M${left} ${Y(0)}H${W - right}` });
  for (const y of [low, 0, high]) if (y === 0 || Math.abs(Y(y) - Y(0)) > 14) add("text", { class: "tick", x: left - 6, y: Y(y) + 4, "text-anchor": "end" }, y === 0 ? "0" : signed(y, 2));
  const step = Math.ceil(points.length / 10), named = map.scattered ? ticks(points) : points.filter((_, n) => n % step === 0).map((p) => p.x);
  let before = -Infinity;
  for (const x of named) if (X(x) - before > 36) before = X(x), add("text", { class: "tick", x: X(x), y: H - bottom + 16 }, short(x));
  add("text", { class: "name", x: (left + W - right) / 2, y: H - 8 }, map.columnLabel);
  const path = (key) => points.filter((p) => typeof p.r[key] === "number").map((p, n) => `${n ? "L" : "M"}${X(p.x)} ${Y(p.r[key])}`).join("");
  if (!map.scattered && !map.words && path("predicted")) add("path", { class: "predicted", d: path("predicted") });
  if (!map.scattered && !map.words) add("path", { class: "curve", d: path("difference") });
  for (const p of points) {
    if (p.r.low !== null) add("path", { class: "whisker", d: `M${X(p.x)} ${Y(p.r.low)}V${Y(p.r.high)}` });
    add("circle", { class: `point ${p.r.verdict}`, cx: X(p.x), cy: Y(p.r.difference), r: 4 });
    if (p.i === here) add("circle", { class: "here", cx: X(p.x), cy: Y(p.r.difference), r: 9 });
  }
  return svg;
}

function ticks(points) {
  const xs = [...new Set(points.map((p) => p.x))].sort((a, b) => a - b);
  return xs.length < 7 ? xs : [xs[0], xs[Math.floor(xs.length / 2)], xs[xs.length - 1]];
}

// ------------------------------------------------------------------------------------------------------- maps by keyboard

function choose(number, i, group) {
  const map = data.maps[number], row = map.grid.findIndex((cells) => cells.includes(i));
  document.querySelectorAll(`svg[data-map="${number}"] .cell.on`).forEach((g) => { g.classList.remove("on"); g.setAttribute("aria-selected", "false"); });
  group.classList.add("on");
  group.setAttribute("aria-selected", "true");
  slice(number, Math.max(0, row), i);
  detail(number, i);
}

function step(map, groups, group, key) {
  const i = Number(group.dataset.i);
  if (map.scattered) return pointStep(groups, group, key);
  const r = map.grid.findIndex((cells) => cells.includes(i)), c = map.grid[r].indexOf(i), last = map.grid[r].length - 1;
  const moves = { ArrowLeft: [r, c - 1], ArrowRight: [r, c + 1], ArrowUp: [r + 1, c], ArrowDown: [r - 1, c], Home: [r, 0], End: [r, last] };
  const [row, column] = moves[key];
  const found = map.grid[row] && map.grid[row][column];
  return found === undefined || found === null ? group : groups.get(found);
}

function pointStep(groups, group, key) {
  const vertical = key === "ArrowUp" || key === "ArrowDown";
  const all = [...groups.values()].map((g) => ({ g, v: g.getBoundingClientRect()[vertical ? "y" : "x"] })).sort((a, b) => a.v - b.v);
  const n = all.findIndex((entry) => entry.g === group);
  const next = { ArrowLeft: n - 1, ArrowUp: n - 1, ArrowRight: n + 1, ArrowDown: n + 1, Home: 0, End: all.length - 1 }[key];
  return (all[next] || all[n]).g;
}

document.querySelectorAll("svg.map").forEach((svg) => {
  const number = Number(svg.dataset.map), map = data.maps[number];
  const groups = new Map([...svg.querySelectorAll(".cell")].map((g) => [Number(g.dataset.i), g]));
  svg.querySelectorAll(".row").forEach((row) => row.setAttribute("role", "row"));
  groups.forEach((group, i) => {
    group.setAttribute("role", map.scattered ? "button" : "gridcell");
    group.setAttribute("aria-label", spoken(map, i));
    group.setAttribute("tabindex", "-1");
    if (!map.scattered) group.setAttribute("aria-colindex", 1 + map.grid.find((cells) => cells.includes(i)).indexOf(i));
    group.append(make("title", {}, spoken(map, i), SVG));
  });
  const focus = (group) => {
    svg.querySelector('.cell[tabindex="0"]').setAttribute("tabindex", "-1");
    group.setAttribute("tabindex", "0");
    group.parentNode.append(group); // its ring lies above its neighbours
    group.focus();
  };
  const first = svg.querySelector(".cell");
  if (!first) return;
  first.setAttribute("tabindex", "0");
  svg.addEventListener("click", (event) => {
    const group = event.target.closest(".cell");
    if (group) { focus(group); choose(number, Number(group.dataset.i), group); }
  });
  svg.addEventListener("keydown", (event) => {
    const group = event.target.closest(".cell");
    if (!group) return;
    if (event.key === "Enter" || event.key === " ") choose(number, Number(group.dataset.i), group);
    else if (["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End"].includes(event.key)) focus(step(map, groups, group, event.key));
    else return;
    event.preventDefault();
  });
  slice(number, map.grid.length - 1);
});
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((d) => { d.open = true; }));
