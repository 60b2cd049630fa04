// What was painted, as steps that can be undone: drawn small for the screen, and at full size, band by band, for the service.
// Opaque is hole; only in the file that is sent white is hole and black is known.

import { greyPng } from "./png.js";

const BAND = 256; // rows at full size that are drawn at once
export const COLOUR = "#f0503c";

export class Mask {
  #steps = [];
  #undone = [];
  #scale;

  /** width, height: of the picture; scale: of what is shown, to it. */
  constructor(width, height, scale) {
    this.width = width;
    this.height = height;
    this.#scale = scale;
    this.canvas = new OffscreenCanvas(Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale)));
  }

  get canUndo() { return this.#steps.length > 0; }
  get canRedo() { return this.#undone.length > 0; }

  /** Whether nothing was painted since all was cleared. */
  get empty() {
    return this.#steps.slice(this.#steps.findLastIndex((step) => step.clear) + 1).every((step) => step.erase);
  }

  /** A stroke from (x, y), in pixels of the picture, which `extend` draws on. */
  begin(x, y, size, erase) {
    this.#add({ points: [x, y], size, erase });
  }

  extend(x, y) {
    const step = this.#steps.at(-1);
    const [fromX, fromY] = step.points.slice(-2);
    if (Math.hypot(x - fromX, y - fromY) * this.#scale < 0.5) return;
    step.points.push(x, y);
    this.#onScreen((context) => drawStroke(context, { ...step, points: [fromX, fromY, x, y] }));
  }

  /** A mask that was loaded: an opaque ImageBitmap where what is not `hole` is known. */
  load(bitmap, hole) {
    this.#add({ bitmap, hole });
  }

  clear() {
    this.#add({ clear: true, erase: true });
  }

  undo() {
    if (this.canUndo) this.#undone.push(this.#steps.pop());
    this.#redraw();
  }

  redo() {
    if (this.canRedo) this.#steps.push(this.#undone.pop());
    this.#redraw();
  }

  /** The mask at the picture's size as a PNG file: white is the hole. */
  file() {
    return greyPng(this.width, this.height, this.#bands());
  }

  * #bands() {
    const canvas = new OffscreenCanvas(this.width, Math.min(BAND, this.height));
    const context = canvas.getContext("2d", { willReadFrequently: true });
    for (let top = 0; top < this.height; top += BAND) {
      const rows = Math.min(BAND, this.height - top);
      context.setTransform(1, 0, 0, 1, 0, -top);
      context.clearRect(0, top, this.width, BAND);
      for (const step of this.#steps) drawStep(context, step, this.width, this.height, top, top + rows);
      const { data } = context.getImageData(0, 0, this.width, rows);
      const grey = new Uint8Array(this.width * rows);
      for (let i = 0; i < grey.length; i++) grey[i] = data[4 * i + 3] > 127 ? 255 : 0;
      yield grey;
    }
  }

  #add(step) {
    this.#steps.push(step);
    this.#undone = [];
    this.#onScreen((context) => drawStep(context, step, this.width, this.height, 0, this.height));
  }

  #redraw() {
    this.#onScreen((context) => {
      context.clearRect(0, 0, this.width, this.height);
      for (const step of this.#steps) drawStep(context, step, this.width, this.height, 0, this.height);
    });
  }

  #onScreen(draw) {
    const context = this.canvas.getContext("2d");
    context.setTransform(this.#scale, 0, 0, this.#scale, 0, 0);
    draw(context);
  }
}

/** Draw one step in the picture's coordinates, of which rows from `top` to `bottom` are seen. */
function drawStep(context, step, width, height, top, bottom) {
  if (step.clear) context.clearRect(0, 0, width, height);
  else if (step.bitmap) drawBitmap(context, step, width, top, bottom);
  else drawStroke(context, step, top, bottom);
}

function drawStroke(context, { points, size, erase }, top = -Infinity, bottom = Infinity) {
  const ys = points.filter((_, i) => i % 2);
  if (ys.every((y) => y + size < top) || ys.every((y) => y - size > bottom)) return;
  context.globalCompositeOperation = erase ? "destination-out" : "source-over";
  context.strokeStyle = COLOUR;
  context.lineWidth = size;
  context.lineCap = context.lineJoin = "round";
  context.beginPath();
  context.moveTo(points[0], points[1]);
  if (points.length === 2) context.lineTo(points[0] + 0.01, points[1]);
  for (let i = 2; i < points.length; i += 2) context.lineTo(points[i], points[i + 1]);
  context.stroke();
  context.globalCompositeOperation = "source-over";
}

/** The hole of a loaded mask, by its luminance, in the rows that are seen and at the size at which they are. */
function drawBitmap(context, { bitmap, hole }, width, top, bottom) {
  const scale = context.getTransform().a;
  const columns = Math.max(1, Math.round(width * scale));
  const step = Math.max(1, Math.round(BAND / scale));
  for (let row = top; row < bottom; row += step) {
    const rows = Math.min(step, bottom - row);
    const part = new OffscreenCanvas(columns, Math.max(1, Math.round(rows * scale)));
    const drawing = part.getContext("2d", { willReadFrequently: true });
    drawing.drawImage(bitmap, 0, row, width, rows, 0, 0, part.width, part.height);
    const pixels = drawing.getImageData(0, 0, part.width, part.height);
    const { data } = pixels;
    for (let i = 0; i < data.length; i += 4) {
      const grey = (0.299 * data[i] + 0.587 * data[i + 1] + 0.114 * data[i + 2]) / 255;
      const opacity = data[i + 3] / 255; // what is not painted on a transparent layer is known
      const share = hole === "white" ? opacity * grey : opacity * (1 - grey);
      data[i] = 0xf0;
      data[i + 1] = 0x50;
      data[i + 2] = 0x3c;
      data[i + 3] = share > 0.5 ? 255 : 0;
    }
    drawing.putImageData(pixels, 0, 0);
    context.drawImage(part, 0, row, width, rows);
  }
}
