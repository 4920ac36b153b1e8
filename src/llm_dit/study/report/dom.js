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
  const parts = options.map((o) => (Array.isArray(o) ? option(o) : h("optgroup", { label: o.group }, o.options.map(option))));
  const select = h("select", { onchange: () => onchange(select.value), ...props }, parts);
  return h("label", { class: "field" }, h("span", {}, label), select);
}

/** The heading of a section, and a line under it. */
function heading(section, title, lead) {
  const id = `${section.id}-title`;
  section.replaceChildren(h("h2", { id }, title), lead ? h("p", { class: "lead" }, lead) : "");
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

/** The short text beside the pointer or the focused mark; told is a function that gives it. */
function explained(element, told) {
  const tip = byId("tip");
  const show = () => {
    tip.replaceChildren(told());
    tip.hidden = false;
    place(tip, element.getBoundingClientRect());
  };
  const hide = () => (tip.hidden = true);
  element.addEventListener("pointerenter", show);
  element.addEventListener("pointerleave", hide);
  element.addEventListener("focus", show);
  element.addEventListener("blur", hide);
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
