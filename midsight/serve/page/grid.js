// A justified grid of any number of tiles, of which only those near the window are in the document.

import { make, place, thumbnail } from "./api.js";

const GAP = 6; // pixels
const AHEAD = 500; // pixels above and below the window that are filled, too
const PATIENCE = 60; // milliseconds that a tile stays before its picture is asked for
const [WIDEST, NARROWEST] = [3, 0.45];

const ratio = (item) => Math.min(WIDEST, Math.max(NARROWEST, (item.width || 1) / (item.height || 1)));

export class Grid {
  /** `act` is told of what is done to an item: act.open(index), act.similar(index). */
  constructor(element, act) {
    this.element = element;
    this.act = act;
    this.spare = [];
    this.tiles = new Map(); // index -> tile
    this.pending = false;
    this.clear();
    addEventListener("scroll", () => this.later(), { passive: true });
    new ResizeObserver(() => this.resized()).observe(element);
    element.addEventListener("keydown", (event) => this.key(event));
    element.addEventListener("focusin", (event) => {
      const tile = event.target.closest(".tile");
      if (tile) this.mark(tile.index);
    });
    element.addEventListener("click", (event) => {
      const tile = event.target.closest(".tile");
      if (!tile) return;
      this.mark(tile.index);
      if (event.target.closest(".like")) this.act.similar(tile.index);
      else this.act.open(tile.index);
    });
  }

  clear() {
    for (const index of [...this.tiles.keys()]) this.drop(index);
    this.items = [];
    this.rows = []; // {top, height, first, end}; the last one may grow
    this.done = 0; // items in rows that no longer grow
    this.total = 0;
    this.current = 0; // the tile that Tab comes to
    this.element.style.height = "0";
  }

  /** More items; `total` is how many there will be. */
  add(items, total) {
    for (const item of items) this.items.push(item);
    this.total = total;
    this.layout();
    if (this.tiles.size) this.later();
    else this.render(); // nothing is to be seen of an empty grid
  }

  resized() {
    const width = this.element.clientWidth;
    if (width === this.width || !width) return;
    const top = this.rowAt(scrollY - this.offset());
    const anchor = this.rows[top]?.first ?? 0;
    const was = this.width;
    this.width = width;
    this.rows = [];
    this.done = 0;
    this.layout();
    if (was && anchor) scrollTo(0, this.offset() + this.rows[this.rowOf(anchor)].top);
    this.render(true);
  }

  offset() {
    return this.element.getBoundingClientRect().top + scrollY;
  }

  layout() {
    const width = this.width || this.element.clientWidth;
    if (!width) return;
    this.width = width;
    const target = width < 640 ? 130 : 210;
    if (this.rows.length && this.rows.at(-1).first >= this.done) this.rows.pop();
    let last = this.rows.at(-1);
    let top = last ? last.top + last.height + GAP : 0;
    let [first, sum] = [this.done, 0];
    for (let i = first; i < this.items.length; i++) {
      sum += ratio(this.items[i]);
      const free = width - GAP * (i - first);
      if (sum * target >= free) {
        const height = Math.min(free / sum, target * 1.5);
        this.rows.push({ top, height, first, end: i + 1 });
        top += height + GAP;
        [first, sum] = [i + 1, 0];
      }
    }
    this.done = first;
    if (first < this.items.length) this.rows.push({ top, height: target, first, end: this.items.length });
    last = this.rows.at(-1);
    this.element.style.height = last ? `${last.top + last.height}px` : "0";
  }

  rowAt(y) {
    let [low, high] = [0, this.rows.length - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.rows[middle].top + this.rows[middle].height < y) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  rowOf(index) {
    let [low, high] = [0, this.rows.length - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.rows[middle].end <= index) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  later() {
    if (this.pending) return;
    this.pending = true;
    requestAnimationFrame(() => {
      this.pending = false;
      this.render();
    });
  }

  render(moved = false) {
    if (!this.rows.length || !this.element.clientWidth) return;
    const above = scrollY - this.offset();
    const from = this.rowAt(above - AHEAD);
    const to = this.rowAt(above + innerHeight + AHEAD);
    const [first, end] = [this.rows[from].first, this.rows[to].end];
    for (const index of [...this.tiles.keys()]) {
      const focused = this.tiles.get(index).contains(document.activeElement);
      if ((index < first || index >= end) && !focused) this.drop(index);
    }
    for (let r = from; r <= to; r++) {
      const row = this.rows[r];
      let left = 0;
      for (let i = row.first; i < row.end; i++) {
        const width = Math.min(ratio(this.items[i]) * row.height, this.width);
        const known = this.tiles.get(i);
        if (!known || moved || known.top !== row.top || known.tall !== row.height) {
          this.put(known ?? this.take(i), row, left, width);
        }
        left += width + GAP;
      }
    }
  }

  take(index) {
    const tile = this.spare.pop() ?? blank();
    const item = this.items[index];
    tile.index = index;
    this.tiles.set(index, tile);
    const where = place(item);
    const spoken = item.kind === "video" ? `, video at ${where}` : where && `, ${where}`;
    tile.button.setAttribute("aria-label", item.path + spoken);
    tile.button.title = item.path;
    tile.button.tabIndex = index === this.current ? 0 : -1;
    tile.like.setAttribute("aria-label", `Similar to ${item.path}`);
    tile.badge.textContent = item.kind === "video" ? `▶ ${where}` : where;
    tile.badge.hidden = !where;
    tile.setAttribute("aria-posinset", index + 1);
    tile.setAttribute("aria-setsize", this.total);
    tile.waiting = setTimeout(() => { tile.image.src = thumbnail(item.id); }, PATIENCE);
    tile.image.onerror = () => { tile.gone.hidden = false; tile.gone.textContent = item.path; };
    this.element.append(tile);
    return tile;
  }

  put(tile, row, left, width) {
    tile.top = row.top;
    tile.tall = row.height;
    tile.style.width = `${width}px`;
    tile.style.height = `${row.height}px`;
    tile.style.transform = `translate(${left}px, ${row.top}px)`;
  }

  drop(index) {
    const tile = this.tiles.get(index);
    this.tiles.delete(index);
    clearTimeout(tile.waiting);
    tile.image.onerror = null;
    tile.image.removeAttribute("src"); // what is on its way is not needed any more
    tile.image.classList.remove("there");
    tile.gone.hidden = true;
    tile.remove();
    if (this.spare.length < 200) this.spare.push(tile);
  }

  mark(index) {
    const [old, now] = [this.tiles.get(this.current), this.tiles.get(index)];
    if (old) old.button.tabIndex = -1;
    if (now) now.button.tabIndex = 0;
    this.current = index;
  }

  /** Brings a tile into the window and puts the focus on it. */
  focus(index) {
    if (!this.items.length) return;
    const at = Math.min(Math.max(index, 0), this.items.length - 1);
    const row = this.rows[this.rowOf(at)];
    const top = this.offset() + row.top;
    const form = this.element.closest("main").querySelector("form");
    const bar = getComputedStyle(form).position === "sticky" ? form.offsetHeight : 0; // it stays on top
    if (top - bar < scrollY) scrollTo(0, top - bar - GAP);
    else if (top + row.height > scrollY + innerHeight) scrollTo(0, top + row.height - innerHeight + GAP);
    this.render();
    this.tiles.get(at)?.button.focus({ preventScroll: true });
  }

  key(event) {
    const at = this.current;
    const row = this.rowOf(at);
    const within = at - this.rows[row]?.first;
    const beside = (number) => {
      const other = this.rows[Math.min(Math.max(number, 0), this.rows.length - 1)];
      return Math.min(other.first + within, other.end - 1);
    };
    const rows = Math.max(1, Math.floor(innerHeight / ((this.rows[row]?.height ?? 200) + GAP)) - 1);
    const goals = {
      ArrowRight: () => at + 1, ArrowLeft: () => at - 1, ArrowDown: () => beside(row + 1), ArrowUp: () => beside(row - 1),
      PageDown: () => beside(row + rows), PageUp: () => beside(row - rows), Home: () => 0, End: () => this.items.length - 1,
    };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (goals[event.key]) {
      event.preventDefault();
      this.focus(goals[event.key]());
    } else if (event.key === "s") {
      event.preventDefault();
      this.act.similar(at);
    }
  }
}

function blank() {
  const image = make("img", { alt: "", decoding: "async" });
  const gone = make("span", { className: "gone", hidden: true });
  const button = make("button", { type: "button", className: "open" }, image, gone);
  const like = make("button", { type: "button", className: "like", textContent: "Similar", tabIndex: -1 });
  const badge = make("span", { className: "badge" });
  image.addEventListener("load", () => image.classList.add("there"));
  const tile = make("div", { className: "tile" }, button, badge, like);
  tile.setAttribute("role", "listitem");
  return Object.assign(tile, { image, button, like, badge, gone });
}
