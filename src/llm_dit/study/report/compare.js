// Two pictures compared: side by side, by a slider, by flipping, by their difference.
//
// A page opened from disk may show other files but may not read their pixels. The difference is therefore made by the
// browser's own blending of the full pictures, which needs no reading; the number under it is read from the small
// pictures inside the page, and says so.

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
      if (stage && !stage.nextElementSibling?.classList.contains("small-note"))
        stage.after(
          h(
            "p",
            { class: "note small-note" },
            "The full picture is not beside this page; shown is the small one inside it.",
          ),
        );
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
  return h(
    "span",
    { class: "name" },
    letter ? h("b", { class: "letter" }, letter) : "",
    shortened(arm.label, 80),
    arm === BASELINE ? h("span", { class: "badge" }, "baseline") : "",
    h("span", { class: "muted" }, `seed ${picture.seed}`),
  );
}

const VIEWS = {
  one(stage) {
    stage.append(h("div", { class: "pane" }, large(viewer.b, "b")));
  },

  side(stage) {
    stage.append(
      ...[
        ["a", "A"],
        ["b", "B"],
      ].map(([key, letter]) =>
        h(
          "figure",
          {},
          h("div", { class: "pane" }, large(viewer[key], key)),
          h("figcaption", {}, nameOf(viewer[key], letter)),
        ),
      ),
    );
  },

  slider(stage, controls) {
    const pane = h(
      "div",
      { class: "pane stacked" },
      large(viewer.a, "a"),
      large(viewer.b, "b"),
      h("span", { class: "edge" }),
    );
    const range = h("input", {
      type: "range",
      min: 0,
      max: 100,
      step: 0.5,
      value: viewer.cut,
      "aria-label": "Where A ends and B begins",
      oninput: () => set(Number(range.value)),
    });
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
    pane.addEventListener("pointerdown", (event) => {
      pane.setPointerCapture(event.pointerId);
      drag(event);
    });
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
    const range = h("input", {
      type: "range",
      id: "gain",
      min: 1,
      max: 16,
      step: 1,
      value: viewer.gain,
      "aria-label": "Amplification",
      oninput: () => set(Number(range.value)),
    });
    const set = (gain) => {
      viewer.gain = gain;
      pane.style.setProperty("--gain", gain);
      text.textContent = `\u00d7\u202f${gain}`;
    };
    set(viewer.gain);
    stage.append(pane);
    const number = h("p", { class: "note", id: "difference-number" }, "\u2026");
    controls.append(
      h("label", { class: "field" }, h("span", {}, "Amplified"), range),
      text,
      h("span", { class: "muted" }, "|A \u2212 B|, black where equal"),
      number,
    );
    const { a, b } = viewer;
    meanDifference(a, b).then(
      (found) =>
        (number.textContent =
          found === null
            ? "No number: one of the two has no small picture inside this page, and files may not be read from it."
            : `Mean absolute difference ${found.mean.toFixed(2)} of 255, read from the small pictures inside the page (${found.width} \u00d7 ${found.height}, WebP).`),
      (error) => (number.textContent = `No number: ${error.message}`),
    );
  },
};

/** Mean absolute difference of two pictures' pixels, from the embedded ones; null without them. */
async function meanDifference(a, b) {
  const [first, second] = [thumbOf(a), thumbOf(b)];
  if (!first || !second) return null;
  const images = await Promise.all(
    [first, second].map(async (src) => {
      const image = new Image();
      image.src = src;
      await image.decode();
      return image;
    }),
  );
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
