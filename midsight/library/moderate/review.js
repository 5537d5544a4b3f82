"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const cards = at("cards");
const store = "midsight-review-" + data.key;
const decisions = new Map(); // key of an item -> {decision, decided}
const key = (item) => item.path + "\n" + item.category;

function element(kind, properties = {}, ...inside) {
  const made = Object.assign(document.createElement(kind), properties);
  made.append(...inside);
  return made;
}

// Decisions

function remember() {
  try { localStorage.setItem(store, JSON.stringify([...decisions])); } catch { /* then only the download keeps them */ }
}

function recall() {
  for (const one of data.decisions) decisions.set(key(one), {decision: one.decision, decided: one.decided});
  try {
    for (const [name, one] of JSON.parse(localStorage.getItem(store) || "[]")) decisions.set(name, one);
  } catch { /* nothing was kept */ }
}

function decide(item, decision) {
  const same = decisions.get(key(item))?.decision === decision;
  // An undone decision is kept as such: it must also win over one that the page was made with.
  decisions.set(key(item), {decision: same ? null : decision, decided: new Date().toISOString()});
  remember();
  show(item);
  count();
}

function taken(item) {
  return decisions.get(key(item))?.decision ?? null;
}

function lines() {
  const found = [];
  const known = new Map(data.items.map((item) => [key(item), item]));
  for (const [name, {decision, decided}] of decisions) {
    const [path, category] = name.split("\n");
    if (decision) found.push(JSON.stringify({path, category, decision, decided, score: known.get(name)?.score}));
  }
  return found.map((line) => line + "\n").join("");
}

function download() {
  const address = URL.createObjectURL(new Blob([lines()], {type: "application/jsonl"}));
  element("a", {href: address, download: "decisions.jsonl"}).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

async function load(file) {
  const told = at("progress");
  try {
    for (const line of (await file.text()).split("\n").filter((text) => text.trim())) {
      const {path, category, decision, decided} = JSON.parse(line);
      if (!path || !["yes", "no"].includes(decision)) throw new Error("a line is no decision");
      decisions.set(key({path, category}), {decision, decided});
    }
  } catch (error) {
    told.textContent = `${file.name} could not be read: ${error.message}`;
    return;
  }
  remember();
  data.items.forEach(show);
  count();
}

// Cards

function card(item, number) {
  const shot = element("div", {className: "shot"});
  if (item.thumb === null) shot.append(element("span", {textContent: item.error ? "not readable" : "no preview"}));
  else shot.append(element("img", {alt: item.name, src: data.thumbs[item.thumb], decoding: "async"}));
  if (item.times) shot.append(element("span", {className: "time", textContent: item.times}));
  const title = element("span", {textContent: item.category || "not readable", id: `what${number}`});
  const word = element("span", {className: `word ${item.verdict}`, textContent: item.verdict});
  const body = element("div", {className: "body"}, element("p", {className: "what"}, title, word));
  if (item.category) body.append(bar(item), element("p", {className: "quiet", textContent: item.told}));
  if (item.error) body.append(element("p", {className: "quiet", textContent: item.error}));
  const link = element("a", {href: item.href, target: "_blank", rel: "noopener", textContent: item.name, title: item.path});
  body.append(element("p", {className: "name"}, link));
  if (item.category) body.append(choice(item));
  const made = element("article", {tabIndex: -1, id: `card${number}`}, shot, body);
  made.setAttribute("aria-label", `${item.name}: ${item.category || "not readable"}, ${item.verdict}`
    + (item.category ? `, score ${item.score.toFixed(2)}` : "") + (item.times ? `, at ${item.times}` : ""));
  made.item = item;
  item.card = made;
  return made;
}

function bar(item) {
  const filled = element("i"), mark = element("b"), track = element("div", {className: "track"}, filled, mark);
  filled.style.width = `${100 * item.score}%`;
  mark.style.left = `calc(${100 * item.threshold}% - 1px)`;
  track.setAttribute("aria-hidden", "true");
  return track;
}

function choice(item) {
  const group = element("div", {className: "choice"});
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", `Does it show ${item.category}?`);
  for (const decision of ["yes", "no"]) {
    const button = element("button", {type: "button", textContent: decision === "yes" ? "Yes" : "No"});
    button.dataset.decision = decision;
    button.addEventListener("click", () => decide(item, decision));
    group.append(button);
  }
  return group;
}

function show(item) {
  for (const button of item.card.querySelectorAll("[data-decision]")) {
    button.setAttribute("aria-pressed", String(taken(item) === button.dataset.decision));
  }
}

function count() {
  const asked = data.items.filter((item) => item.category);
  const done = asked.filter(taken).length;
  at("progress").textContent = `${done} of ${asked.length} decided, ${cards.children.length} shown`
    + (data.leftOut ? `, ${data.leftOut} more left out by --limit` : "");
  at("save").disabled = !lines();
}

// Filters

const orders = {
  score: (a, b) => b.score - a.score,
  doubt: (a, b) => Math.abs(a.score - a.threshold) - Math.abs(b.score - b.threshold),
  name: (a, b) => a.name.localeCompare(b.name),
};

function fits(item) {
  const category = at("category").value, verdict = at("verdict").value, decision = at("decision").value;
  return (!category || item.category === category) && (!verdict || item.verdict === verdict)
    && (!decision || (taken(item) ?? "open") === decision)
    && item.path.toLowerCase().includes(at("name").value.trim().toLowerCase());
}

function filter() {
  const found = data.items.filter(fits).sort(orders[at("order").value]);
  cards.replaceChildren(...found.map((item) => item.card));
  if (found.length) found[0].card.tabIndex = 0;
  for (const item of found.slice(1)) item.card.tabIndex = -1;
  at("nothing").hidden = found.length > 0;
  count();
}

// Keys

function focus(one) {
  if (!one) return;
  for (const other of cards.querySelectorAll("article[tabindex='0']")) other.tabIndex = -1;
  one.tabIndex = 0;
  one.focus({preventScroll: true});
  one.scrollIntoView({block: "nearest"});
}

function columns() {
  const all = [...cards.children];
  const wrapped = all.findIndex((one) => one.offsetTop > all[0].offsetTop);
  return wrapped < 0 ? all.length : wrapped;
}

function press(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select")) return;
  const all = [...cards.children];
  const here = document.activeElement.closest?.("article");
  const number = all.indexOf(here);
  const steps = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns(), ArrowUp: -columns(), j: 1, k: -1};
  const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (name in steps) {
    focus(number < 0 ? all[0] : all[number + steps[name]]);
  } else if (here?.item.category && (name === "y" || name === "n")) {
    const decision = name === "y" ? "yes" : "no";
    if (taken(here.item) !== decision) decide(here.item, decision);
    focus(all[number + 1]);
  } else if (here?.item.category && name === "u" && taken(here.item)) {
    decide(here.item, taken(here.item));
  } else if (here && name === "o") {
    here.querySelector("a").click();
  } else {
    return;
  }
  event.preventDefault();
}

for (const id of ["category", "verdict"]) {
  for (const value of new Set(data.items.map((item) => item[id]).filter(Boolean))) at(id).append(new Option(value, value));
}
recall();
data.items.forEach((item, number) => { card(item, number); show(item); });
for (const id of ["category", "verdict", "decision", "order"]) at(id).addEventListener("change", filter);
at("name").addEventListener("input", filter);
at("filters").addEventListener("submit", (event) => event.preventDefault());
at("blur").addEventListener("change", (event) => cards.classList.toggle("blurred", event.target.checked));
at("save").addEventListener("click", download);
at("load").addEventListener("change", (event) => { if (event.target.files[0]) load(event.target.files[0]); });
document.addEventListener("keydown", press);
filter();
