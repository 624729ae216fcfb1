const { study, criteria, questions } = data;
const STORE = `controlmill-study-${study}`;
const WORDS = ["best", "2nd", "3rd", "4th", "5th", "6th", "7th", "8th", "9th"];
let session = restored() || begun();
let ranking = []; // pictures of the question that is shown, best first

function number(below) {
  const limit = 2 ** 32 - (2 ** 32 % below);
  for (;;) {
    const [drawn] = crypto.getRandomValues(new Uint32Array(1));
    if (drawn < limit) return drawn % below;
  }
}

function shuffled(items) {
  const order = [...items];
  for (let at = order.length - 1; at > 0; at -= 1) {
    const other = number(at + 1);
    [order[at], order[other]] = [order[other], order[at]];
  }
  return order;
}

/** A new participant: questions in an order of their own for each criterion, and pictures in one for each question. */
function begun() {
  const participant = [...crypto.getRandomValues(new Uint8Array(8))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  const steps = criteria.flatMap((criterion, c) => shuffled(questions.keys()).map((question) => ({
    criterion: c, question, order: shuffled(questions[question].pictures.map((picture) => picture[0])), ranking: null,
  })));
  return { participant, name: "", at: -1, steps };
}

function restored() {
  try {
    return JSON.parse(localStorage.getItem(STORE));
  } catch {
    return null;
  }
}

function keep() {
  try {
    localStorage.setItem(STORE, JSON.stringify(session));
  } catch { /* a browser that keeps nothing: answers last as long as the page is open */ }
}

const step = () => session.steps[session.at];
const answered = () => session.steps.filter((one) => one.ranking).length;

function show() {
  const part = session.at < 0 ? "intro" : session.at >= session.steps.length ? "end" : "question";
  for (const id of ["intro", "question", "end"]) byId(id).hidden = id !== part;
  for (const id of ["progress", "progress-text"]) byId(id).hidden = part === "intro";
  byId("save").hidden = part !== "question" || !answered();
  byId("progress").max = session.steps.length;
  byId("progress").value = answered();
  byId("progress-text").textContent = `${answered()} of ${session.steps.length}`;
  if (part === "question") ask();
  else if (part === "end") byId("end-title").focus();
}

function ask() {
  const { criterion, question, order } = step();
  const { prompt, given, pictures } = questions[question];
  ranking = [...(step().ranking || [])];
  byId("question-title").textContent = criteria[criterion].question;
  byId("prompt").textContent = prompt ? `“${prompt}”` : "";
  byId("given").hidden = !criteria[criterion].given;
  byId("given").replaceChildren(...(given ? [picture(given, "The map that the pictures are to follow", data.width, true)] : []));
  const files = new Map(pictures);
  byId("choices").style.setProperty("--count", order.length);
  byId("choices").replaceChildren(...order.map((token, at) => make("button", { type: "button", "data-token": token, "aria-pressed": "false", onclick: () => choose(token) },
    picture(files.get(token), "", data.width, true), make("span", {}, make("b", {}, letter(at)), make("em", {})))));
  byId("back").disabled = session.at === 0;
  byId("question-title").focus({ preventScroll: true });
  scrollTo(0, 0);
  mark();
}

const letter = (at) => String.fromCharCode(65 + at);

function mark() {
  const { order } = step();
  order.forEach((token, at) => {
    const rank = ranking.indexOf(token);
    const button = byId("choices").children[at];
    const word = rank < 0 ? "" : rank === order.length - 1 ? "worst" : WORDS[rank];
    button.setAttribute("aria-pressed", String(rank >= 0));
    button.setAttribute("aria-label", `Picture ${letter(at)}${word ? `, ${word}` : ""}`);
    button.querySelector("em").textContent = word;
  });
  const done = ranking.length === order.length;
  byId("next").disabled = !done;
  byId("undo").disabled = !ranking.length;
  byId("hint").textContent = done ? "Press Enter to go on." : ranking.length ? "Choose the next best." : "Choose the best.";
  if (done) byId("next").focus({ preventScroll: true });
}

function choose(token) {
  const { order } = step();
  if (ranking.includes(token)) ranking = ranking.slice(0, ranking.indexOf(token)); // again: from there on anew
  else ranking.push(token);
  if (ranking.length === order.length - 1) ranking.push(order.find((other) => !ranking.includes(other)));
  mark();
}

/** The last choice is taken back; the worst was not chosen but left over, and goes with it. */
function undo() {
  const { order } = step();
  ranking = ranking.slice(0, ranking.length === order.length ? -2 : -1);
  mark();
}

function go(by) {
  if (by > 0) step().ranking = ranking;
  session.at += by;
  keep();
  show();
}

function save() {
  const answers = session.steps.filter((one) => one.ranking).map((one) => ({ question: one.question, criterion: criteria[one.criterion].name, ranking: one.ranking }));
  const text = JSON.stringify({ version: 1, study, participant: session.participant, name: session.name, answers }, null, 1);
  const safe = session.name.replace(/[^A-Za-z0-9]+/g, "-").replace(/^-|-$/g, "").slice(0, 30);
  const name = `answers-${study.slice(0, 8)}-${safe ? `${safe}-` : ""}${session.participant.slice(0, 8)}.json`;
  const address = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  make("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
  byId("saved").textContent = `${name} is in your downloads.`;
}

byId("begin").addEventListener("click", () => {
  session.name = byId("name").value.trim();
  session.at = 0;
  keep();
  show();
});
byId("next").addEventListener("click", () => go(1));
byId("back").addEventListener("click", () => go(-1));
byId("undo").addEventListener("click", undo);
byId("save").addEventListener("click", save);
byId("save-all").addEventListener("click", save);
byId("back-in").addEventListener("click", () => { session.at -= 1; show(); });
document.addEventListener("keydown", (event) => {
  if (byId("question").hidden || event.ctrlKey || event.altKey || event.metaKey) return;
  const at = event.key.length === 1 ? event.key.toUpperCase().charCodeAt(0) - 65 : -1;
  if (event.key === "Backspace" && ranking.length) undo();
  else if (at >= 0 && at < step().order.length) choose(step().order[at]);
  else return;
  event.preventDefault();
});
byId("intro-text").textContent = `You will see ${questions.length} sets of ${questions[0].pictures.length} pictures, ${criteria.length === 1 ? "once" : "first to judge how good they look, then how well they follow a map"}.`;
show();
