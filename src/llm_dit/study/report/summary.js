// The top of the page: what was asked, what was found, in words; what to be careful about; what was varied.

function drawSummary() {
  const drawn = PICTURES.filter((p) => !p.missing).length;
  const failed = ARMS.filter((arm) => arm.status === "failed").length;
  const told = { complete: failed ? "ended" : "complete", running: "still running" }[ANALYSIS.status] || ANALYSIS.status;
  const status = failed ? `${told}, ${count(failed, "arm")} failed` : told;
  const parts = [
    SWEEPS.length > 1 ? `${SWEEPS.length} sweeps: ${listed(SWEEPS)}` : ANALYSIS.name,
    `${count(ARMS.length, "arm")} \u00d7 ${count(PROMPTS.length, "prompt")} \u00d7 ${count(SEEDS.length, "seed")}`,
    count(drawn, "picture"),
    status,
    String(ANALYSIS.generated || "").slice(0, 10),
  ];
  byId("kicker").replaceChildren(
    ...parts
      .filter(Boolean)
      .flatMap((p, i) => [i ? h("span", { class: "dot" }, "\u00b7") : "", h("span", { class: "part-of" }, p)]),
  );
  const holder = byId("findings");
  holder.replaceChildren(
    h("div", { class: "findings" }, h("div", { class: "found" }, findings()), aside()),
    warnings(),
  );
}

/** The paragraphs that answer the question. */
function findings() {
  if (!ARMS.length) return [h("p", { class: "answer" }, "No arm has been drawn yet.")];
  if (!METRICS.length) {
    return [
      h("p", { class: "answer" }, "No metric was scored, so nothing here says which arm is better."),
      h(
        "p",
        {},
        "The pictures can be compared by eye below. To score them: ",
        h("code", {}, `${COMMAND} task=score sweep.name=${ANALYSIS.name} metrics=NAME`),
        ".",
      ),
    ];
  }
  if (!PRIMARY)
    return [
      h(
        "p",
        { class: "answer" },
        "No primary metric was named, so there is no verdict. Every number below is exploratory.",
      ),
    ];
  const d = decimalsOf(PRIMARY);
  const best = ARMS.filter((a) => isNumber(a.metrics?.[PRIMARY]?.mean)).sort(
    (a, b) => (b.metrics[PRIMARY].mean - a.metrics[PRIMARY].mean) * (sense(PRIMARY) || 1),
  );
  if (ARMS.length === 1) {
    const only = ARMS[0].metrics?.[PRIMARY];
    return [
      h(
        "p",
        { class: "answer" },
        `There is one arm only, so there is nothing to compare. Its ${PRIMARY} is ${fixed(only?.mean, d)} ${interval(only?.ci, d)}.`,
      ),
    ];
  }
  if (!BASELINE) {
    const lead = best[0];
    return [
      h("p", { class: "answer" }, "No baseline is named, so no difference was tested."),
      lead
        ? h(
            "p",
            {},
            `The ${sense(PRIMARY) < 0 ? "lowest" : "highest"} mean of ${PRIMARY} is ${fixed(lead.metrics[PRIMARY].mean, d)} ${interval(lead.metrics[PRIMARY].ci, d)}, of `,
            h("b", {}, nameText(lead.label, 110)),
            ".",
          )
        : "",
    ];
  }
  const others = ARMS.filter((a) => a !== BASELINE);
  const groups = {};
  for (const arm of others) (groups[arm.versus?.[PRIMARY]?.verdict || "not compared"] ||= []).push(arm);
  const n = (name) => groups[name]?.length || 0;
  const told = (name, one, many) => (n(name) ? [`${n(name)} ${n(name) === 1 ? one : many}`] : []);
  const said = [
    !sense(PRIMARY)
      ? null
      : n("better")
        ? told("better", "is better", "are better")[0]
        : n("worse") || n("no difference seen")
          ? "none is better"
          : null,
    ...told("worse", "is worse", "are worse"),
    ...told("differs", "differs", "differ"),
    ...told("no difference seen", "shows no difference", "show no difference"),
    ...told("too few prompts", "has too few prompts to tell", "have too few prompts to tell"),
    ...told("not compared", "could not be compared", "could not be compared"),
  ].filter(Boolean);
  const base = BASELINE.metrics?.[PRIMARY];
  const settled = n("better") + n("worse") + n("differs") > 0;
  const whole = `Of ${count(others.length, "arm")} compared with the baseline, ${listed(said)}.`;
  const outlooks = settled || !sense(PRIMARY) ? [] : outlook(others, d);
  return [
    h("p", { class: "answer" }, outlooks.length ? outlooks[0] : whole),
    outlooks.length ? h("p", {}, outlooks.slice(1).join(" "), ` ${whole}`) : "",
    h(
      "p",
      { class: "measured" },
      "Measured by ",
      h("b", {}, PRIMARY),
      ` (${directionText(PRIMARY)}), pair by pair against the baseline `,
      h("b", {}, nameText(BASELINE.label, 110)),
      base
        ? `, whose mean is ${fixed(base.mean, d)} ${interval(base.ci, d)} over ${count(base.n_prompts, "prompt")}`
        : "",
      `. Brackets are 95\u202f% intervals over prompts${others.length > 1 ? ", each arm by itself; the verdicts allow for the number of arms" : ""}.`,
    ),
    ["better", "worse", "differs", "no difference seen", "too few prompts", "not compared"]
      .filter((name) => n(name))
      .map((name) => group(name, groups[name], d)),
    noiseSentence(d),
  ];
}

/** Where no arm has a verdict: the best arm and what was seen of it, then what it would take to know, as sentences. */
function outlook(others, d) {
  const way = sense(PRIMARY);
  const of = (arm) => arm.versus?.[PRIMARY] || {};
  const seen = others.filter((a) => isNumber(of(a).delta)).sort((x, y) => way * (of(y).delta - of(x).delta));
  if (!seen.length) return [];
  const name = (arm) => shortened(arm.label, 80);
  const numbers = (arm) => `${signed(of(arm).delta, d)} ${interval(of(arm).ci, d, true)}`;
  const lead = seen[0];
  const ahead = way * of(lead).delta > 0;
  const behind = seen.filter((a) => way * of(a).delta < 0 && outside(of(a).ci));
  const chance = outside(of(lead).ci) ? "a hint, not yet a finding" : "which may be chance";
  const said = [
    ahead
      ? `Not settled: the best arm is ${name(lead)}, ${numbers(lead)} against the baseline, ${chance}.`
      : `No arm scores better than the baseline; the nearest is ${name(lead)}, ${numbers(lead)}.`,
  ];
  const have = `This sweep has ${count(of(lead).n_prompts, "prompt")} and ${count(SEEDS.length, "seed")}.`;
  if (isNumber(of(lead).prompts_needed))
    said.push(
      `To tell a difference of that size takes about ${count(of(lead).prompts_needed, "prompt")} with as many seeds${
        SEEDS.length < 3 ? ", fewer with more seeds where they scatter the scores" : ""
      }. ${have}`,
    );
  else said.push(have);
  if (behind.length) {
    const most = Math.max(...behind.map((a) => of(a).prompts_needed || 0));
    said.push(
      `${count(behind.length, "arm scores", "arms score")} worse by an interval that leaves 0 out${
        most ? `; about ${grouped(most)} prompts would settle ${behind.length === 1 ? "it" : "all of them"}` : ""
      }.`,
    );
  }
  return said;
}

const MOST_NAMED = 6;

function group(name, arms, d) {
  const of = (arm) => arm.versus?.[PRIMARY] || {};
  const compared = ["better", "worse", "differs"].includes(name);
  const rank = (arm) =>
    compared || !sense(PRIMARY) ? Math.abs(of(arm).delta ?? 0) : sense(PRIMARY) * (of(arm).delta ?? -Infinity);
  const sorted = [...arms].sort((a, b) => (rank(b) > rank(a)) - (rank(b) < rank(a)));
  const item = (arm) =>
    h(
      "li",
      {},
      nameText(AXES.length > 1 ? armName(arm) : arm.label, 110),
      compared || isNumber(of(arm).delta)
        ? h("span", { class: "num" }, `${signed(of(arm).delta, d)} ${interval(of(arm).ci, d, true)}`)
        : h("span", { class: "muted" }, of(arm).note || arm.status),
    );
  const rest = sorted.slice(MOST_NAMED);
  const mdes = arms
    .map((a) => detectable(of(a)))
    .filter(isNumber)
    .sort((a, b) => a - b);
  const range =
    mdes.length && mdes[0] < mdes[mdes.length - 1]
      ? `${fixed(mdes[0], d)} to ${fixed(mdes[mdes.length - 1], d)}, by arm`
      : fixed(mdes[0], d);
  const tail =
    name === "no difference seen" && mdes.length
      ? h(
          "p",
          { class: "muted" },
          `Smallest detectable difference: ${range}. A smaller one may be there and would be missed.`,
          arms.some((a) => outside(of(a).ci))
            ? ` Where an interval leaves 0 out all the same, the test does not agree: a few prompts carry the difference${ARMS.length > 2 ? ", or it is no more than one of so many arms shows by chance" : ""}. Look at the arm's best and worst prompts.`
            : "",
        )
      : "";
  const more = rest.length
    ? h("details", {}, h("summary", {}, `${rest.length} more`), h("ul", {}, rest.map(item)))
    : "";
  return h(
    "div",
    { class: "group" },
    h("h3", {}, verdict({ verdict: name })),
    h("div", {}, h("ul", {}, sorted.slice(0, MOST_NAMED).map(item)), more, tail),
  );
}

/** Whether an interval leaves 0 out. */
function outside(ci) {
  return Array.isArray(ci) && isNumber(ci[0]) && isNumber(ci[1]) && ci[0] * ci[1] > 0;
}

function noiseSentence(d) {
  const aa = ANALYSIS.aa?.[PRIMARY] || ANALYSIS.aa;
  if (aa?.ci) {
    return h(
      "p",
      { class: "measured" },
      `Other seeds: the baseline against itself differs by ${signed(aa.delta, d)} ${interval(aa.ci, d, true)}. Arms share their seeds with it, so smaller differences can be real.`,
    );
  }
  return typeof aa?.note === "string" ? h("p", { class: "measured" }, `Other seeds: ${sentence(aa.note)}`) : "";
}

/** What was varied, and what all arms share. */
function aside() {
  const rows = AXES.map((axis) => {
    const values = [...new Set(ARMS.filter((a) => axis in (a.axes || {})).map((a) => valueText(a.axes[axis])))];
    return [h("dt", {}, axis), h("dd", {}, shortened(values.join(", "), 220))];
  });
  const settings = FACTS.settings || {};
  const told = (keys) =>
    h(
      "dl",
      {},
      keys.map((key) => [h("dt", {}, key), h("dd", {}, shortened(valueText(settings[key]), 160))]),
    );
  const loud = (FACTS.changed || []).filter((key) => key in settings);
  const quiet = Object.keys(settings).filter((key) => !loud.includes(key));
  return h(
    "aside",
    { class: "facts", "aria-label": "What was varied and what was held" },
    h("h3", {}, AXES.length ? "Swept" : "Nothing was swept"),
    h("dl", {}, rows),
    loud.length ? [h("h3", {}, "The same in all arms"), told(loud)] : "",
    quiet.length ? h("details", {}, h("summary", {}, `${quiet.length} settings at their defaults`), told(quiet)) : "",
  );
}

function warnings() {
  const gone = PICTURES.filter((p) => p.missing).length;
  const all = [...WARNINGS];
  if (gone && !all.some((w) => /missing|gone/.test(w)))
    all.push(
      `${count(gone, "picture is", "pictures are")} missing: drawn once, and the file is gone or cannot be read.`,
    );
  if (ANALYSIS.status === "running" && !all.some((w) => /running|unfinished|not finished/.test(w)))
    all.push("The sweep has not finished: numbers will change.");
  if (!all.length) return "";
  return h(
    "div",
    { class: "warnings", role: "note" },
    h("h3", {}, all.length === 1 ? "Be careful" : `Be careful: ${all.length} things`),
    h(
      "ul",
      {},
      all.map((w) => h("li", {}, sentence(w))),
    ),
  );
}
