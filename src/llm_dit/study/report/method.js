// How it was measured: metrics and their identities, versions, weights, how to make the page again.

function drawMethod() {
  const section = byId("method");
  heading(section, "How it was measured");
  if (METRICS.length) {
    const rows = METRICS.map((m) =>
      h(
        "tr",
        {},
        h("th", { scope: "row", class: "text" }, m.name, " ", metricBadge(m.name)),
        h("td", { class: "text" }, directionText(m.name)),
        h("td", { class: "text wrap" }, m.help || ""),
        h(
          "td",
          { class: "text wrap id" },
          (m.identities || []).map((i) => h("div", {}, typeof i === "string" ? i : JSON.stringify(i))),
        ),
        h("td", {}, grouped(m.scored)),
        h("td", {}, grouped(m.missing)),
        h("td", {}, grouped(m.not_finite)),
        h("td", {}, grouped(m.truncated)),
      ),
    );
    const titles = ["metric", "direction", "what it is", "identity", "scored", "no score", "not finite", "prompt cut"];
    section.append(
      h(
        "div",
        { class: "scroll", tabindex: "0", role: "region", "aria-label": "Metrics" },
        h(
          "table",
          { class: "plain metrics" },
          h(
            "thead",
            {},
            h(
              "tr",
              {},
              titles.map((t, i) => h("th", { scope: "col", class: i < 4 ? "text" : "" }, t)),
            ),
          ),
          h("tbody", {}, rows),
        ),
      ),
    );
    const mixed = METRICS.filter((m) => (m.identities || []).length > 1);
    if (mixed.length)
      section.append(
        h(
          "p",
          { class: "warning" },
          `${listed(mixed.map((m) => m.name))}: scored by more than one version of the metric, so scores of different arms may not be comparable.`,
        ),
      );
    if (METRICS.some((m) => m.truncated))
      section.append(
        h(
          "p",
          { class: "note" },
          "Prompt cut: the metric's text encoder did not read the whole prompt. What was cut is not part of the score.",
        ),
      );
  }
  section.append(
    h(
      "p",
      {},
      "Arms are compared with the baseline on the same prompts and seeds. Pictures of one prompt are averaged first; prompts are what is resampled for intervals and flipped for p. " +
        (ANALYSIS.primary_named
          ? "The primary metric was named before the run"
          : "The primary metric was not named before the run, so its verdicts are weaker than they look") +
        "; its p are corrected by Holm over the arms. All other metrics are exploratory and corrected by Benjamini and Hochberg. Under 20 prompts no p is given.",
    ),
    h("dl", { class: "method-facts" }, methodFacts()),
    h(
      "p",
      {},
      "Make this page again from the records: ",
      h(
        "code",
        {},
        `${COMMAND} task=report sweep.name=${FACTS.sweeps?.[0]?.name || ANALYSIS.name}${ANALYSIS.baseline_asked ? ` "report.baseline='${ANALYSIS.baseline_asked}'"` : ""}`,
      ),
    ),
    h(
      "p",
      { class: "note" },
      "The page is one file and needs no network. Its small pictures are inside it; the full ones are read from the folder it lies in, so move the folder as a whole.",
    ),
  );
}

function methodFacts() {
  const rows = [];
  const add = (name, value) => value && rows.push(h("dt", {}, name), h("dd", {}, value));
  for (const sweep of FACTS.sweeps || []) {
    add(`sweep ${sweep.name}`, [
      sweep.question ? h("div", {}, sweep.question) : "",
      sweep.arguments?.length ? h("code", {}, `${COMMAND} -m ${sweep.arguments}`) : "",
    ]);
  }
  add("weights", (FACTS.weights || []).join("; "));
  add("device, dtype", (FACTS.devices || []).join("; "));
  add(
    "versions",
    Object.entries(FACTS.versions || {})
      .map(([name, list]) => `${name} ${list.join(" and ")}`)
      .join(", "),
  );
  const sizes = [...new Set(PICTURES.filter((p) => p.width).map((p) => `${p.width} \u00d7 ${p.height}`))];
  add("sizes", sizes.length > 6 ? `${sizes.length} sizes` : sizes.join(", "));
  const inside = PICTURES.filter((p) => p.thumb).length;
  add("pictures", `${grouped(PICTURES.length)}; ${grouped(inside)} of them inside this page as WebP`);
  add("page made", ANALYSIS.generated);
  return rows;
}
