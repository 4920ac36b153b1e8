// One picture large, with its record; or two compared: side by side, by a slider, by flipping, by their difference.
//
// A page opened from disk may show other files but may not read their pixels. The difference is therefore made by the
// browser's own blending of the full pictures, which needs no reading; the number under it is read from the small
// pictures inside the page, and says so.

const MODES = [["one", "Picture"], ["side", "Side by side"], ["slider", "Slider"], ["flip", "Flip"], ["difference", "Difference"]];
const viewer = { b: null, a: null, mode: "one", flipped: false, cut: 50, gain: 4, fromGrid: false };

function openViewer(picture, { against, mode, fromGrid = false } = {}) {
  hideTip();
  Object.assign(viewer, { b: picture, a: against === undefined ? defaultPartner(picture) : against, flipped: false, fromGrid });
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
  const tabs = MODES.map(([key, name]) => h("button", { type: "button", "data-mode": key, "aria-pressed": String(mode === key), disabled: key !== "one" && !a, onclick: () => { viewer.mode = key; viewer.flipped = false; drawViewer(); byId("viewer").querySelector(`[data-mode=${key}]`).focus(); } }, name));
  const ratio = b.width && b.height ? b.width / b.height : 1;
  const stage = h("div", { class: `stage ${mode}`, style: { "--ratio": ratio, "--natural": `${Math.max(480, b.width || 0)}px` } });
  const controls = h("div", { class: "controls viewer-controls" });
  const close = h("button", { type: "button", class: "close", onclick: () => byId("viewer").close() }, "Close");
  byId("viewer").replaceChildren(
    h("header", {}, h("h2", { id: "viewer-title", title: promptText(b.prompt_id) }, promptText(b.prompt_id)), close),
    h("div", { class: "tabs", role: "group", "aria-label": "How to look" }, tabs),
    stage,
    controls,
    why(a, b),
    records(mode === "one" ? null : a, b),
    h("footer", { class: "controls" }, chosen.pinned === b ? h("button", { type: "button", onclick: () => { pin(null); viewer.a = partnerOf(b); drawViewer(); } }, "Stop comparing others with this") : h("button", { type: "button", id: "use-as-a", onclick: () => { pin(b); byId("viewer").close(); } }, "Compare others with this one"), fileOf(b) ? h("a", { href: fileOf(b), target: "_blank", rel: "noopener", class: "button" }, "Open the file") : "")
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
    if (a.width && (a.width !== b.width || a.height !== b.height)) words.push("They have different sizes; the first is stretched over the second.");
    return words.length ? h("p", { class: "note" }, words.join(" ")) : "";
  }
  if (!BASELINE) return h("p", { class: "note" }, "There is no baseline. To compare two pictures, mark one of them first.");
  if (b.arm === BASELINE.id) return h("p", { class: "note" }, "This is the baseline. To compare it with another, open that one.");
  return h("p", { class: "note" }, "The baseline has no picture of this prompt and seed to compare with.");
}

/** The full picture; the small one where the file is not beside the page; words where there is neither. */
function large(picture, name) {
  const holder = h("span", { class: `layer ${name}` });
  const image = h("img", { alt: `${ARM_BY_ID.get(picture.arm)?.label}, seed ${picture.seed}`, draggable: "false" });
  const small = thumbOf(picture);
  image.addEventListener("error", () => {
    if (small && image.src !== small) {
      image.src = small;
      holder.classList.add("is-small");
      const stage = holder.closest(".stage");
      if (stage && !stage.nextElementSibling?.classList.contains("small-note")) stage.after(h("p", { class: "note small-note" }, "The full picture is not beside this page; shown is the small one inside it."));
    } else {
      image.replaceWith(h("span", { class: "hole" }, "cannot be read"));
    }
  });
  image.src = fileOf(picture) || small || "";
  holder.append(image);
  return holder;
}

function nameOf(picture, letter) {
  const arm = ARM_BY_ID.get(picture.arm);
  return h("span", { class: "name" }, letter ? h("b", { class: "letter" }, letter) : "", shortened(arm.label, 80), arm === BASELINE ? h("span", { class: "badge" }, "baseline") : "", h("span", { class: "muted" }, `seed ${picture.seed}`));
}

const VIEWS = {
  one(stage) {
    stage.append(h("div", { class: "pane" }, large(viewer.b, "b")));
  },

  side(stage) {
    stage.append(...[["a", "A"], ["b", "B"]].map(([key, letter]) => h("figure", {}, h("div", { class: "pane" }, large(viewer[key], key)), h("figcaption", {}, nameOf(viewer[key], letter)))));
  },

  slider(stage, controls) {
    const pane = h("div", { class: "pane stacked" }, large(viewer.a, "a"), large(viewer.b, "b"), h("span", { class: "edge" }));
    const range = h("input", { type: "range", min: 0, max: 100, step: 0.5, value: viewer.cut, "aria-label": "Where A ends and B begins", oninput: () => set(Number(range.value)) });
    const set = (cut) => {
      viewer.cut = Math.min(100, Math.max(0, cut));
      range.value = viewer.cut;
      pane.style.setProperty("--cut", `${viewer.cut}%`);
    };
    const drag = (event) => {
      if (event.type === "pointermove" && !event.buttons) return;
      const box = pane.getBoundingClientRect();
      set((100 * (event.clientX - box.left)) / box.width);
    };
    pane.addEventListener("pointerdown", (event) => { pane.setPointerCapture(event.pointerId); drag(event); });
    pane.addEventListener("pointermove", drag);
    set(viewer.cut);
    stage.append(pane);
    controls.append(nameOf(viewer.a, "A"), range, nameOf(viewer.b, "B"));
  },

  flip(stage, controls) {
    const pane = h("div", { class: "pane stacked flipping" }, large(viewer.b, "b"), large(viewer.a, "a"));
    const button = h("button", { type: "button", id: "flip", onclick: () => viewer.flip(!viewer.flipped) });
    const shown = h("span", { role: "status" });
    viewer.flip = (on) => {
      viewer.flipped = on;
      pane.classList.toggle("show-a", on);
      button.textContent = on ? "Show B" : "Show A";
      shown.replaceChildren(on ? nameOf(viewer.a, "A") : nameOf(viewer.b, "B"));
    };
    pane.addEventListener("click", () => viewer.flip(!viewer.flipped));
    viewer.flip(viewer.flipped);
    stage.append(pane);
    controls.append(button, shown, h("span", { class: "muted" }, "or hold F"));
  },

  difference(stage, controls) {
    const pane = h("div", { class: "pane stacked blended" }, large(viewer.a, "a"), large(viewer.b, "b"));
    const text = h("span", { class: "num" });
    const range = h("input", { type: "range", id: "gain", min: 1, max: 16, step: 1, value: viewer.gain, "aria-label": "Amplification", oninput: () => set(Number(range.value)) });
    const set = (gain) => {
      viewer.gain = gain;
      pane.style.setProperty("--gain", gain);
      text.textContent = `\u00d7\u202f${gain}`;
    };
    set(viewer.gain);
    stage.append(pane);
    const number = h("p", { class: "note", id: "difference-number" }, "\u2026");
    controls.append(h("label", { class: "field" }, h("span", {}, "Amplified"), range), text, h("span", { class: "muted" }, "|A \u2212 B|, black where equal"), number);
    const { a, b } = viewer;
    meanDifference(a, b).then(
      (found) => (number.textContent = found === null ? "No number: one of the two has no small picture inside this page, and files may not be read from it." : `Mean absolute difference ${found.mean.toFixed(2)} of 255, read from the small pictures inside the page (${found.width} \u00d7 ${found.height}, WebP).`),
      (error) => (number.textContent = `No number: ${error.message}`)
    );
  },
};

/** Mean absolute difference of two pictures' pixels, from the embedded ones; null without them. */
async function meanDifference(a, b) {
  const [first, second] = [thumbOf(a), thumbOf(b)];
  if (!first || !second) return null;
  const images = await Promise.all([first, second].map(async (src) => {
    const image = new Image();
    image.src = src;
    await image.decode();
    return image;
  }));
  const [width, height] = [images[1].naturalWidth, images[1].naturalHeight];
  const pixels = images.map((image) => {
    const canvas = h("canvas", { width, height });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0, width, height);
    return context.getImageData(0, 0, width, height).data;
  });
  let sum = 0;
  for (let i = 0; i < pixels[0].length; i++) if (i % 4 !== 3) sum += Math.abs(pixels[0][i] - pixels[1][i]);
  return { mean: sum / (width * height * 3), width, height };
}

/** The records of one picture or two; what differs is set off. */
function records(a, b) {
  const pictures = a ? [a, b] : [b];
  const rows = pictures.map((p) => {
    const arm = ARM_BY_ID.get(p.arm);
    const scores = METRICS.map((m) => [m.name, isNumber(p.scores?.[m.name]) ? plain(p.scores[m.name]) : "no score"]);
    const axes = Object.entries(arm.axes || {}).map(([k, v]) => [k, shortened(valueText(v), 300)]);
    return new Map([["arm", shortened(arm.label, 300)], ...axes, ...scores, ...factsOf(p), ["device", [p.device, p.dtype].filter(Boolean).join(", ")], ["pixels", p.pixels || null]].filter(([, v]) => v));
  });
  const keys = [...new Set(rows.flatMap((r) => [...r.keys()]))];
  const body = keys.map((k) => {
    const values = rows.map((r) => r.get(k) ?? NONE);
    return h("tr", { class: a && values[0] !== values[1] ? "differs" : "" }, h("th", { scope: "row" }, k), values.map((v) => h("td", { class: "text" }, v)));
  });
  return h("div", { class: "scroll" }, h("table", { class: "plain record" }, a ? h("thead", {}, h("tr", {}, h("th", {}), h("th", { scope: "col", class: "text" }, "A"), h("th", { scope: "col", class: "text" }, "B"))) : "", h("tbody", {}, body)));
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
  dialog.addEventListener("keyup", (event) => event.key.toLowerCase() === "f" && viewer.mode === "flip" && viewer.a && viewer.flip(false));
}
