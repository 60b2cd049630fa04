// Mouse, pen and fingers on the canvas: one paints or moves the line of the comparison, two zoom and pan.

export class Pointers {
  #down = new Map(); // position of each pointer that is down, on the page
  #doing = ""; // "paint", "pan", "split", "pinch"

  /** actions: paints(), compares(), hover(x, y), begin(x, y, eraser), extend(x, y), end(), giveUp(), split(x), in the picture. */
  constructor(canvas, view, actions) {
    this.canvas = canvas;
    this.view = view;
    this.actions = actions;
    canvas.addEventListener("pointerdown", (event) => this.#begin(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, (event) => this.#end(event));
    canvas.addEventListener("pointerleave", () => actions.hover(null, null));
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
  }

  #begin(event) {
    event.preventDefault();
    this.canvas.focus({ preventScroll: true, focusVisible: false });
    this.canvas.setPointerCapture(event.pointerId);
    this.#down.set(event.pointerId, [event.clientX, event.clientY]);
    const at = this.view.toPicture(event.clientX, event.clientY);
    if (this.#down.size > 1) {
      if (this.#doing === "paint") this.actions.giveUp(); // it was the first finger of two
      this.#doing = "pinch";
    } else if (event.button === 1) {
      this.#doing = "pan";
    } else if (this.actions.compares()) {
      this.#doing = "split";
      this.actions.split(at[0]);
    } else if (this.actions.paints()) {
      this.#doing = "paint";
      this.actions.begin(...at, event.button === 2 || event.button === 5); // 5: the other end of a pen
    } else {
      this.#doing = "pan";
    }
  }

  #move(event) {
    const { clientX, clientY, pointerType } = event;
    const last = this.#down.get(event.pointerId);
    if (pointerType !== "touch" || this.#doing === "paint") this.actions.hover(...this.view.toPicture(clientX, clientY));
    if (!last) return;
    if (this.#doing === "paint") {
      const seen = event.getCoalescedEvents?.() ?? [];
      for (const each of seen.length ? seen : [event]) this.actions.extend(...this.view.toPicture(each.clientX, each.clientY));
      this.view.draw();
    } else if (this.#doing === "split") {
      this.actions.split(this.view.toPicture(clientX, clientY)[0]);
    } else if (this.#doing === "pan") {
      this.view.pan(clientX - last[0], clientY - last[1]);
    } else if (this.#doing === "pinch" && this.#down.size === 2) {
      this.#pinch(event.pointerId, last, [clientX, clientY]);
    }
    this.#down.set(event.pointerId, [clientX, clientY]);
  }

  #pinch(id, last, now) {
    const [other] = [...this.#down].filter(([each]) => each !== id).map(([, place]) => place);
    const reach = (place) => Math.max(1, Math.hypot(place[0] - other[0], place[1] - other[1]));
    this.view.pan((now[0] - last[0]) / 2, (now[1] - last[1]) / 2);
    this.view.zoom(reach(now) / reach(last), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
  }

  #end(event) {
    if (!this.#down.delete(event.pointerId)) return;
    if (this.#doing === "paint") this.actions.end();
    if (event.pointerType === "touch") this.actions.hover(null, null);
    if (!this.#down.size) this.#doing = "";
  }

  #wheel(event) {
    event.preventDefault();
    if (this.actions.compares() && event.shiftKey) return;
    const lines = event.deltaMode === 1 ? 16 : 1;
    this.view.zoom(Math.exp(-event.deltaY * lines * 0.0015), event.clientX, event.clientY);
  }
}
