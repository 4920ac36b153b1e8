// The grid of pictures: any fields on rows and columns, the rest as pages. Only the cells in sight have elements.

const GAP = 8;
const CAPTION = 20;
const OVERSCAN = 1;
const SIZES = [64, 96, 128, 176, 256];

const grid = {
  ...firstLayout(),
  pages: {},
  size: innerWidth < 600 ? 96 : 128,
  category: "",
  text: "",
  rowItems: [],
  columnItems: [],
  active: [0, 0],
  shown: new Map(),
};

function drawGrid() {
  const section = byId("pictures");
  heading(
    section,
    "Pictures",
    "Choose what stands on rows and columns. Point at a picture for its record; open it to compare it.",
  );
  if (!PICTURES.length) {
    section.append(h("p", { class: "muted" }, "No picture has been drawn yet."));
    return;
  }
  grid.controls = h("div", { class: "controls grid-controls" });
  grid.pager = h("div", { class: "controls pager" });
  grid.pin = h("div", { class: "controls pin" });
  grid.said = h("p", { class: "note", role: "status" });
  grid.inner = h("div", { class: "grid-inner" });
  grid.view = h(
    "div",
    {
      class: "grid",
      id: "grid",
      role: "grid",
      "aria-label": "Pictures",
      onscroll: () => requestAnimationFrame(fillGrid),
      onkeydown: gridKey,
      onclick: gridClick,
      onpointerover: gridHover,
      onpointerleave: hideTip,
      onfocusin: gridHover,
      onfocusout: hideTip,
    },
    grid.inner,
  );
  section.append(grid.controls, grid.pager, grid.pin, grid.view, grid.said);
  drawGridControls();
  drawPin();
  buildGrid();
  new ResizeObserver(() => fillGrid()).observe(grid.view);
}

function drawGridControls() {
  const slot = (label, side, i) => {
    const options = FIELDS.filter((f) => f.values.length > 1 || grid[side][i] === f.key).map((f) => [f.key, f.name]);
    return choice(
      label,
      i ? [["", "nothing"], ...options] : options,
      grid[side][i] || "",
      (key) => {
        Object.assign(grid, relayout(grid, side, i, key || null), { active: [0, 0] });
        drawGridControls();
        buildGrid(true);
        grid.controls.querySelector(`#${side}-${i}`)?.focus();
      },
      { id: `${side}-${i}` },
    );
  };
  const categories = [...new Set(PROMPTS.map((p) => p.category).filter(Boolean))];
  const search = h("input", {
    type: "search",
    id: "prompt-filter",
    value: grid.text,
    placeholder: "words of the prompt",
    oninput: () => refilter({ text: search.value }),
  });
  grid.controls.replaceChildren(
    slot("Rows", "rows", 0),
    slot("within", "rows", 1),
    slot("Columns", "columns", 0),
    slot("within", "columns", 1),
    categories.length > 1
      ? choice(
          "Category",
          [["", "all"], ...categories.map((c) => [c, c])],
          grid.category,
          (category) => refilter({ category }),
          { id: "category-filter" },
        )
      : "",
    PROMPTS.length > 1 ? h("label", { class: "field" }, h("span", {}, "Filter"), search) : "",
    choice(
      "Size",
      SIZES.map((x) => [String(x), `${x} px`]),
      String(grid.size),
      (x) => {
        grid.size = Number(x);
        buildGrid();
      },
      { id: "size" },
    ),
  );
}

function refilter(change) {
  Object.assign(grid, change, { active: [0, 0] });
  buildGrid(true);
}

/** Which prompts the filters leave. */
function keptPrompts() {
  const words = grid.text.toLowerCase().split(/\s+/).filter(Boolean);
  return new Set(
    PROMPTS.filter(
      (p) =>
        (!grid.category || p.category === grid.category) &&
        words.every((w) => `${p.prompt} ${p.id}`.toLowerCase().includes(w)),
    ).map((p) => p.id),
  );
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
  const lines = Math.max(
    1,
    ...grid.columnItems
      .slice(0, 200)
      .map((c) => c.texts.reduce((n, t) => n + Math.min(3, Math.ceil((measure(t, 12) + 8) / (grid.size * 0.9))), 0)),
  );
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
  grid.columnHead = h(
    "div",
    {
      class: "grid-columns",
      role: "row",
      "aria-rowindex": "1",
      style: { height: `${grid.top}px`, width: `${width}px` },
    },
    h("div", { class: "grid-corner", role: "columnheader" }, sideName("rows"), h("br"), sideName("columns")),
  );
  grid.inner.replaceChildren(grid.columnHead);
  if (toTop) grid.view.scrollTo(0, 0);
  fillGrid();
  const empty = !grid.rowItems.length || !grid.columnItems.length;
  grid.said.textContent = empty
    ? "No prompt matches the filter."
    : `${count(grid.rowItems.length, "row")} and ${count(grid.columnItems.length, "column")}. Arrow keys move, Enter opens, A marks a picture to compare others with.`;
  grid.view.dataset.took = (performance.now() - began).toFixed(1);
}

function sideName(side) {
  return `${side === "rows" ? "\u2193" : "\u2192"} ${grid[side]
    .filter(Boolean)
    .map((key) => shortened(FIELD.get(key).name.split(".").pop(), 16))
    .join(", ")}`;
}

/** Width by height of most pictures, so that frames fit them. */
let pictureRatio = null;
function ratioOfPictures() {
  if (pictureRatio) return pictureRatio;
  const counts = groupBy(
    PICTURES.filter((p) => p.width && p.height),
    (p) => p.width / p.height,
  );
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
  const turn = (f) =>
    choice(
      f.name,
      f.values.map((v) => [v.id, shortened(v.text, 70)]),
      grid.pages[f.key],
      (id) => {
        grid.pages[f.key] = id;
        buildGrid();
        byId(`page ${f.key}`)?.focus();
      },
      { id: `page ${f.key}` },
    );
  const index = open.reduce((n, f) => n * f.values.length + f.values.findIndex((v) => v.id === grid.pages[f.key]), 0);
  grid.pager.replaceChildren(
    ...(open.length
      ? [
          h("span", { class: "pager-name" }, "Page"),
          ...open.map(turn),
          h("button", { type: "button", id: "page-back", onclick: step(-1), "aria-label": "Previous page" }, "\u2190"),
          h("button", { type: "button", id: "page-on", onclick: step(1), "aria-label": "Next page" }, "\u2192"),
          h("span", { class: "muted num", id: "page-number" }, `${grouped(index + 1)} of ${grouped(pages)}`),
        ]
      : []),
  );
}

/** The first value shown of a field on the pages: the baseline's on an axis, otherwise the first. */
function firstOf(field) {
  if (!field.values.length) return null;
  const wanted = !BASELINE
    ? null
    : field.kind === "axis"
      ? field.of(BASELINE)
      : field.kind === "arm"
        ? BASELINE.id
        : null;
  return field.values.some((v) => v.id === wanted) ? wanted : field.values[0].id;
}
