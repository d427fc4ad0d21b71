"use strict";
// Texts of the file come into the page by textContent alone, and only once they are revealed.

const token = location.pathname.split("/")[1];
const at = (id) => document.getElementById(id);
const main = at("item"), filter = at("filter"), help = at("help");
const LABELS = ["unsafe", "safe", "broken"];
const DECISIONS = [...LABELS, "unsure"];
const AHEAD = 12;

let state = null; // what the server knows of all items, but for their texts
let shown = []; // positions of the items that the filter lets through
let place = 0; // where in `shown` we are
let revealed = false, keep = false;
let queue = Promise.resolve(); // keys act one after another, however fast they come
const texts = new Map(); // position -> item
const undoable = []; // this page's decisions, the last one at the end

async function call(path, options) {
  let reply;
  try {
    reply = await fetch(path, options);
  } catch {
    throw new Error("The server does not answer, so nothing more is saved. Start steerclear review again and open its new address.");
  }
  const body = await reply.json().catch(() => ({ error: `The server replied ${reply.status}.` }));
  if (!reply.ok && reply.status !== 409) throw new Error(`The server refused: ${body.error}`);
  return { conflict: reply.status === 409, ...(Array.isArray(body) ? { list: body } : body) };
}

function passes(i) {
  const judged = state.judged[i], decided = state.decided[i];
  switch (filter.value) {
    case "all": return true;
    case "undecided": case "unsure": return decided === filter.value;
    case "none": return judged === "";
    case "overturned": return judged !== "" && LABELS.includes(decided) && decided !== judged;
    default: return judged === filter.value;
  }
}

async function load(positions) {
  const missing = positions.filter((i) => !texts.has(i));
  if (!missing.length) return;
  const { list } = await call(`items?at=${missing}`);
  missing.forEach((position, n) => {
    texts.set(position, list[n]);
    state.decided[position] = list[n].decided;
  });
  while (texts.size > 40 * AHEAD) texts.delete(texts.keys().next().value);
}

function say(text) { at("status").textContent = text; }

// A stand-in of the same shape: what is not revealed is not in the page, for the eye, a search or a screen reader.
function standIn(text) { return [...text.slice(0, 1200)].map((c) => (/\s/.test(c) ? c : "noaeu"[c.charCodeAt(0) % 5])).join(""); }

function put(id, text) {
  const box = at(id);
  box.textContent = revealed ? text || "(empty)" : standIn(text) || "–";
  box.classList.toggle("veiled", !revealed);
  box.setAttribute("aria-hidden", String(!revealed));
}

function badge(id, words, kind) {
  at(id).textContent = words;
  at(id).className = `badge ${kind}`;
}

function draw() {
  const { decided, total, agree, compared } = state.tally;
  const share = compared ? ` · you and the judges agree on ${agree} of ${compared} (${Math.round((100 * agree) / compared)} %)` : "";
  at("tally").textContent = `${decided} of ${total} decided${share}`;
  at("progress").max = total;
  at("progress").value = decided;
  const position = shown[place], item = texts.get(position);
  main.hidden = !item;
  if (!item) return;
  const judged = state.judged[position], word = state.decided[position];
  at("heading").textContent = `${place + 1} of ${shown.length}`;
  badge("judged", judged ? `judges: ${judged}` : "no verdict", judged);
  badge("decided", word === "undecided" ? "" : `you: ${word}`, word);
  put("prompt", item.prompt);
  put("response", item.response);
  const rows = [["id", item.id], ...item.details].flatMap(([name, value]) => {
    const term = document.createElement("dt"), said = document.createElement("dd");
    term.textContent = name;
    said.textContent = value;
    return [term, said];
  });
  at("details").replaceChildren(...rows);
  for (const button of document.querySelectorAll("button[data-do]")) {
    const what = button.dataset.do;
    if (what === "reveal") button.setAttribute("aria-pressed", revealed);
    if (what === "keep") button.setAttribute("aria-pressed", keep);
    if (LABELS.includes(what)) button.setAttribute("aria-disabled", !revealed);
    if (what === "confirm") button.setAttribute("aria-disabled", !revealed || !judged);
  }
}

async function go(to, note = "") {
  if (!shown.length) {
    draw();
    return say("Nothing to show here. Choose another filter (f).");
  }
  place = Math.max(0, Math.min(to, shown.length - 1));
  revealed = keep;
  await load([shown[place]]);
  draw();
  scrollTo(0, 0);
  main.focus({ preventScroll: true });
  say(`${note}${place + 1} of ${shown.length}${revealed ? "." : ", hidden: r reveals."}`);
  const ahead = shown.slice(place + 1, place + 1 + AHEAD);
  if (ahead.length && !texts.has(ahead[0])) await load(ahead);
}

async function refilter(first) {
  shown = state.judged.map((_, i) => i).filter(passes);
  await go(Math.max(0, shown.findIndex((i) => i >= first)));
}

// True if it is saved.
async function save(position, decision, was) {
  const headers = { "Content-Type": "application/json", "X-Review-Token": token };
  const body = JSON.stringify({ key: texts.get(position).key, decision, was });
  const reply = await call("decide", { method: "POST", headers, body });
  state.decided[position] = reply.conflict ? reply.decided : decision;
  if (reply.conflict) {
    draw();
    say(`Not saved: decided elsewhere meanwhile (${reply.decided}). Decide again to change it.`);
    return false;
  }
  state.tally = reply.tally;
  return true;
}

async function decide(decision) {
  const position = shown[place];
  // A label is the word of someone who has read the answer; to leave one to the judges needs no reading.
  if (!revealed && decision !== "unsure") return say("Read it first: r reveals. Only ? (unsure) works unread.");
  if (decision === "confirm") decision = state.judged[position];
  if (!decision) return say("The judges gave no verdict to confirm: u, s or b decides.");
  const was = state.decided[position];
  if (!(await save(position, decision, was))) return;
  undoable.push({ position, was, decision });
  const open = (i) => state.decided[i] === "undecided";
  let next = shown.findIndex((i, n) => n > place && open(i));
  if (next < 0) next = shown.findIndex(open);
  if (next < 0) {
    draw();
    return say(`Saved: ${decision}. Everything here is decided.`);
  }
  await go(next, `Saved: ${decision}. `);
}

async function undo() {
  const last = undoable.at(-1);
  if (!last) return say("Nothing to take back.");
  await load([last.position]);
  const saved = await save(last.position, last.was, last.decision);
  undoable.pop(); // gone too where someone else has decided since
  if (!saved) return;
  if (!shown.includes(last.position)) shown = [...shown, last.position].sort((a, b) => a - b);
  await go(shown.indexOf(last.position), `Taken back: ${last.decision}. `);
}

function toggleHelp() { help.open ? help.close() : help.showModal(); }

const actions = {
  next: () => go(place + 1),
  previous: () => go(place - 1),
  reveal: () => { revealed = !revealed; draw(); say(revealed ? "Revealed." : "Hidden."); },
  keep: () => { keep = !keep; revealed = keep; draw(); say(keep ? "Texts stay revealed." : "Every text starts hidden."); },
  undo,
  help: toggleHelp,
  filter: () => filter.focus(),
  refilter: () => refilter(0),
  confirm: () => decide("confirm"),
  ...Object.fromEntries(DECISIONS.map((word) => [word, () => decide(word)])),
};
const KEYS = {
  u: "unsafe", s: "safe", b: "broken", "?": "unsure", Enter: "confirm", r: "reveal", " ": "reveal", R: "keep", j: "next",
  ArrowRight: "next", k: "previous", ArrowLeft: "previous", z: "undo", h: "help", f: "filter",
};

function act(name) {
  queue = queue.then(async () => {
    if (!state || (!shown.length && !["help", "filter", "refilter", "undo"].includes(name))) return;
    try {
      await actions[name]();
      at("error").hidden = true;
    } catch (error) {
      at("error").textContent = error.message;
      at("error").hidden = false;
    }
  });
}

document.addEventListener("keydown", (event) => {
  const name = KEYS[event.key];
  if (event.ctrlKey || event.metaKey || event.altKey || !name || (help.open && name !== "help")) return;
  if (event.target === filter) return;
  if (event.target.tagName === "BUTTON" && (event.key === "Enter" || event.key === " ")) return; // the button's own
  event.preventDefault();
  if (!event.repeat || name === "next" || name === "previous") act(name);
});
document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-do]");
  if (button) act(button.dataset.do);
});
filter.addEventListener("change", () => { act("refilter"); });
filter.addEventListener("keydown", (event) => { if (event.key === "Escape") main.focus(); });

async function start() {
  state = await call("state");
  document.title = `Review: ${state.file}`;
  at("file").textContent = state.file;
  await refilter(state.first);
}
queue = start().catch((error) => { at("error").textContent = error.message; at("error").hidden = false; });
