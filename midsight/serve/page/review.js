// The review view: one question after the other, decided by a key; the server keeps each decision.

import { ask, byId, clock, make, place, show, tell, thumbnail } from "./api.js";

const WORD = { flag: "flagged", review: "to review", error: "not readable" };

export class Review {
  constructor() {
    this.items = [];
    this.at = 0; // among those shown
    for (const [id, decision] of [["yes", "yes"], ["no", "no"], ["undo", null]]) {
      byId(id).addEventListener("click", () => this.decide(decision));
    }
    byId("back").addEventListener("click", () => this.open(this.at - 1));
    byId("on").addEventListener("click", () => this.open(this.at + 1));
    byId("category").addEventListener("change", () => this.list());
    byId("open-only").addEventListener("change", () => this.list());
    document.addEventListener("keydown", (event) => this.key(event));
  }

  categories(names) {
    byId("category").append(...names.map((name) => new Option(name, name)));
  }

  async load() {
    tell("review-status", "Looking …");
    try {
      const found = await ask("v1/reviews");
      this.items = found.data;
      this.total = found.total;
      this.list();
    } catch (error) {
      tell("review-status", error.message, true);
    }
  }

  list() {
    const [category, open] = [byId("category").value, byId("open-only").checked];
    this.shown = this.items.filter((item) => (!category || item.category === category) && !(open && item.decision));
    byId("questions").replaceChildren(...this.shown.map((item, index) => {
      const button = make("button", { type: "button", onclick: () => this.open(index) },
        make("img", { alt: "", loading: "lazy", src: thumbnail(item.id) }), make("span"));
      this.mark(button, item);
      return make("li", {}, button);
    }));
    const first = this.shown.findIndex((item) => !item.decision);
    this.open(Math.max(0, first));
  }

  mark(button, item) {
    const said = item.decision ? `${item.decision === "yes" ? "✓" : "✗"} ${item.decision}` : WORD[item.verdict];
    button.lastChild.textContent = `${said} · ${item.category}`;
    button.setAttribute("aria-label", `${item.path}, ${item.category}, ${item.decision ? `decided ${item.decision}` : WORD[item.verdict]}`);
  }

  open(index) {
    byId("question").hidden = !this.shown.length;
    this.progress();
    if (!this.shown.length) return;
    this.at = Math.min(Math.max(index, 0), this.shown.length - 1);
    const item = this.shown[this.at];
    for (const old of byId("questions").querySelectorAll("[aria-current]")) old.removeAttribute("aria-current");
    byId("questions").children[this.at].firstChild.setAttribute("aria-current", "true");
    byId("claim").textContent = `Does this show “${item.category}”?`;
    const where = place(item);
    byId("told").textContent = `${item.path}${where && `, ${where}`}. Score ${item.score.toFixed(2)}, flagged from ${item.threshold}: ${item.by}.`;
    byId("times").textContent = item.ranges.map((one) => `${clock(one.start)}–${clock(one.end)}`).join(", ");
    for (const [id, decision] of [["yes", "yes"], ["no", "no"]]) byId(id).setAttribute("aria-pressed", item.decision === decision);
    byId("undo").disabled = !item.decision;
    show(byId("evidence"), item);
  }

  progress() {
    const decided = this.shown.filter((item) => item.decision).length;
    const more = this.total > this.items.length ? ` The gravest ${this.items.length} of ${this.total} are shown.` : "";
    tell("review-status", this.shown.length ? `${decided} of ${this.shown.length} decided.${more}` : "Nothing is flagged, and nothing waits for review.");
  }

  async decide(decision) {
    const item = this.shown?.[this.at];
    if (!item) return;
    try {
      await ask("v1/reviews", { id: item.id, category: item.category, decision });
    } catch (error) {
      tell("review-status", error.message, true);
      return;
    }
    item.decision = decision;
    this.mark(byId("questions").children[this.at].firstChild, item);
    const rest = [...this.shown.keys()].map((n) => (this.at + 1 + n) % this.shown.length);
    const next = rest.find((n) => !this.shown[n].decision);
    this.open(decision === null || next === undefined ? this.at : next);
  }

  key(event) {
    if (byId("review").hidden || event.ctrlKey || event.metaKey || event.altKey) return;
    if (document.querySelector("dialog[open]") || /^(INPUT|SELECT|TEXTAREA|VIDEO)$/.test(event.target.tagName)) return;
    const keys = {
      y: () => this.decide("yes"), n: () => this.decide("no"), u: () => this.decide(null),
      ArrowRight: () => this.open(this.at + 1), ArrowLeft: () => this.open(this.at - 1),
    };
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  }
}
