
"use strict";

// One token is chosen at a time. Everything on the page follows from `state`; `draw` brings it up to date.
const data = JSON.parse(document.getElementById("data").textContent);
const heat = bytesOf(data.heat); // 256 colours, red, green, blue
const unpacked = new Map(); // "layer/picture" -> Float32Array of tokens, made when first asked for
const state = { layer: data.layers.length - 1, mode: "likeness", picture: 0, token: 0, kept: false };
const views = [];

function bytesOf(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

// Numbers, packed

// The tokens of a picture on K principal directions, one after another: low + code * step.
function tokensOf(layer, picture) {
  const key = layer + "/" + picture;
  if (!unpacked.has(key)) {
    const { low, step, bytes, codes } = data.layers[layer];
    const raw = bytesOf(codes[picture]);
    const whole = bytes === 1 ? raw : new Uint16Array(raw.buffer);
    const width = low.length;
    unpacked.set(key, Float32Array.from(whole, (code, i) => low[i % width] + code * step[i % width]));
  }
  return unpacked.get(key);
}

// Cosines of the chosen token with all tokens of a picture.
function cosines(picture) {
  const width = data.layers[state.layer].low.length;
  const asked = tokensOf(state.layer, state.picture).subarray(state.token * width, (state.token + 1) * width);
  const tokens = tokensOf(state.layer, picture);
  const found = new Float32Array(tokens.length / width);
  for (let n = 0; n < found.length; n++) {
    let sum = 0;
    for (let k = 0; k < width; k++) sum += asked[k] * tokens[n * width + k];
    found[n] = Math.max(-1, Math.min(1, sum));
  }
  if (picture === state.picture) found[state.token] = 1; // rounding must not put another token above it
  return found;
}

// What the chosen token takes from each token of its picture, as shares of the largest; null where it is not known.
function attention() {
  const known = data.layers[state.layer].attention[state.picture];
  if (!known) return null;
  const count = data.pictures[state.picture].rows * data.pictures[state.picture].columns;
  const codes = bytesOf(known.codes).subarray(state.token * count, (state.token + 1) * count);
  const largest = new Float32Array(bytesOf(known.largest).buffer)[state.token];
  return { shares: Float32Array.from(codes, (code) => (code / 255) ** 2), largest };
}

// The most alike token of the other picture, and whether the chosen one is that one's best as well; null for one picture.
function bestMatch() {
  if (data.pictures.length < 2) return null;
  const best = data.layers[state.layer].best.map((text) => new Uint16Array(bytesOf(text).buffer));
  const token = best[state.picture][state.token];
  return { picture: 1 - state.picture, token, mutual: best[1 - state.picture][token] === state.token };
}

// Drawing

function paint(view, colourOf) {
  const { canvas } = view;
  const image = new ImageData(canvas.width, canvas.height);
  for (let n = 0; n < canvas.width * canvas.height; n++) {
    const [red, green, blue] = colourOf(n);
    image.data.set([red, green, blue, 255], 4 * n);
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  canvas.hidden = false;
  view.element.className = "view covered"; // grey below: its own colours would mix with those above
}

function paintHeat(view, values, low, high) {
  const scale = 255 / Math.max(high - low, 1e-6);
  paint(view, (n) => {
    const at = 3 * Math.round(Math.max(0, Math.min(255, (values[n] - low) * scale)));
    return heat.subarray(at, at + 3);
  });
}

function draw() {
  const layer = data.layers[state.layer];
  const found = data.pictures.map((_, picture) => cosines(picture));
  let range = null;
  for (const view of views) {
    view.canvas.hidden = true;
    view.element.className = "view";
  }
  if (state.mode === "likeness") {
    const low = found.reduce((least, values) => values.reduce((a, b) => Math.min(a, b), least), 1);
    range = ["cosine " + low.toFixed(2), "1.00"];
    for (const view of views) paintHeat(view, found[view.picture], low, 1);
  } else if (state.mode === "pca") {
    for (const view of views) {
      const colours = bytesOf(layer.pca[view.picture]);
      paint(view, (n) => colours.subarray(3 * n, 3 * n + 3));
    }
  } else if (state.mode === "attention") {
    const known = attention();
    if (known) {
      range = ["weight 0", (100 * known.largest).toFixed(1) + " %"];
      paintHeat(views[state.picture], known.shares, 0, 1);
    }
  }
  tellRange(range);
  const match = bestMatch();
  mark(match);
  tell(match, match && found[match.picture][match.token]);
}

function tellRange(range) {
  document.getElementById("scale").className = range ? "quiet" : "quiet off";
  document.getElementById("low").textContent = range ? range[0] : "";
  document.getElementById("high").textContent = range ? range[1] : "";
}

function mark(match) {
  for (const view of views) {
    const chosen = view.picture === state.picture;
    const token = chosen ? state.token : match.token;
    view.mark.className = chosen ? "mark" : match.mutual ? "mark match mutual" : "mark match";
    view.mark.dataset.token = token;
    const { rows, columns } = data.pictures[view.picture];
    view.mark.style.width = 100 / columns + "%";
    view.mark.style.height = 100 / rows + "%";
    view.mark.style.left = (100 * (token % columns)) / columns + "%";
    view.mark.style.top = (100 * Math.floor(token / columns)) / rows + "%";
  }
}

function placeOf(picture, token) {
  const { columns } = data.pictures[picture];
  return "column " + ((token % columns) + 1) + ", row " + (Math.floor(token / columns) + 1) + " of " + nameOf(picture);
}

function nameOf(picture) {
  const side = data.pictures.length < 2 ? "" : picture === 0 ? " (first)" : " (second)";
  return data.pictures[picture].name + side;
}

function tell(match, cosine) {
  let text = "Token in " + placeOf(state.picture, state.token) + (state.kept ? ", kept." : ".");
  if (match) {
    text += " Best match: " + placeOf(match.picture, match.token) + ", cosine " + cosine.toFixed(2);
    text += match.mutual ? "; each is the other's best." : "; its own best match lies elsewhere.";
  }
  if (state.mode === "attention" && !data.layers[state.layer].attention[state.picture]) {
    text += " This page holds no attention.";
  }
  document.getElementById("told").textContent = text;
}

// Hands

function choose(picture, token, kept) {
  if (picture === state.picture && token === state.token && kept === state.kept) return;
  Object.assign(state, { picture, token, kept });
  draw();
}

function tokenAt(view, event) {
  const box = view.element.getBoundingClientRect();
  const { rows, columns } = data.pictures[view.picture];
  const column = Math.floor(((event.clientX - box.left) / box.width) * columns);
  const row = Math.floor(((event.clientY - box.top) / box.height) * rows);
  return Math.max(0, Math.min(rows - 1, row)) * columns + Math.max(0, Math.min(columns - 1, column));
}

const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function onKey(view, event) {
  if (event.key === "Escape") return choose(state.picture, state.token, false);
  const step = STEPS[event.key];
  if (!step && event.key !== "Enter" && event.key !== " ") return;
  event.preventDefault();
  const { rows, columns } = data.pictures[view.picture];
  const token = view.picture === state.picture ? state.token : Number(view.mark.dataset.token);
  const [x, y] = step || [0, 0];
  const column = Math.max(0, Math.min(columns - 1, (token % columns) + x));
  const row = Math.max(0, Math.min(rows - 1, Math.floor(token / columns) + y));
  choose(view.picture, row * columns + column, true);
}

function makeView(one, picture) {
  const figure = document.createElement("figure");
  const caption = document.createElement("figcaption");
  caption.textContent = one.name + ", " + one.width + "x" + one.height + " pixels, ";
  caption.textContent += one.columns + "x" + one.rows + " tokens";
  const element = document.createElement("div");
  element.className = "view";
  element.tabIndex = 0;
  element.setAttribute("role", "application"); // arrow keys are ours
  element.setAttribute("aria-label", nameOf(picture) + ": arrow keys choose a token");
  const image = document.createElement("img");
  image.alt = "";
  image.src = one.image;
  element.style.aspectRatio = one.width + " / " + one.height;
  const canvas = document.createElement("canvas");
  canvas.width = one.columns;
  canvas.height = one.rows;
  const markElement = document.createElement("div");
  element.append(image, canvas, markElement);
  figure.append(caption, element);
  document.getElementById("pictures").append(figure);
  const view = { picture, element, canvas, mark: markElement };
  element.addEventListener("pointermove", (event) => {
    if (!state.kept) choose(picture, tokenAt(view, event), false);
  });
  element.addEventListener("click", (event) => {
    const token = tokenAt(view, event);
    const again = state.kept && picture === state.picture && token === state.token;
    choose(picture, token, !again);
  });
  element.addEventListener("keydown", (event) => onKey(view, event));
  return view;
}

function start() {
  document.getElementById("model").textContent = "Features of " + data.model + ".";
  const layers = document.getElementById("layer");
  for (const [index, { name }] of data.layers.entries()) layers.add(new Option(name, index));
  layers.value = state.layer;
  layers.addEventListener("change", () => {
    state.layer = Number(layers.value);
    draw();
  });
  for (const radio of document.querySelectorAll("input[name=mode]")) {
    if (radio.value === "attention") radio.disabled = data.layers.every(({ attention }) => !attention.some(Boolean));
    radio.checked = radio.value === state.mode; // browsers keep the last choice over a reload
    radio.addEventListener("change", () => {
      state.mode = radio.value;
      draw();
    });
  }
  data.pictures.forEach((one, picture) => views.push(makeView(one, picture)));
  const opacity = document.getElementById("opacity");
  const fade = () => views.forEach((view) => (view.canvas.style.opacity = opacity.value / 100));
  opacity.addEventListener("input", fade);
  fade();
  const scale = document.getElementById("heat").getContext("2d");
  const line = new ImageData(256, 1);
  for (let n = 0; n < 256; n++) line.data.set([...heat.subarray(3 * n, 3 * n + 3), 255], 4 * n);
  scale.putImageData(line, 0, 0);
  const { rows, columns } = data.pictures[0];
  state.token = Math.floor(rows / 2) * columns + Math.floor(columns / 2);
  draw();
}

start();
