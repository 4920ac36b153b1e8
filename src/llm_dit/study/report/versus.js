// One arm against the baseline, closely: the numbers, where the difference comes from, and the pictures behind it.

function drawVersus() {
  const section = byId("versus");
  heading(section, "One arm against the baseline");
  const arms = ARMS.filter((a) => a !== BASELINE);
  if (!BASELINE || !arms.length) {
    section.append(
      h(
        "p",
        { class: "muted" },
        BASELINE ? "There is no other arm." : "No baseline is named, so there is nothing to compare with.",
      ),
    );
    return;
  }
  if (!arms.some((a) => a.id === chosen.arm)) chosen.arm = farthest(arms).id;
  const arm = ARM_BY_ID.get(chosen.arm);
  section.append(h("p", { class: "print-only" }, arm.label));
  section.append(
    h(
      "div",
      { class: "controls" },
      choice(
        "Arm",
        arms.map((a) => [a.id, shortened(AXES.length > 1 ? armName(a) : a.label, 80)]),
        arm.id,
        (id) => choose({ arm: id }),
        { id: "versus-arm" },
      ),
    ),
  );
  const found = arm.versus?.[chosen.metric];
  if (!found) {
    section.append(
      h(
        "p",
        { class: "muted" },
        METRICS.length
          ? `No score of ${chosen.metric} to compare.`
          : "No metric was scored; compare the pictures below by eye.",
      ),
    );
    return;
  }
  section.append(h("div", { class: "versus-top" }, numbersOf(found), slicesOf(arm)));
  if (found.best?.length || found.worst?.length) {
    section.append(
      pairs(arm, "Its best prompts, against the baseline", found.best),
      pairs(arm, "Its worst prompts, against the baseline", found.worst),
    );
  }
}

/** The arm to begin with: the best of those that are better, else the one that differs most. */
function farthest(arms) {
  const found = (a) => a.versus?.[PRIMARY || chosen.metric];
  const better = arms.filter((a) => found(a)?.verdict === "better");
  if (better.length) arms = better;
  const size = (a) => (isNumber(found(a)?.delta) ? Math.abs(found(a).delta) : -1);
  return arms.reduce((x, y) => (size(y) > size(x) ? y : x));
}

function numbersOf(v) {
  const d = decimalsOf(chosen.metric);
  const row = (name, value, help) =>
    value === null || value === "" || value === NONE
      ? ""
      : h("tr", {}, h("th", { scope: "row", title: help }, name), h("td", {}, value));
  const p = v.p_holm ?? v.p_bh;
  return h(
    "div",
    { class: "numbers" },
    h(
      "p",
      { class: "big" },
      h("span", { class: "num" }, signed(v.delta, d)),
      h("span", { class: "ci num" }, ` ${interval(v.ci, d, true)} `),
      verdict(v),
    ),
    v.note ? h("p", { class: "note" }, sentence(v.note)) : "",
    balance(v),
    h(
      "table",
      { class: "plain" },
      h(
        "tbody",
        {},
        row("prompts, pairs", `${grouped(v.n_prompts)}, ${grouped(v.n_pairs)}`),
        row(
          "interval if the pairing were ignored",
          interval(v.ci_unpaired, d, true),
          "how much is gained by comparing the same prompts and seeds",
        ),
        row(isNumber(v.p_holm) ? "p, Holm over arms" : "p, Benjamini-Hochberg", pValue(p)),
        row("p, uncorrected (sign flip; Wilcoxon)", isNumber(v.p) ? `${pValue(v.p)}; ${pValue(v.p_wilcoxon)}` : ""),
        row("effect in standard deviations", isNumber(v.d_z) ? signed(v.d_z, 2) : ""),
        row(
          "smallest detectable difference",
          isNumber(v.mde_holm) && isNumber(v.mde)
            ? `${fixed(v.mde_holm, d)} (${fixed(v.mde, d)} for one arm alone)`
            : fixed(v.mde, d),
        ),
        row("a tie is within", isNumber(v.epsilon) ? `\u00b1${fixed(v.epsilon, d + 1)}` : ""),
      ),
    ),
  );
}

/** Wins, ties and losses as one bar. */
function balance(v) {
  const all = (v.wins || 0) + (v.ties || 0) + (v.losses || 0);
  if (!all) return "";
  const part = (n, kind) => (n ? h("span", { class: `part ${kind}`, style: { flex: `${n} 0 0` } }) : "");
  const text = `${grouped(v.wins)} won, ${grouped(v.ties)} tied, ${grouped(v.losses)} lost`;
  const rate = isNumber(v.win_rate)
    ? `; win rate ${percent(v.win_rate)}${v.win_ci && isNumber(v.win_ci[0]) ? ` [${percent(v.win_ci[0])}, ${percent(v.win_ci[1])}]` : ""}`
    : "";
  return h(
    "div",
    { class: "balance" },
    h(
      "div",
      { class: "stack", role: "img", "aria-label": text },
      part(v.wins, "better"),
      part(v.ties, "same"),
      part(v.losses, "worse"),
    ),
    h("div", { class: "note" }, text + rate),
  );
}

function slicesOf(arm) {
  const mine = (ANALYSIS.slices || []).filter((x) => x.arm === arm.id && x.metric === chosen.metric);
  if (!mine.length) return "";
  const d = decimalsOf(chosen.metric);
  const width = 170;
  const scale = stripScale([0, ...mine.flatMap((x) => [x.delta, ...(x.ci || [])])], width);
  const way = sense(chosen.metric);
  const look = (x) =>
    !x.ci || !isNumber(x.ci[0]) || !way
      ? "unknown"
      : x.ci[0] * way > 0 && x.ci[1] * way > 0
        ? "better"
        : x.ci[0] * way < 0 && x.ci[1] * way < 0
          ? "worse"
          : "same";
  const body = [...groupBy(mine, (x) => x.by)].map(([by, list]) => [
    h("tr", { class: "by" }, h("th", { colspan: 4, scope: "colgroup" }, `by ${by}`)),
    list.map((x) =>
      h(
        "tr",
        { title: x.note },
        h("th", { scope: "row" }, shortened(valueText(x.value), 40)),
        h("td", { class: "muted" }, grouped(x.n_prompts)),
        h("td", {}, isNumber(x.delta) ? whisker(scale, width, x.delta, x.ci, look(x), { zero: 0 }) : x.note || NONE),
        h(
          "td",
          {},
          isNumber(x.delta) ? signed(x.delta, d) : "",
          h("span", { class: "ci" }, ` ${interval(x.ci, d, true)}`),
        ),
      ),
    ),
  ]);
  return h(
    "div",
    { class: "slices" },
    h("h3", {}, "In which prompts"),
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
            h("th", { scope: "col" }, ""),
            h("th", { scope: "col" }, "prompts"),
            h("th", { scope: "col" }, scale.head()),
            h("th", { scope: "col" }, "difference"),
          ),
        ),
        h("tbody", {}, body),
      ),
    ),
    h("p", { class: "note" }, "Slices are for looking: no test was corrected for their number."),
  );
}

function pairs(arm, title, list) {
  if (!list?.length) return "";
  const d = decimalsOf(chosen.metric);
  const items = list.map((x) => {
    const mine = pictureAt(arm.id, x.prompt_id, x.seed);
    const base = pictureAt(BASELINE.id, x.prompt_id, x.seed_baseline ?? x.seed);
    const open =
      mine && !mine.missing
        ? () => openViewer(mine, { against: base && !base.missing ? base : null, mode: "side" })
        : null;
    return h(
      "li",
      { class: "pair" },
      h(
        "button",
        {
          type: "button",
          class: "pair-pictures",
          disabled: !open,
          "aria-label": `Compare baseline and arm: ${promptText(x.prompt_id)}`,
          onclick: open,
        },
        pairHalf(base, "baseline"),
        pairHalf(mine, armMark(arm)),
      ),
      h("div", { class: "num" }, signed(x.d, d), h("span", { class: "muted" }, ` seed ${x.seed}${x.seed === (x.seed_baseline ?? x.seed) ? "" : ` against ${x.seed_baseline}`}`)),
      h("div", { class: "pair-prompt", title: promptText(x.prompt_id) }, promptText(x.prompt_id)),
    );
  });
  return h("div", {}, h("h3", {}, title), h("ul", { class: "pairs" }, items));
}

function pairHalf(picture, caption) {
  return h(
    "span",
    { class: "half" },
    picture ? pictureBox(picture) : h("span", { class: "hole" }, "no picture"),
    h("span", { class: "caption" }, caption),
  );
}

/** A picture small: the embedded one, else its file; text in its place where there is neither. */
function pictureBox(picture) {
  if (picture.missing) return h("span", { class: "hole" }, "file is gone");
  const image = h("img", { alt: "", decoding: "async", draggable: "false" });
  image.addEventListener("error", () => image.replaceWith(h("span", { class: "hole" }, "cannot be read")), {
    once: true,
  });
  image.src = thumbOf(picture) || fileOf(picture) || "";
  return image;
}
