// Grids of values on a canvas: a slider through the panels, zoom and pan by wheel, pinch, buttons
// and keys, and the value under the pointer or the cell cursor in words.

function heatMap(host, figure) {
  const { panel: kind, x: xAxis, y: yAxis, columns, rows, value, panels } = figure.content;
  const across = columns.length;
  const down = rows.length;
  const images = panels.map(() => null);
  const whole = { x: 0, y: 0, w: across, h: down };
  let view = { ...whole };
  let shownPanel = 0;
  let cursor = null;

  const canvas = element("canvas", {
    tabindex: 0,
    role: "img",
    "aria-label": `${figure.title}. Arrow keys move over the cells, plus and minus zoom, 0 shows all.`,
  });
  const svg = shape("svg", { "aria-hidden": "true" });
  const frame = element("div", { class: "chart map" }, canvas, svg);
  const words = element("p", { class: "cellvalue", role: "status", "aria-live": "polite" });
  const controls = element("div", { class: "controls" });
  if (panels.length > 1) {
    const output = element("output", {}, panels[0].name);
    const slider = element("input", { type: "range", min: 0, max: panels.length - 1, step: 1, value: 0 });
    slider.setAttribute("aria-valuetext", panels[0].name);
    slider.addEventListener("input", () => {
      shownPanel = Number(slider.value);
      output.textContent = panels[shownPanel].name;
      slider.setAttribute("aria-valuetext", panels[shownPanel].name);
      draw();
    });
    controls.append(element("label", {}, kind, slider, output));
  }
  const button = (text, name, action) => {
    const node = element("button", { type: "button", "aria-label": name, title: name }, text);
    node.addEventListener("click", action);
    return node;
  };
  controls.append(
    element("div", { class: "zoom" },
      button("+", "Zoom in", () => zoom(1.6)),
      button("−", "Zoom out", () => zoom(1 / 1.6)),
      button("All", "Show all", () => { view = { ...whole }; draw(); })),
  );
  const hint = element("p", { class: "hint" }, "Click, then turn the wheel to zoom; drag to move; or pinch. Ctrl and wheel zoom at once.");
  host.append(controls, frame, words, colourKey(figure), hint);

  // Where the grid lies in the frame.
  let box = { left: 0, top: 8, width: 0, height: 0 };

  function draw() {
    const width = Math.min(frame.clientWidth, 760);
    const labels = rows.length ? Math.max(...[0, Math.floor(down / 2), down - 1].map((row) => measure(label(rows[row]), 12))) : 0;
    box = { left: Math.max(30, labels + 30), top: 8 };
    box.width = Math.max(60, width - box.left - 12);
    box.height = Math.round(Math.min(620, box.width * Math.min(1, Math.max(0.4, down / across))));
    const height = box.top + box.height + 46;
    const ratio = window.devicePixelRatio || 1;
    attributes(svg, { width, height, viewBox: `0 0 ${width} ${height}` });
    Object.assign(canvas.style, { left: `${box.left}px`, top: `${box.top}px`, width: `${box.width}px`, height: `${box.height}px` });
    canvas.width = Math.round(box.width * ratio);
    canvas.height = Math.round(box.height * ratio);
    frame.classList.toggle("zoomed", view.w < across || view.h < down);
    const context = canvas.getContext("2d");
    images[shownPanel] ??= pixels(panels[shownPanel].values, across, down, figure.span);
    // Cells smaller than a pixel are blended rather than skipped.
    context.imageSmoothingEnabled = canvas.width < view.w || canvas.height < view.h;
    context.imageSmoothingQuality = "high";
    context.drawImage(images[shownPanel], view.x, view.y, view.w, view.h, 0, 0, canvas.width, canvas.height);
    drawAxes();
    describe();
  }

  const px = (column) => box.left + (column - view.x) / view.w * box.width;
  const py = (row) => box.top + (row - view.y) / view.h * box.height;

  function drawAxes() {
    svg.replaceChildren(shape("rect", { class: "frame", x: box.left, y: box.top, width: box.width, height: box.height }));
    const bottom = box.top + box.height;
    for (const index of labelled(view.x, view.w, across, box.width / 70)) {
      svg.append(shape("text", { class: "tick", x: px(index + 0.5), y: bottom + 16, "text-anchor": "middle" }, label(columns[index])));
    }
    for (const index of labelled(view.y, view.h, down, box.height / 45)) {
      svg.append(shape("text", { class: "tick", x: box.left - 6, y: py(index + 0.5), dy: "0.35em", "text-anchor": "end" }, label(rows[index])));
    }
    const middle = box.top + box.height / 2;
    svg.append(
      shape("text", { x: box.left + box.width / 2, y: bottom + 38, "text-anchor": "middle" }, xAxis.label),
      shape("text", { x: 12, y: middle, "text-anchor": "middle", transform: `rotate(-90 12 ${middle})` }, yAxis.label),
    );
    if (cursor) {
      const cell = { x: px(cursor.x), y: py(cursor.y), width: box.width / view.w, height: box.height / view.h };
      const inside = cell.x >= box.left - 1 && cell.y >= box.top - 1 && cell.x < box.left + box.width && cell.y < bottom;
      if (inside) svg.append(shape("rect", { class: "cell-halo", ...cell }), shape("rect", { class: "cell", ...cell }));
    }
  }

  function describe() {
    if (!cursor) {
      words.textContent = "";
      return;
    }
    const found = panels[shownPanel].values[cursor.y][cursor.x];
    const place = `${yAxis.label} ${label(rows[cursor.y])}, ${xAxis.label} ${label(columns[cursor.x])}`;
    const of = panels.length > 1 ? `${kind} ${panels[shownPanel].name}, ` : "";
    words.textContent = `${of}${place}: ${found === null ? "no value" : label(found)}`;
  }

  // Around a place in cells, or around the middle.
  function zoom(factor, at = { x: view.x + view.w / 2, y: view.y + view.h / 2 }) {
    const w = Math.min(across, Math.max(Math.min(4, across), view.w / factor));
    const h = Math.min(down, Math.max(Math.min(4, down), view.h / factor));
    look(at.x - (at.x - view.x) * w / view.w, at.y - (at.y - view.y) * h / view.h, w, h);
  }

  function look(x, y, w = view.w, h = view.h) {
    view = { x: Math.min(across - w, Math.max(0, x)), y: Math.min(down - h, Math.max(0, y)), w, h };
    draw();
  }

  // The place under a pointer, in cells.
  function under(event) {
    const bounds = canvas.getBoundingClientRect();
    return {
      x: view.x + (event.clientX - bounds.left) / bounds.width * view.w,
      y: view.y + (event.clientY - bounds.top) / bounds.height * view.h,
    };
  }

  function pointAt(place) {
    cursor = {
      x: Math.min(across - 1, Math.max(0, Math.floor(place.x))),
      y: Math.min(down - 1, Math.max(0, Math.floor(place.y))),
    };
    drawAxes();
    describe();
  }

  canvas.addEventListener("wheel", (event) => {
    // The page scrolls past a map that nobody asked to zoom.
    if (!event.ctrlKey && !event.metaKey && document.activeElement !== canvas) return;
    event.preventDefault();
    zoom(Math.exp(-event.deltaY / 300), under(event));
  }, { passive: false });

  const pointers = new Map();
  canvas.addEventListener("pointerdown", (event) => {
    pointers.set(event.pointerId, event);
    canvas.setPointerCapture(event.pointerId);
    pointAt(under(event));
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return pointAt(under(event));
    const others = [...pointers.values()].filter((other) => other.pointerId !== event.pointerId);
    pointers.set(event.pointerId, event);
    if (others.length === 1) {
      const [other] = others;
      const distance = (a) => Math.hypot(a.clientX - other.clientX, a.clientY - other.clientY);
      if (distance(before) > 0 && distance(event) > 0) zoom(distance(event) / distance(before), under(other));
    } else if (others.length === 0) {
      const [from, to] = [under(before), under(event)];
      look(view.x + from.x - to.x, view.y + from.y - to.y);
    }
  });
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, (event) => pointers.delete(event.pointerId));
  }
  canvas.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const at = cursor ? { x: cursor.x + 0.5, y: cursor.y + 0.5 } : undefined;
    if (event.key in steps) {
      const [dx, dy] = steps[event.key];
      const from = cursor ?? { x: Math.floor(view.x) - dx, y: Math.floor(view.y) - dy };
      pointAt({ x: from.x + dx, y: from.y + dy });
      // The view follows the cursor.
      const follow = (cell, start, length) => Math.min(cell, Math.max(start, cell + 1 - length));
      look(follow(cursor.x, view.x, view.w), follow(cursor.y, view.y, view.h));
    } else if (event.key === "+" || event.key === "=") zoom(1.6, at);
    else if (event.key === "-") zoom(1 / 1.6, at);
    else if (event.key === "0") look(0, 0, across, down);
    else return;
    event.preventDefault();
  });
  onDark.addEventListener("change", () => {
    images.fill(null);
    draw();
  });
  whenResized(frame, draw);
}

// The cells of a view to label, about so many, evenly apart.
function labelled(start, length, cells, count) {
  const least = Math.max(1, Math.ceil(length / Math.max(1, count)));
  const decade = 10 ** Math.floor(Math.log10(least));
  const stride = [1, 2, 5, 10].map((m) => m * decade).find((stride) => stride >= least);
  const found = [];
  for (let index = Math.ceil(start / stride) * stride; index < Math.min(cells, start + length); index += stride) {
    if (index + 0.5 >= start && index + 0.5 <= start + length) found.push(index);
  }
  return found;
}

// A grid as an image of one pixel per cell; cells without a value are clear.
function pixels(values, across, down, span) {
  const canvas = element("canvas", { width: across, height: down });
  const context = canvas.getContext("2d");
  const image = context.createImageData(across, down);
  let at = 0;
  for (const row of values) {
    for (const value of row) {
      if (value !== null) image.data.set([...colourOf(span, value), 255], at);
      at += 4;
    }
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

// On dark paper the ramp is turned around: what is much stands out from the paper, and from what has no value.
const onDark = matchMedia("screen and (prefers-color-scheme: dark)");
const ramp = () => (onDark.matches ? [...data.values].reverse() : data.values);
let palette = [];
function mix() {
  palette = ramp().map((hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)));
}
mix();
onDark.addEventListener("change", mix);

function colourOf([lowest, highest], value) {
  const part = (value / 2 - lowest / 2) / (highest / 2 - lowest / 2);
  const at = Math.min(1, Math.max(0, Number.isFinite(part) ? part : 0)) * (palette.length - 1);
  const below = Math.min(Math.floor(at), palette.length - 2);
  return palette[below].map((low, channel) => Math.round(low + (palette[below + 1][channel] - low) * (at - below)));
}

// The colours and what they mean.
function colourKey(figure) {
  const { value, panels } = figure.content;
  const strip = element("div", { class: "ramp" });
  const paint = () => { strip.style.background = `linear-gradient(to right, ${ramp().join(", ")})`; };
  paint();
  onDark.addEventListener("change", paint);
  const key = element("div", { class: "colours" }, label(figure.span[0]), strip, label(figure.span[1]), element("span", {}, value));
  const missing = panels.some((panel) => panel.values.some((row) => row.includes(null)));
  if (missing) key.append(element("div", { class: "none" }), "no value");
  return key;
}
