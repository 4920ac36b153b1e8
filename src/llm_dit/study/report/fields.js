// What the grid of pictures can be laid out by: the swept axes, the sweep, the arm as a whole, prompt and seed.

const FIELDS = makeFields();
const FIELD = new Map(FIELDS.map((f) => [f.key, f]));
// Fields that, together, say which arm is meant; "arm" says it alone.
const ARM_FIELDS = FIELDS.filter((f) => f.kind === "axis").map((f) => f.key);
const ARM_AT = new Map(ARMS.map((arm) => [ARM_FIELDS.map((key) => FIELD.get(key).of(arm)).join("\n"), arm]));

function makeFields() {
  const axis = (key, name, of) => {
    const values = new Map(ARMS.map((arm) => [JSON.stringify(of(arm) ?? null), of(arm)]));
    return {
      key,
      name,
      kind: "axis",
      of: (arm) => JSON.stringify(of(arm) ?? null),
      values: [...values].map(([id, v]) => ({ id, text: valueText(v) })),
    };
  };
  let axes = AXES.map((name) => axis(`axis ${name}`, name, (arm) => arm.axes?.[name]));
  if (SWEEPS.length > 1) axes.push(axis("sweep", "sweep", (arm) => arm.sweep));
  const places = new Set(ARMS.map((arm) => axes.map((f) => f.of(arm)).join("\n")));
  if (places.size < ARMS.length) axes = []; // arms that share all their values: only their names tell them apart
  return [
    ...axes,
    { key: "arm", name: "arm", kind: "arm", values: ARMS.map((a) => ({ id: a.id, text: armName(a) })) },
    {
      key: "prompt",
      name: "prompt",
      kind: "prompt",
      values: PROMPTS.map((p) => ({ id: p.id, text: p.prompt || p.id, note: p.category })),
    },
    { key: "seed", name: "seed", kind: "seed", values: SEEDS.map((x) => ({ id: String(x), text: String(x) })) },
  ];
}

/** Rows and columns to begin with: prompts down, arms across. */
function firstLayout() {
  const down = PROMPTS.length > 1 || SEEDS.length < 2 ? "prompt" : "seed";
  let across = ["arm", null];
  if (ARM_FIELDS.length === 1 || (ARM_FIELDS.length > 1 && SWEEPS.length === 1)) across = [ARM_FIELDS[0], null];
  if (ARM_FIELDS.length === 2 && SWEEPS.length === 1 && ARMS.length <= 16) across = [...ARM_FIELDS];
  if (ARMS.length < 2) across = [down === "seed" ? "arm" : "seed", null];
  return { rows: [down, null], columns: across };
}

/** Set one slot; a field that stood elsewhere changes places, and "arm" does not stand beside the axes it is made of. */
function relayout(layout, side, slot, key) {
  const next = { rows: [...layout.rows], columns: [...layout.columns] };
  const before = next[side][slot];
  for (const s of ["rows", "columns"])
    next[s] = next[s].map((k, i) => (k === key && key && !(s === side && i === slot) ? before : k));
  next[side][slot] = key;
  const clash =
    key === "arm" ? (k) => ARM_FIELDS.includes(k) : ARM_FIELDS.includes(key) ? (k) => k === "arm" : () => false;
  for (const s of ["rows", "columns"])
    next[s] = next[s].map((k, i) => (clash(k) && !(s === side && i === slot) ? null : k));
  for (const s of ["rows", "columns"]) {
    if (!next[s][0]) next[s] = [next[s][1], null];
    if (!next[s][0]) next[s][0] = ["prompt", "seed", "arm"].find((k) => ![...next.rows, ...next.columns].includes(k));
  }
  return next;
}

/** The fields that neither rows nor columns hold: one value of each is shown at a time. */
function pageFields(layout) {
  const used = [...layout.rows, ...layout.columns].filter(Boolean);
  const all =
    used.includes("arm") || !ARM_FIELDS.length ? ["arm", "prompt", "seed"] : [...ARM_FIELDS, "prompt", "seed"];
  return all.filter((key) => !used.includes(key)).map((key) => FIELD.get(key));
}

/** Every combination of the values of some fields, the first field slowest. keep: which values of a field are shown. */
function combinations(keys, keep) {
  let list = [{ at: {}, texts: [], notes: [] }];
  for (const key of keys.filter(Boolean)) {
    const field = FIELD.get(key);
    const values = field.values.filter((v) => keep(key, v.id));
    list = list.flatMap((item) =>
      values.map((v) => ({
        at: { ...item.at, [key]: v.id },
        texts: [...item.texts, key === "seed" ? `seed ${v.text}` : v.text],
        notes: [...item.notes, v.note],
      })),
    );
  }
  return list;
}

/** What stands at a place: {arm, picture}, with null for what is not there. */
function lookUp(at) {
  const arm = "arm" in at ? ARM_BY_ID.get(at.arm) : ARM_AT.get(ARM_FIELDS.map((key) => at[key]).join("\n"));
  if (!arm) return { arm: null, picture: null };
  return { arm, picture: pictureAt(arm.id, at.prompt, at.seed) };
}

/** Why there is no picture, in a word or two. */
function absence(arm, picture) {
  if (!arm) return "not in the sweep";
  if (picture?.missing) return "file is gone";
  if (arm.status === "failed") return "failed";
  return arm.status === "unfinished" ? "not drawn yet" : "not drawn";
}
