// The table of arms: one row an arm, any column sorts it, the A/A row below as the measure of noise.

const MEAN_STRIP = 110;
const DELTA_STRIP = 130;
let armOrder = { key: null, down: false };

function drawArms() {
  const section = byId("arms");
  const metric = METRIC_BY_NAME.get(chosen.metric);
  const lead = metric ? metricLead(metric) : "No metric was scored.";
  heading(section, "Arms", h("span", {}, lead));
  if (!ARMS.length) return section.append(h("p", {}, "None yet."));
  section.append(
    h(
      "div",
      {
        class: `scroll ${ARMS.length > 24 ? "tall" : ""}`,
        tabindex: "0",
        role: "region",
        "aria-label": "Table of arms",
      },
      armTable(),
    ),
    armLegend(),
    ...failures(),
  );
}

/** A metric in words, for the line under a heading. */
function metricLead(metric) {
  return [
    h("b", {}, metric.name),
    metricBadge(metric.name),
    ` ${directionText(metric.name)}${metric.help ? `; ${metric.help}` : ""}.`,
  ];
}

function metricBadge(name) {
  return h(
    "span",
    { class: `badge ${name === PRIMARY ? "primary" : ""}` },
    name === PRIMARY ? "primary" : "exploratory",
  );
}

function armColumns() {
  const m = chosen.metric;
  const columns = [{ key: "arm", title: "arm", text: true, axes: true, cell: armCell }];
  if (SWEEPS.length > 1)
    columns.push({ key: "sweep", title: "sweep", text: true, sort: (a) => a.sweep, cell: (a) => a.sweep });
  if (m) columns.push(...metricColumns(m));
  columns.push(
    {
      key: "seconds",
      title: "s / picture",
      sort: (a) => a.seconds,
      cell: (a) => [COST === "seconds" ? costText(a).replace(" s", "") : seconds(a.seconds), dagger(a, "seconds")],
    },
    {
      key: "nfe",
      title: "NFE",
      help: "forwards of the transformer for a picture",
      sort: (a) => a.nfe,
      cell: (a) => [isNumber(a.nfe) ? plain(a.nfe) : NONE, dagger(a, "nfe")],
    },
    {
      key: "pictures",
      title: "pictures",
      sort: (a) => a.pictures,
      cell: (a) => [grouped(a.pictures), a.missing ? h("span", { class: "muted" }, ` (${a.missing} missing)`) : ""],
    },
  );
  // Told in the line below when it is the same for all.
  if (ARMS.some((a) => a.status !== "complete"))
    columns.push({
      key: "status",
      title: "status",
      text: true,
      sort: (a) => a.status,
      cell: (a) => h("span", { class: `status ${a.status}` }, a.status),
    });
  return columns;
}

/** The sign of an arm on the frontier, in the column of the cost that it was found by. */
function dagger(arm, column) {
  return column === COST && arm.pareto && PRIMARY
    ? h("span", { class: "star", title: "no arm is both cheaper and better" }, "\u2020")
    : "";
}

function metricColumns(m) {
  const d = decimalsOf(m);
  const mean = (a) => a.metrics?.[m];
  const versus = (a) => (a === BASELINE ? null : a.versus?.[m]);
  const aa = ANALYSIS.aa?.[m];
  const means = stripScale(
    ARMS.flatMap((a) => [mean(a)?.mean, ...(mean(a)?.ci || [])]),
    MEAN_STRIP,
  );
  const deltas = stripScale(
    [0, ...(aa?.ci || []), ...ARMS.flatMap((a) => [versus(a)?.delta, ...(versus(a)?.ci || [])])],
    DELTA_STRIP,
  );
  const kind = (a) => verdictKind(a, m);
  const columns = [
    {
      key: "mean",
      title: "mean",
      strip: means,
      sort: (a) => mean(a)?.mean,
      cell: (a) =>
        isNumber(mean(a)?.mean)
          ? h(
              "span",
              { class: "strip" },
              whisker(means, MEAN_STRIP, mean(a).mean, mean(a).ci, kind(a)),
              h("span", { class: "num" }, fixed(mean(a).mean, d)),
            )
          : NONE,
      title_of: (a) => `${fixed(mean(a)?.mean, d)} ${interval(mean(a)?.ci, d)}`,
    },
  ];
  if (!BASELINE || ARMS.length < 2) return columns;
  columns.push(
    {
      key: "delta",
      title: "difference from the baseline",
      strip: deltas,
      sort: (a) => (a === BASELINE ? 0 : versus(a)?.delta),
      cell: (a) =>
        isNumber(versus(a)?.delta)
          ? h(
              "span",
              { class: "strip" },
              whisker(deltas, DELTA_STRIP, versus(a).delta, versus(a).ci, kind(a), { zero: 0, band: aa?.ci }),
              h(
                "span",
                { class: "num" },
                signed(versus(a).delta, d),
                h("span", { class: "ci" }, ` ${interval(versus(a).ci, d, true)}`),
              ),
            )
          : a === BASELINE
            ? h("span", { class: "muted" }, "baseline")
            : NONE,
      aa: () =>
        aa?.ci
          ? h(
              "span",
              { class: "strip" },
              whisker(deltas, DELTA_STRIP, aa.delta, aa.ci, "same", { zero: 0, band: aa.ci }),
              h(
                "span",
                { class: "num" },
                signed(aa.delta, d),
                h("span", { class: "ci" }, ` ${interval(aa.ci, d, true)}`),
              ),
            )
          : aa?.note || ANALYSIS.aa?.note || NONE,
    },
    {
      key: "verdict",
      title: "verdict",
      text: true,
      sort: (a) => versus(a)?.verdict,
      cell: (a) => (a === BASELINE ? "" : verdict(versus(a))),
      title_of: (a) => versus(a)?.note || "",
    },
    m === PRIMARY
      ? {
          key: "p",
          title: "p (Holm)",
          help: "sign-flip test, corrected for the number of arms",
          sort: (a) => versus(a)?.p_holm,
          cell: (a) => pValue(versus(a)?.p_holm),
        }
      : {
          key: "p",
          title: "p (BH)",
          help: "false discovery rate over all exploratory tests",
          sort: (a) => versus(a)?.p_bh,
          cell: (a) => pValue(versus(a)?.p_bh),
        },
    {
      key: "win",
      title: "win rate",
      help: "prompts won, ties counted half",
      sort: (a) => versus(a)?.win_rate,
      cell: (a) => percent(versus(a)?.win_rate),
    },
    {
      key: "mde",
      title: "MDE",
      help: "minimum detectable effect: the smallest difference that this sweep would have found, with a chance of 80\u202f%",
      sort: (a) => detectable(versus(a)),
      cell: (a) => fixed(detectable(versus(a)), d),
    },
  );
  return columns;
}

function armCell(arm) {
  return [
    nameText(innerWidth < 600 && AXES.length > 1 ? armMark(arm) : armName(arm), 70),
    arm === BASELINE ? h("span", { class: "badge" }, "baseline") : "",
  ];
}

function armTable() {
  const columns = armColumns();
  const head = columns.map((c) => {
    // The first column is sorted by any of the axes.
    const keys = c.axes && AXES.length ? AXES.map((axis) => [axis, axis]) : [[c.key, c.title]];
    const sorted = keys.some(([key]) => armOrder.key === key);
    const buttons = keys.map(([key, title]) =>
      h(
        "button",
        { type: "button", class: "sort", "data-sort": key, title: c.help, onclick: () => sortArms(key) },
        title,
        h(
          "span",
          { class: "arrow", "aria-hidden": "true" },
          armOrder.key === key ? (armOrder.down ? " \u2193" : " \u2191") : "",
        ),
      ),
    );
    return h(
      "th",
      {
        scope: "col",
        class: c.text || c.strip ? "text" : "",
        "data-key": c.key,
        "aria-sort": sorted ? (armOrder.down ? "descending" : "ascending") : "none",
      },
      buttons,
      c.strip ? c.strip.head() : "",
    );
  });
  const rows = sortedArms(columns).map((arm) =>
    h(
      "tr",
      { class: arm === BASELINE ? "is-baseline" : "", "data-arm": arm.id },
      columns.map((c, i) =>
        h(
          i ? "td" : "th",
          { scope: i ? null : "row", class: c.text || c.strip ? "text" : "", title: c.title_of?.(arm) || null },
          c.cell(arm),
        ),
      ),
    ),
  );
  const aa = ANALYSIS.aa?.[chosen.metric] || (ANALYSIS.aa?.note ? ANALYSIS.aa : null);
  const foot =
    aa && columns.some((c) => c.aa)
      ? h(
          "tfoot",
          {},
          h(
            "tr",
            { class: "aa" },
            columns.map((c, i) =>
              h(
                i ? "td" : "th",
                { scope: i ? null : "row", class: c.text || c.strip ? "text" : "" },
                i ? (c.aa ? c.aa() : c.key === "verdict" ? "noise floor" : "") : "A/A: baseline, other seeds",
              ),
            ),
          ),
        )
      : "";
  return h("table", { class: "arm-table" }, h("thead", {}, h("tr", {}, head)), h("tbody", {}, rows), foot);
}

function sortArms(key) {
  if (armOrder.key !== key)
    armOrder = { key, down: !["arm", "sweep", "status", "p", "seconds", "nfe"].includes(key) && !AXES.includes(key) };
  else
    armOrder =
      armOrder.down === (armOrder.first ?? armOrder.down)
        ? { ...armOrder, down: !armOrder.down, first: armOrder.first ?? armOrder.down }
        : { key: null, down: false };
  drawArms();
  byId("arms")
    .querySelector(`button[data-sort="${CSS.escape(key)}"]`)
    ?.focus();
}

/** Arms in the chosen order; those without a value come last either way. */
function sortedArms(columns) {
  if (!armOrder.key) return ARMS;
  const axis = AXES.includes(armOrder.key) && ((a) => a.axes?.[armOrder.key]);
  const value = axis || columns.find((c) => c.key === armOrder.key)?.sort || ((a) => a.label);
  const known = (x) => x !== null && x !== undefined && x !== "";
  return [...ARMS].sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    if (!known(x) || !known(y)) return known(y) - known(x);
    const order =
      isNumber(x) && isNumber(y) ? x - y : valueText(x).localeCompare(valueText(y), undefined, { numeric: true });
    return armOrder.down ? -order : order;
  });
}

function armLegend() {
  const notes = [];
  if (ARMS.every((a) => a.status === "complete")) notes.push("All arms are complete.");
  if (chosen.metric) notes.push("Dots are means, lines 95\u202f% intervals over prompts.");
  if (ANALYSIS.aa?.[chosen.metric]?.ci)
    notes.push("The grey band is how far the baseline is from itself with other seeds; arms that share its seeds are compared more finely.");
  if (ARMS.some((a) => a.pareto) && PRIMARY) notes.push(
      COST === "seconds"
        ? "\u2020 No arm is both faster and better; seconds count as different where their intervals are apart."
        : "\u2020 No arm is better with as few forwards (NFE).",
    );
  if (chosen.metric && chosen.metric !== PRIMARY)
    notes.push("This metric is exploratory: a reason to look, not a finding.");
  return notes.length ? h("p", { class: "note" }, notes.join(" ")) : "";
}

function failures() {
  const failed = ARMS.filter((a) => a.error);
  return failed.map((arm) =>
    h(
      "details",
      { class: "failure" },
      h(
        "summary",
        {},
        `${shortened(arm.label, 100)} failed: ${shortened(String(arm.error).trim().split("\n").pop(), 140)}`,
      ),
      h("pre", {}, arm.error),
    ),
  );
}
