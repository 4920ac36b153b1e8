// Building elements. Text enters as text alone: nothing in this page ever parses markup.

const SVG_NAMESPACE = "http://www.w3.org/2000/svg";

function byId(id) {
  return document.getElementById(id);
}

/** An HTML element. props: class, style (an object), onEVENT (a function), and attributes; null and false are left out. */
function h(tag, props, ...children) {
  return dress(document.createElement(tag), props, children);
}

/** The same for SVG. */
function s(tag, props, ...children) {
  return dress(document.createElementNS(SVG_NAMESPACE, tag), props, children);
}

function dress(element, props, children) {
  for (const [name, value] of Object.entries(props || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "style") {
      for (const [key, x] of Object.entries(value)) element.style.setProperty(key, x);
    } else if (typeof value === "function") {
      element.addEventListener(name.slice(2), value);
    } else {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
  element.append(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false));
  return element;
}

/** A labelled select. options: [value, text] pairs, or {group, options}. */
function choice(label, options, chosen, onchange, props) {
  const option = ([value, text]) => h("option", { value, selected: value === chosen }, text);
  const parts = options.map((o) =>
    Array.isArray(o) ? option(o) : h("optgroup", { label: o.group }, o.options.map(option)),
  );
  const select = h("select", { onchange: () => onchange(select.value), ...props }, parts);
  return h("label", { class: "field" }, h("span", {}, label), select);
}

/** The heading of a section, and a line under it. */
function heading(section, title, lead) {
  const id = `${section.id}-title`;
  section.replaceChildren(h("h2", { id }, title), lead ? h("p", { class: "lead" }, lead) : "");
}

/** A name cut to a length, whole in its title; one without spaces may be broken after its dots and signs. */
function nameText(name, most = 90) {
  const pieces = shortened(name, most).split(/\s/.test(name) ? /(?<=\/)/ : /(?<=[._=/])/);
  return h(
    "span",
    { class: "arm-name", title: [...String(name)].length > most ? shortened(name, 600) : null },
    pieces.flatMap((piece, i) => (i ? [h("wbr"), piece] : [piece])),
  );
}

/** Run one part of the page; a part that fails says so in its place and leaves the others alone. */
function guarded(element, draw) {
  try {
    draw();
  } catch (error) {
    console.error(error);
    element.append(h("p", { class: "warning" }, `This part could not be drawn: ${error.message}`));
  }
}

let tipBeside = null;

/** Show the floating box beside an element, and keep it there while the page scrolls. */
function showTip(element, content) {
  const tip = byId("tip");
  tip.replaceChildren(content);
  tip.hidden = false;
  tipBeside = element;
  place(tip, element.getBoundingClientRect());
}

function hideTip() {
  byId("tip").hidden = true;
  tipBeside = null;
}

addEventListener(
  "scroll",
  () => tipBeside && (tipBeside.isConnected ? place(byId("tip"), tipBeside.getBoundingClientRect()) : hideTip()),
  { capture: true, passive: true },
);

/** The short text beside the pointer or the focused mark; told is a function that gives it. */
function explained(element, told) {
  const show = () => showTip(element, told());
  element.addEventListener("pointerenter", show);
  element.addEventListener("pointerleave", hideTip);
  element.addEventListener("focus", show);
  element.addEventListener("blur", hideTip);
  return element;
}

/** Put a floating box beside a rectangle, inside the window. */
function place(box, beside) {
  const size = box.getBoundingClientRect();
  const room = 8;
  let x = beside.right + room;
  if (x + size.width > innerWidth - room) x = beside.left - size.width - room;
  if (x < room) x = Math.max(room, Math.min(beside.left, innerWidth - size.width - room));
  let y = Math.min(Math.max(beside.top, room), innerHeight - size.height - room);
  if (x < beside.right && x + size.width > beside.left) {
    y = beside.bottom + room + size.height < innerHeight ? beside.bottom + room : beside.top - size.height - room;
  }
  box.style.left = `${x}px`;
  box.style.top = `${Math.max(room, y)}px`;
}
