// What lines and bars share: a frame with a legend that switches parts off, and a readout that
// follows the pointer or the arrow keys.

// `names`: one entry of the legend each, {name, style, sample}. `draw(svg, width, shown)` draws and
// returns `stops`, places along the axis for pointer and keys: {x, y, title, rows, marks}.
function chart(host, figure, names, draw) {
  const shown = names.map(() => true);
  const svg = shape("svg", {
    role: "img",
    tabindex: 0,
    "aria-label": `${figure.title}. Arrow keys step through the values.`,
  });
  const readout = element("div", { class: "readout", role: "status", "aria-live": "polite" });
  const frame = element("div", { class: "chart" }, svg, readout);
  const legend = element("ul", { class: "legend", "aria-label": "Show or hide" });
  names.forEach((entry, index) => {
    const button = element("button", { type: "button", "aria-pressed": "true" }, entry.sample(), shortened(entry.name, 40));
    button.addEventListener("click", () => {
      shown[index] = !shown[index];
      button.setAttribute("aria-pressed", String(shown[index]));
      redraw();
    });
    legend.append(element("li", {}, button));
  });
  if (names.length > 1) host.append(legend);
  host.append(frame);

  let stops = [];
  let current = -1;
  let overlay = null;
  let across = true;

  function redraw() {
    svg.replaceChildren();
    overlay = shape("g", { class: "overlay" });
    ({ stops, across } = draw(svg, frame.clientWidth, shown));
    svg.append(overlay);
    show(-1);
  }

  function show(index) {
    current = index;
    overlay.replaceChildren();
    readout.replaceChildren();
    const stop = stops[index];
    if (!stop) return;
    overlay.append(...stop.marks());
    readout.append(element("strong", {}, stop.title));
    for (const row of stop.rows) {
      readout.append(element("div", {}, element("span", { class: row.style }, row.name), element("b", {}, row.value)));
    }
    // Out of the way: on the other side.
    const right = across && stop.at < frame.clientWidth / 2;
    readout.style.left = right ? "auto" : "8px";
    readout.style.right = right ? "8px" : "auto";
    readout.style.top = across ? "4px" : `${Math.max(0, stop.at - 20)}px`;
    if (!across) [readout.style.left, readout.style.right] = ["auto", "8px"];
  }

  function nearest(event) {
    const box = svg.getBoundingClientRect();
    const at = across ? event.clientX - box.left : event.clientY - box.top;
    let best = -1;
    stops.forEach((stop, index) => {
      if (best < 0 || Math.abs(stop.at - at) < Math.abs(stops[best].at - at)) best = index;
    });
    return best;
  }

  svg.addEventListener("pointermove", (event) => show(nearest(event)));
  svg.addEventListener("pointerdown", (event) => show(nearest(event)));
  svg.addEventListener("pointerleave", () => show(-1));
  svg.addEventListener("blur", () => show(-1));
  svg.addEventListener("keydown", (event) => {
    const last = stops.length - 1;
    const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
    if (event.key in steps) show(Math.min(last, Math.max(0, current + steps[event.key])));
    else if (event.key === "Home") show(0);
    else if (event.key === "End") show(last);
    else if (event.key === "Escape") show(-1);
    else return;
    event.preventDefault();
  });
  whenResized(frame, redraw);
}

// Lines across at round numbers, their labels, and the name of the axis above them.
function verticalAxis(svg, axis, scale, { left, right, y }, count) {
  for (const tick of ticks(scale, count)) {
    svg.append(
      shape("line", { class: "grid", x1: left, x2: right, y1: y(tick), y2: y(tick) }),
      shape("text", { class: "tick", x: left - 8, y: y(tick), dy: "0.35em", "text-anchor": "end" }, label(tick)),
    );
  }
  svg.append(shape("text", { x: 0, y: 12 }, axisName(axis, scale.log)));
}

// A value with as many decimals as its error, which has two digits.
function withError(value, error) {
  if (!error) return label(value);
  const decimals = Math.min(17, Math.max(0, 1 - Math.floor(Math.log10(Math.abs(error)))));
  return `${grouped(value.toFixed(decimals))} ± ${grouped(error.toFixed(decimals))}`;
}
