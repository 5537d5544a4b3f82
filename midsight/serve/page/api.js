// Questions to the server that this page is from; asks for the key where one is needed.

const KEY = "midsight-key";
let access = ""; // opens pictures and videos, whose requests carry no headers
let renewal = 0;

export const byId = (id) => document.getElementById(id);

/** The answer to a request, or an Error with the server's words. */
export async function ask(path, body = undefined, signal = undefined) {
  const headers = {};
  const key = sessionStorage.getItem(KEY);
  if (key) headers.Authorization = `Bearer ${key}`;
  const form = body instanceof FormData;
  if (body !== undefined && !form) headers["Content-Type"] = "application/json";
  const answer = await fetch(path, {
    method: body === undefined ? "GET" : "POST",
    headers,
    body: body === undefined || form ? body : JSON.stringify(body),
    signal,
  });
  if (answer.status === 401) {
    await unlock(Boolean(key));
    return ask(path, body, signal);
  }
  const found = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(found.error?.message ?? `the server answered ${answer.status}`);
  return found;
}

/** What the server offers; keeps what opens pictures, and renews it in time. */
export async function about() {
  const found = await ask("v1/page");
  access = found.access;
  clearTimeout(renewal);
  renewal = setTimeout(() => about().catch(() => {}), found.access_seconds * 800);
  return found;
}

export const thumbnail = (id) => `v1/items/${id}/thumbnail?pass=${access}`;
export const media = (id) => `v1/items/${id}/media?pass=${access}`;

let asking = null;

function unlock(wrong) {
  asking ??= new Promise((done) => {
    const dialog = byId("lock");
    byId("lock-told").textContent = wrong ? "That key is not known here." : "It is kept until this tab is closed.";
    byId("key").value = "";
    dialog.oncancel = (event) => event.preventDefault(); // nothing works without it
    byId("lock-form").onsubmit = () => {
      sessionStorage.setItem(KEY, byId("key").value.trim());
      asking = null;
      done();
    };
    dialog.showModal();
  });
  return asking;
}

/** Seconds as people write times: 0:05, 1:02:03. */
export function clock(seconds) {
  const whole = Math.floor(seconds);
  const two = (number) => String(number).padStart(2, "0");
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

/** Where in a file an item is: 0:10, page 3; nothing for a picture. */
export function place(item) {
  if (item.kind === "video") return clock(item.start ?? 0);
  return item.kind === "page" ? `page ${item.page}` : "";
}

/** An element with properties and children. */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** A sentence for people who see the page and for those who hear it. */
export function tell(id, text, bad = false) {
  const place = byId(id);
  place.textContent = text;
  place.classList.toggle("bad", bad);
}

/** A picture, or a video that plays from the item's second, or a page of a document. */
export function show(place, item) {
  if (item.kind === "video") {
    const video = make("video", { controls: true, preload: "auto", playsInline: true, poster: thumbnail(item.id) });
    video.setAttribute("aria-label", item.path);
    const start = item.start ?? 0;
    video.addEventListener("loadedmetadata", () => {
      if (video.currentTime < start) video.currentTime = start;
      video.play().catch(() => {}); // where the browser wants a click first
    }, { once: true });
    video.addEventListener("error", () => place.replaceChildren(picture(item, thumbnail(item.id))), { once: true });
    video.src = `${media(item.id)}#t=${start}`;
    place.replaceChildren(video);
  } else {
    place.replaceChildren(picture(item, item.kind === "page" ? thumbnail(item.id) : media(item.id)));
  }
}

function picture(item, source) {
  const image = make("img", { alt: item.path, src: source });
  image.addEventListener("error", () => { image.src = thumbnail(item.id); }, { once: true }); // a format that browsers do not know
  return image;
}
