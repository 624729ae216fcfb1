const { results, measures, kinds, maps, columns, rows, slots } = data;
const ROW_COUNT = 4; // rows that are drawn beyond what is seen, above and below
const state = { kind: "", sample: "", text: "", measure: columns.length ? 0 : -1, base: -1, by: "row", best: false, maps: false };
let shown = []; // numbers of slots, filtered and sorted
let active = { row: 0, column: 0 };
let height = 0; // of a row, in pixels
const drawn = new Map(); // number in shown -> element

// numbers

function digits(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  return size !== 0 && (size < 0.001 || size >= 1e6) ? value.toExponential(2) : value.toFixed(size >= 100 ? 1 : size >= 10 ? 2 : 3);
}
const arrow = (measure) => (measure.lower ? "↓ lower is better" : "↑ higher is better");
const current = () => (state.measure < 0 ? null : measures[columns[state.measure]]);
const score = (slot, result) => slot[3][result]?.[2][state.measure] ?? null;

/** By how much a result is better than the baseline, or how good it is; null where that is not known. */
function goodness(slot, result) {
  const value = score(slot, result);
  if (value === null) return null;
  const sign = current().lower ? -1 : 1;
  if (state.base < 0 || state.base === result) return sign * value;
  const base = score(slot, state.base);
  return base === null ? null : sign * (value - base);
}

function spread(slot) {
  const values = results.map((_, result) => score(slot, result)).filter((value) => value !== null);
  return values.length < 2 ? null : Math.max(...values) - Math.min(...values);
}

// the table of measures

function drawMeasures() {
  const ranges = measures.map((_, at) => {
    const every = data.values.flat().map((cells) => cells[at]).filter(Boolean).flatMap(([value, low, high, , chance, ceiling]) => [value, low, high, chance, ceiling]);
    every.push(...data.published.map((row) => row.values[at]?.[0]));
    const known = every.filter((value) => value !== null && value !== undefined);
    return [Math.min(...known), Math.max(...known)];
  });
  const bar = (at, value, low, high, marks = {}) => {
    const [from, to] = ranges[at];
    const place = (number) => `${to > from ? (100 * (number - from)) / (to - from) : 50}%`;
    const dot = make("b");
    dot.style.left = place(value);
    const range = make("i");
    if (low !== null && high !== null) {
      range.style.left = place(low);
      range.style.right = `calc(100% - ${place(high)})`;
    } else range.hidden = true;
    const lines = Object.entries(marks).filter(([, number]) => number !== null).map(([name, number]) => {
      const line = make("s", { class: name });
      line.style.left = place(number);
      return line;
    });
    return make("div", { class: "bar", "aria-hidden": "true" }, ...lines, range, dot);
  };
  const head = make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "Method"),
    ...measures.map((measure) => make("th", { scope: "col" }, measure.name, make("small", {}, arrow(measure))))));
  const signed = (value) => `${value > 0 ? "+" : value < 0 ? "−" : "±"}${digits(Math.abs(value))}`;
  const against = (difference) => {
    if (!difference) return null;
    const [value, low, high, count] = difference;
    const ends = low === null || high === null ? "" : `, ${signed(low)} to ${signed(high)}`;
    return make("small", { class: "against" }, `${signed(value)}${ends} against ${results[0].name} on ${count.toLocaleString("en")} rows of both`);
  };
  const bodies = kinds.map((kind, k) => {
    const counts = measures.map((_, at) => new Set(data.values.map((those) => those[k][at]?.[3]).filter((count) => count !== undefined)));
    const best = measures.map((measure, at) => {
      const values = data.values.map((those) => those[k][at]?.[0]).filter((value) => value !== null && value !== undefined);
      return new Set(values).size < 2 || counts[at].size > 1 ? null : measure.lower ? Math.min(...values) : Math.max(...values);
    });
    const lines = results.map((result, r) => make("tr", {}, make("th", { scope: "row", class: "method" }, result.name),
      ...measures.map((measure, at) => {
        const cell = data.values[r][k][at];
        if (!cell || cell[0] === null) return make("td", {}, "–");
        const [value, low, high, count, chance, ceiling] = cell;
        const beside = [["chance", chance], ["ceiling", ceiling]].filter(([, number]) => number !== null);
        return make("td", { class: value === best[at] ? "best" : null, title: `${count} rows` },
          make("span", { class: "value" }, digits(value)),
          low === null || high === null ? null : make("small", {}, `${digits(low)} to ${digits(high)}`),
          counts[at].size < 2 ? null : make("small", { class: "fault" }, `${count.toLocaleString("en")} rows`),
          against(data.against[r][k][at]),
          beside.length ? make("small", {}, beside.map(([name, number]) => `${name} ${digits(number)}`).join(" · ")) : null,
          bar(at, value, low, high, { chance, ceiling }));
      })));
    return make("tbody", {}, make("tr", {}, make("th", { scope: "rowgroup", colspan: measures.length + 1 }, `Prompts: ${kind}`)), ...lines);
  });
  const published = data.published.map((row) => make("tr", { class: "published" },
    make("th", { scope: "row", class: "method" }, row.method, make("small", {}, row.source), row.note ? make("small", { class: "fault" }, row.note) : null),
    ...row.values.map((cell, at) => cell
      ? make("td", {}, make("span", { class: "value" }, digits(cell[0])), cell.length > 1 ? make("small", {}, `± ${digits(cell[1])}`) : null, bar(at, cell[0], null, null))
      : make("td", {}, ""))));
  if (published.length) bodies.push(make("tbody", {}, make("tr", {}, make("th", { scope: "rowgroup", colspan: measures.length + 1 }, "Published")), ...published));
  byId("measures").append(head, ...bodies);
  byId("notes").append(...data.differing.map((line) => make("li", { class: "fault" }, `The results differ in ${line}`)));
  byId("notes").append(...data.notes.map((note) => make("li", {}, note)));
  const known = data.values.flat(2).filter(Boolean);
  const beside = ["Chance (dotted) is what the same pictures have against other rows’ maps.", "The ceiling (a line) is what the rows’ own pictures have once they went through the VAE."];
  byId("legend").textContent = ["Small numbers are 95 % intervals over rows. Bold is the best of the results, where all are of as many rows.", ...(results.length > 1 ? ["What a result has more or less than the first is paired by row: two intervals may overlap and the difference be clear."] : []), ...beside.filter((_, at) => known.some((cell) => cell[4 + at] !== null))].join(" ");
}

// the grid

function options(select, entries, value) {
  select.replaceChildren(...entries.map(([key, text, disabled = false]) => make("option", { value: key, selected: key === value, disabled }, text)));
}

function drawControls() {
  options(byId("kind"), [["", "all"], ...kinds.map((kind) => [kind, kind])], state.kind);
  byId("kind-label").hidden = kinds.length < 2;
  const samples = [...new Set(slots.map((slot) => slot[2]))].sort((a, b) => a - b);
  options(byId("sample"), [["", "all"], ...samples.map((sample) => [String(sample), String(sample + 1)])], state.sample);
  byId("sample-label").hidden = samples.length < 2;
  const sortable = columns.length ? columns.map((at, number) => [String(number), measures[at].name]) : [["-1", "none"]];
  const others = measures.filter((measure) => !measure.single).map((measure) => ["", `${measure.name}: ${measure.why}`, true]);
  options(byId("measure"), [...sortable, ...others], String(state.measure));
  options(byId("base"), [["-1", "nothing"], ...results.map((result, r) => [String(r), result.name])], String(state.base));
  byId("maps-label").hidden = !results.some((result) => result.judged);
}

function drawSort() {
  const entries = [["row", "row"]];
  if (state.measure >= 0) {
    if (results.length > 1) entries.push(["spread", "largest difference"]);
    results.forEach((result, r) => {
      const minus = state.base >= 0 && state.base !== r ? ` − ${results[state.base].name}` : "";
      entries.push([`${r}`, `${result.name}${minus}, worst first`], [`${r}!`, `${result.name}${minus}, best first`]);
    });
  }
  options(byId("sort"), entries, `${state.by}${state.best ? "!" : ""}`);
}

function drawHead() {
  const cells = [make("div", { role: "columnheader", class: "label", "aria-colindex": 1 }, "Row"),
    make("div", { role: "columnheader", "aria-colindex": 2 }, make("span", {}, "Source"), make("small", {}, "ground truth")),
    ...maps.map((map, m) => make("div", { role: "columnheader", "aria-colindex": 3 + m }, make("span", {}, map.name), make("small", {}, map.role)))];
  results.forEach((result, r) => {
    const sorted = state.by === String(r);
    const mark = sorted ? (state.best ? " best first" : " worst first") : "";
    const name = make("span", {}, result.name);
    const head = make("button", { type: "button", title: `${result.name}: ${result.method}`, disabled: state.measure < 0, onclick: () => cycle(r) }, name, sorted ? make("span", { "aria-hidden": "true" }, state.best ? "▲" : "▼") : null);
    cells.push(make("div", { role: "columnheader", "aria-colindex": 3 + maps.length + r, "aria-sort": sorted ? (state.best ? "descending" : "ascending") : "none" }, head, make("small", {}, mark || result.protocol)));
  });
  document.querySelector(".row.head").replaceChildren(...cells);
}

function cycle(result) {
  const by = String(result);
  if (state.by !== by) Object.assign(state, { by, best: false });
  else if (!state.best) state.best = true;
  else Object.assign(state, { by: "row", best: false });
  update();
}

function update() {
  const text = state.text.toLowerCase();
  const says = (slot) => rows[slot[0]][0].toLowerCase().includes(text) || slot[3].some((cell) => cell && (cell[3] || "").toLowerCase().includes(text));
  shown = [];
  slots.forEach((slot, number) => {
    if ((!state.kind || slot[1] === state.kind) && (state.sample === "" || String(slot[2]) === state.sample) && (!text || says(slot))) shown.push(number);
  });
  if (state.by !== "row" && state.measure >= 0) {
    const key = state.by === "spread" ? (slot) => spread(slot) : (slot) => goodness(slot, Number(state.by));
    const downwards = state.by === "spread" || state.best;
    const keys = new Map(shown.map((number) => [number, key(slots[number])]));
    shown.sort((a, b) => {
      const [x, y] = [keys.get(a), keys.get(b)];
      if (x === null || y === null) return (x === null) - (y === null) || a - b;
      return (downwards ? y - x : x - y) || a - b;
    });
  }
  drawSort();
  drawHead();
  const total = slots.length === shown.length ? "" : ` of ${slots.length.toLocaleString("en")}`;
  byId("count").textContent = `${shown.length.toLocaleString("en")}${total} ${slots.length === 1 ? "row" : "rows"} of pictures`;
  byId("grid").setAttribute("aria-rowcount", shown.length + 1);
  byId("grid").setAttribute("aria-colcount", 2 + maps.length + results.length);
  active = { row: 0, column: Math.min(active.column, results.length + maps.length) };
  byId("grid").scrollTop = 0;
  redraw();
}

function measureRow() {
  const probe = drawRow(0, 0);
  byId("rows").append(probe);
  height = probe.getBoundingClientRect().height;
  probe.remove();
}

function redraw() {
  for (const element of drawn.values()) element.remove();
  drawn.clear();
  document.querySelector("#rows .none")?.remove();
  if (!shown.length) byId("rows").append(make("div", { class: "none", role: "row" }, make("span", { role: "gridcell" }, "Nothing is found.")));
  byId("rows").style.height = `${Math.max(shown.length * height, 120)}px`;
  drawVisible();
}

function drawVisible() {
  const grid = byId("grid");
  const first = Math.max(0, Math.floor(grid.scrollTop / height) - ROW_COUNT);
  const last = Math.min(shown.length, Math.ceil((grid.scrollTop + grid.clientHeight) / height) + ROW_COUNT);
  for (const [at, element] of drawn) {
    if ((at < first || at >= last) && at !== active.row) {
      element.remove();
      drawn.delete(at);
    }
  }
  for (let at = first; at < last; at += 1) draw(at);
  if (shown.length) draw(active.row);
  markActive();
}

function draw(at) {
  if (drawn.has(at)) return;
  const element = drawRow(at, shown[at]);
  element.style.top = `${at * height}px`;
  drawn.set(at, element);
  const after = [...drawn.keys()].filter((other) => other > at).sort((a, b) => a - b)[0];
  byId("rows").insertBefore(element, after === undefined ? null : drawn.get(after));
}

function drawRow(at, number) {
  const slot = slots[number];
  const [name, width, , ...files] = rows[slot[0]];
  const prompts = [...new Set(slot[3].filter(Boolean).map((cell) => cell[3] || ""))];
  const prompt = prompts.length > 1 ? "differs by result" : prompts[0] || "";
  const label = make("div", { class: "label", role: "rowheader", "aria-colindex": 1 },
    make("div", { class: "name", title: name }, name),
    make("div", {}, kinds.length > 1 ? make("span", { class: "tag" }, slot[1]) : null, byId("sample-label").hidden ? null : make("span", { class: "tag" }, `picture ${slot[2] + 1}`)),
    make("div", { class: "prompt", title: prompt, dir: "auto" }, prompt || "no prompt"));
  const column = (c, inside, below) => make("div", { class: "cell", role: "gridcell", id: `c${number}-${c}`, "aria-colindex": c + 2, "data-row": at, "data-column": c },
    make("div", { class: "picture" }, inside), make("div", { class: "score" }, ...below));
  const cells = files.map((file, f) => column(f, file ? picture(file, `${f ? maps[f - 1].name : "source"} of ${name}`, width) : "none", []));
  slot[3].forEach((cell, r) => cells.push(column(1 + maps.length + r, inCell(cell, r, name, width, state.maps), scoreOf(slot, r))));
  return make("div", { class: "row", role: "row", "aria-rowindex": at + 2 }, label, ...cells);
}

function inCell(cell, result, name, width, asMap, eager = false) {
  if (!cell) return "not made";
  const file = asMap && results[result].judged ? cell[1] : cell[0];
  const what = asMap && results[result].judged ? `${results[result].judged} found in the picture` : "picture";
  return file ? picture(file, `${what} of ${results[result].name} for ${name}`, width, eager) : cell[4] || "none";
}

function scoreOf(slot, result) {
  const value = score(slot, result);
  const parts = [];
  if (value !== null) {
    parts.push(make("span", {}, digits(value)));
    const base = state.base >= 0 && state.base !== result ? score(slot, state.base) : null;
    if (base !== null) {
      const difference = value - base;
      const better = difference !== 0 && difference > 0 !== current().lower;
      const kind = difference === 0 ? "" : better ? "plus" : "minus";
      parts.push(make("span", { class: kind, title: `less that of ${results[state.base].name}` },
        `${difference > 0 ? "+" : difference < 0 ? "−" : "±"}${digits(Math.abs(difference))}${difference === 0 ? "" : better ? " better" : " worse"}`));
    }
  }
  if (slot[3][result]?.[4]) parts.push(make("span", { class: "fault", title: slot[3][result][4] }, "! not scored"));
  return parts;
}

// where one is

function markActive() {
  for (const old of document.querySelectorAll("#rows .at, #rows .active")) old.classList.remove("at", "active");
  const row = drawn.get(active.row);
  if (!row) return byId("grid").removeAttribute("aria-activedescendant");
  row.classList.add("active");
  const cell = row.querySelector(`[data-column="${active.column}"]`);
  cell.classList.add("at");
  byId("grid").setAttribute("aria-activedescendant", cell.id);
}

function go(row, column) {
  if (!shown.length) return;
  active = { row: Math.max(0, Math.min(shown.length - 1, row)), column: Math.max(0, Math.min(maps.length + results.length, column)) };
  const grid = byId("grid");
  const head = document.querySelector(".row.head").offsetHeight;
  const top = active.row * height;
  if (top < grid.scrollTop) grid.scrollTop = top;
  else if (top + height > grid.scrollTop + grid.clientHeight - head) grid.scrollTop = top + height - grid.clientHeight + head;
  drawVisible();
  const cell = drawn.get(active.row).querySelector(`[data-column="${active.column}"]`);
  const label = cell.parentElement.firstElementChild;
  const covered = getComputedStyle(label).gridColumnEnd === "-1" ? 0 : label.offsetWidth + 24;
  if (cell.offsetLeft - covered < grid.scrollLeft) grid.scrollLeft = cell.offsetLeft - covered;
  else if (cell.offsetLeft + cell.offsetWidth > grid.scrollLeft + grid.clientWidth - 12) grid.scrollLeft = cell.offsetLeft + cell.offsetWidth - grid.clientWidth + 12;
}

// one row, large

function openViewer() {
  if (!shown.length) return;
  const slot = slots[shown[active.row]];
  const [name, width, , ...files] = rows[slot[0]];
  byId("viewer-title").textContent = `${name} · ${slot[1]}, picture ${slot[2] + 1}`;
  const figure = (inside, caption) => make("figure", {}, make("div", { class: "picture" }, inside), make("figcaption", {}, ...caption));
  const figures = files.map((file, f) => figure(file ? picture(file, "", width, true) : "none", [make("strong", {}, f ? maps[f - 1].name : "Source"), ` ${f ? maps[f - 1].role : "ground truth"}`]));
  const prompts = new Set(slot[3].filter(Boolean).map((cell) => cell[3] || ""));
  slot[3].forEach((cell, r) => {
    const scores = cell ? columns.flatMap((at, c) => [make("dt", {}, measures[at].name), make("dd", {}, digits(cell[2][c]))]) : [];
    const words = [make("strong", {}, results[r].name), make("dl", {}, ...scores)];
    if (cell && prompts.size > 1) words.push(make("p", { class: "said quiet", dir: "auto" }, cell[3] || "no prompt"));
    if (cell?.[4]) words.push(make("p", { class: "fault" }, cell[4]));
    figures.push(figure(inCell(cell, r, name, width, false, true), words));
    if (cell?.[1]) figures.push(figure(inCell(cell, r, name, width, true, true), [make("strong", {}, results[r].name), ` ${results[r].judged} found in it`]));
  });
  const prompt = prompts.size > 1 ? "Prompts differ by result." : [...prompts][0] || "no prompt";
  byId("viewer-body").replaceChildren(make("p", { class: "said", dir: "auto" }, prompt), make("div", { class: "large" }, ...figures));
  byId("previous").disabled = active.row === 0;
  byId("next").disabled = active.row === shown.length - 1;
  if (!byId("viewer").open) byId("viewer").showModal();
  byId("viewer").scrollTop = 0;
}

function step(by) {
  go(active.row + by, active.column);
  openViewer();
}

// what happens

function listen() {
  const grid = byId("grid");
  let waiting = false;
  grid.addEventListener("scroll", () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      drawVisible();
    });
  }, { passive: true });
  grid.addEventListener("click", (event) => {
    const cell = event.target.closest(".cell");
    if (!cell) return;
    go(Number(cell.dataset.row), Number(cell.dataset.column));
    openViewer();
  });
  grid.addEventListener("keydown", (event) => {
    if (event.target !== grid || event.altKey || event.metaKey) return;
    const page = Math.max(1, Math.floor(grid.clientHeight / height) - 1);
    const { row, column } = active;
    const moves = {
      ArrowDown: [row + 1, column], ArrowUp: [row - 1, column], ArrowRight: [row, column + 1], ArrowLeft: [row, column - 1],
      PageDown: [row + page, column], PageUp: [row - page, column],
      Home: event.ctrlKey ? [0, column] : [row, 0], End: event.ctrlKey ? [shown.length - 1, column] : [row, Infinity],
    };
    if (moves[event.key]) go(...moves[event.key]);
    else if (event.key === "Enter" || event.key === " ") openViewer();
    else return;
    event.preventDefault();
  });
  let typing = 0;
  byId("find").addEventListener("input", (event) => {
    clearTimeout(typing);
    typing = setTimeout(() => { state.text = event.target.value.trim(); update(); }, 120);
  });
  const choose = (id, then) => byId(id).addEventListener("change", (event) => { then(event.target); update(); });
  choose("kind", (select) => { state.kind = select.value; });
  choose("sample", (select) => { state.sample = select.value; });
  choose("measure", (select) => { state.measure = Number(select.value); });
  choose("base", (select) => { state.base = Number(select.value); });
  choose("sort", (select) => Object.assign(state, { by: select.value.replace("!", ""), best: select.value.endsWith("!") }));
  byId("maps").addEventListener("change", (event) => { state.maps = event.target.checked; redraw(); });
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  byId("close").addEventListener("click", () => byId("viewer").close());
  byId("viewer").addEventListener("click", (event) => { if (event.target === byId("viewer")) byId("viewer").close(); });
  byId("viewer").addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by) return;
    event.preventDefault();
    step(by);
  });
  byId("viewer").addEventListener("close", () => grid.focus());
  byId("help-button").addEventListener("click", () => byId("help").showModal());
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || isTyping(event.target, event.key) || document.querySelector("dialog[open]")) return;
    const digit = Number(event.key) - 1;
    if (event.key === "/") byId("find").focus();
    else if (event.key === "?") byId("help").showModal();
    else if (event.key === "m" && !byId("maps-label").hidden) byId("maps").click();
    else if (event.key === "d" && state.measure >= 0 && results.length > 1) { Object.assign(state, { by: "spread", best: false }); update(); }
    else if (state.measure >= 0 && digit >= 0 && digit < results.length) cycle(digit);
    else return;
    event.preventDefault();
  });
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth === width) return drawVisible();
    width = innerWidth;
    measureRow();
    redraw();
    return go(active.row, active.column);
  });
}

function start() {
  const protocols = [...new Set(results.map((result) => result.protocol))].join(", ");
  byId("about").textContent = `${results.map((result) => result.name).join(", ")} · ${rows.length.toLocaleString("en")} rows · ${protocols}`;
  if (state.measure >= 0 && results.length > 1) Object.assign(state, { base: 0, by: "1" });
  else if (state.measure >= 0) state.by = "0";
  byId("grid").style.setProperty("--n", 1 + maps.length + results.length);
  drawMeasures();
  drawControls();
  measureRow();
  listen();
  update();
}

start();
