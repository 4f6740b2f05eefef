"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
// A comparison has two results; `report` and `figures` are then those of the base.
const [{ report, figures, bounds }, other] = data.results;
const page = document.getElementById("page");
const tip = document.getElementById("tip");
const colour = (index) => `var(--c${index % 8})`;

// --- small helpers

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}
function drawn(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}
function time(us) {
  if (us === null || us === undefined) return "–";
  if (us < 1e3) return `${Math.round(us)} µs`;
  if (us < 1e4) return `${(us / 1e3).toFixed(2)} ms`;
  if (us < 1e6) return `${(us / 1e3).toFixed(1)} ms`;
  return `${(us / 1e6).toFixed(2)} s`;
}
// An axis has round values.
const tick = (us) => (us < 1e3 ? `${+us.toPrecision(3)} µs` : us < 1e6 ? `${+(us / 1e3).toPrecision(3)} ms` : `${+(us / 1e6).toPrecision(3)} s`);
const number = (value) => Math.round(value).toLocaleString("en");
const words = (name) => name.replaceAll("_", " ");
const date = (one) => one.started_at.slice(0, 19).replace("T", " ");
const pathName = (phase) => (phase.path === "null" ? `baseline (${phase.null_of})` : phase.path);
const timesOf = (phase, wanted) => merged(phase.series.filter(wanted).map((series) => series.histogram));
// SLOs that bound a time of this subject: a line in its charts.
const boundsOf = (prefix) => bounds.filter((one) => one.figure.startsWith(`${prefix}.`)).map((one) => ({ us: one.us, name: `SLO ${one.slo}` }));

function merged(histograms) {
  const counts = new Map();
  for (const histogram of histograms) for (const [us, count] of histogram) counts.set(us, (counts.get(us) || 0) + count);
  return [...counts].sort((a, b) => a[0] - b[0]);
}
const size = (histogram) => histogram.reduce((sum, [, count]) => sum + count, 0);

// --- charts

// On a narrow screen a chart is drawn for fewer pixels, so that its text stays readable.
const WIDTH = innerWidth < 520 ? 340 : 520, HEIGHT = 260, LEFT = 64, RIGHT = 14, TOP = 12, BOTTOM = 36;

// Round values between two bounds on a log scale: 1, 2, 5 of each decade, or decades alone where there are many.
function logTicks(low, high) {
  const decades = Math.log10(high / low);
  const steps = decades > 4 ? [1] : decades > 1.5 ? [1, 3] : [1, 2, 5];
  const found = [];
  for (let decade = Math.floor(Math.log10(low)); decade <= Math.ceil(Math.log10(high)); decade++)
    for (const step of steps) {
      const value = step * 10 ** decade;
      if (value >= low * 0.999 && value <= high * 1.001) found.push(value);
    }
  return found;
}
function linearTicks(high) {
  const raw = high / 5, scale = 10 ** Math.floor(Math.log10(raw || 1));
  const step = [1, 2, 5, 10].map((one) => one * scale).find((one) => one >= raw) || 1;
  const found = [];
  for (let value = 0; value <= high * 1.0001; value += step) found.push(value);
  return found;
}

function frame(xs, ys, xLabel) {
  const svg = drawn("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
  for (const [position, label] of ys) {
    svg.append(drawn("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: position, y2: position }));
    svg.append(drawn("text", { x: LEFT - 8, y: position + 4, "text-anchor": "end" }, label));
  }
  let free = 0;
  for (const [position, label] of xs) {
    svg.append(drawn("line", { class: "grid", x1: position, x2: position, y1: TOP, y2: HEIGHT - BOTTOM }));
    const half = label.length * 3.4;
    if (position - half < free || position + half > WIDTH + 8) continue;
    free = position + half + 6;
    svg.append(drawn("text", { x: position, y: HEIGHT - BOTTOM + 16, "text-anchor": "middle" }, label));
  }
  svg.append(drawn("line", { class: "axis", x1: LEFT, x2: WIDTH - RIGHT, y1: HEIGHT - BOTTOM, y2: HEIGHT - BOTTOM }));
  svg.append(drawn("text", { x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 4, "text-anchor": "middle" }, xLabel));
  return svg;
}
// Nearest point of each line under the pointer.
function hover(svg, lines, describe) {
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * WIDTH;
    const texts = lines.filter((line) => line.points.length).map((line) => {
      const near = line.points.reduce((a, b) => (Math.abs(b.x - x) < Math.abs(a.x - x) ? b : a));
      return describe(line, near);
    });
    if (!texts.length) return;
    tip.textContent = texts.join("\n");
    tip.hidden = false;
    tip.style.left = `${Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8)}px`;
    tip.style.top = `${event.clientY + 14}px`;
  });
  svg.addEventListener("pointerleave", () => { tip.hidden = true; });
}
function legend(lines, limits) {
  const box = element("div", { class: "legend" });
  for (const line of [...lines, ...(limits || []).map((one) => ({ name: one.name, colour: "var(--bad)", dashed: true }))]) {
    const mark = element("i", line.dashed ? { class: "dashed", style: `color:${line.colour}` } : { style: `background:${line.colour}` });
    box.append(element("span", {}, mark, line.name));
  }
  return box;
}
function card(title, note, ...content) {
  return element("section", { class: "card" }, element("h3", {}, title), element("p", { class: "quiet" }, note), ...content);
}

const stroke = (line) => drawn("polyline", { points: line.points.map((p) => `${p.x.toFixed(1)},${p.y.toFixed(1)}`).join(" "), fill: "none", stroke: line.colour, "stroke-width": 2, "stroke-linejoin": "round", "stroke-dasharray": line.dashed ? "5 4" : "none" });
// A bound belongs into a chart if it is near what was measured.
const near = (limits, low, high) => (limits || []).filter((one) => one.us > low / 10 && one.us < high * 10);

// Part of all answers by time; the vertical axis is stretched towards 100 %, where the tail is.
function distribution(title, note, sets, limits) {
  const shown = sets.filter((set) => size(set.histogram) > 0);
  if (!shown.length) return null;
  let low = Math.max(1, Math.min(...shown.map((set) => set.histogram[0][0]))), high = Math.max(...shown.map((set) => set.histogram[set.histogram.length - 1][0]));
  const lines_ = near(limits, low, high);
  low = Math.min(low, ...lines_.map((one) => one.us)) * 0.8;
  high = Math.max(high, ...lines_.map((one) => one.us)) * 1.2;
  const x = (us) => LEFT + (Math.log(Math.max(us, low) / low) / Math.log(high / low)) * (WIDTH - LEFT - RIGHT);
  const nines = 4;
  const y = (part) => HEIGHT - BOTTOM - (Math.min(-Math.log10(Math.max(1 - part, 10 ** -nines)), nines) / nines) * (HEIGHT - TOP - BOTTOM);
  const svg = frame(
    logTicks(low, high).map((us) => [x(us), tick(us)]),
    [[0, "0 %"], [0.5, "50 %"], [0.9, "90 %"], [0.99, "99 %"], [0.999, "99.9 %"], [0.9999, "99.99 %"]].map(([part, label]) => [y(part), label]),
    "time, log scale",
  );
  for (const one of lines_) svg.append(drawn("line", { class: "bound", x1: x(one.us), x2: x(one.us), y1: TOP, y2: HEIGHT - BOTTOM }));
  const lines = shown.map((set, index) => {
    const total = size(set.histogram);
    let seen = 0;
    const points = [{ x: x(set.histogram[0][0]), y: y(0), us: set.histogram[0][0], part: 0 }];
    for (const [us, count] of set.histogram) {
      seen += count;
      // A step that holds only the last sample would draw a tail that was not measured.
      points.push({ x: x(us), y: y(seen / total === 1 ? 1 - 0.5 / total : seen / total), us, part: seen / total });
    }
    return { name: set.name, dashed: set.dashed, colour: set.colour || colour(index), points };
  });
  svg.append(...lines.map(stroke));
  hover(svg, lines, (line, point) => `${line.name}: ${(point.part * 100).toFixed(2)} % within ${time(point.us)}`);
  return card(title, note, svg, legend(lines, lines_));
}

// Values by second: times on a log scale, or counts (`linear`).
function overTime(title, note, rows, { limits, linear } = {}) {
  const shown = rows.map((row) => ({ ...row, values: row.values.filter((value) => value.us !== null && value.us !== undefined) })).filter((row) => row.values.length > 1);
  if (!shown.length) return null;
  const all = shown.flatMap((row) => row.values);
  const label = linear ? (value) => `${+value.toPrecision(3)}` : tick;
  let low = Math.max(1, Math.min(...all.map((value) => value.us))), high = Math.max(...all.map((value) => value.us));
  const lines_ = near(limits, low, high);
  low = Math.min(low, ...lines_.map((one) => one.us)) * 0.7;
  high = Math.max(high, ...lines_.map((one) => one.us)) * (linear ? 1.1 : 1.4);
  const last = Math.max(...all.map((value) => value.at));
  const x = (at) => LEFT + (at / (last || 1)) * (WIDTH - LEFT - RIGHT);
  const part = linear ? (value) => value / high : (us) => Math.log(Math.max(us, low) / low) / Math.log(high / low);
  const y = (us) => HEIGHT - BOTTOM - part(us) * (HEIGHT - TOP - BOTTOM);
  const svg = frame(linearTicks(last).map((at) => [x(at), `${+at.toPrecision(3)}`]), (linear ? linearTicks(high) : logTicks(low, high)).map((us) => [y(us), label(us)]), "seconds");
  for (const one of lines_) svg.append(drawn("line", { class: "bound", x1: LEFT, x2: WIDTH - RIGHT, y1: y(one.us), y2: y(one.us) }));
  const lines = shown.map((row, index) => ({
    name: row.name, colour: row.colour || colour(index), dots: row.dots, dashed: row.dashed,
    points: row.values.map((value) => ({ x: x(value.at), y: y(value.us), ...value })),
  }));
  for (const line of lines) {
    if (!line.dots) svg.append(stroke(line));
    else for (const p of line.points) svg.append(drawn("circle", { cx: p.x.toFixed(1), cy: p.y.toFixed(1), r: 2.2, fill: line.colour, "fill-opacity": 0.75 }));
  }
  hover(svg, lines, (line, point) => `${line.name}, second ${(+point.at.toFixed(1))}: ${linear ? label(point.us) : time(point.us)}`);
  return card(title, note, svg, legend(lines, lines_));
}

// How many took how long, in bars of equal width on a log scale, one colour a set.
function bars(title, note, sets) {
  const shown = sets.filter((set) => size(set.histogram) > 0);
  if (!shown.length) return null;
  const low = Math.max(100, Math.min(...shown.map((set) => set.histogram[0][0])) * 0.9);
  const high = Math.max(low * 3, Math.max(...shown.map((set) => set.histogram[set.histogram.length - 1][0])) * 1.1);
  const count = 36;
  const slot = (us) => Math.min(count - 1, Math.max(0, Math.floor((Math.log(Math.max(us, low) / low) / Math.log(high / low)) * count)));
  const filled = shown.map((set) => {
    const slots = Array(count).fill(0);
    for (const [us, many] of set.histogram) slots[slot(us)] += many;
    return slots;
  });
  const most = Math.max(...filled[0].map((_, index) => filled.reduce((sum, slots) => sum + slots[index], 0)));
  const x = (us) => LEFT + (Math.log(us / low) / Math.log(high / low)) * (WIDTH - LEFT - RIGHT);
  const y = (many) => HEIGHT - BOTTOM - (many / most) * (HEIGHT - TOP - BOTTOM);
  const svg = frame(logTicks(low, high).map((us) => [x(us), tick(us)]), linearTicks(most).filter(Number.isInteger).map((many) => [y(many), number(many)]), "time until every replica shows it, log scale");
  const width = (WIDTH - LEFT - RIGHT) / count;
  const lines = [];
  for (let index = 0; index < count; index++) {
    let under = 0;
    filled.forEach((slots, set) => {
      if (!slots[index]) return;
      svg.append(drawn("rect", { x: LEFT + index * width + 0.5, width: width - 1, y: y(under + slots[index]), height: y(under) - y(under + slots[index]), fill: shown[set].colour || colour(set) }));
      under += slots[index];
    });
    const from = low * (high / low) ** (index / count), to = low * (high / low) ** ((index + 1) / count);
    lines.push({ x: LEFT + (index + 0.5) * width, text: `${time(from)} to ${time(to)}: ${under} updates` });
  }
  hover(svg, [{ points: lines }], (_, point) => point.text);
  return card(title, note, svg, legend(shown.map((set, index) => ({ name: set.name, colour: set.colour || colour(index) }))));
}

function table(head, rows, left = 1) {
  const cell = (name, value, index) => {
    const made = element(name, index < left ? { class: "left" } : {});
    if (value instanceof Node) made.append(value); else made.append(String(value ?? ""));
    return made;
  };
  return element("div", { class: "scroll" }, element("table", {},
    element("thead", {}, element("tr", {}, ...head.map((value, index) => cell("th", value, index)))),
    element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map((value, index) => cell("td", value, index)))))));
}
// From so many samples a percentile stands without its interval: 10 / (1 - quantile).
const BARE = { p50: 20, p90: 100, p99: 1000, "p99.9": 10000 };
function percentile(latency, name) {
  const us = latency[`${name.replace(".", "")}_us`], interval = latency.intervals?.[name];
  if (us === null || !interval || latency.count >= BARE[name]) return time(us);
  return withInterval(time(us), interval.high_us === null ? `${time(interval.low_us)} or more` : `${time(interval.low_us)} – ${time(interval.high_us)}`);
}
const latencyCells = (latency) => (latency ? [...Object.keys(BARE).map((name) => percentile(latency, name)), time(latency.max_us)] : ["withheld", "", "", "", ""]);
// A figure's text has its interval in brackets, in the unit of its value.
function shown(name) {
  const [value, interval] = (figures[name]?.text ?? "-").split(" [");
  if (!interval) return { value: value === "-" ? "–" : value, interval };
  const [low, high] = interval.replace("]", "").split(", ");
  const unit = value.includes(" ") ? ` ${value.split(" ")[1]}` : "";
  return { value, interval: high === "-" ? `${low}${unit} or more` : `${low} – ${high}${unit}` };
}
const withInterval = (value, interval) => (interval ? element("span", { title: "95 % interval" }, value, element("small", {}, interval)) : value);
const cellOf = (name) => withInterval(shown(name).value, shown(name).interval);

// --- the page

const TITLES = { latency: "Latency", staleness: "Staleness", neighbours: "Noisy neighbours", chaos: "Faults", watchers: "Watchers", capacity: "Capacity", soak: "Soak" };
const machineOf = (one) => `commit ${one.environment.commit} · ${one.environment.cores} × ${one.environment.processor} · ${Math.round(one.seconds)} s${one.interrupted ? " · interrupted" : ""}`;

function head() {
  page.append(element("h1", {}, `Tagged Config · ${TITLES[report.kind] ?? report.kind}`), element("p", { class: "quiet" }, `${date(report)} UTC · ${machineOf(report)}`));
  const tiles = element("div", { class: "tiles" });
  const tile = ({ value, interval }, label) => tiles.append(element("div", { class: "tile" }, element("b", {}, value), element("span", {}, label, interval ? element("small", {}, `95 %: ${interval}`) : "")));
  const plain = (value) => ({ value, interval: "" });
  for (const phase of report.phases.filter((one) => one.path !== "null")) {
    const name = `${phase.loop}.${phase.path}`;
    if (phase.loop === "closed") tile(shown(`${name}.rate`), `${phase.path}: right answers, closed loop, ${phase.users} users`);
    else {
      const statistic = figures[`${name}.p99`]?.value === null ? "max" : "p99";
      tile(shown(`${name}.${statistic}`), `${phase.harness_limited_because ? "harness-limited, " : ""}${phase.path}: ${statistic === "max" ? "longest" : "p99"} of all requests at ${number(phase.offered_per_second)}/s, failures included`);
    }
    if (figures[`${name}.hit.share`]?.value !== null) tile(shown(`${name}.hit.share`), `${phase.path}, ${phase.loop} loop: hits among cached reads`);
  }
  for (const one of report.capacity) tile(plain(one.held_per_second === null ? "–" : `${number(one.held_per_second)}/s`), `${one.path}: the highest rate that held`);
  for (const part of report.staleness) {
    for (const source of part.sources) {
      const name = `beside-${part.background_per_second}.staleness.${source.source}`;
      const statistic = figures[`${name}.p99`]?.value === null ? "max" : "p99";
      if (source.stages.last_replica) tile(shown(`${name}.${statistic}`), `${source.source}: ${statistic === "max" ? "longest" : "p99"} until all replicas show it${part.background_per_second ? `, beside ${number(part.background_per_second)} reads/s` : ""}`);
    }
  }
  if (report.staleness.length) {
    const sum = (of) => report.staleness.flatMap((part) => part.sources).reduce((total, source) => total + of(source), 0);
    tile(plain(`${sum((source) => source.lost)} of ${number(sum((source) => source.updates))}`), "updates lost");
    tile(plain(number(report.staleness.reduce((total, part) => total + part.history.violations.length, 0))), `violations in ${number(report.staleness.reduce((total, part) => total + part.history.reads, 0))} reads`);
  }
  page.append(tiles);
  for (const warning of report.warnings) page.append(element("div", { class: "warning" }, warning));
  if (report.slos.length) {
    page.append(element("h2", {}, "SLOs"), element("section", { class: "card" }, table(["SLO", "", "measured"], report.slos.map((slo) => [
      slo.slo, element("span", { class: slo.met ? "good" : "bad" }, slo.met ? "met" : "breached"), slo.measured]), 3)));
  }
}

function loopText(phase) {
  return phase.loop === "closed"
    ? `Closed loop: ${phase.users} users, each sending the next request when it has its answer. It measures throughput; its times hide how long users would have waited.`
    : `Open loop: ${number(phase.offered_per_second)} requests a second, independent of the answers, each timed from when it was due (corrected for coordinated omission).`;
}
const overSeconds = (phase, of) => phase.timeline.map((one) => ({ at: one.second, us: of(one) }));

function phaseSection(phase) {
  const before = report.phases.find((one) => one.path === "null" && one.loop === phase.loop && one.null_of === phase.path);
  page.append(element("h2", {}, `${phase.path}, ${phase.loop} loop`), element("p", { class: "quiet" }, loopText(phase)));
  if (!phase.sustained) page.append(element("div", { class: "violation" }, `Not sustained, so no times are given: ${phase.not_sustained_because}.`));
  if (phase.harness_limited_because) page.append(element("div", { class: "violation" }, `Harness-limited, so the times are the harness's as much as the target's: ${phase.harness_limited_because}.`));
  const results = [...new Set(phase.series.map((series) => series.result))];
  const sets = results.map((result) => ({ name: result, histogram: timesOf(phase, (series) => series.result === result) }));
  if (before) sets.push({ name: "baseline target (client overhead)", colour: "var(--c5)", histogram: timesOf(before, () => true) });
  const limits = boundsOf(`${phase.loop}.${phase.path}`);
  const failed = phase.timeline.some((one) => one.errors);
  page.append(element("div", { class: "pair" },
    ...[distribution("How long answers took", "Cumulative share of answers; the axis stretches the tail.", sets, limits),
      overTime("Over the run", "Median, 99th percentile and longest of the requests that were due in each second.", [["p50", "p50_us"], ["p99", "p99_us"], ["max", "max_us"]].map(([name, key]) => ({ name, values: overSeconds(phase, (one) => one[key]) })), { limits }),
      overTime("Client lag over the run", "The largest client lag of each second: the harness's own part of the times.", [{ name: "longest lag", colour: "var(--c5)", values: overSeconds(phase, (one) => one.lag_max_us) }]),
      failed ? overTime("Errors over the run", "Failed requests a second, by when they were due.", [{ name: "errors", colour: "var(--bad)", values: overSeconds(phase, (one) => one.errors / (one.seconds ?? 1)) }], { linear: true }) : null].filter(Boolean)));
  phaseTable(phase, before, `${phase.loop}.${phase.path}`);
}

function phaseTable(phase, before, name) {
  const errors = (series) => Object.entries(series.errors).map(([code, count]) => `${code} × ${count}`).join(", ");
  const rows = [["all", "", "", number(phase.series.reduce((sum, series) => sum + series.count, 0)), shown(`${name}.rate`).value.replace("/s", ""), ...["p50", "p90", "p99", "p99.9", "max"].map((one) => cellOf(`${name}.${one}`)), shown(`${name}.errors`).value],
    ...phase.series.map((series) => [series.scenario, series.operation, series.result, number(series.count), number(series.per_second), ...latencyCells(series.latency), errors(series)])];
  if (before) for (const series of before.series) rows.push(["baseline target", series.operation, "", number(series.count), number(series.per_second), ...latencyCells(series.latency), errors(series)]);
  const cpu = phase.cpu;
  const notes = [`Row "all": failures count as ${phase.timeout_seconds ? `the time-out, ${phase.timeout_seconds} s` : "what they took"}; its rate is that of right answers.`];
  if (phase.lag) notes.push(`Requests were sent ${time(phase.lag.p50_us)} (p50), ${time(phase.lag.p99_us ?? phase.lag.max_us)} (p99) after they were due: that part of the times is the harness's own.`);
  if (cpu.harness_cores !== null) notes.push(`The harness kept ${cpu.harness_cores.toFixed(2)} of ${cpu.machine_cores} processors busy; the machine was ${Math.round(cpu.machine_busy * 100)} % busy${cpu.machine_steal ? `, and ${Math.round(cpu.machine_steal * 100)} % was steal time` : ""}.`);
  if (phase.goose_requests) notes.push(`Goose counted ${number(phase.goose_requests)} requests, the warm-up included.`);
  page.append(element("section", { class: "card" }, table(["scenario", "operation", "result", "count", "per s", "p50", "p90", "p99", "p99.9", "max", "errors"], rows, 3), element("p", { class: "quiet", style: "margin:10px 0 0" }, notes.join(" "))));
}

const STAGES = [["write_to_start", "write → function starts"], ["read", "function reads the source"], ["discover", "finds the tasks"], ["fanout", "sends to them"]];

function breakdown(part) {
  const rows = part.sources.map((source) => {
    const stages = STAGES.map(([name, label]) => ({ name, label, us: source.stages[name]?.p50_us ?? null }));
    return { source: source.source, stages, total: source.stages.last_replica?.p50_us ?? null, receipts: source.receipts };
  }).filter((row) => row.receipts > 0);
  if (!rows.length) return null;
  const most = Math.max(...rows.map((row) => Math.max(row.total ?? 0, row.stages.reduce((sum, stage) => sum + (stage.us ?? 0), 0)))) * 1.05;
  const height = 30 + rows.length * 46;
  const left = 120;
  const svg = drawn("svg", { viewBox: `0 0 ${WIDTH} ${height + 16}`, role: "img" });
  const x = (us) => left + (us / most) * (WIDTH - left - 20);
  for (const us of linearTicks(most / 1e3).map((ms) => ms * 1e3)) {
    svg.append(drawn("line", { class: "grid", x1: x(us), x2: x(us), y1: 8, y2: height - 14 }));
    svg.append(drawn("text", { x: x(us), y: height + 2, "text-anchor": "middle" }, tick(us)));
  }
  rows.forEach((row, index) => {
    const y = 14 + index * 46;
    svg.append(drawn("text", { x: left - 10, y: y + 15, "text-anchor": "end" }, row.source));
    let at = 0;
    row.stages.forEach((stage, number_) => {
      if (stage.us === null) return;
      const box = drawn("rect", { x: x(at), y, width: Math.max(x(at + stage.us) - x(at), 1), height: 22, fill: colour(number_) });
      box.append(drawn("title", {}, `${stage.label}: ${time(stage.us)}`));
      svg.append(box);
      at += stage.us;
    });
    if (row.total !== null) {
      svg.append(drawn("line", { x1: x(row.total), x2: x(row.total), y1: y - 4, y2: y + 26, stroke: "var(--ink)", "stroke-width": 2 }));
      svg.append(drawn("text", { x: Math.min(x(row.total), WIDTH - 30), y: y + 38, "text-anchor": "middle" }, `all see it: ${time(row.total)}`));
    }
  });
  return card("Where the time goes", "Medians of the parts, from the invalidator's receipts (whole milliseconds; its first part counts from the write itself, so it holds the write's own answer too). The mark is when every replica showed the update, from the acknowledgement.",
    svg, legend(STAGES.map(([, label], index) => ({ name: label, colour: colour(index) }))));
}

function stalenessSection(part) {
  page.append(element("h2", {}, part.background_per_second ? `Updates beside ${number(part.background_per_second)} reads a second` : "Updates on a quiet system"),
    element("p", { class: "quiet" }, `From a write's acknowledgement until its value is visible; one process writes and polls, on one clock. A replica's times are known to ${part.resolution ? time(part.resolution.p50_us) : "–"} (the median time from the last read without an update to the first with it). An update that is overwritten before it is seen counts as seen when the later one is seen.`));
  const place = `beside-${part.background_per_second}`;
  const limits = boundsOf(`${place}.staleness`);
  const sets = part.sources.map((source, index) => ({ name: source.source, colour: colour(index), histogram: source.histograms.last_replica || [] }));
  const dots = part.sources.map((source, index) => ({ name: source.source, colour: colour(index), dots: true, values: source.timeline.map((one) => ({ at: one.at_ms / 1e3, us: Math.max(one.last_us, 1) })) }));
  page.append(element("div", { class: "pair" }, ...[
    bars("How long until every replica shows it", "Updates by time.", sets),
    overTime("Over the run", "Each dot is an update: when it was acknowledged, and how long until every replica showed it.", dots, { limits }),
    distribution("Distribution", "Part of all updates that every replica shows within a time.", sets, limits),
    breakdown(part)].filter(Boolean)));
  const receipts = STAGES.map(([stage]) => stage);
  const order = ["last_replica", "first_replica", "edge_first", "edge_all", "edge", "order_first", "order_all", "order", "start_to_last", "acknowledge", ...receipts];
  const isPart = (stage) => stage === "acknowledge" || receipts.includes(stage);
  // Receipts have whole milliseconds: a time below one was none.
  const cells = (stage, times) => latencyCells(times).map((cell) => (receipts.includes(stage) && (cell.textContent ?? cell).includes("µs") ? "< 1 ms" : cell));
  const rows = part.sources.flatMap((source) => order
    .filter((stage) => source.stages[stage])
    .map((stage) => [source.source, isPart(stage) ? `(part: ${words(stage)})` : words(stage), number(source.stages[stage].count), ...cells(stage, source.stages[stage]), stage === "last_replica" ? element("span", { class: source.lost ? "bad" : "good" }, String(source.lost)) : ""]));
  const services = part.services;
  const repaired = services ? Object.entries(services.repaired).map(([by, count]) => `${count} by ${by}`).join(", ") || "none" : "";
  page.append(element("section", { class: "card" }, table(["source", "until", "updates", "p50", "p90", "p99", "p99.9", "max", "lost"], rows, 2),
    element("p", { class: "quiet", style: "margin:10px 0 0" }, `The history of ${number(part.history.reads)} reads was checked: ${part.history.violations.length} violations.` +
      (services ? ` The ${services.replicas} replicas count ${number(Object.values(services.applied).reduce((a, b) => a + b, 0))} applied changes; changes that no push brought and something else repaired: ${repaired}.` : ""))));
  for (const violation of part.history.violations) page.append(element("div", { class: "violation" }, violation));
  if (part.background) {
    page.append(element("h3", { style: "margin-top:18px" }, "The background load"));
    phaseTable(part.background, null, `${place}.${part.background.loop}.${part.background.path}`);
  }
}

function capacitySection(one) {
  const knee = one.held_per_second === null ? "no rate held"
    : one.broken_per_second === null ? `${number(one.held_per_second)} requests a second or more`
      : `${number(one.held_per_second)} to ${number(one.broken_per_second)} requests a second`;
  const rows = one.steps.map((step) => [number(step.offered_per_second), number(step.answered_per_second), number(step.requests), number(step.failed), time(step.p50_us), time(step.p99_us), time(step.lag_p99_us),
    step.machine_busy === null ? "–" : `${Math.round(step.machine_busy * 100)} %`, element("span", { class: step.broken_because ? "bad" : "good" }, step.broken_because || "held")]);
  page.append(element("h2", {}, `Capacity, ${one.path}: ${knee}`),
    element("p", { class: "quiet" }, `An open loop at rising rates. A step holds if its rate is sustained and 99 of 100 requests have a good answer within ${time(one.p99_limit_us)}; one that breaks is measured twice more, and holds if both hold.${one.harness_limited ? " The harness sent requests late at the rate that broke: the target's capacity may be higher." : ""}`),
    element("section", { class: "card" }, table(["offered/s", "answered/s", "requests", "failed", "p50", "p99", "lag p99", "machine", ""], rows, 0)));
}

function soakSection(soak) {
  const row = (name, us) => ({ name, values: soak.windows.filter((one) => one[us] !== null).map((one) => ({ at: one.at_seconds, us: one[us] })) });
  const part = (value) => `${value < 0 ? "" : "+"}${(value * 100).toFixed(1)} %`;
  const rows = soak.trends.map((trend) => [trend.what, trend.of, number(trend.samples.length), `${+trend.median.toPrecision(4)} ${trend.unit}`,
    trend.growth ? `${part(trend.growth.value)} (${part(trend.growth.low)} to ${part(trend.growth.high)})` : "–", `${Math.round(trend.limit * 100)} %`,
    element("span", { class: trend.within_limit ? "good" : "bad" }, trend.within_limit ? (trend.growth?.low > 0 ? "within the limit" : "steady") : trend.within_limit === false ? "grows" : "no verdict")]);
  page.append(element("h2", {}, "Over the whole run"), element("p", { class: "quiet" }, `Windows of ${soak.window_seconds} s. Growth is over the run, as a part of the median, with its 95 % interval.`),
    ...[overTime("Answers by window", "Median and 99th percentile of the requests that were due in each window.", [row("p50", "p50_us"), row("p99", "p99_us")])].filter(Boolean),
    element("section", { class: "card" }, table(["trend", "of", "samples", "median", "growth", "allowed", ""], rows, 2)));
}

function errorTable() {
  const phases = [...report.phases, ...report.staleness.map((part) => part.background).filter(Boolean), ...report.chaos.map((one) => one.quiet).filter(Boolean)];
  const rows = phases.flatMap((phase) => phase.series.flatMap((series) => Object.entries(series.errors).map(([code, count]) => [`${pathName(phase)}, ${phase.loop} loop`, series.scenario, series.operation, code, number(count)])));
  for (const part of report.staleness) {
    for (const source of part.sources) for (const [reason, count] of Object.entries(source.failed_writes)) rows.push([`updates beside ${part.background_per_second}/s`, source.source, "write", reason, number(count)]);
    for (const [reason, count] of Object.entries(part.history.failed_reads)) rows.push([`updates beside ${part.background_per_second}/s`, "observers", "read", reason, number(count)]);
  }
  for (const one of report.capacity) for (const step of one.steps) for (const [code, count] of Object.entries(step.errors ?? {})) rows.push([`${one.path}, ${number(step.offered_per_second)}/s`, "capacity", "", code, number(count)]);
  for (const one of report.neighbours) if (one.alone_failed + one.beside_failed) rows.push([`${one.noise}, ${one.backend}`, "quiet tenant", "cold read", "failed", number(one.alone_failed + one.beside_failed)]);
  for (const one of report.chaos) {
    if (one.failed_writes) rows.push([one.name, "updates", "write", "failed", number(one.failed_writes)]);
    for (const [reason, count] of Object.entries(one.history.failed_reads)) rows.push([one.name, "observers", "read", reason, number(count)]);
  }
  if (report.watchers && report.watchers.heard < report.watchers.calls) rows.push(["watchers", "", "change", "not received", number(report.watchers.calls - report.watchers.heard)]);
  page.append(element("h2", {}, "Errors"), element("section", { class: "card" }, rows.length
    ? table(["where", "who", "what", "code", "count"], rows, 4)
    : element("p", { style: "margin:0", class: "good" }, "None: every request had a correct answer.")));
}

function environment() {
  const machine = report.environment;
  const rows = [["commit", machine.commit], ["system", machine.system], ["processor", `${machine.cores} × ${machine.processor}`], ["memory", machine.memory_mib ? `${number(machine.memory_mib)} MiB` : "unknown"],
    ["harness", machine.profile ? `profile ${machine.profile}` : machine.optimised ? "optimised build" : "build without optimisation"], ...(machine.services_profile ? [["services", `profile ${machine.services_profile}`]] : []), ...Object.entries(machine.targets).map(([name, place]) => [`target ${name}`, place]),
    ...Object.entries(report.settings).map(([name, value]) => [name, typeof value === "object" ? Object.entries(value).map(([key, one]) => `${key}=${one}`).join(", ") : String(value)])];
  page.append(element("h2", {}, "Measured with"), element("section", { class: "card" }, table(["", ""], rows, 2)));
}

// What has no section of its own: lists of the result, a row for each entry; lists within them folded.
const isTimes = (value) => value && typeof value === "object" && "p50_us" in value && "mean_us" in value;
const isList = (value) => Array.isArray(value) && value.length && typeof value[0] === "object" && !Array.isArray(value[0]);
function listTable(list) {
  const isShown = (value) => isTimes(value) || ["string", "number", "boolean"].includes(typeof value);
  const columns = [...new Set(list.flatMap(Object.keys))].filter((key) => list.some((one) => isShown(one[key])));
  const cell = (key, value) => (isTimes(value) ? element("span", {}, percentile(value, "p50"), " / ", value.p99_us === null ? time(value.max_us) : percentile(value, "p99"))
    : typeof value === "boolean" ? element("span", { class: value ? "good" : "bad" }, value ? "yes" : "no")
    : typeof value !== "number" ? String(value ?? "–") : key.endsWith("_us") ? time(value) : `${+value.toFixed(3)}`);
  const heading = (key) => words(key.replace(/_us$/, "")) + (list.some((one) => isTimes(one[key])) ? ": p50 / p99" : "");
  return table(columns.map(heading), list.map((one) => columns.map((key) => cell(key, one[key]))), 2);
}
function listSection(name, list) {
  const box = element("section", { class: "card" }, listTable(list));
  page.append(element("h2", {}, TITLES[name] ?? words(name)), box);
  for (const one of list) {
    for (const [key, value] of Object.entries(one)) {
      if (isList(value)) box.append(element("details", {}, element("summary", {}, words(`${one.path ?? one.name ?? ""} ${key}`.trim())), listTable(value)));
      if (isList(value) && "at_seconds" in value[0]) page.append(overTime(`${words(key)} over the run`, "Median and 99th percentile.", ["p50_us", "p99_us"].map((statistic) => ({ name: statistic.slice(0, 3), values: value.map((point) => ({ at: point.at_seconds, us: point[statistic] })) }))) ?? "");
      if (Array.isArray(value) && typeof value[0] === "string") for (const text of value) page.append(element("div", { class: "violation" }, `${one.name ?? one.path ?? ""} ${text}`.trim()));
    }
  }
}

function figureSection(open) {
  const rows = Object.entries(figures).filter(([, figure]) => figure.compared).map(([name, figure]) => [name, figure.text, number(figure.n)]);
  const list = element("details", open ? { open: "" } : {}, element("summary", {}, `${rows.length} figures, by the names that SLOs use`), table(["figure", "value [95 % interval]", "samples"], rows));
  page.append(element("h2", {}, "Figures"), element("section", { class: "card" }, list));
}

// Two results, overlaid: the base dashed, the new one solid.
function comparison() {
  const fresh = other.report, runs = (count) => (count > 1 ? ` (the first of ${count} runs is drawn)` : "");
  page.append(element("h1", {}, `Tagged Config · ${TITLES[report.kind] ?? report.kind}, compared`),
    element("p", { class: "quiet" }, `Base: ${date(report)} UTC · ${machineOf(report)}${runs(data.runs[0])}`),
    element("p", { class: "quiet" }, `New: ${date(fresh)} UTC · ${machineOf(fresh)}${runs(data.runs[1])}`));
  for (const note of data.notes ?? []) page.append(element("div", { class: "violation" }, note));
  const marks = { WORSE: "bad", GONE: "bad", better: "good" };
  const compared = (rows) => table(["figure", "base", "new", "ratio", ""], rows.map(([name, before, after, ratio, mark]) => [name, before, after, ratio, element("span", { class: marks[mark] ?? "quiet" }, mark)]));
  const changed = data.rows.filter((row) => row[4]);
  page.append(element("h2", {}, "What changed"), element("section", { class: "card" }, changed.length ? compared(changed) : element("p", { class: "good", style: "margin:0" }, "No figure is better or worse beyond its interval and the threshold.")));
  const pair = (title, note, sets) => distribution(title, note, sets.flatMap(({ name, before, after }, index) => [{ name: `${name}, base`, dashed: true, colour: colour(index), histogram: before }, { name: `${name}, new`, colour: colour(index), histogram: after }]));
  const charts = [];
  for (const phase of report.phases.filter((one) => one.path !== "null")) {
    const twin = fresh.phases.find((one) => one.path === phase.path && one.loop === phase.loop);
    if (!twin) continue;
    const results = [...new Set([...phase.series, ...twin.series].map((series) => series.result))];
    charts.push(pair(`${phase.path}, ${phase.loop} loop`, "Part of all answers within a time.", results.map((name) => ({ name, before: timesOf(phase, (one) => one.result === name), after: timesOf(twin, (one) => one.result === name) }))),
      overTime(`${phase.path}, ${phase.loop} loop: p99 over the run`, "The 99th percentile of each second.", [[phase, "base"], [twin, "new"]].map(([one, name]) => ({ name, dashed: name === "base", colour: colour(0), values: overSeconds(one, (point) => point.p99_us) }))));
  }
  for (const part of report.staleness) {
    const twin = fresh.staleness.find((one) => one.background_per_second === part.background_per_second);
    if (twin) charts.push(pair(`Updates beside ${number(part.background_per_second)} reads a second`, "Part of all updates that every replica shows within a time.", part.sources.map((source) => ({ name: source.source, before: source.histograms.last_replica ?? [], after: twin.sources.find((one) => one.source === source.source)?.histograms.last_replica ?? [] }))));
  }
  page.append(element("div", { class: "pair" }, ...charts.filter(Boolean)));
  page.append(element("h2", {}, "All figures"), element("section", { class: "card" }, compared(data.rows)));
}

if (other) comparison();
else {
  head();
  report.phases.filter((phase) => phase.path !== "null").forEach(phaseSection);
  report.staleness.forEach(stalenessSection);
  report.capacity.forEach(capacitySection);
  if (report.soak) soakSection(report.soak);
  const own = ["phases", "staleness", "capacity", "soak", "slos", "warnings", "environment", "settings"];
  for (const [name, value] of Object.entries(report).filter(([name, value]) => !own.includes(name) && value && typeof value === "object")) {
    const list = Array.isArray(value) ? value : [value];
    if (isList(list)) listSection(name, list);
  }
  errorTable();
  figureSection(!report.phases.length && !report.staleness.length && !report.capacity.length);
  environment();
}
