// Each metric along each axis: points with their intervals, the baseline, the band of noise.

const MOST_PANELS = 12;
const plotted = { toScale: true, differences: false };

function drawPlots() {
  const section = byId("plots");
  heading(
    section,
    "Along the axes",
    chosen.metric ? h("span", {}, metricLead(METRIC_BY_NAME.get(chosen.metric))) : null,
  );
  const axes = AXES.filter((axis) => axisPoints(axis, chosen.metric).length);
  if (!chosen.metric || (!axes.length && !ARMS.some((a) => isNumber(a[COST])))) {
    section.append(
      h(
        "p",
        { class: "muted" },
        METRICS.length ? "No arm has a score along an axis yet." : "No metric was scored, so there is nothing to plot.",
      ),
    );
    return;
  }
  const controls = h("p", { class: "controls" });
  if (axes.some(numericAxis)) controls.append(plotSwitch("toScale", "Numbers to scale"));
  if (BASELINE && axes.length) controls.append(plotSwitch("differences", "Paired differences from the baseline"));
  section.append(controls);
  for (const axis of axes) section.append(panelsOf(axis, chosen.metric, 300));
  if (axes.length) section.append(plotLegend());
  guarded(section, () => drawPareto(section));
  const others = METRICS.filter((m) => m.name !== chosen.metric);
  if (others.length && axes.length) {
    const holder = h("div", { class: "small-panels" });
    const details = h(
      "details",
      { class: "more" },
      h("summary", {}, `Other metrics along the same axes (${others.length})`),
      holder,
    );
    details.addEventListener("toggle", () => {
      if (!details.open || holder.firstChild) return;
      for (const metric of others) for (const axis of axes) holder.append(panelsOf(axis, metric.name, 200));
    });
    section.append(details);
  }
}

function plotSwitch(key, text) {
  const box = h("input", {
    type: "checkbox",
    id: `plot-${key}`,
    checked: plotted[key],
    onchange: () => {
      plotted[key] = box.checked;
      drawPlots();
      byId(box.id)?.focus();
    },
  });
  return h("label", { class: "check" }, box, text);
}

/** What is drawn of an arm: its mean, or its paired difference from the baseline, with the interval. */
function shownOf(arm, metric) {
  if (!plotted.differences) return arm.metrics?.[metric];
  if (arm === BASELINE) return { mean: 0, ci: null };
  return { mean: arm.versus?.[metric]?.delta, ci: arm.versus?.[metric]?.ci };
}

function axisPoints(axis, metric) {
  return ARMS.filter((a) => axis in (a.axes || {}) && isNumber(shownOf(a, metric)?.mean));
}

function numericAxis(axis) {
  const values = ARMS.filter((a) => axis in (a.axes || {})).map((a) => a.axes[axis]);
  return values.length > 0 && values.every(isNumber);
}

/** The plots of one axis: one when it is alone, else one for every combination of the third and further axes. */
function panelsOf(axis, metric, height) {
  const points = axisPoints(axis, metric);
  const others = AXES.filter((o) => o !== axis && new Set(points.map((a) => JSON.stringify(a.axes[o]))).size > 1);
  const sizes = Object.fromEntries(others.map((o) => [o, new Set(points.map((a) => JSON.stringify(a.axes[o]))).size]));
  const lineAxis = others.length
    ? others.reduce((x, y) => (sizes[y] <= 7 && (sizes[y] > sizes[x] || sizes[x] > 7) ? y : x))
    : null;
  const facets = new Map();
  for (const arm of points) {
    const rest = others
      .filter((o) => o !== lineAxis)
      .map((o) => `${o} = ${valueText(arm.axes[o])}`)
      .join(", ");
    if (!facets.has(rest)) facets.set(rest, []);
    facets.get(rest).push(arm);
  }
  const all = points;
  const shown = [...facets].slice(0, MOST_PANELS);
  const figures = shown.map(([title, arms]) => {
    const holder = h("div", { class: "plot" });
    const figure = h(
      "figure",
      { class: shown.length > 1 ? "panel facet" : "panel" },
      h(
        "figcaption",
        {},
        h("b", {}, metric),
        `${plotted.differences ? ", difference from the baseline," : ""} along ${axis}`,
        lineAxis ? `, a line for each ${lineAxis}` : "",
        title ? h("span", { class: "muted" }, ` (${title})`) : "",
      ),
      holder,
    );
    requestAnimationFrame(() =>
      guarded(holder, () => responsive(holder, (width) => axisPlot(width, height, axis, metric, arms, lineAxis, all))),
    );
    return figure;
  });
  const left = facets.size - shown.length;
  return h(
    "div",
    { class: "panels" },
    figures,
    left > 0 ? h("p", { class: "note" }, `${left} more combinations are in the table.`) : "",
  );
}

function axisPlot(width, height, axis, metric, arms, lineAxis, all) {
  const values = [...new Map(all.map((a) => [JSON.stringify(a.axes[axis]), a.axes[axis]])).values()];
  const numeric = values.every(isNumber);
  if (numeric) values.sort((a, b) => a - b);
  const scaled = numeric && plotted.toScale && values.length > 1;
  const log = scaled && values[0] > 0 && values[values.length - 1] / values[0] >= 30;
  const lines = lineAxis ? groupBy(arms, (a) => JSON.stringify(a.axes[lineAxis])) : new Map([["", arms]]);
  const lineText = (arms) => shortened(`${shortAxis(lineAxis)} ${valueText(arms[0].axes[lineAxis])}`, 20);
  const right = lineAxis ? 16 + Math.max(...[...lines.values()].map((a) => measure(lineText(a)))) : 14;
  const left = 52;
  const base = BASELINE && shownOf(BASELINE, metric);
  const aa = ANALYSIS.aa?.[metric]?.ci;
  const band = aa && isNumber(base?.mean) ? [base.mean + aa[0], base.mean + aa[1]] : null;
  const labels = values.map((v) => shortened(valueText(v), 22));
  const inner = width - left - right;
  const room = inner / Math.max(1, values.length);
  const tilted = !scaled && labels.some((t) => measure(t) > room - 6);
  const bottom = tilted ? Math.min(110, 26 + 0.6 * Math.max(...labels.map((t) => measure(t)))) : 30;
  const foot = height - bottom - 18;
  const y = scaleOf(
    [...(band || []), ...all.flatMap((a) => [shownOf(a, metric).mean, ...(shownOf(a, metric).ci || [])])],
    foot,
    10,
  );
  const place = scaled ? scaleOf(values, left + 14, width - right - 14, { log, pad: 0 }) : null;
  const x = (v) =>
    scaled ? place(v) : left + room * (values.findIndex((w) => JSON.stringify(w) === JSON.stringify(v)) + 0.5);
  const svg = s("svg", { width, height, role: "group", "aria-label": `${metric} along ${axis}` });
  for (const t of y.ticks(5)) {
    svg.append(
      s("line", { class: "rule", x1: left, x2: width - right, y1: y(t), y2: y(t) }),
      s("text", { class: "tick", x: left - 8, y: y(t) + 4, "text-anchor": "end" }, tickText(t)),
    );
  }
  if (band)
    svg.append(
      s("rect", { class: "band", x: left, width: inner, y: y(band[1]), height: Math.max(1, y(band[0]) - y(band[1])) }),
    );
  if (isNumber(base?.mean))
    svg.append(s("line", { class: "base-line", x1: left, x2: width - right, y1: y(base.mean), y2: y(base.mean) }));
  svg.append(s("line", { class: "axis", x1: left, x2: width - right, y1: foot, y2: foot }));
  let lastEnd = -Infinity;
  values.forEach((v, i) => {
    const at = x(v);
    svg.append(s("line", { class: "axis", x1: at, x2: at, y1: foot, y2: foot + 4 }));
    const half = measure(labels[i]) / 2;
    if (tilted) {
      svg.append(
        s(
          "text",
          { class: "tick", "text-anchor": "end", transform: `translate(${at + 4} ${foot + 16}) rotate(-38)` },
          labels[i],
          s("title", {}, valueText(v)),
        ),
      );
    } else if (at - half > lastEnd + 5) {
      svg.append(s("text", { class: "tick", x: at, y: foot + 18, "text-anchor": "middle" }, labels[i]));
      lastEnd = at + half;
    }
  });
  svg.append(
    s(
      "text",
      { class: "axis-name", x: left + inner / 2, y: height - 4, "text-anchor": "middle" },
      axis + (log ? " (log scale)" : ""),
    ),
  );
  const ends = [];
  [...lines.values()].forEach((group, i) => {
    const sorted = [...group].sort((a, b) => x(a.axes[axis]) - x(b.axes[axis]));
    const kind = lineAxis ? `line${i % 6}` : "";
    const shift = lineAxis ? (i - (lines.size - 1) / 2) * Math.min(5, 24 / lines.size) : 0;
    const point = (a) => [x(a.axes[axis]) + shift, y(shownOf(a, metric).mean)];
    if (numeric || lineAxis)
      svg.append(s("polyline", { class: `trace ${kind}`, points: sorted.map((a) => point(a).join()).join(" ") }));
    for (const arm of sorted) {
      const [px, py] = point(arm);
      const found = shownOf(arm, metric);
      const look = lineAxis ? kind : verdictKind(arm, metric);
      const ci =
        found.ci && isNumber(found.ci[0])
          ? s("line", { class: `bar-line ${look}`, x1: px, x2: px, y1: y(found.ci[0]), y2: y(found.ci[1]) })
          : "";
      const shape = arm === BASELINE ? "diamond" : lineAxis ? LINE_SHAPES[i % 4] : "circle";
      const spot = s(
        "g",
        { class: "spot", tabindex: "0", role: "img", "aria-label": armSentence(arm, metric) },
        s("circle", { class: "target", cx: px, cy: py, r: 11 }),
        ci,
        mark(px, py, arm === BASELINE ? "base" : look, shape),
      );
      svg.append(explained(spot, () => armTip(arm, metric)));
    }
    const last = sorted[sorted.length - 1];
    if (lineAxis && last) ends.push({ y: point(last)[1] + 4, text: lineText(group), kind });
  });
  ends.sort((a, b) => a.y - b.y);
  spread(ends, 14, 12, foot);
  for (const end of ends)
    svg.append(s("text", { class: `line-label ${end.kind}`, x: width - right + 10, y: end.y }, end.text));
  return svg;
}

function groupBy(items, key) {
  const groups = new Map();
  for (const item of items) {
    const k = key(item);
    if (!groups.has(k)) groups.set(k, []);
    groups.get(k).push(item);
  }
  return groups;
}

function armSentence(arm, metric) {
  const d = decimalsOf(metric);
  const found = arm.metrics?.[metric];
  return `${arm.label}: ${metric} ${fixed(found?.mean, d)} ${interval(found?.ci, d)}, ${arm === BASELINE ? "baseline" : arm.versus?.[metric]?.verdict || "not compared"}`;
}

function armTip(arm, metric) {
  const d = decimalsOf(metric);
  const found = arm.metrics?.[metric];
  const versus = arm === BASELINE ? null : arm.versus?.[metric];
  return h(
    "div",
    {},
    h("b", {}, shortened(arm.label, 160)),
    arm === BASELINE ? h("span", { class: "badge" }, "baseline") : "",
    h("div", {}, `${metric} ${fixed(found?.mean, d)} ${interval(found?.ci, d)}`),
    isNumber(versus?.delta)
      ? h("div", {}, `difference ${signed(versus.delta, d)} ${interval(versus.ci, d, true)} `, verdict(versus))
      : "",
    isNumber(arm.seconds)
      ? h("div", { class: "muted" }, `${seconds(arm.seconds)} s a picture, ${plain(arm.nfe)} forwards`)
      : "",
  );
}

function plotLegend() {
  const entry = (picture, text) => h("span", { class: "key" }, picture, text);
  const dot = (kind, shape) => s("svg", { width: 16, height: 14, "aria-hidden": "true" }, mark(8, 7, kind, shape));
  const parts = [BASELINE ? entry(dot("base", "diamond"), "baseline, its mean as a dotted line") : ""];
  if (AXES.length === 1 && BASELINE)
    parts.push(
      ...[
        ["better", "better"],
        ["worse", "worse"],
        ["differs", "differs"],
        ["same", "no difference seen"],
        ["unknown", "not tested"],
      ]
        .filter(([kind]) => ARMS.some((a) => verdictKind(a, chosen.metric) === kind))
        .map(([kind, text]) => entry(dot(kind), text)),
    );
  if (ANALYSIS.aa?.[chosen.metric]?.ci)
    parts.push(
      entry(
        s("svg", { width: 16, height: 14, "aria-hidden": "true" }, s("rect", { class: "band", width: 16, height: 14 })),
        "noise: the baseline against itself with other seeds",
      ),
    );
  return h("p", { class: "legend" }, parts);
}
