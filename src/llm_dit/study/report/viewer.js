// One picture large, with its record; or two compared, in one of the ways of compare.js.

const MODES = [
  ["one", "Picture"],
  ["side", "Side by side"],
  ["slider", "Slider"],
  ["flip", "Flip"],
  ["difference", "Difference"],
];
const viewer = { b: null, a: null, mode: "one", flipped: false, cut: 50, gain: 4, fromGrid: false };

function openViewer(picture, { against, mode, fromGrid = false } = {}) {
  hideTip();
  Object.assign(viewer, {
    b: picture,
    a: against === undefined ? defaultPartner(picture) : against,
    flipped: false,
    fromGrid,
  });
  if (mode) viewer.mode = mode;
  drawViewer();
  if (byId("viewer").open) return;
  byId("viewer").showModal();
  byId("viewer").querySelector("[aria-pressed=true]").focus();
}

/** What a picture is compared with: the marked one, else the baseline's of the same prompt and seed. */
function defaultPartner(picture) {
  return chosen.pinned && chosen.pinned !== picture ? chosen.pinned : partnerOf(picture);
}

function drawViewer() {
  const { a, b } = viewer;
  const mode = a ? viewer.mode : "one";
  const tabs = MODES.map(([key, name]) =>
    h(
      "button",
      {
        type: "button",
        "data-mode": key,
        "aria-pressed": String(mode === key),
        disabled: key !== "one" && !a,
        onclick: () => {
          viewer.mode = key;
          viewer.flipped = false;
          drawViewer();
          byId("viewer").querySelector(`[data-mode=${key}]`).focus();
        },
      },
      name,
    ),
  );
  const ratio = b.width && b.height ? b.width / b.height : 1;
  const stage = h("div", {
    class: `stage ${mode}`,
    style: { "--ratio": ratio, "--natural": `${Math.max(480, b.width || 0)}px` },
  });
  const controls = h("div", { class: "controls viewer-controls" });
  const close = h("button", { type: "button", class: "close", onclick: () => byId("viewer").close() }, "Close");
  byId("viewer").replaceChildren(
    h("header", {}, h("h2", { id: "viewer-title", title: promptText(b.prompt_id) }, promptText(b.prompt_id)), close),
    h("div", { class: "tabs", role: "group", "aria-label": "How to look" }, tabs),
    stage,
    controls,
    why(a, b),
    records(mode === "one" ? null : a, b),
    h(
      "footer",
      { class: "controls" },
      chosen.pinned === b
        ? h(
            "button",
            {
              type: "button",
              onclick: () => {
                pin(null);
                viewer.a = partnerOf(b);
                drawViewer();
              },
            },
            "Stop comparing others with this",
          )
        : h(
            "button",
            {
              type: "button",
              id: "use-as-a",
              onclick: () => {
                pin(b);
                byId("viewer").close();
              },
            },
            "Compare others with this one",
          ),
      fileOf(b) ? h("a", { href: fileOf(b), target: "_blank", rel: "noopener", class: "button" }, "Open the file") : "",
    ),
  );
  VIEWS[mode](stage, controls);
  const dialog = byId("viewer");
  // What had the focus is gone with the old content; keys must still reach the dialog.
  if (dialog.open && !dialog.contains(document.activeElement)) dialog.querySelector("[aria-pressed=true]").focus();
}

function why(a, b) {
  if (a) {
    const words = [];
    if (a.pixels && a.pixels === b.pixels) words.push("The two pictures are equal, pixel by pixel.");
    if (a.prompt_id !== b.prompt_id) words.push("They are of different prompts.");
    if (a.seed !== b.seed) words.push("They have different seeds.");
    if (a.width && (a.width !== b.width || a.height !== b.height))
      words.push("They have different sizes; the first is stretched over the second.");
    return words.length ? h("p", { class: "note" }, words.join(" ")) : "";
  }
  if (!BASELINE)
    return h("p", { class: "note" }, "There is no baseline. To compare two pictures, mark one of them first.");
  if (b.arm === BASELINE.id)
    return h("p", { class: "note" }, "This is the baseline. To compare it with another, open that one.");
  return h("p", { class: "note" }, "The baseline has no picture of this prompt and seed to compare with.");
}

/** The records of one picture or two; what differs is set off. */
function records(a, b) {
  const pictures = a ? [a, b] : [b];
  const rows = pictures.map((p) => {
    const arm = ARM_BY_ID.get(p.arm);
    const scores = METRICS.map((m) => [m.name, isNumber(p.scores?.[m.name]) ? plain(p.scores[m.name]) : "no score"]);
    const axes = Object.entries(arm.axes || {}).map(([k, v]) => [k, shortened(valueText(v), 300)]);
    return new Map(
      [
        ["arm", shortened(arm.label, 300)],
        ...axes,
        ...scores,
        ...factsOf(p),
        ["device", [p.device, p.dtype].filter(Boolean).join(", ")],
        ["pixels", p.pixels || null],
      ].filter(([, v]) => v),
    );
  });
  const keys = [...new Set(rows.flatMap((r) => [...r.keys()]))];
  const body = keys.map((k) => {
    const values = rows.map((r) => r.get(k) ?? NONE);
    return h(
      "tr",
      { class: a && values[0] !== values[1] ? "differs" : "" },
      h("th", { scope: "row" }, k),
      values.map((v) => h("td", { class: "text" }, v)),
    );
  });
  return h(
    "div",
    { class: "scroll" },
    h(
      "table",
      { class: "plain record" },
      a
        ? h(
            "thead",
            {},
            h(
              "tr",
              {},
              h("th", {}),
              h("th", { scope: "col", class: "text" }, "A"),
              h("th", { scope: "col", class: "text" }, "B"),
            ),
          )
        : "",
      h("tbody", {}, body),
    ),
  );
}

function startViewer() {
  const dialog = byId("viewer");
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => {
    viewer.flip = null;
    if (viewer.fromGrid) activate(...grid.active);
  });
  dialog.addEventListener("keydown", (event) => {
    if (event.key.toLowerCase() === "f" && viewer.mode === "flip" && viewer.a && !event.repeat) viewer.flip(true);
    const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (!steps || !viewer.fromGrid || event.target.matches("input, select")) return;
    event.preventDefault();
    const next = neighbour(...steps);
    if (next) openViewer(next, { fromGrid: true });
  });
  dialog.addEventListener(
    "keyup",
    (event) => event.key.toLowerCase() === "f" && viewer.mode === "flip" && viewer.a && viewer.flip(false),
  );
}
