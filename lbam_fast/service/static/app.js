// The page: which picture is open, what is done with it, and what the buttons say.

import { Mask, COLOUR } from "./mask.js";
import { Pointers } from "./pointers.js";
import { inpaint, limits, Refused, setKey } from "./service.js";
import { View } from "./view.js";

const SHOWN = 3072; // pixels of the longer side of what is shown of a large picture
const SUFFIXES = { "image/png": "png", "image/jpeg": "jpg", "image/webp": "webp", "image/tiff": "tif", "image/bmp": "bmp" };

const $ = (id) => document.getElementById(id);
const canvas = $("canvas");
const state = {
  file: null, name: "", width: 0, height: 0, shown: null, // the picture, its name and size, and a bitmap of it that is shown
  mask: null, alpha: null, // what was painted; a canvas of what is transparent, where that is the hole
  result: null, // { blob, shown, notes, seconds }
  split: 0.5, size: 40, cursor: null, given: null, working: null,
};
const view = new View(canvas, () => ({
  picture: state.shown, width: state.width, height: state.height, mask: state.mask?.canvas, alpha: state.alpha,
  after: phase() === "result" ? state.result.shown : null, split: state.split,
  cursor: state.cursor && { ...state.cursor, size: state.size },
}));

const phase = () => document.body.dataset.state;
const tool = () => document.querySelector("input[name=tool]:checked").value;

function enter(name) {
  document.body.dataset.state = name;
  refresh();
}

function say(text, bad = false) {
  $("status").textContent = text;
  $("status").classList.toggle("bad", bad);
}

function refresh() {
  const { mask, alpha } = state;
  document.body.dataset.tool = tool();
  $("painting").disabled = !mask || Boolean(alpha);
  $("undo").disabled = !mask?.canUndo;
  $("redo").disabled = !mask?.canRedo;
  $("clear").disabled = !mask || mask.empty;
  $("load-mask").disabled = !mask || Boolean(alpha);
  $("fill").disabled = phase() !== "painting" || !(alpha || (mask && !mask.empty));
  $("size-text").value = `${Math.round(state.size)} px`;
  for (const name of ["grow", "feather"]) $(`${name}-text`).value = `${$(name).value} px`;
  view.draw();
}

// The picture

async function open(file, name = file.name || "picture.png") {
  if (state.working) return;
  say("Opening …");
  try {
    const decoded = await createImageBitmap(file);
    const { width, height } = decoded;
    if (state.given && width * height > state.given.max_pixels)
      throw new Error(`The picture has ${(width * height).toLocaleString("en")} pixels; this service takes up to ${state.given.max_pixels.toLocaleString("en")}.`);
    if (state.given && file.size > state.given.max_body)
      throw new Error(`The file has ${file.size.toLocaleString("en")} bytes; this service takes up to ${state.given.max_body.toLocaleString("en")}.`);
    const scale = Math.min(1, SHOWN / Math.max(width, height));
    const shown = scale < 1 ? await reduced(decoded, scale) : decoded;
    Object.assign(state, { file, name, width, height, shown, alpha: null, result: null, mask: new Mask(width, height, scale) });
  } catch (error) {
    say(error.name === "InvalidStateError" ? `${name} cannot be shown by this browser; PNG, JPEG and WebP can. The command line reads more.` : error.message, true);
    return;
  }
  state.size = Math.max(4, Math.round(Math.min(state.width, state.height) / 16));
  $("size").value = fromSize(state.size);
  $("file").textContent = `${name} · ${state.width} × ${state.height}`;
  $("alpha").checked = false;
  $("alpha-row").hidden = !transparency(state.shown);
  canvas.setAttribute("aria-label", `${name}, ${state.width} by ${state.height} pixels: paint on it what is to be filled`);
  enter("painting");
  view.fit();
  say($("alpha-row").hidden ? "" : "The picture has transparent parts: “Or take a mask” can fill them.");
}

async function reduced(bitmap, scale) {
  const size = { resizeWidth: Math.round(bitmap.width * scale), resizeHeight: Math.round(bitmap.height * scale) };
  const small = await createImageBitmap(bitmap, { ...size, resizeQuality: "high" });
  bitmap.close();
  return small;
}

/** A canvas that is coloured where a picture is transparent, or null where it is nowhere. */
function transparency(bitmap) {
  const drawn = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = drawn.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const pixels = context.getImageData(0, 0, drawn.width, drawn.height);
  const colour = [1, 3, 5].map((at) => parseInt(COLOUR.slice(at, at + 2), 16));
  let found = false;
  for (let i = 0; i < pixels.data.length; i += 4) {
    const hole = pixels.data[i + 3] < 128;
    found ||= hole;
    pixels.data.set([...colour, hole ? 255 : 0], i);
  }
  context.putImageData(pixels, 0, 0);
  return found ? drawn : null;
}

async function loadMask(file) {
  try {
    const bitmap = await createImageBitmap(file);
    if (bitmap.width !== state.width || bitmap.height !== state.height)
      throw new Error(`The mask is ${bitmap.width} × ${bitmap.height}, the picture ${state.width} × ${state.height}: expected the same size.`);
    state.mask.load(bitmap, $("mask-hole").value);
    say(`The mask is added: its ${$("mask-hole").value} parts are the hole.`);
  } catch (error) {
    say(error.name === "InvalidStateError" ? "The mask cannot be read; a PNG can." : error.message, true);
  }
  refresh();
}

// The service

async function fill() {
  if ($("fill").disabled) return;
  const options = { detail: $("detail").value, passes: $("passes").value, grow: $("grow").value, feather: $("feather").value };
  state.working = new AbortController();
  enter("busy");
  say("Preparing the mask …");
  const start = performance.now();
  $("progress").removeAttribute("value");
  try {
    const mask = state.alpha ? null : await state.mask.file();
    state.working.signal.throwIfAborted();
    const { blob, notes } = await inpaint(state.file, mask, options, uploaded, state.working.signal);
    const decoded = await createImageBitmap(blob);
    const scale = state.shown.width / state.width;
    const shown = scale < 1 ? await reduced(decoded, scale) : decoded;
    state.result = { blob, shown, notes, seconds: (performance.now() - start) / 1000 };
    showResult();
  } catch (error) {
    enter("painting");
    if (error.name === "AbortError") say("Cancelled.");
    else if (error instanceof Refused && error.status === 401) $("locked").showModal();
    else say(error.message + (error.after ? ` Try again in ${error.after} s.` : ""), true);
  } finally {
    state.working = null;
  }
}

function uploaded(share) {
  if (share < 1) {
    $("progress").value = share;
    say(`Uploading: ${Math.round(100 * share)} %`);
    return;
  }
  $("progress").removeAttribute("value");
  say("Filling …");
}

function showResult() {
  const { blob, notes, seconds } = state.result;
  const type = blob.type;
  $("summary").textContent = `In ${seconds.toFixed(1)} s. Move the line on the picture, or the slider, to compare.`;
  const anew = type === "image/jpeg" ? ["JPEG encodes the picture anew each time; PNG keeps known pixels to the bit."] : [];
  $("notes").replaceChildren(...[...notes, ...anew].map((text) => Object.assign(document.createElement("li"), { textContent: text })));
  const link = $("download");
  if (link.href) URL.revokeObjectURL(link.href);
  link.href = URL.createObjectURL(blob);
  link.download = `${state.name.replace(/\.[^.]*$/, "").replace(/_filled$/, "")}_filled.${SUFFIXES[type] ?? "png"}`;
  state.split = 0.5;
  $("split").value = 50;
  say("");
  enter("result");
  link.focus();
}

// Input

const toSize = (value) => Math.exp((value / 100) * Math.log(largest()));
const fromSize = (size) => (100 * Math.log(Math.max(1, size))) / Math.log(largest());
const largest = () => Math.max(8, Math.min(state.width, state.height) / 2);

function resize(factor) {
  state.size = Math.min(largest(), Math.max(1, state.size * factor));
  $("size").value = fromSize(state.size);
  refresh();
}

const pointers = new Pointers(canvas, view, {
  paints: () => phase() === "painting" && tool() !== "hand" && !state.alpha,
  compares: () => phase() === "result",
  hover(x, y) {
    state.cursor = phase() === "painting" && tool() !== "hand" && !state.alpha && x !== null ? { x, y } : null;
    view.draw();
  },
  begin(x, y, eraser) {
    state.mask.begin(x, y, state.size, eraser || tool() === "eraser");
    refresh();
  },
  extend: (x, y) => state.mask.extend(x, y),
  end: refresh,
  giveUp() {
    state.mask.undo();
    refresh();
  },
  split(x) {
    state.split = Math.min(1, Math.max(0, x / state.width));
    $("split").value = Math.round(100 * state.split);
    view.draw();
  },
});

const select = (name) => {
  document.querySelector(`input[name=tool][value=${name}]`).checked = true;
  refresh();
};
const KEYS = {
  b: () => select("brush"), e: () => select("eraser"), m: () => select("hand"),
  "[": () => resize(1 / 1.2), "]": () => resize(1.2),
  "+": () => view.zoom(1.25), "=": () => view.zoom(1.25), "-": () => view.zoom(0.8), 0: () => view.fit(),
  o: () => $("picture-file").click(), f: fill, d: () => phase() === "result" && $("download").click(),
};

document.addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]") || event.altKey) return;
  const key = event.key.toLowerCase();
  if (event.ctrlKey || event.metaKey) {
    if (phase() !== "painting" || !"zy".includes(key)) return;
    event.preventDefault();
    if (key === "y" || event.shiftKey) state.mask.redo();
    else state.mask.undo();
    refresh();
    return;
  }
  if (event.target.matches("select, input:not([type=radio], [type=range], [type=checkbox])")) return;
  if (event.target === canvas && byKeyboard(event)) {
    event.preventDefault();
    return;
  }
  if (!KEYS[key] || (phase() === "empty" && key !== "o")) return;
  event.preventDefault();
  KEYS[key]();
});

/** The brush moved by arrows, put down and taken up by the space bar; in the result, the line between before and after. */
function byKeyboard({ key, shiftKey }) {
  const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key] ?? [0, 0];
  if (phase() === "result" && dx) {
    pointers.actions.split(state.width * (state.split + dx / 50));
    return true;
  }
  if (!pointers.actions.paints() || (key !== " " && !dx && !dy)) return false;
  const cursor = (state.cursor ??= { x: state.width / 2, y: state.height / 2 });
  const step = shiftKey ? 1 : Math.max(1, state.size / 2);
  cursor.x = Math.min(state.width, Math.max(0, cursor.x + dx * step));
  cursor.y = Math.min(state.height, Math.max(0, cursor.y + dy * step));
  if (key === " ") {
    cursor.down = !cursor.down;
    if (cursor.down) pointers.actions.begin(cursor.x, cursor.y, false);
    say(cursor.down ? "The brush is down." : "The brush is up.");
  } else if (cursor.down) {
    state.mask.extend(cursor.x, cursor.y);
  }
  view.draw();
  return true;
}

for (const id of ["open", "choose"]) $(id).addEventListener("click", () => $("picture-file").click());
$("picture-file").addEventListener("change", ({ target }) => {
  if (target.files[0]) open(target.files[0]);
  target.value = "";
});
$("mask-file").addEventListener("change", ({ target }) => {
  if (target.files[0]) loadMask(target.files[0]);
  target.value = "";
});
$("load-mask").addEventListener("click", () => $("mask-file").click());
$("help").addEventListener("click", () => $("keys").showModal());
$("zoom-in").addEventListener("click", () => view.zoom(1.25));
$("zoom-out").addEventListener("click", () => view.zoom(0.8));
$("zoom-fit").addEventListener("click", () => view.fit());
$("undo").addEventListener("click", () => (state.mask.undo(), refresh()));
$("redo").addEventListener("click", () => (state.mask.redo(), refresh()));
$("clear").addEventListener("click", () => (state.mask.clear(), refresh()));
$("size").addEventListener("input", ({ target }) => {
  state.size = toSize(Number(target.value));
  refresh();
});
$("feather").addEventListener("input", ({ target }) => {
  $("grow").value = Math.max(Number($("grow").value), Number(target.value)); // what is blended has to be grown
});
$("grow").addEventListener("input", ({ target }) => {
  $("feather").value = Math.min(Number($("feather").value), Number(target.value));
});
$("alpha").addEventListener("change", ({ target }) => {
  state.alpha = target.checked ? transparency(state.shown) : null;
  refresh();
});
$("tools").addEventListener("input", refresh);
$("tools").addEventListener("submit", (event) => {
  event.preventDefault();
  fill();
});
$("cancel").addEventListener("click", () => state.working?.abort());
$("split").addEventListener("input", ({ target }) => {
  state.split = Number(target.value) / 100;
  view.draw();
});
$("back").addEventListener("click", () => enter("painting"));
$("continue").addEventListener("click", () => open(state.result.blob, $("download").download));
$("key-cancel").addEventListener("click", () => $("locked").close());
$("key-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  setKey($("key").value);
  $("key").value = "";
  $("locked").close();
  state.given = await limits();
  fill();
});

document.addEventListener("paste", ({ clipboardData }) => {
  const file = [...clipboardData.files].find((each) => each.type.startsWith("image/"));
  if (file) open(file, file.name || "pasted.png");
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dragging");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dragging");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  if (event.dataTransfer.files[0]) open(event.dataTransfer.files[0]);
});

enter("empty");
limits().then((given) => (state.given = given), () => say("The service does not answer. Is it still running?", true));
