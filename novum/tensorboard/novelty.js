// TensorBoard's Novelty tab: what each evaluation found, picture by picture.
// Plain JavaScript, one module; it asks this server alone. Whatever a file says becomes text, never HTML.

const MOST_RUNS = 6; // side by side
const POLL = 10_000; // milliseconds between looks at what is new
const CELL = 88; // pixels that an image is enlarged to, in whole steps
const KEPT = 40; // evaluations whose rows stay in memory

const FINDINGS = {
  copying: "copying",
  leaning: "doubtful",
  none_found: "clear",
  cannot_judge: "unjudged",
  too_little_evidence: "doubtful",
};
const FACTS = { identical: "identical", near_identical: "nearly identical", passage: "a fact" };
const KINDS = {
  verbatim: "word for word",
  folded: "but for case, spaces and punctuation",
  near: "altered",
  common: "in held-out text too",
  boilerplate: "set phrase",
};
const SORTS = {
  suspicion: ["most suspicious first", null],
  q: ["q, smallest first", (row) => row.q ?? Infinity],
  fact: ["facts first", (row) => (row.fact ? 0 : row.named ? 1 : 2)],
  distance: ["nearest to training first", relativeDistance],
  realism: ["most realistic first", (row) => -(row.realism ?? -Infinity)],
  unreal: ["least realistic first", (row) => row.realism ?? Infinity],
  bits: ["most information first", (row) => -(row.bits ?? -Infinity)],
};
const IMAGE_SORTS = ["suspicion", "q", "fact", "distance", "realism", "unreal"];
const TEXT_SORTS = ["suspicion", "q", "fact", "bits"];
const FILTERS = {
  all: ["all rows", () => true],
  named: ["named as copies", (row) => row.named],
  facts: ["facts", (row) => row.fact],
  open: ["named, not yet reviewed", (row, word) => row.named && !word],
  confirmed: ["confirmed", (row, word) => word === "confirmed"],
  rejected: ["rejected", (row, word) => word === "rejected"],
  ordinary: ["chosen at random", (row) => row.ordinary],
};
const FIRST_FIGURES = ["quality/frechet_distance/", "val/bits_per_char", "val/", "quality/"];
const KEYS = [
  ["← →", "the evaluation before, the next one"],
  ["Home End", "the first evaluation, the last one"],
  ["j k", "the next row, the row before"],
  ["c r", "confirm or reject the pair of the row"],
  ["u", "take that back"],
  ["/", "search in names or passages"],
  ["?", "this list"],
];

const state = {
  runs: new Map(), // name -> what is known of a run
  chosen: [],
  step: 0,
  sort: "suspicion",
  filter: "all",
  space: "",
  search: "",
  figure: "",
  row: null, // { run, pair } of the row that keys act on
};
const parts = {}; // elements of the page by name

export async function render() {
  document.head.append(el("link", { rel: "stylesheet", href: "novelty.css" }));
  document.documentElement.lang = "en";
  followTheme();
  build();
  await refresh();
  setInterval(() => shown() && refresh().catch(complain), POLL);
}

// ---------------------------------------------------------------- elements

function el(tag, props = {}, ...children) {
  const svg = ["svg", "path", "circle", "line", "text", "title", "rect"].includes(tag);
  const made = svg
    ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(made.style, value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child != null && child !== ""));
  return made;
}

function select(name, label, changed) {
  parts[name] = el("select", { id: name, onchange: (event) => changed(event.target.value) });
  return el("label", {}, `${label} `, parts[name]);
}

function fill(list, options, value) {
  const same = JSON.stringify(options);
  if (list.dataset.options !== same) {
    list.dataset.options = same;
    list.replaceChildren(...options.map(([key, text]) => el("option", { value: key }, text)));
  }
  list.value = value;
}

function build() {
  parts.slider = el("input", {
    type: "range", id: "step", min: 0, value: 0, "aria-label": "evaluation",
    oninput: (event) => goTo(Number(event.target.value)),
  });
  parts.where = el("output", { for: "step" });
  parts.runs = el("div", { class: "runs" });
  parts.menu = el("details", { class: "menu" }, el("summary", {}, "Runs"), parts.runs);
  parts.search = el("input", {
    type: "search", id: "search", placeholder: "search names",
    oninput: (event) => choose({ search: event.target.value }),
  });
  parts.help = help();
  parts.count = el("span", { class: "soft" });
  parts.message = el("p", { class: "message", role: "status" });
  parts.copies = el("figure", { id: "copies" });
  parts.quality = el("figure", { id: "quality" });
  parts.columns = el("div", { class: "columns" });
  document.body.replaceChildren(
    el("header", {},
      parts.menu,
      button("◀", "the evaluation before", () => move(-1)), parts.slider,
      button("▶", "the next evaluation", () => move(1)), parts.where,
      button("?", "keys", () => parts.help.showModal())),
    parts.message,
    el("div", { class: "charts" }, parts.copies,
      el("div", {}, select("figure", "Figure", (figure) => choose({ figure })), parts.quality)),
    el("div", { class: "tools" },
      select("sort", "Sort", (sort) => choose({ sort })),
      select("filter", "Show", (filter) => choose({ filter })),
      select("space", "Found in", (space) => choose({ space })),
      parts.search, parts.count),
    parts.columns, parts.help);
  document.addEventListener("keydown", onKey);
}

function button(text, title, act) {
  return el("button", { type: "button", title, "aria-label": title, onclick: act }, text);
}

function help() {
  const rows = KEYS.map(([keys, what]) => [el("dt", {}, keys), el("dd", {}, what)]);
  const made = el("dialog", { "aria-label": "keys" }, el("h3", {}, "Keys"),
    el("dl", {}, ...rows.flat()), button("Close", "close", () => made.close()));
  return made;
}

// ---------------------------------------------------------------- data

async function ask(path, query = {}) {
  const answer = await fetch(`${path}?${new URLSearchParams(query)}`);
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.error ?? `${path}: ${answer.status}`);
  return content;
}

async function refresh() {
  const { runs } = await ask("runs");
  const names = new Set(runs.map((run) => run.name));
  for (const name of state.runs.keys()) if (!names.has(name)) state.runs.delete(name);
  for (const run of runs) {
    const known = state.runs.get(run.name) ?? { rows: new Map(), evaluations: null, reviews: {} };
    state.runs.set(run.name, Object.assign(known, run, { stale: known.version !== run.version }));
  }
  state.chosen = state.chosen.filter((name) => names.has(name));
  if (!state.chosen.length && runs.length) state.chosen = [latest(runs)];
  await load();
}

function latest(runs) {
  const time = (run) => BigInt(run.version.split("-")[0]);
  return runs.reduce((a, b) => (time(b) > time(a) ? b : a)).name;
}

async function load(end = state.step >= Math.max(0, ...steps()), changed = false) {
  const wanted = state.chosen.map((name) => state.runs.get(name));
  const stale = wanted.filter((run) => run.stale || !run.evaluations);
  await Promise.all(stale.map(loadTimeline));
  const every = steps();
  if (every.length && (end || state.step < every[0])) state.step = every.at(-1);
  if (stale.length || changed || !parts.columns.childElementCount) await draw();
}

async function loadTimeline(run) {
  const { evaluations, reviews } = await ask("timeline", { run: run.name });
  Object.assign(run, { evaluations, reviews, stale: false });
}

function steps() {
  const every = state.chosen.flatMap((name) => state.runs.get(name)?.evaluations ?? []);
  return [...new Set(every.map((evaluation) => evaluation.step))].sort((a, b) => a - b);
}

function current(run) {
  return run.evaluations?.findLast((evaluation) => evaluation.step <= state.step);
}

async function rowsOf(run, evaluation) {
  const { table } = evaluation.stored;
  if (!table) return { cell: [], images: [], passages: [] };
  const key = `${evaluation.step}/${table}`;
  if (!run.rows.has(key)) {
    run.rows.set(key, ask("rows", { run: run.name, step: evaluation.step }));
    if (run.rows.size > KEPT) run.rows.delete(run.rows.keys().next().value);
  }
  return run.rows.get(key);
}

function pictureOf(run, evaluation, name) {
  const version = evaluation.stored[name];
  if (!version) return null;
  const query = { run: run.name, step: evaluation.step, name, v: version };
  return `picture?${new URLSearchParams(query)}`;
}

// ---------------------------------------------------------------- what a person does

function choose(change) {
  Object.assign(state, change);
  draw().catch(complain);
}

function goTo(index) {
  const every = steps();
  const step = every[Math.min(Math.max(index, 0), every.length - 1)];
  if (step !== undefined && step !== state.step) choose({ step });
}

function move(by) {
  const every = steps();
  goTo(every.findLastIndex((step) => step <= state.step) + by);
}

function chooseRun(name, on) {
  const end = state.step >= Math.max(0, ...steps());
  const others = state.chosen.filter((other) => other !== name);
  state.chosen = on ? [...others, name].slice(-MOST_RUNS) : others;
  parts.columns.replaceChildren(el("p", { class: "soft" }, "Reading …"));
  load(end, true).catch(complain);
}

function onKey(event) {
  const typing = event.target.matches?.("input[type=search], select");
  if (event.key === "Escape" && typing) event.target.blur();
  if (typing || event.ctrlKey || event.metaKey || event.altKey || parts.help.open) return;
  const sliding = event.target === parts.slider;
  const acts = {
    ArrowLeft: () => sliding || move(-1), ArrowRight: () => sliding || move(1),
    Home: () => goTo(0), End: () => goTo(Infinity),
    j: () => walk(1), k: () => walk(-1),
    c: () => decide("confirmed"), r: () => decide("rejected"), u: () => decide(null),
    "/": () => parts.search.focus(), "?": () => parts.help.showModal(),
  };
  if (!Object.hasOwn(acts, event.key)) return;
  if (acts[event.key]() !== true) event.preventDefault();
}

function walk(by) {
  const rows = [...parts.columns.querySelectorAll(".row")];
  if (!rows.length) return;
  const at = rows.findIndex((row) => row.classList.contains("focus"));
  pick(rows[at < 0 ? 0 : Math.min(Math.max(at + by, 0), rows.length - 1)], true);
}

function pick(row, scroll) {
  parts.columns.querySelector(".row.focus")?.classList.remove("focus");
  row.classList.add("focus");
  state.row = { run: row.dataset.run, pair: row.dataset.pair, named: row.dataset.named === "true" };
  if (scroll) row.scrollIntoView({ block: "nearest" });
}

async function decide(decision, row = state.row) {
  if (!row) return say("Choose a row first, by j and k or with the mouse.");
  const run = state.runs.get(row.run);
  if (!row.named) return say("Only pairs that are named as copies, and facts, are reviewed.");
  if (!run.reviewable) return say("This run is a link out of the log folder: open it where it is.");
  try {
    const answer = await fetch("review", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ run: row.run, pair: row.pair, decision }),
    });
    const content = await answer.json();
    if (!answer.ok) throw new Error(content.error);
    run.reviews = content.reviews;
    say(decision ? `Kept in reviews.json: ${decision}.` : "Taken back.");
    await draw();
  } catch (error) {
    complain(error);
  }
}

function say(text) {
  parts.message.textContent = text;
  clearTimeout(parts.silence);
  parts.silence = setTimeout(() => { parts.message.textContent = ""; }, 6000);
}

function complain(error) {
  say(`Not answered: ${error.message}`);
}

// ---------------------------------------------------------------- drawing

let drawing = 0; // number of the newest drawing; older ones give up

async function draw() {
  const mine = ++drawing;
  const runs = state.chosen.map((name) => state.runs.get(name));
  drawTools(runs);
  if (!runs.length) {
    const nothing = state.runs.size ? "Choose a run." : "No run has an evaluation yet.";
    parts.columns.replaceChildren(el("p", { class: "soft" }, nothing));
    return;
  }
  const columns = await Promise.all(runs.map(column));
  if (mine !== drawing) return;
  parts.columns.style.setProperty("--runs", runs.length);
  const top = parts.columns.scrollTop;
  parts.columns.replaceChildren(...columns.map((found) => found.element));
  parts.columns.scrollTop = top;
  drawCount(columns);
  restoreFocus();
  prefetch(runs);
}

function drawTools(runs) {
  const every = steps();
  parts.slider.max = Math.max(every.length - 1, 0);
  parts.slider.value = every.findLastIndex((step) => step <= state.step);
  const unit = runs[0]?.evaluations?.[0]?.unit ?? "steps";
  parts.where.textContent = every.length ? `${state.step.toLocaleString("en")} ${unit}` : "";
  const texts = runs.length > 0 && runs.every((run) => run.evaluations?.some((e) => e.kind === "text"));
  const sorts = texts ? TEXT_SORTS : IMAGE_SORTS;
  if (!sorts.includes(state.sort)) state.sort = "suspicion";
  fill(parts.sort, sorts.map((key) => [key, SORTS[key][0]]), state.sort);
  fill(parts.filter, Object.entries(FILTERS).map(([key, [text]]) => [key, text]), state.filter);
  parts.search.placeholder = texts ? "search passages" : "search names";
  drawMenu();
  drawCharts(runs);
}

function drawMenu() {
  const names = [...state.runs.keys()];
  if (parts.runs.dataset.names !== JSON.stringify(names)) {
    parts.runs.dataset.names = JSON.stringify(names);
    parts.runs.replaceChildren(...names.map((name) => el("label", {},
      el("input", {
        type: "checkbox", value: name, onchange: (event) => chooseRun(name, event.target.checked),
      }), ` ${name}`)));
  }
  for (const box of parts.runs.querySelectorAll("input")) box.checked = state.chosen.includes(box.value);
  parts.menu.firstChild.textContent = `Runs (${state.chosen.length} of ${state.runs.size})`;
}

function drawCount(columns) {
  const shownRows = columns.reduce((sum, found) => sum + found.shown, 0);
  const all = columns.reduce((sum, found) => sum + found.all, 0);
  parts.count.textContent = all ? `${shownRows} of ${all} rows` : "";
  const spaces = [...new Set(columns.flatMap((found) => found.spaces))];
  if (!spaces.includes(state.space)) state.space = "";
  fill(parts.space, [["", "any space"], ...spaces.map((name) => [name, name])], state.space);
  parts.space.parentElement.hidden = spaces.length < 2;
}

function restoreFocus() {
  const rows = [...parts.columns.querySelectorAll(".row")];
  const same = rows.find((row) => row.dataset.run === state.row?.run && row.dataset.pair === state.row?.pair);
  if (same) pick(same, false);
  else state.row = null;
}

async function column(run) {
  const colour = state.chosen.indexOf(run.name) % MOST_RUNS;
  const head = el("h3", {}, el("i", { class: `dot c${colour}` }), run.name);
  const evaluation = current(run);
  if (!evaluation) {
    const text = "No evaluation by this step.";
    const element = el("section", {}, head, el("p", { class: "soft" }, text));
    return { element, shown: 0, all: 0, spaces: [] };
  }
  const rows = await rowsOf(run, evaluation);
  const picture = pictureOf(run, evaluation, "rows");
  if (picture) await decoded(picture);
  const every = rows.passages.length ? rows.passages : rows.images;
  const list = arranged(every, run);
  const draw_ = rows.passages.length
    ? (row) => passageRow(row, run)
    : (row) => imageRow(row, every.indexOf(row), rows.cell, every.length, picture, run);
  const element = el("section", {}, head, banner(evaluation), grid(run, evaluation),
    el("ol", {}, ...list.map(draw_)), nothing(evaluation, every, list, picture));
  const spaces = every.map((row) => row.space).filter(Boolean);
  return { element, shown: list.length, all: every.length, spaces };
}

function decoded(address) {
  const image = new Image();
  image.src = address;
  return image.decode().catch(() => say("A picture cannot be read."));
}

function nothing(evaluation, every, list, picture) {
  const text = evaluation.redacted ? "This evaluation is redacted: it has no rows."
    : !every.length ? "This evaluation has no rows."
    : !list.length ? "No row is of this kind."
    : evaluation.kind === "image" && !picture ? "The pictures of this evaluation were removed, to save space."
    : "";
  return text && el("p", { class: "soft" }, text);
}

function banner(evaluation) {
  const { finding, headline, details, step, unit, onset } = evaluation;
  const tone = FINDINGS[finding] ?? "unjudged";
  const at = `${step.toLocaleString("en")} ${unit}`;
  const counts = finding ? ` · ${evaluation.facts} ${evaluation.facts === 1 ? "fact" : "facts"}, ${evaluation.named} named` : "";
  return el("div", { class: `banner ${tone}` },
    el("b", {}, headline || "Not judged"), el("span", { class: "soft" }, ` at ${at}${counts}`),
    details ? el("p", {}, details) : null, onset ? el("p", {}, onset) : null);
}

function grid(run, evaluation) {
  const address = pictureOf(run, evaluation, "grid");
  if (!address) return null;
  const picture = el("img", { src: address, alt: `samples at ${evaluation.step}` });
  return el("details", {
    open: run.open, ontoggle: (event) => { run.open = event.target.open; },
  }, el("summary", {}, "Samples from the same latents"), picture);
}

function relativeDistance(row) {
  if (row.train_distance == null) return row.fact ? -1 : Infinity;
  return row.heldout_distance ? row.train_distance / row.heldout_distance : row.train_distance;
}

function arranged(rows, run) {
  const keep = FILTERS[state.filter][1];
  const wanted = state.search.toLowerCase();
  const list = rows.filter((row) => keep(row, run.reviews[row.pair])
    && (!state.space || row.space === state.space)
    && (!wanted || words(row).toLowerCase().includes(wanted)));
  const key = SORTS[state.sort][1];
  return key ? list.map((row) => [key(row), row]).sort((a, b) => compare(a[0], b[0])).map((x) => x[1]) : list;
}

function compare(a, b) {
  return a < b ? -1 : a > b ? 1 : 0;
}

function words(row) {
  if (row.own === undefined) return `${row.sample} ${row.train} ${row.heldout ?? ""} ${row.transform ?? ""}`;
  return [...row.own, ...row.source].map((stretch) => stretch.text).join("") + ` ${row.file}`;
}

function imageRow(row, index, [width, height], count, picture, run) {
  const times = Math.max(1, Math.round(CELL / Math.max(width, height)));
  const cell = (column, alt) => el("div", {
    class: times > 1 ? "cell px" : "cell", role: "img", "aria-label": alt,
    style: {
      width: `${width * times}px`, height: `${height * times}px`,
      backgroundImage: picture ? `url("${picture}")` : "none",
      backgroundSize: `${4 * width * times}px ${count * height * times}px`,
      backgroundPosition: `-${column * width * times}px -${index * height * times}px`,
    },
  });
  const figure = (column, title, name, distance) => el("figure", {},
    name == null ? el("div", { class: "cell none", style: { width: `${width * times}px`, height: `${height * times}px` } })
      : cell(column, `${title} ${name}`),
    el("figcaption", { title: `${title} ${name ?? "none"}` }, el("span", {}, title),
      distance == null ? null : el("b", {}, ` ${number(distance)}`), el("small", {}, name == null ? "none" : String(name))));
  return frame(row, run,
    el("div", { class: "strip" },
      figure(0, "sample", row.sample),
      figure(1, "training", row.train, row.train_distance),
      figure(2, "held-out", row.heldout, row.heldout_distance),
      figure(3, "difference", row.transform ?? "")),
    [row.space, row.realism == null ? "" : `realism ${number(row.realism)}`]);
}

function passageRow(row, run) {
  const text = (stretches) => stretches.map((stretch) => stretch.same ? stretch.text : el("del", {}, stretch.text));
  return frame(row, run,
    el("div", { class: "pair" },
      el("figure", {}, el("figcaption", {}, `sample ${row.text}, offset ${row.offset.toLocaleString("en")}`),
        el("pre", {}, el("span", { class: "soft" }, row.before), el("mark", { class: row.kind }, ...text(row.own)),
          el("span", { class: "soft" }, row.after))),
      el("figure", {}, el("figcaption", {}, `${row.file}, offset ${row.file_offset.toLocaleString("en")}`),
        el("pre", {}, el("mark", { class: row.kind }, ...text(row.source))))),
    [KINDS[row.kind] ?? row.kind, `${row.length.toLocaleString("en")} characters`,
      row.bits == null ? "" : `${Math.round(row.bits).toLocaleString("en")} bits`,
      row.identity == null || row.kind === "verbatim" ? "" : `${Math.round(100 * row.identity)}% the same`]);
}

function frame(row, run, body, notes) {
  const word = run.reviews[row.pair];
  const pills = [row.fact ? FACTS[row.fact] ?? row.fact : "", row.named && !row.fact ? "named" : ""];
  const said = [...notes, row.q == null || row.fact === "identical" ? "" : `q ${number(row.q)}`, row.ordinary ? "at random" : ""];
  const act = (decision, text) => button(text, `${text} this pair`, () => decide(word === decision ? null : decision, made));
  const made = { run: run.name, pair: row.pair, named: Boolean(row.named) };
  const buttons = row.named && run.reviewable ? [act("confirmed", "Confirm"), act("rejected", "Reject")] : [];
  buttons.forEach((one, i) => one.setAttribute("aria-pressed", String(word === ["confirmed", "rejected"][i])));
  const line = el("p", {},
    ...pills.filter(Boolean).map((pill) => el("span", { class: "pill copying" }, pill)),
    word ? el("span", { class: `pill ${word}` }, `${word} by a person`) : null,
    el("span", { class: "soft" }, said.filter(Boolean).join(" · ")), el("span", { class: "buttons" }, ...buttons));
  const item = el("li", {
    class: "row", "data-run": run.name, "data-pair": row.pair, "data-named": String(made.named),
    onclick: () => pick(item, false),
  }, body, line);
  return item;
}

function prefetch(runs) {
  for (const run of runs) {
    const at = run.evaluations.indexOf(current(run));
    for (const next of [run.evaluations[at + 1], run.evaluations[at - 1]]) {
      if (!next || at < 0) continue;
      rowsOf(run, next).catch(() => {});
      const picture = pictureOf(run, next, "rows");
      if (picture) new Image().src = picture;
    }
  }
}

function number(value) {
  if (value === 0) return "0";
  if (value >= 1e9) return "∞";
  const size = Math.abs(value);
  return size >= 1e5 || size < 1e-3 ? value.toExponential(1) : String(Number(value.toPrecision(3)));
}

// ---------------------------------------------------------------- timeline

function drawCharts(runs) {
  const known = runs.filter((run) => run.evaluations);
  const tags = [...new Set(known.flatMap((run) => run.evaluations.flatMap((e) => Object.keys(e.figures))))];
  if (!tags.includes(state.figure)) {
    state.figure = FIRST_FIGURES.map((start) => tags.find((tag) => tag.startsWith(start))).find(Boolean) ?? tags[0] ?? "";
  }
  fill(parts.figure, tags.sort().map((tag) => [tag, tag]), state.figure);
  parts.figure.parentElement.hidden = !tags.length;
  const rates = known.some((run) => run.evaluations.some((e) => e.copy_rate));
  const share = rates ? "" : tags.find((tag) => tag.startsWith("novelty/copied_share/")) ?? tags.find((tag) => tag.startsWith("novelty/copy_rate/"));
  const ofText = share?.startsWith("novelty/copied_share/");
  const name = rates ? "Copies among the samples" : ofText ? "Text that stands in training text" : share ?? "";
  parts.copies.replaceChildren(...chart(known, name, (e) => rates ? e.copy_rate : e.figures[share], true));
  parts.quality.replaceChildren(...chart(known, "", (e) => e.figures[state.figure], false));
}

const CHART = { width: 520, height: 150, left: 52, right: 10, top: 14, bottom: 22 };

function chart(runs, title, value, fromZero) {
  const curves = runs.map((run) => ({
    run, points: run.evaluations.map((e) => ({ e, at: value(e) })).filter(({ at }) => at && at[0] != null),
  }));
  const every = curves.flatMap(({ points }) => points);
  if (!every.length) return title ? [el("figcaption", { class: "soft" }, `${title}: nothing measured`)] : [];
  const x = scale(steps(), CHART.left, CHART.width - CHART.right);
  const values = every.flatMap(({ at }) => at.filter((end) => end != null));
  const y = scale(fromZero ? [0, ...values] : values, CHART.height - CHART.bottom, CHART.top);
  const svg = el("svg", {
    viewBox: `0 0 ${CHART.width} ${CHART.height}`, role: "img", "aria-label": `${title || state.figure} by step`,
    onclick: (event) => pickStep(event, svg, x),
  }, ...axes(x, y, fromZero), ...curves.flatMap((curve) => drawCurve(curve, x, y)), ...marks(curves, x));
  const ends = every.some(({ at }) => at[1] != null) ? ", 95% interval" : "";
  return title ? [el("figcaption", {}, title, el("span", { class: "soft" }, ends)), svg] : [svg];
}

function scale(values, start, end) {
  let [low, high] = values.reduce(([a, b], value) => [Math.min(a, value), Math.max(b, value)], [Infinity, -Infinity]);
  if (!(high > low)) [low, high] = low === 0 ? [0, 1] : [low - Math.abs(low) / 2, low + Math.abs(low) / 2];
  const at = (value) => start + (end - start) * (value - low) / (high - low);
  return { at, low, high, back: (place) => low + (high - low) * (place - start) / (end - start) };
}

function axes(x, y, share) {
  const text = (value) => share ? `${number(100 * value)}%` : number(value);
  const ticks = [0, 0.5, 1].map((part) => y.low + part * (y.high - y.low));
  return [
    ...ticks.flatMap((tick) => [
      el("line", { class: "grid", x1: CHART.left, x2: CHART.width - CHART.right, y1: y.at(tick), y2: y.at(tick) }),
      el("text", { x: CHART.left - 5, y: y.at(tick) + 4, "text-anchor": "end" }, text(tick)),
    ]),
    el("text", { x: CHART.left, y: CHART.height - 6 }, compact(x.low)),
    el("text", { x: CHART.width - CHART.right, y: CHART.height - 6, "text-anchor": "end" }, compact(x.high)),
  ];
}

function compact(value) {
  return value.toLocaleString("en", { notation: "compact", maximumFractionDigits: 2 });
}

function drawCurve({ run, points }, x, y) {
  const colour = `c${state.chosen.indexOf(run.name) % MOST_RUNS}`;
  const place = (step, value) => `${x.at(step).toFixed(1)},${y.at(value).toFixed(1)}`;
  const band = points.filter(({ at }) => at[1] != null && at[2] != null);
  const edge = [...band.map(({ e, at }) => place(e.step, at[2])), ...band.toReversed().map(({ e, at }) => place(e.step, at[1]))];
  const dots = points.length > 200 ? [] : points.map(({ e, at }) =>
    el("circle", { class: `point ${FINDINGS[e.finding] ?? colour}`, cx: x.at(e.step), cy: y.at(at[0]), r: 3 },
      el("title", {}, `${run.name} at ${e.step.toLocaleString("en")}: ${at.filter((end) => end != null).map(number).join(", ")}`)));
  return [
    band.length > 1 ? el("path", { class: `band ${colour}`, d: `M${edge.join("L")}Z` }) : null,
    el("path", { class: `curve ${colour}`, d: `M${points.map(({ e, at }) => place(e.step, at[0])).join("L")}` }),
    ...dots,
  ].filter(Boolean);
}

function marks(curves, x) {
  const line = (step, kind, text) => [
    el("line", { class: kind, x1: x.at(step), x2: x.at(step), y1: CHART.top - 4, y2: CHART.height - CHART.bottom }),
    text ? el("text", { class: kind, x: x.at(step) + 4, y: CHART.top + 4 }, text) : null,
  ].filter(Boolean);
  const onsets = curves.map(({ run }) => run.evaluations.find((e) => e.onset) ?? run.evaluations.find((e) => e.finding === "copying"));
  return [
    ...onsets.filter(Boolean).flatMap((e) => line(e.step, "onset", `copying from ${compact(e.step)}`)),
    ...line(Math.min(Math.max(state.step, x.low), x.high), "now", ""),
  ];
}

function pickStep(event, svg, x) {
  const box = svg.getBoundingClientRect();
  const wanted = x.back((event.clientX - box.left) * CHART.width / box.width);
  const every = steps();
  const near = every.reduce((best, step) => (Math.abs(step - wanted) < Math.abs(best - wanted) ? step : best));
  choose({ step: near });
}

// ---------------------------------------------------------------- surroundings

function shown() {
  return !document.hidden && document.documentElement.clientWidth > 0;
}

function followTheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const outer = window.parent === window ? null : window.parent.document.body; // TensorBoard's
  const set = () => {
    const is = outer ? outer.classList.contains("dark-mode") : dark.matches;
    document.documentElement.dataset.theme = is ? "dark" : "light";
  };
  set();
  if (outer) new MutationObserver(set).observe(outer, { attributes: true, attributeFilter: ["class"] });
  else dark.addEventListener("change", set);
}
