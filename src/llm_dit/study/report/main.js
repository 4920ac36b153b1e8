// Starting the page: what is seen first is drawn first, the rest as soon as the browser has time.

const PARTS = [
  ["arms", "Arms", drawArms],
  ["plots", "Plots", drawPlots],
  ["versus", "Against the baseline", drawVersus],
  ["pictures", "Pictures", drawGrid],
  ["noise", "Noise", drawNoise],
  ["method", "Method", drawMethod],
];

function drawBar() {
  byId("nav").replaceChildren(...PARTS.map(([id, name]) => h("a", { href: `#${id}` }, name)));
  const tools = [];
  if (METRICS.length) {
    const named = (list) => list.map((m) => [m.name, m.name]);
    const primary = METRICS.filter((m) => m.name === PRIMARY);
    const others = METRICS.filter((m) => m.name !== PRIMARY);
    const options = [
      ...(primary.length ? [{ group: "primary", options: named(primary) }] : []),
      ...(others.length ? [{ group: "exploratory", options: named(others) }] : []),
    ];
    tools.push(choice("Metric", options, chosen.metric, (metric) => choose({ metric }), { id: "metric" }));
  }
  const dark = () =>
    (document.documentElement.dataset.theme ||
      (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const theme = h("button", {
    type: "button",
    id: "theme",
    onclick: () => {
      setTheme(dark() ? "light" : "dark");
      say();
    },
  });
  const say = () => (theme.textContent = dark() ? "Light" : "Dark");
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", say);
  say();
  byId("tools").replaceChildren(...tools, theme);
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem("llm-dit-theme", theme);
  } catch {
    // A browser that keeps nothing for files forgets the choice, and that is all.
  }
}

try {
  const kept = localStorage.getItem("llm-dit-theme");
  if (kept === "dark" || kept === "light") document.documentElement.dataset.theme = kept;
} catch {
  // As above.
}

for (const [id, , draw] of PARTS.slice(0, 3)) {
  watch((change) => {
    if ("metric" in change || (id === "versus" && "arm" in change)) guarded(byId(id), draw);
  });
}
watch((change) => "metric" in change && guarded(byId("noise"), drawNoise));

guarded(byId("summary"), drawBar);
guarded(byId("findings"), drawSummary);
guarded(byId("arms"), drawArms);
startViewer();

// The blocks of small pictures come after this script, and the first paint need not wait for them.
const begin = () => {
  for (const [id, , draw] of PARTS.slice(1)) guarded(byId(id), draw);
  document.documentElement.dataset.ready = performance.now().toFixed(0);
};
if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", begin);
else begin();
