// The page as a whole: views, colours, pictures that are dropped or pasted.

import { about, byId, tell } from "./api.js";
import { Labels } from "./labels.js";
import { Review } from "./review.js";
import { Search } from "./search.js";

const THEME = "midsight-theme";
const dark = matchMedia("(prefers-color-scheme: dark)");

function paint() {
  const chosen = localStorage.getItem(THEME) ?? (dark.matches ? "dark" : "light");
  document.documentElement.dataset.theme = chosen;
  byId("theme").setAttribute("aria-pressed", chosen === "dark");
}

byId("theme").addEventListener("click", () => {
  localStorage.setItem(THEME, document.documentElement.dataset.theme === "dark" ? "light" : "dark");
  paint();
});
dark.addEventListener("change", paint);
paint();

const read = () => Object.fromEntries(new URLSearchParams(location.hash.slice(1)));

/** Changes the address; what it asks for is then shown. */
function go(changes) {
  const asked = Object.entries({ ...read(), ...changes }).filter(([, value]) => value);
  const hash = new URLSearchParams(asked).toString();
  if (hash === location.hash.slice(1)) apply();
  else location.hash = hash;
}

const labels = new Labels();
const review = new Review();
const search = new Search(go, (file) => {
  labels.take(file);
  go({ view: "labels" });
});

function apply() {
  const { view = "search", ...asked } = read();
  for (const main of document.querySelectorAll("[data-page]")) main.hidden = main.id !== view;
  for (const button of document.querySelectorAll("[data-view]")) {
    if (button.dataset.view === view) button.setAttribute("aria-current", "page");
    else button.removeAttribute("aria-current");
  }
  if (view === "search") search.apply(asked);
  if (view === "review") review.load();
  else byId("evidence").replaceChildren(); // a video does not play on
}

for (const button of document.querySelectorAll("[data-view]")) {
  button.addEventListener("click", () => go({ view: button.dataset.view === "search" ? "" : button.dataset.view }));
}
addEventListener("hashchange", apply);
document.querySelector("[data-skip]").addEventListener("click", (event) => {
  event.preventDefault();
  search.grid.focus(search.grid.current);
});
document.addEventListener("keydown", (event) => {
  const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
  if (event.key !== "/" || typing || byId("search").hidden) return;
  event.preventDefault();
  byId("words").focus();
});

/** A picture from outside goes to the view that is open. */
function take(file) {
  if (!/^(image|video)\//.test(file.type)) {
    tell("status", `${file.name}: neither a picture nor a video`, true);
  } else if (byId("labels").hidden) {
    byId("viewer").close();
    search.byPicture(file);
  } else {
    labels.take(file);
  }
}

let inside = 0;
const carries = (event) => event.dataTransfer?.types.includes("Files");
addEventListener("dragenter", (event) => { if (carries(event)) { inside += 1; byId("dropping").hidden = false; } });
addEventListener("dragleave", (event) => { if (carries(event) && --inside <= 0) { inside = 0; byId("dropping").hidden = true; } });
addEventListener("dragover", (event) => { if (carries(event)) event.preventDefault(); });
addEventListener("drop", (event) => {
  if (!carries(event)) return;
  event.preventDefault();
  inside = 0;
  byId("dropping").hidden = true;
  if (event.dataTransfer.files[0]) take(event.dataTransfer.files[0]);
});
addEventListener("paste", (event) => {
  const file = [...(event.clipboardData?.files ?? [])][0];
  if (file) { event.preventDefault(); take(file); }
});

try {
  const server = await about();
  document.title = `${server.folder} · midsight`;
  byId("folder").textContent = server.folder;
  labels.model = server.model;
  byId("words").disabled = !server.texts;
  document.querySelector('[data-view="labels"]').hidden = !server.texts;
  document.querySelector('[data-view="review"]').hidden = !server.categories.length;
  review.categories(server.categories);
  apply();
  if (!matchMedia("(pointer: coarse)").matches && !byId("search").hidden) byId("words").focus();
} catch (error) {
  tell("status", error.message, true);
}
