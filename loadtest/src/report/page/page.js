"use strict";
const report = JSON.parse(document.getElementById("data").textContent);
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
const pathName = (phase) => (phase.path === "null" ? `baseline (${phase.null_of})` : phase.path);
const failures = (phase) => phase.series.reduce((sum, series) => sum + Object.values(series.errors).reduce((a, b) => a + b, 0), 0);

function merged(histograms) {
  const counts = new Map();
  for (const histogram of histograms) for (const [us, count] of histogram) counts.set(us, (counts.get(us) || 0) + count);
  return [...counts].sort((a, b) => a[0] - b[0]);
}
function quantile(histogram, part) {
  const total = histogram.reduce((sum, [, count]) => sum + count, 0);
  let seen = 0;
  for (const [us, count] of histogram) {
    seen += count;
    if (seen >= total * part) return us;
  }
  return null;
}
const size = (histogram) => histogram.reduce((sum, [, count]) => sum + count, 0);

// --- charts

const WIDTH = 520, HEIGHT = 260, LEFT = 64, RIGHT = 14, TOP = 12, BOTTOM = 36;

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
  for (const [position, label] of xs) {
    svg.append(drawn("line", { class: "grid", x1: position, x2: position, y1: TOP, y2: HEIGHT - BOTTOM }));
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
function legend(lines) {
  const box = element("div", { class: "legend" });
  for (const line of lines) {
    const mark = element("i", { style: `background:${line.colour}` });
    box.append(element("span", {}, mark, line.name));
  }
  return box;
}
function card(title, note, ...content) {
  return element("section", { class: "card" }, element("h3", {}, title), element("p", { class: "quiet" }, note), ...content);
}

// Part of all answers by time; the vertical axis is stretched towards 100 %, where the tail is.
function distribution(title, note, sets) {
  const shown = sets.filter((set) => size(set.histogram) > 0);
  if (!shown.length) return null;
  const low = Math.max(1, Math.min(...shown.map((set) => set.histogram[0][0])) * 0.8);
  const high = Math.max(...shown.map((set) => set.histogram[set.histogram.length - 1][0])) * 1.2;
  const x = (us) => LEFT + (Math.log(Math.max(us, low) / low) / Math.log(high / low)) * (WIDTH - LEFT - RIGHT);
  const nines = 4;
  const y = (part) => HEIGHT - BOTTOM - (Math.min(-Math.log10(Math.max(1 - part, 10 ** -nines)), nines) / nines) * (HEIGHT - TOP - BOTTOM);
  const svg = frame(
    logTicks(low, high).map((us) => [x(us), tick(us)]),
    [[0, "0 %"], [0.5, "50 %"], [0.9, "90 %"], [0.99, "99 %"], [0.999, "99.9 %"], [0.9999, "99.99 %"]].map(([part, label]) => [y(part), label]),
    "time, log scale",
  );
  const lines = shown.map((set, index) => {
    const total = size(set.histogram);
    let seen = 0;
    const points = [{ x: x(set.histogram[0][0]), y: y(0), us: set.histogram[0][0], part: 0 }];
    for (const [us, count] of set.histogram) {
      seen += count;
      // A step that holds only the last sample would draw a tail that was not measured.
      points.push({ x: x(us), y: y(seen / total === 1 ? 1 - 0.5 / total : seen / total), us, part: seen / total });
    }
    return { name: set.name, colour: set.colour || colour(index), points };
  });
  for (const line of lines)
    svg.append(drawn("polyline", { points: line.points.map((p) => `${p.x.toFixed(1)},${p.y.toFixed(1)}`).join(" "), fill: "none", stroke: line.colour, "stroke-width": 2, "stroke-linejoin": "round" }));
  hover(svg, lines, (line, point) => `${line.name}: ${(point.part * 100).toFixed(2)} % within ${time(point.us)}`);
  return card(title, note, svg, legend(lines));
}

function overTime(title, note, rows) {
  const shown = rows.map((row) => ({ ...row, values: row.values.filter((value) => value.us !== null && value.us !== undefined) })).filter((row) => row.values.length > 1);
  if (!shown.length) return null;
  const all = shown.flatMap((row) => row.values);
  const low = Math.max(1, Math.min(...all.map((value) => value.us)) * 0.7), high = Math.max(...all.map((value) => value.us)) * 1.4;
  const last = Math.max(...all.map((value) => value.at));
  const x = (at) => LEFT + (at / (last || 1)) * (WIDTH - LEFT - RIGHT);
  const y = (us) => HEIGHT - BOTTOM - (Math.log(Math.max(us, low) / low) / Math.log(high / low)) * (HEIGHT - TOP - BOTTOM);
  const svg = frame(linearTicks(last).map((at) => [x(at), `${+at.toPrecision(3)}`]), logTicks(low, high).map((us) => [y(us), tick(us)]), "seconds");
  const lines = shown.map((row, index) => ({
    name: row.name, colour: row.colour || colour(index), dots: row.dots,
    points: row.values.map((value) => ({ x: x(value.at), y: y(value.us), ...value })),
  }));
  for (const line of lines) {
    if (line.dots) {
      for (const p of line.points) svg.append(drawn("circle", { cx: p.x.toFixed(1), cy: p.y.toFixed(1), r: 2.2, fill: line.colour, "fill-opacity": 0.75 }));
    } else {
      svg.append(drawn("polyline", { points: line.points.map((p) => `${p.x.toFixed(1)},${p.y.toFixed(1)}`).join(" "), fill: "none", stroke: line.colour, "stroke-width": 2, "stroke-linejoin": "round" }));
    }
  }
  hover(svg, lines, (line, point) => `${line.name}, second ${(+point.at.toFixed(1))}: ${time(point.us)}`);
  return card(title, note, svg, legend(lines));
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
const latencyCells = (latency) => (latency ? [latency.p50_us, latency.p90_us, latency.p99_us, latency.p999_us, latency.max_us].map(time) : ["withheld", "", "", "", ""]);

// --- the page

function head() {
  const title = report.kind[0].toUpperCase() + report.kind.slice(1);
  const machine = report.environment;
  page.append(
    element("h1", {}, `Tagged Config · ${title}`),
    element("p", { class: "quiet" }, `${report.started_at.slice(0, 19).replace("T", " ")} UTC · commit ${machine.commit} · ${machine.cores} × ${machine.processor} · ${Math.round(report.seconds)} s${report.interrupted ? " · interrupted" : ""}`),
  );
  const tiles = element("div", { class: "tiles" });
  const tile = (value, label) => tiles.append(element("div", { class: "tile" }, element("b", {}, value), element("span", {}, label)));
  for (const phase of report.phases.filter((one) => one.path !== "null")) {
    const hits = merged(phase.series.filter((series) => series.result === "hit").map((series) => series.histogram));
    if (phase.loop === "closed") tile(`${number(phase.answered_per_second)}/s`, `${phase.path}: answers, closed loop, ${phase.users} users`);
    else if (size(hits) >= 100) tile(time(quantile(hits, 0.99)), `${phase.path}: p99 of hits at ${number(phase.offered_per_second)}/s`);
  }
  for (const one of report.capacity || []) tile(one.held_per_second === null ? "–" : `${number(one.held_per_second)}/s`, `${one.path}: the highest rate that held`);
  for (const part of report.staleness) {
    for (const source of part.sources) {
      const last = source.stages.last_replica;
      if (last) tile(time(last.p99_us ?? last.max_us), `${source.source}: ${last.p99_us === null ? "longest" : "p99"} until all replicas show it${part.background_per_second ? `, beside ${number(part.background_per_second)} reads/s` : ""}`);
    }
  }
  if (report.staleness.length) {
    const lost = report.staleness.flatMap((part) => part.sources).reduce((sum, source) => sum + source.lost, 0);
    const updates = report.staleness.flatMap((part) => part.sources).reduce((sum, source) => sum + source.updates, 0);
    tile(`${lost} of ${number(updates)}`, "updates lost");
    tile(number(report.staleness.reduce((sum, part) => sum + part.history.violations.length, 0)), `violations in ${number(report.staleness.reduce((sum, part) => sum + part.history.reads, 0))} reads`);
  }
  page.append(tiles);
  for (const warning of report.warnings) page.append(element("div", { class: "warning" }, warning));
  if (report.slos.length) {
    page.append(element("h2", {}, "Demands"), element("section", { class: "card" }, table(["SLO", "", "measured"], report.slos.map((slo) => [
      slo.slo, element("span", { class: slo.met ? "good" : "bad" }, slo.met ? "met" : "breached"), slo.measured]), 3)));
  }
}

function loopText(phase) {
  return phase.loop === "closed"
    ? `Closed loop: ${phase.users} users, each sending the next request when it has its answer. It shows how much the target can do; its times hide how long users would have waited.`
    : `Open loop: ${number(phase.offered_per_second)} questions a second, whatever the answers do, each timed from when it was due (corrected for coordinated omission).`;
}

function phaseSection(phase, index) {
  const before = report.phases.find((one) => one.path === "null" && one.loop === phase.loop && one.null_of === phase.path);
  page.append(element("h2", {}, `${phase.path}, ${phase.loop} loop`), element("p", { class: "quiet" }, loopText(phase)));
  if (!phase.sustained) page.append(element("div", { class: "violation" }, `Not sustained, so no times are given: ${phase.not_sustained_because}.`));
  if (phase.harness_limited_because) page.append(element("div", { class: "violation" }, `Harness-limited, so the times are the harness's as much as the target's: ${phase.harness_limited_because}.`));
  const byResult = [...new Set(phase.series.map((series) => series.result))];
  const sets = byResult.map((result) => ({ name: result, histogram: merged(phase.series.filter((series) => series.result === result).map((series) => series.histogram)) }));
  if (before) sets.push({ name: "baseline target (client overhead)", colour: "var(--c5)", histogram: merged(before.series.map((series) => series.histogram)) });
  const row = (name, us) => ({ name, values: phase.timeline.map((one) => ({ at: one.second, us: one[us] })) });
  page.append(element("div", { class: "pair" },
    ...[distribution("How long answers took", "Part of all answers within a time; upwards the tail is stretched.", sets),
      overTime("Over the run", "Each second's median, 99th percentile and longest.", [row("p50", "p50_us"), row("p99", "p99_us"), row("max", "max_us")])].filter(Boolean)));
  phaseTable(phase, before);
}

function phaseTable(phase, before) {
  const rows = phase.series.map((series) => [series.scenario, series.operation, series.result, number(series.count), number(series.per_second), ...latencyCells(series.latency), Object.entries(series.errors).map(([code, count]) => `${code} × ${count}`).join(", ")]);
  if (before) for (const series of before.series) rows.push(["baseline target", series.operation, "", number(series.count), number(series.per_second), ...latencyCells(series.latency), ""]);
  const cpu = phase.cpu;
  const notes = [];
  if (phase.lag) notes.push(`Requests were sent ${time(phase.lag.p50_us)} (p50), ${time(phase.lag.p99_us ?? phase.lag.max_us)} (p99) after they were due: that part of the times is the harness's own.`);
  if (cpu.harness_cores !== null) notes.push(`The harness kept ${cpu.harness_cores.toFixed(2)} of ${cpu.machine_cores} processors busy; the machine was busy to ${Math.round(cpu.machine_busy * 100)} %${cpu.machine_steal ? `, and ${Math.round(cpu.machine_steal * 100)} % was stolen` : ""}.`);
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
    element("p", { class: "quiet" }, `From a write's acknowledgement until its value is visible; one process writes and polls, on one clock. A replica's times are known to ${part.resolution ? time(part.resolution.p50_us) : "–"} (the median interval of two polls). An update that another overtook counts as seen when the later one is.`));
  const sets = part.sources.map((source, index) => ({ name: source.source, colour: colour(index), histogram: source.histograms.last_replica || [] }));
  const dots = part.sources.map((source, index) => ({ name: source.source, colour: colour(index), dots: true, values: source.timeline.map((one) => ({ at: one.at_ms / 1e3, us: Math.max(one.last_us, 1) })) }));
  page.append(element("div", { class: "pair" }, ...[
    bars("How long until every replica shows it", "Updates by time.", sets),
    overTime("Over the run", "Each dot is an update: when it was acknowledged, and how long until every replica showed it.", dots),
    distribution("Distribution", "Part of all updates that every replica shows within a time.", sets),
    breakdown(part)].filter(Boolean)));
  const rows = part.sources.flatMap((source) => ["first_replica", "last_replica", "edge", "order", "acknowledge", "write_to_start", "read", "discover", "fanout"]
    .filter((stage) => source.stages[stage])
    .map((stage) => [source.source, ["first_replica", "last_replica", "edge", "order"].includes(stage) ? words(stage) : `(part: ${words(stage)})`, number(source.stages[stage].count), ...latencyCells(source.stages[stage]), stage === "last_replica" ? element("span", { class: source.lost ? "bad" : "good" }, String(source.lost)) : ""]));
  const services = part.services;
  const repaired = services ? Object.entries(services.repaired).map(([by, count]) => `${count} by ${by}`).join(", ") || "none" : "";
  page.append(element("section", { class: "card" }, table(["source", "until", "updates", "p50", "p90", "p99", "p99.9", "max", "lost"], rows, 2),
    element("p", { class: "quiet", style: "margin:10px 0 0" }, `The history of ${number(part.history.reads)} reads was checked: ${part.history.violations.length} violations.` +
      (services ? ` The ${services.replicas} replicas count ${number(Object.values(services.applied).reduce((a, b) => a + b, 0))} applied changes; changes that no push brought and something else repaired: ${repaired}.` : ""))));
  for (const violation of part.history.violations) page.append(element("div", { class: "violation" }, violation));
  if (part.background) {
    page.append(element("h3", { style: "margin-top:18px" }, "The background load"));
    phaseTable(part.background, null);
  }
}

function capacitySection(one) {
  const knee = one.held_per_second === null ? "no rate held"
    : one.broken_per_second === null ? `${number(one.held_per_second)} requests a second or more`
      : `${number(one.held_per_second)} to ${number(one.broken_per_second)} requests a second`;
  const rows = one.steps.map((step) => [number(step.offered_per_second), number(step.answered_per_second), number(step.requests), number(step.failed), time(step.p50_us), time(step.p99_us), time(step.lag_p99_us),
    step.machine_busy === null ? "–" : `${Math.round(step.machine_busy * 100)} %`, element("span", { class: step.broken_because ? "bad" : "good" }, step.broken_because || "held")]);
  page.append(element("h2", {}, `Capacity, ${one.path}: ${knee}`),
    element("p", { class: "quiet" }, `An open loop at rising rates. A step holds if its rate is sustained and 99 of 100 requests have a good answer within ${time(one.p99_limit_us)}; one that breaks is measured again.${one.harness_limited ? " The harness was the limit, not the target." : ""}`),
    element("section", { class: "card" }, table(["offered/s", "answered/s", "requests", "failed", "p50", "p99", "lag p99", "machine", ""], rows, 0)));
}

function soakSection(soak) {
  const row = (name, us) => ({ name, values: soak.windows.map((one) => ({ at: one.at_seconds, us: one[us] })) });
  const part = (value) => `${value < 0 ? "" : "+"}${(value * 100).toFixed(1)} %`;
  const rows = soak.trends.map((trend) => [trend.what, trend.of, number(trend.samples.length), `${+trend.median.toPrecision(4)} ${trend.unit}`,
    trend.growth ? `${part(trend.growth.value)} (${part(trend.growth.low)} to ${part(trend.growth.high)})` : "–", `${Math.round(trend.limit * 100)} %`,
    element("span", { class: trend.within_limit ? "good" : "bad" }, trend.within_limit ? "steady" : trend.within_limit === false ? "grows" : "no verdict")]);
  page.append(element("h2", {}, "Over the whole run"), element("p", { class: "quiet" }, `Windows of ${soak.window_seconds} s. Growth is over the run, as a part of the median, with its 95 % interval.`),
    ...[overTime("Answers by window", "Median and 99th percentile of the requests that were due in each window.", [row("p50", "p50_us"), row("p99", "p99_us")])].filter(Boolean),
    element("section", { class: "card" }, table(["trend", "of", "samples", "median", "growth", "allowed", ""], rows, 2)));
}

function errorTable() {
  const phases = [...report.phases, ...report.staleness.map((part) => part.background).filter(Boolean)];
  const rows = phases.flatMap((phase) => phase.series.flatMap((series) => Object.entries(series.errors).map(([code, count]) => [`${pathName(phase)}, ${phase.loop} loop`, series.scenario, series.operation, code, number(count)])));
  for (const part of report.staleness) {
    for (const source of part.sources) for (const [reason, count] of Object.entries(source.failed_writes)) rows.push([`updates beside ${part.background_per_second}/s`, source.source, "write", reason, number(count)]);
    for (const [reason, count] of Object.entries(part.history.failed_reads)) rows.push([`updates beside ${part.background_per_second}/s`, "observers", "read", reason, number(count)]);
  }
  page.append(element("h2", {}, "Errors"), element("section", { class: "card" }, rows.length
    ? table(["where", "who", "what", "code", "count"], rows, 4)
    : element("p", { style: "margin:0", class: "good" }, "None: every question had an answer, and the right one.")));
}

function environment() {
  const machine = report.environment;
  const rows = [["commit", machine.commit], ["system", machine.system], ["processor", `${machine.cores} × ${machine.processor}`], ["memory", machine.memory_mib ? `${number(machine.memory_mib)} MiB` : "unknown"],
    ["harness", machine.optimised ? "optimised build" : "build without optimisation"], ...Object.entries(machine.targets).map(([name, place]) => [`target ${name}`, place]),
    ...Object.entries(report.settings).map(([name, value]) => [name, typeof value === "object" ? Object.entries(value).map(([key, one]) => `${key}=${one}`).join(", ") : String(value)])];
  page.append(element("h2", {}, "Measured with"), element("section", { class: "card" }, table(["", ""], rows, 2)));
}

head();
report.phases.filter((phase) => phase.path !== "null").forEach(phaseSection);
report.staleness.forEach(stalenessSection);
(report.capacity || []).forEach(capacitySection);
if (report.soak) soakSection(report.soak);
errorTable();
environment();
