// How noisy the measurement is: the baseline against itself, where the variance sits, and main effects.

function drawNoise() {
  const section = byId("noise");
  heading(
    section,
    "Noise and effects",
    chosen.metric ? h("span", {}, metricLead(METRIC_BY_NAME.get(chosen.metric))) : null,
  );
  if (!chosen.metric) {
    section.append(h("p", { class: "muted" }, "No metric was scored."), ...drawnTwice());
    return;
  }
  section.append(h("div", { class: "columns" }, noiseFloor(), varianceSplit()), effectsTable(), interactionsTable());
}

function noiseFloor() {
  const d = decimalsOf(chosen.metric);
  const aa = ANALYSIS.aa?.[chosen.metric];
  const note = aa?.note || ANALYSIS.aa?.note;
  const text = aa?.ci
    ? `The baseline against itself with other seeds: ${signed(aa.delta, d)} ${interval(aa.ci, d, true)} over ${count(aa.n_prompts, "prompt")}. This is how far apart different seeds fall; arms share their seeds with the baseline, so a smaller difference can be real, and the verdict says whether it is.${isNumber(aa.epsilon) ? ` A prompt counts as tied within \u00b1${fixed(aa.epsilon, d + 1)}.` : ""}`
    : "";
  return h(
    "div",
    {},
    h("h3", {}, "Noise floor (A/A)"),
    text ? h("p", {}, text) : "",
    note
      ? h("p", { class: text ? "note" : "muted" }, sentence(note))
      : text
        ? ""
        : h("p", { class: "muted" }, "Not measured."),
    ...drawnTwice(),
  );
}

/** What became of pictures that were drawn twice with the same settings and seeds; nothing where there are none. */
function drawnTwice() {
  return (ANALYSIS.repeats || []).map((twice) => {
    const [first, second] = twice.arms.map((id) => nameText(ARM_BY_ID.get(id)?.label || id, 110));
    const same = twice.equal === twice.pictures;
    const most = twice.scores?.[chosen.metric];
    const scores = !isNumber(most)
      ? "."
      : most > 0
        ? `; the largest difference of ${chosen.metric} is ${plain(most)}.`
        : `; no ${chosen.metric} differs.`;
    return h(
      "p",
      { class: "twice" },
      "Drawn twice: ",
      h("b", {}, first),
      " and ",
      h("b", {}, second),
      ` share settings, prompts and seeds. ${same ? `All ${count(twice.pictures, "picture")}` : `${grouped(twice.equal)} of ${count(twice.pictures, "picture")}`} are the same to the pixel${scores}`,
    );
  });
}

function varianceSplit() {
  const v = ANALYSIS.variance?.[chosen.metric];
  const title = h("h3", {}, "Where the differences vary");
  const parts = [
    ["prompt", "line0"],
    ["seed", "line1"],
    ["residual", "line5"],
  ].filter(([name]) => isNumber(v?.[name]) && v[name] >= 0);
  if (!v) return h("div", {}, title, h("p", { class: "muted" }, sentence(ANALYSIS.variance?.note) || "Not measured."));
  const text = parts.map(([name]) => `${name} ${percent(v[name])}`).join(", ");
  return h(
    "div",
    {},
    title,
    parts.length
      ? h(
          "div",
          { class: "stack tall", role: "img", "aria-label": text },
          parts
            .filter(([name]) => v[name] >= 0.005)
            .map(([name, kind]) =>
              h("span", { class: `part ${kind}`, style: { flex: `${Math.max(0, v[name])} 0 0` } }),
            ),
        )
      : "",
    parts.length
      ? h(
          "p",
          { class: "legend" },
          parts.map(([name, kind]) =>
            h("span", { class: "key" }, h("span", { class: `swatch ${kind}` }), `${name} ${percent(v[name])}`),
          ),
        )
      : "",
    v.advice ? h("p", {}, sentence(v.advice)) : "",
    v.note ? h("p", { class: "note" }, sentence(v.note)) : "",
  );
}

function effectsTable() {
  const mine = (ANALYSIS.effects || []).filter((x) => x.metric === chosen.metric);
  if (!mine.length) return "";
  const d = decimalsOf(chosen.metric);
  const width = 170;
  const scale = stripScale([0, ...mine.flatMap((x) => [x.delta_from_first, ...(x.ci || [])])], width);
  const groups = [...groupBy(mine, (x) => (SWEEPS.length > 1 && x.sweep ? `${x.axis} (${x.sweep})` : x.axis))].map(
    ([axis, list]) => [
      h("tr", { class: "by" }, h("th", { colspan: 4, scope: "colgroup" }, axis)),
      list.map((x, i) =>
        h(
          "tr",
          {},
          h("th", { scope: "row" }, shortened(valueText(x.value), 40)),
          h("td", {}, fixed(x.mean, d)),
          h(
            "td",
            {},
            i && isNumber(x.delta_from_first)
              ? whisker(scale, width, x.delta_from_first, x.ci, "plain-mark", { zero: 0 })
              : "",
          ),
          h(
            "td",
            {},
            i
              ? [signed(x.delta_from_first, d), h("span", { class: "ci" }, ` ${interval(x.ci, d, true)}`)]
              : h("span", { class: "muted" }, "reference"),
          ),
        ),
      ),
    ],
  );
  return h(
    "div",
    {},
    h("h3", {}, "Main effects"),
    h(
      "p",
      { class: "note" },
      "Each axis on its own: means over all values of the others, and the difference from the value that stands first.",
    ),
    h(
      "div",
      { class: "scroll" },
      h(
        "table",
        { class: "plain effects" },
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            h("th", { scope: "col" }, "value"),
            h("th", { scope: "col" }, "mean"),
            h("th", { scope: "col" }, scale.head()),
            h("th", { scope: "col" }, "difference"),
          ),
        ),
        h("tbody", {}, groups),
      ),
    ),
  );
}

/** How far pairs of axes do not add up. */
function interactionsTable() {
  const mine = (ANALYSIS.interactions || []).filter((x) => x.metric === chosen.metric && isNumber(x.delta));
  if (!mine.length) return "";
  const d = decimalsOf(chosen.metric);
  const width = 170;
  const scale = stripScale([0, ...mine.flatMap((x) => [x.delta, ...(x.ci || [])])], width);
  const change = (x, i) =>
    `${shortAxis(x.axes[i])} ${shortened(valueText(x.references[i]), 20)} to ${shortened(valueText(x.values[i]), 20)}`;
  const rows = mine.map((x) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, `${change(x, 0)}, at ${change(x, 1)}`),
      h("td", {}, whisker(scale, width, x.delta, x.ci, "plain-mark", { zero: 0 })),
      h("td", {}, signed(x.delta, d), h("span", { class: "ci" }, ` ${interval(x.ci, d, true)}`)),
    ),
  );
  return h(
    "details",
    { class: "more" },
    h("summary", {}, `Interactions (${mine.length})`),
    h(
      "p",
      { class: "note" },
      "By how much one axis' effect changes along the other. Around zero, the two simply add up.",
    ),
    h(
      "div",
      { class: "scroll" },
      h(
        "table",
        { class: "plain" },
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            h("th", { scope: "col", class: "text" }, "change"),
            h("th", { scope: "col" }, scale.head()),
            h("th", { scope: "col" }, "interaction"),
          ),
        ),
        h("tbody", {}, rows),
      ),
    ),
  );
}
