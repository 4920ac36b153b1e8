// The grid of pictures: any fields on rows and columns, the rest as pages. Only the cells in sight have elements.

const GAP = 8;
const CAPTION = 20;
const OVERSCAN = 1;
const SIZES = [64, 96, 128, 176, 256];

const grid = { ...firstLayout(), pages: {}, size: innerWidth < 600 ? 96 : 128, category: "", text: "", rowItems: [], columnItems: [], active: [0, 0], shown: new Map() };

function drawGrid() {
  const section = byId("pictures");
  heading(section, "Pictures", "Choose what stands on rows and columns. Point at a picture for its record; open it to compare it.");
  if (!PICTURES.length) {
    section.append(h("p", { class: "muted" }, "No picture has been drawn yet."));
    return;
  }
  grid.controls = h("div", { class: "controls grid-controls" });
  grid.pager = h("div", { class: "controls pager" });
  grid.pin = h("div", { class: "controls pin" });
  grid.said = h("p", { class: "note", role: "status" });
  grid.inner = h("div", { class: "grid-inner" });
  grid.view = h("div", { class: "grid", id: "grid", role: "grid", "aria-label": "Pictures", onscroll: () => requestAnimationFrame(fillGrid), onkeydown: gridKey, onclick: gridClick, onpointerover: gridHover, onpointerleave: hideTip, onfocusin: gridHover, onfocusout: hideTip }, grid.inner);
  section.append(grid.controls, grid.pager, grid.pin, grid.view, grid.said);
  drawGridControls();
  drawPin();
  buildGrid();
  new ResizeObserver(() => fillGrid()).observe(grid.view);
}

function drawGridControls() {
  const slot = (label, side, i) => {
    const options = FIELDS.filter((f) => f.values.length > 1 || (grid[side][i] === f.key)).map((f) => [f.key, f.name]);
    return choice(label, i ? [["", "nothing"], ...options] : options, grid[side][i] || "", (key) => {
      Object.assign(grid, relayout(grid, side, i, key || null), { active: [0, 0] });
      drawGridControls();
      buildGrid(true);
      grid.controls.querySelector(`#${side}-${i}`)?.focus();
    }, { id: `${side}-${i}` });
  };
  const categories = [...new Set(PROMPTS.map((p) => p.category).filter(Boolean))];
  const search = h("input", { type: "search", id: "prompt-filter", value: grid.text, placeholder: "words of the prompt", oninput: () => refilter({ text: search.value }) });
  grid.controls.replaceChildren(
    slot("Rows", "rows", 0),
    slot("within", "rows", 1),
    slot("Columns", "columns", 0),
    slot("within", "columns", 1),
    categories.length > 1 ? choice("Category", [["", "all"], ...categories.map((c) => [c, c])], grid.category, (category) => refilter({ category }), { id: "category-filter" }) : "",
    PROMPTS.length > 1 ? h("label", { class: "field" }, h("span", {}, "Filter"), search) : "",
    choice("Size", SIZES.map((x) => [String(x), `${x} px`]), String(grid.size), (x) => { grid.size = Number(x); buildGrid(); }, { id: "size" })
  );
}

function refilter(change) {
  Object.assign(grid, change, { active: [0, 0] });
  buildGrid(true);
}

/** Which prompts the filters leave. */
function keptPrompts() {
  const words = grid.text.toLowerCase().split(/\s+/).filter(Boolean);
  return new Set(PROMPTS.filter((p) => (!grid.category || p.category === grid.category) && words.every((w) => `${p.prompt} ${p.id}`.toLowerCase().includes(w))).map((p) => p.id));
}

function buildGrid(toTop) {
  const began = performance.now();
  const kept = keptPrompts();
  const keep = (key, id) => key !== "prompt" || kept.has(id);
  grid.rowItems = combinations(grid.rows, keep);
  grid.columnItems = combinations(grid.columns, keep);
  drawPager(keep);
  const narrow = innerWidth < 600;
  grid.head = narrow ? 104 : grid.rows[0] === "prompt" ? 210 : 150;
  grid.frame = grid.size / ratioOfPictures();
  grid.rowHeight = grid.frame + CAPTION + GAP;
  grid.columnWidth = grid.size + GAP;
  const lines = Math.max(1, ...grid.columnItems.slice(0, 200).map((c) => c.texts.reduce((n, t) => n + Math.min(3, Math.ceil((measure(t, 12) + 8) / (grid.size * 0.9))), 0)));
  grid.top = Math.max(38, 16 * lines + 12);
  const width = grid.head + grid.columnItems.length * grid.columnWidth;
  const height = grid.top + grid.rowItems.length * grid.rowHeight;
  grid.inner.style.width = `${width}px`;
  grid.inner.style.height = `${height}px`;
  grid.view.style.setProperty("--tile", `${grid.size}px`);
  grid.view.style.setProperty("--frame", `${grid.frame}px`);
  grid.view.style.setProperty("--head", `${grid.head}px`);
  grid.view.style.setProperty("--lines", String(Math.max(1, Math.floor((grid.rowHeight - GAP - 18) / 17))));
  grid.view.setAttribute("aria-rowcount", grid.rowItems.length + 1);
  grid.view.setAttribute("aria-colcount", grid.columnItems.length + 1);
  grid.shown.clear();
  grid.columnHead = h("div", { class: "grid-columns", role: "row", "aria-rowindex": "1", style: { height: `${grid.top}px`, width: `${width}px` } }, h("div", { class: "grid-corner", role: "columnheader" }, sideName("rows"), h("br"), sideName("columns")));
  grid.inner.replaceChildren(grid.columnHead);
  if (toTop) grid.view.scrollTo(0, 0);
  fillGrid();
  const empty = !grid.rowItems.length || !grid.columnItems.length;
  grid.said.textContent = empty ? "No prompt matches the filter." : `${count(grid.rowItems.length, "row")} and ${count(grid.columnItems.length, "column")}. Arrow keys move, Enter opens, A marks a picture to compare others with.`;
  grid.view.dataset.took = (performance.now() - began).toFixed(1);
}

function sideName(side) {
  return `${side === "rows" ? "\u2193" : "\u2192"} ${grid[side].filter(Boolean).map((key) => shortened(FIELD.get(key).name.split(".").pop(), 16)).join(", ")}`;
}

/** Width by height of most pictures, so that frames fit them. */
let pictureRatio = null;
function ratioOfPictures() {
  if (pictureRatio) return pictureRatio;
  const counts = groupBy(PICTURES.filter((p) => p.width && p.height), (p) => p.width / p.height);
  const common = [...counts].sort((a, b) => b[1].length - a[1].length)[0];
  return (pictureRatio = common ? Math.min(2.5, Math.max(0.4, common[0])) : 1);
}

/** Selects for what is neither on rows nor on columns, and steps through their combinations. */
function drawPager(keep) {
  const fields = pageFields(grid).map((f) => ({ ...f, values: f.values.filter((v) => keep(f.key, v.id)) }));
  for (const f of fields) if (!f.values.some((v) => v.id === grid.pages[f.key])) grid.pages[f.key] = firstOf(f);
  grid.fields = fields;
  const open = fields.filter((f) => f.values.length > 1);
  const pages = open.reduce((n, f) => n * f.values.length, 1);
  const step = (by) => () => {
    let index = open.reduce((n, f) => n * f.values.length + f.values.findIndex((v) => v.id === grid.pages[f.key]), 0);
    index = (index + by + pages) % pages;
    for (const f of [...open].reverse()) {
      grid.pages[f.key] = f.values[index % f.values.length].id;
      index = Math.floor(index / f.values.length);
    }
    buildGrid();
    byId(by < 0 ? "page-back" : "page-on")?.focus();
  };
  const turn = (f) => choice(f.name, f.values.map((v) => [v.id, shortened(v.text, 70)]), grid.pages[f.key], (id) => { grid.pages[f.key] = id; buildGrid(); byId(`page ${f.key}`)?.focus(); }, { id: `page ${f.key}` });
  const index = open.reduce((n, f) => n * f.values.length + f.values.findIndex((v) => v.id === grid.pages[f.key]), 0);
  grid.pager.replaceChildren(
    ...(open.length
      ? [h("span", { class: "pager-name" }, "Page"), ...open.map(turn), h("button", { type: "button", id: "page-back", onclick: step(-1), "aria-label": "Previous page" }, "\u2190"), h("button", { type: "button", id: "page-on", onclick: step(1), "aria-label": "Next page" }, "\u2192"), h("span", { class: "muted num", id: "page-number" }, `${grouped(index + 1)} of ${grouped(pages)}`)]
      : [])
  );
}

/** The first value shown of a field on the pages: the baseline's on an axis, otherwise the first. */
function firstOf(field) {
  if (!field.values.length) return null;
  const wanted = !BASELINE ? null : field.kind === "axis" ? field.of(BASELINE) : field.kind === "arm" ? BASELINE.id : null;
  return field.values.some((v) => v.id === wanted) ? wanted : field.values[0].id;
}

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
  const [r0, r1] = [from(scrollTop, grid.rowHeight), to(scrollTop + clientHeight - grid.top, grid.rowHeight, grid.rowItems.length)];
  const [c0, c1] = [from(scrollLeft, grid.columnWidth), to(scrollLeft + clientWidth - grid.head, grid.columnWidth, grid.columnItems.length)];
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
  for (const label of [...grid.columnHead.querySelectorAll("[data-c]")]) if (label.dataset.c < c0 || label.dataset.c >= c1) label.remove();
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
  return h("div", { class: `grid-column ${baseline ? "is-baseline" : ""}`, role: "columnheader", "aria-colindex": c + 2, "data-c": c, title: texts.join("\n"), style: { left: `${grid.head + c * grid.columnWidth}px` } }, texts.map((t) => nameText(t, 120)));
}

function isBaselineAt(at) {
  if (!BASELINE) return false;
  if ("arm" in at) return at.arm === BASELINE.id;
  return ARM_FIELDS.length > 0 && ARM_FIELDS.every((key) => (at[key] ?? grid.pages[key]) === FIELD.get(key).of(BASELINE)) && ARM_FIELDS.some((key) => key in at);
}

function gridRow(r) {
  const { texts, notes } = grid.rowItems[r];
  const label = h("div", { class: "grid-row-label", role: "rowheader" }, texts.map((t, i) => h("span", { class: i ? "muted" : "clamp", title: t }, t)), notes[0] && grid.rowHeight > 110 && grid.head > 150 ? h("span", { class: "muted small" }, notes[0]) : "");
  const element = h("div", { class: "grid-row", role: "row", "aria-rowindex": r + 2, style: { top: `${grid.top + r * grid.rowHeight}px`, height: `${grid.rowHeight}px` } }, label);
  grid.inner.append(element);
  return { element, tiles: new Map() };
}

function gridTile(r, c) {
  const { arm, picture } = placeAt(r, c);
  const here = picture && !picture.missing;
  const active = grid.active[0] === r && grid.active[1] === c;
  const score = here ? scoreLine(picture) : "";
  const said = `${arm ? arm.label : "no arm"}, ${promptText((grid.rowItems[r].at.prompt ?? grid.columnItems[c].at.prompt) ?? grid.pages.prompt)}${here ? `, seed ${picture.seed}, ${score.textContent || ""}` : `: ${absence(arm, picture)}`}`;
  return h(
    "div",
    { class: `tile ${here ? "" : "empty"} ${here && chosen.pinned === picture ? "pinned" : ""}`, role: "gridcell", tabindex: active ? "0" : "-1", "aria-colindex": c + 2, "aria-label": said, "data-r": r, "data-c": c, style: { left: `${grid.head + c * grid.columnWidth}px` } },
    h("span", { class: "frame" }, here ? pictureBox(picture) : h("span", { class: "hole" }, absence(arm, picture))),
    h("span", { class: "caption num" }, score)
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
  const way = difference === null || Math.abs(difference) < 0.5 * 10 ** -d ? "same" : difference * sense(m) > 0 ? "better" : difference * sense(m) < 0 ? "worse" : "same";
  return h("span", {}, isNumber(own) ? fixed(own, d) : h("span", { class: "muted" }, "no score"), difference !== null ? h("span", { class: `step ${way}` }, ` ${signed(difference, d)}`) : "", picture.truncated?.includes(m) ? h("span", { class: "muted", title: "the metric did not read the whole prompt" }, " cut") : "");
}

function tileOf(event) {
  const tile = event.target.closest?.(".tile");
  return tile ? [Number(tile.dataset.r), Number(tile.dataset.c), tile] : null;
}

function gridHover(event) {
  const at = tileOf(event);
  if (!at) return hideTip();
  const { arm, picture } = placeAt(at[0], at[1]);
  showTip(at[2], recordCard(arm, picture));
}

/** What is known of a picture, short. */
function recordCard(arm, picture) {
  if (!picture || picture.missing) return h("div", {}, h("b", {}, arm ? shortened(arm.label, 160) : "No such arm"), h("div", {}, absence(arm, picture)));
  const scores = METRICS.map((m) => [m.name, isNumber(picture.scores?.[m.name]) ? plain(picture.scores[m.name]) : "no score"]);
  return h("div", { class: "card" }, h("b", {}, shortened(arm.label, 160)), h("p", {}, shortened(promptText(picture.prompt_id), 240)), h("dl", {}, [...scores, ...factsOf(picture)].map(([k, v]) => [h("dt", {}, k), h("dd", {}, v)])));
}

function factsOf(picture) {
  const facts = [
    ["prompt", picture.prompt_id],
    ["seed", String(picture.seed)],
    ["size", picture.width ? `${picture.width} \u00d7 ${picture.height}` : null],
    ["forwards (NFE)", isNumber(picture.nfe) ? plain(picture.nfe) : null],
    ["seconds", isNumber(picture.seconds) ? seconds(picture.seconds) : null],
    ["shift", isNumber(picture.shift) ? plain(picture.shift) : null],
    ["tokens", isNumber(picture.token_count) ? `${picture.token_count}${isNumber(picture.padded_length) ? `, padded to ${picture.padded_length}` : ""}` : null],
    ["prompt cut by", picture.truncated?.length ? picture.truncated.join(", ") : null],
  ];
  return facts.filter(([, v]) => v !== null);
}

function gridClick(event) {
  const at = tileOf(event);
  if (!at) return;
  activate(at[0], at[1]);
  const { picture } = placeAt(at[0], at[1]);
  if (event.shiftKey) return pin(picture);
  if (picture && !picture.missing) openViewer(picture, { fromGrid: true });
}

function gridKey(event) {
  if (!grid.rowItems.length || !grid.columnItems.length) return;
  const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], Home: [0, -Infinity], End: [0, Infinity], PageUp: [-4, 0], PageDown: [4, 0] };
  const step = steps[event.key];
  const at = tileOf(event);
  if (at) grid.active = [at[0], at[1]];
  const { picture } = placeAt(...grid.active);
  if (step) activate(grid.active[0] + step[0], grid.active[1] + step[1]);
  else if ((event.key === "Enter" || event.key === " ") && picture && !picture.missing) openViewer(picture, { fromGrid: true });
  else if (event.key.toLowerCase() === "a" && !event.ctrlKey && !event.metaKey) pin(picture);
  else return;
  event.preventDefault();
}

/** Move the grid's focus to a cell and bring it into sight. */
function activate(r, c, focus = true) {
  grid.view.querySelector('.tile[tabindex="0"]')?.setAttribute("tabindex", "-1");
  r = Math.max(0, Math.min(grid.rowItems.length - 1, r));
  c = Math.max(0, Math.min(grid.columnItems.length - 1, c));
  grid.active = [r, c];
  const view = grid.view;
  const [x, y] = [c * grid.columnWidth, r * grid.rowHeight];
  const [w, height] = [view.clientWidth - grid.head, view.clientHeight - grid.top];
  if (y < view.scrollTop) view.scrollTop = y;
  else if (y + grid.rowHeight > view.scrollTop + height) view.scrollTop = y + grid.rowHeight - height;
  if (x < view.scrollLeft) view.scrollLeft = x;
  else if (x + grid.columnWidth > view.scrollLeft + w) view.scrollLeft = x + grid.columnWidth - w;
  fillGrid();
  const tile = grid.shown.get(r)?.tiles.get(c);
  tile?.setAttribute("tabindex", "0");
  if (focus) tile?.focus({ preventScroll: true });
}

/** The next picture from the active cell in a direction, stepping over holes; null at the edge. */
function neighbour(dr, dc) {
  let [r, c] = grid.active;
  for (;;) {
    r += dr;
    c += dc;
    if (r < 0 || c < 0 || r >= grid.rowItems.length || c >= grid.columnItems.length) return null;
    const { picture } = placeAt(r, c);
    if (picture && !picture.missing) {
      activate(r, c, false);
      return picture;
    }
  }
}

/** Mark the picture that others are compared with, in place of the baseline's; again to take the mark away. */
function pin(picture) {
  choose({ pinned: !picture || picture.missing || chosen.pinned === picture ? null : picture });
}

function drawPin() {
  const p = chosen.pinned;
  const partner = BASELINE ? "the baseline's picture of the same prompt and seed" : "nothing yet: mark a picture with A or shift-click";
  grid.pin.replaceChildren(
    h("span", {}, "Compared with: ", p ? h("b", {}, `${ARM_BY_ID.get(p.arm)?.label}, ${shortened(promptText(p.prompt_id), 60)}, seed ${p.seed}`) : partner),
    p ? h("button", { type: "button", id: "unpin", onclick: () => pin(null) }, BASELINE ? "Use the baseline again" : "Take the mark away") : ""
  );
}

watch((change) => {
  if (!grid.view) return;
  if ("metric" in change) buildGrid();
  if ("pinned" in change) {
    drawPin();
    for (const row of grid.shown.values()) for (const tile of row.tiles.values()) tile.classList.toggle("pinned", pictureOf(tile) === chosen.pinned && chosen.pinned !== null);
  }
});

function pictureOf(tile) {
  return placeAt(Number(tile.dataset.r), Number(tile.dataset.c)).picture;
}
