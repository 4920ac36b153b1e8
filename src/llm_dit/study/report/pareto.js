// Quality against cost: which arms nobody beats in both, with labels that do not lie on each other.

function drawPareto(section) {
  const metric = chosen.metric;
  const arms = ARMS.filter((a) => isNumber(a[COST]) && isNumber(a.metrics?.[metric]?.mean));
  if (new Set(arms.map((a) => a[COST])).size < 2) return;
  const holder = h("div", { class: "plot" });
  const front = frontier(arms, metric);
  const caption = sense(metric) ? "; the line joins the arms that no other beats in both" : "";
  section.append(
    h(
      "figure",
      { class: "panel" },
      h(
        "figcaption",
        {},
        h("b", {}, metric),
        ` against ${COST === "seconds" ? "seconds" : "forwards of the transformer"} for a picture${caption}${AXES.length > 1 ? `; marks say ${AXES.map(shortAxis).join(" / ")}` : ""}`,
      ),
      holder,
    ),
  );
  requestAnimationFrame(() =>
    guarded(holder, () =>
      responsive(holder, (width) => paretoPlot(width, Math.min(380, Math.max(280, width * 0.5)), metric, arms, front)),
    ),
  );
}

/** Arms that no other beats in both, as the analysis found them: complete arms, by the prompts they share. */
function frontier(arms, metric) {
  return arms.filter((a) => a.metrics[metric].pareto).sort((a, b) => a[COST] - b[COST]);
}

function paretoPlot(width, height, metric, arms, front) {
  const left = 52,
    right = 20,
    foot = height - 46;
  const costs = arms.map((a) => a[COST]);
  const costName = COST === "seconds" ? "seconds a picture" : "forwards a picture";
  const log = Math.min(...costs) > 0 && Math.max(...costs) / Math.min(...costs) >= 8;
  const x = scaleOf(
    arms.flatMap((a) => [a[COST], ...(secondsInterval(a) || [])]),
    left + 12,
    width - right - 12,
    { log, pad: 0.04 },
  );
  const y = scaleOf(
    arms.flatMap((a) => [a.metrics[metric].mean, ...(a.metrics[metric].ci || [])]),
    foot - 4,
    12,
    { pad: 0.04 },
  );
  const svg = s("svg", { width, height, role: "group", "aria-label": `${metric} against ${costName}` });
  for (const t of y.ticks(5))
    svg.append(
      s("line", { class: "rule", x1: left, x2: width - right, y1: y(t), y2: y(t) }),
      s("text", { class: "tick", x: left - 8, y: y(t) + 4, "text-anchor": "end" }, tickText(t)),
    );
  svg.append(s("line", { class: "axis", x1: left, x2: width - right, y1: foot, y2: foot }));
  let lastEnd = -Infinity;
  for (const t of x.ticks(Math.max(2, Math.floor(width / 110)))) {
    const half = measure(tickText(t)) / 2;
    if (x(t) < left || x(t) > width - right || x(t) - half < lastEnd + 6) continue;
    svg.append(
      s("line", { class: "axis", x1: x(t), x2: x(t), y1: foot, y2: foot + 4 }),
      s("text", { class: "tick", x: x(t), y: foot + 18, "text-anchor": "middle" }, tickText(t)),
    );
    lastEnd = x(t) + half;
  }
  svg.append(
    s(
      "text",
      { class: "axis-name", x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" },
      `${costName}${log ? " (log scale)" : ""}`,
    ),
  );
  if (front.length > 1)
    svg.append(
      s("polyline", {
        class: "front",
        points: front.map((a) => `${x(a[COST])},${y(a.metrics[metric].mean)}`).join(" "),
      }),
    );
  const spots = arms.map((a) => ({ x: x(a[COST]) - 7, y: y(a.metrics[metric].mean) - 7, w: 14, h: 14 }));
  const lines = [
    ...arms
      .filter((a) => isNumber(a.metrics[metric].ci?.[0]))
      .map((a) => upright(x(a[COST]), y(a.metrics[metric].ci[1]), y(a.metrics[metric].ci[0]))),
    ...along(front.map((a) => [x(a[COST]), y(a.metrics[metric].mean)])),
  ];
  const named = [...front, ...(front.includes(BASELINE) || !arms.includes(BASELINE) ? [] : [BASELINE])];
  for (const arm of arms) {
    const [px, py] = [x(arm[COST]), y(arm.metrics[metric].mean)];
    const ci = arm.metrics[metric].ci;
    const kind = verdictKind(arm, metric);
    const across = secondsInterval(arm);
    const whiskers =
      ci && isNumber(ci[0])
        ? s("line", { class: `bar-line faint ${kind}`, x1: px, x2: px, y1: y(ci[0]), y2: y(ci[1]) })
        : "";
    const spot = s(
      "g",
      {
        class: "spot",
        tabindex: "0",
        role: "img",
        "aria-label": `${armSentence(arm, metric)}, ${costText(arm)}`,
      },
      s("circle", { class: "target", cx: px, cy: py, r: 11 }),
      whiskers,
      across ? s("line", { class: `bar-line faint ${kind}`, x1: x(across[0]), x2: x(across[1]), y1: py, y2: py }) : "",
      mark(px, py, kind, arm === BASELINE ? "diamond" : "circle"),
    );
    svg.append(explained(spot, () => armTip(arm, metric)));
  }
  // The frontier is named first. A label may lie on a line where there is no better place, never on a point or another
  // label; one that finds no place at all is left to the pointer.
  for (const arm of [...named, ...arms.filter((a) => !named.includes(a))]) {
    const text = armMark(arm);
    const at = [x(arm[COST]), y(arm.metrics[metric].mean), measure(text, 11.5)];
    const box =
      freePlace(...at, [...spots, ...lines], left, width - right, foot) ||
      freePlace(...at, spots, left, width - right, foot);
    if (!box) continue;
    spots.push(box);
    svg.append(
      s("text", { class: front.includes(arm) ? "point-label strong" : "point-label", x: box.x, y: box.y + 11 }, text),
    );
  }
  return svg;
}

/** The interval of an arm's seconds, where seconds are the cost. */
function secondsInterval(arm) {
  const ci = COST === "seconds" ? arm.seconds_ci : null;
  return ci && isNumber(ci[0]) && ci[0] > 0 ? ci : null;
}

/** An arm's cost in words. */
function costText(arm) {
  if (COST !== "seconds") return `${plain(arm.nfe)} forwards`;
  const ci = secondsInterval(arm);
  return `${seconds(arm.seconds)} s${ci ? ` [${seconds(ci[0])}, ${seconds(ci[1])}]` : ""}`;
}

/** What a whisker and a line cover, as boxes. */
function upright(at, top, bottom) {
  return { x: at - 1, y: top, w: 2, h: bottom - top };
}

function along(points) {
  return points.slice(1).flatMap(([x1, y1], i) => {
    const [x0, y0] = points[i];
    const steps = Math.ceil(Math.hypot(x1 - x0, y1 - y0) / 6);
    return Array.from({ length: steps }, (_, k) => ({
      x: x0 + ((x1 - x0) * k) / steps - 2,
      y: y0 + ((y1 - y0) * k) / steps - 2,
      w: 4,
      h: 4,
    }));
  });
}

/** The first place around a point where a label covers no other label or point. */
function freePlace(px, py, w, taken, left, right, foot) {
  const places = [
    [10, -7],
    [-10 - w, -7],
    [-w / 2, -23],
    [-w / 2, 10],
    [8, -19],
    [8, 6],
    [-8 - w, -19],
    [-8 - w, 6],
    [14, -30],
    [14, 18],
    [-14 - w, -30],
    [-14 - w, 18],
  ];
  for (const [dx, dy] of places) {
    const box = { x: px + dx, y: py + dy, w, h: 14 };
    if (box.x >= left && box.x + w <= right && box.y >= 0 && box.y + 14 <= foot && !taken.some((t) => overlap(t, box)))
      return box;
  }
  return null;
}
