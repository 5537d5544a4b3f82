// The search view: the question stands in the address, so that Back works and a link can be kept.

import { ask, byId, make, media, place, show, tell, thumbnail } from "./api.js";
import { Grid } from "./grid.js";

const TOP = 500; // hits of a search
const [FIRST, CHUNK] = [300, 5000]; // items that are asked for at once

export class Search {
  /** `go(changes)` changes the address; `toLabels(file)` opens the label view. */
  constructor(go, toLabels) {
    this.go = go;
    this.toLabels = toLabels;
    this.file = null; // a picture to search by; it does not fit into an address
    this.running = null;
    this.seen = null;
    this.grid = new Grid(byId("grid"), { open: (index) => this.open(index), similar: (index) => this.similar(index) });
    this.viewer = byId("viewer");
    byId("ask").addEventListener("submit", (event) => { event.preventDefault(); this.submit(); });
    byId("picture").addEventListener("change", (event) => {
      if (event.target.files[0]) this.byPicture(event.target.files[0]);
      event.target.value = "";
    });
    for (const id of ["path", "after", "before", "without"]) byId(id).addEventListener("change", () => this.submit());
    for (const box of document.querySelectorAll('[name="kind"]')) box.addEventListener("change", () => this.submit());
    byId("clear").addEventListener("click", () => go({ kind: "", path: "", after: "", before: "", without: "" }));
    byId("words").addEventListener("keydown", (event) => {
      if (event.key !== "ArrowDown") return;
      event.preventDefault();
      this.grid.focus(this.grid.current);
    });
    this.viewing();
  }

  submit() {
    const kinds = [...document.querySelectorAll('[name="kind"]:checked')].map((box) => box.value);
    this.go({
      q: byId("words").value.trim(), kind: kinds.join(","), path: byId("path").value.trim(), after: byId("after").value,
      before: byId("before").value, without: byId("without").value.trim(),
    });
  }

  byPicture(file) {
    this.file = file;
    this.seen = null;
    this.go({ view: "", like: "", name: "" });
  }

  similar(index) {
    const item = this.grid.items[index];
    this.file = null;
    this.viewer.close();
    this.go({ q: "", like: item.id, name: [item.path, place(item)].filter(Boolean).join(", ") });
    byId("words").focus();
  }

  /** Shows what the address asks for. */
  async apply(asked) {
    for (const [id, name] of [["words", "q"], ["path", "path"], ["after", "after"], ["before", "before"], ["without", "without"]]) {
      byId(id).value = asked[name] ?? "";
    }
    const kinds = (asked.kind ?? "").split(",").filter(Boolean);
    for (const box of document.querySelectorAll('[name="kind"]')) box.checked = kinds.includes(box.value);
    const active = ["kind", "path", "after", "before", "without"].filter((name) => asked[name]).length;
    byId("active").textContent = active ? ` (${active})` : "";
    if (active && innerWidth > 640) byId("more").open = true;
    this.chips(asked);
    const now = JSON.stringify(asked);
    if (now === this.seen) return;
    this.seen = now;
    this.running?.abort();
    const running = this.running = new AbortController();
    tell("status", "Looking …");
    try {
      const searches = asked.q || asked.like || this.file;
      await (searches ? this.search(asked, kinds, running.signal) : this.browse(asked, kinds, running.signal));
    } catch (error) {
      if (running.signal.aborted) return;
      this.grid.clear();
      this.seen = null;
      tell("status", error.message, true);
    }
  }

  chips(asked) {
    const chips = [];
    const chip = (source, text, remove) => {
      const button = make("button", { type: "button", textContent: "×", onclick: remove });
      button.setAttribute("aria-label", `Without ${text}`);
      chips.push(make("span", { className: "chip" }, make("img", { alt: "", src: source }), make("span", { textContent: text }), button));
    };
    if (this.preview) URL.revokeObjectURL(this.preview);
    this.preview = null;
    if (this.file) {
      this.preview = this.file.type.startsWith("image/") ? URL.createObjectURL(this.file) : "page/icon.svg";
      chip(this.preview, this.file.name || "picture", () => { this.file = null; this.seen = null; this.go({}); });
    }
    if (asked.like) chip(thumbnail(asked.like), asked.name || "an item", () => this.go({ like: "", name: "" }));
    byId("chips").replaceChildren(...chips);
  }

  async search(asked, kinds, signal) {
    const body = {
      input: asked.q ? [asked.q] : [], similar_to: asked.like ? [asked.like] : [], without: asked.without ? [asked.without] : [],
      paths: asked.path ? [asked.path] : [], kinds, top: TOP,
      ...(asked.after && { after: day(asked.after) }), ...(asked.before && { before: day(asked.before) }),
    };
    const found = await ask("v1/search", this.file ? form(body, this.file) : body, signal);
    const count = found.data.length;
    this.grid.clear();
    this.grid.add(found.data, count);
    scrollTo(0, 0);
    tell("status", count === TOP ? `The best ${count}` : count ? `${count} found, the best first` : "Nothing fits. Fewer filters or other words may help.");
  }

  async browse(asked, kinds, signal) {
    const query = new URLSearchParams(kinds.map((kind) => ["kind", kind]));
    for (const [name, value] of [["path", asked.path], ["after", day(asked.after)], ["before", day(asked.before)]]) {
      if (value) query.set(name, value);
    }
    for (let [at, total, first] = [0, 1, true]; at < total; first = false) {
      query.set("offset", at);
      query.set("limit", first ? FIRST : CHUNK);
      const found = await ask(`v1/items?${query}`, undefined, signal);
      if (first) {
        this.grid.clear();
        scrollTo(0, 0);
        tell("status", found.total ? `${found.total.toLocaleString("en")} items, the newest first` : "Nothing is here, or nothing fits the filters.");
      }
      if (!found.data.length) break;
      total = found.total;
      at += found.data.length;
      this.grid.add(found.data, total);
      await new Promise((done) => setTimeout(done, 30)); // scrolling goes first
    }
  }

  viewing() {
    const step = (by) => {
      const index = this.opened + by;
      if (index >= 0 && index < this.grid.items.length) this.open(index);
    };
    byId("previous").addEventListener("click", () => step(-1));
    byId("next").addEventListener("click", () => step(1));
    byId("close").addEventListener("click", () => this.viewer.close());
    byId("similar").addEventListener("click", () => this.similar(this.opened));
    byId("to-labels").addEventListener("click", async () => {
      const item = this.grid.items[this.opened];
      const answer = await fetch(item.kind === "image" ? media(item.id) : thumbnail(item.id));
      const data = await answer.blob();
      this.viewer.close();
      this.toLabels(new File([data], item.path, { type: data.type }));
    });
    this.viewer.addEventListener("keydown", (event) => {
      if (event.target.tagName === "VIDEO" || event.ctrlKey || event.metaKey) return;
      if (event.key === "ArrowRight") step(1);
      else if (event.key === "ArrowLeft") step(-1);
      else if (event.key === "s") this.similar(this.opened);
    });
    this.viewer.addEventListener("click", (event) => { if (event.target === this.viewer) this.viewer.close(); });
    this.viewer.addEventListener("close", () => {
      byId("media").replaceChildren();
      this.grid.focus(this.opened);
    });
  }

  open(index) {
    this.opened = index;
    const item = this.grid.items[index];
    const facts = [item.path, place(item), item.similarity == null ? "" : `similarity ${item.similarity.toFixed(3)}`];
    byId("caption").textContent = facts.filter(Boolean).join(" · ");
    if (item.text) byId("caption").append(make("br"), make("span", { className: "muted", textContent: item.text }));
    byId("file").href = media(item.id) + (item.kind === "page" ? `#page=${item.page}` : item.start ? `#t=${item.start}` : "");
    byId("previous").disabled = index === 0;
    byId("next").disabled = index === this.grid.items.length - 1;
    show(byId("media"), item);
    if (this.viewer.open) return;
    this.viewer.showModal();
    byId("similar").focus();
  }
}

/** A day as the server reads it: its beginning here. */
function day(value) {
  return value ? new Date(`${value}T00:00`).toISOString() : "";
}

function form(body, file) {
  const fields = new FormData();
  for (const [name, value] of Object.entries(body)) {
    for (const one of Array.isArray(value) ? value : [value]) fields.append(name, one);
  }
  fields.append("file", file);
  return fields;
}
