// Pieces of plots: scales, ticks, marks, labels that keep out of each other's way.

/** From numbers to pixels. values decide the range; a scale of one value is widened around it. */
function scaleOf(values, from, to, { log = false, pad = 0.06 } = {}) {
  const good = values.filter((v) => isNumber(v) && (!log || v > 0));
  const turn = log ? Math.log10 : (x) => x;
  let low = good.length ? turn(Math.min(...good)) : 0;
  let high = good.length ? turn(Math.max(...good)) : 1;
  if (high - low < 1e-12) {
    const room = log ? 0.15 : Math.abs(low) * 0.1 || 0.5;
    low -= room;
    high += room;
  }
  const room = (high - low) * pad;
  low -= room;
  high += room;
  const scale = (x) => from + ((turn(x) - low) / (high - low)) * (to - from);
  const ends = log ? [10 ** low, 10 ** high] : [low, high];
  scale.ticks = (n) => (log ? logTicks(...ends, n) : linearTicks(...ends, n));
  scale.ends = ends;
  return scale;
}

function linearTicks(low, high, n) {
  const rough = (high - low) / Math.max(1, n);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((k) => k * power).find((k) => k >= rough * 0.999);
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++)
    ticks.push(Number((i * step).toPrecision(12)));
  return ticks;
}

function logTicks(low, high, n) {
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
    for (const k of [1, 2, 5]) {
      const tick = Number((k * 10 ** power).toPrecision(6));
      if (tick >= low && tick <= high) ticks.push(tick);
    }
  }
  return ticks.length >= 2 ? ticks : linearTicks(low, high, n).filter((t) => t > 0);
}

function tickText(x) {
  return String(Number(x.toPrecision(6))).replace("-", MINUS);
}

/** Draw into an element now and whenever its width changes. */
function responsive(holder, draw) {
  let last = 0;
  const redraw = () => {
    const width = Math.floor(holder.clientWidth);
    if (width < 40) return;
    last = width;
    holder.replaceChildren(draw(width));
  };
  new ResizeObserver(() => Math.abs(holder.clientWidth - last) > 4 && redraw()).observe(holder);
  redraw();
}

/** How wide a text is at the size plots are lettered in. */
const measure = (() => {
  let context = null;
  return (text, size = 12) => {
    context ||= document.createElement("canvas").getContext("2d");
    context.font = `${size}px ${getComputedStyle(document.body).fontFamily}`;
    return context.measureText(text).width;
  };
})();

/** Move labels apart along y, keeping their order and staying between the ends. labels: [{y}], sorted by the caller. */
function spread(labels, gap, top, bottom) {
  for (let i = 1; i < labels.length; i++) labels[i].y = Math.max(labels[i].y, labels[i - 1].y + gap);
  const over = labels.length ? labels[labels.length - 1].y - bottom : 0;
  if (over > 0) {
    labels[labels.length - 1].y -= over;
    for (let i = labels.length - 2; i >= 0; i--) labels[i].y = Math.min(labels[i].y, labels[i + 1].y - gap);
  }
  for (const label of labels) label.y = Math.max(label.y, top);
}

function overlap(a, b) {
  return a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h;
}

/** A mark: filled circle; a diamond for the baseline; otherwise by number, so that lines differ without colour. */
function mark(x, y, kind, shape = "circle", scale = 1) {
  const size = (shape === "diamond" ? 6 : 4.5) * scale;
  const paths = {
    diamond: `M${x} ${y - size}L${x + size} ${y}L${x} ${y + size}L${x - size} ${y}Z`,
    square: `M${x - 4} ${y - 4}h8v8h-8Z`,
    up: `M${x} ${y - 5}L${x + 5} ${y + 4}H${x - 5}Z`,
    down: `M${x} ${y + 5}L${x + 5} ${y - 4}H${x - 5}Z`,
  };
  if (shape === "circle") return s("circle", { class: `mark ${kind}`, cx: x, cy: y, r: size });
  return s("path", { class: `mark ${kind}`, d: paths[shape] });
}

const LINE_SHAPES = ["circle", "square", "up", "down"];

/** A dot with its interval on a small strip of its own, as used in tables. */
function whisker(scale, width, value, ci, kind, { zero = null, band = null } = {}) {
  const height = 20;
  const svg = s("svg", { class: "whisker", width, height, "aria-hidden": "true" });
  if (band)
    svg.append(
      s("rect", {
        class: "band",
        x: scale(band[0]),
        width: Math.max(1, scale(band[1]) - scale(band[0])),
        y: 0,
        height,
      }),
    );
  if (isNumber(zero)) svg.append(s("line", { class: "zero", x1: scale(zero), x2: scale(zero), y1: 0, y2: height }));
  if (ci && isNumber(ci[0]) && isNumber(ci[1])) {
    svg.append(
      s("line", { class: `bar-line ${kind}`, x1: scale(ci[0]), x2: scale(ci[1]), y1: height / 2, y2: height / 2 }),
    );
  }
  if (isNumber(value)) svg.append(mark(scale(value), height / 2, kind, kind === "base" ? "diamond" : "circle", 0.75));
  return svg;
}

/** The scale of a column of such strips, with its ticks for the head. */
function stripScale(values, width) {
  const scale = scaleOf(values, 6, width - 6, { pad: 0.02 });
  const ticks = scale.ticks(3).filter((t) => scale(t) >= 0 && scale(t) <= width);
  const texts = ticks.map((t) => {
    const half = measure(tickText(t), 10.5) / 2;
    return s(
      "text",
      { x: Math.min(Math.max(scale(t), half), width - half), y: 10, "text-anchor": "middle" },
      tickText(t),
    );
  });
  scale.head = () =>
    s(
      "svg",
      { class: "whisker head", width, height: 16, "aria-hidden": "true" },
      texts,
      ticks.map((t) => s("line", { x1: scale(t), x2: scale(t), y1: 13, y2: 16 })),
    );
  return scale;
}
