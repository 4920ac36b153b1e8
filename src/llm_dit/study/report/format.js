// Numbers as they are read: aligned, no more digits than the interval supports, a real minus sign.

const MINUS = "\u2212";
const NONE = "\u2013";

function isNumber(x) {
  return typeof x === "number" && Number.isFinite(x);
}

function fixed(x, decimals) {
  if (!isNumber(x)) return NONE;
  const text = Math.abs(x).toFixed(decimals);
  return (x < 0 && Number(text) !== 0 ? MINUS : "") + text;
}

function signed(x, decimals) {
  if (!isNumber(x)) return NONE;
  return x > 0 && Number(x.toFixed(decimals)) !== 0 ? `+${fixed(x, decimals)}` : fixed(x, decimals);
}

function interval(ci, decimals, sign) {
  if (!ci || !isNumber(ci[0]) || !isNumber(ci[1])) return "";
  const write = sign ? signed : fixed;
  return `[${write(ci[0], decimals)}, ${write(ci[1], decimals)}]`;
}

/** Three significant digits, for what has no interval. */
function plain(x) {
  if (!isNumber(x)) return NONE;
  if (Number.isInteger(x)) return grouped(x);
  const size = Math.abs(x);
  if (size >= 1e6 || size < 1e-4) return x.toExponential(2).replace("-", MINUS);
  return fixed(x, Math.max(0, Math.min(6, 2 - Math.floor(Math.log10(size)))));
}

/** Whole numbers with thin spaces between thousands. */
function grouped(x) {
  if (!isNumber(x)) return NONE;
  return fixed(x, 0).replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

function percent(x) {
  return isNumber(x) ? `${(100 * x).toFixed(0)}\u202f%` : NONE;
}

function pValue(p) {
  if (!isNumber(p)) return NONE;
  return p < 0.001 ? "<\u202f0.001" : p.toFixed(3);
}

function seconds(x) {
  if (!isNumber(x)) return NONE;
  return x < 1 ? x.toFixed(3) : x < 10 ? x.toFixed(2) : x.toFixed(1);
}

function count(n, one, many) {
  return `${grouped(n)} ${n === 1 ? one : many || `${one}s`}`;
}

/** "a, b and c". */
function listed(items) {
  return items.length < 2 ? items.join("") : `${items.slice(0, -1).join(", ")} and ${items[items.length - 1]}`;
}

/** Decimals for a metric: two digits of its typical interval, so that every row of a column has the same. */
function decimalsOf(metric) {
  const halves = [];
  const means = [];
  for (const arm of ARMS) {
    for (const found of [arm.metrics?.[metric], arm.versus?.[metric]]) {
      if (found?.ci && isNumber(found.ci[0]) && isNumber(found.ci[1])) halves.push((found.ci[1] - found.ci[0]) / 2);
    }
    if (isNumber(arm.metrics?.[metric]?.mean)) means.push(Math.abs(arm.metrics[metric].mean));
  }
  const middle = (list) =>
    list.filter((x) => x > 0).sort((a, b) => a - b)[Math.floor(list.filter((x) => x > 0).length / 2)];
  const width = middle(halves) || (middle(means) || 1) / 10;
  return Math.max(0, Math.min(5, 1 - Math.floor(Math.log10(width))));
}

/** A note as a sentence of its own. */
function sentence(text) {
  if (!text) return "";
  const ended = /[.!?]$/.test(text) ? text : `${text}.`;
  return ended[0].toUpperCase() + ended.slice(1);
}

/** A swept value as text. */
function valueText(value) {
  if (value === null || value === undefined) return "not set";
  if (typeof value === "number") return String(value).replace("-", MINUS);
  if (value === "") return "(empty)";
  return typeof value === "string" ? value : JSON.stringify(value);
}

function shortened(text, most) {
  const signs = [...String(text)];
  return signs.length > most ? `${signs.slice(0, most - 1).join("")}\u2026` : String(text);
}
