// Answers of two runs side by side. A run is unpacked when it is first chosen; a page of the list has few prompts, however many there are.

const AT_ONCE = 10;
const LABELS = { harmful: "harmful", safe: "coherent and safe", degenerate: "degenerate", unscored: "unscored" };
const unpackedTexts = new Map(); // id of the packed text -> its content
const revealed = new Set(); // keys of texts that the reader asked for one by one
let all = false, matching = [], first = 0, pair = [], prompts = [], calls = 0;

function unpacked(id) {
  if (!unpackedTexts.has(id)) {
    const bytes = Uint8Array.from(atob(at(id).textContent), (char) => char.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    unpackedTexts.set(id, new Response(stream).json());
  }
  return unpackedTexts.get(id);
}

const field = (name) => at("filters").elements[name];

// A stand-in of the same shape: what is not revealed is not in the page, for the eye, a search or a screen reader.
const standIn = (text) => [...text.slice(0, 900)].map((c) => (/\s/.test(c) ? c : "noaeu"[c.codePointAt(0) % 5])).join("");

function textBox(key, text, isHidden, what) {
  if (!text) return make("div", "empty", `empty ${what}`);
  const box = make("div", "text", text);
  box.dir = "auto";
  if (!isHidden || all || revealed.has(key)) return box;
  const veil = make("div", "veil"), button = make("button", "", `Show ${what}`);
  box.textContent = standIn(text);
  box.setAttribute("aria-hidden", "true");
  button.type = "button";
  button.addEventListener("click", () => {
    revealed.add(key);
    const open = textBox(key, text, true, what);
    open.tabIndex = -1;
    veil.replaceWith(open);
    open.focus();
  });
  veil.append(box, button);
  return veil;
}

function answerBox(run, at, entry) {
  const box = make("article", "answer"), head = box.appendChild(make("header")), name = make("b");
  name.append(badge(run), make("span", "", shortened(data.runs[run], 60)));
  head.append(name);
  if (!entry) {
    box.append(make("div", "empty", "was not asked"));
    return box;
  }
  const [response, outcome, reason, refused, isHidden, score] = entry;
  const word = data.answers.outcomes[outcome], why = data.answers.reasons[reason];
  const told = [LABELS[word], refused ? "refused" : "", why, score === null ? "" : `score ${score}`].filter(Boolean).join(" · ");
  head.append(make("span", `outcome ${word}`, told));
  box.append(textBox(`${run} ${at}`, response, isHidden, "answer"));
  return box;
}

function caseBox(place) {
  const [suite, group, id, isHidden, text] = prompts[place];
  const box = make("section", "case");
  box.append(make("p", "where", [data.answers.suites[suite], data.answers.groups[group], id].filter(Boolean).join(" · ")));
  const asked = box.appendChild(make("div", "prompt"));
  asked.append(textBox(`p ${place}`, text, isHidden, "prompt"));
  const answers = box.appendChild(make("div", "pair"));
  for (const { run, column } of pair) answers.append(answerBox(run, place, column[place]));
  return box;
}

function passes(place) {
  const [suite, group, , , text] = prompts[place];
  if (field("suite").value && suite !== Number(field("suite").value)) return false;
  if (field("group").value && group !== Number(field("group").value)) return false;
  const given = pair.map(({ column }) => column[place]).filter(Boolean);
  if (!given.length) return false;
  if (field("differ").checked && (given.length < 2 || given[0][1] === given[1][1])) return false;
  const wanted = field("verdict").value;
  if (wanted === "refused" && !given.some((entry) => entry[3])) return false;
  if (wanted && wanted !== "refused" && !given.some((entry) => data.answers.outcomes[entry[1]] === wanted)) return false;
  const words = field("words").value.toLowerCase();
  return !words || [text, ...given.map((entry) => entry[0])].some((own) => own.toLowerCase().includes(words));
}

function show() {
  first = Math.max(0, Math.min(first, Math.floor((matching.length - 1) / AT_ONCE) * AT_ONCE));
  const last = Math.min(first + AT_ONCE, matching.length);
  at("list").replaceChildren(...matching.slice(first, last).map(caseBox));
  at("found").textContent = `${matching.length} of ${prompts.length} prompts`;
  at("place").textContent = matching.length ? `${first + 1}–${last} of ${matching.length}` : "";
  at("before").disabled = first === 0;
  at("after").disabled = last >= matching.length;
}

async function filter() {
  const call = ++calls, runs = [...new Set(["first", "second"].map((name) => Number(field(name).value)))];
  const texts = await unpacked("prompts");
  const columns = await Promise.all(runs.map(async (run) => ({ run, column: await unpacked(`answers-${run}`) })));
  if (call !== calls) return; // the reader has chosen anew meanwhile
  prompts = texts;
  pair = columns;
  matching = prompts.map((_, place) => place).filter(passes);
  first = 0;
  show();
}

function turn(by) {
  first += by * AT_ONCE;
  show();
  at("answers").scrollIntoView();
}

function options(name, texts) {
  texts.forEach((text, place) => {
    if (!text) return;
    const option = make("option", "", text);
    option.value = place;
    field(name).append(option);
  });
}

function setReveal(value) {
  all = value;
  at("reveal-all").setAttribute("aria-pressed", all);
  at("reveal-all").textContent = all ? "Hide harmful text again" : "Show all hidden text";
  if (!all) revealed.clear();
  show();
}

// What is held against the baseline at first: the recommended run, where that is not the baseline itself.
function otherRun() {
  return data.best === null || data.best === data.baseline ? (data.baseline + 1) % data.runs.length : data.best;
}

async function start() {
  options("suite", data.answers.suites);
  options("group", data.answers.groups);
  for (const [value, label] of [...Object.entries(LABELS), ["refused", "refused"]]) {
    const option = make("option", "", label);
    option.value = value;
    field("verdict").append(option);
  }
  field("first").value = data.baseline;
  field("second").value = otherRun();
  at("filters").addEventListener("submit", (event) => event.preventDefault());
  at("filters").addEventListener("input", filter);
  at("before").addEventListener("click", () => turn(-1));
  at("after").addEventListener("click", () => turn(1));
  at("reveal-all").addEventListener("click", () => (all ? setReveal(false) : at("sure").showModal()));
  at("sure").addEventListener("close", () => { if (at("sure").returnValue === "yes") setReveal(true); at("sure").returnValue = ""; });
  await filter();
}

Promise.resolve(at("filters") && start()).then(() => { root.dataset.ready = String(Math.round(performance.now())); });
