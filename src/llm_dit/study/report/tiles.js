// The cells of the grid that are in sight: made as they come into view, taken away as they leave it.

function placeAt(r, c) {
  const fixedAt = Object.fromEntries(grid.fields.map((f) => [f.key, grid.pages[f.key]]));
  return lookUp({ ...fixedAt, ...grid.rowItems[r].at, ...grid.columnItems[c].at });
}

/** Make the cells in sight, and take away the others. */
function fillGrid() {
  if (!grid.view.clientWidth) return;
  const { scrollTop, scrollLeft, clientHeight, clientWidth } = grid.view;
  const from = (offset, size) => Math.max(0, Math.floor(offset / size) - OVERSCAN);
  const to = (offset, size, n) => Math.min(n, Math.ceil(offset / size) + OVERSCAN);
  const [r0, r1] = [
    from(scrollTop, grid.rowHeight),
    to(scrollTop + clientHeight - grid.top, grid.rowHeight, grid.rowItems.length),
  ];
  const [c0, c1] = [
    from(scrollLeft, grid.columnWidth),
    to(scrollLeft + clientWidth - grid.head, grid.columnWidth, grid.columnItems.length),
  ];
  for (const [r, row] of grid.shown) {
    const outside = r < r0 || r >= r1;
    for (const [c, tile] of row.tiles) {
      if ((outside || c < c0 || c >= c1) && tile !== document.activeElement) {
        tile.remove();
        row.tiles.delete(c);
      }
    }
    if (outside && !row.tiles.size) {
      row.element.remove();
      grid.shown.delete(r);
    }
  }
  for (const label of [...grid.columnHead.querySelectorAll("[data-c]")])
    if (label.dataset.c < c0 || label.dataset.c >= c1) label.remove();
  const heads = new Set([...grid.columnHead.querySelectorAll("[data-c]")].map((e) => Number(e.dataset.c)));
  for (let c = c0; c < c1; c++) if (!heads.has(c)) grid.columnHead.append(columnLabel(c));
  for (let r = r0; r < r1; r++) {
    if (!grid.shown.has(r)) grid.shown.set(r, gridRow(r));
    const row = grid.shown.get(r);
    for (let c = c0; c < c1; c++) {
      if (row.tiles.has(c)) continue;
      const tile = gridTile(r, c);
      row.tiles.set(c, tile);
      row.element.append(tile);
    }
  }
}

function columnLabel(c) {
  const texts = grid.columnItems[c].texts;
  const baseline = isBaselineAt(grid.columnItems[c].at);
  return h(
    "div",
    {
      class: `grid-column ${baseline ? "is-baseline" : ""}`,
      role: "columnheader",
      "aria-colindex": c + 2,
      "data-c": c,
      title: texts.join("\n"),
      style: { left: `${grid.head + c * grid.columnWidth}px` },
    },
    texts.map((t) => nameText(t, 120)),
  );
}

function isBaselineAt(at) {
  if (!BASELINE) return false;
  if ("arm" in at) return at.arm === BASELINE.id;
  return (
    ARM_FIELDS.length > 0 &&
    ARM_FIELDS.every((key) => (at[key] ?? grid.pages[key]) === FIELD.get(key).of(BASELINE)) &&
    ARM_FIELDS.some((key) => key in at)
  );
}

function gridRow(r) {
  const { texts, notes } = grid.rowItems[r];
  const label = h(
    "div",
    { class: "grid-row-label", role: "rowheader" },
    texts.map((t, i) => h("span", { class: i ? "muted" : "clamp", title: t }, t)),
    notes[0] && grid.rowHeight > 110 && grid.head > 150 ? h("span", { class: "muted small" }, notes[0]) : "",
  );
  const element = h(
    "div",
    {
      class: "grid-row",
      role: "row",
      "aria-rowindex": r + 2,
      style: { top: `${grid.top + r * grid.rowHeight}px`, height: `${grid.rowHeight}px` },
    },
    label,
  );
  grid.inner.append(element);
  return { element, tiles: new Map() };
}

function gridTile(r, c) {
  const { arm, picture } = placeAt(r, c);
  const here = picture && !picture.missing;
  const active = grid.active[0] === r && grid.active[1] === c;
  const score = here ? scoreLine(picture) : "";
  const said = `${arm ? arm.label : "no arm"}, ${promptText(grid.rowItems[r].at.prompt ?? grid.columnItems[c].at.prompt ?? grid.pages.prompt)}${here ? `, seed ${picture.seed}, ${score.textContent || ""}` : `: ${absence(arm, picture)}`}`;
  return h(
    "div",
    {
      class: `tile ${here ? "" : "empty"} ${here && chosen.pinned === picture ? "pinned" : ""}`,
      role: "gridcell",
      tabindex: active ? "0" : "-1",
      "aria-colindex": c + 2,
      "aria-label": said,
      "data-r": r,
      "data-c": c,
      style: { left: `${grid.head + c * grid.columnWidth}px` },
    },
    h("span", { class: "frame" }, here ? pictureBox(picture) : h("span", { class: "hole" }, absence(arm, picture))),
    h("span", { class: "caption num" }, score),
  );
}

/** The chosen metric's score, and its difference from the baseline's picture of the same prompt and seed. */
function scoreLine(picture) {
  const m = chosen.metric;
  if (!m) return h("span", {});
  const d = Math.max(2, Math.min(3, decimalsOf(m)));
  const own = picture.scores?.[m];
  const base = partnerOf(picture)?.scores?.[m];
  const difference = isNumber(own) && isNumber(base) ? own - base : null;
  const way =
    difference === null || Math.abs(difference) < 0.5 * 10 ** -d
      ? "same"
      : difference * sense(m) > 0
        ? "better"
        : difference * sense(m) < 0
          ? "worse"
          : "same";
  return h(
    "span",
    {},
    isNumber(own) ? fixed(own, d) : h("span", { class: "muted" }, "no score"),
    difference !== null ? h("span", { class: `step ${way}` }, ` ${signed(difference, d)}`) : "",
    picture.truncated?.includes(m)
      ? h("span", { class: "muted", title: "the metric did not read the whole prompt" }, " cut")
      : "",
  );
}

/** What is known of a picture, short. */
function recordCard(arm, picture) {
  if (!picture || picture.missing)
    return h(
      "div",
      {},
      h("b", {}, arm ? shortened(arm.label, 160) : "No such arm"),
      h("div", {}, absence(arm, picture)),
    );
  const scores = METRICS.map((m) => [
    m.name,
    isNumber(picture.scores?.[m.name]) ? plain(picture.scores[m.name]) : "no score",
  ]);
  return h(
    "div",
    { class: "card" },
    h("b", {}, shortened(arm.label, 160)),
    h("p", {}, shortened(promptText(picture.prompt_id), 240)),
    h(
      "dl",
      {},
      [...scores, ...factsOf(picture)].map(([k, v]) => [h("dt", {}, k), h("dd", {}, v)]),
    ),
  );
}

function factsOf(picture) {
  const facts = [
    ["prompt", picture.prompt_id],
    ["seed", String(picture.seed)],
    ["size", picture.width ? `${picture.width} \u00d7 ${picture.height}` : null],
    ["forwards (NFE)", isNumber(picture.nfe) ? plain(picture.nfe) : null],
    ["seconds", isNumber(picture.seconds) ? seconds(picture.seconds) : null],
    ["shift", isNumber(picture.shift) ? plain(picture.shift) : null],
    [
      "tokens",
      isNumber(picture.token_count)
        ? `${picture.token_count}${isNumber(picture.padded_length) ? `, padded to ${picture.padded_length}` : ""}`
        : null,
    ],
    ["prompt cut by", picture.truncated?.length ? picture.truncated.join(", ") : null],
  ];
  return facts.filter(([, v]) => v !== null);
}
