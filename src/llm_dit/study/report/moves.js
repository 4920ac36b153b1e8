// Moving in the grid by pointer and keys, and the picture that is marked for others to be compared with.

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
  const steps = {
    ArrowUp: [-1, 0],
    ArrowDown: [1, 0],
    ArrowLeft: [0, -1],
    ArrowRight: [0, 1],
    Home: [0, -Infinity],
    End: [0, Infinity],
    PageUp: [-4, 0],
    PageDown: [4, 0],
  };
  const step = steps[event.key];
  const at = tileOf(event);
  if (at) grid.active = [at[0], at[1]];
  const { picture } = placeAt(...grid.active);
  if (step) activate(grid.active[0] + step[0], grid.active[1] + step[1]);
  else if ((event.key === "Enter" || event.key === " ") && picture && !picture.missing)
    openViewer(picture, { fromGrid: true });
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
  const partner = BASELINE
    ? "the baseline's picture of the same prompt and seed"
    : "nothing yet: mark a picture with A or shift-click";
  grid.pin.replaceChildren(
    h(
      "span",
      {},
      "Compared with: ",
      p
        ? h("b", {}, `${ARM_BY_ID.get(p.arm)?.label}, ${shortened(promptText(p.prompt_id), 60)}, seed ${p.seed}`)
        : partner,
    ),
    p
      ? h(
          "button",
          { type: "button", id: "unpin", onclick: () => pin(null) },
          BASELINE ? "Use the baseline again" : "Take the mark away",
        )
      : "",
  );
}

watch((change) => {
  if (!grid.view) return;
  if ("metric" in change) buildGrid();
  if ("pinned" in change) {
    drawPin();
    for (const row of grid.shown.values())
      for (const tile of row.tiles.values())
        tile.classList.toggle("pinned", pictureOf(tile) === chosen.pinned && chosen.pinned !== null);
  }
});

function pictureOf(tile) {
  return placeAt(Number(tile.dataset.r), Number(tile.dataset.c)).picture;
}
