// The canvas: where the picture lies on it, and what is drawn.

const CHECKS = 12;

export class View {
  #frame = 0;
  #scale = 1;
  #x = 0;
  #y = 0;
  #fitted = true;

  /** scene(): what to draw: { picture, after, mask, alpha, split, cursor } with bitmaps that are shown at width x height. */
  constructor(canvas, scene) {
    this.canvas = canvas;
    this.scene = scene;
    new ResizeObserver(() => this.#resize()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  /** Pixels of the screen for one of the picture. */
  get scale() { return this.#scale; }

  /** From pixels of the page to those of the picture. */
  toPicture(clientX, clientY) {
    const box = this.canvas.getBoundingClientRect();
    return [(clientX - box.left - this.#x) / this.#scale, (clientY - box.top - this.#y) / this.#scale];
  }

  fit() {
    const { width, height } = this.scene();
    if (!width) return;
    const { clientWidth, clientHeight } = this.canvas;
    const margin = Math.min(24, clientWidth / 20);
    this.#scale = Math.min((clientWidth - 2 * margin) / width, (clientHeight - 2 * margin) / height, 8);
    this.#x = (clientWidth - width * this.#scale) / 2;
    this.#y = (clientHeight - height * this.#scale) / 2;
    this.#fitted = true;
    this.draw();
  }

  /** Zoom by a factor around a point of the page; by default around the middle. */
  zoom(factor, clientX, clientY) {
    const box = this.canvas.getBoundingClientRect();
    const x = clientX === undefined ? box.width / 2 : clientX - box.left;
    const y = clientY === undefined ? box.height / 2 : clientY - box.top;
    const { width, height } = this.scene();
    const least = Math.min(1, 64 / Math.max(width, height), box.width / width);
    const scale = Math.min(32, Math.max(least, this.#scale * factor));
    this.#x = x - ((x - this.#x) * scale) / this.#scale;
    this.#y = y - ((y - this.#y) * scale) / this.#scale;
    this.#scale = scale;
    this.#moved();
  }

  pan(dx, dy) {
    this.#x += dx;
    this.#y += dy;
    this.#moved();
  }

  draw() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#paint();
    });
  }

  #moved() {
    const { width, height } = this.scene();
    const { clientWidth, clientHeight } = this.canvas;
    const keep = 48; // pixels of the picture that stay in sight
    this.#x = Math.min(clientWidth - keep, Math.max(keep - width * this.#scale, this.#x));
    this.#y = Math.min(clientHeight - keep, Math.max(keep - height * this.#scale, this.#y));
    this.#fitted = false;
    this.draw();
  }

  #resize() {
    const ratio = devicePixelRatio;
    this.canvas.width = Math.round(this.canvas.clientWidth * ratio);
    this.canvas.height = Math.round(this.canvas.clientHeight * ratio);
    if (this.#fitted) this.fit();
    this.draw();
  }

  #paint() {
    const context = this.canvas.getContext("2d");
    const { picture, after, mask, alpha, width, height, split, cursor } = this.scene();
    const ratio = devicePixelRatio;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    if (!picture) return;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.#checks(context, width, height);
    context.setTransform(ratio * this.#scale, 0, 0, ratio * this.#scale, ratio * this.#x, ratio * this.#y);
    context.imageSmoothingEnabled = (this.#scale * width) / picture.width < 3;
    context.imageSmoothingQuality = "high";
    context.drawImage(picture, 0, 0, width, height);
    if (after) this.#after(context, after, width, height, split);
    const hole = alpha ?? mask;
    if (hole && !after) {
      context.globalAlpha = 0.6;
      context.drawImage(hole, 0, 0, width, height);
      context.globalAlpha = 1;
    }
    if (cursor && !after) this.#cursor(context, cursor);
  }

  #checks(context, width, height) {
    const [right, bottom] = [this.#x + width * this.#scale, this.#y + height * this.#scale];
    context.save();
    context.beginPath();
    context.rect(this.#x, this.#y, right - this.#x, bottom - this.#y);
    context.clip();
    context.fillStyle = "#fff";
    context.fillRect(this.#x, this.#y, right - this.#x, bottom - this.#y);
    context.fillStyle = "#d4d4d4";
    const [left, top] = [Math.max(0, this.#x), Math.max(0, this.#y)];
    for (let y = top; y < Math.min(bottom, this.canvas.clientHeight); y += CHECKS)
      for (let x = left; x < Math.min(right, this.canvas.clientWidth); x += CHECKS)
        if ((Math.round((x - left) / CHECKS) + Math.round((y - top) / CHECKS)) % 2) context.fillRect(x, y, CHECKS, CHECKS);
    context.restore();
  }

  /** The result, to the right of the line between before and after. */
  #after(context, after, width, height, split) {
    const x = width * split;
    context.save();
    context.beginPath();
    context.rect(x, 0, width - x, height);
    context.clip();
    context.drawImage(after, 0, 0, width, height);
    context.restore();
    const pixel = 1 / this.#scale;
    context.fillStyle = "#fff";
    context.shadowColor = "#0009";
    context.shadowBlur = 6;
    context.fillRect(x - pixel, 0, 2 * pixel, height);
    context.beginPath();
    context.arc(x, height / 2, 15 * pixel, 0, 2 * Math.PI);
    context.fill();
    context.shadowBlur = 0;
    context.strokeStyle = "#1e2224";
    context.lineWidth = 2 * pixel;
    context.beginPath();
    for (const side of [-1, 1]) {
      context.moveTo(x + 3 * side * pixel, height / 2 - 4 * pixel);
      context.lineTo(x + 7 * side * pixel, height / 2);
      context.lineTo(x + 3 * side * pixel, height / 2 + 4 * pixel);
    }
    context.stroke();
  }

  #cursor(context, { x, y, size, down }) {
    const pixel = 1 / this.#scale;
    for (const [colour, width] of [["#000a", 3], ["#fff", 1.5]]) {
      context.strokeStyle = colour;
      context.lineWidth = width * pixel;
      context.beginPath();
      context.arc(x, y, Math.max(size / 2, 2 * pixel), 0, 2 * Math.PI);
      if (down) {
        context.moveTo(x - 4 * pixel, y);
        context.lineTo(x + 4 * pixel, y);
      }
      context.stroke();
    }
  }
}
