// What the page knows: the analysis as it was made, the pictures, and ways to find one by arm, prompt and seed.

const DATA = JSON.parse(byId("data").textContent);
const ANALYSIS = wholeIntervals(DATA.analysis);
const FACTS = DATA.facts || {};
const COMMAND = DATA.command || "llm-dit"; // what starts the program where the page was made
const PICTURES = DATA.pictures || [];
const ARMS = ANALYSIS.arms || [];
const METRICS = ANALYSIS.metrics || [];
const PROMPTS = ANALYSIS.prompts || [];
const AXES = ANALYSIS.axes || [];
const COST = ANALYSIS.cost || "nfe"; // the column by which arms are ranked beside quality
const WARNINGS = ANALYSIS.warnings || [];

const ARM_BY_ID = new Map(ARMS.map((arm) => [arm.id, arm]));
const PROMPT_BY_ID = new Map(PROMPTS.map((prompt) => [prompt.id, prompt]));
const METRIC_BY_NAME = new Map(METRICS.map((metric) => [metric.name, metric]));
const BASELINE = ARM_BY_ID.get(ANALYSIS.baseline) || ARMS.find((arm) => arm.is_baseline) || null;
const SEEDS = [...new Set(PICTURES.map((p) => p.seed))];
const SWEEPS = [...new Set(ARMS.map((arm) => arm.sweep || ANALYSIS.name))];

/** An interval without both its ends is none: null in its place, wherever it stands. */
function wholeIntervals(value) {
  if (!value || typeof value !== "object") return value;
  for (const [key, inside] of Object.entries(value)) {
    if (/^(ci|ci_unpaired|win_ci|seconds_ci)$/.test(key))
      value[key] = Array.isArray(inside) && inside.length === 2 && inside.every(isNumber) ? inside : null;
    else wholeIntervals(inside);
  }
  return value;
}

PICTURES.forEach((picture, i) => (picture.index = i));
const PICTURE_AT = new Map(PICTURES.map((p) => [placeKey(p.arm, p.prompt_id, p.seed), p]));

function placeKey(arm, prompt, seed) {
  return JSON.stringify([arm, prompt, String(seed)]);
}

function pictureAt(arm, prompt, seed) {
  return PICTURE_AT.get(placeKey(arm, prompt, seed)) || null;
}

/** The baseline's picture of the same prompt and seed; null where there is none to compare with. */
function partnerOf(picture) {
  if (!BASELINE || picture.arm === BASELINE.id) return null;
  const partner = pictureAt(BASELINE.id, picture.prompt_id, picture.seed);
  return partner && !partner.missing ? partner : null;
}

/** The embedded small picture, or null. A block of them is parsed when the first of it is asked for. */
const thumbBlocks = [];
function thumbOf(picture) {
  if (!picture.thumb) return null;
  const block = Math.floor(picture.index / DATA.block);
  if (!thumbBlocks[block]) {
    const element = document.getElementsByClassName("thumbs")[block];
    if (!element) return null;
    thumbBlocks[block] = JSON.parse(element.textContent);
  }
  return thumbBlocks[block][picture.index % DATA.block];
}

/** Where the full picture is, as an address relative to the page. */
function fileOf(picture) {
  return picture.path ? picture.path.split("/").map(encodeURIComponent).join("/") : null;
}

/** The end of a key, where no other axis ends the same: "steps" for sampler.steps. */
function shortAxis(axis) {
  const end = (key) => key.split(".").pop();
  return AXES.filter((other) => end(other) === end(axis)).length > 1 ? axis : end(axis);
}

/** An arm's name where space is short: "-2" along one axis, "shift 2, steps 8" along several, else its label. */
function armName(arm) {
  const regular = SWEEPS.length === 1 && AXES.length && AXES.every((axis) => axis in (arm.axes || {}));
  if (!regular) return arm.label || arm.id;
  if (AXES.length === 1) return valueText(arm.axes[AXES[0]]);
  return AXES.map((axis) => `${shortAxis(axis)}\u00a0${valueText(arm.axes[axis])}`).join(", ");
}

/** Values alone, for marks in a plot: "2 / 8". */
function armMark(arm) {
  const values = AXES.filter((axis) => axis in (arm.axes || {})).map((axis) => valueText(arm.axes[axis]));
  return shortened(values.length ? values.join(" / ") : arm.label || arm.id, 26);
}

function promptText(id) {
  return PROMPT_BY_ID.get(id)?.prompt ?? id;
}

const PRIMARY = METRIC_BY_NAME.has(ANALYSIS.primary)
  ? ANALYSIS.primary
  : (METRICS.find((m) => m.primary) || {}).name || null;

// What the reader has chosen, and who wants to know.
const chosen = { metric: PRIMARY || METRICS[0]?.name || null, arm: null, pinned: null };
const watchers = [];

function watch(draw) {
  watchers.push(draw);
}

function choose(change) {
  Object.assign(chosen, change);
  for (const draw of watchers) draw(change);
}

/** 1 when more is better, -1 when less is, 0 when neither is. */
function sense(metric) {
  return { higher: 1, lower: -1 }[METRIC_BY_NAME.get(metric)?.direction] || 0;
}

function directionText(metric) {
  const known = { 1: "higher is better", "-1": "lower is better", 0: "neither way is better" };
  return known[sense(metric)];
}

const VERDICTS = {
  better: ["better", "\u25b2"],
  worse: ["worse", "\u25bc"],
  differs: ["differs", "\u25c6"],
  "no difference seen": ["same", "\u25cb"],
  "too few prompts": ["unknown", "?"],
  "not compared": ["unknown", NONE],
};

/** A verdict with a sign of its own, so that colour is never all that tells. */
function verdict(found) {
  const [kind, sign] = VERDICTS[found?.verdict] || ["unknown", NONE];
  return h(
    "span",
    { class: `verdict ${kind}` },
    h("span", { class: "sign", "aria-hidden": "true" }, sign),
    ` ${found?.verdict || "not compared"}`,
  );
}

/** The smallest difference that would have been found, at the level that the verdict is held to. */
function detectable(found) {
  return found?.mde_holm ?? found?.mde;
}

function verdictKind(arm, metric) {
  if (arm === BASELINE) return "base";
  return (VERDICTS[arm.versus?.[metric]?.verdict] || ["unknown"])[0];
}
