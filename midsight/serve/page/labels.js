// The label view: a picture, labels, and their shares, told anew while they are written.

import { ask, byId, make, tell } from "./api.js";

const PATIENCE = 350; // milliseconds after the last letter

export class Labels {
  constructor() {
    this.file = null;
    this.model = "";
    this.running = null;
    this.waiting = 0;
    byId("names").addEventListener("input", () => this.later());
    byId("templates").addEventListener("change", () => this.score());
    byId("sample").addEventListener("change", (event) => {
      if (event.target.files[0]) this.take(event.target.files[0]);
      event.target.value = "";
    });
  }

  take(file) {
    this.file = file;
    const shown = byId("shown");
    if (shown.src) URL.revokeObjectURL(shown.src);
    shown.src = URL.createObjectURL(file);
    shown.alt = file.name || "the picture";
    shown.hidden = false;
    byId("invite").hidden = true;
    this.score();
  }

  later() {
    clearTimeout(this.waiting);
    this.waiting = setTimeout(() => this.score(), PATIENCE);
  }

  async score() {
    const labels = [...new Set(byId("names").value.split("\n").map((line) => line.trim()).filter(Boolean))];
    if (!this.file) return;
    this.running?.abort();
    const running = this.running = new AbortController();
    if (!labels.length) {
      byId("scores").replaceChildren();
      tell("labels-status", "Write a label.");
      return;
    }
    const fields = new FormData();
    fields.append("model", this.model);
    for (const label of labels) fields.append("labels", label);
    fields.append("templates", byId("templates").value);
    fields.append("file", this.file);
    try {
      const found = await ask("v1/classify", fields, running.signal);
      const best = found.data[0].predictions;
      byId("scores").replaceChildren(...best.map(bar));
      tell("labels-status", `${best[0].label}: ${percent(best[0].score)}`);
    } catch (error) {
      if (!running.signal.aborted) tell("labels-status", error.message, true);
    }
  }
}

const percent = (share) => `${(100 * share).toFixed(1)} %`;

function bar({ label, score }) {
  const fill = make("div", { className: "fill" });
  fill.style.width = percent(score).replace(" ", "");
  const meter = make("div", { className: "meter" }, fill);
  const spoken = { role: "meter", "aria-valuemin": 0, "aria-valuemax": 1, "aria-valuenow": score, "aria-label": label };
  for (const [name, value] of Object.entries(spoken)) meter.setAttribute(name, value);
  return make("li", {}, make("span", { textContent: label }), meter, make("span", { className: "share", textContent: percent(score) }));
}
